"""Reading samples: ahead of the network, in threads; and what becomes of those that cannot be read.

Must not know what a sample is, or what networks do with it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from skltransfer.exceptions import BadSampleError, MissingSampleError

MOST_COMPLAINTS = 10
LOOK_ON = 1000  # samples after the first complaint, in search of others
A, B = TypeVar("A"), TypeVar("B")


@dataclass(frozen=True)
class BadSamplePolicy:
    """How rows that cannot be read are treated: ``"raise"``, ``"zero"`` or ``"nan"``."""

    missing: str = "raise"
    unreadable: str = "raise"

    def value_for(self, error: BadSampleError) -> float:
        """The value that fills the row, or the error itself, raised."""
        policy = self.missing if isinstance(error, MissingSampleError) else self.unreadable
        if policy == "raise":
            raise error
        return 0.0 if policy == "zero" else float("nan")


class Complaints:
    """Samples that cannot be read: left out if the policy says so; else reported together, up to ten at once.

    Parameters
    ----------
    policy : BadSamplePolicy
        Treatment of samples that cannot be read.

    Attributes
    ----------
    bad : dict of int to BadSampleError
        Errors of samples that are left out, by position.
    refused : list of BadSampleError
        Errors that will be raised.
    """

    def __init__(self, policy: BadSamplePolicy) -> None:
        self.policy = policy
        self.bad: dict[int, BadSampleError] = {}
        self.refused: list[BadSampleError] = []
        self._looked_on = 0

    def add(self, position: int, error: BadSampleError) -> None:
        """Take note; raise when there are enough."""
        try:
            self.policy.value_for(error)
        except BadSampleError:
            self.refused.append(error)
            if len(self.refused) == MOST_COMPLAINTS:
                self.raise_if_any()
        else:
            self.bad[position] = error

    def look_on(self) -> None:
        """Count samples that are read only in search of further complaints; raise after a thousand."""
        self._looked_on += bool(self.refused)
        if self._looked_on > LOOK_ON:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise the first complaint, which names the others."""
        if self.refused:
            first, *others = self.refused
            raise first.along_with(others) if others else first


def in_threads(
    function: Callable[[A], B], items: Sequence[A], n_threads: int, *, ahead: int, overlap: bool = True
) -> Iterator[B]:
    """``map`` that works up to ``ahead`` items ahead, in threads; results come in the order of the items.

    Without ``overlap``, nothing is worked on while the results of a block of ``ahead`` items are used: where both need
    the same cores, each is faster alone.
    """
    if n_threads == 1 or len(items) < 2:
        yield from map(function, items)
        return
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="skltransfer-reading") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield from _results(waiting, 1 if overlap else ahead, whole=not overlap)
            yield from _results(waiting, len(waiting), whole=not overlap)
        finally:
            for future in waiting:
                future.cancel()


def _results(waiting: deque[Future], n: int, *, whole: bool) -> Iterator:
    """The first ``n`` results; ``whole``: not before all that wait are there."""
    if whole:
        wait(waiting)
    for _ in range(n):
        yield waiting.popleft().result()
