"""Remarks to users about samples that were read: one warning for each kind of remark, with a count and the first rows.

Each remark is made once per content and process, so that a search over parameters does not repeat it with every fit.
Must not know what a sample is.
"""

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping

from skltransfer._system.forks import Lock

SHOWN = 3  # rows
REMEMBERED = 100_000
_told: "OrderedDict[tuple[str, bytes], None]" = OrderedDict()
_told_lock = Lock()


class Remarks:
    """Remarks on the rows of one X, collected while they are read, in any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: dict[str, set[int]] = defaultdict(set)
        self._levels: dict[str, dict[int, float]] = defaultdict(dict)
        self.name = "X"  # of the argument that the rows are of

    def add(self, text: str, row: int) -> None:
        """Remark ``text`` on a row."""
        with self._lock:
            self._rows[text].add(row)

    def measure(self, kind: str, row: int, level: float) -> None:
        """Take note of the largest number in a row of some kind, from which :meth:`tell` judges all of X."""
        with self._lock:
            self._levels[kind][row] = level

    def tell(self, digests: Mapping[int, bytes], judge: Mapping[str, Callable[[float], str | None]]) -> None:
        """Warn of what was collected since the last call.

        Parameters
        ----------
        digests : mapping of int to bytes
            Digests of the content of all rows that were to be read; empty where one could not be.
        judge : mapping of str to callable
            Functions from the largest level of all rows to a message or None, by kind of level.
        """
        with self._lock:
            rows, levels = self._rows, self._levels
            self._rows, self._levels = defaultdict(set), defaultdict(dict)
        remarks = [(text, text, members) for text, members in rows.items()]
        measured = {digests.get(row) for of_row in levels.values() for row in of_row}
        if measured >= set(filter(None, digests.values())):  # of content that is known from before, there are no levels
            judged = ((kind, judge[kind](max(of_row.values())), of_row) for kind, of_row in levels.items())
            remarks += [(kind, text, set(of_row)) for kind, text, of_row in judged if text is not None]
        errors = []
        for kind, text, members in remarks:
            new = [row for row in sorted(members) if not _is_told(kind, digests.get(row, b""))]
            try:
                if new:
                    warnings.warn(f"{text} ({listed(new, len(digests), self.name)})", stacklevel=2)
            except Warning as error:  # a filter makes errors of warnings: what was not told stays to be told
                errors.append(error)
            else:
                _take_note(kind, [digests.get(row, b"") for row in new])
        if errors:
            raise errors[0]


def _is_told(kind: str, digest: bytes) -> bool:
    """True if a remark of this kind was made on this content in this process."""
    with _told_lock:
        return bool(digest) and (kind, digest) in _told


def _take_note(kind: str, digests: Iterable[bytes]) -> None:
    with _told_lock:
        _told.update(((kind, digest), None) for digest in digests)
        while len(_told) > REMEMBERED:
            _told.popitem(last=False)


def forget_what_was_told() -> None:
    """Forget all remarks, as a new process would."""
    with _told_lock:
        _told.clear()


def listed(rows: Iterable[int], n: int, name: str = "X") -> str:
    """Some rows of n, the first ones by number."""
    rows = list(rows)
    first = ", ".join(f"{name}[{row}]" for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{len(rows)} of {n} samples: {first}{more}"
