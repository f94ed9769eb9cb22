"""Locks that a forked child finds open.

A forked child has one thread: a lock that another thread of its parent held at that moment would never be opened in it.
Promises that these are, unless the forking thread itself holds them. A library's own lock cannot be renewed: where one
is only ever taken within one of ours, a fork waits for ours. Must not know what they guard.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Self


def after_fork_in_child(action: Callable[[], object]) -> None:
    """Have ``action`` called in every child that is forked from now on; nothing where the system has no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


class Lock:
    """A re-entrant lock for a ``with`` block."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holders: list[int] = []  # one entry per level
        _all.add(self)

    def __enter__(self) -> Self:
        self._lock.acquire()
        self._holders.append(threading.get_ident())
        return self

    def __exit__(self, *exception: object) -> None:
        self._holders.pop()
        self._lock.release()

    def renew(self) -> None:
        """Open it, whoever else held it."""
        if threading.get_ident() not in self._holders:
            self._lock, self._holders = threading.RLock(), []

    def holds_back_forks(self, at_most: float) -> Self:
        """Have forks wait until no other thread holds it, for so many seconds: then they go ahead all the same."""
        if hasattr(os, "register_at_fork"):
            taken = threading.local()

            def take() -> None:
                lock = self._lock
                taken.lock = lock if lock.acquire(timeout=at_most) else None

            def give_back() -> None:
                if taken.lock is not None:
                    taken.lock.release()

            os.register_at_fork(before=take, after_in_parent=give_back, after_in_child=give_back)
        return self


_all: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_all):
        lock.renew()


after_fork_in_child(_renew_all)
