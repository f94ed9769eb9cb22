"""The activations of a training set, as ``train`` and inference over many rows see them.

Must not know y, losses or scikit-learn.
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from skltransfer.engine.inference.beside import Batch, WithNumbers
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.packing import Packing
from skltransfer.engine.inference.reading import BadSamplePolicy, Complaints
from skltransfer.engine.inference.recall import recall
from skltransfer.engine.storing.key import Address
from skltransfer.engine.storing.memory import GIB
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples, digest_of

LENGTHS_AT_ONCE = 64  # batches that are looked at together where activations are not held: most of them come out full


class Activations:
    """The training set as ``train`` sees it: ``len`` and ``take(rows)`` -> tensor.

    Held as one tensor where that stays under ``limit`` bytes; else recalled batch by batch, from the store or the
    network.

    Parameters
    ----------
    stages : FrozenStages
        Frozen stages that compute activations.
    samples : Samples
        Samples.
    addresses : Address or sequence of Address
        Stages and poolings; several are packed into one activation.
    policy : BadSamplePolicy, optional
        Treatment of samples that cannot be read.
    limit : int, default=2 GiB
        Size in bytes up to which all activations are held as one tensor.
    """

    def __init__(
        self,
        stages: FrozenStages,
        samples: Samples,
        addresses: Address | Sequence[Address],
        policy: BadSamplePolicy | None = None,
        limit: int = 2 * GIB,
    ) -> None:
        self._stages, self._samples, self._policy = stages, samples, policy
        self._addresses = [addresses] if isinstance(addresses, Address) else list(addresses)
        self._held: torch.Tensor | list[torch.Tensor] | None = None
        self._lengths: dict[int, int] = {}
        self._has_one_shape = stages.has_one_shape(self._addresses[0])
        if len(samples) * sum(map(stages.row_bytes, self._addresses)) <= limit:
            recalled = recall(stages, samples, self._addresses, policy)
            self._held, self.digests, self.bad = self._packed(recalled.tensors), recalled.digests, recalled.bad
        else:
            self.digests, self.bad = _identify_all(samples, policy or BadSamplePolicy())
        self._numbers = None if samples.numbers is None else torch.from_numpy(samples.numbers)
        if samples.numbers is not None:
            pairs = zip(self.digests, samples.numbers, strict=True)
            self.digests = [digest and digest_of(digest, row.tobytes()) for digest, row in pairs]

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, rows: np.ndarray) -> Batch:
        """The activations of these rows, (len(rows), ...), on the stages' device; samples of several windows packed."""
        found = self._rows(rows)
        batch = found if isinstance(found, torch.Tensor) else self._stages.packed(found)
        batch = batch.clone() if batch.is_inference() else batch  # autograd refuses those
        return self.with_numbers(batch, rows).to(self._stages.device)

    def with_numbers(self, batch: torch.Tensor, rows: np.ndarray) -> Batch:
        """A batch with the numbers beside these rows' samples, if there are any."""
        return batch if self._numbers is None else WithNumbers(batch, self._numbers[torch.as_tensor(rows)])

    def take_to_train(self, rows: np.ndarray, batch: Any = None) -> tuple[Batch, Any]:
        """The same, and the batch of targets: what is not augmented is trained on as it is."""
        return self.take(rows), batch

    def lengths(self, rows: np.ndarray) -> np.ndarray | None:
        """Number of tokens of each sample, over all its windows; None if all samples have one shape."""
        if self._has_one_shape or not self._stages.backbone.is_ragged:
            return None
        for row in map(int, rows):
            if row not in self._lengths:
                self._lengths[row] = self._length(row)
        return np.array([self._lengths[int(row)] for row in rows])

    def _length(self, row: int) -> int:
        backbone = self._stages.backbone
        if self._held is not None:
            return math.prod(self._held[row].shape[: 1 + backbone.is_windowed])
        with contextlib.suppress(BadSampleError):  # it will be told where the sample is used
            return sum(map(len, backbone.preprocessing.parts(self._samples.read(row))))
        return 0

    def exact_batches(self, rows: np.ndarray, size: int | None = None) -> Iterator[tuple[np.ndarray, Batch]]:
        """Batches of up to ``size`` rows, by default full ones, as positions in ``rows`` and activations.

        Inputs of one length go together, so that as few batches as can be are short of rows. A sample of several
        windows is met as often as it has windows, in their order.
        """
        for members, batch in self._exact_batches(rows, size):
            yield members, self.with_numbers(batch, rows[members]).to(self._stages.device)

    def _exact_batches(self, rows: np.ndarray, size: int | None) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        most = size or self._stages.rows_after(0)
        step = most * LENGTHS_AT_ONCE if self._held is None else len(rows)
        for start in range(0, len(rows), max(1, step)):
            found = self._rows(rows[start : start + step])
            if isinstance(found, torch.Tensor):
                for first in range(0, len(found), most):
                    part = found[first : first + most]
                    yield start + np.arange(first, first + len(part)), part
                continue
            for owners, batch in self._alike(found, size):
                yield start + owners, batch

    def _alike(self, found: list[torch.Tensor], size: int | None) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Batches of inputs of one length, with the positions of the samples that they are of."""
        is_windowed = self._stages.backbone.is_windowed
        has_tokens = self._stages.backbone.is_ragged and self._addresses[0].pooling is None
        parts = [(i, part) for i, row in enumerate(found) for part in (row if is_windowed else [row])]
        lengths = np.array([self._stages.padded_length(len(part)) if has_tokens else 0 for _, part in parts])
        for length in np.unique(lengths):
            members, most = np.flatnonzero(lengths == length), size or self._stages.rows_after(int(length))
            for first in range(0, len(members), most):
                chosen = [parts[k] for k in members[first : first + most]]
                yield np.array([i for i, _ in chosen]), self._stages.stacked([part for _, part in chosen])

    def _rows(self, rows: np.ndarray) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(self._held, torch.Tensor):
            return self._held[torch.as_tensor(rows)]
        if self._held is not None:
            return [self._held[row] for row in rows]
        quiet = copy.copy(self._stages)
        quiet.verbose = 0
        return self._packed(recall(quiet, self._samples.take(np.asarray(rows)), self._addresses, self._policy).tensors)

    def _packed(self, found: list) -> torch.Tensor | list[torch.Tensor]:
        """Pack the activations of all addresses into one tensor, or one per sample."""
        if len(found) == 1:
            return found[0]
        packing = Packing.at(self._stages.backbone, [address.boundary for address in self._addresses])
        return (
            packing.packed(found) if self._has_one_shape else [packing.packed(one) for one in zip(*found, strict=True)]
        )


def _identify_all(samples: Samples, policy: BadSamplePolicy) -> tuple[list[bytes], dict[int, BadSampleError]]:
    digests, complaints = [b""] * len(samples), Complaints(policy)
    for position in range(len(samples)):
        try:
            digests[position] = samples.peek(position).digest or samples.identify(position)[0]
        except BadSampleError as error:
            complaints.add(position, error)
    complaints.raise_if_any()
    samples.tell_remarks(digests)
    return digests, complaints.bad
