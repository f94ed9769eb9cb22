"""What is to be learnt, one entry per sample. Must not know what an entry means, nor what a sample is."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch


class Targets(Protocol):
    """A container of targets: whoever merges, splits, batches or compares them asks it, and sees no array."""

    def __len__(self) -> int:
        """Number of samples."""

    def key(self, row: int) -> Any:
        """Equal entries have equal keys, and keys can be sorted."""

    def take(self, rows: np.ndarray) -> Any:
        """Entries of these rows as the task's loss takes them: a tensor, or tensors in lists, tuples and dicts."""

    def subset(self, rows: np.ndarray) -> Self:
        """The targets of these rows, or of those where a mask holds."""


@dataclass(frozen=True, eq=False)
class ArrayTargets:
    """Labels or numbers.

    Attributes
    ----------
    values : ndarray of shape (n,) or (n, columns)
        Labels or numbers.
    """

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def key(self, row: int) -> Any:
        """The value, or the row's values."""
        value = self.values[row].tolist()
        return tuple(value) if isinstance(value, list) else value

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """A tensor, (len(rows),) or (len(rows), columns)."""
        return torch.as_tensor(self.values[rows])

    def subset(self, rows: np.ndarray) -> "ArrayTargets":
        """Targets of some samples; see :meth:`Targets.subset`."""
        return ArrayTargets(self.values[rows])


@dataclass(frozen=True, eq=False)
class RecordTargets:
    """Records of arrays, whose lengths may differ from sample to sample: the boxes of an image, the tags of a text.

    Attributes
    ----------
    records : sequence of mapping of str to ndarray, length n
        All with the same names.
    """

    records: Sequence[Mapping[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.records)

    def key(self, row: int) -> tuple:
        """Names, dtypes, shapes and hashes of the contents."""
        arrays = sorted(self.records[row].items())
        return tuple((name, one.dtype.str, one.shape, hashlib.sha256(one.tobytes()).digest()) for name, one in arrays)

    def take(self, rows: np.ndarray) -> list[dict[str, torch.Tensor]]:
        """A record of tensors per row."""
        return [{name: torch.tensor(value) for name, value in self.records[row].items()} for row in rows]

    def subset(self, rows: np.ndarray) -> "RecordTargets":
        """Targets of some samples; see :meth:`Targets.subset`."""
        return RecordTargets([self.records[row] for row in np.arange(len(self.records))[rows]])


def each_tensor(function: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    """A tensor, or the tensors in lists, tuples and dicts, each changed by a function; other values stay."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: each_tensor(function, value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        changed = [each_tensor(function, value) for value in batch]
        return changed if isinstance(batch, list) else tuple(changed)
    return batch
