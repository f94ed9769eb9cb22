"""From one waveform to the input of a network of sounds. Knows feature extractors by what they do."""

import json
from dataclasses import dataclass, field

import numpy as np
import torch

EXAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class AudioPreprocessing:
    """A waveform as it is (or normalised), or its log-mel spectrogram.

    Parameters
    ----------
    settings : str
        All that the feature extractor does, as JSON.
    rate : int
        In Hz.
    shape : tuple of int or None
        Of one input, where all have one shape; None for waveforms of any length.
    extractor : callable, optional
        A feature extractor of transformers; without one, waveforms are as they are.
    """

    settings: str
    rate: int
    shape: tuple[int, ...] | None = None
    extractor: object = field(default=None, repr=False, compare=False)

    modality = "audio"
    max_length = 2**31

    @classmethod
    def of(cls, extractor) -> "AudioPreprocessing":
        """With the settings of a feature extractor of transformers."""
        settings = json.dumps(extractor.to_dict(), sort_keys=True, default=str)
        one = cls(settings, int(extractor.sampling_rate), None, extractor)
        shape = tuple(one(np.zeros(1000, np.float32)).shape)
        return cls(settings, one.rate, shape if len(shape) == 2 else None, extractor)

    @property
    def is_ragged(self) -> bool:
        """Whether inputs are as long as their waveforms."""
        return self.shape is None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of an example."""
        return self.shape or (int(EXAMPLE_SECONDS * self.rate),)

    def example(self, n: int) -> torch.Tensor:
        """Random inputs; where they are waveforms, the first is whole and the others end in padding."""
        batch = torch.randn(n, *self.input_shape) * 0.1
        if self.is_ragged:
            for row in range(1, n):
                batch[row, batch.shape[1] * 3 // (3 + row) :] = torch.nan
        return batch

    def __call__(self, waveform: np.ndarray) -> torch.Tensor:
        """A waveform of float32 (samples,) -> the same length, or (bands, frames)."""
        if self.extractor is None:
            return torch.tensor(waveform)
        read = self.extractor(waveform, sampling_rate=self.rate, return_tensors="np")
        return torch.tensor(np.asarray(next(iter(read.values()))[0], dtype=np.float32))
