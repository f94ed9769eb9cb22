"""The samples of two collections, one after the other: those to train on, and those to validate on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._samples import Peeked, Samples


class JoinedSamples(Samples):
    """Samples of one kind from two collections; rows of the second are counted on.

    Parameters
    ----------
    first, second : Samples
        The collections.
    name : str
        Name of the second one for the user, whose rows are told by their own numbers.
    """

    def __init__(self, first: Samples, second: Samples, name: str) -> None:
        super().__init__(range(len(first) + len(second)))
        self._first, self._second, self._name = first, second, name
        second.remarks.name = name
        if first.beside is not None:
            self.beside = np.concatenate([first.numbers, second.numbers])
        self.slow_to_read = first.slow_to_read or second.slow_to_read
        self.slow_to_peek = first.slow_to_peek or second.slow_to_peek

    def tell_remarks(self, digests: Sequence[bytes]) -> None:
        """Warn of what was noticed in either collection."""
        known, n = dict(zip(self.rows.tolist(), digests, strict=True)), len(self._first)
        for part, is_part in ((self._first, self.rows < n), (self._second, self.rows >= n)):
            rows = self.rows[is_part]
            view = part.take(rows - (0 if part is self._first else n))
            view.tell_remarks([known[row] for row in rows.tolist()])

    def _of(self, row: int, ask: Callable[[Samples, int], Any]) -> Any:
        if row < len(self._first):
            return ask(self._first, row)
        try:
            return ask(self._second, row - len(self._first))
        except BadSampleError as error:
            raise error.of(self._name) from error

    def _peek(self, row: int) -> Peeked:
        return self._of(row, lambda part, own: part.peek(own))

    def _identify(self, row: int) -> tuple[bytes, np.ndarray | None]:
        return self._of(row, lambda part, own: part.identify(own))

    def _read(self, row: int) -> np.ndarray:
        return self._of(row, lambda part, own: part.read(own))

    def _size(self, row: int) -> tuple[int, int] | None:
        return self._of(row, lambda part, own: part.size(own))

    def _geometry(self, row: int, preprocessing: Any) -> Any:
        return self._of(row, lambda part, own: part.geometry(own, preprocessing))
