"""What the fine-tuning estimators share whose answer is a structure of its own size for each sample, such as tags.

They are no classifiers in scikit-learn's sense, which would look for labels in y. Must not know what an answer means.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.target_checks import object_array as object_array
from skltransfer._estimators.target_checks import rows_of
from skltransfer.backbones import Backbone, freeze_boundary
from skltransfer.engine import FrozenStages, NetworkSpec, Task, answers_of
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError
from skltransfer.inputs import Samples


class StructuredFineTuner(FineTuner):
    """Parent of the fine-tuning estimators whose targets and answers are structures."""

    _truncates = False

    def _answers(self, X: Any, y: Any = None) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        """The task's answer for each sample, (n,) of objects; None where a sample could not be read."""
        samples, stages = self._to_predict(X, y)
        found, bad = answers_of(self._network_, stages, samples, self._bad_sample_policy(), self._task_to_answer)
        return object_array(found), bad

    def _to_predict(self, X: Any, y: Any = None) -> tuple[Samples, FrozenStages]:
        """The same as of the others; parameters that predictions use may have been changed since the fit."""
        check_is_fitted(self)
        self._validate_params()
        return super()._to_predict(X, y)

    @property
    def _task_to_answer(self) -> Task:
        """The fitted task, with parameters that only predictions need as they are now."""
        return self._task_

    def _refuse_unless_whole_texts(self, backbone: Backbone, what: str) -> None:
        """Raise if a backbone reads no texts, or windows of them, whose answers could not be put together.

        Raises
        ------
        UnsupportedBackboneError
            That says ``what`` to choose.
        """
        name = type(self).__name__
        if backbone.modality != "text":
            raise UnsupportedBackboneError(
                f"{name} reads texts, and {backbone.name!r} reads samples of kind {backbone.modality!r}. Choose {what}."
            )
        if backbone.is_windowed:
            raise UnsupportedBackboneError(
                f"{name} reads whole texts, but {backbone.name!r} was loaded with long_samples='windows'. Load it with "
                "long_samples='truncate', and split long texts into sentences or paragraphs."
            )

    def _tapped_spec(self, backbone: Backbone, taps: Sequence[int], head: str) -> NetworkSpec:
        """The network whose head reads the activations at ``taps``, in increasing order."""
        boundary = min(taps[-1], freeze_boundary(self.freeze_depth, backbone.stage_names))
        return NetworkSpec(boundary, None, head, self.adapter, taps=tuple(taps))

    @property
    def _penalty(self) -> float | str:
        return getattr(self, "C", 0.0)  # without a probe there is none

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        rows = rows_of(y)
        check_consistent_length(samples, rows)
        return rows

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def class_factors(class_weight: dict | str | None, classes: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Weight of a part of a sample in the loss, by its label, (k,); ``mass`` is how much there is of each label.

    Raises
    ------
    ValueError
        If a weight is negative, or none is positive.
    """
    if class_weight == "balanced":
        return np.where(mass > 0, mass.sum() / (len(mass) * np.maximum(mass, 1e-300)), 1.0)
    factors = compute_class_weight(class_weight, classes=classes, y=classes)
    if (factors < 0).any() or not (factors[mass > 0] > 0).any():
        raise ValueError(f"class_weight must be positive for a label of y, and negative for none; got {factors}.")
    return factors
