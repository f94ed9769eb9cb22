"""What all displays share: axes to draw on, colors, the names of scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skltransfer._estimators.nested import network_of
from skltransfer.exceptions import MissingDependencyError
from skltransfer.inputs import samples_from_collection

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"  # Okabe and Ito's
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, GREY, "#E69F00", "#56B4E9"), "osD^vPX"
MOST_TICKS = 14
MOST_PIXELS = 200_000_000  # of an image


def axes_for(ax: Any, caller: str, size: tuple[float, float] | None = None) -> Any:
    """``ax``, or axes of a new figure, of this size in inches.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            f"{caller} needs matplotlib. Install it with: pip install 'skltransfer[plot]'"
        ) from error
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    return ax


def images_of(X: Any) -> list[np.ndarray]:
    """Images in any form that estimators take, as arrays (height, width, 3) of uint8."""
    samples = samples_from_collection(X, "image", max_pixels=MOST_PIXELS)
    return [samples.read(row) for row in range(len(samples))]


def images_for(estimator: Any, X: Any) -> Any:
    """Images that can be drawn: X itself, or where an estimator reads bands the first three of them, or one in gray."""
    backbone = network_of(estimator)._loaded_backbone()
    if backbone.reading.get("bands") is None:
        return X
    samples = samples_from_collection(X, "image", **backbone.reading | {"draft": None})
    images = (samples.read(row) for row in range(len(samples)))
    return [image[..., :3] if image.shape[-1] > 2 else np.repeat(image[..., :1], 3, axis=-1) for image in images]


def image_axes(ax: Any, images: Sequence[np.ndarray], caller: str, n_columns: int = 3) -> list[Any]:
    """Axes without ticks, each with an image on it: ``ax``, or those of a new figure.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    ValueError
        If there is no image, or several for ``ax``.
    """
    if not len(images) or (ax is not None and len(images) > 1):
        raise ValueError(f"There are {len(images)} images to draw; with ax, pass one number of an image as rows=[...].")
    if ax is not None:
        axes = [axes_for(ax, caller)]
    else:
        columns = min(n_columns, len(images))
        lines = -(-len(images) // columns)
        first = axes_for(None, caller, (3.2 * columns, 2.6 * lines))
        figure = first.figure
        first.remove()
        axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        for spare in axes[len(images) :]:
            spare.remove()
    for axis, image in zip(axes, images, strict=False):
        axis.imshow(image, extent=edges_of(image))
        axis.grid(visible=False)
        axis.set(xticks=[], yticks=[])
    return axes[: len(images)]


def edges_of(image: np.ndarray) -> tuple[int, int, int, int]:
    """Where an image is drawn, so that (0, 0) is its upper left corner: left, right, bottom and top."""
    return (0, image.shape[1], image.shape[0], 0)


def label_colours(labels: Sequence[Any]) -> dict[Any, Any]:
    """A color for each label: those that color-blind people can distinguish, as long as they suffice."""
    if len(labels) <= len(COLOURS):
        return dict(zip(labels, COLOURS, strict=False))
    from matplotlib import colormaps

    return {label: colormaps["turbo"](i / (len(labels) - 1)) for i, label in enumerate(labels)}


def score_label(scoring: Any, classifies: bool) -> str:
    """A score's name, in words."""
    if scoring is None:
        return "accuracy" if classifies else "R²"
    name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")
    return name.replace("_", " ")


def standard_errors(scores: np.ndarray) -> np.ndarray:
    """Standard errors of means over folds: (..., k) -> (...); zero where there is one fold."""
    k = scores.shape[-1]
    return scores.std(axis=-1, ddof=1) / np.sqrt(k) if k > 1 else np.zeros(scores.shape[:-1])


def name_stages(ax: Any, boundaries: Sequence[int], stage_names: Sequence[str]) -> None:
    """Ticks with the names of stages on the x-axis; ``input`` comes before the first."""
    n = len(stage_names)
    shown = range(n + 1) if n <= MOST_TICKS else sorted(set(boundaries))
    shown = [b for b in shown if min(boundaries) <= b]
    names = ["input", *stage_names]
    is_long = sum(len(names[b]) + 2 for b in shown) > 60  # letters that fit side by side
    ax.set_xticks(shown, [names[b] for b in shown], rotation=40 if is_long else 0, ha="right" if is_long else "center")
