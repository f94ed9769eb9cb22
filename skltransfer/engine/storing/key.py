"""Where activations of one kind live. Knows nothing else."""

from typing import NamedTuple


class Address(NamedTuple):
    """Activations of one boundary.

    ``space`` names everything but the sample that a value depends on: fingerprint, dtype, device, inference batch.
    """

    space: tuple
    boundary: int
    pooling: str | None
