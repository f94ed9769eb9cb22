"""What the fine-tuning estimators share whose answers are read off one vector per sample: labels and numbers.

They pool, embed samples as a transformer does, and read long samples in windows. Must not know what a target means.
"""

import copy
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, TransformerMixin
from sklearn.utils.validation import _check_feature_names, _check_n_features, _check_y, check_consistent_length

from skltransfer._estimators import target_checks
from skltransfer._estimators.base import NamesFeatures
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.parameters import ReadsBackbone, ReadsLongSamples
from skltransfer.backbones import Backbone
from skltransfer.engine import NetworkSpec, NetworkState, run_tuned
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import NOUNS, RowSamples, Samples, split_columns


class VectorFineTuner(ReadsLongSamples, ReadsBackbone, NamesFeatures, TransformerMixin, FineTuner):
    """Parent of the fine-tuning estimators of labels and numbers."""

    def transform(self, X: Any) -> np.ndarray:
        """Compute the embedding of each sample in the fine-tuned network.

        The embedding is the pooled output of the last stage, which is the input of the head before standardization.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to embed: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_features_out)
            One embedding per sample. With ``on_bad_sample="nan"``, a sample that cannot be read is NaN.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return self._run(X, features=True)[0].astype(np.float32)

    @property
    def _n_features_out(self) -> int:
        return len(self._network_.changed["readout.mean"])

    def _samples(self, X: Any, backbone: Backbone, *, reset: bool) -> Samples:
        """X as samples; with ``sample_column``, those of one column, with the numbers of the others beside them."""
        column = getattr(self, "sample_column", None)
        if column is None:
            return super()._samples(X, backbone, reset=reset)
        found = split_columns(X, column)
        if not reset and hasattr(self, "n_features_in_"):
            _check_feature_names(self, X, reset=False)
            _check_n_features(self, X, reset=False)
        reader = copy.copy(self)  # which knows nothing of the other columns
        for name in ("n_features_in_", "feature_names_in_"):
            vars(reader).pop(name, None)
        samples = super(VectorFineTuner, reader)._samples(found.items, backbone, reset=reset)
        if isinstance(samples, RowSamples):
            noun = "samples" if backbone.modality == "rows" else NOUNS[backbone.modality]
            raise ValueError(
                f"sample_column={column!r} holds numbers, not samples that {backbone.name!r} reads. Name the column of "
                f"{noun}."
            )
        if reset:
            self.input_kind_ = reader.input_kind_
            if found.merged:
                warnings.warn(
                    f"The columns {found.merged} hold numbers that float32 cannot tell apart. Subtract a constant from "
                    "them before.",
                    stacklevel=2,
                )
            _check_feature_names(self, X, reset=True)
            _check_n_features(self, X, reset=True)
        samples.beside = found.numbers
        return samples

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        """The network to be fitted, before any choice by the data."""
        pooling = self._resolved_pooling(backbone)
        spec = NetworkSpec(self._boundary(backbone, start), pooling, self.head, getattr(self, "adapter", None))
        return replace(spec, window_pooling=self._resolved_window_pooling(backbone))

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        y, are_numbers = target_checks.plain(y), isinstance(self, RegressorMixin)
        target_checks.refuse_odd_targets(y, are_numbers=are_numbers)
        y = _check_y(y, multi_output=True, y_numeric=are_numbers, estimator=self)
        y = y.toarray() if hasattr(y, "toarray") else y
        if not are_numbers:
            target_checks.refuse_odd_labels(y)
        check_consistent_length(samples, y)
        return y

    def _run(self, X: Any, *, features: bool = False) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        """Outputs (or pooled features) of the fitted network, one row per sample; NaN where one could not be read."""
        samples, stages = self._to_predict(X)
        return run_tuned(self._network_, stages, samples, self._bad_sample_policy(), self._task_, features=features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
