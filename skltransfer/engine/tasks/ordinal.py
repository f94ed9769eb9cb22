"""Labels with an order, such as grades or stars: one of several classes, and how far it is from the others.

Must not know where features come from.
"""

import warnings

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logit
from sklearn.exceptions import ConvergenceWarning
from torch.nn import functional as F

from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.tasks.classification import (
    SOLVER_ITERATIONS,
    TOLERANCE,
    ClassificationTask,
    mean_log_odds,
)
from skltransfer.engine.tasks.probe import Penalty, Probe, Scaling, best_ridge

LEAST_WEIGHT = 1e-3  # of a class that no sample has, in those of a mean sample: none would ask for infinite thresholds


class OrdinalTask(ClassificationTask):
    """One output per sample, and one threshold between neighboring classes: proportional odds (McCullagh 1980).

    The log-odds of a class above the j-th are ``output - threshold[j]``. Thresholds increase, so no probability is
    negative. They are constants of the network: logarithms of their distances, relative to the distances at which an
    output of 0 makes all classes equally likely.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least three.
    ranks : ndarray of int, shape (k,)
        Position of each class in the order, from 0.
    smoothing : float, default=0.0
        Label smoothing of the loss; the probe is solved without.
    temperature : float, default=1.0
        Number by which log-odds are divided before they become probabilities.
    """

    def __init__(
        self, classes: np.ndarray, ranks: np.ndarray, smoothing: float = 0.0, temperature: float = 1.0
    ) -> None:
        super().__init__(classes, smoothing, temperature)
        self.ranks, self.n_outputs = ranks, 1

    @property
    def n_constants(self) -> int:
        """One for each threshold but the first, whose place is the head's bias."""
        return len(self.classes) - 2

    @property
    def _even(self) -> np.ndarray:
        """Log-odds of the classes above each threshold where all are equally likely, (k - 1,)."""
        k = len(self.classes)
        return logit(1 - np.arange(1, k) / k)

    @property
    def _by_rank(self) -> np.ndarray:
        """Positions of the classes in their order, (k,)."""
        return np.argsort(self.ranks)

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if classes, their order and the outputs of the network do not go together."""
        k = len(self.classes)
        whole = vars(OrdinalTask(np.arange(3), np.arange(3))).keys()
        is_order = k > 2 and sorted(np.asarray(self.ranks).tolist()) == list(range(k))
        if vars(self).keys() != whole or not is_order or (spec.n_outputs, spec.n_constants) != (1, k - 2):
            raise ValueError(
                f"{k} classes of ranks {self.ranks!r}, {spec.n_outputs} outputs, {spec.n_constants} constants"
            )
        super().refuse_unless_it_reads(spec)

    def _gaps(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs and constants (n, 1 + k - 2) -> distances of the thresholds, (n, k - 2)."""
        even = outputs.new_tensor(self._even)
        return (even[:-1] - even[1:]) * outputs[:, 1:].exp() / self.temperature

    def _above(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs and constants (n, 1 + k - 2) -> log-odds of the classes above each threshold, (n, k - 1)."""
        first = (outputs[:, :1] + float(self._even[0])) / self.temperature
        return first - F.pad(self._gaps(outputs).cumsum(1), (1, 0))

    def _log_p(self, outputs: torch.Tensor) -> torch.Tensor:
        """Logarithms of the probabilities by rank, (n, k)."""
        above = self._above(outputs)  # a class is above one threshold and not above the next
        both = torch.log(-torch.expm1(-self._gaps(outputs)))
        return F.pad(F.logsigmoid(above), (1, 0)) + F.pad(F.logsigmoid(-above), (0, 1)) + F.pad(both, (1, 1))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per sample, (n,)."""
        log_p = self._log_p(outputs)
        ranks = torch.as_tensor(self.ranks, device=targets.device)[targets]
        own = log_p.gather(1, ranks[:, None])[:, 0]
        return -(1 - self.smoothing) * own - self.smoothing * log_p.mean(1) if self.smoothing else -own

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: Penalty
    ) -> Probe:
        """The proportional odds model with an L2 penalty, whose loss is convex in weights and thresholds (Pratt 1981).

        ``penalty`` is ``C`` as :meth:`ClassificationTask.solve_probe`'s. ``"auto"`` is ``1 / (h alpha)``, where
        ``alpha`` is the :func:`best_ridge` for the derivatives of the loss at weights of zero, and ``h`` is its mean
        second derivative there; of two classes of equal size that is ``4 / alpha``.
        """
        (mean, scale), k = scaling, len(self.classes)
        absent = np.flatnonzero(np.bincount(targets.astype(int), weights, minlength=k) == 0)
        z = np.vstack([(features - mean) / scale, np.zeros((len(absent), features.shape[1]))])
        weights = np.concatenate([weights, np.full(len(absent), LEAST_WEIGHT * weights.mean())])
        targets = np.concatenate([targets, absent]).astype(int)
        ranks, d = self.ranks[targets], z.shape[1]
        above = np.array([weights[ranks > j].sum() for j in range(k - 1)]) / weights.sum()
        if penalty == "auto":
            ends = np.concatenate([[1.0], above, [0.0]])
            slope = 1 - ends[ranks] - ends[ranks + 1]
            curvature = weights @ (ends * (1 - ends))[np.stack([ranks, ranks + 1])].sum(0) / weights.sum()
            penalty = 1 / (curvature * best_ridge(z, slope[:, None], weights))
        found = self._minimized(z, targets, weights, float(penalty), self._as_outputs(logit(above)))
        weight, bias, constants = found.x[None, :d], found.x[d : d + 1], found.x[d + 1 :]
        outputs = np.column_stack([z @ weight.T + bias, np.tile(constants, (len(z), 1))])
        loss = self._mean_loss(outputs, targets, weights)
        return Probe(mean, scale, weight, bias, max(1, int(found.nit)), loss, constants)

    def _as_outputs(self, above: np.ndarray) -> np.ndarray:
        """Log-odds of the classes above each threshold, (k - 1,) -> output and constants, (1 + k - 2,)."""
        even, gaps = self._even, np.maximum(above[:-1] - above[1:], np.finfo(float).tiny)
        return np.concatenate([above[:1] - even[:1], np.log(gaps / (even[:-1] - even[1:]))])

    def _minimized(self, z: np.ndarray, targets: np.ndarray, weights: np.ndarray, C: float, start: np.ndarray):
        """Weights, bias and constants, (d + 1 + k - 2,), of the least penalized loss."""
        (n, d), given, share = z.shape, torch.tensor(z), torch.tensor(weights / weights.sum())
        labels, strength = torch.tensor(targets), 1 / (C * weights.sum())
        plain = OrdinalTask(self.classes, self.ranks)

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            free = torch.tensor(x, requires_grad=True)
            outputs = torch.cat([(given @ free[:d] + free[d])[:, None], free[d + 1 :].expand(n, -1)], dim=1)
            value = share @ plain.loss(outputs, labels) + 0.5 * strength * (free[:d] ** 2).sum()
            (gradient,) = torch.autograd.grad(value, free)
            return value.item(), gradient.numpy()

        how = {"maxiter": SOLVER_ITERATIONS, "gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps, "maxls": 50}
        begin = np.concatenate([np.zeros(d), start])
        found = minimize(objective, begin, jac=True, method="L-BFGS-B", options=how)
        if found.nit >= SOLVER_ITERATIONS:
            warnings.warn(
                f"The probe has not converged in {SOLVER_ITERATIONS} steps.", ConvergenceWarning, stacklevel=2
            )
        return found

    def _mean_loss(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, doubt: float = 0.0) -> float:
        """Weighted mean cross-entropy; ``doubt`` is the share of the other classes."""
        log_p = self.log_probabilities(outputs)
        own = log_p[np.arange(len(targets)), targets]
        losses = -(1 - doubt) * own - doubt * (log_p.sum(axis=1) - own) / (len(self.classes) - 1)
        return float(weights @ losses / weights.sum())

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Expected distance to each class, in ranks, times -1, (n, k); the largest is that of the median."""
        return -self.probabilities(outputs) @ np.abs(self.ranks[:, None] - self.ranks)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs and constants -> (n, k), rows of float64 that sum to 1."""
        return np.exp(self.log_probabilities(outputs))

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Logarithms of :meth:`probabilities`, finite where these are too small for a float."""
        return self._log_p(torch.tensor(outputs)).numpy()[:, self.ranks]

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs and constants (windows, 1 + k - 2) of one sample -> (1 + k - 2,) whose probabilities, before a
        temperature, are the windows' mean."""
        return self._as_outputs(mean_log_odds(self._at(1.0)._above(torch.tensor(outputs)).numpy()))

    def exported(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Probabilities (n, k), and positions of the median labels in ``classes``, (n,)."""
        log_odds = self._above(outputs)
        above = torch.sigmoid(log_odds)
        by_rank = F.pad(above, (1, 0), value=1.0) - F.pad(above, (0, 1))
        label = torch.tensor(self._by_rank)[(log_odds > 0).sum(1)]
        return {"probabilities": by_rank[:, torch.tensor(self.ranks)], "label": label}

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs -> labels: the median, whose expected distance to the true class is least."""
        ranks = (self._above(torch.tensor(outputs)) > 0).sum(1).numpy()
        return self.classes[self._by_rank[ranks]]
