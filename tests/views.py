"""Test-only views: scikit-learn's own checks, sent through real pictures, texts and sounds.

A view is an estimator whose numeric rows become PNG files in memory, texts or WAV files in memory, just before they
would become samples.
"""

import io

import numpy as np
import soundfile
from conftest import png

from skltransfer import (
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    load_backbone,
)
from skltransfer.inputs import samples_from_collection
from skltransfer.inputs._rows import RowSamples


class _ThroughRows:
    """Takes X for a table, and passes on what its rows are turned into."""

    def _samples(self, X, backbone, *, reset):
        samples = super()._samples(X, load_backbone("toy:rows"), reset=reset)
        assert isinstance(samples, RowSamples)
        return self._converted(samples.items)


class ThroughPng(_ThroughRows):
    """An estimator whose rows go through PNG."""

    def _converted(self, rows):
        return samples_from_collection([row_to_png(row) for row in rows], "image", max_pixels=10_000)


class ThroughText(_ThroughRows):
    """An estimator whose rows go through texts."""

    def _converted(self, rows):
        return samples_from_collection([row_to_text(row) for row in rows], "text")


class ThroughWav(_ThroughRows):
    """An estimator whose rows go through WAV."""

    def _converted(self, rows):
        return samples_from_collection([row_to_wav(row) for row in rows], "audio", rate=8000)


class PngExtractor(ThroughPng, PretrainedFeatureExtractor):
    def __init__(self, backbone="toy:images", *, cache="memory"):
        super().__init__(backbone, cache=cache)


class PngClassifier(ThroughPng, FineTunedClassifier):
    def __init__(
        self, backbone="toy:images", *, freeze_depth=0.75, class_weight=None, n_iter_no_change=3, random_state=None
    ):
        super().__init__(
            backbone,
            freeze_depth=freeze_depth,
            pooling="flatten",  # what makes two rows differ is where a pixel is, which the mean would forget
            class_weight=class_weight,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )


class PngFewShotClassifier(ThroughPng, FewShotClassifier):
    def __init__(self, backbone="toy:images", *, shrinkage=0.95):
        super().__init__(backbone, pooling="flatten", shrinkage=shrinkage)


class PngRegressor(ThroughPng, FineTunedRegressor):
    def __init__(self, backbone="toy:images", *, freeze_depth=0.75, alpha=1.0, n_iter_no_change=3, random_state=None):
        super().__init__(
            backbone,
            freeze_depth=freeze_depth,
            pooling="flatten",
            alpha=alpha,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )


class TextExtractor(ThroughText, PretrainedFeatureExtractor):
    def __init__(self, backbone="toy:text", *, cache="memory"):
        super().__init__(backbone, cache=cache)


class TextClassifier(ThroughText, FineTunedClassifier):
    def __init__(
        self, backbone="toy:text", *, freeze_depth=0.5, class_weight=None, n_iter_no_change=3, random_state=None
    ):
        super().__init__(
            backbone,
            freeze_depth=freeze_depth,
            C=1.0,
            class_weight=class_weight,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )


class TextRegressor(ThroughText, FineTunedRegressor):
    def __init__(self, backbone="toy:text", *, freeze_depth=0.5, alpha=0.01, n_iter_no_change=3, random_state=None):
        super().__init__(
            backbone,
            freeze_depth=freeze_depth,
            alpha=alpha,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )


class WavExtractor(ThroughWav, PretrainedFeatureExtractor):
    def __init__(self, backbone="toy:audio", *, cache="memory"):
        super().__init__(backbone, cache=cache)


class WavClassifier(ThroughWav, FineTunedClassifier):
    def __init__(
        self, backbone="toy:audio", *, freeze_depth=0.5, class_weight=None, n_iter_no_change=3, random_state=None
    ):
        super().__init__(
            backbone,
            freeze_depth=freeze_depth,
            C=1.0,
            class_weight=class_weight,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )


class WavRegressor(ThroughWav, FineTunedRegressor):
    def __init__(self, backbone="toy:audio", *, freeze_depth=0.5, alpha=0.01, n_iter_no_change=3, random_state=None):
        super().__init__(
            backbone,
            freeze_depth=freeze_depth,
            alpha=alpha,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )


def row_to_wav(row: np.ndarray) -> bytes:
    """Four equal frames of 64 values, which begin with the row's own, by the same curve."""
    frame = np.zeros(64, np.float32)
    frame[: len(row)] = 0.99 * np.clip(np.arcsinh(2 * row.astype(float)) / np.arcsinh(200), -1, 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.tile(frame, 4), 8000, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def row_to_text(row: np.ndarray) -> str:
    """A letter of its own per number, as often as the number is large by the same curve; blanks up to 64 letters."""
    most = 64 // len(row)
    levels = np.clip(np.rint(most / 2 * (1 + np.arcsinh(2 * row.astype(float)) / np.arcsinh(50))), 0, most).astype(int)
    step = 90 // len(row)
    return "".join(chr(35 + step * i) * level for i, level in enumerate(levels)).ljust(64)


def row_to_png(row: np.ndarray) -> bytes:
    """A square grey PNG, 8 x 8 pixels per number; a curve that is steep at zero and never flat maps them to greys."""
    side = int(np.ceil(np.sqrt(len(row))))
    pixels = np.zeros(side * side, np.uint8)
    pixels[: len(row)] = np.clip(np.rint(127.5 * (1 + np.arcsinh(2 * row.astype(float)) / np.arcsinh(200))), 0, 255)
    return png(np.kron(pixels.reshape(side, side), np.ones((8, 8), np.uint8)))
