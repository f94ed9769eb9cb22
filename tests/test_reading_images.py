"""At which size and in which way images are read: options of the backbone, and parameters that are searched."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from conftest import png
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skltransfer import (
    ActivationStore,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedDetector,
    FineTunedRegressor,
    FineTunedSegmenter,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    describe_backbone,
    export_onnx,
    load,
    load_backbone,
    score_transferability,
)
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.exceptions import UnsupportedBackboneError

SHORT = {"dtype": "float32", "random_state": 0}
KINDS = (
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
)


@pytest.fixture
def pages(rng):
    """Twenty dark images of 16 x 48, bright at the left edge or at the right one, which a central crop cuts off."""
    y = np.arange(20) % 2
    X = rng.integers(0, 60, (20, 16, 48, 3), dtype=np.uint8)
    X[y == 0, :, :10] += 180
    X[y == 1, :, 38:] += 180
    return X, y


def test_a_search_finds_that_margins_matter_and_its_best_model_comes_back(pages, tmp_path):
    """Through a pipeline and a grid of both parameters, from PNG files; the best network is fine-tuned and saved."""
    X, y = pages
    files = [png(image) for image in X]
    grid = {"extract__resize": ["crop", "squash", "letterbox"], "extract__input_size": [16, 24]}
    extractor = PretrainedFeatureExtractor("toy:images", pooling="flatten", dtype="float32")
    search = GridSearchCV(Pipeline([("extract", extractor), ("classify", LogisticRegression())]), grid, cv=2)
    search.fit(files, y)
    how = [candidate["extract__resize"] for candidate in search.cv_results_["params"]]
    scores = search.cv_results_["mean_test_score"]
    assert (len(scores), search.best_score_) == (6, 1)
    assert scores[np.array(how) == "crop"].max() < 0.9

    best = {name.removeprefix("extract__"): value for name, value in search.best_params_.items()}
    model = FineTunedClassifier("toy:images", pooling="flatten", **best, **SHORT, max_epochs=1).fit(files, y)
    model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    assert {name: getattr(copy, name) for name in best} == best
    np.testing.assert_array_equal(copy.predict_proba(files), model.predict_proba(files))
    copy = load(tmp_path / "model.skl", backbone="toy:images")  # what the parameters say holds for it, too
    np.testing.assert_array_equal(copy.predict_proba(files), model.predict_proba(files))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_estimator_of_images_takes_both_parameters(kind, pages):
    X, y = pages
    y = np.column_stack([y, y]) if kind is MultiTaskFineTuner else y
    how = {} if kind is PretrainedFeatureExtractor else {"freeze_depth": 1.0, "random_state": 0}
    model = clone(kind("toy:images", dtype="float32", input_size=24, resize="squash", **how))
    assert (
        model.fit(X, y)._loaded_backbone().preprocessing
        == load_backbone("toy:images", input_size=24, resize="squash").preprocessing
    )
    for wrong in ({"input_size": 0}, {"input_size": 24.5}, {"resize": "stretch"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of {kind.__name__} must be"):
            clone(model).set_params(**wrong).fit(X, y)


def test_parameters_come_before_the_options_of_a_loaded_backbone(pages):
    X, _ = pages
    loaded = load_backbone("toy:images", input_size=24, resize="letterbox")
    extractor = PretrainedFeatureExtractor(loaded)
    assert extractor._loaded_backbone() is loaded
    assert extractor.set_params(input_size=np.int64(32))._loaded_backbone().options["input_size"] == 32
    assert repr(extractor.set_params(resize="squash")._loaded_backbone()) == (
        "Backbone('toy:images', weights='pretrained', input_size=32, resize='squash', 4 stages, 32 features)"
    )


def test_each_way_to_resize_has_activations_of_its_own(pages):
    """Recalled from one store or computed without any, features are the same; and other ways give others."""
    X, store, seen = pages[0], ActivationStore(), []
    for resize in (None, "letterbox", "squash", "crop"):
        for size in (16, 24):
            extractor = PretrainedFeatureExtractor("toy:images", dtype="float32", resize=resize, input_size=size)
            expected = extractor.set_params(cache=None).transform(X)
            for _ in range(2):
                np.testing.assert_array_equal(extractor.set_params(cache=store).transform(X), expected)
            seen.append(expected)
    equal = [(i, j) for i in range(8) for j in range(i) if np.array_equal(seen[i], seen[j])]
    assert equal == [(6, 0), (7, 1)]  # None crops


@pytest.mark.parametrize(("width", "height"), [(200, 120), (90, 300), (64, 64), (5, 900), (1, 1)])
def test_a_squashed_image_is_seen_as_a_whole_and_places_come_back(width, height):
    preprocessing = load_backbone("toy:images", resize="squash").preprocessing
    geometry = preprocessing.geometry(width, height)
    corners = np.array([[0.0, 0.0], [width, height]])
    np.testing.assert_allclose(geometry.to_input(corners), [[0, 0], [16, 16]])
    np.testing.assert_allclose(geometry.to_picture(geometry.to_input(corners)), corners)
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    photo[:, -(-width // 2) :] = 255
    expected = np.asarray(Image.fromarray(photo).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(preprocessing.pixels(photo), expected)


def test_what_squashes_may_crop_and_what_crops_may_squash():
    usual = ImagePreprocessing(resize=18, crop=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert usual.resizing("crop") == usual
    assert usual.resizing("squash") == replace(usual, resize=16, squash=True)  # no margin is cut off
    assert replace(usual, squash=True).resizing("crop") == usual
    assert usual.at(32).resizing("squash").input_shape == (3, 32, 32)


def test_letterbox_is_one_of_the_ways_and_they_are_checked():
    assert load_backbone("toy:images", letterbox=True) is load_backbone("toy:images", resize="letterbox")
    assert load_backbone("toy:images").fingerprint == load_backbone("toy:images", resize="crop").fingerprint
    squashed = load_backbone("toy:images", resize="squash")
    assert pickle.loads(pickle.dumps(squashed)).preprocessing == squashed.preprocessing
    with pytest.raises(ValueError, match=r"resize must be one of \('crop', 'letterbox', 'squash'\) or None, got 'fit'"):
        load_backbone("toy:images", resize="fit")
    with pytest.raises(ValueError, match="letterbox=True means resize='letterbox', but got resize='squash'"):
        load_backbone("toy:images", letterbox=True, resize="squash")
    assert load_backbone("toy:images", resize="letterbox", letterbox=True).preprocessing.is_letterbox


@pytest.mark.parametrize("parameters", [{"resize": "squash"}, {"input_size": 32}])
def test_a_network_of_no_images_is_refused_by_name(parameters):
    name = "toy:text"
    with pytest.raises(UnsupportedBackboneError, match=f"{next(iter(parameters))}.*{name}|{name}.*input_size"):
        PretrainedFeatureExtractor(name, **parameters).fit(["a text"])


def test_masks_and_boxes_are_found_where_they_are_in_squashed_images(tmp_path):
    """In wide and in high images alike, at their own size; also from a file."""
    rng, X, masks, boxes = np.random.default_rng(0), [], [], []
    for i in range(8):
        height, width = [(24, 48), (48, 24)][i % 2]
        top, left = rng.integers(0, height - 12), rng.integers(0, width - 12)
        image, mask = rng.integers(0, 40, (height, width, 3), dtype=np.uint8), np.zeros((height, width), dtype=int)
        image[top : top + 12, left : left + 12], mask[top : top + 12, left : left + 12] = 250, 1
        X.append(image)
        masks.append(mask)
        boxes.append({"boxes": [[left, top, left + 12, top + 12]], "labels": ["square"]})
    segmenter = FineTunedSegmenter("toy:images", input_size=32, resize="squash", freeze_depth=1.0, **SHORT)
    assert segmenter.fit(X, masks).score(X, masks) > 0.85
    assert [mask.shape for mask in segmenter.predict(X)] == [mask.shape for mask in masks]
    segmenter.save(tmp_path / "model.skl")
    for found, expected in zip(load(tmp_path / "model.skl").predict(X), segmenter.predict(X), strict=True):
        np.testing.assert_array_equal(found, expected)
    how = {"head_width": 32, "learning_rate": 0.01, "max_epochs": 10, "freeze_depth": 1.0, **SHORT}
    detector = FineTunedDetector("toy:images", input_size=32, resize="squash", **how).fit(X, boxes)
    found = np.array([one["boxes"][0] for one in detector.predict(X)])
    assert np.abs(found - np.array([one["boxes"][0] for one in boxes])).mean() < 3


def test_masks_and_boxes_need_whole_images(pages):
    X, masks = pages[0], pages[0][..., 0] // 128
    squashed, cropped = (load_backbone("toy:images", resize=how) for how in ("squash", "crop"))
    model = FineTunedSegmenter(squashed, freeze_depth=1.0, **SHORT)
    assert model._loaded_backbone() is squashed  # what it was loaded with
    assert clone(model).set_params(resize="letterbox")._loaded_backbone().preprocessing.is_letterbox
    with pytest.raises(ValueError, match="FineTunedSegmenter needs images as a whole.*resize='crop', which cuts"):
        clone(model).set_params(backbone=cropped).fit(X, masks)
    with pytest.raises(ValueError, match="'resize' parameter of FineTunedSegmenter must be"):
        clone(model).set_params(resize="crop").fit(X, masks)
    clone(model).set_params(backbone=cropped, resize="squash").fit(X, masks)


def test_a_fit_goes_on_at_the_same_size_alone(pages):
    X, y = pages
    model = FineTunedClassifier("toy:images", warm_start=True, max_epochs=1, **SHORT).fit(X, y)
    for other in ({"input_size": 24}, {"resize": "squash"}):
        with pytest.raises(ValueError, match=r"go on with the same backbone, reading alike \(input_size, resize"):
            clone(model).fit(X, y).set_params(**other).fit(X, y)


def test_a_squashed_image_is_exported_and_described(pages, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = pages
    model = FineTunedClassifier("toy:images", input_size=24, resize="squash", freeze_depth=1.0, **SHORT).fit(X, y)
    recipe = export_onnx(model, tmp_path / "model.onnx", X)["preprocessing"]
    assert (recipe["squash"], recipe["resize"], recipe["crop"], recipe["longest_aspect"]) == (True, 24, 24, None)
    pixels = np.stack([np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR)) for image in X])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (probabilities,) = session.run(["probabilities"], {"pixels": pixels})
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-4)
    assert describe_backbone(load_backbone("toy:images", input_size=24)).input_shape == (3, 24, 24)


def test_a_ranking_names_how_images_are_read(pages):
    backbones = [load_backbone("toy:images", resize=how) for how in (None, "squash")]
    ranking = score_transferability(backbones, *pages, layers=[1.0], metric="log_me")
    assert {candidate.name for candidate in ranking.candidates} == {"toy:images", "toy:images (squash)"}


def test_a_file_with_another_backbone_reads_texts_as_its_parameters_say(tmp_path):
    X, y = ["a text that is long", "bb"] * 6, [0, 1] * 6
    model = FineTunedClassifier("toy:text", max_length=8, max_epochs=1, **SHORT)
    with pytest.warns(UserWarning, match="longer than max_length=8"):
        model.fit(X, y).save(tmp_path / "model.skl")
    with pytest.warns(UserWarning, match="longer than max_length=8"):
        found = load(tmp_path / "model.skl", backbone="toy:text").predict_proba(X)
    np.testing.assert_array_equal(found, model.predict_proba(X))


def test_files_from_before_resize_come_back_and_save_again(tmp_path, rng):
    X = rng.integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    model = FineTunedSegmenter("toy:images", max_epochs=1, random_state=0, dtype="float32").fit(X, X[..., 0] // 128)
    name, weights, options, fingerprint = model._origin_
    old = {key: value for key, value in options.items() if key != "resize"} | {"letterbox": True}
    model._origin_ = (name, weights, old, fingerprint)
    expected = model.predict(X[:1])[0]
    for include_backbone in (False, True):
        model.save(tmp_path / "old", include_backbone=include_backbone)
        loaded = load(tmp_path / "old", backbone=None if include_backbone else load_backbone("toy:images"))
        np.testing.assert_array_equal(loaded.predict(X[:1])[0], expected)


def test_a_network_whose_black_is_above_0_has_black_margins():
    preprocessing = load_backbone("toy:images", resize="letterbox").preprocessing
    brighter = replace(preprocessing, mean=(-0.04, 0.5, 1.04))
    margin = brighter.pixels(np.full((4, 40, 3), 7, dtype=np.uint8))[0, 0]
    assert margin.tolist() == [0, 128, 255]
