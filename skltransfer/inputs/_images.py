"""Pictures: paths, bytes, PIL images and arrays -> RGB photos (h, w, 3) of uint8.

What is settled here, once: EXIF rotation is applied, transparency is composited on white, 16-bit grey is scaled to 8
bits, the first frame of an animation is taken, and a picture of more than ``max_pixels`` is refused by its header.
"""

import contextlib
import functools
import io
import os
import struct
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from skltransfer._forks import Lock
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._files import file_content
from skltransfer.inputs._samples import Peeked, Samples, digest_of, refuse_missing, shown

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SMALLEST_SIDE, LONGEST_ASPECT = 8, 20
DAMAGE = (
    ArithmeticError,
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
REMEMBERED_DIGESTS = 1_000_000
SLOW_TO_HASH = 50_000  # bytes
_digests: "OrderedDict[bytes, bytes]" = OrderedDict()  # of encoded content -> of decoded content
_digests_lock = Lock()


class ImageSamples(Samples):
    """Pictures in any container.

    Parameters
    ----------
    items : sequence of path, bytes, PIL image or ndarray
    max_pixels : int
        Largest picture that is decoded.
    channels : {"auto", "first", "last"}
        Where arrays have them.
    draft : int, optional
        JPEGs of which both sides are at least twice this long are decoded at a half, a quarter or an eighth of their
        size, and never below it.
    """

    def __init__(
        self, items: Sequence[Any], *, max_pixels: int, channels: str = "auto", draft: int | None = None
    ) -> None:
        super().__init__(items)
        self.max_pixels, self.channels, self.draft = max_pixels, channels, draft

    @property
    def slow_to_peek(self) -> bool:
        """Arrays are hashed whole; from this size on, that takes longer than to hand it to a thread."""
        first = self.items[0] if len(self.items) else None
        return isinstance(first, np.ndarray) and first.nbytes > SLOW_TO_HASH

    def _key(self, encoded: bytes) -> bytes:
        """What decodes to the same pixels: content and draft size."""
        return digest_of(b"encoded", str(self.draft).encode(), encoded)

    def _peek(self, row: int) -> Peeked:
        encoded = self._encoded(row)
        if encoded is not None:
            key = self._key(encoded)
            known = _known_digest(key)
            if known is None:
                with self._opened(row, encoded):
                    pass
            return Peeked(key, known)
        item, refuse = self.items[row], self._refusal(row)
        refuse_missing(item, row)
        if isinstance(item, Image.Image):
            _refuse_larger(item, self.max_pixels, refuse)
            return Peeked()
        return Peeked(digest=_digest_of_pixels(self._read(row)))

    def _identify(self, row: int) -> tuple[bytes, np.ndarray | None]:
        encoded = self._encoded(row)
        if encoded is None:
            pixels = self._read(row)
            return _digest_of_pixels(pixels), pixels
        key = self._key(encoded)
        known = _known_digest(key)
        if known is not None:
            return known, None
        pixels = self._decoded(row, encoded)
        digest = _digest_of_pixels(pixels)
        learn_digests({key: digest})
        return digest, pixels

    def _read(self, row: int) -> np.ndarray:
        encoded = self._encoded(row)
        if encoded is not None:
            return self._decoded(row, encoded)
        item, refuse = self.items[row], self._refusal(row)
        refuse_missing(item, row)
        if isinstance(item, Image.Image):
            with _damage_named(refuse):
                return _rgb(item, self.max_pixels, refuse)
        return _rgb_from_array(_layout(_as_array(item, refuse), self.channels, refuse), refuse)

    def _encoded(self, row: int) -> bytes | None:
        item = self.items[row]
        if isinstance(item, bytes):
            return item
        if isinstance(item, str | Path):
            return file_content(item, self._refusal(row))
        return None

    def _decoded(self, row: int, encoded: bytes) -> np.ndarray:
        with self._opened(row, encoded) as image:
            return _rgb(image, self.max_pixels, self._refusal(row))

    @contextlib.contextmanager
    def _opened(self, row: int, encoded: bytes) -> Iterator[Image.Image]:
        """A picture of which only the header was read."""
        refuse = self._refusal(row)
        if not encoded:
            raise refuse("it is empty", "replace it or drop the row")
        with _damage_named(refuse, encoded[:16]), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            _refuse_larger(image, self.max_pixels, refuse)
            if self.draft is not None:
                image.draft(None, (self.draft, self.draft))
            yield image

    def _refusal(self, row: int) -> functools.partial:
        return functools.partial(BadSampleError, row, shown(self.items[row]))


def learn_digests(of_decoded: Mapping[bytes, bytes]) -> None:
    """Take note of what encoded contents decode to, by their digests."""
    with _digests_lock:
        _digests.update(of_decoded)
        while len(_digests) > REMEMBERED_DIGESTS:
            _digests.popitem(last=False)


def _known_digest(key: bytes) -> bytes | None:
    with _digests_lock:
        return _digests.get(key)


@contextlib.contextmanager
def _damage_named(refuse, start: bytes = b"") -> Iterator[None]:
    """What Pillow says of a damaged picture, with the row and a remedy."""
    try:
        yield
    except BadSampleError:
        raise
    except UnidentifiedImageError:
        shown_start = start.decode("latin-1")
        raise refuse(f"not a picture (starts with {shown_start!r})", f"pass one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise refuse("more than max_pixels", _LARGER) from None
    except DAMAGE as error:
        raise refuse(f"damaged picture ({error})", "replace it or drop the row") from error


_LARGER = "resize it, or allow it with load_backbone(name, max_pixels=...)"


def _digest_of_pixels(pixels: np.ndarray) -> bytes:
    return digest_of(b"photo", str(pixels.shape).encode(), np.ascontiguousarray(pixels).tobytes())


def _refuse_larger(image: Image.Image, max_pixels: int, refuse) -> None:
    if image.width * image.height > max_pixels:
        raise refuse(f"{image.width} x {image.height} px, more than max_pixels={max_pixels:,}", _LARGER)


def _rgb(image: Image.Image, max_pixels: int, refuse) -> np.ndarray:
    """Any mode of PIL -> RGB; the size is known before a pixel is decoded."""
    _refuse_larger(image, max_pixels, refuse)
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # an MPO is a photo with its own thumbnail
        warnings.warn(f"{refuse.args[1]} has {image.n_frames} frames; the first one is taken.", stacklevel=2)
        image.seek(0)
    _warn_of_odd_shapes(image.width, image.height)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return _rgb_from_array(np.asarray(image), refuse)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _warn_of_odd_shapes(width: int, height: int) -> None:
    if min(width, height) < SMALLEST_SIDE:
        warnings.warn(
            f"X holds pictures of less than {SMALLEST_SIDE} px; there is little to see in them.", stacklevel=2
        )
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        warnings.warn(
            f"X holds pictures more than {LONGEST_ASPECT} times as long as wide; only their middle is seen.",
            stacklevel=2,
        )


def _as_array(item: Any, refuse) -> np.ndarray:
    """An array, or what turns itself into one: a torch tensor."""
    if not hasattr(item, "__array__"):
        raise refuse("not a picture", "pass a path, bytes, a PIL image or an array (h, w) or (h, w, channels)")
    return np.asarray(item)


def _layout(array: np.ndarray, channels: str, refuse) -> np.ndarray:
    """(h, w), (h, w, 1 | 3 | 4) or (1 | 3 | 4, h, w) -> (h, w) or (h, w, channels)."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise refuse(f"shape {array.shape} is not that of a picture", "pass (h, w) or (h, w, channels)")
    if array.ndim == 2:
        return array
    may_be_first = channels != "last" and array.shape[0] in (1, 3, 4)
    may_be_last = channels != "first" and array.shape[-1] in (1, 3, 4)
    if may_be_first and may_be_last and not array.shape[-1] == 3 != array.shape[0]:
        raise refuse(
            f"shape {array.shape} may have its channels first or last",
            "say which with backbone=load_backbone(name, channels='first') or channels='last'",
        )
    if not may_be_first and not may_be_last:
        n = array.shape[0 if channels == "first" else -1]
        raise refuse(f"{n} channels", "pass (h, w) or 1, 3 or 4 channels; multispectral pictures are not supported")
    return array if may_be_last else np.moveaxis(array, 0, -1)


def _rgb_from_array(array: np.ndarray, refuse) -> np.ndarray:
    """(h, w) or (h, w, 1 | 3 | 4) of numbers -> (h, w, 3) of uint8."""
    _warn_of_odd_shapes(array.shape[1], array.shape[0])
    pixels = _as_uint8(array, refuse)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[-1] == 4:
        return _rgb(Image.fromarray(pixels), max_pixels=pixels.size, refuse=refuse)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _as_uint8(array: np.ndarray, refuse) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        raise refuse(f"values of type {array.dtype}", "pass uint8, uint16, or floats in [0, 1]")
    if not np.isfinite(array).all():
        raise refuse("values that are NaN or infinite", "replace them or drop the row")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if low < 0 or high > 1:
            raise refuse(f"floats between {low:g} and {high:g}", "scale them to [0, 1], or pass uint8 for 0 ... 255")
        return np.rint(array * 255).astype(np.uint8)
    if array.dtype.itemsize == 2 and array.dtype.kind == "u":
        return np.rint(array / 257.0).astype(np.uint8)
    if low >= 0 and high <= 255:
        return array.astype(np.uint8)
    raise refuse(f"integers between {low} and {high}", "scale them to 0 ... 255, or pass uint16 for 16-bit pictures")


def load_image_folder(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Paths and labels of a folder that holds one folder of pictures per class.

    Parameters
    ----------
    path : path-like
        ``path/<class>/**/<picture>``; files with other suffixes than those of pictures, and hidden ones, are left out.

    Returns
    -------
    paths : ndarray of str, shape (n,)
        Sorted, so that the order is the same on each machine.
    labels : ndarray of str, shape (n,)
        Names of the class folders.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no picture in it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from skltransfer import load_image_folder
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("ants", "bees"):
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    >>> paths, labels = load_image_folder(folder)
    >>> labels.tolist()
    ['ants', 'bees']
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {str(folder)!r}; expected one with a folder of pictures per class.")
    found = [
        (str(file), kind.name)
        for kind in sorted(folder.iterdir())
        if kind.is_dir() and not kind.name.startswith(".")
        for file in sorted(kind.rglob("*"))
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
    if not found:
        raise FileNotFoundError(f"No pictures in {str(folder)!r}; expected {folder.name}/<class>/<picture>.")
    paths, labels = zip(*found, strict=True)
    return np.array(paths), np.array(labels)
