"""The activations of a training set, as ``train`` and inference over many rows see them.

Must not know y, losses or scikit-learn.
"""

from collections.abc import Iterator

import numpy as np
import torch

from skltransfer.engine._activations import GIB
from skltransfer.engine._address import Address
from skltransfer.engine._forward import recall
from skltransfer.engine._frozen import FrozenStages
from skltransfer.engine._reading import BadSamplePolicy, Complaints
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples


class Activations:
    """The training set as ``train`` sees it: ``len`` and ``take(rows)`` -> tensor.

    Held as one tensor where that stays under ``limit`` bytes; else recalled batch by batch, from the store or anew.

    Parameters
    ----------
    stages : FrozenStages
    samples : Samples
    address : Address
    policy : BadSamplePolicy, optional
    limit : int, default=2 GiB
    """

    def __init__(
        self,
        stages: FrozenStages,
        samples: Samples,
        address: Address,
        policy: BadSamplePolicy | None = None,
        limit: int = 2 * GIB,
    ) -> None:
        self._stages, self._samples, self._address, self._policy = stages, samples, address, policy
        self._held: torch.Tensor | list[torch.Tensor] | None = None
        if len(samples) * stages.row_bytes(address) <= limit:
            recalled = recall(stages, samples, [address], policy)
            self._held, self.digests, self.bad = recalled.tensors[0], recalled.digests, recalled.bad
        else:
            self.digests, self.bad = _identify_all(samples, policy or BadSamplePolicy())

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """The activations of these rows, (len(rows), ...), on the stages' device."""
        found = self._rows(rows)
        batch = found if isinstance(found, torch.Tensor) else self._stages.stacked(found)
        return (batch.clone() if batch.is_inference() else batch).to(self._stages.device)  # autograd refuses those

    def take_to_train(self, rows: np.ndarray) -> torch.Tensor:
        """The same: what is not augmented is trained on as it is."""
        return self.take(rows)

    def exact_batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Batches for inference, as positions in ``rows`` and activations: none depends on a sample's neighbours."""
        for start in range(0, len(rows), size):
            found = self._rows(rows[start : start + size])
            if isinstance(found, torch.Tensor):
                yield np.arange(start, start + len(found)), found.to(self._stages.device)
                continue
            lengths = np.array([self._stages.padded_length(len(row)) for row in found])
            for length in np.unique(lengths):
                members = np.flatnonzero(lengths == length)
                yield start + members, self._stages.stacked([found[i] for i in members]).to(self._stages.device)

    def _rows(self, rows: np.ndarray) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(self._held, torch.Tensor):
            return self._held[torch.as_tensor(rows)]
        if self._held is not None:
            return [self._held[row] for row in rows]
        quiet = FrozenStages(
            self._stages.backbone, dtype=self._stages.dtype, device=self._stages.device, store=self._stages.store
        )
        return recall(quiet, self._samples.take(np.asarray(rows)), [self._address], self._policy).tensors[0]


def _identify_all(samples: Samples, policy: BadSamplePolicy) -> tuple[list[bytes], dict[int, BadSampleError]]:
    digests, complaints = [b""] * len(samples), Complaints(policy)
    for position in range(len(samples)):
        try:
            digests[position] = samples.peek(position).digest or samples.identify(position)[0]
        except BadSampleError as error:
            complaints.add(position, error)
    complaints.raise_if_any()
    return digests, complaints.bad
