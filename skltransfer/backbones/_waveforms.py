"""From one waveform to the input of an audio network. Knows feature extractors by what they do."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from skltransfer.backbones._windows import KEPT, both_ends, window_starts

EXAMPLE_SECONDS, LONGEST_SECONDS = 0.25, 120
FRAME, HOP = 400, 160  # samples, as most extractors of spectrograms have them at 16 kHz


@dataclass(frozen=True)
class AudioPreprocessing:
    """A waveform as it is (or normalized), or its log-mel spectrogram.

    May be used by several threads at once.

    Parameters
    ----------
    settings : str
        All that the feature extractor does, as JSON.
    rate : int
        In Hz.
    shape : tuple of int or None
        Shape of one input, where all have the same; None for waveforms of any length.
    extractor : callable, optional
        A feature extractor of transformers; without one, waveforms are as they are.
    long_samples : {"truncate", "keep_start", "keep_end", "keep_both_ends", "windows"}, default="truncate"
        How waveforms that are longer than the input are treated; ``"truncate"`` keeps the beginning.
    shortest : int, default=1
        Samples of the shortest waveform that the network can be given.
    """

    settings: str
    rate: int
    shape: tuple[int, ...] | None = None
    extractor: object = field(default=None, repr=False, compare=False)
    long_samples: str = field(default="truncate", repr=False)
    shortest: int = field(default=1, repr=False)

    modality = "audio"
    max_length = 2**31

    @classmethod
    def of(cls, extractor, long_samples: str = "truncate", shortest: int = 1) -> "AudioPreprocessing":
        """With the settings of a feature extractor of transformers."""
        settings = json.dumps(extractor.to_dict(), sort_keys=True, default=str)
        one = cls(settings, int(extractor.sampling_rate), None, extractor)
        shape = tuple(one(np.zeros(1000, np.float32)).shape)
        if len(shape) == 2:
            return cls(settings, one.rate, shape, extractor, long_samples, _shortest(one))
        return cls(settings, one.rate, None, extractor, long_samples, shortest)

    @property
    def is_ragged(self) -> bool:
        """True if inputs are as long as their waveforms."""
        return self.shape is None

    @property
    def is_windowed(self) -> bool:
        """True if a long waveform becomes several inputs."""
        return self.long_samples == "windows" and not self.is_ragged

    @property
    def longest(self) -> int | None:
        """Samples of the longest waveform that is heard whole; None where there is no such limit."""
        return None if self.is_ragged else _longest(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an example."""
        return self.shape or (int(EXAMPLE_SECONDS * self.rate),)

    def example(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Random inputs; where they are waveforms, the first is whole and the others end in padding."""
        batch = torch.randn(n, *self.input_shape, generator=generator) * 0.1
        if self.is_ragged:
            for row in range(1, n):
                batch[row, batch.shape[1] * 3 // (3 + row) :] = torch.nan
        return batch

    def __call__(self, waveform: np.ndarray) -> torch.Tensor:
        """A waveform of float32 (samples,) -> the same length, or (bands, frames), of the part that is heard."""
        if self.keeps != "start" and self._is_longer(len(waveform)):
            waveform = self._kept(waveform)
        return self.extracted(waveform)

    def extracted(self, waveform: np.ndarray) -> torch.Tensor:
        """A waveform -> what the extractor makes of it."""
        if self.extractor is None:
            return torch.tensor(waveform)
        read = self.extractor(waveform, sampling_rate=self.rate, return_tensors="np")
        return torch.tensor(np.asarray(next(iter(read.values()))[0], dtype=np.float32))

    def parts(self, waveform: np.ndarray) -> list[torch.Tensor]:
        """Inputs for all that is heard of a waveform: one, or one per overlapping window."""
        if not (self.is_windowed and self._is_longer(len(waveform))):
            return [self(waveform)]
        starts = window_starts(len(waveform), self.longest)
        return [self(waveform[start : start + self.longest]) for start in starts]

    def cuts(self, length: int) -> bool:
        """True if part of a waveform of so many samples is not heard."""
        return not self.is_windowed and self._is_longer(length)

    @property
    def keeps(self) -> str:
        """Part of a longer waveform that is heard: ``"start"``, ``"end"`` or ``"both ends"``."""
        return KEPT.get(self.long_samples, "start")

    @property
    def long_samples_key(self) -> str | None:
        """Name of the way to hear longer waveforms; None where it is the usual one, or there is no limit."""
        is_usual = self.is_ragged or self.long_samples in ("truncate", "keep_start")
        return None if is_usual else self.long_samples

    def _kept(self, waveform: np.ndarray) -> np.ndarray:
        """The part of a longer waveform that is heard."""
        if self.keeps == "both ends":
            n_first, n_last = both_ends(self.longest)
            return np.concatenate([waveform[:n_first], waveform[len(waveform) - n_last :]])
        return waveform[len(waveform) - self.longest :] if self.keeps == "end" else waveform

    def _is_longer(self, length: int) -> bool:
        if self.is_ragged or length <= self.rate:
            return False  # no network was seen that hears less than a second
        return self.longest is not None and length > self.longest


def shortest_input(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples of which convolutions, one after the other, make one frame."""
    n = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        n = (n - 1) * stride + kernel
    return n


def _shortest(preprocessing: AudioPreprocessing) -> int:
    """The shortest waveform that an extractor takes; it is known to take 1000 samples."""

    def is_taken(n: int) -> bool:
        try:
            return bool(torch.isfinite(preprocessing(np.full(n, 0.1, np.float32))).all())
        except (ValueError, RuntimeError, IndexError, AssertionError):
            return False

    return 1 if is_taken(1) else _least(is_taken, 1, 1000)


@functools.lru_cache(maxsize=16)
def _longest(preprocessing: AudioPreprocessing) -> int | None:
    """By the extractor's own word where it has one; else by listening which samples change its output."""
    extractor, rate = preprocessing.extractor, preprocessing.rate
    named = getattr(extractor, "n_samples", None) or getattr(extractor, "nb_max_samples", None)
    if named is not None:
        return int(named)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * LONGEST_SECONDS * rate).astype(np.float32)

    def ends_by(n: int) -> bool:
        return torch.equal(preprocessing.extracted(noise[:n]), preprocessing.extracted(noise[: 2 * n]))

    frames = getattr(extractor, "max_length", None)
    guess = FRAME + HOP * (int(frames) - 1) if frames else 0
    if 1 < guess <= LONGEST_SECONDS * rate and ends_by(guess) and not ends_by(guess - 1):
        return guess
    n = rate
    while n <= LONGEST_SECONDS * rate and not ends_by(n):
        n *= 2
    return _least(ends_by, n // 2, n) if n <= LONGEST_SECONDS * rate else None


def _least(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number above ``low`` for which a condition holds, which holds from there to ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
