"""Audio as phones record it, AAC or ALAC in MP4 (M4A) or AAC alone: read by PyAV, the library of the extra ``m4a``.

Promises the interface of a ``soundfile.SoundFile``, as far as it is needed, and a waveform without the values that an
encoder puts before and after it, where the file says how many they are. Must not know rows of X.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from skltransfer.exceptions import MissingDependencyError
from skltransfer.inputs._files import brands
from skltransfer.inputs._heif import is_image

CODECS = ("aac", "alac")
AAC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
MAX_PACKETS = 2**20  # of all tracks; FFmpeg keeps an entry for each, though a few bytes may claim billions
COUNTS = re.compile(rb"stsz.{4}(?!\0{4}).{4}(.{4})|trun.{4}(.{4})", re.DOTALL)  # of packets without bytes of their own
ROUNDING = 1e-3  # seconds, to which some write how much of a track is to be heard


def is_mp4_or_aac(content: bytes) -> bool:
    """True for MP4 and its family, unless it is an image, and for a stream of AAC."""
    return bool(AAC.match(content)) or (bool(brands(content[:1024])) and not is_image(content))


class Mp4Audio:
    """The main audio track of a file, of which only the header was read.

    Parameters
    ----------
    content : bytes
        Content of the file.

    Attributes
    ----------
    frames : int
        Number of values per channel by the header; 0 if it does not say.
    samplerate, channels, n_tracks : int
        Sampling rate in Hz, number of channels, and number of audio tracks.
    format : {"AAC", "ALAC"}
        Name of the codec.

    Raises
    ------
    MissingDependencyError
        If PyAV is not installed.
    ValueError
        If the file has no audio track of one of these codecs, or its header cannot be read.
    """

    def __init__(self, content: bytes) -> None:
        av, is_stream = _pyav(), bool(AAC.match(content))
        form = "aac" if is_stream else "mp4"
        if not is_stream:
            _refuse_too_many_packets(content)
        with _named():
            self._container = av.open(io.BytesIO(content), format=form, metadata_errors="replace")
        try:
            self._read_header(is_stream)
        except BaseException:
            self.close()
            raise

    def _read_header(self, is_stream: bool) -> None:
        tracks = self._container.streams.audio
        self.n_tracks, self._track = len(tracks), self._container.streams.best("audio")
        if self._track is None:
            raise ValueError("no audio track")
        codec = self._track.codec_context  # None where FFmpeg does not know it
        name = getattr(codec, "name", "something unknown")
        if name not in CODECS:
            raise ValueError(f"its audio is encoded as {name}, not as {' or '.join(CODECS)}")
        codec.thread_count = 1
        self.format, self.samplerate, self.channels = codec.name.upper(), codec.sample_rate, codec.layout.nb_channels
        seconds = 0 if is_stream or self._track.duration is None else self._track.duration * self._track.time_base
        self.frames = round(seconds * self.samplerate)

    def read(self, max_values: int) -> tuple[np.ndarray, bool]:
        """Values (n, channels), integers or floats as the codec has them, and whether they are all there.

        Parameters
        ----------
        max_values : int
            Reading stops as soon as there are more.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        parts, n, excess, is_cut_off = [], 0, 0, False
        with _named():
            for packet in self._container.demux(self._track):
                try:
                    found = [self._values(frame) for frame in packet.decode()]
                except ValueError:
                    if not packet.is_corrupt:
                        raise
                    is_cut_off = True  # the file ends within this packet
                    break
                if found and packet.duration:
                    excess = sum(map(len, found)) - round(packet.duration * packet.time_base * self.samplerate)
                parts += found
                n += sum(map(len, found))
                if n * self.channels > max_values:
                    break
        if not is_cut_off and self._track.time_base * self.samplerate <= 1:  # else durations are rounded
            n -= max(0, excess)  # what the encoder fills the last packet up with
        slack = ROUNDING * self.samplerate + 1
        is_filled_up = 0 < self.frames < n - slack
        values = np.concatenate(parts) if parts else np.zeros((0, max(1, self.channels)), np.float32)
        return values[: self.frames if is_filled_up else n], not is_cut_off and n >= self.frames - slack

    def _values(self, frame: Any) -> np.ndarray:
        """Values of a frame, (n, channels)."""
        if (frame.sample_rate, frame.layout.nb_channels) != (self.samplerate, self.channels):
            raise ValueError("its sampling rate or number of channels changes")
        values = frame.to_ndarray()  # (channels, n), or (1, n * channels) where channels alternate
        return values.T if frame.format.is_planar else values.reshape(-1, self.channels)

    def close(self) -> None:
        """Release the decoder."""
        self._container.close()

    def __enter__(self) -> "Mp4Audio":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            "Sounds in M4A, MP4 or AAC need the library av. Install it with: pip install 'skltransfer[m4a]'"
        ) from error
    return av


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Errors of FFmpeg, in its words."""
    try:
        yield
    except _pyav().FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from error


def _refuse_too_many_packets(content: bytes) -> None:
    """Raise where a header has FFmpeg make a list of more packets than a file of ten minutes has."""
    counts = [count for part in _headers(content) for pair in COUNTS.findall(part) for count in pair if count]
    n = sum(int.from_bytes(count, "big") for count in counts)
    if n > MAX_PACKETS:
        raise ValueError(f"its header claims {n:,} packets")


def _headers(content: bytes) -> Iterator[bytes]:
    """Boxes of an MP4 file but those of its media."""
    start = 0
    while start + 8 <= len(content):
        size, offset = int.from_bytes(content[start : start + 4], "big"), 8
        if size == 1:  # the size follows, in 64 bits
            size, offset = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = min(start + size, len(content)) if size >= offset else len(content)
        if content[start + 4 : start + 8] != b"mdat":
            yield content[start:end]
        start = end
