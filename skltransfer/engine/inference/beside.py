"""Batches of activations with the numbers that the head receives beside them.

Must not know what the numbers mean.
"""

from typing import NamedTuple

import torch


class WithNumbers(NamedTuple):
    """A batch of activations, (n, ...), and numbers of the same samples, (n, c), in float32."""

    activation: torch.Tensor
    numbers: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Device of both."""
        return self.activation.device

    def to(self, device: torch.device) -> "WithNumbers":
        """The same on a device."""
        return WithNumbers(self.activation.to(device), self.numbers.to(device))


Batch = torch.Tensor | WithNumbers


def apart(batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Activations, and the numbers beside them, if there are any."""
    return (batch.activation, batch.numbers) if isinstance(batch, WithNumbers) else (batch, None)
