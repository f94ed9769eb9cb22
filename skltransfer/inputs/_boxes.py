"""Boxes: for each image a dict of boxes in pixels and of labels.

What is settled here: a box is (x1, y1, x2, y2) in pixels of the image, from its upper left corner; no box is valid; and
what is no box of the image is refused with its row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skltransfer.inputs._samples import is_missing, shown

FORM = "a dict of 'boxes', (m, 4) in pixels (x1, y1, x2, y2), and 'labels', (m,)"


def read_boxes(
    item: Any, row: int, *, size: tuple[int, int] | None = None, name: str = "y", scored: bool = False
) -> dict[str, Any]:
    """Boxes as float64, (m, 4), labels as a list, and scores as float64, (m,), if they are asked for.

    Parameters
    ----------
    item : mapping
        The boxes of an image.
    row : int
        Position of the image.
    size : (int, int) or None
        Width and height of the image, in which its boxes must lie; None if they are not known.
    name : str
        Name of the collection, for messages.
    scored : bool
        If True, there must be scores.

    Raises
    ------
    ValueError
        If the element is no boxes of the image; the message names its row.
    """
    expected = FORM + (", and 'scores', (m,)" if scored else "")
    if not isinstance(item, Mapping):
        raise ValueError(f"{name}[{row}] is {shown(item)}; expected {expected}. An image without objects has none.")
    needed = ("boxes", "labels", "scores") if scored else ("boxes", "labels")
    absent = [key for key in needed if key not in item]
    if absent:
        raise ValueError(f"{name}[{row}] has no {absent[0]!r}, only {sorted(map(str, item))}; expected {expected}.")
    boxes, labels = _boxes(item["boxes"], f"{name}[{row}]"), _labels(item["labels"], f"{name}[{row}]")
    found: dict[str, Any] = {"boxes": boxes, "labels": labels}
    if scored:
        found["scores"] = _numbers(item["scores"], f"{name}[{row}]['scores']").reshape(-1)
    for key in needed[1:]:
        if len(found[key]) != len(boxes):
            raise ValueError(
                f"{name}[{row}] has {len(boxes)} boxes, but {len(found[key])} {key}. Pass one for each box."
            )
    if size is not None:
        _refuse_outside(boxes, size, f"{name}[{row}]", row)
    return found


def _numbers(values: Any, where: str) -> np.ndarray:
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu().double().numpy()
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {shown(values)}, which are no numbers ({error}).") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{where} holds a number that is not finite: {found[~np.isfinite(found)][0]}.")
    return found


def _boxes(values: Any, where: str) -> np.ndarray:
    boxes = _as_corners(values, _numbers(values, f"{where}['boxes']"), where)
    if boxes.size == 0:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{where}['boxes'] has shape {boxes.shape}; expected (m, 4): a row (x1, y1, x2, y2) for each box."
        )
    in_float32 = boxes.astype(np.float32)  # in which they are learnt
    is_flat = (in_float32[:, 2:] <= in_float32[:, :2]).any(axis=1)
    if is_flat.any():
        box = int(np.flatnonzero(is_flat)[0])
        raise ValueError(
            f"{where}['boxes'][{box}] is {boxes[box].tolist()}, in which x2 <= x1 or y2 <= y1. Pass corners (x1, y1, "
            "x2, y2); of (x, y, width, height), x2 is x + width and y2 is y + height."
        )
    return boxes


def _as_corners(values: Any, boxes: np.ndarray, where: str) -> np.ndarray:
    """Boxes as corners, where they say that they are not: torchvision's ``BoundingBoxes`` have a format."""
    form = getattr(getattr(values, "format", None), "value", "XYXY")
    if form == "XYXY" or boxes.size == 0:
        return boxes
    first, size = boxes[:, :2], boxes[:, 2:]
    if form == "XYWH":
        return np.hstack([first, first + size])
    if form == "CXCYWH":
        return np.hstack([first - size / 2, first + size / 2])
    raise ValueError(f"{where}['boxes'] have the format {form!r}; expected 'XYXY', 'XYWH' or 'CXCYWH'.")


def _labels(values: Any, where: str) -> list:
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list | tuple):
        raise ValueError(f"{where}['labels'] is {shown(values)}; expected a list with a label for each box.")
    for box, label in enumerate(values):
        if is_missing(label) or not isinstance(label, str | int | np.integer | np.bool_) or label == "":
            raise ValueError(
                f"{where}['labels'][{box}] is {label!r:.60}; expected a label for each box, a string or a whole number."
            )
        if not isinstance(label, str) and not -(2**63) <= int(label) < 2**63:
            raise ValueError(f"{where}['labels'][{box}] is {label!r:.60}, beyond 64 bits. Pass str(label).")
    return [label.item() if isinstance(label, np.generic) else label for label in values]


def _refuse_outside(boxes: np.ndarray, size: tuple[int, int], where: str, row: int) -> None:
    width, height = size
    is_outside = ((boxes < 0) | (boxes > np.array([width, height, width, height]))).any(axis=1)
    if not is_outside.any():
        return
    box = int(np.flatnonzero(is_outside)[0])
    raise ValueError(
        f"{where}['boxes'][{box}] is {boxes[box].tolist()}, outside X[{row}], which is {width} pixels wide and "
        f"{height} high. Cut boxes off at its edges: numpy.clip(boxes, 0, [width, height, width, height])."
    )
