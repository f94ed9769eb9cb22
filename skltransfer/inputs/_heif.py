"""HEIC and HEIF files, as phones write them: PIL images that pillow-heif decodes, the library of the extra ``heic``.

Promises to recognize them by content, and to register nothing with Pillow. Must not know rows of X.
"""

import io
import re

from PIL import Image

from skltransfer.exceptions import MissingDependencyError
from skltransfer.inputs._files import brands

FORM = "HEIF"  # what pillow-heif calls the format of its images
BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
BRANDS_OF_AVIF = {b"avif", b"avis"}  # which Pillow reads, in the same container

SIZE = re.compile(rb"\0\0\0\x14ispe\0{4}(.{4})(.{4})", re.DOTALL)  # a box of 20 bytes


def is_heif(content: bytes) -> bool:
    """True for HEIC and HEIF, and False for AVIF."""
    found = brands(content[:1024])
    return bool(found & BRANDS) and not found & BRANDS_OF_AVIF


def is_image(content: bytes) -> bool:
    """True for HEIC, HEIF and AVIF."""
    return bool(brands(content[:1024]) & (BRANDS | BRANDS_OF_AVIF))


def coded_sizes(content: bytes) -> list[tuple[int, int]]:
    """Width and height of all that is encoded in a file, of which the image may show a part; empty for other files."""
    if not is_heif(content):
        return []
    return [(int.from_bytes(width, "big"), int.from_bytes(height, "big")) for width, height in SIZE.findall(content)]


def heif_image(content: bytes) -> Image.Image:
    """The main image of a file, of which only the header was read; it is upright, whatever its EXIF says.

    Raises
    ------
    MissingDependencyError
        If pillow-heif is not installed.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingDependencyError(
            "Images in HEIC or HEIF need the library pillow-heif. Install it with: pip install 'skltransfer[heic]'"
        ) from error
    return HeifImageFile(io.BytesIO(content))
