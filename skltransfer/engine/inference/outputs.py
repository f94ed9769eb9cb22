"""Activations as they are handed out: a place for each sample at each address. Knows neither store nor networks."""

from collections.abc import Sequence

import torch

from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.storing.key import Address


class Outputs:
    """One tensor per address; or a list, where samples have tokens or windows of their own number.

    Parameters
    ----------
    stages : FrozenStages
        Frozen stages that compute activations.
    addresses : sequence of Address
        Stages and poolings whose activations are requested.
    n : int
        Number of samples.
    """

    def __init__(self, stages: FrozenStages, addresses: Sequence[Address], n: int) -> None:
        self._stages, self._addresses, self._n = stages, addresses, n
        self._values: list[torch.Tensor | list | None] = [None] * len(addresses)

    def put(self, i: int, positions: list[int], rows: Sequence[torch.Tensor]) -> None:
        """Set the activations of these samples at the address of this number."""
        if not self._stages.has_one_shape(self._addresses[i]):
            self._values[i] = self._values[i] or [None] * self._n
            for position, row in zip(positions, rows, strict=True):
                self._values[i][position] = row.to("cpu", copy=True)
            return
        if not len(rows):
            return
        if self._values[i] is None:
            self._values[i] = torch.zeros(self._n, *rows[0].shape, dtype=rows[0].dtype)
        rows = rows if isinstance(rows, torch.Tensor) else torch.stack(list(rows))
        self._values[i][positions] = rows.to("cpu")

    def finished(self, copies: Sequence[tuple[int, int]], filling: dict[int, float]) -> list[torch.Tensor | list]:
        """All outputs, once samples of equal content share a value and bad samples have theirs.

        Parameters
        ----------
        copies : sequence of (int, int)
            Positions, each with that of the sample whose value it shares.
        filling : dict of int to float
            Values of bad samples, by position.
        """
        for i, address in enumerate(self._addresses):
            if self._values[i] is None:
                self._values[i] = self._without_samples(address)
            for position, source in copies:
                self._values[i][position] = self._values[i][source]
            for position, value in filling.items():
                self._values[i][position] = self._filled(address, value)
        return self._values

    def _filled(self, address: Address, value: float) -> torch.Tensor | float:
        """The value of a bad sample: one token of zeros, in one window, where samples have their own number."""
        if self._stages.has_one_shape(address):
            return value
        if address.pooling is not None:
            return torch.zeros(1, self._stages.backbone.pooled_width(address.boundary, address.pooling))
        shape = self._stages.backbone.activation_shapes[address.boundary]
        shape = (1, *shape[1:]) if self._stages.backbone.is_ragged else shape
        filling = torch.zeros(shape, dtype=self._stages.dtype)
        return filling[None] if self._stages.backbone.is_windowed else filling

    def _without_samples(self, address: Address) -> torch.Tensor | list[None]:
        """Empty output for all samples, if none could be computed."""
        if not self._stages.has_one_shape(address):
            return [None] * self._n
        empty = torch.zeros(1, *self._stages.backbone.activation_shapes[address.boundary])
        row = empty.to(self._stages.dtype) if address.pooling is None else self._stages.pooled(empty, address)
        return torch.zeros(self._n, *row.shape[1:], dtype=row.dtype)
