"""Where activations of one kind live. Knows nothing else."""

from typing import NamedTuple

OF_WINDOWS = "windows: "


class Address(NamedTuple):
    """Activations of one boundary.

    ``space`` names everything but the sample that a value depends on: fingerprint, dtype, device, inference batch.
    """

    space: tuple
    boundary: int
    pooling: str | None

    @property
    def window_pooling(self) -> str:
        """What becomes of the pooled vectors of a sample's windows: ``"mean"``, ``"max"``, or ``"vote"`` keeps all."""
        last = str(self.space[-1])
        return last.removeprefix(OF_WINDOWS) if last.startswith(OF_WINDOWS) else "mean"
