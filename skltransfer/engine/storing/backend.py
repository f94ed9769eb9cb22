"""What keeps activations beyond the process: the one thing that a new kind of storage implements."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch

from skltransfer.engine.storing.key import Address


class Backend(Protocol):
    """Rows of numbers by address and digest. What it has lost or cannot read is computed again, so it may forget."""

    def get_many(self, address: Address, digests: Sequence[bytes]) -> tuple[np.ndarray, torch.Tensor | None]:
        """Positions of those samples that are held, and their rows."""

    def put(self, address: Address, digest: bytes, row: torch.Tensor) -> None:
        """Take a row, to be written with the next ones."""

    def flush(self) -> None:
        """Write what waits to be written."""

    def refresh(self) -> None:
        """See what other processes wrote."""

    def new_keys(self, address: Address) -> list[bytes]:
        """Digests that are held at an address and were not returned before."""

    def lease(self, address: Address, part: str, *, wait: bool) -> AbstractContextManager | None:
        """The right to compute one part of a space; None while another process has it."""

    def clear(self) -> None:
        """Delete everything."""

    def size(self) -> tuple[int, int]:
        """Rows and bytes that are held."""
