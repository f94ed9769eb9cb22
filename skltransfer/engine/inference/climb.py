"""Samples climb through frozen stages, from the boundary at which each begins, in full batches.

Promises that rows come out as in a full batch. Must not know the store, nor where samples come from.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from skltransfer.backbones import mask_of
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.storing.key import Address

Window = tuple[int, int]  # (position of a sample, number of its window)
Rows = Sequence[torch.Tensor]


class Arrival(NamedTuple):
    """Activations of some samples at one boundary; without a number they were only passed on the way."""

    address: Address
    number: int | None  # of the address among those asked for
    positions: list[int]
    rows: Rows


class Climb:
    """Queues of samples, one for each boundary at which they begin and each padded length.

    Parameters
    ----------
    stages : FrozenStages
        Frozen stages that compute activations.
    addresses : sequence of Address
        Stages and poolings whose activations are requested.
    keeps_passed : bool
        If True, intermediate activations that are not requested are stored too.
    """

    def __init__(self, stages: FrozenStages, addresses: Sequence[Address], *, keeps_passed: bool) -> None:
        self._stages, self._addresses, self._keeps_passed = stages, addresses, keeps_passed
        self._asked = {address.boundary for address in addresses}
        self._queues: dict[tuple[int, int], list[tuple[Window, torch.Tensor]]] = defaultdict(list)  # (entry, length)
        self._n_parts: dict[int, int] = {}  # by position
        self._gathered: dict[tuple[Address, int], dict[int, torch.Tensor]] = defaultdict(dict)  # windows, until all are

    def add(self, position: int, entry: int, parts: Rows) -> Iterator[Arrival]:
        """Let a sample wait at boundary ``entry``, in one part or several windows; a full batch climbs at once.

        Nothing happens before the iterator is used.
        """
        self._n_parts[position] = len(parts)
        for number, part in enumerate(parts):
            key = (entry, self._stages.padded_length(len(part)) if self._stages.backbone.is_ragged else 0)
            self._queues[key].append(((position, number), part))
            if len(self._queues[key]) == self._stages.rows(key[1]):
                yield from self._run(*key)

    def finish(self) -> Iterator[Arrival]:
        """Let all that wait climb, in batches that are not full."""
        for key in sorted(self._queues):
            yield from self._run(*key)

    def _run(self, entry: int, length: int) -> Iterator[Arrival]:
        queue, stages = self._queues.pop((entry, length)), self._stages
        windows = [window for window, _ in queue]
        batch = stages.stacked([activation for _, activation in queue]).to(stages.device)
        batch = batch.to(stages.dtype) if batch.is_floating_point() else batch
        for boundary, values in stages.passing(batch, entry, self._asked, all_between=self._keeps_passed):
            yield from self._arrivals(boundary, windows, values, is_computed=boundary > entry)

    def _arrivals(
        self, boundary: int, windows: list[Window], batch: torch.Tensor, *, is_computed: bool
    ) -> Iterator[Arrival]:
        """The last stage's output is returned only as it was requested."""
        for i, address in enumerate(self._addresses):
            if address.boundary == boundary:
                plain = address.pooling is None
                value = self._trimmed(batch) if plain else self._stages.pooled(batch.float(), address)
                yield Arrival(address, i, *self._of_samples(address, windows, value))
        passed = self._stages.address(boundary)
        is_passed = is_computed and self._keeps_passed and 0 < boundary < self._stages.backbone.n_stages
        if is_passed and passed not in self._addresses:
            yield Arrival(passed, None, *self._of_samples(passed, windows, self._trimmed(batch)))

    def _of_samples(self, address: Address, windows: list[Window], rows: Rows) -> tuple[list[int], Rows]:
        """Positions and values of the samples all of whose windows are there: stacked, or one vector if pooled."""
        if not self._stages.backbone.is_windowed:
            return [position for position, _ in windows], rows
        whole: dict[int, torch.Tensor] = {}
        for (position, number), row in zip(windows, rows, strict=True):
            there = self._gathered[address, position]
            there[number] = row
            if len(there) == self._n_parts[position]:
                stacked = torch.stack([there[k] for k in range(len(there))])
                whole[position] = stacked if address.pooling is None else _of_windows(stacked, address)
                del self._gathered[address, position]
        return list(whole), list(whole.values())

    def _trimmed(self, batch: torch.Tensor) -> Rows:
        """The rows of a batch, without padding."""
        if not self._stages.backbone.is_ragged:
            return batch
        lengths = mask_of(batch).sum(1).tolist()
        return [row[:length] for row, length in zip(batch, lengths, strict=True)]


def _of_windows(vectors: torch.Tensor, address: Address) -> torch.Tensor:
    """Pooled vectors of a sample's windows, (windows, d) -> (d,), or as they are where windows vote."""
    if address.window_pooling == "vote":
        return vectors
    return vectors.amax(0) if address.window_pooling == "max" else vectors.mean(0)
