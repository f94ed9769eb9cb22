"""The canonical training set, and its split: what makes ``fit`` independent of the order and repetition of rows.

Must not know what a digest is a digest of.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skltransfer.engine.tasks.targets import Targets


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
    """

    rows: np.ndarray
    targets: Targets
    weights: np.ndarray
    loss_weights: np.ndarray
    digests: tuple[bytes, ...]

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
        targets = self.targets.subset(mask)
        return TrainingSet(self.rows[mask], targets, self.weights[mask], self.loss_weights[mask], digests)


def repeated(digests: Sequence[bytes]) -> list[list[int]]:
    """Positions of equal content, a list for each content that comes more than once; bad samples are in none."""
    positions = defaultdict(list)
    for position, digest in enumerate(digests):
        if digest:
            positions[digest].append(position)
    return [group for group in positions.values() if len(group) > 1]


def canonical(digests: Sequence[bytes], targets: Targets, weights: np.ndarray) -> TrainingSet:
    """Drop zero weights, merge rows of equal content and target by summing weights, sort by content.

    Parameters
    ----------
    digests : sequence of bytes, length n
        Digests of the samples' contents; empty for a sample that is left out.
    targets : Targets, length n
        Targets of the samples.
    weights : ndarray of shape (n,)
        Weights of the samples.
    """
    kept = [row for row in range(len(digests)) if weights[row] > 0 and digests[row]]
    keyed = sorted(((digests[row], targets.key(row)), row) for row in kept)
    order = np.array([row for _, row in keyed], dtype=int)
    if not len(order):
        return TrainingSet(order, targets.subset(order), weights[order], weights[order], ())
    is_first = np.array([True, *(now[0] != before[0] for before, now in itertools.pairwise(keyed))])
    merged = np.add.reduceat(weights[order], np.flatnonzero(is_first))
    rows = order[is_first]
    return TrainingSet(rows, targets.subset(rows), merged, merged, tuple(digests[row] for row in rows))


def folds(data: TrainingSet, n: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Number of each sample's fold, (m,): folds are alike in size, also within a group; equal content is in one fold.

    Parameters
    ----------
    data : TrainingSet
        The training set.
    n : int
        Number of folds.
    seed : int
        Seed of the random numbers.
    groups : ndarray of shape (m,), optional
        Labels, by which folds are stratified.
    """
    generator = np.random.default_rng(seed)
    strata = np.zeros(len(data), dtype=int) if groups is None else groups
    members = [generator.permutation(np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]
    fold = np.empty(len(data), dtype=int)
    fold[np.concatenate(members)] = np.arange(len(data)) % n
    first: dict[bytes, int] = {}
    return fold[[first.setdefault(digest, i) for i, digest in enumerate(data.digests)]]


def split(
    data: TrainingSet, fraction: float, seed: int, groups: np.ndarray | None = None, why: str = "early_stopping=True"
) -> tuple[TrainingSet, TrainingSet]:
    """A training and a validation part; equal content is never on both sides.

    Parameters
    ----------
    data : TrainingSet
        The training set.
    fraction : float
        Share of samples for validation.
    seed : int
        Seed of the random numbers.
    groups : ndarray of shape (m,), optional
        Labels; each keeps its share, and at least one sample in training.
    why : str
        The parameter that asks for it, as the user wrote it.

    Raises
    ------
    ValueError
        If no sample could be held out.
    """
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(data), dtype=bool)
    strata = np.zeros(len(data), dtype=int) if groups is None else groups
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        held_out[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    if not held_out.any():
        spare = np.flatnonzero(np.unique(strata, return_counts=True)[1][np.unique(strata, return_inverse=True)[1]] > 1)
        held_out[generator.permutation(spare)[:1]] = True
    ours = {d for d, held in zip(data.digests, held_out, strict=True) if held}
    held_out |= np.array([d in ours for d in data.digests])
    if not held_out.any() or held_out.all():
        n = len(set(data.digests))
        raise ValueError(
            f"{why} needs samples to hold out, but X has {n} distinct ones, and each class must keep one for training. "
            "Turn it off or add data."
        )
    return data.subset(~held_out), data.subset(held_out)
