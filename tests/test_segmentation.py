"""Masks: what the network is, what comes out at an image's own size, what is refused by row, how masks are compared."""

import copy
import io
import itertools
import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.metrics import jaccard_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import v2

from skltransfer import (
    ActivationStore,
    FineTunedClassifier,
    FineTunedSegmenter,
    export_onnx,
    load,
    load_backbone,
    mean_iou_score,
    transfer_report,
)
from skltransfer._estimators.map_fine_tuner import usual_taps
from skltransfer.backbones import Geometry, seeded
from skltransfer.engine import NetworkSpec, RecordTargets, SegmentationTask, new_network
from skltransfer.engine.tasks.masks import MaskAnswer, _some_pixels, seen_mask
from skltransfer.engine.training.batch_norm import average_norms
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError, WeightsError
from skltransfer.inputs import read_mask, samples_from_collection

OPTIONS = {"dtype": "float32", "random_state": 0}


def scenes(n=12, seed=0):
    """Dark images of several sizes, with a bright square of label 3 and a grey stripe of label 7."""
    rng, X, y = np.random.default_rng(seed), [], []
    for i in range(n):
        height, width = 24 + 8 * (i % 3), 32 + 8 * (i % 2)
        image, mask = rng.integers(0, 40, (height, width, 3), dtype=np.uint8), np.zeros((height, width), dtype=int)
        left = int(rng.integers(2, width - 18))
        image[4:18, left : left + 14], mask[4:18, left : left + 14] = 250, 3
        image[-5:], mask[-5:] = 130, 7
        X.append(image)
        y.append(mask)
    return X, y


X, Y = scenes()


def segmenter(**parameters):
    return FineTunedSegmenter("toy:images", **{"freeze_depth": 1.0, **OPTIONS} | parameters)


def alike(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# what the network is


@pytest.mark.parametrize("boundary", range(5))
def test_loss_and_gradients_are_those_of_the_whole_network(boundary):
    """Against a head on concatenated maps, all of it trained at once: loss and gradients of what is not frozen."""
    backbone = load_backbone("toy:images", letterbox=True)
    taps, task = tuple(usual_taps(backbone, 4)), SegmentationTask(np.array([0, 3, 7]), np.array([1.0, 2.0, 0.5]))
    samples = samples_from_collection(X, "image", **backbone.reading)
    geometries = [samples.geometry(row, backbone.preprocessing) for row in range(len(X))]
    labels = RecordTargets([{"labels": np.searchsorted([0, 3, 7], mask).astype(np.int16)} for mask in Y])
    batch = task.placed(labels, lambda: geometries).take(np.arange(len(X)))
    inputs = torch.stack([backbone.preprocessing(samples.read(row)) for row in range(len(X))])
    whole = backbone.suffix(0, taps).eval()
    network = new_network(
        backbone, NetworkSpec(min(boundary, taps[-1]), None, n_outputs=3, taps=taps), task.readout, seed=0
    )
    network.eval()

    readout = network.readout
    maps = [F.interpolate(one, size=readout.side, mode="bilinear") for one in whole(inputs)]
    weight = torch.cat([lateral.weight for lateral in readout.laterals], dim=1).detach().requires_grad_()
    outputs = torch.einsum("kc,nchw->nkhw", weight, torch.cat(maps, dim=1)) + readout.bias.detach()[:, None, None]
    large = F.interpolate(outputs, size=inputs.shape[-1], mode="bilinear")
    target = torch.stack([record["labels"] for record in batch]).long()
    factors = torch.tensor([1.0, 2.0, 0.5])
    theirs = F.cross_entropy(large, target, weight=factors, ignore_index=-1, reduction="none").sum((1, 2))
    theirs = theirs / (target >= 0).sum((1, 2))
    theirs.sum().backward()

    held = network.spec.held
    with torch.no_grad():
        values, parts = inputs, {0: inputs}
        for stage in range(max(held)):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
        packed = [parts[boundary] for boundary in held]
        activation = network.packing.packed(packed) if network.packing is not None else packed[0]
    ours = task.loss(network(activation.clone(), batch), batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    ours.sum().backward()
    torch.testing.assert_close(
        torch.cat([lateral.weight.grad for lateral in readout.laterals], dim=1), weight.grad, rtol=1e-4, atol=1e-5
    )
    expected = dict(whole.named_parameters())
    for name, parameter in network.named_parameters():
        if name.startswith("suffix.") and parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name[7:]].grad, rtol=1e-3, atol=1e-5)


def whole_network(name, file):
    """A segmentation network of torchvision with random weights, also in its BatchNorm, and the file of these."""
    with seeded(3):
        whole = models.get_model(name, weights=None, weights_backbone=None)
        for part in whole.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.running_mean, -0.1, 0.1)
                nn.init.uniform_(part.running_var, 0.5, 2.0)
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    torch.save(whole.state_dict(), file)
    return whole.eval()


NAMED = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"]


def slow_if_deep(name, share):
    """Training the stages of ResNet-50 takes seconds."""
    is_slow = name == "fcn_resnet50" and share < 1.0
    return pytest.param(name, share, marks=[pytest.mark.slow] if is_slow else [], id=f"{name}-{share}")


@pytest.mark.parametrize(("name", "share"), [slow_if_deep(name, share) for name in NAMED for share in (0.0, 0.5, 1.0)])
def test_a_named_network_keeps_its_head(name, share, tmp_path):
    """Loss, gradients and masks are those of torchvision's own network with the layer of labels replaced."""
    whole = whole_network(name, tmp_path / "weights.pth")
    model = FineTunedSegmenter(f"torchvision:{name}", weights=str(tmp_path / "weights.pth"), input_size=64)
    model.freeze_depth = share
    backbone = model._loaded_backbone()
    task = SegmentationTask(np.array([0, 3, 7]), np.array([1.0, 2.0, 0.5]))
    spec = replace(model._spec(backbone, None), n_outputs=3)
    assert spec.head == "own"
    assert model.layers_ == {"l": ["4", "16"], "d": ["16"], "f": ["layer4"]}[name[0]]
    network = new_network(backbone, spec, task.readout, seed=0).eval()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for layer in ("low_classifier", "high_classifier") if name[0] == "l" else ("4",):
        setattr(whole.classifier, layer, copy.deepcopy(network.readout.head.get_submodule(layer)))

    inputs = torch.stack([backbone.preprocessing(image) for image in X[:2]])
    targets = torch.randint(-1, 3, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    batch = [{"labels": one.to(torch.int16)} for one in targets]
    weight = torch.tensor([1.0, 2.0, 0.5])
    theirs = whole(inputs)["out"]
    loss = F.cross_entropy(theirs, targets, weight=weight, ignore_index=-1, reduction="none").sum((1, 2))
    (loss / (targets >= 0).sum((1, 2))).sum().backward()
    with torch.no_grad():
        values, parts = inputs, {0: inputs}
        for stage in range(max(spec.held)):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
        held = [parts[boundary] for boundary in spec.held]
        activation = network.packing.packed(held) if network.packing is not None else held[0]
    outputs = network(activation.clone(), batch)
    torch.testing.assert_close(
        F.interpolate(outputs, size=64, mode="bilinear", align_corners=False), theirs, rtol=1e-4, atol=1e-5
    )
    task.loss(outputs, batch).sum().backward()
    expected = dict(whole.classifier.named_parameters())
    for key, parameter in network.readout.head.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key].grad, rtol=1e-3, atol=1e-4)
    expected = dict(whole.backbone.named_parameters())
    trained = {key: p for key, p in network.named_parameters() if key.startswith("suffix.") and p.grad is not None}
    assert bool(trained) == (share < 1.0)
    for key, parameter in trained.items():
        path = max((one for one in expected if key.endswith(f".{one}")), key=len)
        assert (parameter.grad - expected[path].grad).norm() <= 1e-2 * expected[path].grad.norm() + 1e-6, key


def test_an_own_head_is_trained_saved_and_refused(tmp_path):
    images, masks, file = X[:4], Y[:4], tmp_path / "weights.pth"
    whole = whole_network("lraspp_mobilenet_v3_large", file)
    parameters = {"weights": str(file), "input_size": 64, "freeze_depth": 1.0, "max_epochs": 3, **OPTIONS}
    parameters["runtime"] = "eager"  # each file of weights would be compiled
    model = FineTunedSegmenter("torchvision:lraspp_mobilenet_v3_large", **parameters).fit(images, masks)
    assert len(model.history_["loss"]) == 3
    assert model.history_["loss"][-1] < model.history_["loss"][0]
    found = model.predict_proba(images)
    model.save(tmp_path / "model")
    alike(load(tmp_path / "model").predict_proba(images), found)
    alike(pickle.loads(pickle.dumps(model)).predict_proba(images[::-1]), found[::-1])
    alike(clone(model).fit(images[::-1], masks[::-1]).predict_proba(images), found)
    linear = clone(model).set_params(head="linear", head_init="random").fit(images, masks)
    assert linear.layers_ != model.layers_
    with pytest.raises(ValueError, match=r"own head of .* reads the maps of \['4', '16'\], but layer='15' names"):
        clone(model).set_params(layer="15").fit(images, masks)
    with pytest.raises(UnsupportedBackboneError, match="head='own' needs a backbone .* 'toy:images' has none"):
        segmenter(head="own").fit(X, Y)

    state = whole.state_dict()
    torch.save({key: value for key, value in state.items() if key.startswith("backbone.")}, file)
    with pytest.raises(WeightsError, match="are not of a whole 'torchvision:lraspp_mobilenet_v3_large'"):
        clone(model).fit(images, masks)
    state["classifier.cbr.0.weight"] = state["classifier.cbr.0.weight"][:5]
    torch.save(state, file)
    with pytest.raises(WeightsError, match="have another shape"):
        clone(model).fit(images, masks)
    others = {key: value[:5] for key, value in whole.state_dict().items() if "w_classifier" in key}
    torch.save({**whole.state_dict(), **others}, file)
    clone(model).set_params(max_epochs=1).fit(images, masks)  # of five labels: that layer is new in any case


def test_an_own_head_with_statistics_of_the_batch_takes_single_images():
    model = FineTunedSegmenter("torchvision:deeplabv3_mobilenet_v3_large", weights="random", **OPTIONS)
    model.set_params(input_size=64, freeze_depth=1.0, max_epochs=1, batch_size=2, norm_policy="train")
    model.set_params(runtime="eager").fit(X[:3], Y[:3])
    assert model.predict(X[:1])[0].shape == X[0].shape[:2]


def test_statistics_of_an_own_head_are_averaged_before_stages_are_trained():
    backbone = load_backbone("torchvision:lraspp_mobilenet_v3_large", weights="random", letterbox=True, input_size=64)
    spec = NetworkSpec(4, None, "own", n_outputs=3, taps=(5, 17))
    network = new_network(backbone, spec, SegmentationTask(np.arange(3), np.ones(3)).readout, seed=0)
    with torch.no_grad():
        activation = backbone.prefix(0, 4)(torch.rand(4, 3, 64, 64))
    average_norms(network, [activation[:2], activation[2:]])
    for name, part in network.readout.named_modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.num_batches_tracked == 2, name
            assert part.running_mean.abs().max() > 0, name


@pytest.mark.parametrize(("width", "height"), [(200, 120), (90, 300), (64, 64), (5, 900), (1, 1)])
def test_a_letterbox_shows_the_whole_image(width, height):
    backbone = load_backbone("toy:images", letterbox=True)
    geometry = backbone.preprocessing.geometry(width, height)
    corners = geometry.to_input(np.array([[0.0, 0.0], [width, height]]))
    assert (corners >= -1e-9).all()
    assert (corners <= 16 + 1e-9).all()
    assert np.isclose(np.ptp(corners, axis=0).max(), 16)
    photo = np.full((height, width, 3), 255, dtype=np.uint8)
    seen = backbone.preprocessing.pixels(photo)
    assert seen.shape == (16, 16, 3)
    inside = seen_mask(np.ones((height, width), dtype=np.int16), geometry) == 1
    assert (seen[inside] == 255).all()
    assert (seen[~inside] == 128).all()


def test_a_letterbox_is_another_network_of_the_store_and_comes_back():
    plain, boxed = (load_backbone("toy:images", letterbox=how) for how in (False, True))
    assert plain.fingerprint != boxed.fingerprint
    assert pickle.loads(pickle.dumps(boxed)).preprocessing == boxed.preprocessing
    assert plain.fingerprint == load_backbone("toy:images").fingerprint
    with pytest.raises(UnsupportedBackboneError, match="resize=.letterbox. is for images"):
        load_backbone("toy:text", letterbox=True)


@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 10))
def test_a_mask_goes_to_the_input_and_back(width, height, letterbox, seed):
    """At the input's resolution, what is asked at an image's own pixels is what was placed there."""
    geometry = load_backbone("toy:images", letterbox=letterbox).preprocessing.geometry(width, height)
    mask = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.int16)
    seen = seen_mask(mask, geometry)
    assert seen.shape == (16, 16)
    outputs = torch.stack(
        [torch.tensor(seen == label, dtype=torch.float32) for label in (0, 1)] + [torch.zeros(16, 16)]
    )
    found = SegmentationTask(np.arange(3), np.ones(3)).labels(MaskAnswer(outputs, geometry))
    assert found.shape == (height, width)
    if letterbox and max(width, height) <= 8:  # each pixel of the image is several of the input
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "torchvision:swin_t", "timm:vit_tiny_patch16_224", "bundled:efficientnet-lite0"]
)
def test_maps_of_several_sizes_are_chosen_or_stages_at_equal_distances(name):
    backbone = load_backbone(name, weights="pretrained" if name.startswith("bundled") else "random", letterbox=True)
    taps = usual_taps(backbone, 4)
    assert taps[-1] == backbone.n_stages
    assert len(taps) == 4
    network = new_network(
        backbone,
        NetworkSpec(taps[-1], None, n_outputs=3, taps=tuple(taps)),
        SegmentationTask(np.arange(3), np.ones(3)).readout,
        seed=0,
    )
    with torch.inference_mode():
        values, parts = backbone.example(1), {}
        for stage in range(backbone.n_stages):
            values = parts[stage + 1] = backbone.prefix(stage, stage + 1)(values)
        outputs = network(network.packing.packed([parts[tap] for tap in taps]))
    assert outputs.shape == (1, 3, network.readout.side, network.readout.side)


def test_a_network_without_maps_is_refused():
    for name in ("toy:rows", "toy:text"):
        with pytest.raises(UnsupportedBackboneError, match="resize=.letterbox. is for images"):
            FineTunedSegmenter(name).fit(X, Y)
    with pytest.raises(ValueError, match="layer takes names of stages"):
        segmenter(layer="stam").fit(X, Y)
    with pytest.raises(ValueError, match="layer must name at least one stage"):
        segmenter(layer=[]).fit(X, Y)


# what comes out


def test_masks_have_the_images_own_size_and_labels():
    model = segmenter().fit(X, Y)
    assert model.classes_.tolist() == [0, 3, 7]
    assert model.layers_ == ["stem", "block1", "block3"]
    found, probabilities = model.predict(X), model.predict_proba(X)
    for image, mask, one in zip(X, found, probabilities, strict=True):
        assert mask.shape == image.shape[:2]
        assert one.shape == (*mask.shape, 3)
        np.testing.assert_allclose(one.sum(-1), 1, atol=1e-6)
        assert (model.classes_[one.argmax(-1)] == mask).mean() > 0.999  # ties
    assert model.score(X, Y) > 0.7
    assert not is_classifier(model)
    assert not hasattr(model, "transform")


def test_two_labels_are_one_output():
    masks = [(mask > 0).astype(bool) for mask in Y]
    model = segmenter().fit(X, masks)
    assert model.classes_.tolist() == [0, 1]
    for mask, one in zip(model.predict(X), model.predict_proba(X), strict=True):
        np.testing.assert_array_equal(mask, (one[..., 1] > 0.5).astype(int))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"freeze_depth": 0.5, "max_epochs": 2},
        {"freeze_depth": 0.0, "max_epochs": 2, "layer": ["block1", "block2"]},
        {"head": "mlp", "max_epochs": 2},
        {"head_init": "random", "freeze_depth": 0.5, "max_epochs": 2},
        {"freeze_depth": 0.25, "unfreeze_schedule": "gradual", "max_epochs": 3},
        {"freeze_depth": 0.5, "early_stopping": True, "max_epochs": 3},
        {"class_weight": "balanced"},
        {"class_weight": {7: 4.0}, "label_smoothing": 0.1, "freeze_depth": 0.5, "max_epochs": 1},
        {"layer": "block2"},
        {"ignore_label": 7},
    ],
    ids=str,
)
def test_order_store_pickles_and_files_change_nothing(options, tmp_path):
    model = segmenter(**options).fit(X, Y)
    expected = model.predict_proba(X)
    order = np.random.default_rng(1).permutation(len(X))
    alike(clone(model).fit([X[i] for i in order], [Y[i] for i in order]).predict_proba(X), expected)
    alike(clone(model).set_params(cache=None).fit(X, Y).predict_proba(X), expected)
    alike(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)
    alike([model.predict_proba([image])[0] for image in X], expected)
    model.save(tmp_path / "model.skl")
    alike(load(tmp_path / "model.skl").predict_proba(X), expected)


@pytest.mark.parametrize("options", [{}, {"freeze_depth": 0.5, "max_epochs": 2}], ids=str)
def test_weights_are_repeated_images(options):
    weights = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weights)
    weighted = segmenter(**options).fit(X, Y, sample_weight=weights)
    repeated = segmenter(**options).fit([X[i] for i in rows], [Y[i] for i in rows])
    for one, other in zip(weighted.predict_proba(X), repeated.predict_proba(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert weighted.score(X, Y, weights) == pytest.approx(
        repeated.score([X[i] for i in rows], [Y[i] for i in rows]), abs=1e-3
    )


def encoded(mask, mode):
    stream = io.BytesIO()
    image = Image.fromarray(mask.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.save(stream, format="PNG")
    return stream.getvalue()


def test_masks_come_in_many_forms(tmp_path):
    expected = segmenter().fit(X, Y).predict_proba(X)
    paths = [tmp_path / f"{i}.png" for i in range(len(Y))]
    for path, mask in zip(paths, Y, strict=True):
        path.write_bytes(encoded(mask, "L"))
    images = [Image.fromarray(mask.astype(np.uint8)) for mask in Y]
    objects = np.empty(len(Y), dtype=object)
    objects[:] = Y
    forms = [
        paths,
        [mask.tolist() for mask in Y],
        [str(path) for path in paths],
        images,
        objects,
        pd.Series(paths),
        [torch.tensor(m) for m in Y],
    ]
    forms += [[encoded(mask, mode) for mask in Y] for mode in ("L", "P", "I;16")]
    forms += [[mask[..., None] for mask in Y], [mask.astype(np.int8) for mask in Y], pd.DataFrame({"mask": paths})]
    for form in forms:
        alike(segmenter().fit(X, form).predict_proba(X), expected)


def test_images_of_one_size_are_an_array():
    images, masks = np.stack([x[:24, :32] for x in X]), np.stack([y[:24, :32] for y in Y])
    masks[:, 20:] = 7
    model = segmenter().fit(images, masks)
    assert [mask.shape for mask in model.predict(images)] == [(24, 32)] * len(X)
    assert model.score(images, masks) > 0.5


def test_pixels_to_ignore_count_neither_in_the_loss_nor_in_the_score():
    odd = [np.where(np.indices(mask.shape)[1] % 2 == 0, 255, mask) for mask in Y]
    model = segmenter(ignore_label=255).fit(X, odd)
    assert model.classes_.tolist() == [0, 3, 7]
    wrong = [np.where(mask == 255, 9, mask) for mask in odd]
    assert mean_iou_score(odd, wrong, ignore_label=255) == 1
    blank = [*odd, np.full((30, 30), 255)]
    alike(
        segmenter(ignore_label=255).fit([*X, np.zeros((30, 30, 3), np.uint8)], blank).predict(X[:2]),
        model.predict(X[:2]),
    )
    with pytest.raises(ValueError, match=r"at least 2 different labels in y .*got 0: \[\]"):
        segmenter(ignore_label=0).fit(X, [np.zeros_like(mask) for mask in Y])


def test_scikit_learn_splits_searches_and_scores():
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    search = GridSearchCV(segmenter(max_epochs=1), {"freeze_depth": [1.0, 0.5]}, cv=2, error_score="raise")
    assert 0.3 < search.fit(train, y_train).score(test, y_test) <= 1
    assert cross_val_score(segmenter(), X, Y, cv=3).min() > 0.5


def test_a_search_passes_each_stage_once_for_each_image():
    store = ActivationStore()
    grid = {"freeze_depth": [1.0, 0.75, 0.5]}
    GridSearchCV(segmenter(cache=store, max_epochs=1), grid, cv=3, error_score="raise").fit(X, Y)
    assert store.info()["misses"] == len(X)


def test_a_report_compares_with_random_weights():
    report = transfer_report(segmenter(max_epochs=1), X, Y, cv=3, random_state=0)
    assert [row["name"] for row in report.table_] == ["transfer", "scratch", "random"]


def test_a_large_image_is_answered_in_blocks(monkeypatch):
    model = segmenter().fit(X, Y)
    expected = model.predict(X)
    monkeypatch.setattr("skltransfer.engine.tasks.masks.AT_ONCE", 100)
    alike(model.predict(X), expected)


class MirrorAlways(nn.Module):
    """A mirror of image and mask that is no matter of chance."""

    def forward(self, image, target):
        return v2.RandomHorizontalFlip(p=1.0)(image, target)


def test_masks_move_with_the_image():
    task = SegmentationTask(np.array([0, 3, 7]), np.ones(3))
    for image, mask in zip(X, Y, strict=True):
        record = {"labels": np.searchsorted([0, 3, 7], mask).astype(np.int16)}
        pixels = torch.tensor(image).permute(2, 0, 1)
        seen, found = task.changed(MirrorAlways(), pixels, record)
        np.testing.assert_array_equal(seen.permute(1, 2, 0).numpy(), image[:, ::-1])
        np.testing.assert_array_equal(found["labels"], record["labels"][:, ::-1])
        grown = task.changed(v2.Compose([v2.Pad(4)]), pixels, record)[1]["labels"]
        np.testing.assert_array_equal(grown[4:-4, 4:-4], record["labels"])
        assert (grown[:4] == -1).all()
        small = task.changed(lambda *pair: pair, pixels[:, ::2, ::2], record)[1]["labels"]  # a photo decoded at a half
        np.testing.assert_array_equal(small, record["labels"][1::2, 1::2])


@pytest.mark.parametrize("options", [{}, {"freeze_depth": 0.5, "norm_policy": "train"}], ids=str)
def test_a_random_augmentation_can_be_used(options):
    augment = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(20), v2.ColorJitter(0.2)])
    model = segmenter(augment=augment, max_epochs=3, **options).fit(X, Y)
    alike(clone(model).fit(X, Y).predict_proba(X), model.predict_proba(X))
    assert model.n_iter_ == 3
    assert model.score(X, Y) > 0.5
    with pytest.raises(ValueError, match="augment must turn an image and its target, a dict with a mask"):
        segmenter(augment=lambda image: image).fit(X, Y)
    with pytest.raises(ValueError, match=r"the image became \(5, 5\), and the mask"):
        segmenter(augment=lambda image, target: (image[:, :5, :5], target)).fit(X, Y)


# what is refused

RGB = np.zeros((*Y[3].shape, 3), np.uint8)
ROWS = [
    (
        "another size",
        lambda y: [*y[:3], y[3].T, *y[4:]],
        r"X\[3\] is 40 pixels wide and 24 high, but the mask y\[3\] is 24",
    ),
    ("floats", lambda y: [*y[:3], y[3].astype(float), *y[4:]], r"y\[3\] .*an array of float64.*mask.astype\(int\)"),
    ("colors", lambda y: [*y[:3], RGB, *y[4:]], r"y\[3\] .*an array of shape \(24, 40, 3\).*convert colors"),
    ("an RGB image", lambda y: [*y[:3], Image.fromarray(RGB), *y[4:]], r"y\[3\] .*an image of mode 'RGB'"),
    ("no image", lambda y: [*y[:3], b"nothing", *y[4:]], r"y\[3\] \(7 bytes\): not an image"),
    ("no file", lambda y: [*y[:3], "absent.png", *y[4:]], r"y\[3\] \('absent.png'\): "),
    ("nothing", lambda y: [*y[:3], None, *y[4:]], r"y\[3\] .*a missing value"),
    ("a label", lambda y: [*y[:3], 7, *y[4:]], r"y\[3\] .*an array of shape \(\)"),
    ("words", lambda y: [*y[:3], np.full(y[3].shape, "a"), *y[4:]], r"y\[3\] .*an array of <U1"),
    ("too few", lambda y: y[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
    ("no masks", lambda y: None, "requires y to be passed"),
    ("one label", lambda y: [np.zeros_like(mask) for mask in y], r"at least 2 different labels .*got 1: \[0\]"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_is_told_with_its_row(change, message):
    with pytest.raises(ValueError, match=message):
        segmenter().fit(X, change(Y))


def test_images_that_cannot_be_read_are_named_or_left_out():
    images, masks = [*X, b"damaged", None], [*Y, Y[0], Y[0]]
    with pytest.raises(BadSampleError, match=r"X\[12\]"):
        segmenter().fit(images, masks)
    with pytest.warns(UserWarning, match=r"Rows \[12, 13\] of X could not be read"):
        model = segmenter(on_bad_sample="nan").fit(images, masks)
    alike(model.predict_proba(X), segmenter().fit(X, Y).predict_proba(X))
    assert model.predict_proba(images)[12:].tolist() == [None, None]
    with pytest.raises(BadSampleError, match=r"X\[12\]"):
        model.predict(images)


def test_a_table_is_no_image():
    with pytest.raises(ValueError, match="X is a table of 100 columns, but FineTunedSegmenter needs images"):
        segmenter().fit(np.random.default_rng(0).random((12, 100)), Y)


def test_points_may_be_labels():
    """Where few pixels are labelled, wherever they lie."""
    rng = np.random.default_rng(0)
    points = [np.where(rng.random(mask.shape) < 0.05, mask, 255) for mask in Y]
    model = segmenter(ignore_label=255).fit(X, points)
    assert model.classes_.tolist() == [0, 3, 7]
    assert model.score(X, Y) > 0.5


@given(st.integers(0, 100), st.integers(1, 30), st.integers(2, 60))
def test_of_each_label_of_an_image_some_pixels_are_chosen(seed, side, most):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 1, 2, 3], (side, side), p=[0.3, 0.6, 0.08, 0.01, 0.01]).astype(np.int16)
    counted = np.array([True, True, True, False])
    found = _some_pixels(labels, counted, most, rng)
    known = np.setdiff1d(np.unique(labels), [-1, 3])
    np.testing.assert_array_equal(np.unique(found.labels), known)
    columns, rows = ((found.places + 1) * side / 2 - 0.5).round().astype(int).T
    np.testing.assert_array_equal(labels[rows, columns], found.labels)
    assert len(np.unique(rows * side + columns)) == len(found.labels) <= most + 2 * len(known)
    for label in known:  # they stand for all of its pixels
        of_all = np.count_nonzero(labels == label) / np.count_nonzero(np.isin(labels, known))
        assert found.shares[found.labels == label].sum() == pytest.approx(of_all)


@pytest.mark.parametrize("options", [{}, {"C": 1.0}, {"freeze_depth": 0.5, "max_epochs": 1}], ids=str)
def test_a_label_may_count_for_nothing(options):
    model = segmenter(class_weight={0: 0.0}, **options).fit(X[:2], Y[:2])
    assert model.classes_.tolist() == [0, 3, 7]
    assert [mask.shape for mask in model.predict(X)] == [image.shape[:2] for image in X]
    blank = [np.zeros_like(Y[0]), Y[1]]
    assert segmenter(class_weight={0: 0.0}, **options).fit(X[:2], blank).classes_.tolist() == [0, 3, 7]


def test_large_and_small_images_count_alike():
    """An image of another size with the same content changes no probe: it is seen at the input's size."""
    image, mask = np.kron(X[0], np.ones((4, 4, 1), np.uint8)), np.kron(Y[0], np.ones((4, 4), int))
    small = segmenter(C=1.0).fit([X[0], X[1]], [Y[0], Y[1]]).predict_proba(X[1:2])[0]
    large = segmenter(C=1.0).fit([image, X[1]], [mask, Y[1]]).predict_proba(X[1:2])[0]
    assert np.abs(small - large).mean() < 0.1


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_turned_file_goes_with_its_turned_mask(tmp_path, turned):
    """Also a TIFF, whose size Pillow turns when it opens it."""
    exif = Image.Exif()
    exif[274] = turned
    for kind in ("png", "tiff"):
        image, mask = Image.fromarray(X[0]), Image.fromarray(Y[0].astype(np.uint8))
        image.save(tmp_path / f"image.{kind}", exif=exif)
        mask.save(tmp_path / f"mask.{kind}", exif=exif)
        seen = samples_from_collection([tmp_path / f"image.{kind}"], "image", max_pixels=10**6)
        assert seen.size(0) == seen.read(0).shape[1::-1] == read_mask(tmp_path / f"mask.{kind}", 0).shape[::-1]


def test_images_whose_files_were_closed_are_read_again(tmp_path):
    images, masks = [], []
    for i in range(4):
        Image.fromarray(X[i]).save(tmp_path / f"{i}.png")
        Image.fromarray(Y[i].astype(np.uint8)).save(tmp_path / f"m{i}.png")
        with Image.open(tmp_path / f"{i}.png") as image, Image.open(tmp_path / f"m{i}.png") as mask:
            images.append(image)
            masks.append(mask)
    alike(segmenter().fit(images, masks).predict(images), segmenter().fit(X[:4], Y[:4]).predict(X[:4]))


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded():
    backbone = load_backbone("toy:images", max_pixels=100)
    files = [encoded(image, "RGB") for image in X]
    with pytest.raises(BadSampleError, match=r"X\[0\].*more than max_pixels=100"):
        FineTunedSegmenter(backbone).fit(files, Y)


@pytest.mark.parametrize("where", ["toy:images", "a plain backbone"])
def test_a_file_is_loaded_with_another_backbone_or_its_own_weights(tmp_path, where):
    model = segmenter().fit(X, Y)
    model.save(tmp_path / "model.skl")
    backbone = where if where.startswith("toy") else load_backbone("toy:images")
    alike(load(tmp_path / "model.skl", backbone=backbone).predict(X), model.predict(X))
    model.save(tmp_path / "whole.skl", include_backbone=True)
    alike(load(tmp_path / "whole.skl").predict(X), model.predict(X))


def test_a_letterbox_is_not_exported(tmp_path):
    boxed = load_backbone("toy:images", letterbox=True)
    assert "resize='letterbox'" in repr(boxed)
    model = FineTunedClassifier(boxed, freeze_depth=1.0).fit(X, np.arange(len(X)) % 2)
    with pytest.raises(UnsupportedBackboneError, match="Clients of an exported model know no letterbox"):
        export_onnx(model, tmp_path / "model.onnx")


DAMAGED = [b"BM" + b"\0" * 60, b"II*\0" + b"\0" * 60, b"\x89PNG\r\n\x1a\n" + b"\0" * 60, b"GIF89a" + b"\xff" * 60, b""]


@pytest.mark.parametrize("content", [*DAMAGED, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_damaged_masks_are_named_with_their_row(content):
    with pytest.raises(ValueError, match=r"y\[3\] \(\d+ bytes\): .*expected a mask of labels"):
        read_mask(content, 3)


def test_masks_that_change_their_labels_are_refused():
    stream = io.BytesIO()
    Image.fromarray(Y[0].astype(np.uint8)).save(stream, format="JPEG")
    with pytest.raises(ValueError, match=r"y\[0\] .*a JPEG file, whose compression changes labels.*save masks as PNG"):
        read_mask(stream.getvalue(), 0)
    with pytest.raises(ValueError, match=r"y\[2\] .*some of whose values are masked"):
        read_mask(np.ma.masked_less(Y[0], 3), 2)
    with pytest.raises(ValueError, match=r"y\[2\]"):
        read_mask([[1, 2], [3]], 2)


def test_an_export_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="FineTunedSegmenter"):
        export_onnx(segmenter().fit(X, Y), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "change",
    [{"factors": np.ones(2)}, {"smoothing": 2.0}, {"classes": np.array([0])}, {"n_outputs": 9}, {"more": 1}],
    ids=str,
)
def test_a_file_whose_task_cannot_be_is_refused(tmp_path, change):
    model = segmenter().fit(X, Y)
    vars(model._task_).update(change)
    model.save(tmp_path / "model.skl")
    with pytest.raises(WeightsError):
        load(tmp_path / "model.skl")


SIDES = st.integers(1, 6)
KINDS = st.sampled_from([np.uint8, np.int64, bool, float, "<U1", object])


@pytest.mark.slow
@settings(max_examples=320, deadline=None)
@given(st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES, KINDS, st.booleans()), min_size=16, max_size=16))
def test_fuzzed_masks_are_fitted_or_refused_by_name(rows):
    """5,120 masks: refused with what is wrong, or answered at the size of the image."""
    images = [np.full((h, w, 3), 9, np.uint8) for h, w, *_ in rows]
    masks = [np.ones((h, w) if same else (other_h, other_w), kind) for h, w, other_h, other_w, kind, same in rows]
    model = segmenter()
    try:
        found = model.fit([*X[:3], *images], [*Y[:3], *masks]).predict(images)
    except ValueError as error:
        message = str(error)
    else:
        assert [mask.shape for mask in found] == [image.shape[:2] for image in images]
        return
    assert re.search(r"[Xy]\[\d+\]", message)


# how masks are compared


@given(st.integers(0, 50))
def test_the_score_is_scikit_learns_jaccard_index(seed):
    rng = np.random.default_rng(seed)
    truth, found = ([rng.integers(0, 4, (5, 6)) for _ in range(3)] for _ in range(2))
    flat = [np.concatenate([mask.ravel() for mask in masks]) for masks in (truth, found)]
    assert mean_iou_score(truth, found) == pytest.approx(jaccard_score(*flat, average="macro"))
    weights = rng.random(3)
    weighted = jaccard_score(*flat, average="macro", sample_weight=np.repeat(weights, 30))
    assert mean_iou_score(truth, found, sample_weight=weights) == pytest.approx(weighted)
    counted = flat[0] != 2
    labels = np.union1d(flat[0][counted], flat[1][counted])
    expected = jaccard_score(flat[0][counted], flat[1][counted], average="macro", labels=labels)
    assert mean_iou_score(truth, found, ignore_label=2) == pytest.approx(expected)


def test_scores_of_masks_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"y_true\[1\] has shape \(2, 2\), and y_pred\[1\] has \(2, 3\)"):
        mean_iou_score(np.zeros((2, 2, 2), int), [np.zeros((2, 2), int), np.zeros((2, 3), int)])
    with pytest.raises(ValueError, match="No pixel of y_true counts"):
        mean_iou_score(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int), ignore_label=0)
    with pytest.raises(ValueError, match="sample_weight"):
        mean_iou_score(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int), sample_weight=[-1.0])


@pytest.mark.parametrize(("least", "most"), itertools.product([-300, -1, 0], [1, 255, 256, 70_000]))
def test_masks_are_kept_as_small_as_they_can_be(least, most):
    mask = np.array([[least, most]])
    read = read_mask(mask, 0)
    np.testing.assert_array_equal(read, mask)
    assert read.itemsize <= {1: 2, 255: 2, 256: 2, 70_000: 4}[most]


def test_a_geometry_says_where_pixels_are():
    geometry = Geometry((4, 2), (2.0, 2.0), (0.0, 2.0), 8)
    columns, rows = geometry.nearest()
    assert columns.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rows.tolist() == [-1, -1, 0, 0, 1, 1, -1, -1]
    x, y = geometry.centers()
    assert x.tolist() == [1, 3, 5, 7]
    assert y.tolist() == [3, 5]
