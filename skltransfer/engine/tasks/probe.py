"""The probe, a linear head on features that stay as they are: how features are scaled, and how strong its penalty is.

Must not know what targets mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

LEAST_SCALE = 1.0  # of a feature, relative to all
RIDGES = np.logspace(-2, 1.5, 15)  # candidates of a ridge's alpha, per feature
AS_GOOD = 1e-6  # relative difference of two candidates' errors below which the stronger one is taken
Scaling = tuple[np.ndarray, np.ndarray]
Penalty = float | str


@dataclass(frozen=True)
class Probe:
    """A linear head on standardized features.

    Attributes
    ----------
    mean, scale : ndarray of shape (d,)
        Mean and scale of the features; ``(features - mean) / scale`` enters the linear map.
    weight : ndarray of shape (n_outputs, d)
        Weights of the linear map.
    bias : ndarray of shape (n_outputs,)
        Intercepts of the linear map.
    n_iter : int
        Number of solver iterations.
    loss : float
        Mean weighted training loss, without the penalty.
    constants : ndarray of shape (n_constants,)
        Further outputs that are the same for all samples.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    n_iter: int
    loss: float
    constants: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def side_by_side(cls, probes: Sequence["Probe"]) -> "Probe":
        """One probe with the outputs of several on the same scaled features; its loss is their mean."""
        return cls(
            probes[0].mean,
            probes[0].scale,
            np.vstack([probe.weight for probe in probes]),
            np.concatenate([probe.bias for probe in probes]),
            max(probe.n_iter for probe in probes),
            float(np.mean([probe.loss for probe in probes])),
        )

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Outputs of the linear map, (n, n_outputs)."""
        return (features - self.mean) / self.scale @ self.weight.T + self.bias


def standardisation(features: np.ndarray, weights: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean per feature, and scales by which their variances are 1 on average; a constant feature has scale 1.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Features of the samples.
    weights : ndarray of shape (n,)
        Weights of the samples.
    floor : float, default=0.0
        Least standard deviation that counts, as a fraction of the root mean square of all. Without it each feature has
        its own, and one that is nearly constant among these samples is enormous in the first sample where it is not:
        networks with rectified units have many. Where the features still move, one small step of the backbone would
        swamp the head.
    """
    total = weights.sum()
    mean = weights @ features / total
    return mean, scales_of(mean, weights @ (features - mean) ** 2 / total, floor)


def scales_of(mean: np.ndarray, variance: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Scales of features of these means and variances, (d,); see :func:`standardisation`."""
    scale = np.maximum(np.sqrt(variance), floor * np.sqrt(variance.mean()))
    scale = np.where(scale > 1e-8 * np.maximum(1.0, np.abs(mean)), scale, 1.0)
    level = (variance / scale**2).mean() if floor else 1.0
    return scale * np.sqrt(level) if level > 0 else scale


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


def best_grouped_ridge(z: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> float:
    """The :func:`best_ridge` where rows of a group are alike, such as pixels of an image: by cross-validation in three
    folds, each of whole groups.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Scaled features.
    targets : ndarray of shape (n, k)
        Errors are summed over columns.
    weights : ndarray of shape (n,)
        Weights of the rows.
    groups : ndarray of int, shape (n,)
        Number of the group of each row, from 0; there are at least two.
    """
    alphas, errors = z.shape[1] * RIDGES, np.zeros(len(RIDGES))
    for fold in range(min(3, int(groups.max()) + 1)):
        is_out = groups % 3 == fold
        share = weights * ~is_out / weights[~is_out].sum()
        inner, wanted = z - share @ z, targets - share @ targets
        root = np.sqrt(weights[~is_out])[:, None]
        seen = root * inner[~is_out]
        values, vectors = eigh(seen.T @ seen)
        energies, held_out = vectors.T @ (seen.T @ (root * wanted[~is_out])), inner[is_out] @ vectors
        for i, alpha in enumerate(alphas):
            found = held_out @ (energies / (np.maximum(values, 0) + alpha)[:, None])
            errors[i] += weights[is_out] @ ((found - wanted[is_out]) ** 2).sum(1)
    return float(_least(errors, z.shape[1]))


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


def doubt_of(weights: np.ndarray) -> float:
    """How unsure n labels are, ``1 / (n + 2)`` (Platt 1999); samples of unequal weight count as fewer."""
    return 1 / (weights.sum() ** 2 / (weights**2).sum() + 2)


def best_temperature(loss: Callable[[float], float]) -> float:
    """Argument between 1/50 and 50 that minimizes a loss."""
    found = minimize_scalar(lambda log_t: loss(math.exp(log_t)), bounds=(-math.log(50), math.log(50)), method="bounded")
    return math.exp(found.x)
