"""Sounds: paths, bytes, arrays with a sampling rate -> mono waveforms of float32 in [-1, 1] at the network's rate.

What is settled here, once: channels are averaged, integers are scaled by their range, another rate is resampled. The
libraries that read and resample are those of the extra ``audio``.
"""

import functools
import io
import numbers
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skltransfer.exceptions import BadSampleError, MissingDependencyError
from skltransfer.inputs._files import file_content
from skltransfer.inputs._samples import Peeked, Samples, digest_of, refuse_missing, shown

MAX_SECONDS, MAX_VALUES, MAX_RATE, CLIPPED_SHARE = 600, 2**27, 10**7, 0.01
FORMATS = "WAV, FLAC, OGG, MP3, AIFF or AU"
BEGINNINGS = re.compile(
    rb"R(IF[FX]|F64)....WAVE|fLaC|OggS|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]|FORM....AIF[FC]|\.snd", re.S
)


class AudioSamples(Samples):
    """Sounds in any container.

    Parameters
    ----------
    items : sequence of path, bytes, ndarray, or (ndarray, rate)
    rate : int
        The network's, in Hz.
    sampling_rate : int, optional
        Of arrays that come without a rate, in Hz.
    """

    def __init__(self, items: Sequence[Any], *, rate: int, sampling_rate: int | None = None) -> None:
        super().__init__(items)
        self.rate, self.sampling_rate = rate, sampling_rate

    def _peek(self, row: int) -> Peeked:
        if not isinstance(self.items[row], str | Path | bytes):
            return Peeked(digest=self._identify(row)[0])
        with self._opened(row):
            return Peeked()

    def _identify(self, row: int) -> tuple[bytes, np.ndarray]:
        waveform = self._read(row)
        return digest_of(b"sound", str(self.rate).encode(), waveform.tobytes()), waveform

    def _read(self, row: int) -> np.ndarray:
        item = self.items[row]
        refuse_missing(item, row)
        refuse = self._refusal(row)
        if isinstance(item, str | Path | bytes):
            waveform, rate = self._decoded(row, refuse)
        elif isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], numbers.Real):
            waveform, rate = _mono(_scaled(np.asarray(item[0]), refuse), refuse), item[1]
        elif hasattr(item, "__array__"):
            waveform, rate = _mono(_scaled(np.asarray(item), refuse), refuse), self.sampling_rate
        else:
            raise refuse("not a sound", "pass a path, bytes, an array, or (array, rate)")
        if rate is None:
            raise refuse("an array without a rate", "set sampling_rate=, or pass (array, rate)")
        if not 1 <= rate <= MAX_RATE:
            raise refuse(f"a rate of {rate} Hz", "pass the number of samples per second")
        if len(waveform) > MAX_SECONDS * rate:  # at a rate that is too low, it would be resampled to gigabytes
            raise refuse(f"more than {MAX_SECONDS} seconds", "cut it into pieces, or mend its rate")
        return self._resampled(_checked(waveform, row, refuse), rate, refuse)

    def _opened(self, row: int):
        refuse = self._refusal(row)
        item = self.items[row]
        content = item if isinstance(item, bytes) else file_content(item, refuse)
        if not content:
            raise refuse("it is empty", "replace it or drop the row")
        soundfile = _library("soundfile")
        start = content[:12].decode("latin-1")
        if not BEGINNINGS.match(content):  # soundfile would try two dozen more
            raise refuse(f"no sound that can be read (starts with {start!r})", f"pass {FORMATS}")
        try:
            sound = soundfile.SoundFile(_Content(content))
        except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
            raise refuse(f"no sound that can be read (starts with {start!r}; {error})", f"pass {FORMATS}") from None
        if content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 > len(content):
            _warn_of_missing_end(row)
        n_seconds, n_values = sound.frames / max(1, sound.samplerate), sound.frames * sound.channels
        if n_seconds > MAX_SECONDS or n_values > MAX_VALUES:
            sound.close()
            limit = f"{MAX_SECONDS} seconds" if n_seconds > MAX_SECONDS else f"{MAX_VALUES:,} values"
            raise refuse(f"more than {limit} by its header", "cut it into pieces")
        return sound

    def _decoded(self, row: int, refuse) -> tuple[np.ndarray, int]:
        with self._opened(row) as sound:
            try:
                values = sound.read(dtype="float32", always_2d=True)
            except (RuntimeError, ValueError) as error:
                raise refuse(f"damaged sound ({error})", "replace it or drop the row") from error
            if len(values) < sound.frames:
                _warn_of_missing_end(row)
            return values.mean(axis=1), sound.samplerate

    def _resampled(self, waveform: np.ndarray, rate: float, refuse) -> np.ndarray:
        if rate != self.rate:
            waveform = _library("soxr").resample(waveform, rate, self.rate)
        if len(waveform) == 0:
            raise refuse("no samples", "drop the row")
        return np.ascontiguousarray(waveform, dtype=np.float32)

    def _refusal(self, row: int) -> functools.partial:
        return functools.partial(BadSampleError, row, shown(self.items[row]))


class _Content(io.BytesIO):
    """Bytes in which a damaged header may ask for a place before the first: it stays where it is."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _warn_of_missing_end(row: int) -> None:
    warnings.warn(f"X[{row}] is shorter than its header says; what is there is read.", stacklevel=2)


def _library(name: str):
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"Sounds in files, or at another rate, need the library {name}. Install it with: "
            "pip install 'skltransfer[audio]'"
        ) from error


def _scaled(values: np.ndarray, refuse) -> np.ndarray:
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.astype(np.float32) / -float(np.iinfo(values.dtype).min)
    if values.dtype.kind != "f":
        raise refuse(f"values of type {values.dtype}", "pass floats in [-1, 1], or integers of 8, 16 or 32 bits")
    return values.astype(
        np.float64 if values.dtype.itemsize == 8 else np.float32, copy=False
    )  # in this machine's order


def _mono(values: np.ndarray, refuse) -> np.ndarray:
    """(n,), (n, channels) or (channels, n) -> (n,)."""
    if values.ndim == 2 and 0 < min(values.shape) <= 8:
        return values.mean(axis=int(np.argmin(values.shape)))
    if values.ndim != 1:
        raise refuse(f"shape {values.shape} is not that of a sound", "pass (n,) or (n, channels)")
    return values


def _checked(waveform: np.ndarray, row: int, refuse) -> np.ndarray:
    if len(waveform) == 0:
        raise refuse("no samples", "drop the row")
    if not np.isfinite(waveform).all():
        raise refuse("values that are NaN or infinite", "replace them or drop the row")
    loudest = np.abs(waveform).max()
    if loudest > 1.0 + 1e-6:
        raise refuse(f"floats up to {loudest:g}", "scale them to [-1, 1], or pass int16")
    if (np.abs(waveform) >= 0.999).mean() > CLIPPED_SHARE:
        warnings.warn(f"X[{row}] is clipped: more than one in a hundred of its values is at the limit.", stacklevel=2)
    return waveform
