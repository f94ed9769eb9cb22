"""Torch's global generator, borrowed and given back.

Libraries initialize their layers, and dropout draws its masks, from the generator that all threads of a process
share. ``seeded`` is the one door to it: one holder at a time, and the state is restored on the way out. Torch locks the
generator while it draws, and a child that is forked meanwhile would wait for ever: so forks wait for the door.
"""

import contextlib
from collections.abc import Iterator

import torch

from skltransfer._system.forks import Lock

_door = Lock().holds_back_forks(at_most=10.0)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the duration of a ``with`` block, as its only user in this process.

    Forks of the process wait for the end of the block: keep it short.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _door, torch.random.fork_rng(devices=devices):
        reseed(seed)
        yield


def reseed(seed: int) -> None:
    """Seed the generators of devices in use, for the holder of ``seeded``.

    ``torch.manual_seed`` asks every kind of device, some of them under a lock that a forked child may find closed.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
