"""Two affine maps, one for source rows and one for target rows, after which the domains look alike.

Promises finite maps for any number of rows and columns, constant columns included. Must not know labels: what is
learnt here would be the same for any y.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import eigh
from sklearn.covariance import ledoit_wolf
from sklearn.preprocessing import StandardScaler

METHODS = ("pooled", "per_domain", "coral", "monge")


class Affine(NamedTuple):
    """Rows less ``center``, over ``scale``, times ``matrix`` where there is one, plus ``shift``."""

    center: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    matrix: np.ndarray | None = None  # (d, d)
    shift: np.ndarray | float = 0.0  # (d,)

    @classmethod
    def standardising(cls, X: np.ndarray) -> Self:
        scaler = StandardScaler().fit(X)
        return cls(scaler.mean_, scaler.scale_)

    @classmethod
    def shared(cls, source: np.ndarray, target: np.ndarray) -> Self:
        """Each column is scaled by the largest of its spreads: over source rows, over target rows, and over both.

        So no domain sees a column magnified that varies in the other.
        """
        both = cls.standardising(np.concatenate([source, target]))
        spreads = [rows.std(axis=0) for rows in (source, target) if len(rows)]
        return both._replace(scale=np.max([both.scale, *spreads], axis=0))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        rows = (X - self.center) / self.scale
        return (rows if self.matrix is None else rows @ self.matrix) + self.shift


class Alignment(NamedTuple):
    """The map of each side."""

    source: Affine
    target: Affine

    @classmethod
    def fitted(cls, method: str, source: np.ndarray, target: np.ndarray) -> Self:
        """Learn from rows (n_source, d) and (n_target, d); without target rows both maps standardize the source.

        ``"pooled"`` is one scaling for both, ``"per_domain"`` scales each side by its own rows. ``"coral"`` and
        ``"monge"`` begin with the former, and move the source rows' mean and shrunk covariance onto the target's.
        """
        pooled = Affine.shared(source, target)
        if method == "pooled" or not len(target):
            return cls(pooled, pooled)
        if method == "per_domain":
            return cls(Affine.standardising(source), Affine.standardising(target))
        source, target = pooled(source), pooled(target)
        moving = _coral if method == "coral" else _monge
        matrix = moving(_covariance(source), _covariance(target))
        shift = target.mean(axis=0) - source.mean(axis=0) @ matrix
        return cls(pooled._replace(matrix=matrix, shift=shift), pooled)


def _covariance(rows: np.ndarray) -> np.ndarray:
    return ledoit_wolf(rows)[0] if len(rows) > 1 else np.zeros((rows.shape[1],) * 2)


def _coral(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Whiten, then colour."""
    return _power(source, -0.5) @ _power(target, 0.5)


def _monge(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The symmetric one among such maps: the least movement between two normal distributions."""
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


def _power(covariance: np.ndarray, exponent: float) -> np.ndarray:
    """Power of a symmetric matrix without negative eigenvalues; directions without variance stay so."""
    values, vectors = eigh(covariance)
    seen = values > max(values[-1], 0) * len(values) * np.finfo(float).eps
    vectors = vectors[:, seen]
    return (vectors * values[seen] ** exponent) @ vectors.T
