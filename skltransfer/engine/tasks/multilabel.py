"""Several labels per sample, each present or not.

Must not know where features come from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit, log_expit
from torch.nn import functional as F

from skltransfer.engine.tasks.classification import ClassificationTask, mean_log_odds
from skltransfer.engine.tasks.probe import Penalty, Probe, Scaling, best_temperature, doubt_of
from skltransfer.engine.tasks.task import VectorTask


class MultilabelTask(VectorTask):
    """One output per label, each present or not, independently of the others.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Names of the labels: numbers of the target's columns.
    smoothing : float, default=0.0
        Label smoothing of the loss.
    temperature : float, default=1.0
        Number by which outputs are divided before they become probabilities.
    """

    def __init__(self, classes: np.ndarray, smoothing: float = 0.0, temperature: float = 1.0) -> None:
        self.classes, self.smoothing, self.temperature, self.n_outputs = classes, smoothing, temperature, len(classes)

    def calibrated(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> "MultilabelTask":
        """The same task at one temperature for all labels, found as :meth:`ClassificationTask.calibrated` does."""
        return self._at_best_temperature(outputs, targets, weights, doubt_of(weights))

    def _at_best_temperature(
        self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, doubt: float = 0.0
    ) -> "MultilabelTask":
        share, expected = weights / weights.sum(), np.where(targets == 1, 1 - doubt, doubt)

        def loss(temperature: float) -> float:
            logits = outputs / temperature
            return float(share @ (np.logaddexp(0, logits) - expected * logits).mean(1))

        return MultilabelTask(self.classes, self.smoothing, best_temperature(loss))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per sample, the mean over labels, (n,)."""
        soft = targets.to(outputs.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, soft, reduction="none").mean(1)

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: Penalty
    ) -> Probe:
        """A logistic regression per label; parameters as :meth:`ClassificationTask.solve_probe`'s, targets (n, k)."""
        one = ClassificationTask(np.array([0, 1]))
        probes = [one.solve_probe(features, column, weights, scaling, penalty) for column in targets.T]
        return Probe.side_by_side(probes)

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Log-odds of each label, (n, k)."""
        return outputs / self.temperature

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs -> probability of each label, (n, k); rows need not sum to 1."""
        return expit(outputs / self.temperature)

    def scores(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of :meth:`ClassificationTask.scores`, each the mean over labels."""
        logits = outputs / self._at_best_temperature(outputs, targets, weights).temperature
        right = (self.decode(outputs) == targets).mean(1)
        return {"accuracy": right, "neg_log_loss": (targets * logits - np.logaddexp(0, logits)).mean(1)}

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Logarithms of :meth:`probabilities`, finite where these are too small for a float."""
        return log_expit(outputs / self.temperature)

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, k) of one sample -> (k,) whose probabilities are the windows' mean."""
        return mean_log_odds(outputs)

    def exported(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Probabilities and indicators of labels, each (n, k)."""
        return {"probabilities": torch.sigmoid(outputs / self.temperature), "label": (outputs > 0).long()}

    def expected(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities, (n, k)."""
        return {"probabilities": self.probabilities(outputs)}

    def described(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """The labels, in order."""
        return {answer: {"classes": self.classes.tolist()} for answer in ("probabilities", "label")}

    @staticmethod
    def decode(outputs: np.ndarray) -> np.ndarray:
        """Outputs -> indicators of labels, (n, k) of 0 and 1."""
        return (outputs > 0).astype(int)
