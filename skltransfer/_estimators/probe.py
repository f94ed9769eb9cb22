"""The probe as an estimator of scikit-learn: what :class:`FineTunedClassifier` and :class:`FineTunedRegressor` are at
``freeze_depth=1.0``, on features that are there already.

Must not know where features come from.
"""

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import type_of_target

from skltransfer.engine import ClassificationTask, MultilabelTask, RegressionTask, solved_probe


class LogisticProbe(ClassifierMixin, BaseEstimator):
    """Logistic regression on scaled features, one for each label of a 0/1 matrix.

    Parameters
    ----------
    C : float or "auto", default="auto"
        Inverse strength of the L2 penalty; see :class:`FineTunedClassifier`.
    """

    def __init__(self, C: float | str = "auto") -> None:
        self.C = C

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Learn from features (n, d) and labels (n,) or (n, labels); one label alone is what it will always say."""
        y = np.asarray(y)
        if type_of_target(y).startswith("multilabel"):
            self.classes_ = np.arange(y.shape[1])
            self._head, targets = MultilabelTask(self.classes_), y
        else:
            self.classes_ = np.unique(y)
            self._head = ClassificationTask(self.classes_)
            targets = self._head.encode(y)
        if len(self.classes_) > 1 or targets.ndim > 1:
            self._probe = solved_probe(self._head, X, targets, self.C)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Log-odds, (n,) for two classes, else (n, classes)."""
        return self._head.decision(self._probe.outputs(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, (n, classes)."""
        if len(self.classes_) == 1:
            return np.ones((len(X), 1))
        return self._head.probabilities(self._probe.outputs(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels, (n,) or (n, labels)."""
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(X))
        return self._head.decode(self._probe.outputs(X))


class RidgeProbe(RegressorMixin, BaseEstimator):
    """Ridge regression on scaled features.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty; see :class:`FineTunedRegressor`.
    """

    def __init__(self, alpha: float | str = "auto") -> None:
        self.alpha = alpha

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Learn from features (n, d) and numbers (n,) or (n, outputs)."""
        y = np.asarray(y, dtype=float)
        self._head = RegressionTask.fitted(y, np.ones(len(y)))
        self._probe = solved_probe(self._head, X, self._head.encode(y), self.alpha)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Numbers, (n,) or (n, outputs)."""
        return self._head.decode(self._probe.outputs(X))
