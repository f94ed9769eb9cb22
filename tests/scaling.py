"""The scaling of the probe, written once more with scikit-learn's names."""

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class ClippedScaler(TransformerMixin, BaseEstimator):
    """Divides each feature by its standard deviation, or by the root mean square of all where that is more; then all of
    them so that their mean variance is 1.
    """

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        X = np.asarray(X, dtype=float)
        self.mean_, deviation = X.mean(0), X.std(0)
        scale = np.maximum(deviation, np.sqrt((deviation**2).mean()))
        self.scale_ = scale * np.sqrt((deviation**2 / scale**2).mean())
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return (np.asarray(X, dtype=float) - self.mean_) / self.scale_
