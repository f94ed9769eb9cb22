"""Numbers: one target or several.

Must not know where features come from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import solve

from skltransfer.engine.tasks.probe import Penalty, Probe, Scaling, best_ridges, standardisation
from skltransfer.engine.tasks.task import VectorTask


class RegressionTask(VectorTask):
    """One output per target, trained on the standardized targets.

    Parameters
    ----------
    mean, scale : ndarray of shape (outputs,)
        Mean and scale of the training targets.
    is_flat : bool
        True if there is one target and predictions have the shape (n,).
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, is_flat: bool) -> None:
        self.mean, self.scale, self.is_flat, self.n_outputs = mean, scale, is_flat, len(mean)

    @classmethod
    def fitted(cls, y: np.ndarray, weights: np.ndarray) -> "RegressionTask":
        """The head whose standardisation is that of these targets, (n,) or (n, outputs)."""
        mean, scale = standardisation(y.reshape(len(y), -1).astype(float), weights)
        return cls(mean, scale, y.ndim == 1)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Targets -> standardized targets, (n, outputs)."""
        return (y.reshape(len(y), -1) - self.mean) / self.scale

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Squared error per sample, the mean over targets, (n,)."""
        return ((outputs - targets.to(outputs.dtype)) ** 2).mean(1)

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: Penalty
    ) -> Probe:
        """Ridge regression in closed form, in the smaller dimension; ``penalty`` is scikit-learn's ``alpha``, and
        ``"auto"`` is the :func:`best_ridges` of the targets."""
        mean, scale = scaling
        if penalty == "auto":
            strengths = best_ridges((features - mean) / scale, targets, weights)
        else:
            strengths = np.full(self.n_outputs, float(penalty))
        root = np.sqrt(weights)[:, None]
        centre = weights @ ((features - mean) / scale) / weights.sum()
        offset = weights @ targets / weights.sum()
        z = root * ((features - mean) / scale - centre)
        t = root * (targets - offset)
        n, d = z.shape
        w = np.empty((d, self.n_outputs))
        for alpha in np.unique(strengths):
            own = strengths == alpha
            if d <= n:
                w[:, own] = solve(z.T @ z + alpha * np.eye(d), z.T @ t[:, own], assume_a="sym")
            else:
                w[:, own] = z.T @ solve(z @ z.T + alpha * np.eye(n), t[:, own], assume_a="sym")
        loss = float(((z @ w - t) ** 2).sum() / weights.sum() / self.n_outputs)
        return Probe(mean, scale, w.T, offset - centre @ w, 1, loss)

    @staticmethod
    def scores(outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """1 less the squared error of each sample's standardized targets, (n,)."""
        return {"r2": 1 - ((outputs - targets) ** 2).mean(1)}

    def exported(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Targets in their own unit, in float64."""
        values = outputs.double() * torch.tensor(self.scale) + torch.tensor(self.mean)
        return {"prediction": values[:, 0] if self.is_flat else values}

    def expected(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Targets in their own unit."""
        return {"prediction": self.decode(outputs)}

    def described(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """The unit in which errors count."""
        return {"prediction": {"mean": self.mean.tolist(), "scale": self.scale.tolist()}}

    @staticmethod
    def probabilities(outputs: np.ndarray) -> None:
        """Numbers have none."""
        return None

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs -> targets in their own unit, (n,) or (n, outputs)."""
        values = outputs * self.scale + self.mean
        return values[:, 0] if self.is_flat else values

    @staticmethod
    def of_windows(outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, n_outputs) of one sample -> their mean, (n_outputs,)."""
        return outputs.mean(0)
