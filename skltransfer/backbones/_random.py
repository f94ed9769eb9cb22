"""Torch's global generator, borrowed and given back.

Libraries initialise their layers, and dropout draws its masks, from the generator that all threads of a process
share. ``seeded`` is the one door to it: one holder at a time, and the state is restored on the way out.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

_DOOR = {"lock": threading.RLock()}


def _renew_lock() -> None:
    _DOOR["lock"] = threading.RLock()  # a thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the duration of a ``with`` block, as its only user in this process."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _DOOR["lock"], torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
