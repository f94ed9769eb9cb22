"""Inputs by chance: what users (and attackers) may hand to the readers, and what the readers may answer."""

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import soundfile
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from phones import heic, m4a
from PIL import Image

from skltransfer import inputs
from skltransfer.exceptions import SkltransferError

ANSWERS = (SkltransferError, ValueError, TypeError)  # MissingDependencyError and WeightsError are of the family
READING = {
    "image": {"max_pixels": 100_000},
    "text": {},
    "audio": {"rate": 8000, "sampling_rate": 8000},
}


def read(item: Any, modality: str) -> None:
    """A sample goes all the way to pixels, letters or a waveform; or is refused, with row and remedy."""
    samples, complaints = inputs.samples_from_collection([item], modality, **READING[modality]), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for look in (samples.peek, samples.identify, samples.read):
            try:
                look(0)
            except SkltransferError as error:
                complaints.append(str(error))
    assert all(text.startswith("X[0] (") and "Fix: " in text for text in complaints), complaints


def read_collection(X: Any, modality: str) -> None:
    """Whatever X is, it is a table, a collection of samples, or refused."""
    with contextlib.suppress(*ANSWERS):
        container = inputs.contained(X, modality)
        if container.kind == inputs.SAMPLES:
            samples = inputs.samples_from_collection(container.items, modality, **READING[modality])
            for row in range(min(3, len(samples))):
                with contextlib.suppress(SkltransferError):
                    samples.read(row)


def _pictures() -> dict[str, bytes]:
    ramp = Image.fromarray(np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3))
    found = {}
    for form, mode in (
        ("PNG", "RGBA"),
        ("JPEG", "RGB"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("TIFF", "I;16"),
        ("WEBP", "RGB"),
        ("PPM", "RGB"),
        ("JPEG2000", "RGB"),
        ("AVIF", "RGB"),
    ):
        buffer = io.BytesIO()
        (ramp.convert("L").convert("I").convert("I;16") if mode == "I;16" else ramp.convert(mode)).save(buffer, form)
        found[form] = buffer.getvalue()
    return found | {"HEIC": heic(np.asarray(ramp))}


def _sounds() -> dict[str, bytes]:
    values, found = np.sin(np.arange(400) / 9), {}
    for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU"):
        buffer = io.BytesIO()
        soundfile.write(buffer, values, 8000, format=form)
        found[form] = buffer.getvalue()
    return found | {"M4A": m4a(values), "AAC": m4a(values, form="adts")}


SEEDS = {"image": _pictures(), "audio": _sounds()}
KINDS = ["?", "i1", "u1", ">i2", "u2", "i4", "u4", "i8", "f2", "f4", ">f8", "c8", "M8[s]", "S3", "U3"]
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers())


@st.composite
def damaged(draw, modality: str) -> bytes:
    """A real file, some bytes of which were changed, inserted, cut out, or cut off."""
    content = bytearray(draw(st.sampled_from(sorted(SEEDS[modality].values()))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        edit = draw(st.sampled_from(["set", "insert", "cut", "end"]))
        value = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])))
        if edit == "set":
            content[at : at + len(value)] = value
        elif edit == "insert":
            content[at:at] = value
        elif edit == "cut":
            del content[at : at + draw(st.integers(0, 32))]
        else:
            del content[at:]
    return bytes(content)


def arrays_of_any_kind(side: int = 6) -> st.SearchStrategy:
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=side)
    return st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(np.dtype(kind), shapes))


PATHS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["/dev/null", "/", ".", "", "..", "\0", "a" * 5000, "http://a/b.png", "/proc/self/mem", "~", "CON"]
    ),
)
IMAGES = st.one_of(
    damaged("image"), st.binary(max_size=64), PATHS, arrays_of_any_kind(), PLAIN, st.lists(PLAIN, max_size=3)
)
TEXTS = st.one_of(
    st.text(st.characters(codec=None, categories=["L", "N", "P", "S", "Z", "C"]), max_size=60),
    PLAIN,
    st.lists(st.text(max_size=3), max_size=3),
    arrays_of_any_kind(2),
)
SOUNDS = st.one_of(
    damaged("audio"),
    st.binary(max_size=64),
    PATHS,
    arrays_of_any_kind(12),
    st.tuples(arrays_of_any_kind(12), st.one_of(st.integers(-1, 10**6), st.floats(0, 1e6), PLAIN)),
    PLAIN,
)
SAMPLES = {"image": IMAGES, "text": TEXTS, "audio": SOUNDS}
