"""The canonical training set, and its split: what makes ``fit`` independent of the order and repetition of rows.

Must not know what a digest is a digest of.
"""

import hashlib
import itertools
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from skltransfer.engine.tasks.targets import Targets

COARSE, MOST_FOLDS = 0.2, 10  # of groups; above this fraction several folds are held out


@dataclass(frozen=True)
class TrainingSet:
    """Distinct samples, in an order that only their content decides.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        Position of each sample among the activations.
    targets : Targets, length m
        Targets of the samples.
    weights : ndarray, shape (m,)
        Sums of the sample weights of equal rows.
    loss_weights : ndarray, shape (m,)
        The same sums, multiplied by the class weights.
    digests : tuple of bytes, length m
        Digests of the samples' contents.
    groups : ndarray of int, shape (m,), or None
        Samples of one group are never split; None if only samples of equal content are kept together.
    """

    rows: np.ndarray
    targets: Targets
    weights: np.ndarray
    loss_weights: np.ndarray
    digests: tuple[bytes, ...]
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, targets: Targets, factors: np.ndarray | float = 1.0) -> "TrainingSet":
        """The same samples, with targets in a task's terms, and weights in the loss multiplied by ``factors``."""
        return replace(self, targets=targets, loss_weights=self.weights * factors)

    def content(self) -> str:
        """A hash of samples, targets and weights."""
        digest = hashlib.sha256(b"".join(self.digests))
        digest.update(repr([self.targets.key(row) for row in range(len(self))]).encode())
        digest.update(np.ascontiguousarray(self.loss_weights).tobytes())
        return digest.hexdigest()

    def subset(self, mask: np.ndarray) -> "TrainingSet":
        """The samples where ``mask`` holds."""
        digests = tuple(d for d, kept in zip(self.digests, mask, strict=True) if kept)
        targets, groups = self.targets.subset(mask), None if self.groups is None else self.groups[mask]
        return TrainingSet(self.rows[mask], targets, self.weights[mask], self.loss_weights[mask], digests, groups)


def repeated(digests: Sequence[bytes]) -> list[list[int]]:
    """Positions of equal content, a list for each content that comes more than once; bad samples are in none."""
    positions = defaultdict(list)
    for position, digest in enumerate(digests):
        if digest:
            positions[digest].append(position)
    return [group for group in positions.values() if len(group) > 1]


def canonical(
    digests: Sequence[bytes], targets: Targets, weights: np.ndarray, groups: np.ndarray | None = None
) -> TrainingSet:
    """Drop zero weights, merge rows of equal content and target by summing weights, sort by content.

    Parameters
    ----------
    digests : sequence of bytes, length n
        Digests of the samples' contents; empty for a sample that is left out.
    targets : Targets, length n
        Targets of the samples.
    weights : ndarray of shape (n,)
        Weights of the samples.
    groups : ndarray of int, shape (n,), optional
        Samples of one group stay together, and so do groups that have a content in common.
    """
    kept = [row for row in range(len(digests)) if weights[row] > 0 and digests[row]]
    keyed = sorted(((digests[row], targets.key(row)), row) for row in kept)
    order = np.array([row for _, row in keyed], dtype=int)
    if not len(order):
        return TrainingSet(order, targets.subset(order), weights[order], weights[order], ())
    is_first = np.array([True, *(now[0] != before[0] for before, now in itertools.pairwise(keyed))])
    merged = np.add.reduceat(weights[order], np.flatnonzero(is_first))
    rows = order[is_first]
    joined = None if groups is None else _joined_groups([digests[row] for row in order], groups[order])[is_first]
    return TrainingSet(rows, targets.subset(rows), merged, merged, tuple(digests[row] for row in rows), joined)


def _joined_groups(digests: Sequence[bytes], groups: np.ndarray) -> np.ndarray:
    """Groups of rows, (n,), of which those that have a content in common are one."""
    _, contents = np.unique(np.array([digest.hex() for digest in digests]), return_inverse=True)
    _, groups = np.unique(groups, return_inverse=True)
    n = groups.max() + 1
    links = coo_array((np.ones(len(groups)), (groups, n + contents)), shape=(n + contents.max() + 1,) * 2)
    _, first, numbers = np.unique(
        connected_components(links, directed=False)[1][groups], return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[numbers]  # by their contents alone, whatever the user calls them


def folds(data: TrainingSet, n: int, seed: int, strata: np.ndarray | None = None) -> np.ndarray:
    """Number of each sample's fold, (m,): folds are alike in size, also within a stratum; a group is in one fold.

    Parameters
    ----------
    data : TrainingSet
        The training set.
    n : int
        Number of folds.
    seed : int
        Seed of the random numbers.
    strata : ndarray of shape (m,), optional
        Labels, of which each fold has its share.
    """
    strata = np.zeros(len(data), dtype=int) if strata is None else strata
    if data.groups is not None:
        return _folds_of_groups(data.groups, n, seed, strata)
    generator = np.random.default_rng(seed)
    members = [generator.permutation(np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]
    fold = np.empty(len(data), dtype=int)
    fold[np.concatenate(members)] = np.arange(len(data)) % n
    first: dict[bytes, int] = {}
    return fold[[first.setdefault(digest, i) for i, digest in enumerate(data.digests)]]


def _folds_of_groups(groups: np.ndarray, n: int, seed: int, strata: np.ndarray) -> np.ndarray:
    """Number of each sample's fold, (m,); all are in the first one if there is a single group."""
    fold, n = np.zeros(len(groups), dtype=int), min(n, len(np.unique(groups)))
    if n < 2:
        return fold
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels that are rarer than folds
        # a label that all samples have stands for those of which there are too few for its check
        labels = strata if np.bincount(strata).max() >= n else np.zeros(len(groups), dtype=int)
        for number, (_, held_out) in enumerate(splitter.split(groups, labels, groups)):
            fold[held_out] = number
    return fold


def split(
    data: TrainingSet, fraction: float, seed: int, strata: np.ndarray | None = None, why: str = "early_stopping=True"
) -> tuple[TrainingSet, TrainingSet]:
    """A training and a validation part; equal content, and a group, is never on both sides.

    Parameters
    ----------
    data : TrainingSet
        The training set.
    fraction : float
        Share of samples for validation.
    seed : int
        Seed of the random numbers.
    strata : ndarray of shape (m,), optional
        Labels; each keeps its share, and at least one sample in training.
    why : str
        The parameter that asks for it, as the user wrote it.

    Raises
    ------
    ValueError
        If no sample could be held out.
    """
    strata = np.zeros(len(data), dtype=int) if strata is None else strata
    held_out = (
        _held_out(data, fraction, seed, strata)
        if data.groups is None
        else _held_out_groups(data.groups, fraction, seed, strata)
    )
    if not held_out.any() or held_out.all():
        n, what = len(set(data.digests)), "distinct ones"
        if data.groups is not None:
            n, what = len(np.unique(data.groups)), "groups"
        raise ValueError(
            f"{why} needs samples to hold out, but X has {n} {what}, and each class must keep one for training. "
            "Turn it off, add data, or pass X_val and y_val."
        )
    return data.subset(~held_out), data.subset(held_out)


def _held_out(data: TrainingSet, fraction: float, seed: int, strata: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(data), dtype=bool)
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        held_out[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    if not held_out.any():
        spare = np.flatnonzero(np.unique(strata, return_counts=True)[1][np.unique(strata, return_inverse=True)[1]] > 1)
        held_out[generator.permutation(spare)[:1]] = True
    ours = {d for d, held in zip(data.digests, held_out, strict=True) if held}
    return held_out | np.array([d in ours for d in data.digests])


def _held_out_groups(groups: np.ndarray, fraction: float, seed: int, strata: np.ndarray) -> np.ndarray:
    """The folds that are nearest to the fraction in size, of those that leave each label a sample for training."""
    n = round(1 / fraction) if fraction <= COARSE else MOST_FOLDS
    fold = _folds_of_groups(groups, n, seed, strata)
    n = fold.max() + 1
    k = min(max(1, round(fraction * n)), max(1, n - 1))
    masks = [np.isin(fold, np.arange(start, start + k) % n) for start in range(n)]
    masks = [mask for mask in masks if len(np.unique(strata[~mask])) == len(np.unique(strata))]
    return min(masks, key=lambda mask: abs(mask.mean() - fraction), default=np.zeros(len(groups), dtype=bool))
