"""Masks drawn on images, and which labels are taken for which."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.metrics import confusion_matrix

from skltransfer.inputs import read_mask
from skltransfer.inspection._drawing import edges_of, image_axes, images_for, images_of, label_colours

OPACITY = 0.5


class SegmentationDisplay:
    """Plot of images with their masks, and a table of which labels are taken for which.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`; parameters are stored as attributes.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 3)
        Images.
    y_pred : sequence of ndarray of shape (height, width)
        Predicted mask of each image.
    y_true : sequence of ndarray of shape (height, width) or None, default=None
        True mask of each image, if it is known.
    ignore_label : int, default=None
        True label of pixels that do not count.

    Attributes
    ----------
    labels_ : ndarray of shape (n_labels,)
        Sorted labels of all masks, without ``ignore_label``.
    confusion_ : ndarray of shape (n_labels, n_labels)
        Share of the pixels of each true label (row) that were given each label (column); only if ``y_true`` is known.
        The row of a label that no true mask has is 0. A row sums to less than 1 if pixels of its label were given
        ``ignore_label``.
    axes_ : list of matplotlib Axes
        Axes of the images: for each image one with the predicted mask, after one with the true mask if it is known.
        Only defined after ``plot``.
    figure_ : matplotlib Figure
        Figure that contains the axes. Only defined after ``plot``.

    See Also
    --------
    FineTunedSegmenter : The estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import SegmentationDisplay
    >>> X = [np.zeros((2, 4, 3), dtype=np.uint8)]
    >>> display = SegmentationDisplay.from_predictions(X, [[[0, 0, 1, 1]] * 2], [[[0, 0, 0, 1]] * 2])
    >>> display.confusion_.round(2)
    array([[0.67, 0.33],
           [0.  , 1.  ]])
    >>> len(display.plot().axes_)
    2
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        y_pred: Sequence[np.ndarray],
        y_true: Sequence[np.ndarray] | None = None,
        ignore_label: int | None = None,
    ) -> None:
        self.images, self.y_pred, self.y_true, self.ignore_label = images, y_pred, y_true, ignore_label
        self._found = [read_mask(one, row, "y_pred") for row, one in enumerate(y_pred)]
        self._true = None if y_true is None else [read_mask(one, row, "y_true") for row, one in enumerate(y_true)]
        for name, masks in (("y_pred", self._found), ("y_true", self._true)):
            if masks is not None:
                _refuse_other_sizes(images, masks, name)
        known = [np.unique(mask) for mask in (*self._found, *(self._true or []))]
        self.labels_ = np.setdiff1d(np.concatenate(known), [] if ignore_label is None else [ignore_label])
        if self._true is not None:
            true, found = (np.concatenate([mask.ravel() for mask in masks]) for masks in (self._true, self._found))
            counts, n = np.isin(true, self.labels_), len(self.labels_)
            matrix, sizes = np.zeros((n, n)), np.bincount(np.searchsorted(self.labels_, true[counts]), minlength=n)
            if counts.any():
                matrix = confusion_matrix(true[counts], found[counts], labels=self.labels_)
            self.confusion_ = matrix / np.maximum(sizes, 1)[:, None]

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, *, ignore_label: int | None = None) -> Self:
        """Create the display from a fitted estimator.

        Parameters
        ----------
        estimator : FineTunedSegmenter
            Fitted estimator, a Pipeline that ends in one, or a search.
        X : sequence of images
            Images, as ``predict`` takes them.
        y : sequence of masks, default=None
            True masks.
        ignore_label : int, default=None
            True label of pixels that do not count.

        Returns
        -------
        SegmentationDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X and y differ in length, or an image and its mask in size.
        """
        return cls.from_predictions(images_for(estimator, X), estimator.predict(X), y, ignore_label=ignore_label)

    @classmethod
    def from_predictions(cls, X: Any, y_pred: Any, y_true: Any = None, *, ignore_label: int | None = None) -> Self:
        """Create the display from images and masks.

        Parameters
        ----------
        X : sequence of images
            Images: file paths, bytes, PIL images or arrays.
        y_pred : sequence of masks
            Predicted masks.
        y_true : sequence of masks, default=None
            True masks.
        ignore_label : int, default=None
            True label of pixels that do not count.

        Returns
        -------
        SegmentationDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        ValueError
            If lengths or sizes differ, or images or masks are invalid.
        """
        true = None if y_true is None else list(y_true)
        return cls(images=images_of(X), y_pred=list(y_pred), y_true=true, ignore_label=ignore_label)

    def plot(self, ax: Any = None, *, rows: Sequence[int] | None = None) -> Self:
        """Draw masks over images, the true one beside the predicted one, with a legend of the labels.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw a single image on, with its predicted mask. None creates a new figure.
        rows : sequence of int, default=None
            Images to draw. None draws the first three.

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
        rows = range(min(3, len(self.images))) if rows is None else rows
        kinds = [("predicted", self._found)]
        if self._true is not None and ax is None:
            kinds.insert(0, ("true", self._true))
        drawn = [(self.images[row], masks[row], kind) for row in rows for kind, masks in kinds]
        self.axes_ = image_axes(ax, [image for image, *_ in drawn], "SegmentationDisplay.plot", n_columns=len(kinds))
        self.figure_ = self.axes_[0].figure
        colours = label_colours(self.labels_.tolist())
        for axis, (_, mask, kind) in zip(self.axes_, drawn, strict=True):
            axis.imshow(_coloured(mask, colours), extent=edges_of(mask))
            axis.set_title(f"{kind} mask", fontsize=9)
        from matplotlib.patches import Patch

        handles = [Patch(color=colour, label=str(label)) for label, colour in colours.items()]
        self.axes_[-1].legend(handles=handles, title="label", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return self


def _refuse_other_sizes(images: Sequence[np.ndarray], masks: Sequence[np.ndarray], name: str) -> None:
    if len(masks) != len(images):
        raise ValueError(f"There are {len(images)} images, but {name} has {len(masks)} masks; pass one for each image.")
    for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if image.shape[:2] != mask.shape:
            raise ValueError(f"X[{row}] has (height, width) {image.shape[:2]}, but {name}[{row}] has {mask.shape}.")


def _coloured(mask: np.ndarray, colours: Mapping[Any, Any]) -> np.ndarray:
    """A mask in colors with an opacity, (height, width, 4); pixels that do not count are clear."""
    from matplotlib.colors import to_rgba

    painted = np.zeros((*mask.shape, 4))
    for label, colour in colours.items():
        painted[mask == label] = to_rgba(colour, OPACITY)
    return painted
