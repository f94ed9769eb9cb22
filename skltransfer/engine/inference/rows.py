"""Batches with fewer rows than usual: each row comes out bit for bit as it would in a full batch.

Libraries choose how they add up a row by the number of rows. A batch is therefore filled with zeros, unless it was seen
that the function gives the same bits for this shape without them: then one row costs one row.
"""

from collections.abc import Callable, Hashable

import torch

from skltransfer._system.forks import after_fork_in_child

MOST_KNOWN = 100_000
LEAST_VALUES = 1000  # of an output; fewer may be the same by chance
BITS = {4: torch.int32, 8: torch.int64}  # of values with fewer, many are the same by rounding
_guard: list[bool] = []
_needs_no_filling: dict[Hashable, bool] = {}


def _guard_forks() -> None:
    """A child forked after a multi-threaded forward pass would wait for threads that it does not have."""
    if not _guard:
        after_fork_in_child(lambda: torch.set_num_threads(1))
        _guard.append(True)


def run_padded(
    function: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, size: int, key: Hashable = None
) -> torch.Tensor:
    """Run a function of batches of ``size`` rows on at most as many.

    Parameters
    ----------
    function : callable
        Function of a batch, whose rows it treats alike.
    batch : Tensor of shape (n, ...)
        At most ``size`` rows.
    size : int
        Number of rows of a full batch.
    key : hashable, optional
        Name of the function by all but its weights. With it, the first batch of each shape is run with and without
        filling; if their bits are the same, later ones are not filled.
    """
    if len(batch) == size or key is None:
        return function(filled(batch, size))[: len(batch)]
    key = (key, tuple(batch.shape), batch.dtype, size, torch.get_num_threads())
    known = _needs_no_filling.get(key)
    if known:
        return function(filled(batch, len(batch)))
    output = function(filled(batch, size))[: len(batch)]
    if known is None:
        if len(_needs_no_filling) >= MOST_KNOWN:
            _needs_no_filling.clear()
        _needs_no_filling[key] = _same_bits(function(filled(batch, len(batch))), output)
    return output


def filled(batch: torch.Tensor, size: int) -> torch.Tensor:
    """A batch of ``size`` rows: missing ones are zeros."""
    _guard_forks()
    if len(batch) < size:
        batch = torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.numel() < LEAST_VALUES or a.element_size() not in BITS:
        return False
    kind = BITS[a.element_size()]
    return torch.equal(a.contiguous().view(kind), b.contiguous().view(kind))
