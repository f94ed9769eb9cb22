"""Boxes and masks drawn on images, and errors by kind."""

import numpy as np
import pytest
from PIL import Image

from skltransfer import (
    DetectionDisplay,
    FineTunedDetector,
    FineTunedSegmenter,
    SegmentationDisplay,
    TrainingHistoryDisplay,
)

X = [np.full((40, 50, 3), 30 * i, dtype=np.uint8) for i in range(8)]
BOX, BESIDE, FAR = [0, 0, 10, 10], [6, 0, 16, 10], [30, 20, 40, 30]
NONE = {"boxes": [], "labels": []}


def found(*rows):
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return {"boxes": list(boxes), "labels": list(labels), "scores": list(scores)}


@pytest.mark.parametrize(
    ("detections", "kinds"),
    [
        ([(BOX, "a", 0.9)], {"correct": 1}),
        ([], {"missed": 1}),
        ([(BOX, "a", 0.2)], {"missed": 1}),
        ([(BOX, "b", 0.9)], {"label": 1, "missed": 1}),
        ([(BESIDE, "a", 0.9)], {"location": 1, "missed": 1}),
        ([(FAR, "a", 0.9)], {"background": 1, "missed": 1}),
        ([(BOX, "a", 0.9), (BOX, "a", 0.8)], {"correct": 1, "duplicate": 1}),
        ([(BESIDE, "a", 0.95), (BOX, "a", 0.5)], {"location": 1, "correct": 1}),
        ([(BESIDE, "b", 0.9)], {"background": 1, "missed": 1}),
    ],
)
def test_errors_are_counted_by_kind(detections, kinds):
    display = DetectionDisplay.from_predictions(X[:1], [found(*detections)], [{"boxes": [BOX], "labels": ["a"]}])
    assert {kind: count for kind, count in display.errors_.items() if count} == kinds


def test_each_object_is_found_once_or_missed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, m = rng.integers(0, 8, 2)
        corners = [rng.uniform(0, 30, (k, 2)) for k in (n, m)]
        true = {"boxes": np.hstack([corners[1], corners[1] + 10]), "labels": rng.integers(0, 2, m)}
        guess = {
            "boxes": np.hstack([corners[0], corners[0] + 9]),
            "labels": rng.integers(0, 2, n),
            "scores": rng.random(n),
        }
        errors = DetectionDisplay(images=X[:1], y_pred=[guess], y_true=[true], score_threshold=0.0).errors_
        assert errors["correct"] + errors["missed"] == m
        assert sum(errors.values()) - errors["missed"] == n


def test_boxes_are_drawn_where_they_are(tmp_path):
    true = [{"boxes": [BOX], "labels": ["a"]}, *[NONE] * 7]
    guess = [found((FAR, "b", 0.8), (BOX, "a", 0.1)), *[found()] * 7]
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    display = DetectionDisplay.from_predictions(paths, guess, true).plot()
    assert len(display.axes_) == 6
    drawn = {(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in display.axes_[0].patches}
    assert drawn == {((0.0, 0.0), 10.0, 10.0), ((30.0, 20.0), 10.0, 10.0)}
    assert [text.get_text() for text in display.axes_[0].texts] == ["b 0.80"]
    assert not display.axes_[1].patches
    display.figure_.canvas.draw()
    assert len(display.plot(rows=[3]).axes_) == 1
    _, ax = __import__("matplotlib.pyplot").pyplot.subplots()
    assert display.plot(ax, rows=[0]).axes_ == [ax]
    with pytest.raises(ValueError, match="There are 6 images to draw"):
        display.plot(ax)
    assert not hasattr(DetectionDisplay.from_predictions(X, guess).plot(), "errors_")
    with pytest.raises(ValueError, match="There are 8 images, but y_pred has 1 rows"):
        DetectionDisplay.from_predictions(X, guess[:1])
    with pytest.raises(ValueError, match="There are 8 images, but y_true has 7 rows"):
        DetectionDisplay.from_predictions(X, guess, true[:7])


def test_a_fitted_detector_is_drawn():
    y = [{"boxes": [BOX], "labels": ["a"]}] * 8
    model = FineTunedDetector("toy:images", input_size=None, head_width=32, max_epochs=1, random_state=0).fit(X, y)
    display = DetectionDisplay.from_estimator(model, X, y, score_threshold=0.0)
    assert display.errors_["correct"] + display.errors_["missed"] == 8
    assert TrainingHistoryDisplay.from_estimator(model).loss_name == "loss"


def test_masks_are_drawn_and_compared():
    masks = [np.indices((40, 50))[0] // 20] * 8
    guess = [np.zeros((40, 50), dtype=int)] * 8
    display = SegmentationDisplay.from_predictions(X, guess, masks).plot()
    assert display.confusion_.tolist() == [[1, 0], [1, 0]]
    assert len(display.axes_) == 6
    assert [axis.get_title() for axis in display.axes_[:2]] == ["true mask", "predicted mask"]
    painted = display.axes_[0].images[1].get_array()
    assert painted.shape == (40, 50, 4)
    assert len(np.unique(painted.reshape(-1, 4), axis=0)) == 2
    display.figure_.canvas.draw()
    ignoring = SegmentationDisplay.from_predictions(X, guess, masks, ignore_label=1)
    assert ignoring.labels_.tolist() == [0]
    assert ignoring.confusion_.tolist() == [[1]]
    assert len(SegmentationDisplay.from_predictions(X, guess).plot(rows=[1]).axes_) == 1
    model = FineTunedSegmenter("toy:images", freeze_depth=1.0, random_state=0).fit(X, masks)
    assert SegmentationDisplay.from_estimator(model, X, masks).confusion_.shape == (2, 2)
    with pytest.raises(ValueError, match=r"X\[0\] has \(height, width\) \(40, 50\), but y_pred\[0\] has \(50, 40\)"):
        SegmentationDisplay.from_predictions(X, [mask.T for mask in guess])
    with pytest.raises(ValueError, match="y_true has 7 masks"):
        SegmentationDisplay.from_predictions(X, guess, masks[:7])


def test_images_are_drawn_from_their_corner_and_labels_are_seen():
    guess = [found((BOX, "$\\bad$", 0.9), (FAR, "b", 0.9))]
    display = DetectionDisplay.from_predictions(X[:1], guess).plot()
    assert display.axes_[0].images[0].get_extent() == [0, 50, 40, 0]
    assert [text.get_va() for text in display.axes_[0].texts] == ["top", "bottom"]
    display.figure_.canvas.draw()


def test_many_labels_have_colors_of_their_own():
    mask = np.arange(2000).reshape(40, 50) % 20
    display = SegmentationDisplay.from_predictions(X[:1], [mask]).plot()
    painted = display.axes_[0].images[1].get_array()
    assert display.axes_[0].images[1].get_extent() == [0, 50, 40, 0]
    assert len(np.unique(painted.reshape(-1, 4), axis=0)) == 20
    assert len(display.axes_[0].get_legend().get_texts()) == 20


def test_pixels_that_were_given_the_ignored_label_are_wrong():
    true, guess = np.zeros((40, 50), int), np.zeros((40, 50), int)
    guess[:20] = 255
    display = SegmentationDisplay.from_predictions(X[:1], [guess], [true], ignore_label=255)
    assert display.confusion_.tolist() == [[0.5]]
    nothing = SegmentationDisplay.from_predictions(X[:1], [true], [np.full((40, 50), 255)], ignore_label=255)
    assert nothing.confusion_.tolist() == [[0]]
