"""Samples of datasets that give them by position, as those of PyTorch do, read when they are needed.

Must not know what a sample is.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from skltransfer._system.forks import Lock

_reading = [Lock() for _ in range(16)]  # PyTorch reads datasets in processes, so that few are made for threads


class DatasetItem:
    """One sample of a dataset.

    Parameters
    ----------
    dataset : object
        Object that returns samples by position.
    index : int
        Position of the sample.
    is_pair : bool
        True if the dataset gives pairs of a sample and its label.
    """

    __slots__ = ("dataset", "index", "is_pair")

    def __init__(self, dataset: Any, index: int, is_pair: bool) -> None:
        self.dataset, self.index, self.is_pair = dataset, index, is_pair

    def __repr__(self) -> str:
        return f"item {self.index} of {type(self.dataset).__name__}"

    def read(self) -> Any:
        """The sample, which is not kept; a dataset is asked by one thread at a time."""
        with _reading[id(self.dataset) % len(_reading)]:
            item = self.dataset[self.index]
        return item[0] if self.is_pair else item


def column_of(items: Iterable[Any]) -> np.ndarray:
    """An array of any objects, (n,), none of which is taken apart."""
    items = list(items)
    column = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        column[i] = item
    return column


def is_of_torch(X: Any, name: str) -> bool:
    """True for an instance of a class of ``torch.utils.data``."""
    return any(c.__name__ == name and c.__module__.startswith("torch.utils.data") for c in type(X).__mro__)


def refusal_of_torch(X: Any) -> tuple[str, str] | None:
    """What is wrong with an object of ``torch.utils.data`` that has no positions, and what to do; None for others."""
    if is_of_torch(X, "DataLoader"):
        return "which serves batches in any order", "Pass its dataset: X, y = from_torch_dataset(loader.dataset)"
    if is_of_torch(X, "IterableDataset"):
        return "which has no positions", "Pass lists: X, y = zip(*dataset), or X = list(dataset) if it has no labels"
    return None
