"""Text to text: an encoder that may be frozen up to a stage, and a decoder that is trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skltransfer._estimators.parameters import (
    HasAdapter,
    ReadsTexts,
    Resumes,
    StopsEarly,
    TrainsJointly,
    declared,
    parameter,
)
from skltransfer._estimators.sequence_fine_tuner import SequenceFineTuner
from skltransfer.backbones import Backbone
from skltransfer.exceptions import UnsupportedBackboneError
from skltransfer.inputs import Samples
from skltransfer.text_generation._scores import chrf_score


@declared
class FineTunedTextToText(HasAdapter, Resumes, StopsEarly, TrainsJointly, ReadsTexts, SequenceFineTuner):
    """Write a text about each text by fine-tuning a pretrained encoder-decoder network."""

    _kind_of_samples = "text"
    backbone: str | Backbone = parameter(default="hf:google-t5/t5-small", constraint="no_validation", kw_only=False)
    learning_rate: float = parameter(default=1e-4)
    backbone_lr_factor: float = parameter(default=1.0)
    prompt: str = parameter(default="", constraint=[str])

    def predict(self, X: Any) -> np.ndarray:
        return self._written(X)

    def score(self, X: Any, y: Any) -> float:
        return chrf_score(y, self.predict(X))

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        if backbone.modality != "text":
            raise UnsupportedBackboneError(
                f"FineTunedTextToText reads texts, and {backbone.name!r} reads samples of kind {backbone.modality!r}. "
                "Choose a backbone that reads texts, such as backbone='hf:google-t5/t5-small'."
            )
        if self.prompt:
            items = [self.prompt + item if isinstance(item, str) else item for item in items]
        return super()._read(items, backbone)
