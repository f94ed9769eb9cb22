"""Progress bars: tqdm's where one is shown, and nothing at all where none is.

tqdm takes a lock that all threads share even for a bar that it does not show; a child forked at that moment would wait
for it for ever.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from tqdm.auto import tqdm


class NoBar:
    """The methods of a progress bar, without a bar."""

    def __init__(self, iterable: Iterable = ()) -> None:
        self.iterable = iterable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def __iter__(self) -> Iterator:
        return iter(self.iterable)

    def update(self, n: int = 1) -> None:
        """Nothing to move on."""


ProgressBar = tqdm | NoBar


def progress_bar(iterable: Iterable | None = None, *, shown: int, **options: Any) -> ProgressBar:
    """A bar over ``iterable``, or for a ``with`` block that calls ``update``; ``options`` are tqdm's."""
    return tqdm(iterable, **options) if shown else NoBar(iterable or ())
