"""Masks: arrays, files or PIL images of whole numbers, one label per pixel.

What is settled here: a palette is read as its numbers, and what is no mask of labels is refused with its row.
"""

import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from skltransfer.inputs._samples import as_array, is_missing, shown

KINDS = (np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64)
MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


def read_mask(item: Any, row: int) -> np.ndarray:
    """A mask as an array of whole numbers, (h, w), of as small a type as holds them.

    Raises
    ------
    ValueError
        If the element is no mask of labels; the message names its row in y.
    """
    if is_missing(item):
        raise _refusal(row, item, "a missing value", "drop the row, or pass a mask of ignore_label")
    if isinstance(item, str | os.PathLike | bytes | bytearray):
        values = _of_file(item, row)
    elif hasattr(item, "getexif"):
        values = _of_image(item, item, row)
    else:
        values = as_array(item)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or 0 in values.shape:
        remedy = "convert colors to numbers of classes, (height, width)" if values.ndim == 3 else "pass (height, width)"
        raise _refusal(row, item, f"an array of shape {values.shape}", remedy)
    if values.dtype.kind not in "iub":
        raise _refusal(row, item, f"an array of {values.dtype}", "pass whole numbers: mask.astype(int)")
    least, most = int(values.min()), int(values.max())
    kind = next(kind for kind in KINDS if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max)
    return np.ascontiguousarray(values, dtype=kind)


def _of_file(item: Any, row: int) -> np.ndarray:
    source = io.BytesIO(item) if isinstance(item, bytes | bytearray) else item
    try:
        with Image.open(source) as image:
            return _of_image(image, item, row)
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _refusal(row, item, f"cannot be read as an image ({error})", "replace the file") from error


def _of_image(image: Image.Image, item: Any, row: int) -> np.ndarray:
    if image.mode not in MODES:
        raise _refusal(row, item, f"an image of mode {image.mode!r}", "convert its colors to numbers of classes")
    return np.asarray(ImageOps.exif_transpose(image))


def _refusal(row: int, item: Any, problem: str, remedy: str) -> ValueError:
    return ValueError(f"y[{row}] ({shown(item)}): {problem}; expected a mask of labels. Fix: {remedy}.")
