"""Samples that the user names to validate on: checked, encoded and put after those to train on.

Must not know how a network is trained.
"""

import copy
import numbers
from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from skltransfer._estimators.base import BackboneEstimator
from skltransfer.backbones import Backbone
from skltransfer.engine import Targets
from skltransfer.inputs import JoinedSamples, Samples


class Validates(BackboneEstimator):
    """Parent of the estimators whose ``fit`` takes ``X_val`` and ``y_val``."""

    _needs_target = True

    @abstractmethod
    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        """y as an array with an entry per sample, once what cannot be meant was refused."""

    @abstractmethod
    def _encode(self, y: np.ndarray, weights: np.ndarray) -> Targets:
        """Targets of y, one entry per sample; attributes that depend on y alone are set here."""

    def _with_validation(
        self, samples: Samples, y: np.ndarray, weights: np.ndarray, X_val: Any, y_val: Any, backbone: Backbone
    ) -> tuple[Samples, Targets, np.ndarray]:
        """Samples, targets and weights to train on, and after them those to validate on."""
        if X_val is None or (y_val is None and self._needs_target):
            missing = "X_val" if X_val is None else "y_val"
            raise ValueError(f"X_val and y_val belong together, but {missing} is None. Pass both, or neither.")
        known = [name for name in ("early_stopping", "calibrate") if hasattr(self, name)]
        if not any(getattr(self, name) for name in known):
            remedy = f"Set {' or '.join(known)}, or leave them out" if known else "Leave them out"
            raise ValueError(
                f"X_val and y_val are for early stopping and calibration, of which this {type(self).__name__} makes "
                f"none. {remedy}."
            )
        try:
            others = self._samples(X_val, backbone, reset=False)
            y_val = self._checked_validation_target(y_val, others, y)
            self._refuse_misfits(others, y_val, np.ones(len(others)), backbone)
        except ValueError as error:
            error.add_note("This is about X_val and y_val.")
            raise
        both, ones = np.concatenate([y, y_val]), np.ones(len(others))
        targets = self._encode(both, np.concatenate([weights, np.zeros(len(others))]))
        try:
            self._refuse_new_labels(both, np.concatenate([weights, ones]))
        except ValueError as error:
            error.add_note("This is about y_val.")
            raise
        return JoinedSamples([samples, others], ["X", "X_val"]), targets, np.concatenate([weights, ones])

    def _refuse_misfits(self, samples: Samples, y: np.ndarray, weights: np.ndarray, backbone: Backbone) -> None:
        """Raise if a target of positive weight is none that the network can have for its sample."""

    def _checked_validation_target(self, y_val: Any, samples: Samples, y: np.ndarray) -> np.ndarray:
        """y_val as an array of the same type as y."""
        y_val = self._checked_target(y_val, samples)
        if y.shape[1:] != y_val.shape[1:] or _are_numbers(y) != _are_numbers(y_val):
            raise ValueError(
                f"y has shape {y.shape} and dtype {y.dtype}, but y_val has shape {y_val.shape} and dtype "
                f"{y_val.dtype}. Pass targets of one kind."
            )
        if y.dtype.kind == "U":
            return y_val.astype(str)
        if y.dtype.kind == "O" or isinstance(self, RegressorMixin):
            return y_val.astype(object if y.dtype.kind == "O" else np.float64)
        cast = y_val.astype(y.dtype)
        if not (cast == y_val).all():
            raise _new_labels(y_val[cast != y_val].tolist())
        return cast

    def _refuse_new_labels(self, both: np.ndarray, weights: np.ndarray) -> None:
        """Raise if y_val has labels that y has not."""
        if not hasattr(self, "classes_"):
            return
        draft = copy.copy(self)
        del draft.classes_
        draft._encode(both, weights)
        ours, theirs = (one.classes_ if isinstance(one.classes_, list) else [one.classes_] for one in (self, draft))
        for known, found in zip(ours, theirs, strict=True):
            new = [] if known is None else np.setdiff1d(found, known).tolist()
            if new:
                raise _new_labels(new)


def _new_labels(labels: list[Any]) -> ValueError:
    return ValueError(
        f"y_val has the labels {labels[:5]!r}, which y has not. Leave these samples out of X_val, or add some of them "
        "to X."
    )


def _are_numbers(y: np.ndarray) -> bool:
    return y.dtype.kind in "biuf" or all(isinstance(one, numbers.Number) for one in y.ravel())
