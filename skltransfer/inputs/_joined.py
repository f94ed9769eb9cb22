"""The samples of several collections, one after the other: those to train on and to validate on, or columns of X."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._samples import Peeked, Samples


class JoinedSamples(Samples):
    """Samples of one kind from several collections; rows are counted on from one to the next.

    Parameters
    ----------
    parts : sequence of Samples
        The collections.
    names : sequence of str
        Names of the collections for the user, whose rows are told by their own numbers.
    """

    def __init__(self, parts: Sequence[Samples], names: Sequence[str]) -> None:
        super().__init__(range(sum(map(len, parts))))
        self.parts, self._names = list(parts), list(names)
        self._ends = np.cumsum([len(part) for part in parts])
        for part, name in zip(parts, names, strict=True):
            part.remarks.name = name
        self.slow_to_read = any(part.slow_to_read for part in parts)
        self.slow_to_peek = any(part.slow_to_peek for part in parts)
        if parts[0].beside is not None:
            self.beside = np.concatenate([part.numbers for part in parts])

    def tell_remarks(self, digests: Sequence[bytes]) -> None:
        """Warn of what was noticed in any of the collections."""
        known, owners = dict(zip(self.rows.tolist(), digests, strict=True)), self._owners(self.rows)
        for number, part in enumerate(self.parts):
            rows = self.rows[owners == number]
            part.take(rows - self._start(number)).tell_remarks([known[row] for row in rows.tolist()])

    def _owners(self, rows: Any) -> np.ndarray:
        return np.searchsorted(self._ends, rows, side="right")

    def _start(self, number: int) -> int:
        return int(self._ends[number]) - len(self.parts[number])

    def _of(self, row: int, ask: Callable[[Samples, int], Any]) -> Any:
        number = int(self._owners(row))
        try:
            return ask(self.parts[number], row - self._start(number))
        except BadSampleError as error:
            if error.name == self._names[number]:
                raise
            raise error.of(self._names[number]) from error

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
