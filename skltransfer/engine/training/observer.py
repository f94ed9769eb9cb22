"""What callbacks learn about the epochs of a fit. Must not know what is trained."""

from collections.abc import Callable
from typing import Any

Now = Callable[[], Any]


class EpochObserver:
    """Two functions that are called before and after each epoch.

    Each is given a function that makes what the fit would return if it ended there: a copy, made only if it is called.

    Parameters
    ----------
    begins : callable
        Function that is called before each epoch.
    ends : callable
        Function that is called after each epoch and returns True to end the fit.

    Attributes
    ----------
    has_ended : bool
        True if the fit should end.
    """

    def __init__(self, begins: Callable[[Now], object], ends: Callable[[Now], bool]) -> None:
        self._begins, self._ends, self.has_ended = begins, ends, False

    def epoch_begins(self, now: Now) -> None:
        """Called before an epoch."""
        self._begins(now)

    def epoch_ends(self, now: Now) -> bool:
        """Called after an epoch; whether the fit is to end."""
        self.has_ended = bool(self._ends(now))
        return self.has_ended

    def seeing(self, view: Callable[[Any], Any]) -> "EpochObserver":
        """An observer for someone who knows less: this one sees the ``view`` of what that one makes."""
        return EpochObserver(
            lambda now: self.epoch_begins(lambda: view(now())), lambda now: self.epoch_ends(lambda: view(now()))
        )
