"""Mixed precision for a ``with`` block, by flags of the running thread alone.

``torch.autocast`` keeps a cache of converted weights, emptied on the way out under a lock that all threads share: a
child forked at that moment waits for it for ever. Here each weight is used once per pass, so that no cache is missed.
"""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def autocast(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Have torch's operations choose ``dtype`` where that is safe; None: as their inputs are."""
    kind = device.type
    before = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled()
    _set(kind, dtype is not None, before[1] if dtype is None else dtype, False)
    try:
        yield
    finally:
        _set(kind, *before)


def _set(kind: str, enabled: bool, dtype: torch.dtype, cache: bool) -> None:
    torch.set_autocast_enabled(kind, enabled)
    torch.set_autocast_dtype(kind, dtype)
    torch.set_autocast_cache_enabled(cache)
