"""A ridge with an intercept, on features that are computed block by block: its solution, and exact leave-one-out.

Promises memory that does not grow with the number of features of all rows, and that moments of rows add up. Must not
know where features come from, nor what targets mean.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, qr
from sklearn.utils import gen_batches

BLOCK = 4096  # rows whose features are held at once
FEW = 2.5  # features to a row, above which a QR and a small eigendecomposition cost less than a large one
WELL_CONDITIONED = 1e-8  # ridge over largest eigenvalue, above which a Cholesky factor is exact enough
RESOLVED = 1e-12  # ridge over largest eigenvalue, below which leave-one-out drowns in rounding

Features = Callable[[np.ndarray], np.ndarray]  # (n, d) -> (n, h)


class Rows(NamedTuple):
    """Rows with targets and weights."""

    X: np.ndarray  # (n, d)
    targets: np.ndarray  # (n, k)
    weights: np.ndarray  # (n,), positive
    units: np.ndarray  # (n,), the weight of one row where equal rows may have been merged

    @property
    def can_leave_one_out(self) -> bool:
        return len(self.X) > 1 or bool(self.weights[0] > self.units[0])

    def blocks(self) -> list[slice]:
        return list(gen_batches(len(self.X), BLOCK))


@dataclass(frozen=True)
class Moments:
    """Sums over rows that determine a ridge with an intercept; they add up."""

    weight: float
    center: np.ndarray  # (h,)
    target: np.ndarray  # (k,)
    scatter: np.ndarray  # (h, h)
    cross: np.ndarray  # (h, k)

    @classmethod
    def of(cls, features: Features, rows: Rows) -> Self:
        """One pass over the rows."""
        parts = (
            cls._of_block(features(rows.X[part]), rows.targets[part], rows.weights[part]) for part in rows.blocks()
        )
        return functools.reduce(operator.add, parts)

    @classmethod
    def _of_block(cls, features: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Self:
        total = weights.sum()
        center, target = weights @ features / total, weights @ targets / total
        root = np.sqrt(weights)[:, None]
        features, targets = root * (features - center), root * (targets - target)
        return cls(total, center, target, features.T @ features, features.T @ targets)

    def __add__(self, other: Self) -> Self:
        total = self.weight + other.weight
        step, move = other.center - self.center, other.target - self.target
        share = other.weight / total
        between = self.weight * share
        return type(self)(
            total,
            self.center + share * step,
            self.target + share * move,
            self.scatter + other.scatter + between * np.outer(step, step),
            self.cross + other.cross + between * np.outer(step, move),
        )


@dataclass(frozen=True)
class Spectrum:
    """Directions in which features vary by more than rounding: a ridge of any strength is solved in them."""

    values: np.ndarray  # (r,)
    vectors: np.ndarray  # (h, r)
    cross: np.ndarray  # (r, k)

    @classmethod
    def of(cls, moments: Moments, features: np.ndarray | None = None) -> Self:
        """Through the span of ``features``, where these are those of all rows (n, h), and far fewer than h."""
        if features is None:
            values, vectors = eigh(moments.scatter, driver="evd")
        else:
            basis = qr((features - moments.center).T, mode="economic")[0]  # (h, n)
            values, vectors = eigh(basis.T @ moments.scatter @ basis, driver="evd")
            vectors = basis @ vectors
        seen = values > max(values[-1], 0) * len(vectors) * np.finfo(float).eps
        vectors = vectors[:, seen]
        return cls(values[seen], vectors, vectors.T @ moments.cross)

    def coefficients(self, alpha: float) -> np.ndarray:
        """Coefficients of a ridge, (h, k)."""
        return self.vectors @ (self.cross / (self.values + alpha)[:, None])


def coefficients(moments: Moments, alpha: float) -> np.ndarray:
    """Coefficients of a ridge, (h, k)."""
    if alpha <= WELL_CONDITIONED * np.trace(moments.scatter):
        return Spectrum.of(moments).coefficients(alpha)
    ridge = moments.scatter + alpha * np.eye(len(moments.center))
    return cho_solve(cho_factor(ridge, overwrite_a=True), moments.cross)


@dataclass(frozen=True)
class LeaveOneOut:
    """Outputs of ridges for each row that was not among the rows they were solved on.

    A row of weight 3 counts as three rows, of which one is left out. A ridge without row i errs there by its error with
    it over ``1 - unit_i * leverage_i``. Where alpha is tiny, both may be rounding alone: so alpha counts as at least
    ``RESOLVED`` times the largest eigenvalue.
    """

    features: Features
    rows: Rows
    moments: Moments
    spectrum: Spectrum
    kept: list[tuple[slice, np.ndarray]] = field(default_factory=list, init=False, repr=False)

    def blocks(self, alphas: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices of rows, and outputs (rows, alphas, k)."""
        alphas = np.maximum(alphas, RESOLVED * self.spectrum.values.max(initial=0))
        shrunk = 1 / (self.spectrum.values[:, None] + alphas)  # (r, alphas)
        coefficients = (shrunk[:, :, None] * self.spectrum.cross[:, None, :]).reshape(len(shrunk), -1)
        for part, features in self._projected():
            targets, units = self.rows.targets[part], self.rows.units[part]
            outputs = self.moments.target + (features @ coefficients).reshape(len(features), len(alphas), -1)
            leverages = 1 / self.moments.weight + features**2 @ shrunk  # (rows, alphas)
            left = np.maximum(1 - units[:, None] * leverages, np.finfo(float).eps)
            yield part, targets[:, None] - (targets[:, None] - outputs) / left[:, :, None]

    def _projected(self) -> Iterable[tuple[slice, np.ndarray]]:
        """Slices of rows, and features (rows, r); kept where all rows are one block."""
        parts = self.rows.blocks()
        if len(parts) > 1:
            return map(self._project, parts)
        if not self.kept:
            self.kept.append(self._project(slice(None)))
        return self.kept

    def _project(self, part: slice) -> tuple[slice, np.ndarray]:
        return part, (self.features(self.rows.X[part]) - self.moments.center) @ self.spectrum.vectors

    def best(self, alphas: np.ndarray, precision: np.ndarray) -> float:
        """The alpha of least squared error, targets being weighed by ``precision`` (k,)."""
        errors = np.zeros(len(alphas))
        for part, outputs in self.blocks(alphas):
            squares = (outputs - self.rows.targets[part][:, None]) ** 2 @ precision
            errors += self.rows.weights[part] @ squares
        return float(alphas[errors.argmin()])

    def outputs(self, alpha: float) -> np.ndarray:
        """Outputs of all rows, (n, k)."""
        return np.concatenate([outputs[:, 0] for _, outputs in self.blocks(np.array([alpha]))])
