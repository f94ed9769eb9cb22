"""Boxes drawn on images, and what is wrong with them, by kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from skltransfer.inputs import read_boxes
from skltransfer.inspection._drawing import image_axes, images_for, images_of, label_colours

KINDS = ("correct", "label", "location", "duplicate", "background", "missed")
SOME_OVERLAP = 0.1
NEAR_THE_TOP = 0.08  # of the height, where a label would not be seen above its box


class DetectionDisplay:
    """Plot of images with detected boxes, and counts of errors by kind.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`; parameters are stored as attributes.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 3)
        Images.
    y_pred : sequence of dict
        Detections of each image, as :meth:`FineTunedDetector.predict` returns them.
    y_true : sequence of dict or None, default=None
        True boxes and labels of each image, if they are known.
    score_threshold : float, default=0.3
        Lowest score of a detection that is drawn and counted.
    iou_threshold : float, default=0.5
        Least overlap (intersection over union) of a right detection with its true box.

    Attributes
    ----------
    errors_ : dict of str to int
        Number of detections by kind, and of missed objects; only if ``y_true`` is known. A detection is ``"correct"``;
        or it overlaps an object but has the wrong ``"label"``; or has its label but overlaps too little
        (``"location"``); or is a ``"duplicate"`` of a better-scored one; or lies on the ``"background"``. Objects that
        no detection found are ``"missed"``. The kinds follow TIDE [1]_.
    axes_ : list of matplotlib Axes
        Axes of the images. Only defined after ``plot``.
    figure_ : matplotlib Figure
        Figure that contains the axes. Only defined after ``plot``.

    See Also
    --------
    FineTunedDetector : The estimator.

    References
    ----------
    .. [1] D. Bolya et al. (2020), "TIDE: a general toolbox for identifying object detection errors", ECCV.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import DetectionDisplay
    >>> X = [np.zeros((40, 40, 3), dtype=np.uint8)]
    >>> y_pred = [{"boxes": [[0, 0, 9, 9], [20, 20, 29, 29]], "labels": ["cat", "dog"], "scores": [0.9, 0.8]}]
    >>> y_true = [{"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]], "labels": ["cat", "cat"]}]
    >>> display = DetectionDisplay.from_predictions(X, y_pred, y_true)
    >>> {kind: count for kind, count in display.errors_.items() if count}
    {'correct': 1, 'label': 1, 'missed': 1}
    >>> len(display.plot().axes_)
    1
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        y_pred: Sequence[Mapping[str, Any]],
        y_true: Sequence[Mapping[str, Any]] | None = None,
        score_threshold: float = 0.3,
        iou_threshold: float = 0.5,
    ) -> None:
        self.images, self.y_pred, self.y_true = images, y_pred, y_true
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self._found = [
            _at_least(read_boxes(one, row, name="y_pred", scored=True), score_threshold)
            for row, one in enumerate(y_pred)
        ]
        self._true = None if y_true is None else [read_boxes(one, row, name="y_true") for row, one in enumerate(y_true)]
        for name, rows in (("y_pred", self._found), ("y_true", self._true)):
            if rows is not None and len(rows) != len(images):
                raise ValueError(f"There are {len(images)} images, but {name} has {len(rows)} rows; pass one for each.")
        if self._true is not None:
            pairs = zip(self._found, self._true, strict=True)
            counts = sum((_kinds(found, true, iou_threshold) for found, true in pairs), Counter())
            self.errors_ = {kind: counts[kind] for kind in KINDS}

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, score_threshold: float = 0.3, iou_threshold: float = 0.5
    ) -> Self:
        """Create the display from a fitted estimator.

        Parameters
        ----------
        estimator : FineTunedDetector
            Fitted estimator, a Pipeline that ends in one, or a search.
        X : sequence of images
            Images, as ``predict`` takes them.
        y : sequence of dict, default=None
            True boxes and labels.
        score_threshold : float, default=0.3
            Lowest score of a detection that is drawn and counted.
        iou_threshold : float, default=0.5
            Least overlap of a right detection with its true box.

        Returns
        -------
        DetectionDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X and y differ in length, or boxes are invalid.
        """
        how = {"score_threshold": score_threshold, "iou_threshold": iou_threshold}
        return cls.from_predictions(images_for(estimator, X), estimator.predict(X), y, **how)

    @classmethod
    def from_predictions(
        cls, X: Any, y_pred: Any, y_true: Any = None, *, score_threshold: float = 0.3, iou_threshold: float = 0.5
    ) -> Self:
        """Create the display from images and detections.

        Parameters
        ----------
        X : sequence of images
            Images: file paths, bytes, PIL images or arrays.
        y_pred : sequence of dict
            Detections of each image: boxes, labels and scores.
        y_true : sequence of dict, default=None
            True boxes and labels.
        score_threshold : float, default=0.3
            Lowest score of a detection that is drawn and counted.
        iou_threshold : float, default=0.5
            Least overlap of a right detection with its true box.

        Returns
        -------
        DetectionDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        ValueError
            If lengths differ, or images or boxes are invalid.
        """
        how = {"score_threshold": score_threshold, "iou_threshold": iou_threshold}
        return cls(images=images_of(X), y_pred=list(y_pred), y_true=None if y_true is None else list(y_true), **how)

    def plot(self, ax: Any = None, *, rows: Sequence[int] | None = None) -> Self:
        """Draw boxes on images: detections with label and score, and true boxes dashed in white.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw a single image on. None creates a new figure.
        rows : sequence of int, default=None
            Images to draw. None draws the first six.

        Returns
        -------
        self : object
            The display, which holds the axes and the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            If ``ax`` is given and there are several images to draw.
        """
        rows = range(min(6, len(self.images))) if rows is None else rows
        self.axes_ = image_axes(ax, [self.images[row] for row in rows], "DetectionDisplay.plot")
        self.figure_ = self.axes_[0].figure
        known = [*self._found, *(self._true or [])]
        labels = sorted({label for one in known for label in one["labels"]}, key=str)
        colours = label_colours(labels)
        for axis, row in zip(self.axes_, rows, strict=True):
            for box, _ in _pairs(self._true[row]) if self._true is not None else ():
                _draw(axis, box, "white", linestyle="--", linewidth=1, zorder=3)
            for (box, label), score in zip(_pairs(self._found[row]), self._found[row]["scores"], strict=True):
                _draw(axis, box, colours[label], linewidth=1.5)
                is_at_the_top = box[1] < NEAR_THE_TOP * len(self.images[row])
                axis.text(
                    *box[:2],
                    f"{label} {score:.2f}",
                    color="white",
                    fontsize=7,
                    va="top" if is_at_the_top else "bottom",
                    clip_on=True,
                    parse_math=False,
                    bbox={"facecolor": colours[label], "edgecolor": "none", "pad": 1},
                )
        return self


def _at_least(one: dict[str, Any], score: float) -> dict[str, Any]:
    """The detections of at least this score, the best first."""
    order = [i for i in np.argsort(-one["scores"], kind="stable") if one["scores"][i] >= score]
    return {"boxes": one["boxes"][order], "labels": [one["labels"][i] for i in order], "scores": one["scores"][order]}


def _pairs(one: dict[str, Any]) -> Any:
    return zip(one["boxes"].tolist(), one["labels"], strict=True)


def _draw(axis: Any, box: Sequence[float], colour: str, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle(box[:2], box[2] - box[0], box[3] - box[1], fill=False, edgecolor=colour, **style))


def _kinds(found: dict[str, Any], true: dict[str, Any], iou_threshold: float) -> Counter:
    """How often each kind of right or wrong detection occurs in an image; the best-scored detection chooses first."""
    overlaps, taken, counts = _overlaps(found["boxes"], true["boxes"]), set(), Counter()
    for i, label in enumerate(found["labels"]):
        same = [j for j, other in enumerate(true["labels"]) if other == label]
        free = max((j for j in same if j not in taken), key=lambda j: overlaps[i, j], default=None)
        best_same = max((overlaps[i, j] for j in same), default=0.0)
        if free is not None and overlaps[i, free] >= iou_threshold:
            taken.add(free)
            counts["correct"] += 1
        elif best_same >= iou_threshold:
            counts["duplicate"] += 1
        elif max(overlaps[i], default=0.0) >= iou_threshold:
            counts["label"] += 1
        elif best_same >= SOME_OVERLAP:
            counts["location"] += 1
        else:
            counts["background"] += 1
    counts["missed"] = len(true["labels"]) - len(taken)
    return counts


def _overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair of boxes, (n, m)."""
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
    return both / (areas[0][:, None] + areas[1][None] - both)
