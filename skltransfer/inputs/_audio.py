"""Audio: paths, bytes, arrays with a sampling rate -> mono waveforms of float32 in [-1, 1] at the network's rate.

What is settled here, once: channels are averaged, integers are scaled by their range, another rate is resampled. The
libraries that read and resample are those of the extra ``audio``; M4A, MP4 and AAC need that of the extra ``m4a``.
"""

import functools
import io
import numbers
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from skltransfer.exceptions import BadSampleError, MissingDependencyError
from skltransfer.inputs._digests import known_digest, known_length, learn_digests, learn_length
from skltransfer.inputs._files import file_content
from skltransfer.inputs._lazy import DatasetItem
from skltransfer.inputs._mp4 import Mp4Audio, is_mp4_or_aac
from skltransfer.inputs._samples import (
    Peeked,
    Samples,
    digest_of,
    element_as_array,
    encoded_content,
    refuse_missing,
    shown,
)

MAX_SECONDS, MAX_VALUES, LEAST_RATE, MAX_RATE, CLIPPED_SHARE = 600, 2**27, 200, 10**7, 0.01
ROUNDING, OVERSHOOT = 1e-6, 0.25  # beyond 1: what is no excess at all, and what resampling may give
LOSSY = 4.0  # what a lossy codec may decode to
MOST_CHANNELS, CANCELLED = 8, 0.01  # share of the channels' power that their mean has, where one is turned round
FORMATS = "WAV, FLAC, OGG, MP3, AIFF, AU, M4A, MP4 or AAC"
BEGINNINGS = re.compile(
    rb"R(IF[FX]|F64)....WAVE|fLaC|OggS|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]|FORM....AIF[FC]|\.snd", re.S
)


class AudioSamples(Samples):
    """Audio clips in any container.

    Parameters
    ----------
    items : sequence of path, bytes, ndarray, or (ndarray, rate)
        Audio clips.
    rate : int
        Sampling rate of the network, in Hz.
    sampling_rate : int, optional
        Sampling rate, in Hz, of arrays that come without one.
    shortest : int, default=1
        Minimum number of values of a clip, at the network's rate.
    longest : int, optional
        Maximum number of values of a clip, at the network's rate, where no part of it may be left out.
    """

    judges: ClassVar = {"wide integers": lambda loudest: _said_of_integers(loudest)}

    def __init__(
        self,
        items: Sequence[Any],
        *,
        rate: int,
        sampling_rate: int | None = None,
        shortest: int = 1,
        longest: int | None = None,
    ) -> None:
        super().__init__(items)
        self.rate, self.sampling_rate, self.shortest, self.longest = rate, sampling_rate, shortest, longest

    def _peek(self, row: int) -> Peeked:
        item = self.items[row]
        if isinstance(item, DatasetItem):
            return Peeked()  # it is decoded when it is read
        encoded = self._encoded(item, row)
        if encoded is None:
            return Peeked(digest=self._identify(row)[0])
        key = self._key(encoded)
        known = known_digest(key)
        if known is None:
            self._opened(row, encoded).close()
        return Peeked(key, known)

    def _identify(self, row: int) -> tuple[bytes, np.ndarray | None]:
        item = self._item(row)
        encoded = self._encoded(item, row)
        key = None if encoded is None else self._key(encoded)
        known = None if key is None else known_digest(key)
        if known is not None:
            return known, None
        waveform = self._read_from(row, item, encoded)
        digest = digest_of(b"sound", str(self.rate).encode(), waveform.tobytes())
        learn_length(digest, len(waveform))
        if key is not None:
            learn_digests({key: digest})
        return digest, waveform

    def _read(self, row: int) -> np.ndarray:
        item = self._item(row)
        return self._read_from(row, item, self._encoded(item, row))

    def length(self, position: int) -> int:
        """Samples at the network's rate; a file is decoded for it once per process.

        Raises
        ------
        BadSampleError
            With the sample's row in the X that the user passed.
        """
        digest, waveform = self.identify(position)
        known = known_length(digest) if waveform is None else len(waveform)
        if known is None:
            known = len(self.read(position))
            learn_length(digest, known)
        return known

    def _key(self, encoded: bytes) -> bytes:
        """Key of all that decides on the waveform: content and rate."""
        limits = f"{self.shortest}" if self.longest is None else f"{self.shortest} {self.longest}"
        return digest_of(b"encoded sound", f"{self.rate} {limits}".encode(), encoded)

    def _encoded(self, item: Any, row: int) -> bytes | None:
        if isinstance(item, str | os.PathLike):
            return file_content(item, self._refusal(row))
        return encoded_content(item)

    def _read_from(self, row: int, item: Any, encoded: bytes | None) -> np.ndarray:
        refuse = self._refusal(row)
        refuse_missing(item, row)
        if encoded is not None:
            waveform, rate, limit = self._decoded(row, encoded, refuse)
        else:
            (waveform, rate), limit = self._given(item, row, refuse), 1 + OVERSHOOT
        if rate is None:
            raise refuse("an array without a rate", "set sampling_rate=, or pass (array, rate)")
        if not 1 <= rate <= MAX_RATE:
            raise refuse(f"a rate of {rate} Hz", "pass the number of samples per second")
        if len(waveform) > MAX_SECONDS * rate:  # at a rate that is too low, it would be resampled to gigabytes
            raise refuse(f"more than {MAX_SECONDS} seconds", "cut it into pieces, or mend its rate")
        if rate < LEAST_RATE:
            raise refuse(f"a rate of {rate} Hz", "pass the number of samples per second, in Hz and not in kHz")
        return self._resampled(self._checked(waveform, row, limit, refuse), rate, refuse)

    def _given(self, item: Any, row: int, refuse) -> tuple[np.ndarray, float | None]:
        """Waveform and rate of an element that is not an encoded file."""
        if isinstance(item, tuple) and len(item) == 2:
            if isinstance(item[0], numbers.Real):
                raise refuse("a rate before an array", "pass (array, rate), in this order")
            if isinstance(item[1], numbers.Real):
                return self._of_array(item[0], row, refuse), item[1]
        if hasattr(item, "__array__") or (isinstance(item, list) and item and isinstance(item[0], numbers.Real)):
            return self._of_array(item, row, refuse), self.sampling_rate
        if isinstance(item, dict):
            key = next((key for key in ("bytes", "path") if item.get(key) is not None), None)
            remedy = "(item['array'], item['sampling_rate'])" if "array" in item else f"item[{key!r}]"
            raise refuse(f"a dict with the keys {list(item)[:5]}", f"pass {remedy}")
        if hasattr(item, "read"):
            raise refuse("an open file", "pass its path, or its bytes: file.read()")
        raise refuse("not an audio clip", "pass a path, bytes, an array, or (array, rate)")

    def _of_array(self, item: Any, row: int, refuse) -> np.ndarray:
        values = element_as_array(item, refuse)
        if values.dtype.kind == "i" and values.dtype.itemsize > 2 and values.size:
            self.remarks.measure("wide integers", row, float(np.abs(values.astype(np.float64)).max()))
        values = _scaled(values, refuse)
        if values.ndim == 2 and 0 < min(values.shape) <= MOST_CHANNELS:
            return self._mean(values, int(np.argmin(values.shape)), row)  # (n, channels) or (channels, n)
        if values.ndim != 1:
            raise refuse(f"shape {values.shape} is not that of an audio clip", "pass (n,) or (n, channels)")
        return values

    def _opened(self, row: int, content: bytes):
        refuse = self._refusal(row)
        if not content:
            raise refuse("it is empty", "replace it or drop the row")
        start, is_mp4 = content[:12].decode("latin-1"), is_mp4_or_aac(content)
        soundfile = None if is_mp4 else _library("soundfile")
        if not is_mp4 and not BEGINNINGS.match(content):  # soundfile would try two dozen more
            raise refuse(f"no audio that can be read (starts with {start!r})", f"pass {FORMATS}")
        try:
            sound = Mp4Audio(content) if is_mp4 else soundfile.SoundFile(_Content(content))
        except (RuntimeError, ValueError) as error:  # one of libsndfile is a RuntimeError
            raise refuse(f"no audio that can be read (starts with {start!r}; {error})", f"pass {FORMATS}") from None
        if content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 > len(content):
            self.remarks.add(_MISSING_END, row)
        try:
            _refuse_longer(sound.frames, sound, " by its header", refuse)
        except BadSampleError:
            sound.close()
            raise
        return sound

    def _decoded(self, row: int, content: bytes, refuse) -> tuple[np.ndarray, int, float]:
        """Waveform, rate, and the largest value that the codec may honestly give."""
        with self._opened(row, content) as sound:
            try:
                if isinstance(sound, Mp4Audio):
                    values, is_whole = sound.read(MAX_VALUES)
                else:
                    values = sound.read(dtype="float32", always_2d=True)
                    is_whole = len(values) >= sound.frames
            except (RuntimeError, ValueError) as error:
                raise refuse(f"damaged audio ({error})", "replace it or drop the row") from error
            _refuse_longer(len(values), sound, "", refuse)
            if not is_whole:
                self.remarks.add(_MISSING_END, row)
            if getattr(sound, "n_tracks", 1) > 1:
                self.remarks.add(_TRACKS, row)
            limit = LOSSY if sound.format in ("MPEG", "MP3", "OGG", "AAC") else 1 + OVERSHOOT
            return self._mean(_scaled(values, refuse), 1, row), sound.samplerate, limit

    def _mean(self, values: np.ndarray, axis: int, row: int) -> np.ndarray:
        """The mean of the channels."""
        mean = values.mean(axis=axis)
        if len(mean) and values.shape[axis] > 1:
            power, left = (float(np.square(part, dtype=np.float64).mean()) for part in (values, mean))
            if left < CANCELLED * power:
                self.remarks.add(_CANCELLING, row)
        return mean

    def _checked(self, waveform: np.ndarray, row: int, limit: float, refuse) -> np.ndarray:
        """The waveform within [-1, 1]."""
        if len(waveform) == 0:
            raise refuse("no samples", "drop the row")
        if not np.isfinite(waveform).all():
            raise refuse("values that are NaN or infinite", "replace them or drop the row")
        loudest = np.abs(waveform).max()
        if loudest > limit:
            raise refuse(f"floats up to {loudest:g}", "scale them to [-1, 1], or pass int16")
        if loudest > 1 + ROUNDING:
            self.remarks.add(_BEYOND, row)
        elif (np.abs(waveform) >= 0.999).mean() > CLIPPED_SHARE:
            self.remarks.add(_CLIPPED, row)
        return np.clip(waveform, -1, 1)

    def _resampled(self, waveform: np.ndarray, rate: float, refuse) -> np.ndarray:
        if rate != self.rate:
            waveform = _library("soxr").resample(waveform, rate, self.rate)
        if len(waveform) == 0:
            raise refuse("no samples", "drop the row")
        if len(waveform) < self.shortest:
            raise refuse(
                f"{len(waveform)} samples at {self.rate} Hz, and the network needs {self.shortest} or more",
                "pad it with zeros, or drop the row",
            )
        if self.longest is not None and len(waveform) > self.longest:
            raise refuse(
                f"{len(waveform) / self.rate:.1f} s, and the network hears {self.longest / self.rate:g} s at once",
                "cut it, and its target, into shorter clips",
            )
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


_TRACKS = "X holds files with several audio tracks; the main one is read."
_MISSING_END = "Audio is shorter than its header says; what is there is read."
_CLIPPED = "Audio is clipped: more than one in a hundred of its values is at the limit."
_BEYOND = "Audio goes beyond [-1, 1], as lossy codecs and resampling make it; what is beyond was clipped."
_CANCELLING = (
    "Audio has channels that cancel each other, so that their mean is nearly silent; pass one of the channels."
)


def _refuse_longer(n: int, sound: Any, by: str, refuse) -> None:
    """Raise where there are more values per channel than a clip may have."""
    is_long = n > MAX_SECONDS * max(1, sound.samplerate)
    if is_long or n * sound.channels > MAX_VALUES:
        limit = f"{MAX_SECONDS} seconds" if is_long else f"{MAX_VALUES:,} values"
        raise refuse(f"more than {limit}{by}", "cut it into pieces")


def _said_of_integers(loudest: float) -> str | None:
    bits = next((bits for bits in (16, 24) if loudest <= 2 ** (bits - 1)), None)
    if bits is None:
        return None
    remedy = "X.astype('int16')" if bits == 16 else f"X / 2**{bits - 1}"
    return (
        f"Audio in int32 or int64 holds no value beyond {bits} bits. It is scaled by the range of its type, which "
        f"makes it nearly silent; if these are {bits}-bit samples, pass {remedy}."
    )


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
