"""One contract for all backbones: the cut network is the library's network."""

import copy
import pathlib
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import png
from networks import DEFAULT, TINY_PHOTO, weights_of
from PIL import Image
from sklearn.base import clone
from torch import nn
from torchvision import models

from skltransfer import PretrainedFeatureExtractor, describe_backbone, list_backbones, load_backbone
from skltransfer._catalogue._torchvision_families import FAMILIES as TORCHVISION
from skltransfer.backbones import Pooling, seeded
from skltransfer.backbones._graph_cut import GraphCut, _StageTracer
from skltransfer.exceptions import (
    BackboneNotFoundError,
    MissingDependencyError,
    UnsupportedBackboneError,
    WeightsError,
)

ROOT = pathlib.Path(__file__).parent.parent.parent
FIRST = [
    ("toy:rows", "pretrained"),
    ("toy:images", "pretrained"),
    (TINY_PHOTO, "pretrained"),
    (DEFAULT, "pretrained"),
    ("bundled:efficientnet-lite2", "pretrained"),
    ("torchvision:resnet18", "random"),
    ("torchvision:mobilenet_v3_small", "random"),
    ("torchvision:vit_b_16", "random"),
]
FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "wide_resnet50_2",
]
TRUNKS = ["deeplabv3_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "fcn_resnet50"]
TRUNKS += ["fasterrcnn_resnet50_fpn", "lraspp_mobilenet_v3_large", "retinanet_resnet50_fpn"]
OF_TIMM = [
    "cait_xxs24_224",
    "convnext_atto",
    "deit_tiny_patch16_224",
    "efficientnet_b0",
    "eva02_tiny_patch14_224",
    "maxvit_rmlp_pico_rw_256",
    "mixer_s32_224",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "regnetx_002",
    "resnet18",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "vit_tiny_patch16_224",
]
ALL = FIRST + [(f"torchvision:{name}", "random") for name in FAMILIES + TRUNKS]
ALL += [(f"timm:{name}", "random") for name in OF_TIMM]


LARGE = ("fasterrcnn_resnet50_fpn", "fcn_resnet50", "retinanet_resnet50_fpn", "vit_small_patch14_dinov2")
LARGE += ("cait_xxs24_224", "densenet121", "efficientnet_v2_s", "inception_v3", "maxvit_t", "swin_v2_t", "vit_b_16")
LARGE += ("convnext_tiny", "resnext50_32x4d", "vgg11_bn", "vit_small_patch16_dinov3", "wide_resnet50_2")
# take seconds for each test; smaller ones of the same kinds stay


def slow_if_large(parameter):
    name = parameter[0] if isinstance(parameter, tuple) else parameter
    marks = [pytest.mark.slow] if name.endswith(LARGE) else []
    return pytest.param(parameter, marks=marks, id=name)


@pytest.fixture(scope="module", params=[*map(slow_if_large, ALL)])
def backbone(request):
    """Each in turn, for all tests of the contract, so that it is loaded once."""
    name, weights = request.param
    return load_backbone(name, weights=weights if weights == "random" else weights_of(name))


def inputs_of(backbone, n=2, seed=0):
    shape = backbone.preprocessing.input_shape
    shape = (3, 160, 160) if backbone.name.removeprefix("torchvision:") in TRUNKS else shape  # trunks take any size
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def test_prefix_then_suffix_is_the_librarys_forward_at_each_boundary(backbone):
    x = inputs_of(backbone)
    with torch.inference_mode():
        theirs = backbone.library_activations(x)[-2]
        for boundary in range(backbone.n_stages + 1):
            x = x if boundary == 0 else backbone.prefix(boundary - 1, boundary)(x)
            before = x.clone()
            ours = backbone.suffix(boundary).eval()(x)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
            assert torch.equal(x, before), "a suffix must not write into what the store remembers"


def test_the_suffix_in_train_mode_does_what_the_library_does(backbone):
    """Dropout and stochastic depth stay alive, and draw the same masks from the same seed."""
    x = inputs_of(backbone, n=4)
    network = copy.deepcopy(backbone.library_network).train()
    suffix = backbone.suffix(0).train()
    theirs = {}
    (cut,) = (cut for cut in backbone._cuts.values() if cut.network is backbone.library_network)
    path, _, where = cut.end_modules[-1].partition("+")
    module = network.get_submodule(path)
    if where == "input":
        module.register_forward_pre_hook(lambda m, i: theirs.update(out=i[0].clone()))
    else:
        module.register_forward_hook(lambda m, i, o: theirs.update(out=o.clone()))
    with torch.no_grad():
        with seeded(1):
            network(x)
        with seeded(1):
            ours = suffix(x)
    theirs = torch.relu(theirs["out"]) if where == "relu" else theirs["out"]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(ours.abs().max()))


def test_dropout_of_the_suffix_is_alive_in_train_mode_and_still_in_eval_mode():
    backbone = load_backbone("toy:rows")
    suffix, x = backbone.suffix(1), inputs_of(backbone, n=8)
    with torch.no_grad():
        assert not torch.equal(suffix.train()(x), suffix(x))
        assert torch.equal(suffix.eval()(x), suffix(x))


def test_state_dict_names_stay_the_librarys(backbone):
    theirs = backbone.library_network.state_dict()
    for boundary in (0, 1, backbone.n_stages - 1):
        ours = backbone.suffix(boundary).state_dict()
        assert ours.keys() <= theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_stages_share_out_all_parameters_but_the_heads(backbone):
    named = [n for stage in range(backbone.n_stages) for n in backbone.stage_parameters(stage)]
    assert len(named) == len(set(named))
    assert set(named) == {n for n, _ in backbone.suffix(0).named_parameters()}


def test_it_is_always_in_eval_mode_and_training_a_suffix_leaves_it_alone(backbone):
    network = backbone.library_network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    suffix = backbone.suffix(backbone.n_stages - 1).train()
    activation = backbone.prefix(0, backbone.n_stages - 1)(inputs_of(backbone)).clone()
    suffix(activation).sum().backward()
    torch.optim.SGD(suffix.parameters(), lr=1.0).step()
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_it_pickles_as_a_name_and_a_hash(backbone):
    dumped = pickle.dumps(backbone)
    assert len(dumped) < 1000
    assert pickle.loads(dumped) is backbone


def test_it_is_a_value_copies_and_clones_are_itself():
    backbone = load_backbone("toy:rows")
    assert copy.copy(backbone) is copy.deepcopy(backbone) is clone(backbone) is backbone


def test_loading_twice_gives_one_object_and_other_weights_another():
    assert load_backbone("toy:rows") is load_backbone("toy:rows")
    random = load_backbone("toy:rows", weights="random")
    assert random.fingerprint == load_backbone("toy:rows", weights="random:0").fingerprint
    others = [load_backbone("toy:rows", weights=w).fingerprint for w in ("pretrained", "random:1")]
    assert len({random.fingerprint, *others}) == 3


def test_loading_leaves_torchs_generator_as_it_was():
    before = torch.get_rng_state()
    load_backbone("torchvision:resnet18", weights="random:99")
    load_backbone("toy:rows", weights="random:99").verify()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pickle_whose_weights_changed_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(load_backbone("toy:rows").library_network.state_dict(), path)
    dumped = pickle.dumps(load_backbone("toy:rows", weights=str(path)))
    torch.save(load_backbone("toy:rows", weights="random").library_network.state_dict(), path)
    with pytest.raises(WeightsError, match="the weights or the preprocessing changed since"):
        pickle.loads(dumped)


class Skips(nn.Module):
    """Its first stage is needed again after the second."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = self.a(x)
        return self.b(h) + h


def test_a_network_with_two_tensors_alive_at_an_end_is_refused_by_name():
    with pytest.raises(UnsupportedBackboneError, match=r"Skips cannot be cut after stage 'b'.*\['a'\]"):
        GraphCut(Skips(), [("a", "a"), ("b", "b")])


class Sneaky(nn.Module):
    """Branches on its input, so that a trace of it is not it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.a(-x)


def test_a_network_that_cannot_be_traced_is_refused_with_the_reason():
    with pytest.raises(UnsupportedBackboneError, match="Sneaky cannot be traced by torch.fx: .*control flow"):
        GraphCut(Sneaky(), [("a", "a")])


def test_stages_that_differ_from_the_librarys_forward_are_refused(monkeypatch):
    backbone = load_backbone("toy:rows", weights="random:1234")
    true = GraphCut.library_activations
    monkeypatch.setattr(GraphCut, "library_activations", lambda self, x: [a * 1.001 for a in true(self, x)])
    with pytest.raises(UnsupportedBackboneError, match=r"at the end of stage 'stem'.*differ.*1\.\de-03"):
        backbone.prefix(0, 1)


@pytest.mark.parametrize(
    "name", ["resnet18", "toy:image", "torchvision:resnet19", "no-such", "C:weights", "toy:../x", 3]
)
def test_an_unknown_name_is_refused_and_the_nearest_is_suggested(name):
    with pytest.raises(BackboneNotFoundError, match=r"Did you mean|list_backbones\(\)"):
        load_backbone(name)


def test_a_bare_model_name_is_told_its_source():
    with pytest.raises(BackboneNotFoundError, match="'torchvision:resnet18'"):
        load_backbone("resnet18")


def test_lists_go_by_modality():
    assert list_backbones() == sorted(list_backbones())
    by_modality = [list_backbones(modality) for modality in ("audio", "image", "rows", "text")]
    assert sorted(sum(by_modality, [])) == list_backbones()
    with pytest.raises(ValueError, match="modality must be one of"):
        list_backbones("smell")


@pytest.mark.parametrize("name", [n for n in list_backbones("image") if "resnet34" in n or "mobilenet" in n])
def test_listed_backbones_load(name):
    assert load_backbone(name, weights="random").n_stages >= 5


def test_a_description_holds_what_the_stages_hold():
    described = describe_backbone("torchvision:resnet18", weights="random")
    assert [s.name for s in described.stages] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert described.stages[-1].n_parameters == 8_393_728
    assert described.stages[1].activation_kib == 784
    assert sum(s.cost_share for s in described.stages) == pytest.approx(1)
    assert described.to_frame().shape == (5, 5)
    assert "layer4" in str(described)


@pytest.mark.parametrize(
    ("shape", "how", "width"),
    [((2, 8, 4, 4), "mean", 8), ((2, 8, 4, 4), "max", 8), ((2, 8, 4, 4), "flatten", 128), ((2, 5, 8), "cls", 8)]
    + [((2, 5, 8), "last", 8), ((2, 5, 8), "mean", 8), ((2, 5, 8), "max", 8), ((2, 8), "cls", 8)],
)
def test_pooling_makes_vectors(shape, how, width):
    assert Pooling(how)(torch.rand(*shape)).shape == (2, width)


def test_maps_have_no_class_token():
    with pytest.raises(ValueError, match="pooling='cls' needs tokens"):
        Pooling("cls")(torch.rand(2, 8, 4, 4))


TASKS = {
    "resnet18": "fc",
    "vit_b_16": "heads",
    "efficientnet_b0": "classifier",
    "densenet121": "classifier",
    "swin_t": "head",
    "inception_v3": "fc",
    "convnext_tiny": "classifier.2",
    "maxvit_t": "classifier.5",
    "mobilenet_v3_small": "classifier.3",
}
SLOW_TASKS = set(TASKS) - {"resnet18", "efficientnet_b0", "mobilenet_v3_small"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_TASKS)) for name in TASKS]
)
@pytest.mark.slow
def test_features_are_the_librarys_penultimate_layer(name, rng):
    backbone = load_backbone(f"torchvision:{name}", weights="random")
    photos = rng.integers(0, 256, (2, 350, 400, 3), dtype=np.uint8)
    extractor = PretrainedFeatureExtractor(f"torchvision:{name}", weights="random", dtype="float32", cache=None)
    preset = models.get_model_weights(name).DEFAULT.transforms()
    x = torch.stack([preset(Image.fromarray(photo)) for photo in photos])
    seen = {}
    head = backbone.library_network.get_submodule(TASKS[name])
    handle = head.register_forward_pre_hook(lambda m, args: seen.update(x=args[0]))
    with torch.inference_mode():
        backbone.library_network(x)
    handle.remove()
    theirs = seen["x"].numpy()
    for X in (photos, [png(photos[0]), Image.fromarray(photos[1])]):
        np.testing.assert_allclose(extractor.transform(X), theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    alone = np.vstack([extractor.transform(photos[i : i + 1]) for i in range(2)])
    np.testing.assert_array_equal(alone, extractor.transform(photos))


@pytest.mark.slow
def test_maps_that_end_in_channels_are_pooled_over_their_places(photos):
    swin = PretrainedFeatureExtractor("torchvision:swin_t", weights="random", layer=["stem", "features.3"])
    assert swin.transform(photos[:2]).shape == (2, 96 + 192)
    assert len(swin.get_feature_names_out()) == 96 + 192


def test_every_classification_network_of_torchvision_has_stages():
    for name in models.list_models(module=models):
        assert any(re.fullmatch(pattern, name) for pattern in TORCHVISION), name
        assert f"torchvision:{name}" in list_backbones("image")


def test_the_reference_lists_it(backbone):
    page = (ROOT / "docs" / "reference" / "backbones.md").read_text(encoding="utf-8")
    shown = f"`{backbone.stage_names[0]}` … `{backbone.stage_names[-1]}`"
    row = f"| `{backbone.name}` | {backbone.n_stages} | {shown} | {backbone.n_features} |"
    assert row in page.splitlines(), f"write this row into docs/reference/backbones.md: {row}"


@pytest.mark.parametrize("name", [*map(slow_if_large, TRUNKS)])
def test_a_trunk_is_the_part_of_the_whole_network_that_its_heads_stand_on(name):
    backbone = load_backbone(f"torchvision:{name}", weights="random:5")
    with seeded(5):
        whole_network = models.get_model(name, weights=None, weights_backbone=None).eval()
    path = "backbone.body" if "rcnn" in name or "retinanet" in name else "backbone"
    x = inputs_of(backbone)
    with torch.inference_mode():
        theirs = list(whole_network.get_submodule(path)(x).values())[-1]
        ours = backbone.prefix(0, backbone.n_stages)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", ["torchvision:ssd300_vgg16", "timm:vgg11", "timm:xception41"])
def test_a_family_without_stages_is_refused_by_name(name):
    with pytest.raises(UnsupportedBackboneError, match=rf"'{name}' is of .*family.*no stages here yet. Supported: "):
        load_backbone(name, weights="random")


@pytest.mark.parametrize("name", ["timm:resnet18", "bundled:efficientnet-lite0"])
def test_a_source_whose_library_is_absent_says_how_to_install_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"need the library timm\. Install it with: pip install timm$"):
        load_backbone(name, weights="random:4")
    assert "toy:images" in list_backbones("image")


@pytest.mark.parametrize("name", [TINY_PHOTO, DEFAULT, "torchvision:resnet18", "timm:resnet18"])
def test_a_network_that_takes_any_size_is_given_another(name):
    backbone = load_backbone(name, weights="random", input_size=48)
    assert backbone.preprocessing.input_shape == (3, 48, 48)
    usual = load_backbone(name, weights="random").preprocessing
    assert backbone.preprocessing.resize == round(usual.resize * 48 / usual.crop)
    extractor = PretrainedFeatureExtractor(backbone, runtime="eager", cache=None)
    assert extractor.transform(np.zeros((1, 32, 32, 3), np.uint8)).shape[0] == 1
    assert pickle.loads(pickle.dumps(backbone)) is backbone


@pytest.mark.parametrize("name", ["torchvision:vit_b_16", "timm:vit_tiny_patch16_224", "timm:mixer_s32_224"])
def test_a_network_of_one_size_refuses_another(name):
    with pytest.raises(UnsupportedBackboneError, match=f"{name}.*input_size"):
        load_backbone(name, weights="random", input_size=96)


TOYS = {
    "toy:rows": "52852eb448e67f24",
    "toy:images": "b6e21866e850ecf7",
    "toy:text": "5f2ddfd44b637e73",
    "toy:audio": "afdf317c9e7bc986",
}


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_the_same_on_every_processor(name):
    """Saved estimators hold the fingerprint; what a library factorises differs in its last bits between processors."""
    assert load_backbone(name).fingerprint[:16] == TOYS[name]


def test_candidates_that_read_at_other_lengths_look_different():
    short, long = (load_backbone("toy:text", max_length=length) for length in (8, 16))
    assert "max_length=8" in repr(short)
    assert repr(short) != repr(long)


def test_other_threads_use_networks_as_they_are_while_one_is_traced():
    class TracedMeanwhile(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)

        def forward(self, x):
            found.append(pool.submit(elsewhere).result(timeout=60))
            return self.norm(self.layer(x))

    def elsewhere():
        with torch.inference_mode():
            shared, other = network.layer(ones), nn.Linear(2, 2)(ones)
        return network.layer.weight, network.norm.running_mean, shared, other

    ones, found = torch.ones(1, 2), []
    network = TracedMeanwhile().eval()
    with ThreadPoolExecutor(1) as pool:
        nodes = list(_StageTracer(["layer"]).trace(network).nodes)
        expected = elsewhere()
    for before, after in zip(found[0][:3], expected[:3], strict=True):
        assert type(before) is type(after)
        assert torch.equal(before, after)
    assert type(found[0][3]) is torch.Tensor
    assert [node.target for node in nodes if node.op == "call_module"] == ["layer", "norm"]
