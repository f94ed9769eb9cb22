"""Locks that a forked child finds open.

A forked child has one thread: a lock that another thread of its parent held at that moment would never be opened in it.
Promises that these are, unless the forking thread itself holds them. A library's own lock cannot be renewed: where one
is only ever taken within one of ours, a fork waits for ours. Must not know what they guard.
"""

import _thread
import os
import threading
import weakref
from collections.abc import Callable
from typing import Self


def after_fork_in_child(action: Callable[[], object]) -> None:
    """Have ``action`` called in every child that is forked from now on; nothing where the system has no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


class Lock(_thread.RLock):
    """A re-entrant lock for a ``with`` block, which is entered and left in C: no interrupt leaves it closed."""

    def __init__(self) -> None:
        super().__init__()
        _all.add(self)

    def renew(self) -> None:
        """Open it, unless the calling thread holds it itself."""
        if not self._is_owned():
            self._at_fork_reinit()  # as the standard library's own locks are opened in a child

    def holds_back_forks(self, at_most: float) -> Self:
        """Have forks wait until no other thread holds it, for so many seconds: then they go ahead all the same."""
        if hasattr(os, "register_at_fork"):
            taken = threading.local()

            def take() -> None:
                taken.is_ours = False  # in case an interrupt ends the wait
                taken.is_ours = self.acquire(timeout=at_most)

            def give_back() -> None:
                if taken.is_ours:
                    self.release()

            os.register_at_fork(before=take, after_in_parent=give_back, after_in_child=give_back)
        return self


_all: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_all):
        lock.renew()


after_fork_in_child(_renew_all)
