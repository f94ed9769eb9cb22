"""What a task means: how targets are encoded, what is lost, how outputs are read, and the probe in closed form or
solved to convergence. Must not know where features come from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.linalg import eigh, solve
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax, logsumexp, softmax
from torch.nn import functional as F

SOLVER_ITERATIONS = 1000
LEAST_SCALE = 1.0  # of a feature, relative to all
RIDGES = np.logspace(-2, 1.5, 15)  # candidates of a ridge's alpha, per feature
AS_GOOD = 1e-6  # relative difference of two candidates' errors below which the stronger one is taken
Scaling = tuple[np.ndarray, np.ndarray]
Strength = float | str


@dataclass(frozen=True)
class Probe:
    """A linear head on standardised features.

    Attributes
    ----------
    mean, scale : ndarray of shape (d,)
        Of the features; ``(features - mean) / scale`` enters the linear map.
    weight : ndarray of shape (n_outputs, d)
    bias : ndarray of shape (n_outputs,)
    n_iter : int
        Iterations of the solver.
    loss : float
        Mean weighted training loss, without the penalty.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    n_iter: int
    loss: float

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Of the linear map, (n, n_outputs)."""
        return (features - self.mean) / self.scale @ self.weight.T + self.bias


class Head(Protocol):
    """What a network's outputs mean: whoever trains, predicts, saves or exports asks it, and knows no kind of target.

    Those of one target have ``scores`` too, by which fits are compared, and those of labels ``calibrated``.

    Attributes
    ----------
    n_outputs : int
    n_constants : int
        Trained outputs after those, the same for all samples.
    """

    n_outputs: int
    n_constants: int

    def strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Groups that keep their shares when a part is held out; None where there are none."""

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, strength: Any
    ) -> Probe:
        """The linear head on features that stay as they are, (n, d)."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of each sample, (n,), so that weights mean what they mean."""

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, n_outputs) of one sample -> (n_outputs,)."""

    def decode(self, outputs: np.ndarray) -> Any:
        """Outputs (n, n_outputs) -> what ``predict`` returns."""

    def answers(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs -> what a client of an exported network is told, by name; without a branch on values."""

    def expected_answers(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Those of the answers that an estimator gives as numbers, in float64."""

    def described_answers(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """What a client needs to know of each answer; ``names`` are those of several tasks."""


def standardisation(features: np.ndarray, weights: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean per feature, and scales by which their variances are 1 on average; a constant feature has scale 1.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    weights : ndarray of shape (n,)
    floor : float, default=0.0
        Least standard deviation that counts, as a fraction of the root mean square of all. Without it each feature has
        its own, and one that is nearly constant among these samples is enormous in the first sample where it is not:
        networks with rectified units have many. Where the features still move, one small step of the backbone would
        swamp the head.
    """
    total = weights.sum()
    mean = weights @ features / total
    variance = weights @ (features - mean) ** 2 / total
    scale = np.maximum(np.sqrt(variance), floor * np.sqrt(variance.mean()))
    scale = np.where(scale > 1e-8 * np.maximum(1.0, np.abs(mean)), scale, 1.0)
    level = (variance / scale**2).mean() if floor else 1.0
    return mean, scale * np.sqrt(level) if level > 0 else scale


def best_ridge(z: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """The ``alpha`` of a ridge regression with an intercept that has the least error under generalized
    cross-validation (Golub, Heath & Wahba 1979), among ``RIDGES`` times the number of features.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Scaled features.
    targets : ndarray of shape (n, k)
        Errors are summed over columns.
    weights : ndarray of shape (n,)
        A row of weight 2 counts as two rows.
    """
    return float(_least(_errors_of_ridges(z, targets, weights).sum(1), z.shape[1]))


def best_ridges(z: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The :func:`best_ridge` of each column of ``targets``, (k,)."""
    return np.array([_least(errors, z.shape[1]) for errors in _errors_of_ridges(z, targets, weights).T])


def _least(errors: np.ndarray, n_features: int) -> float:
    """The strongest of the ridges that are as good as the best."""
    return n_features * RIDGES[errors <= errors.min() * (1 + AS_GOOD)].max()


def _errors_of_ridges(z: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Generalized cross-validation of each candidate on each column of ``targets``, (candidates, k)."""
    total, root = weights.sum(), np.sqrt(weights)[:, None]
    z = root * (z - weights @ z / total)
    targets = root * (targets - weights @ targets / total)
    n, d = z.shape
    if d <= n:
        values, vectors = eigh(z.T @ z)
        energies = (vectors.T @ (z.T @ targets)) ** 2 / np.maximum(values, np.finfo(float).tiny)[:, None]
    else:
        values, vectors = eigh(z @ z.T)
        energies = (vectors.T @ targets) ** 2
    seen = values > max(values[-1], 0) * max(n, d) * np.finfo(float).eps
    values, energies = values[seen], energies[seen]  # (r,), (r, k)
    unseen = np.maximum((targets**2).sum(0) - energies.sum(0), 0.0)
    left = RIDGES[:, None] / (RIDGES[:, None] + values / d)  # (candidates, r): what each ridge leaves unexplained
    freedom = np.repeat((total - 1 - (1 - left).sum(1))[:, None], targets.shape[1], axis=1)
    errors = np.full(freedom.shape, np.inf)
    np.divide(left**2 @ energies + unseen, freedom**2, out=errors, where=freedom > 0)
    return errors


class ClassificationHead:
    """One output for two classes, else one per class.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least two.
    smoothing : float, default=0.0
        Label smoothing (Szegedy et al. 2016) of the loss; the probe is solved without.
    temperature : float, default=1.0
        What outputs are divided by before they become probabilities.
    """

    n_constants = 0

    def __init__(self, classes: np.ndarray, smoothing: float = 0.0, temperature: float = 1.0) -> None:
        self.classes, self.smoothing, self.temperature = classes, smoothing, temperature
        self.n_outputs = 1 if len(classes) == 2 else len(classes)

    def calibrated(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> "ClassificationHead":
        """The same head at the temperature (Guo et al. 2017) that makes held-out labels most likely."""
        value = _binary_value if self.n_outputs == 1 else _multinomial_value
        temperature = best_temperature(lambda t: value(outputs / t, targets, weights / weights.sum())[0])
        return ClassificationHead(self.classes, self.smoothing, temperature)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Labels -> positions in ``classes``."""
        return np.searchsorted(self.classes, y)

    @staticmethod
    def strata(targets: np.ndarray) -> np.ndarray:
        """Groups that keep their shares when a part is held out."""
        return targets

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per sample, (n,)."""
        if self.n_outputs > 1:
            return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.smoothing)
        soft = targets.to(outputs.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs[:, 0], soft, reduction="none")

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, strength: Strength
    ) -> Probe:
        """L2-penalised logistic regression by L-BFGS; ``strength`` is scikit-learn's ``C``.

        ``"auto"`` is ``4 / alpha``, where ``alpha`` is the :func:`best_ridge` for indicators of the classes: near
        outputs of zero, where a probability is a half and a quarter of the output, that is the same penalty.

        Parameters
        ----------
        features : ndarray of shape (n, d)
        targets : ndarray of int, shape (n,)
        weights : ndarray of shape (n,)
            Of samples in the loss.
        scaling : (mean, scale), each ndarray of shape (d,)
            Of the features.
        strength : float or "auto"
        """
        mean, scale = scaling
        z = (features - mean) / scale
        if strength == "auto":
            strength = 4 / best_ridge(z, np.eye(len(self.classes))[targets.astype(int)], weights)
        z = np.hstack([z, np.ones((len(features), 1))])
        k, d = self.n_outputs, z.shape[1]
        penalty = np.r_[np.full(d - 1, 1 / strength), 0.0] / weights.sum()
        share = weights / weights.sum()
        value = _binary_value if k == 1 else _multinomial_value

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w = flat.reshape(k, d)
            loss, slope = value(z @ w.T, targets, share)
            return loss + 0.5 * (penalty * w**2).sum(), (slope.T @ z + penalty * w).ravel()

        options = {"maxiter": SOLVER_ITERATIONS, "gtol": 1e-7, "ftol": 1e-14, "maxls": 50}
        found = minimize(objective, np.zeros(k * d), jac=True, method="L-BFGS-B", options=options)
        w = found.x.reshape(k, d)
        return Probe(mean, scale, w[:, :-1], w[:, -1], max(1, found.nit), float(value(z @ w.T, targets, share)[0]))

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
        log_p = self.calibrated(outputs, targets, weights).log_probabilities(outputs)
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
            return _mean_log_odds(outputs)
        return logsumexp(log_softmax(outputs, axis=1), axis=0) - np.log(len(outputs))

    def answers(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Probabilities (n, k), and positions of labels in ``classes``, (n,)."""
        logits = outputs / self.temperature
        if self.n_outputs == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        probabilities = torch.softmax(logits, dim=1)
        return {"probabilities": probabilities, "label": probabilities.argmax(1)}

    def expected_answers(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities, (n, k)."""
        return {"probabilities": self.probabilities(outputs)}

    def described_answers(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """The classes, in order."""
        return {answer: {"classes": self.classes.tolist()} for answer in ("probabilities", "label")}

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs -> labels."""
        best = (outputs[:, 0] > 0).astype(int) if self.n_outputs == 1 else outputs.argmax(1)
        return self.classes[best]


def _mean_log_odds(outputs: np.ndarray) -> np.ndarray:
    """Log-odds (windows, k) -> (k,) whose probabilities are the windows' mean, without rounding these to 0 or 1."""
    return logsumexp(log_expit(outputs), axis=0) - logsumexp(log_expit(-outputs), axis=0)


def best_temperature(loss: Callable[[float], float]) -> float:
    """Where a loss is least, between 1/50 and 50."""
    found = minimize_scalar(lambda log_t: loss(math.exp(log_t)), bounds=(-math.log(50), math.log(50)), method="bounded")
    return math.exp(found.x)


def _binary_value(outputs: np.ndarray, targets: np.ndarray, share: np.ndarray) -> tuple[float, np.ndarray]:
    logit = outputs[:, 0]
    loss = share @ (np.logaddexp(0, logit) - targets * logit)
    return loss, (share * (expit(logit) - targets))[:, None]


def _multinomial_value(outputs: np.ndarray, targets: np.ndarray, share: np.ndarray) -> tuple[float, np.ndarray]:
    rows = np.arange(len(targets))
    log_p = log_softmax(outputs, axis=1)
    slope = np.exp(log_p)
    slope[rows, targets] -= 1
    return -(share @ log_p[rows, targets]), share[:, None] * slope


class MultilabelHead:
    """One output per label, each present or not, whatever the others are.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Names of the labels: numbers of the target's columns.
    smoothing : float, default=0.0
        Label smoothing of the loss.
    temperature : float, default=1.0
        What outputs are divided by before they become probabilities.
    """

    n_constants = 0

    def __init__(self, classes: np.ndarray, smoothing: float = 0.0, temperature: float = 1.0) -> None:
        self.classes, self.smoothing, self.temperature, self.n_outputs = classes, smoothing, temperature, len(classes)

    def calibrated(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> "MultilabelHead":
        """The same head at the one temperature that makes held-out labels most likely."""
        share = weights / weights.sum()

        def loss(temperature: float) -> float:
            logits = outputs / temperature
            return float(share @ (np.logaddexp(0, logits) - targets * logits).mean(1))

        return MultilabelHead(self.classes, self.smoothing, best_temperature(loss))

    @staticmethod
    def strata(targets: np.ndarray) -> None:
        """There are too many combinations of labels to keep the shares of."""
        return None

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per sample, the mean over labels, (n,)."""
        soft = targets.to(outputs.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, soft, reduction="none").mean(1)

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, strength: Strength
    ) -> Probe:
        """A logistic regression per label; parameters as :meth:`ClassificationHead.solve_probe`'s, targets (n, k)."""
        one = ClassificationHead(np.array([0, 1]))
        probes = [one.solve_probe(features, column, weights, scaling, strength) for column in targets.T]
        return Probe(
            *scaling,
            np.vstack([probe.weight for probe in probes]),
            np.concatenate([probe.bias for probe in probes]),
            max(probe.n_iter for probe in probes),
            float(np.mean([probe.loss for probe in probes])),
        )

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Log-odds of each label, (n, k)."""
        return outputs / self.temperature

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs -> probability of each label, (n, k); rows sum to whatever they do."""
        return expit(outputs / self.temperature)

    def scores(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """As :meth:`ClassificationHead.scores`, each the mean over labels."""
        logits = outputs / self.calibrated(outputs, targets, weights).temperature
        right = (self.decode(outputs) == targets).mean(1)
        return {"accuracy": right, "neg_log_loss": (targets * logits - np.logaddexp(0, logits)).mean(1)}

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Logarithms of :meth:`probabilities`, finite where these are too small for a float."""
        return log_expit(outputs / self.temperature)

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, k) of one sample -> (k,) whose probabilities are the windows' mean."""
        return _mean_log_odds(outputs)

    def answers(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Probabilities and indicators of labels, each (n, k)."""
        return {"probabilities": torch.sigmoid(outputs / self.temperature), "label": (outputs > 0).long()}

    def expected_answers(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities, (n, k)."""
        return {"probabilities": self.probabilities(outputs)}

    def described_answers(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """The labels, in order."""
        return {answer: {"classes": self.classes.tolist()} for answer in ("probabilities", "label")}

    @staticmethod
    def decode(outputs: np.ndarray) -> np.ndarray:
        """Outputs -> indicators of labels, (n, k) of 0 and 1."""
        return (outputs > 0).astype(int)


class RegressionHead:
    """One output per target, trained on the standardised targets.

    Parameters
    ----------
    mean, scale : ndarray of shape (outputs,)
        Of the training targets.
    is_flat : bool
        Whether there is one target, and predictions are (n,).
    """

    n_constants = 0

    def __init__(self, mean: np.ndarray, scale: np.ndarray, is_flat: bool) -> None:
        self.mean, self.scale, self.is_flat, self.n_outputs = mean, scale, is_flat, len(mean)

    @classmethod
    def fitted(cls, y: np.ndarray, weights: np.ndarray) -> "RegressionHead":
        """The head whose standardisation is that of these targets, (n,) or (n, outputs)."""
        mean, scale = standardisation(y.reshape(len(y), -1).astype(float), weights)
        return cls(mean, scale, y.ndim == 1)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Targets -> standardised targets, (n, outputs)."""
        return (y.reshape(len(y), -1) - self.mean) / self.scale

    @staticmethod
    def strata(targets: np.ndarray) -> None:
        """There are no groups among numbers."""
        return None

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Squared error per sample, the mean over targets, (n,)."""
        return ((outputs - targets.to(outputs.dtype)) ** 2).mean(1)

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, strength: Strength
    ) -> Probe:
        """Ridge regression in closed form, in the smaller dimension; ``strength`` is scikit-learn's ``alpha``, and
        ``"auto"`` is the :func:`best_ridges` of the targets."""
        mean, scale = scaling
        if strength == "auto":
            strengths = best_ridges((features - mean) / scale, targets, weights)
        else:
            strengths = np.full(self.n_outputs, float(strength))
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
        """1 less the squared error of each sample's standardised targets, (n,)."""
        return {"r2": 1 - ((outputs - targets) ** 2).mean(1)}

    def answers(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Targets in their own unit, in float64."""
        values = outputs.double() * torch.tensor(self.scale) + torch.tensor(self.mean)
        return {"prediction": values[:, 0] if self.is_flat else values}

    def expected_answers(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Targets in their own unit."""
        return {"prediction": self.decode(outputs)}

    def described_answers(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
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


def solved_probe(head: Head, features: np.ndarray, targets: np.ndarray, strength: Strength) -> Probe:
    """The probe on features that stay as they are.

    Parameters
    ----------
    head : Head
    features : ndarray of shape (n, d)
    targets : ndarray of shape (n,) or (n, outputs)
        In the head's terms.
    strength : float or "auto"
    """
    features, weights = np.asarray(features, dtype=np.float64), np.ones(len(features))
    scaling = standardisation(features, weights, LEAST_SCALE)
    return head.solve_probe(features, targets, weights, scaling, strength)
