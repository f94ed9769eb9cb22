"""Estimators on images of other bands than red, green and blue, from files to predictions in another process."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torchvision.transforms import v2

from skltransfer import (
    ActivationStore,
    AdaptedBackbone,
    FineTunedClassifier,
    FineTunedDetector,
    FineTunedSegmenter,
    PretrainedFeatureExtractor,
    SegmentationDisplay,
    export_onnx,
    load,
    load_backbone,
    score_transferability,
    transfer_report,
)
from skltransfer.exceptions import UnsupportedBackboneError
from skltransfer.model_selection._plain import plain_samples

FOUR = ("red", "green", "blue", "nir")
SHORT = {"dtype": "float32", "random_state": 0}


@pytest.fixture
def fields(rng):
    """Twenty-four scenes (20, 24, 4) of uint16 that differ in near infrared alone, and their labels."""
    X, y = rng.integers(0, 20_000, (24, 20, 24, 4), dtype=np.uint16), np.arange(24) % 2
    X[y == 1, ..., 3] += 45_000
    return X, np.array(["bare", "green"])[y]


def test_a_search_from_files_finds_what_colors_do_not_show(fields, tmp_path):
    """Through a pipeline and a grid of backbones, from TIFF files; another process reads the best one."""
    X, y = fields
    paths = [str(tmp_path / f"{i}.tif") for i in range(len(X))]
    for path, scene in zip(paths, X, strict=True):
        tifffile.imwrite(path, scene, photometric="minisblack", planarconfig="contig")
    weighted, equal = (load_backbone("toy:images", bands=names) for names in (FOUR, ("b4", "b3", "b2", "b8")))
    extractor = PretrainedFeatureExtractor(weighted, dtype="float32")
    steps = Pipeline([("extract", extractor), ("classify", LogisticRegression(C=100))])
    search = GridSearchCV(steps, {"extract__backbone": [weighted, equal]}, cv=3).fit(paths, y)
    assert search.best_score_ > 0.9
    colours = clone(steps).set_params(extract__backbone="toy:images")
    assert GridSearchCV(colours, {"classify__C": [1, 100]}, cv=3).fit(X[..., :3], y).best_score_ < 0.8

    model = FineTunedClassifier(search.best_params_["extract__backbone"], max_epochs=2, **SHORT).fit(paths, y)
    model.save(tmp_path / "model.skl")
    np.save(tmp_path / "expected.npy", model.predict_proba(paths))
    code = (
        "import numpy as np, warnings; from skltransfer import load\n"
        "warnings.simplefilter('error')\n"
        f"found = load({str(tmp_path / 'model.skl')!r}).predict_proba({paths!r})\n"
        f"np.testing.assert_allclose(found, np.load({str(tmp_path / 'expected.npy')!r}), atol=1e-5)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("include_backbone", [False, True])
@pytest.mark.parametrize("freeze_depth", [1.0, 0.0])
def test_a_model_of_bands_comes_back(fields, tmp_path, freeze_depth, include_backbone):
    X, y = fields
    model = FineTunedClassifier(
        load_backbone("toy:images", bands=FOUR), freeze_depth=freeze_depth, max_epochs=1, **SHORT
    )
    expected = model.fit(X, y).predict_proba(X)
    model.save(tmp_path / "model.skl", include_backbone=include_backbone)
    copy = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copy.predict_proba(X), expected)
    assert copy.backbone.options["bands"] == FOUR
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)


def test_the_first_layer_of_bands_is_trained_too(fields):
    X, y = fields
    backbone = load_backbone("toy:images", bands=FOUR)
    model = FineTunedClassifier(backbone, freeze_depth=0.0, max_epochs=1, backbone_lr_factor=1.0, **SHORT).fit(X, y)
    moved = np.abs(model._network_.changed["suffix.stem.0.weight"] - backbone.library_state()["stem.0.weight"].numpy())
    assert (moved.max(axis=(0, 2, 3)) > 1e-4).all()  # (8, 4, 3, 3)


def test_each_choice_of_bands_has_activations_apart_from_others(fields):
    """Recalled from one store or computed without any, features are the same."""
    X, store, seen = fields[0][..., :3], ActivationStore(), []
    for bands in (None, ("red", "green", "blue"), ("nir", "red", "green"), ("a", "b", "c")):
        extractor = PretrainedFeatureExtractor(load_backbone("toy:images", bands=bands), dtype="float32", cache=None)
        expected = extractor.transform(X)
        for _ in range(2):
            np.testing.assert_array_equal(extractor.set_params(cache=store).transform(X), expected)
        seen.append(expected)
    equal = [(i, j) for i in range(4) for j in range(i) if np.array_equal(seen[i], seen[j])]
    assert equal == [(1, 0)]


def test_what_moves_pixels_augments_bands_and_what_changes_colors_is_refused(fields):
    X, y = fields
    model = FineTunedClassifier(load_backbone("toy:images", bands=FOUR), max_epochs=1, **SHORT)
    moves = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomResizedCrop(16, antialias=True), v2.RandomRotation(20)])
    clone(model).set_params(augment=moves).fit(X, y)
    for colours in (v2.ColorJitter(0.5), v2.RandomGrayscale(1.0)):
        with pytest.raises(
            ValueError, match=r"augment failed on an image of 4 bands .*ColorJitter.*RandomHorizontalFlip"
        ):
            clone(model).set_params(augment=v2.Compose([colours])).fit(X, y)
    with pytest.raises(ValueError, match=r"uint8 tensor \(4, h, w\) into another, got torch.uint8 \(3, 20, 24\)"):
        clone(model).set_params(augment=lambda image: image[:3]).fit(X, y)


def test_masks_and_boxes_are_found_in_bands(fields):
    X = fields[0][:8]
    masks, boxes = np.zeros((8, 20, 24), dtype=int), []
    for i, scene in enumerate(X):
        scene[4:14, i : i + 10, 3], masks[i, 4:14, i : i + 10] = 65_535, 1
        boxes.append({"boxes": [[i, 4, i + 10, 14]], "labels": ["field"]})
    backbone = load_backbone("toy:images", bands=("b4", "b3", "b2", "b8"))
    segmenter = FineTunedSegmenter(backbone, freeze_depth=1.0, **SHORT).fit(X, masks)
    assert segmenter.score(X, masks) > 0.6
    detector = FineTunedDetector(backbone, input_size=None, max_epochs=1, freeze_depth=1.0, head_width=32, **SHORT)
    flip = v2.Compose([v2.RandomHorizontalFlip()])
    assert len(detector.set_params(augment=flip).fit(X, boxes).predict(X)) == 8


def test_a_model_of_bands_is_exported(fields, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = np.rint(fields[0] / 257).astype(np.uint8), fields[1]
    model = FineTunedClassifier(load_backbone("toy:images", bands=FOUR, resize="squash"), freeze_depth=1.0, **SHORT)
    description = export_onnx(model.fit(X, y), tmp_path / "model.onnx", X)
    recipe = description["preprocessing"]
    assert (recipe["bands"], recipe["mode"], recipe["reader"]) == (list(FOUR), None, None)
    resized = [
        Image.fromarray(band).resize((16, 16), Image.Resampling.BILINEAR) for x in X for band in np.moveaxis(x, -1, 0)
    ]
    pixels = np.stack([np.asarray(band) for band in resized]).reshape(len(X), 4, 16, 16).transpose(0, 2, 3, 1)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (probabilities,) = session.run(["probabilities"], {"pixels": np.ascontiguousarray(pixels)})
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-4)


def test_an_adapted_network_of_bands_is_used_and_comes_back(fields, tmp_path):
    X, y = fields
    adapted = AdaptedBackbone(load_backbone("toy:images", bands=FOUR), dtype="float32").fit(X)
    model = FineTunedClassifier(adapted.backbone_, freeze_depth=1.0, **SHORT).fit(X, y)
    model.save(tmp_path / "model.skl", include_backbone=True)
    np.testing.assert_array_equal(load(tmp_path / "model.skl").predict_proba(X), model.predict_proba(X))
    adapted.save(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "weights.safetensors").transform(X), adapted.transform(X))
    three = load_backbone("toy:images", bands=("nir", "red", "green"))
    with pytest.raises(UnsupportedBackboneError, match=r"three channels are \('nir', 'red', 'green'\), not red, green"):
        AdaptedBackbone(three, dtype="float32").fit(X[..., :3]).save(tmp_path / "three.safetensors")


def test_a_ranking_names_bands(fields):
    ranking = score_transferability(load_backbone("toy:images", bands=FOUR), *fields, layers=[1.0], metric="log_me")
    assert ranking.candidates[0].name == "toy:images (4 bands)"


def test_rows_of_other_bands_are_named_or_left_out(fields):
    X, y = fields
    mixed = [*X[:-1], X[-1][..., :3]]
    model = FineTunedClassifier(load_backbone("toy:images", bands=FOUR), freeze_depth=1.0, **SHORT)
    with pytest.raises(ValueError, match=r"X\[23\] .*no axis of 4 bands"):
        model.fit(mixed, y)
    with pytest.warns(UserWarning, match=r"Rows \[23\] of X could not be read"):
        assert model.set_params(on_bad_sample="nan").fit(mixed, y).bad_samples_ == [23]


def test_a_report_and_a_display_read_bands(fields):
    X, y = fields
    network = load_backbone("toy:images", bands=FOUR)
    clear = np.where(np.arange(4) == 3, 0, X).astype(np.uint16)  # no band is the opacity of the others
    model = FineTunedClassifier(network, freeze_depth=1.0, **SHORT)
    thumbnails = plain_samples(clear, reader=model)
    assert thumbnails.shape == (24, 16 * 16 * 4)
    np.testing.assert_allclose(thumbnails.mean(), clear.mean() / 65535, atol=0.01)
    report = transfer_report(model, X, y, cv=2, baselines=["linear"], random_state=0)
    assert report.fold_scores_["linear"].mean() > 0.8
    masks = np.where(X[..., 3] > 45_000, 1, 0)
    segmenter = FineTunedSegmenter(network, max_epochs=1, **SHORT).fit(X, masks)
    display = SegmentationDisplay.from_estimator(segmenter, X[:2], masks[:2])
    assert [image.shape for image in display.images] == [(20, 24, 3)] * 2
