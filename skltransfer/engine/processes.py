"""Processes that train one network together, a share of each batch in each: those that accelerate's launcher started.

A script becomes one of them by making an ``accelerate.Accelerator`` (or ``PartialState``) before it fits. Promises that
alone nothing is imported and nothing done. Must not know what is trained.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from skltransfer.exceptions import MissingDependencyError


class Processes(Protocol):
    """This process and the other ones of the same fit.

    Attributes
    ----------
    rank, count : int
        Number of this process, from 0, and number of processes.
    device : torch.device or None
        Device of this process; None leaves the choice to the caller.
    """

    rank: int
    count: int
    device: torch.device | None

    def broadcast(self, value: Any) -> Any:
        """The first process's value."""

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the first process's tensors into everybody's."""

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""


class SingleProcess:
    """One process."""

    rank, count, device = 0, 1, None

    def broadcast(self, value: Any) -> Any:
        """The value."""
        return value

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Nothing to do."""

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        """Nothing to do."""


class ProcessGroup:
    """Several processes, through accelerate.

    Parameters
    ----------
    state : accelerate.PartialState
        State of accelerate.
    """

    def __init__(self, state: Any) -> None:
        self.rank, self.count, self.device = state.process_index, state.num_processes, state.device

    def broadcast(self, value: Any) -> Any:
        """The first process's value."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the first process's tensors into everybody's."""
        from accelerate.utils import broadcast

        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(broadcast(tensor.detach().clone()))

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one exchange."""
        from accelerate.utils import reduce

        flat = reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), reduction="sum")
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def processes() -> Processes:
    """This process and the other ones, once the script has made an ``Accelerator`` or a ``PartialState``."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return SingleProcess()
    if torch.distributed.get_world_size() == 1:
        return SingleProcess()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingDependencyError(
            "Training in several processes needs accelerate: pip install 'skltransfer[distributed]'."
        ) from error
    return ProcessGroup(PartialState())


def shard(rows: np.ndarray, of: Processes) -> np.ndarray:
    """This process's part of a batch; the parts differ by one row at most."""
    return np.array_split(rows, of.count)[of.rank]
