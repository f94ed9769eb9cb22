"""Images: paths, bytes, PIL images and arrays -> RGB photos (h, w, 3) of uint8, or images of other bands.

What is settled here, once: EXIF rotation is applied, transparency is composited on white, 16-bit grey is scaled to 8
bits, the first frame of an animation is taken, and an image of more than ``max_pixels`` is refused by its header.
If guessed scales look odd over the whole of X, a warning says so.
"""

import contextlib
import functools
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from skltransfer._system.forks import Lock
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._digests import known_digest, learn_digests
from skltransfer.inputs._files import file_content
from skltransfer.inputs._heif import FORM as HEIF
from skltransfer.inputs._heif import coded_sizes, heif_image, is_heif
from skltransfer.inputs._lazy import DatasetItem
from skltransfer.inputs._pixels import LEVELS, Odd, as_bands, as_rgb, of_bands, with_channels_last
from skltransfer.inputs._samples import (
    BadMaskError,
    Peeked,
    Samples,
    digest_of,
    element_as_array,
    encoded_content,
    refuse_missing,
    shown,
)
from skltransfer.inputs._tiff import BandImage, is_tiff, opened_tiff

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
DAMAGE += (struct.error, zlib.error)  # all that Pillow was seen to raise, or could, of a file that is not whole
SLOW_TO_HASH = 50_000  # bytes
ORIENTATION = 274  # a tag of EXIF
EXIF_IN_PNG = (b"eXIf", b"Exif", b"exif", b"xmp", b"Raw profile")  # compressed text has its keyword in plain letters
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, which Pillow heeds at 8 bits alone
_loading = [Lock() for _ in range(16)]  # a PIL image is decoded in place when it is first read, by one thread at a time


class ImageSamples(Samples):
    """Images in any container.

    Parameters
    ----------
    items : sequence of path, bytes, PIL image or ndarray
        Images.
    max_pixels : int
        Maximum number of pixels of an image.
    channels : {"auto", "first", "last"}
        Position of the channels in arrays.
    draft : int, optional
        JPEGs of which both sides are at least twice this long are decoded at a half, a quarter or an eighth of their
        size, and never below it.
    white : float, optional
        Value of white in images of integers.
    bands : int, optional
        Number of channels that images must have. Without it, images are gray or colors, with or without opacity.
    """

    judges: ClassVar = LEVELS

    def __init__(
        self,
        items: Sequence[Any],
        *,
        max_pixels: int,
        channels: str = "auto",
        draft: int | None = None,
        white: float | None = None,
        bands: int | None = None,
    ) -> None:
        super().__init__(items)
        self._sizes: dict[int, tuple[int, int]] = {}
        self.max_pixels, self.channels, self.draft, self.white = max_pixels, channels, draft, white
        self.bands = bands

    @property
    def slow_to_peek(self) -> bool:
        """Arrays are hashed whole; from this size on, that takes longer than to hand it to a thread."""
        first = self.items[0] if len(self.items) else None
        return isinstance(first, np.ndarray) and first.nbytes > SLOW_TO_HASH

    def _key(self, encoded: bytes) -> bytes:
        """Key of all that decides on the pixels: content, draft size, level of white and number of bands."""
        how = f"{self.draft}" if self.white is None else f"{self.draft} {self.white}"
        how += "" if self.bands is None else f" {self.bands} bands"
        return digest_of(b"encoded", how.encode(), encoded)

    def _peek(self, row: int) -> Peeked:
        item, refuse = self.items[row], self._refusal(row)
        if isinstance(item, DatasetItem):
            return Peeked()  # it is decoded when it is read
        encoded = self._encoded(item, row)
        if encoded is not None:
            key = self._key(encoded)
            known = known_digest(key)
            if known is None:
                with self._opened_tiff(row, encoded) if self._has_bands(encoded) else self._opened(row, encoded):
                    pass
            return Peeked(key, known)
        refuse_missing(item, row)
        if isinstance(item, Image.Image):
            _refuse_larger(item.size, self.max_pixels, refuse)
            return Peeked()
        return Peeked(digest=_digest_of_pixels(self._pixels(item, row)))

    def _identify(self, row: int) -> tuple[bytes, np.ndarray | None]:
        item = self._item(row)
        encoded = self._encoded(item, row)
        if encoded is None:
            pixels = self._pixels(item, row)
            return _digest_of_pixels(pixels), pixels
        key = self._key(encoded)
        known = known_digest(key)
        if known is not None:
            return known, None
        pixels = self._decoded(row, encoded)
        digest = _digest_of_pixels(pixels)
        learn_digests({key: digest})
        return digest, pixels

    def _read(self, row: int) -> np.ndarray:
        item = self._item(row)
        encoded = self._encoded(item, row)
        return self._pixels(item, row) if encoded is None else self._decoded(row, encoded)

    def _pixels(self, item: Any, row: int) -> np.ndarray:
        """Pixels of an element that is not encoded."""
        refuse = self._refusal(row)
        refuse_missing(item, row)
        if isinstance(item, Image.Image):
            with readable(item, refuse) as image:
                return self._of_image(image, row)
        return self._of_array(with_channels_last(_array(item, refuse), self.channels, refuse, self.bands), row)

    def _size(self, row: int) -> tuple[int, int]:
        if row not in self._sizes:
            self._sizes[row] = self._found_size(row)
        return self._sizes[row]

    def _found_size(self, row: int) -> tuple[int, int]:
        item, refuse = self._item(row), self._refusal(row)
        encoded = self._encoded(item, row)
        if encoded is not None and self._has_bands(encoded):
            with self._opened_tiff(row, encoded) as tiff:
                return tiff.shape[1], tiff.shape[0]
        if encoded is not None:
            with self._opened(row, encoded) as image:
                return upright_size(image, encoded)
        refuse_missing(item, row)
        if isinstance(item, Image.Image):
            _refuse_larger(item.size, self.max_pixels, refuse)
            with readable(item, refuse) as image:
                return upright_size(image)
        height, width = self._pixels(item, row).shape[:2]
        return width, height

    def _encoded(self, item: Any, row: int) -> bytes | None:
        if isinstance(item, str | os.PathLike):
            return file_content(item, self._refusal(row))
        return encoded_content(item)

    def _has_bands(self, encoded: bytes) -> bool:
        """True if another library than Pillow reads the file."""
        return self.bands is not None and is_tiff(encoded)

    @contextlib.contextmanager
    def _opened_tiff(self, row: int, encoded: bytes) -> Iterator[BandImage]:
        """A TIFF file of bands of which only the header was read."""
        refuse = self._refusal(row)
        with opened_tiff(encoded, refuse) as tiff:
            height, width, bands = tiff.shape
            _refuse_larger((width, height), self.max_pixels, refuse)
            if bands != self.bands:
                raise refuse(f"{bands} channels", of_bands(self.bands))
            yield tiff

    def _decoded(self, row: int, encoded: bytes) -> np.ndarray:
        if self._has_bands(encoded):
            with self._opened_tiff(row, encoded) as tiff:
                if tiff.has_others:
                    self.remarks.add(_FRAMES, row)
                return self._of_array(tiff.read(), row, is_negative=tiff.is_negative)
        with self._opened(row, encoded) as image:
            if self.draft is not None and image.format != HEIF:  # of which another encoding would be decoded
                image.draft(None, (self.draft, self.draft))
            return self._of_image(image, row)

    @contextlib.contextmanager
    def _opened(self, row: int, encoded: bytes) -> Iterator[Image.Image]:
        """An image of which only the header was read, and found to be no larger than it may be."""
        refuse = self._refusal(row)
        if not encoded:
            raise refuse("it is empty", "replace it or drop the row")
        with damage_named(refuse, encoded[:16]), open_image(encoded) as image:
            for size in (image.size, *coded_sizes(encoded)):
                _refuse_larger(size, self.max_pixels, refuse)
            yield image

    def _of_image(self, image: Image.Image, row: int) -> np.ndarray:
        """Any mode of PIL -> RGB, or bands; the size is known before a pixel is decoded."""
        _refuse_larger(image.size, self.max_pixels, self._refusal(row))
        if getattr(image, "n_frames", 1) > 1 and image.format not in ("MPO", HEIF) and image.tell() == 0:
            self.remarks.add(_FRAMES, row)  # an MPO or HEIF says which one is its photo; another frame was chosen
        is_negative = dict(getattr(image, "tag_v2", {})).get(PHOTOMETRIC) == WHITE_IS_ZERO
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            return self._of_array(_of_16_bits(np.asarray(image)), row, is_negative=is_negative)
        if self.bands is not None:
            return self._of_array(np.asarray(_with_own_channels(image)), row, is_file=True)
        has_opacity = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        mode = "RGBA" if has_opacity else "L" if image.mode == "L" else "RGB"
        return self._of_array(np.asarray(image.convert(mode)), row, is_file=True)

    def _of_array(self, array: np.ndarray, row: int, **how: bool) -> np.ndarray:
        refuse = self._refusal(row)
        if self.bands is None:
            pixels, odd = as_rgb(array, refuse, white=self.white, **how)
        else:
            pixels, odd = as_bands(array, refuse, self.bands, white=self.white, **how)
        self._note(odd, row)
        return pixels

    def _note(self, odd: Odd, row: int) -> None:
        for text in odd.remarks:
            self.remarks.add(text, row)
        self.remarks.measure(odd.kind, row, odd.level)

    def _refusal(self, row: int) -> functools.partial:
        return functools.partial(BadSampleError, row, shown(self.items[row]))


def open_image(content: bytes) -> Image.Image:
    """An encoded image, of which only the header was read."""
    return heif_image(content) if is_heif(content) else Image.open(io.BytesIO(content), formats=FORMATS)


@contextlib.contextmanager
def damage_named(refuse, start: bytes = b"") -> Iterator[None]:
    """Raise Pillow's error about a damaged image with the row and a remedy."""
    try:
        yield
    except (BadSampleError, BadMaskError):
        raise
    except UnidentifiedImageError:
        if start.startswith((b"II*\0", b"MM\0*")):
            raise refuse(
                "a TIFF of a kind that Pillow does not read, such as one of many bands or of floats in colour",
                "say how many channels it has: backbone=load_backbone(name, bands=...)",
            ) from None
        shown_start = start.decode("latin-1")
        formats = ", ".join([*FORMATS, HEIF])
        raise refuse(f"not an image (starts with {shown_start!r})", f"pass one of {formats}") from None
    except Image.DecompressionBombError:
        raise refuse("more than max_pixels", _LARGER) from None
    except DAMAGE as error:
        raise refuse(f"damaged image ({str(error).strip()})", "replace it or drop the row") from error


@contextlib.contextmanager
def readable(item: Image.Image, refuse: Callable[[str, str], Exception]) -> Iterator[Image.Image]:
    """A PIL image that may be decoded here, also where its file was closed; damage is named by ``refuse``."""
    with _loading[id(item) % len(_loading)], damage_named(refuse), _opened_again(item, refuse) as image:
        yield image


def upright_size(image: Image.Image, content: bytes = b"Exif") -> tuple[int, int]:
    """Width and height after the rotation that EXIF asks for, which Pillow has turned a TIFF by when it opens it.

    Parameters
    ----------
    image : PIL image
        The image.
    content : bytes
        The file, if it is known: a PNG file without EXIF then need not be decoded to look for it.
    """
    is_plain = image.format == "PNG" and not any(mark in content for mark in EXIF_IN_PNG)
    is_on_its_side = image.format != "TIFF" and not is_plain and image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    return (image.height, image.width) if is_on_its_side else image.size


_FRAMES = "X holds animations or images of several pages; the first one is taken."
_LARGER = "resize it, or allow it with load_backbone(name, max_pixels=...)"


def _digest_of_pixels(pixels: np.ndarray) -> bytes:
    return digest_of(b"photo", str(pixels.shape).encode(), np.ascontiguousarray(pixels).tobytes())


def _refuse_larger(size: tuple[int, int], max_pixels: int, refuse) -> None:
    width, height = size
    if width * height > max_pixels:
        raise refuse(f"{width} x {height} px, more than max_pixels={max_pixels:,}", _LARGER)


@contextlib.contextmanager
def _opened_again(image: Image.Image, refuse) -> Iterator[Image.Image]:
    """An image, from its file once more if that was closed before the pixels were read."""
    if not (getattr(image, "tile", None) and getattr(image, "fp", None) is None):
        yield image
        return
    path = getattr(image, "filename", "")
    if not (path and os.path.isfile(path)):
        raise refuse("its file was closed before its pixels were read", "call image.load() first, or pass the path")
    with Image.open(path, formats=FORMATS) as again:
        yield again


def _with_own_channels(image: Image.Image) -> Image.Image:
    """An image whose channels are bands as they are; one of other modes, such as a palette, is made RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if "transparency" in image.info or image.mode in ("PA", "La", "RGBa") else "RGB")


def _of_16_bits(array: np.ndarray) -> np.ndarray:
    """Pillow's mode I, of 32 bits, is what it makes of files of 16 bits too."""
    is_narrow = array.dtype == np.int32 and array.min() >= 0 and array.max() <= 65535
    return array.astype(np.uint16) if is_narrow else array


def _array(item: Any, refuse) -> np.ndarray:
    """An array, or what turns itself into one: a torch tensor, rows of numbers in lists."""
    if hasattr(item, "__array__") or (isinstance(item, list) and item and isinstance(item[0], list | tuple)):
        return element_as_array(item, refuse)
    if isinstance(item, tuple) and len(item) == 2:
        raise refuse("a pair, not an image", "pass the images alone: [image for image, _ in X]")
    if hasattr(item, "read"):
        raise refuse("an open file", "pass its path, or its bytes: file.read()")
    if isinstance(item, dict):
        key = next((key for key in ("image", "bytes", "path") if item.get(key) is not None), next(iter(item), None))
        raise refuse(f"a dict with the keys {list(item)[:5]}, not an image", f"pass the image itself: item[{key!r}]")
    raise refuse("not an image", "pass a path, bytes, a PIL image or an array (h, w) or (h, w, channels)")
