"""Arrays of numbers -> RGB pixels of 8 bits; and what looks odd about the numbers, whose meaning is a guess.

Must not know files, rows of X or networks.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

SMALLEST_SIDE, LONGEST_ASPECT = 8, 20
CHANNELS = (1, 3, 4)
KINDS = {"i": "integers", "u": "integers", "f": "floats"}
DARK = 32  # of 256: where no number of X is larger, the pictures are all but black
DEPTHS = (255, 1023, 4095, 16383)  # levels of white of cameras whose numbers come in 16 bits
ROUNDING, OVERSHOOT = 1e-5, 0.3  # of floats beyond [0, 1]: no excess at all, and what resizing may give

SMALL = f"X holds images of less than {SMALLEST_SIDE} px; there is little to see in them."
LONG = (
    f"X holds images more than {LONGEST_ASPECT} times as long as wide; only their middle is seen, unless "
    "resize='letterbox' or resize='squash'."
)
OPAQUE = (
    "X holds arrays of four channels; they are read as RGBA, the fourth as opacity before a white background. If they "
    "are other bands, say so: load_backbone(name, bands=4)."
)
BEYOND = "X holds floats beyond [0, 1], as resizing makes them; what is beyond was clipped."


class Odd(NamedTuple):
    """Oddities of one image: remarks, and its largest number among those of its ``kind``."""

    remarks: list[str]
    kind: str
    level: float

    @classmethod
    def of(cls, array: np.ndarray, kind: str) -> "Odd":
        """The shape of an image (h, w, ...), and its largest number."""
        short, long = sorted(array.shape[:2])
        remarks = [SMALL] * (short < SMALLEST_SIDE) + [LONG] * (long > LONGEST_ASPECT * short)
        return cls(remarks, kind, float(array.max()))


def _said_of_bytes(brightest: float) -> str | None:
    if not 0 < brightest < DARK:
        return None
    return (
        f"The largest number in the images of X is {brightest:g}, and white is taken to be 255, so that they are "
        f"nearly black. If white is another level, say so: load_backbone(name, white={brightest:g})."
    )


def _said_of_16_bits(brightest: float) -> str | None:
    depth = next((depth for depth in DEPTHS if 0 < brightest <= depth), None)
    if depth is None:
        return None
    return (
        f"The largest number in the 16-bit images of X is {brightest:g}, and white is taken to be 65,535, so that "
        f"they are dark. If white is another level, say so: load_backbone(name, white={depth})."
    )


def _said_of_floats(brightest: float) -> str | None:
    if not 0 < brightest < 1 / DARK:
        return None
    return (
        f"The largest number in the images of X is {brightest:.4g}, and white is taken to be 1, so that they are "
        "nearly black. Scale them to [0, 1] once."
    )


LEVELS = {"bytes": _said_of_bytes, "16 bits": _said_of_16_bits, "floats": _said_of_floats, "settled": lambda _: None}


def with_channels_last(array: np.ndarray, channels: str, refuse, bands: int | None = None) -> np.ndarray:
    """(h, w), (h, w, 1 | 3 | 4) or (1 | 3 | 4, h, w), or of this number of bands -> (h, w) or (h, w, channels)."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise refuse(f"shape {array.shape} is not that of an image", "pass (h, w) or (h, w, channels)")
    if array.ndim == 2:
        return array
    counts = CHANNELS if bands is None else (bands,)
    may_be_first = channels != "last" and array.shape[0] in counts
    may_be_last = channels != "first" and array.shape[-1] in counts
    if may_be_first and may_be_last and not array.shape[-1] == 3 != array.shape[0]:
        raise refuse(
            f"shape {array.shape} may have its channels first or last",
            "say which with backbone=load_backbone(name, channels='first') or channels='last'",
        )
    if not may_be_first and not may_be_last:
        n = array.shape[0 if channels == "first" else -1]
        if bands is not None:
            raise refuse(f"shape {array.shape}, which has no axis of {bands} bands", of_bands(bands))
        remedy = "pass (h, w) or 1, 3 or 4 channels; or say how many: backbone=load_backbone(name, bands=...)"
        raise refuse(f"{n} channels", remedy)
    return array if may_be_last else np.moveaxis(array, 0, -1)


def as_rgb(
    array: np.ndarray, refuse, *, white: float | None = None, is_negative: bool = False, is_file: bool = False
) -> tuple[np.ndarray, Odd]:
    """(h, w) or (h, w, 1 | 3 | 4) of numbers -> (h, w, 3) of uint8, and what is odd about them.

    A file says itself what its channels are, so that neither a fourth channel nor dark colours are a guess.
    """
    array = array[..., None] if array.ndim == 2 else array
    colours, odd = _as_bytes(array[..., :3], white, refuse)
    if is_negative:
        colours = 255 - colours
    if is_file and colours.shape[-1] == 3:
        odd = odd._replace(kind="settled")
    if array.shape[-1] == 4:
        opacity, _ = _as_bytes(array[..., 3:], None, refuse)
        if opacity.min() < 255:
            odd.remarks.extend([] if is_file else [OPAQUE])
        picture = Image.fromarray(np.concatenate([colours, opacity], axis=-1))
        colours = np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3))), odd


def as_bands(
    array: np.ndarray,
    refuse,
    bands: int,
    *,
    white: float | None = None,
    is_negative: bool = False,
    is_file: bool = False,
) -> tuple[np.ndarray, Odd]:
    """(h, w) or (h, w, bands) of numbers -> (h, w, bands) of uint8, and what is odd about them."""
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[-1] != bands:
        raise refuse(f"{array.shape[-1]} channels", of_bands(bands))
    pixels, odd = _as_bytes(array, white, refuse)
    if is_file and bands >= 3:
        odd = odd._replace(kind="settled")
    return np.ascontiguousarray(255 - pixels if is_negative else pixels), odd


def of_bands(bands: int) -> str:
    """What to do about images of another number of channels."""
    return f"pass images of {bands} bands, as backbone was loaded for, or name theirs: load_backbone(name, bands=...)"


def _as_bytes(array: np.ndarray, white: float | None, refuse) -> tuple[np.ndarray, Odd]:
    """Numbers of any type -> uint8, by the level of white that the type has, or that is given."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255, Odd.of(array, "settled")
    if array.dtype.kind not in "iuf":
        raise refuse(f"values of type {array.dtype}", "pass uint8, uint16, or floats in [0, 1]")
    if not np.isfinite(array).all():
        raise refuse("values that are NaN or infinite", "replace them or drop the row")
    if array.dtype.kind == "f" and white is None:
        return _from_floats(array, refuse)
    return _by_level(array, white, refuse)


def _from_floats(array: np.ndarray, refuse) -> tuple[np.ndarray, Odd]:
    low, high = float(array.min()), float(array.max())
    excess = max(-low, high - 1)
    if excess > OVERSHOOT:
        raise refuse(f"floats between {low:.6g} and {high:.6g}", "scale them to [0, 1], or pass uint8 for 0 ... 255")
    odd = Odd.of(array, "floats")
    if excess > ROUNDING:
        odd.remarks.append(BEYOND)
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8), odd


def _by_level(array: np.ndarray, white: float | None, refuse) -> tuple[np.ndarray, Odd]:
    """Integers by the level of white that their type has; numbers of any type by one that is given."""
    low, high = array.min(), array.max()
    is_16_bit = array.dtype.itemsize == 2 and array.dtype.kind == "u"
    if low < 0 or (high > 255 and not is_16_bit and white is None):
        remedy = "scale them to 0 ... 255, or pass uint16 for 16-bit images"
        raise refuse(f"{KINDS[array.dtype.kind]} between {low:g} and {high:g}", remedy)
    level = white if white is not None and (white <= 255 or array.dtype.itemsize > 1) else None
    if level is not None:
        return np.rint(np.clip(array / level, 0, 1) * 255).astype(np.uint8), Odd.of(array, "settled")
    if is_16_bit:
        return np.rint(array / 257.0).astype(np.uint8), Odd.of(array, "16 bits")
    return array.astype(np.uint8), Odd.of(array, "bytes")
