"""Boxes: what the network is, what comes out in pixels of the image, what is refused by row, how boxes are scored."""

import copy
import pickle
import re
import sys
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from torch import nn
from torchvision import models, tv_tensors
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_iou
from torchvision.transforms import v2

from skltransfer import (
    ActivationStore,
    FineTunedDetector,
    export_onnx,
    load,
    load_backbone,
    mean_average_precision_score,
    transfer_report,
)
from skltransfer.backbones import seeded
from skltransfer.engine import DetectionTask, NetworkSpec, RecordTargets, new_network
from skltransfer.engine.tasks.detectors import stride_of
from skltransfer.engine.tasks.masks import tapped_maps
from skltransfer.exceptions import BadSampleError, MissingDependencyError, UnsupportedBackboneError, WeightsError
from skltransfer.inputs import read_boxes, samples_from_collection

OPTIONS = {"dtype": "float32", "random_state": 0, "input_size": None, "head_width": 32}


def scenes(n=10, seed=0):
    """Dark images of several sizes with bright squares and grey ones; the last one is empty."""
    rng, X, y = np.random.default_rng(seed), [], []
    for i in range(n):
        height, width = 32 + 8 * (i % 3), 40 + 8 * (i % 2)
        image, boxes = rng.integers(0, 40, (height, width, 3), dtype=np.uint8), []
        for half, level in enumerate((250, 130)[: 1 + i % 2] if i < n - 1 else ()):
            left, top = half * width // 2 + int(rng.integers(0, 6)), int(rng.integers(0, 14))
            image[top : top + 14, left : left + 14] = level
            boxes.append([left, top, left + 14, top + 14])
        X.append(image)
        y.append({"boxes": boxes, "labels": ["bright", "grey"][: len(boxes)]})
    return X, y


X, Y = scenes()
SQUARE = [image[:32, :32] for image in X[:3]]  # which fill the input, so that torchvision cuts boxes off where we do


def detector(**parameters):
    return FineTunedDetector("toy:images", **{"freeze_depth": 1.0, "max_epochs": 2, **OPTIONS} | parameters)


def alike(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def learnt(max_epochs):
    return detector(head="retinanet", max_epochs=max_epochs, batch_size=2, learning_rate=1e-3).fit(X, Y)


@pytest.fixture(scope="module")
def fitted():
    """Surer of some boxes than of others, and near to few."""
    return learnt(max_epochs=30)


# what the network is


class Whole(nn.Module):
    """Stages, standardization and pyramid in one, as torchvision's detectors take them."""

    def __init__(self, stages, readout):
        super().__init__()
        self.stages, self.pyramid, self.out_channels = stages, readout.detector.backbone, 32
        self.mean, self.scale = (value.split(readout.channels) for value in (readout.mean, readout.scale))

    def forward(self, images):
        maps = [
            (one - mean[:, None, None]) / scale[:, None, None]
            for one, mean, scale in zip(self.stages(images), self.mean, self.scale, strict=True)
        ]
        return self.pyramid(OrderedDict((str(i), one) for i, one in enumerate(maps)))


def assert_alike(gradients, expected):
    """Differences of no more than 1e-3 of the largest value: a bias before a normalization has but noise."""
    largest = max(one.abs().max() for one in expected.values())
    for name, one in gradients.items():
        assert (one - expected[name]).abs().max() <= 1e-3 * largest, name


@pytest.mark.parametrize("head", ["fcos", "retinanet"])
@pytest.mark.parametrize("boundary", range(5))
def test_loss_and_gradients_are_torchvisions(head, boundary):
    """Against its own detector on the whole network: the loss of a batch, and gradients of what is not frozen."""
    backbone = load_backbone("toy:images", letterbox=True)
    taps, task = (1, 2, 4), DetectionTask(np.array(["bright", "grey"]), 32)
    samples = samples_from_collection(X, "image", **backbone.reading)
    geometries = [samples.geometry(row, backbone.preprocessing) for row in range(len(X))]
    records = [
        {
            "boxes": np.array(one["boxes"], np.float32).reshape(-1, 4),
            "labels": np.array([one == "grey" for one in one["labels"]], np.int64),
        }
        for one in Y
    ]
    batch = task.placed(RecordTargets(records), lambda: geometries).take(np.arange(len(X)))
    inputs = torch.stack([backbone.preprocessing(samples.read(row)) for row in range(len(X))])
    spec = NetworkSpec(min(boundary, taps[-1]), None, head, n_outputs=2, taps=taps)
    network = new_network(backbone, spec, task.readout, seed=0).eval()
    network.readout.mean += 0.1
    network.readout.scale *= 2

    own = network.readout.detector
    whole = Whole(backbone.suffix(0, taps).eval(), network.readout)
    kind = FCOS if head == "fcos" else RetinaNet
    size = {"min_size": 16, "max_size": 16, "size_divisible": 1, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    theirs = kind(whole, 2, anchor_generator=own.anchor_generator, head=own.head, **size).train()
    whole.eval()
    losses = theirs(list(inputs), [{key: value.clone() for key, value in record.items()} for record in batch])
    expected = sum(value for name, value in losses.items() if name != "n_places")
    expected.backward()
    gradients = {name: one.grad.clone() for name, one in own.named_parameters()}
    own.zero_grad()

    with torch.no_grad():
        values, parts = inputs, {0: inputs}
        for stage in range(max(network.spec.held)):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
        packed = [parts[one] for one in network.spec.held]
        activation = network.packing.packed(packed) if network.packing is not None else packed[0]
    ours = task.loss(network(activation.clone(), batch), batch)
    assert ours.shape == (len(X),)
    torch.testing.assert_close(ours.mean(), expected, rtol=1e-5, atol=1e-6)
    ours.mean().backward()
    assert_alike({name: one.grad for name, one in own.named_parameters()}, gradients)
    of_stages = {name: one.grad for name, one in whole.stages.named_parameters() if one.grad is not None}
    trained = {
        name.removeprefix("suffix."): one.grad
        for name, one in network.named_parameters()
        if name.startswith("suffix.") and one.grad is not None
    }
    assert len(trained) > 0 or boundary == taps[-1]
    if trained:
        assert_alike(trained, of_stages)


@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_detections_are_torchvisions(head):
    backbone = load_backbone("toy:images", letterbox=True)
    taps, task = (1, 2, 4), DetectionTask(np.array(["bright", "grey"]), 32, 0.001, 0.5, 1000)
    network = new_network(backbone, NetworkSpec(4, None, head, n_outputs=2, taps=taps), task.readout, seed=0).eval()
    inputs = torch.stack([backbone.preprocessing(image) for image in SQUARE])
    own, stages = network.readout.detector, backbone.suffix(0, taps).eval()
    kind = FCOS if head == "fcos" else RetinaNet
    size = {"min_size": 16, "max_size": 16, "size_divisible": 1, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    how = {"score_thresh": 0.001, "nms_thresh": 0.5, "detections_per_img": 1000}
    whole = Whole(stages, network.readout)
    theirs = kind(whole, 2, anchor_generator=own.anchor_generator, head=own.head, **size, **how).eval()
    geometries = [backbone.preprocessing.geometry(32, 32)] * len(SQUARE)
    with torch.inference_mode():
        found = task.answers(network, network.packing.packed(stages(inputs)), geometries)
        for one, expected, geometry in zip(found, theirs(list(inputs)), geometries, strict=True):
            assert len(one["scores"]) > 0
            assert_same_boxes(one, expected, geometry, task)


def two_squares(backbone, task):
    """Inputs of two images, their activations by boundary, their positions, and their targets."""
    inputs = torch.stack([backbone.preprocessing(image) for image in SQUARE[:2]])
    geometries = [backbone.preprocessing.geometry(32, 32)] * 2
    records = [{"boxes": np.array(one["boxes"], np.float32), "labels": np.arange(len(one["labels"]))} for one in Y[:2]]
    batch = task.placed(RecordTargets(records), lambda: geometries).take(np.arange(2))
    with torch.no_grad():
        values, parts = inputs, {}
        for stage in range(backbone.n_stages):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
    return inputs, parts, geometries, batch


def assert_same_boxes(one, expected, geometry, task):
    """The same scores, and each box among the expected ones; equal scores may come in another order."""
    has_area = (expected["boxes"][:, 2:] > expected["boxes"][:, :2]).all(1)
    expected = {name: value[has_area] for name, value in expected.items()}
    boxes, scores = geometry.to_picture(expected["boxes"].numpy()), expected["scores"].numpy()
    np.testing.assert_allclose(one["scores"], scores, atol=1e-4)
    for box, label, score in zip(one["boxes"], one["labels"], one["scores"], strict=True):
        alike = (np.abs(boxes - box) < 0.05).all(1) & (np.abs(scores - score) < 1e-4)
        assert label in task.classes[expected["labels"].numpy()[alike]]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("torchvision:resnet18", [28, 14, 7, 4]),
        ("torchvision:swin_t", [28, 14, 7, 4]),
        ("timm:vit_tiny_patch16_224", [14, 7]),
        ("bundled:efficientnet-lite0", [28, 14, 7, 4]),
    ],
)
def test_maps_of_one_size_are_one_level(name, sides):
    model = FineTunedDetector(name, input_size=None)
    if not name.startswith("bundled"):
        model.set_params(weights="random")
    backbone = model._loaded_backbone()
    taps = tuple(model._taps(backbone))
    spec = NetworkSpec(taps[-1], None, "fcos", n_outputs=2, taps=taps)
    network = new_network(backbone, spec, DetectionTask(np.arange(2), 32).readout, seed=0)
    with torch.inference_mode():
        values, parts = backbone.example(1), {}
        for stage in range(backbone.n_stages):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
        pyramid = network.readout._pyramid([parts[tap] for tap in taps])
    assert [level.shape[-1] for level in pyramid.values()] == sides


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_a_named_detector_keeps_its_pyramid_and_head(name, tmp_path):
    """Loss and detections are those of torchvision's own network with the layer of labels replaced."""
    with seeded(3):
        whole = models.get_model(name, weights=None, weights_backbone=None)
    file = tmp_path / "weights.pth"
    torch.save(whole.state_dict(), file)
    model = FineTunedDetector(f"torchvision:{name}", weights=str(file), input_size=128)
    backbone = model._loaded_backbone()
    model.freeze_depth = 1.0
    spec = replace(model._spec(backbone, None), n_outputs=2)
    taps = spec.taps
    assert model.layers_ == ["layer2", "layer3", "layer4"]
    assert spec.head == "own"
    task = DetectionTask(np.array(["bright", "grey"]), score_threshold=0.0, max_detections=1000)
    network = new_network(backbone, spec, task.readout, seed=0).eval()
    layer = getattr(network.readout.detector.head, "head", network.readout.detector.head).classification_head.cls_logits
    whole.head.classification_head.cls_logits, whole.head.classification_head.num_classes = layer, 2
    whole.transform = GeneralizedRCNNTransform(128, 128, [0.0] * 3, [1.0] * 3, size_divisible=1)
    whole.score_thresh, whole.detections_per_img = 0.0, 1000
    whole.nms_thresh = task.nms_threshold

    inputs, parts, geometries, batch = two_squares(backbone, task)
    with torch.no_grad():
        packed = network.packing.packed([parts[tap] for tap in taps])
        ours = task.loss(network(packed, batch), batch).mean()
        found = task.answers(network, packed, geometries)
        expected = whole.eval()(list(inputs))
        whole.train().apply(lambda one: one.eval() if isinstance(one, nn.BatchNorm2d) else None)
        torch.testing.assert_close(ours, sum(whole(list(inputs), batch).values()), rtol=1e-4, atol=1e-5)
    for one, other, geometry in zip(found, expected, geometries, strict=True):
        assert_same_boxes(one, other, geometry, task)

    torch.save({key: value for key, value in whole.state_dict().items() if "body" in key}, file)
    with pytest.raises(WeightsError, match="are not of a whole .*Choose a new head"):
        new_network(load_backbone(f"torchvision:{name}", weights=str(file)), spec, task.readout, seed=0)


class Given(nn.Module):
    """A trunk whose maps are known. Which regions are drawn depends on the last bits of the maps."""

    def forward(self, _):
        return self.maps


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        pytest.param("fasterrcnn_resnet50_fpn_v2", marks=pytest.mark.slow),
        pytest.param("maskrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_a_named_detector_of_two_stages_keeps_its_pyramid_and_head(name, tmp_path):
    """Loss, gradients and detections are those of torchvision's own network with the layer of labels replaced."""
    with seeded(3):
        whole = models.get_model(name, weights=None, weights_backbone=None)
    file = tmp_path / "weights.pth"
    torch.save(whole.state_dict(), file)
    model = FineTunedDetector(f"torchvision:{name}", weights=str(file), input_size=128, freeze_depth=1.0)
    backbone = model._loaded_backbone()
    task = DetectionTask(np.array(["bright", "grey"]), score_threshold=0.0, max_detections=1000)
    spec = replace(model._spec(backbone, None), n_outputs=2)
    assert model.layers_ == (["13", "16"] if "mobile" in name else ["layer1", "layer2", "layer3", "layer4"])
    network = new_network(backbone, spec, task.readout, seed=0)
    whole.roi_heads.box_predictor = copy.deepcopy(network.readout.detector.roi_heads.box_predictor)
    whole.roi_heads.mask_roi_pool = None
    whole.transform = GeneralizedRCNNTransform(128, 128, [0.0] * 3, [1.0] * 3, size_divisible=1)
    whole.roi_heads.score_thresh, whole.roi_heads.detections_per_img = 0.0, 1000
    whole.roi_heads.nms_thresh = task.nms_threshold

    inputs, parts, geometries, batch = two_squares(backbone, task)
    packed = network.packing.packed([parts[tap] for tap in spec.taps])
    whole.backbone.body = Given()
    whole.transform.torch_choice = max  # draws no number
    for one in (whole, network):
        one.train().apply(lambda part: part.eval() if isinstance(part, nn.BatchNorm2d) else None)
    for i, target in enumerate(batch):
        with seeded(i):
            ours = task.loss(network(packed[i : i + 1].clone(), [target]), [target]).sum()
        whole.backbone.body.maps = OrderedDict((str(k), parts[tap][i : i + 1]) for k, tap in enumerate(spec.taps))
        with seeded(i):
            theirs = sum(whole([inputs[i]], [{**target, "labels": target["labels"] + 1}]).values())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        for loss in (ours, theirs):
            loss.backward()
    expected = dict(whole.named_parameters())
    for key, parameter in network.readout.detector.named_parameters():
        other = expected[key if not key.startswith("backbone.") else key.replace("backbone.", "backbone.fpn.")]
        assert (parameter.grad - other.grad).norm() <= 1e-3 * other.grad.norm() + 1e-6, key
    assert not any("mask" in key for key in network.state_dict())

    network.eval(), whole.eval()
    with torch.no_grad():
        found = task.answers(network, packed[1:2], geometries[1:])  # the image that the trunk was given last
        expected = whole([inputs[1]])
        with seeded(5):
            first = network(packed, batch)
        torch.testing.assert_close(network(packed, batch), first)  # a validation loss draws no other regions
    for one, other, geometry in zip(found, expected, geometries[1:], strict=True):
        assert_same_boxes(one, {**other, "labels": other["labels"] - 1}, geometry, task)


def test_a_detector_of_two_stages_is_trained_saved_and_loaded(tmp_path):
    model = FineTunedDetector(
        "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", weights="random", freeze_depth=-1, max_epochs=2, **OPTIONS
    )
    images, boxes = X[4:], Y[4:]
    model.set_params(input_size=64, early_stopping=True, validation_fraction=0.3, runtime="eager").fit(images, boxes)
    assert np.isfinite(model.history_["validation_loss"]).all()
    again = clone(model).fit(images[::-1], boxes[::-1])
    assert again.history_ == model.history_
    model.set_params(score_threshold=0.0)
    found = model.predict(X)
    assert any(len(one["boxes"]) for one in found)
    for image, one in zip(X, found, strict=True):
        assert set(one["labels"]) <= {"bright", "grey"}
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"][:, 2:] <= [image.shape[1], image.shape[0]]).all()
        assert (np.diff(one["scores"]) <= 0).all()
    model.save(tmp_path / "model")
    for one, other in zip(load(tmp_path / "model").predict(X[::-1])[::-1], found, strict=True):
        for name in ("boxes", "labels", "scores"):
            np.testing.assert_array_equal(one[name], other[name])


def test_a_detector_of_two_stages_learns_from_images_in_which_it_sees_nothing():
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    backbone = load_backbone(f"torchvision:{name}", weights="random", letterbox=True, input_size=96)
    task = DetectionTask(np.arange(2))
    spec = NetworkSpec(16, None, "own", n_outputs=2, taps=(14, 17))
    network = new_network(backbone, spec, task.readout, seed=0)
    network.readout.detector.rpn.score_thresh = 1.0  # no region is good enough
    with torch.no_grad():
        parts, values = {}, torch.rand(1, 3, 96, 96)
        for stage in range(16):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
    packed = network.packing.packed([parts[14], parts[16]])
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    for training in (True, False):
        loss = network.train(training)(packed.clone(), [empty])
        assert torch.isfinite(loss).all()
    with torch.no_grad():
        (answer,) = task.answers(network, packed, [backbone.preprocessing.geometry(96, 96)])
    assert answer["boxes"].shape == (0, 4)


def test_own_heads_are_of_detectors_alone():
    with pytest.raises(UnsupportedBackboneError, match="needs a backbone whose network has a head that finds boxes"):
        detector(head="own").fit(X, Y)
    with pytest.raises(ValueError, match="The own head of 'torchvision:fcos_resnet50_fpn' reads the maps of"):
        FineTunedDetector("torchvision:fcos_resnet50_fpn", weights="random", input_size=64, layer="layer4").fit(X, Y)


# what comes out


@pytest.mark.slow
def test_boxes_are_in_pixels_of_the_image():
    fitted = learnt(max_epochs=60)
    assert fitted.classes_.tolist() == ["bright", "grey"]
    assert fitted.layers_ == ["stem", "block1", "block3"]
    assert fitted.score(X, Y) > 0.6
    found = fitted.predict(X)
    assert found.shape == (len(X),)
    for image, one, target in zip(X, found, Y, strict=True):
        boxes, height, width = one["boxes"], *image.shape[:2]
        assert boxes.dtype == one["scores"].dtype == np.float32
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        assert (np.diff(one["scores"]) <= 0).all()
        sure = one["scores"] > 0.5
        assert sorted(one["labels"][sure]) == sorted(target["labels"])
        for box, label in zip(boxes[sure], one["labels"][sure], strict=True):
            true = target["boxes"][target["labels"].index(label)]
            assert np.abs(box - true).max() < 5
    assert not is_classifier(fitted)
    assert not hasattr(fitted, "transform")


def test_thresholds_take_effect_after_the_fit(fitted):
    model = pickle.loads(pickle.dumps(fitted))
    few = model.set_params(score_threshold=0.3).predict(X)
    assert all((one["scores"] >= 0.3).all() for one in few)
    assert sum(len(one["scores"]) for one in few) < sum(len(one["scores"]) for one in fitted.predict(X))
    assert max(len(one["scores"]) for one in model.set_params(score_threshold=0, max_detections=3).predict(X)) == 3
    none = model.set_params(score_threshold=1.0).predict(X)
    assert [one["boxes"].shape for one in none] == [(0, 4)] * len(X)
    assert none[0]["labels"].dtype == fitted.classes_.dtype
    assert model.score(X, Y) == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head": "retinanet"},
        {"freeze_depth": 0.5},
        {"freeze_depth": 0.0, "layer": ["block1", "block2"]},
        {"freeze_depth": 0.25, "unfreeze_schedule": "gradual", "max_epochs": 3},
        {"freeze_depth": 0.5, "early_stopping": True, "max_epochs": 3},
        {"freeze_depth": 0.5, "norm_policy": "train"},
        {"layer": "block2", "head_width": 64},
    ],
    ids=str,
)
def test_order_store_pickles_and_files_change_nothing(options, tmp_path):
    model = detector(**options, score_threshold=0.0, max_detections=5).fit(X, Y)
    expected = model.predict(X)
    assert any(len(one["scores"]) for one in expected)
    order = np.random.default_rng(1).permutation(len(X))
    alike(clone(model).fit([X[i] for i in order], [Y[i] for i in order]).predict(X), expected)
    alike(clone(model).set_params(cache=None).fit(X, Y).predict(X), expected)
    alike(pickle.loads(pickle.dumps(model)).predict(X), expected)
    alike([model.predict([image])[0] for image in X], expected)
    model.save(tmp_path / "model.skl")
    alike(load(tmp_path / "model.skl").predict(X), expected)


def test_the_order_of_boxes_changes_nothing():
    turned = [{"boxes": one["boxes"][::-1], "labels": one["labels"][::-1]} for one in Y]
    alike(detector(score_threshold=0.0).fit(X, turned).predict(X), detector(score_threshold=0.0).fit(X, Y).predict(X))


def test_weights_are_repeated_images():
    weights = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weights)
    weighted = detector(score_threshold=0.0).fit(X, Y, sample_weight=weights)
    alike(weighted.predict(X), detector(score_threshold=0.0).fit([X[i] for i in rows], [Y[i] for i in rows]).predict(X))


def test_boxes_and_images_come_in_many_forms(tmp_path):
    expected = detector(score_threshold=0.0).fit(X, Y).predict(X)
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    arrays = [{"boxes": np.array(one["boxes"]), "labels": np.array(one["labels"], dtype=object)} for one in Y]
    tensors = [{"boxes": torch.tensor(one["boxes"]), "labels": one["labels"], "area": 3} for one in Y]
    for images, targets in [(paths, Y), (X, arrays), (pd.Series(paths), pd.Series(tensors)), (X, tuple(Y))]:
        alike(detector(score_threshold=0.0).fit(images, targets).predict(paths), expected)


def test_labels_may_be_numbers():
    numbers = [{**one, "labels": [7 if label == "grey" else -1 for label in one["labels"]]} for one in Y]
    model = detector(score_threshold=0.0).fit(X, numbers)
    assert model.classes_.tolist() == [-1, 7]
    assert set(model.predict(X)[0]["labels"].tolist()) <= {-1, 7}
    one = [{**one, "labels": [0] * len(one["labels"])} for one in Y]
    assert detector().fit(X, one).classes_.tolist() == [0]


def test_scikit_learn_splits_searches_and_scores():
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    search = GridSearchCV(detector(), {"freeze_depth": [1.0, 0.5], "score_threshold": [0.0]}, cv=2, n_jobs=2)
    assert 0 <= search.set_params(error_score="raise").fit(train, y_train).score(test, y_test) <= 1
    assert np.isfinite(cross_val_score(detector(), X, Y, cv=2)).all()


def test_a_search_passes_each_stage_once_for_each_image():
    store = ActivationStore()
    grid = {"freeze_depth": [1.0, 0.75, 0.5]}
    GridSearchCV(detector(cache=store, max_epochs=1), grid, cv=3, error_score="raise").fit(X, Y)
    assert store.info()["misses"] == len(X)


def test_a_report_compares_with_random_weights():
    report = transfer_report(detector(max_epochs=1), X, Y, cv=3, random_state=0)
    assert [row["name"] for row in report.table_] == ["transfer", "scratch", "random"]


def test_boxes_are_cut_off_at_the_image_before_they_are_compared_and_counted():
    """Also those in the margin of a letterbox: as many are returned as were asked for, and none overlap too much."""
    wide = [np.kron(image[:8, :32], np.ones((1, 2, 1), np.uint8)) for image in X]
    targets = [{"boxes": [[0, 0, 20, 8]], "labels": ["a"]}] * len(X)
    model = detector(score_threshold=0.0, max_detections=5, nms_threshold=0.5).fit(wide, targets)
    for one in model.predict(wide):
        assert len(one["scores"]) == 5
        overlaps = box_iou(torch.tensor(one["boxes"]), torch.tensor(one["boxes"])).fill_diagonal_(0)
        assert overlaps.max() <= 0.5 + 1e-5


@pytest.mark.parametrize("change", [{"max_detections": -1}, {"max_detections": 2.9}, {"score_threshold": 5}], ids=str)
def test_thresholds_are_checked_where_they_take_effect(fitted, change):
    model = pickle.loads(pickle.dumps(fitted)).set_params(**change)
    with pytest.raises(ValueError, match=f"The '{next(iter(change))}' parameter of FineTunedDetector"):
        model.predict(X)


@pytest.mark.parametrize(
    ("side", "cells", "stride"),
    [
        (320, 40, 8),
        (127, 16, 8),
        (300, 38, 8),
        (300, 19, 16),
        (300, 10, 32),
        (518, 37, 14),
        (320, 3, 128),
        (96, 1, 128),
        (224, 4, 64),
        (100, 1, 128),
    ],
)
def test_places_lie_where_maps_see_them(side, cells, stride):
    assert stride_of(side, cells) == stride
    assert (cells - 1) * stride < side <= cells * stride


@pytest.mark.slow
def test_objects_at_the_edge_have_places_at_any_size_of_input():
    """Also where the size is no multiple of the strides, and torchvision's places would end before the edge."""
    for side in (96, 100, 111, 127):
        model = FineTunedDetector(input_size=side, head_width=32)
        backbone = model._loaded_backbone()
        spec = NetworkSpec(backbone.n_stages, None, "fcos", n_outputs=1, taps=tuple(model._taps(backbone)))
        readout = new_network(backbone, spec, DetectionTask(np.arange(1), 32).readout, seed=0).readout
        levels = [torch.zeros(1, channels, cells, cells) for channels, cells in tapped_maps(backbone, spec.taps)[0]]
        places = readout._anchors(list(readout._pyramid(levels).values()))
        centers = (places[:, :2] + places[:, 2:]) / 2
        for size in (12, 20, 40, 64):
            inside = (centers > side - size) & (centers < side)
            assert inside.all(1).any(), (side, size)


def test_scales_may_not_be_skipped():
    with pytest.raises(
        ValueError, match="layer names stages whose maps have 16, 4 cells a side.*or set head='retinanet'"
    ):
        detector(layer=["stem", "block3"]).fit(X, Y)
    detector(layer=["stem", "block3"], head="retinanet", max_epochs=1).fit(X, Y)


# augmentation


class MirrorAlways(nn.Module):
    """A mirror of image and boxes that is no matter of chance."""

    def forward(self, image, target):
        return v2.RandomHorizontalFlip(p=1.0)(image, target)


def test_boxes_move_with_the_image():
    """To learn mirrored images with their mirrored boxes, and to mirror what was not, is the same."""
    flipped = [image[:, ::-1].copy() for image in X]
    boxes = []
    for image, one in zip(X, Y, strict=True):
        width = image.shape[1]
        boxes.append({**one, "boxes": [[width - x2, y1, width - x1, y2] for x1, y1, x2, y2 in one["boxes"]]})
    rows = np.arange(len(X))
    task, seen = DetectionTask(np.array(["bright", "grey"])), []
    for image, one in zip(X, Y, strict=True):
        record = {
            "boxes": np.array(one["boxes"], np.float32).reshape(-1, 4),
            "labels": np.zeros(len(one["labels"]), int),
        }
        seen.append(task.changed(MirrorAlways(), torch.tensor(image).permute(2, 0, 1), record))
    for row in rows:
        np.testing.assert_array_equal(seen[row][0].permute(1, 2, 0).numpy(), flipped[row])
        np.testing.assert_array_equal(seen[row][1]["boxes"], np.reshape(boxes[row]["boxes"], (-1, 4)))
    plain = detector(augment=v2.Compose([v2.RandomHorizontalFlip(p=0.0)]), score_threshold=0.0).fit(flipped, boxes)
    mirrored = detector(augment=v2.Compose([MirrorAlways()]), score_threshold=0.0).fit(X, Y)
    for one, other in zip(plain.history_["loss"], mirrored.history_["loss"], strict=True):
        assert one == pytest.approx(other, rel=0.2)  # another order, and another standardization


def test_boxes_that_leave_the_image_are_dropped():
    task = DetectionTask(np.array(["bright"]))
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    record = {"boxes": np.array([[2, 2, 10, 10], [25, 25, 39, 39]], np.float32), "labels": np.array([0, 1])}
    for crop, expected in [((20, 20, 20, 20), [1]), ((0, 0, 12, 12), [0]), ((12, 12, 5, 5), [])]:
        cut = v2.Lambda(lambda one, crop=crop: v2.functional.crop(one, *crop), object)
        changed, found = task.changed(
            lambda picture, target, cut=cut: (cut(picture), {**target, "boxes": cut(target["boxes"])}), image, record
        )
        assert changed.shape == (3, crop[2], crop[3])
        assert found["labels"].tolist() == expected
        assert (found["boxes"] <= crop[2]).all()


def test_boxes_at_the_edge_are_cut_off_and_small_ones_stay():
    task, image = DetectionTask(np.array(["bright"])), torch.zeros(3, 40, 40, dtype=torch.uint8)
    record = {"boxes": np.array([[2, 2, 2.5, 10], [25, 25, 39, 39]], np.float32), "labels": np.array([0, 1])}
    shift = lambda picture, target: (picture, {**target, "boxes": target["boxes"] + 10})  # noqa: E731
    assert task.changed(shift, image, record)[1]["boxes"].tolist() == [[12, 12, 12.5, 20], [35, 35, 40, 40]]
    for form in ("XYWH", "CXCYWH"):
        converted = task.changed(v2.Compose([v2.ConvertBoundingBoxFormat(form)]), image, record)[1]
        np.testing.assert_allclose(converted["boxes"], record["boxes"], atol=1e-4)


def test_large_photos_are_augmented_with_their_boxes(tmp_path):
    """JPEG files are decoded at a fraction of their size, PNG files are not: boxes move alike."""
    seen = {}
    for kind in ("png", "jpg"):
        path = tmp_path / f"photo.{kind}"
        Image.fromarray(np.kron(X[1][:32, :40], np.ones((10, 10, 1), np.uint8))).save(path, quality=95)
        boxes = [{"boxes": 10 * np.array(Y[1]["boxes"]).clip(0, 32), "labels": Y[1]["labels"]}]

        def record(image, target, kind=kind):
            seen[kind] = (target["boxes"] / torch.tensor([*image.shape[:0:-1]] * 2)).numpy(), tuple(image.shape)
            return image, target

        detector(augment=record, max_epochs=1).fit([path], boxes)
    assert seen["png"][1] != seen["jpg"][1]
    np.testing.assert_allclose(seen["png"][0], seen["jpg"][0], atol=0.01)


def test_a_random_augmentation_can_be_used():
    augment = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.RandomResizedCrop((40, 40), scale=(0.5, 1.0)), v2.ColorJitter(0.2)]
    )
    model = detector(augment=augment, freeze_depth=0.5).fit(X, Y)
    alike(clone(model).fit(X, Y).predict(X), model.predict(X))
    with pytest.raises(ValueError, match="augment must turn an image and its target"):
        detector(augment=lambda image: image).fit(X, Y)
    with pytest.raises(ValueError, match="augment must turn a uint8 tensor"):
        detector(augment=v2.Compose([v2.ToDtype(torch.float32)])).fit(X, Y)


# what is refused


def changed(**entry):
    return lambda y: [*y[:3], {**y[3], **entry}, *y[4:]]


ROWS = [
    (
        "turned",
        changed(boxes=[[9, 2, 3, 8]], labels=["a"]),
        r"y\[3\]\['boxes'\]\[0\] is \[9.0, 2.0, 3.0, 8.0\], in which x2",
    ),
    ("flat", changed(boxes=[[1, 2, 3, 2]], labels=["a"]), r"y\[3\]\['boxes'\]\[0\] .*y2 <= y1"),
    ("width", changed(boxes=[[20, 20, 10, 10]], labels=["a"]), r"of \(x, y, width, height\), x2 is x \+ width"),
    (
        "outside",
        changed(boxes=[[1, 2, 49, 9]], labels=["a"]),
        r"y\[3\].*outside X\[3\], which is 48 pixels wide and 32 high",
    ),
    ("negative", changed(boxes=[[-1, 2, 9, 9]], labels=["a"]), r"y\[3\].*outside X\[3\].*numpy.clip"),
    ("too many labels", changed(labels=["a"] * 5), r"y\[3\] has 2 boxes, but 5 labels"),
    ("no labels", lambda y: [*y[:3], {"boxes": []}, *y[4:]], r"y\[3\] has no 'labels', only \['boxes'\]"),
    ("no dict", lambda y: [*y[:3], [[1, 2, 3, 4]], *y[4:]], r"y\[3\] is .*expected a dict of 'boxes'"),
    ("nothing", lambda y: [*y[:3], None, *y[4:]], r"y\[3\] is .*expected a dict of 'boxes'"),
    ("three edges", changed(boxes=[[1, 2, 3]], labels=["a"]), r"y\[3\]\['boxes'\] has shape \(1, 3\)"),
    ("one box", changed(boxes=[1, 2, 3, 4], labels=["a"]), r"y\[3\]\['boxes'\] has shape \(4,\)"),
    ("words", changed(boxes=[["a", 1, 2, 3]], labels=["a"]), r"y\[3\]\['boxes'\] is .*which are no numbers"),
    ("too thin", changed(boxes=[[9, 1, 9.0000001, 3]], labels=["a"]), r"y\[3\]\['boxes'\]\[0\] .*x2 <= x1"),
    ("a huge label", changed(boxes=[[1, 1, 3, 3]], labels=[2**63]), r"y\[3\]\['labels'\]\[0\] is 9223.*beyond 64 bits"),
    ("NaN", changed(boxes=[[np.nan, 1, 2, 3]], labels=["a"]), r"y\[3\]\['boxes'\] holds a number that is not finite"),
    ("one label", changed(labels="ab"), r"y\[3\]\['labels'\] is 'ab'; expected a list"),
    ("a missing label", changed(labels=["a", None]), r"y\[3\]\['labels'\]\[1\] is None"),
    ("a number", changed(labels=["a", 1.5]), r"y\[3\]\['labels'\]\[1\] is 1.5"),
    ("mixed labels", changed(labels=[1, 2]), r"all strings or all whole numbers, but y\[0\] holds 'bright' and y\[3\]"),
    ("too few", lambda y: y[:-1], r"inconsistent numbers of samples: \[10, 9\]"),
    ("no boxes", lambda y: None, "requires y to be passed"),
    ("empty", lambda y: [{"boxes": [], "labels": []}] * 10, "y has no box"),
    (
        "fractions",
        lambda y: [{**one, "boxes": [[0.1, 0.1, 0.5, 0.9]] * len(one["labels"])} for one in y],
        "as fractions of an image do, but boxes are in pixels",
    ),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_is_told_with_its_row(change, message):
    with pytest.raises(ValueError, match=message):
        detector().fit(X, change(Y))


def test_images_that_cannot_be_read_are_named_or_left_out():
    images, boxes = [*X, b"damaged", None], [*Y, Y[0], Y[0]]
    with pytest.raises(BadSampleError, match=r"X\[10\]"):
        detector().fit(images, boxes)
    with pytest.warns(UserWarning, match=r"Rows \[10, 11\] of X could not be read"):
        model = detector(on_bad_sample="nan", score_threshold=0.0).fit(images, boxes)
    alike(model.predict(X), detector(score_threshold=0.0).fit(X, Y).predict(X))
    assert model.predict(images)[10:].tolist() == [None, None]
    with pytest.raises(BadSampleError, match=r"X\[10\]"):
        model.score(images, boxes)


def test_other_things_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="X is a table of 100 columns, but FineTunedDetector needs images"):
        detector().fit(np.random.default_rng(0).random((10, 100)), Y)
    with pytest.raises(UnsupportedBackboneError, match="resize=.letterbox. is for images"):
        FineTunedDetector("toy:text", input_size=None).fit(X, Y)
    with pytest.raises(ValueError, match="head_width must be a multiple of 32, got 40"):
        detector(head_width=40).fit(X, Y)
    with pytest.raises(ValueError, match="layer takes names of stages"):
        detector(layer="stam").fit(X, Y)
    with pytest.raises(TypeError, match="FineTunedDetector"):
        export_onnx(detector(max_epochs=1).fit(X, Y), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"width": 33},
        {"width": 10**9},
        {"classes": np.array([0])},
        {"n_outputs": 9},
        {"more": 1},
        {"nms_threshold": 2.0},
        {"score_threshold": "a"},
        {"max_detections": 0},
    ],
    ids=str,
)
def test_a_file_whose_task_cannot_be_is_refused(tmp_path, change):
    model = detector(max_epochs=1).fit(X, Y)
    vars(model._task_).update(change)
    model.save(tmp_path / "model.skl")
    with pytest.raises(WeightsError):
        load(tmp_path / "model.skl")


EDGES = st.sampled_from([-1, 0, 3, 5, 5, 9, 20, 32, 40, 41, np.nan, np.inf, "a", None])
KINDS = st.sampled_from(["dict", "list", "none", "no labels"])


@pytest.mark.slow
@settings(max_examples=320, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.tuples(*[EDGES] * 4), max_size=3), st.booleans(), KINDS), min_size=16, max_size=16)
)
def test_fuzzed_boxes_are_read_or_refused_by_name(rows):
    """5,120 targets: refused with the row, or boxes in the image."""
    makers = {
        "dict": lambda boxes, labels: {"boxes": boxes, "labels": labels},
        "list": lambda boxes, labels: boxes,
        "none": lambda boxes, labels: None,
        "no labels": lambda boxes, labels: {"boxes": boxes},
    }
    for row, (boxes, fits, kind) in enumerate(rows):
        target = makers[kind]([list(box) for box in boxes], ["a"] * (len(boxes) + (not fits)))
        try:
            found = read_boxes(target, row, size=(40, 32))
        except ValueError as error:
            assert re.search(rf"y\[{row}\]", str(error))  # noqa: PT017
        else:
            assert found["boxes"].shape == (len(boxes), 4)
            assert (found["boxes"] <= [40, 32, 40, 32]).all()
            assert len(found["labels"]) == len(boxes)


@given(st.integers(0, 30))
@settings(max_examples=10, deadline=None)
def test_any_number_of_boxes_can_be_learnt(seed):
    """None, many, tiny ones, some on top of each other."""
    rng, targets = np.random.default_rng(seed), []
    for image in X:
        n, (height, width) = int(rng.integers(0, 30)), image.shape[:2]
        corners = rng.uniform(0, 1, (n, 2)) * [width, height] * 0.9
        sizes = rng.uniform(0.01, 1, (n, 2)) * ([width, height] - corners)
        targets.append({"boxes": np.hstack([corners, corners + sizes]), "labels": rng.integers(0, 3, n)})
    targets[0] = Y[0] | {"labels": [1]}
    model = detector(max_epochs=1, score_threshold=0.0).fit(X, targets)
    assert np.isfinite(model.history_["loss"]).all()
    assert all(len(one["boxes"]) <= 100 for one in model.predict(X))


# how boxes are scored


def test_average_precision_by_hand():
    """Two of three found, a wrong one between them: precision 1 up to recall 1/3, 2/3 up to 2/3, 0 beyond."""
    true = [
        {"boxes": [[0, 0, 10, 10], [20, 0, 30, 10]], "labels": ["a", "a"]},
        {"boxes": [[5, 5, 9, 9]], "labels": ["a"]},
    ]
    found = [
        {"boxes": [[0, 0, 10, 10], [20, 0, 30, 10]], "labels": ["a", "a"], "scores": [0.9, 0.5]},
        {"boxes": [[50, 50, 60, 60]], "labels": ["a"], "scores": [0.7]},
    ]
    expected = (34 * 1 + 33 * 2 / 3) / 101
    assert mean_average_precision_score(true, found, iou_threshold=0.5) == pytest.approx(expected, abs=1e-6)
    assert mean_average_precision_score(true, found) == pytest.approx(expected, abs=1e-6)


def test_average_precision_is_a_mean_over_true_labels():
    true = [{"boxes": [[0, 0, 10, 10], [20, 0, 30, 10]], "labels": ["a", "b"]}]
    found = [{"boxes": [[0, 0, 10, 10], [0, 0, 5, 5]], "labels": ["a", "c"], "scores": [0.9, 0.9]}]
    assert mean_average_precision_score(true, found) == pytest.approx(0.5)
    nothing = [{"boxes": [], "labels": [], "scores": []}]
    assert mean_average_precision_score(true, nothing) == 0
    with pytest.raises(ValueError, match="y_true has no box"):
        mean_average_precision_score([{"boxes": [], "labels": []}], nothing)
    with pytest.raises(ValueError, match=r"y_pred\[0\] has no 'scores'"):
        mean_average_precision_score(true, true)
    with pytest.raises(ValueError, match="iou_threshold must be in"):
        mean_average_precision_score(true, found, iou_threshold=50)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        mean_average_precision_score(true, [])


def test_labels_of_two_kinds_are_not_compared():
    true = [{"boxes": [[0, 0, 10, 10]], "labels": [1]}]
    with pytest.raises(ValueError, match="strings in one place and numbers in another"):
        mean_average_precision_score(true, [{**true[0], "labels": ["1"], "scores": [1.0]}])


def test_large_boxes_count():
    true = [{"boxes": [[0, 0, 2e5, 2e5]], "labels": ["a"]}]
    assert mean_average_precision_score(true, [{**true[0], "scores": [1.0]}]) == 1


def test_scores_can_be_computed_in_several_threads(capsys):
    true = [{"boxes": [[0, 0, 10, 10]], "labels": ["a"]}] * 50
    found = [{**one, "scores": [1.0]} for one in true]
    stream = sys.stdout
    assert (
        Parallel(4, backend="threading")(delayed(mean_average_precision_score)(true, found) for _ in range(20))
        == [1] * 20
    )
    assert sys.stdout is stream
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
def test_boxes_may_say_their_format(form):
    corners = tv_tensors.BoundingBoxes([[10, 10, 30, 40.0]], format="XYXY", canvas_size=(64, 64))
    boxes = v2.functional.convert_bounding_box_format(corners, new_format=form)
    assert read_boxes({"boxes": boxes, "labels": ["a"]}, 0)["boxes"].tolist() == [[10, 10, 30, 40]]
    assert (
        read_boxes({"boxes": torch.tensor(corners).bfloat16().requires_grad_(), "labels": ["a"]}, 0)["boxes"].size == 4
    )


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    true = [{"boxes": [[0, 0, 10, 10]], "labels": ["a"]}]
    with pytest.raises(MissingDependencyError, match=r"pip install 'skltransfer\[detection\]'"):
        mean_average_precision_score(true, [{**true[0], "scores": [1.0]}])
