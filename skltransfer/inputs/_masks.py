"""Masks: arrays, files or PIL images of whole numbers, one label per pixel.

What is settled here: a palette is read as its numbers, and what is no mask of labels is refused with its row.
"""

import functools
import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from skltransfer.inputs._files import file_content
from skltransfer.inputs._heif import FORM as HEIF
from skltransfer.inputs._heif import is_heif
from skltransfer.inputs._images import damage_named, readable
from skltransfer.inputs._samples import BadMaskError, element_as_array, is_missing, shown

MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
FORMATS = ("PNG", "BMP", "GIF", "TIFF")  # which keep each number as it is
KINDS = (np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64)


def read_mask(item: Any, row: int, name: str = "y") -> np.ndarray:
    """A mask as an array of whole numbers, (h, w), of as small a type as holds them.

    Raises
    ------
    BadMaskError
        If the element is no mask of labels; the message names its row.
    """
    refuse = functools.partial(BadMaskError, row, shown(item), name=name)
    if is_missing(item):
        raise refuse("a missing value", "drop the row, or pass a mask of ignore_label")
    if isinstance(item, str | os.PathLike | bytes | bytearray):
        values = _of_file(item, refuse)
    elif isinstance(item, Image.Image):
        with readable(item, refuse) as image:
            values = _of_image(image, refuse)
    else:
        values = element_as_array(item, refuse)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or 0 in values.shape:
        remedy = "convert colors to numbers of classes, (height, width)" if values.ndim == 3 else "pass (height, width)"
        raise refuse(f"an array of shape {values.shape}", remedy)
    if values.dtype.kind not in "iub":
        raise refuse(f"an array of {values.dtype}", "pass whole numbers: mask.astype(int)")
    least, most = int(values.min()), int(values.max())
    kind = next(kind for kind in KINDS if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max)
    return np.ascontiguousarray(values, dtype=kind)


def _of_file(item: Any, refuse: functools.partial) -> np.ndarray:
    content = file_content(item, refuse) if isinstance(item, str | os.PathLike) else bytes(item)
    lossy = "JPEG" if content[:3] == b"\xff\xd8\xff" else HEIF if is_heif(content) else None
    if lossy is not None:
        raise refuse(f"a {lossy} file, whose compression changes labels", "save masks as PNG")
    with damage_named(refuse, content[:16]), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return _of_image(image, refuse)


def _of_image(image: Image.Image, refuse: functools.partial) -> np.ndarray:
    if image.mode not in MODES:
        raise refuse(f"an image of mode {image.mode!r}", "convert its colors to numbers of classes")
    return np.asarray(ImageOps.exif_transpose(image))
