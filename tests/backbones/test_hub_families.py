"""Networks of transformers that are no plain row of equal layers: stages of maps, shared biases; what is refused."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.backbones import seeded
from skltransfer.exceptions import BackboneNotFoundError, SkltransferError, UnsupportedBackboneError

SIDE = 32
PYRAMID = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
TASKS = {**PYRAMID, "num_attention_heads": [1, 2, 2, 4]}
WINDOWS = {"embed_dim": 8, "depths": [1, 2, 1], "image_size": SIDE, "patch_size": 2}
TOKENS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SPEECH = {**TOKENS, "conv_dim": (16, 16), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
SPEECH |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
PATCHES = {"image_size": SIDE, "patch_size": 8}
SAM = {key: value for key, value in (TOKENS | PATCHES).items() if key != "intermediate_size"}
FAMILIES = {  # settings of a tiny network, stages, width and pooling of its features
    "Aimv2Vision": ({**TOKENS, **PATCHES}, 4, 32, "mean"),
    "Beit": ({**TOKENS, **PATCHES, "use_shared_relative_position_bias": True}, 4, 32, "cls"),
    "Bit": (
        {"embedding_size": 8, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 2, 1, 1], "num_groups": 4},
        5,
        64,
        "mean",
    ),
    "ConvNext": (PYRAMID | {"drop_path_rate": 0.1}, 5, 32, "mean"),
    "ConvNextV2": (PYRAMID, 5, 32, "mean"),
    "Cvt": ({"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}, 4, 32, "mean"),
    "DeiT": ({**TOKENS, **PATCHES}, 4, 32, "cls"),
    "EfficientNet": (
        {"width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320, "image_size": SIDE},
        8,
        320,
        "mean",
    ),
    "FocalNet": (WINDOWS | {"focal_levels": [2] * 3, "focal_windows": [3] * 3}, 4, 32, "mean"),
    "IJepa": ({**TOKENS, **PATCHES}, 4, 32, "mean"),
    "Levit": (
        {
            "hidden_sizes": [16, 24, 32],
            "key_dim": [4] * 3,
            "num_attention_heads": [2] * 3,
            "depths": [1, 2, 1],
            "image_size": 64,
        },
        4,
        32,
        "mean",
    ),
    "MobileNetV1": ({"depth_multiplier": 0.25, "image_size": SIDE}, 27, 256, "mean"),
    "MobileNetV2": ({"depth_multiplier": 0.25, "image_size": SIDE}, 17, 1280, "mean"),
    "MobileViT": (
        {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "image_size": SIDE},
        6,
        32,
        "mean",
    ),
    "PoolFormer": (PYRAMID, 6, 32, "mean"),
    "Pvt": (TASKS | {"image_size": SIDE}, 6, 32, "mean"),
    "RegNet": (PYRAMID | {"embedding_size": 8, "groups_width": 8}, 5, 32, "mean"),
    "ResNet": (PYRAMID | {"embedding_size": 8, "layer_type": "basic"}, 5, 32, "mean"),
    "SamVision": (SAM | {"output_channels": 16, "global_attn_indexes": [1], "window_size": 2}, 4, 16, "mean"),
    "Segformer": (TASKS, None, 32, "mean"),
    "Swin": (WINDOWS | {"num_heads": [1, 2, 4], "window_size": 4}, 4, 32, "mean"),
    "Swinv2": (WINDOWS | {"num_heads": [1, 2, 4], "window_size": 4}, 4, 32, "mean"),
    "UniSpeech": (SPEECH, 4, 32, "mean"),
    "WavLM": (SPEECH, 4, 32, "mean"),
}
REFUSED = {
    "Encodec": {},  # gives codes
    "SEW": SPEECH,  # pools inside of its encoder
    "SEWD": SPEECH,
    "VideoMAE": {**TOKENS, **PATCHES},  # reads films
    "ViTMAE": {**TOKENS, **PATCHES},  # draws what it hides
    "Wav2Vec2": {**SPEECH, "add_adapter": True},  # gives fewer frames than its layers
    "Wav2Vec2Conformer": SPEECH,  # convolutions see what stands in padded frames
}
PHOTOS = list(np.random.default_rng(0).integers(0, 256, (4, 40, 36, 3), dtype=np.uint8))
SOUNDS = [(np.random.default_rng(i).normal(0, 0.1, 900 + 300 * i).astype("f4"), 16_000) for i in range(4)]


def save(family, settings, folder):
    """A tiny network with random weights, and what prepares its samples."""
    with seeded(1):
        network = getattr(transformers, f"{family}Model")(getattr(transformers, f"{family}Config")(**settings))
        for module in network.modules():  # as after training
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    network.save_pretrained(folder)
    if network.main_input_name == "input_values":
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        return
    side = settings.get("image_size", SIDE)
    transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def backbone(family, tmp_path_factory):
    folder = tmp_path_factory.mktemp(family)
    save(family, FAMILIES[family][0], folder)
    return load_backbone(f"hf:{folder}")


def samples_of(backbone):
    return SOUNDS if backbone.modality == "audio" else PHOTOS


def test_prefix_then_suffix_is_the_librarys_forward_at_each_boundary(backbone):
    network, x = backbone.library_network, backbone.example(3)
    x = x[:1] if backbone.modality == "audio" else x  # whole
    with torch.inference_mode():
        theirs = network(**{network.main_input_name: x}).last_hidden_state
        for boundary in range(backbone.n_stages):
            x = x if boundary == 0 else backbone.prefix(boundary - 1, boundary)(x)
            ours = backbone.suffix(boundary).eval()(x)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_features_are_what_the_network_has(backbone, family):
    _, n_stages, width, pooling = FAMILIES[family]
    assert backbone.n_stages == (n_stages or backbone.n_stages)
    assert backbone.pooling == pooling
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None, layer=["stem", "penultimate"])
    features = extractor.transform(samples_of(backbone))
    assert backbone.n_features == width
    assert features.shape == (4, backbone.pooled_width(1, pooling) + width)
    assert np.isfinite(features).all()


def test_maps_are_pooled_over_their_places(backbone):
    for boundary, shape in enumerate(backbone.activation_shapes):
        if len(shape) == 3:
            ends_in_channels = backbone.pooling_at(boundary, "mean").ends_in_channels
            height, width = shape[:2] if ends_in_channels else shape[1:]
            assert height == width


def test_it_is_fine_tuned_and_what_is_frozen_stays(backbone):
    before = {key: value.clone() for key, value in backbone.library_network.state_dict().items()}
    X, y = samples_of(backbone), [0, 1, 0, 1]
    model = FineTunedClassifier(backbone, freeze_depth=0.5, max_epochs=1, dtype="float32", cache=None, random_state=0)
    assert model.fit(X, y).predict(X).shape == (4,)
    assert all(torch.equal(value, before[key]) for key, value in backbone.library_network.state_dict().items())


def test_nothing_before_the_boundary_learns_statistics(backbone):
    boundary = backbone.n_stages // 2
    suffix = backbone.suffix(boundary).train()
    before = {key: value.clone() for key, value in suffix.state_dict().items()}
    suffix(backbone.prefix(0, boundary)(backbone.example(4)).clone())
    mine = {
        name.rpartition(".")[0] for i in range(boundary, backbone.n_stages) for name in backbone.stage_parameters(i)
    }
    moved = {
        key.rpartition(".")[0] for key, value in suffix.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved <= mine


@pytest.mark.parametrize("of", [lambda n: 1, lambda n: n // 2, lambda n: n - 1], ids=["first", "half", "last"])
def test_weights_of_a_layer_that_get_a_gradient_belong_to_its_stage(backbone, of):
    """Also those that a layer reads without running their module, as WavLM's attention does."""
    boundary = of(backbone.n_stages)
    suffix = backbone.suffix(boundary)
    output = suffix(backbone.prefix(0, boundary)(backbone.example(2)).clone()).nan_to_num()
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    reached = {name for name, p in suffix.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for stage in range(boundary, backbone.n_stages):
        within = {name for name in reached if name.startswith(f"{backbone.stage_names[stage]}.")}
        assert within <= set(backbone.stage_parameters(stage))


def test_a_bias_that_the_first_layer_lends_moves_with_the_suffix(tmp_path):
    save("WavLM", SPEECH, tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}")
    suffix = copy.deepcopy(backbone.suffix(2)).to("meta")
    assert suffix.model.encoder.layers[1].attention.rel_attn_embed.weight.device.type == "meta"
    assert not any("rel_attn_embed" in name for name in suffix.state_dict())
    assert backbone.library_network.encoder.layers[0].attention.rel_attn_embed.weight.device.type == "cpu"


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_cut_is_refused_by_name_when_it_is_loaded(family, tmp_path):
    save(family, REFUSED[family], tmp_path)
    with pytest.raises(UnsupportedBackboneError, match=f"'hf:{tmp_path}' .*Choose another backbone"):
        load_backbone(f"hf:{tmp_path}")


def test_whatever_a_library_raises_is_the_cause_of_a_refusal_by_name(tmp_path, monkeypatch):
    save("ResNet", FAMILIES["ResNet"][0], tmp_path)
    for place in ("__init__", "forward"):
        for error in (AttributeError("no such field"), IndexError(), RuntimeError("shape"), ZeroDivisionError("n / 0")):
            with monkeypatch.context() as patch:
                patch.setattr(
                    transformers.ResNetModel, place, lambda *a, error=error, **k: (_ for _ in ()).throw(error)
                )
                with pytest.raises(SkltransferError, match=str(tmp_path)) as caught:
                    load_backbone(f"hf:{tmp_path}")
            assert caught.value.__cause__ is error


def test_memory_that_is_lacking_is_no_fault_of_the_network(tmp_path, monkeypatch):
    save("ResNet", FAMILIES["ResNet"][0], tmp_path)
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    monkeypatch.setattr(transformers.ResNetModel, "forward", lambda *a, **k: (_ for _ in ()).throw(error))
    with pytest.raises(RuntimeError, match="allocate memory"):
        load_backbone(f"hf:{tmp_path}")


def test_a_network_of_timm_on_the_hub_names_its_own_source(tmp_path):
    transformers.TimmWrapperConfig(architecture="resnet18", num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match=f"is a network of timm: write 'timm:{tmp_path.name}'"):
        load_backbone(f"hf:{tmp_path}")


PROCESSORS = {
    "ConvNext": (transformers.ConvNextImageProcessor, {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
    "ConvNext-large": (transformers.ConvNextImageProcessor, {"size": {"shortest_edge": 384}}),
    "EfficientNet": (transformers.EfficientNetImageProcessor, {"size": {"height": 64, "width": 64}}),
    "EfficientNet-offset": (
        transformers.EfficientNetImageProcessor,
        {
            "size": {"height": 64, "width": 64},
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "include_top": False,
        },
    ),
    "Levit": (
        transformers.LevitImageProcessor,
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ),
    "MobileNetV1": (
        transformers.MobileNetV1ImageProcessor,
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
    "PoolFormer": (
        transformers.PoolFormerImageProcessor,
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ),
    "unnormalised": (transformers.ViTImageProcessor, {"size": {"height": 64, "width": 64}, "do_normalize": False}),
    "unscaled": (transformers.ViTImageProcessor, {"size": {"height": 64, "width": 64}, "do_rescale": False}),
    "one mean": (
        transformers.ViTImageProcessor,
        {"size": {"height": 64, "width": 64}, "image_mean": 0.4, "image_std": 0.2},
    ),
}


@pytest.fixture
def convolutional(tmp_path):
    save("ResNet", FAMILIES["ResNet"][0], tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", PROCESSORS)
def test_pictures_are_prepared_as_the_processor_beside_the_weights_does(convolutional, case):
    kind, settings = PROCESSORS[case]
    processor = kind(**settings)
    processor.save_pretrained(convolutional)
    y, x = np.mgrid[:1:150j, :1:150j]
    photo = np.stack([255 * x, 255 * y * x, 255 * (1 - y)], axis=-1).astype(np.uint8)
    ours = load_backbone(f"hf:{convolutional}").preprocessing(photo).numpy()
    theirs = np.asarray(processor(photo, return_tensors="np")["pixel_values"])[0]
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 0.02 * np.ptp(theirs)  # half a pixel, where margins are odd


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("ViTImageProcessor", {"do_resize": False}, "do_resize=False"),
        ("ViTImageProcessor", {"size": {"height": 32, "width": 64}}, "not square"),
        ("ViTImageProcessor", {"image_mean": [0.5], "image_std": [0.5]}, "1 channels, not 3"),
        ("ViTImageProcessor", {"resample": 4}, "KeyError"),
        ("MobileViTImageProcessor", {}, "differ by"),  # its channels are the other way round
        ("DetrImageProcessor", {"size": {"max_height": 64, "max_width": 64}}, "shortest_edge"),
    ],
)
def test_a_preprocessing_that_cannot_be_reproduced_is_refused_by_name(convolutional, kind, settings, reason):
    getattr(transformers, kind)(**settings).save_pretrained(convolutional)
    with pytest.raises(
        UnsupportedBackboneError, match=f"'hf:{convolutional}' cannot be reproduced: .*{reason}.*{kind}"
    ):
        load_backbone(f"hf:{convolutional}")


def test_networks_of_maps_take_any_input_size_and_name_the_smallest(tmp_path):
    save("ConvNext", PYRAMID, tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}", input_size=48)
    assert backbone.preprocessing.input_shape == (3, 48, 48)
    assert PretrainedFeatureExtractor(backbone, cache=None).transform(PHOTOS).shape == (4, 32)
    with pytest.raises(
        UnsupportedBackboneError, match=r"input_size=5 is too small for 'hf:.*next side that works is 32"
    ):
        load_backbone(f"hf:{tmp_path}", input_size=5)


def test_a_network_of_one_size_or_of_no_pictures_refuses_input_size(tmp_path):
    save("DeiT", FAMILIES["DeiT"][0], tmp_path / "deit")
    with pytest.raises(UnsupportedBackboneError, match=r"does not take input_size=24: it is built for images of 32 "):
        load_backbone(f"hf:{tmp_path / 'deit'}", input_size=24)
    save("WavLM", SPEECH, tmp_path / "wavlm")
    with pytest.raises(UnsupportedBackboneError, match=r"reads no images; leave out input_size"):
        load_backbone(f"hf:{tmp_path / 'wavlm'}", input_size=24)


@pytest.mark.parametrize("value", [0, -3, 1.5, True, "64"])
def test_an_input_size_that_is_no_number_of_pixels_is_refused(value):
    with pytest.raises(ValueError, match=r"input_size must be a positive integer \(pixels\) or None, got "):
        load_backbone("bundled:efficientnet-lite0", input_size=value)


@pytest.mark.parametrize(
    ("name", "side", "works"),
    [("torchvision:squeezenet1_1", 4, 17), ("timm:convnext_atto", 8, 32), ("torchvision:densenet121", 20, 29)],
)
def test_an_input_size_too_small_for_a_network_is_refused_with_the_next_that_works(name, side, works):
    with pytest.raises(
        UnsupportedBackboneError, match=f"{side} is too small for '{name}'.*that works is {works} pixels"
    ):
        load_backbone(name, weights="random", input_size=side)
    assert load_backbone(name, weights="random", input_size=works).runs_at(works)


@pytest.mark.parametrize("name", ["timm:efficientnet_b0", "timm:tf_efficientnet_b0", "timm:mobilenetv3_small_050"])
def test_convolutional_networks_of_timm_whose_stages_are_called_blocks_take_any_size(name):
    backbone = load_backbone(name, weights="random", input_size=64)
    assert backbone.activation_shapes[0] == (3, 64, 64)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("google/vit-base-patch16-224", "google/vit-base-patch16-224"),
        ("owner/model@branch", "owner/model@branch"),
        ("https://huggingface.co/owner/model", "owner/model"),
        ("huggingface:bert-base-uncased", "bert-base-uncased"),
        ("sentence-transformers:owner/model", "owner/model"),
        ("timm:facebook/dinov2-small", "facebook/dinov2-small"),
    ],
)
def test_a_bare_name_of_the_hub_is_told_its_source(name, written):
    with pytest.raises(BackboneNotFoundError, match=f"For a model of the Hugging Face hub, write 'hf:{written}'"):
        load_backbone(name)


def test_a_name_of_the_hub_whose_weights_come_with_pip_is_told_so():
    with pytest.raises(BackboneNotFoundError, match="'bundled:minilm' has the same weights from pip"):
        load_backbone("sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("minilm", "'bundled:minilm'"),
        ("all-MiniLM-L6-v2", "'bundled:minilm'"),
        ("whisper-base", "'hf:openai/whisper-base'"),
        ("facebook/dinov2-small", "'hf:facebook/dinov2-small'"),
        ("ResNet18", "'timm:resnet18' or 'torchvision:resnet18'"),
    ],
)
def test_a_name_without_its_beginning_is_completed(name, meant):
    with pytest.raises(BackboneNotFoundError, match=f"Did you mean {meant}"):
        load_backbone(name)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_bare_folder_is_told_its_source(kind, tmp_path):
    with pytest.raises(BackboneNotFoundError, match=f"holds a model of transformers, write 'hf:{tmp_path}'"):
        load_backbone(kind(tmp_path))


def test_a_name_that_a_source_lists_is_told_that_source_alone():
    with pytest.raises(BackboneNotFoundError, match=r"Did you mean .*'torchvision:resnet18'\?$"):
        load_backbone("resnet18")
