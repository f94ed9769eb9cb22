"""TIFF files of any number of bands, of integers or floats, which Pillow does not read; the only importer of tifffile.

Must not know what bands mean, nor the numbers in them.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from skltransfer.exceptions import BadSampleError, MissingDependencyError

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
WHITE_IS_ZERO, PALETTE = 0, 3
BANDS = "SCQI"  # axes of tifffile: samples of a pixel, channels, and pages that are not described
ONE_IMAGE = "save each image as a file of its own, of shape (bands, height, width) or (height, width, bands)"


class BandImage(NamedTuple):
    """The first image of a TIFF file, of which the header was read.

    Attributes
    ----------
    shape : tuple of int
        Height, width and number of bands, the right way up.
    is_negative : bool
        True if the smallest number is white.
    has_others : bool
        True if the file holds more images.
    read : callable
        Function that reads the pixels, (h, w, bands).
    """

    shape: tuple[int, int, int]
    is_negative: bool
    has_others: bool
    read: Callable[[], np.ndarray]


def is_tiff(content: bytes) -> bool:
    """True if a file begins like a TIFF."""
    return content.startswith(STARTS)


@contextlib.contextmanager
def opened_tiff(content: bytes, refuse: Callable[[str, str], Exception]) -> Iterator[BandImage]:
    """A TIFF file whose pixels may be read here; ``refuse(cause, remedy)`` makes the complaint about it.

    Raises
    ------
    MissingDependencyError
        Without tifffile.
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingDependencyError(
            "Reading bands from TIFF files needs tifffile. Install it with: pip install 'skltransfer[bands]'"
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            yield _first_image(file, refuse)
    except (BadSampleError, MemoryError):
        raise
    except Exception as error:  # of many kinds, from several decoders
        if "imagecodecs" not in str(error):
            raise refuse(f"damaged image ({error})", "replace it or drop the row") from error
        raise refuse(
            f"its compression needs another library ({error})",
            "pip install imagecodecs, or save it without compression or with deflate",
        ) from error


def _first_image(file: Any, refuse: Callable[[str, str], Exception]) -> BandImage:
    if not file.series:
        raise refuse("a TIFF without an image", "replace it or drop the row")
    series, page = file.series[0], file.series[0].keyframe
    bands = [axis for axis in series.axes if axis not in "YX"]
    if sorted(set(series.axes) & set("YX")) != ["X", "Y"] or len(bands) > 1 or not set(bands) <= set(BANDS):
        raise refuse(f"a TIFF of shape {series.shape} with the axes {series.axes!r}", ONE_IMAGE)
    if page.photometric == PALETTE:
        raise refuse("a TIFF whose numbers are places in a palette", "save it as RGB")
    turn = int(page.tags[ORIENTATION].value) if ORIENTATION in page.tags else 1
    sizes = dict(zip(series.axes, series.shape, strict=True))
    sides = (sizes["X"], sizes["Y"]) if turn >= 5 else (sizes["Y"], sizes["X"])

    def read() -> np.ndarray:
        pixels = series.asarray()
        pixels = np.moveaxis(pixels, series.axes.index(bands[0]), -1) if bands else pixels[..., None]
        return _upright(pixels, turn)

    n = sizes[bands[0]] if bands else 1
    return BandImage((*sides, n), page.photometric == WHITE_IS_ZERO, len(file.series) > 1, read)


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Pixels (h, w, bands) as one sees them: turned and mirrored as the tag of orientation, 1 to 8, says."""
    pixels = pixels.swapaxes(0, 1) if turn >= 5 else pixels
    pixels = pixels[:, ::-1] if turn in (2, 3, 6, 7) else pixels
    return pixels[::-1] if turn in (3, 4, 7, 8) else pixels
