"""Labels: one of several classes.

Must not know where features come from.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from skltransfer.engine.tasks.probe import Penalty, Probe, Scaling, best_ridge, best_temperature, doubt_of
from skltransfer.engine.tasks.targets import ArrayTargets
from skltransfer.engine.tasks.task import VectorTask

SOLVER_ITERATIONS, TOLERANCE = 1000, 1e-7


class ClassificationTask(VectorTask):
    """One output for two classes, else one per class.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least two.
    smoothing : float, default=0.0
        Label smoothing (Szegedy et al. 2016) of the loss; the probe is solved without.
    temperature : float, default=1.0
        Number by which outputs are divided before they become probabilities.
    """

    def __init__(self, classes: np.ndarray, smoothing: float = 0.0, temperature: float = 1.0) -> None:
        self.classes, self.smoothing, self.temperature = classes, smoothing, temperature
        self.n_outputs = 1 if len(classes) == 2 else len(classes)

    def calibrated(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Self:
        """The same task at the temperature (Guo et al. 2017) that makes held-out labels most likely.

        Labels count as a little uncertain, the less the more there are: otherwise a few samples that are all classified
        correctly would make every prediction certain.
        """
        return self._at_best_temperature(outputs, targets, weights, doubt_of(weights))

    def _at_best_temperature(
        self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, doubt: float = 0.0
    ) -> Self:
        temperature = best_temperature(lambda t: self._at(t)._mean_loss(outputs, targets, weights, doubt))
        return self._at(temperature)

    def _at(self, temperature: float) -> Self:
        other = copy.copy(self)
        other.temperature = temperature
        return other

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Labels -> positions in ``classes``."""
        return np.searchsorted(self.classes, y)

    def strata(self, targets: ArrayTargets) -> np.ndarray:
        """The labels."""
        return targets.values

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per sample, (n,)."""
        if self.n_outputs > 1:
            return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.smoothing)
        soft = targets.to(outputs.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs[:, 0], soft, reduction="none")

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: Penalty
    ) -> Probe:
        """scikit-learn's L2-penalized logistic regression; ``penalty`` is its ``C``.

        ``"auto"`` is ``4 / alpha``, where ``alpha`` is the :func:`best_ridge` for indicators of the classes: near
        outputs of zero, where a probability is a half and a quarter of the output, that is the same penalty.

        Parameters
        ----------
        features : ndarray of shape (n, d)
            Features of the samples.
        targets : ndarray of int, shape (n,)
            Positions of the labels among the classes.
        weights : ndarray of shape (n,)
            Weights of the samples in the loss.
        scaling : (mean, scale), each ndarray of shape (d,)
            Mean and scale of the features.
        penalty : float or "auto"
            Inverse strength of the penalty, or ``"auto"``.
        """
        mean, scale = scaling
        z = (features - mean) / scale
        if penalty == "auto":
            penalty = 4 / best_ridge(z, np.eye(len(self.classes))[targets.astype(int)], weights)
        absent = np.setdiff1d(np.arange(len(self.classes)), targets)  # a row without weight makes a class known
        model = LogisticRegression(C=penalty, tol=TOLERANCE, max_iter=SOLVER_ITERATIONS).fit(
            np.vstack([z, np.zeros((len(absent), z.shape[1]))]),
            np.concatenate([targets, absent]).astype(int),
            np.concatenate([weights, np.zeros(len(absent))]),
        )
        loss = self._mean_loss(z @ model.coef_.T + model.intercept_, targets, weights)
        return Probe(mean, scale, model.coef_, model.intercept_, max(1, int(model.n_iter_[0])), loss)

    def _mean_loss(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, doubt: float = 0.0) -> float:
        """Weighted mean cross-entropy of outputs (n, n_outputs); ``doubt`` is the share of the other classes."""
        outputs = outputs / self.temperature
        if self.n_outputs == 1:
            losses = np.logaddexp(0, outputs[:, 0]) - np.where(targets == 1, 1 - doubt, doubt) * outputs[:, 0]
        else:
            log_p = log_softmax(outputs, axis=1)
            own = log_p[np.arange(len(targets)), targets]
            losses = -(1 - doubt) * own - doubt * (log_p.sum(axis=1) - own) / (self.n_outputs - 1)
        return float(weights @ losses / weights.sum())

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (n, n_outputs) -> what ``decision_function`` returns: (n,) for two classes."""
        logits = outputs / self.temperature
        return logits[:, 0] if self.n_outputs == 1 else logits

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (n, n_outputs) -> (n, k), rows of float64 that sum to 1."""
        if self.n_outputs > 1:
            return softmax(outputs / self.temperature, axis=1)
        logits = outputs[:, 0] / self.temperature
        return np.column_stack([expit(-logits), expit(logits)])

    def scores(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each sample, (n,), by name; higher is better.

        Log loss is computed after temperature scaling on these samples, because a trained network is overconfident and
        calibration can correct that.
        """
        log_p = self._at_best_temperature(outputs, targets, weights).log_probabilities(outputs)
        right = (self.decode(outputs) == self.classes[targets]).astype(float)
        return {"accuracy": right, "neg_log_loss": log_p[np.arange(len(targets)), targets]}

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Logarithms of :meth:`probabilities`, finite where these are too small for a float."""
        logits = outputs / self.temperature
        if self.n_outputs > 1:
            return log_softmax(logits, axis=1)
        return log_expit(np.column_stack([-logits[:, 0], logits[:, 0]]))

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, n_outputs) of one sample -> (n_outputs,) whose probabilities, before a
        temperature, are the windows' mean."""
        if self.n_outputs == 1:
            return mean_log_odds(outputs)
        return logsumexp(log_softmax(outputs, axis=1), axis=0) - np.log(len(outputs))

    def exported(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Probabilities (n, k), and positions of labels in ``classes``, (n,)."""
        logits = outputs / self.temperature
        if self.n_outputs == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        probabilities = torch.softmax(logits, dim=1)
        return {"probabilities": probabilities, "label": probabilities.argmax(1)}

    def expected(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities, (n, k)."""
        return {"probabilities": self.probabilities(outputs)}

    def described(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """The classes, in order."""
        return {answer: {"classes": self.classes.tolist()} for answer in ("probabilities", "label")}

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs -> labels."""
        best = (outputs[:, 0] > 0).astype(int) if self.n_outputs == 1 else outputs.argmax(1)
        return self.classes[best]


def mean_log_odds(outputs: np.ndarray) -> np.ndarray:
    """Log-odds (windows, k) -> (k,) whose probabilities are the windows' mean, without rounding these to 0 or 1."""
    return logsumexp(log_expit(outputs), axis=0) - logsumexp(log_expit(-outputs), axis=0)
