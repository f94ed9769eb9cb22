"""Activations of several boundaries as one tensor, so that neither the store nor the training loop needs to know."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skltransfer.backbones import Backbone


@dataclass(frozen=True)
class Packing:
    """Layout of the activations of one sample at several boundaries in one tensor.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Shape of one sample's activation at each boundary.
    is_ragged : bool
        True if samples have different numbers of tokens, which are then concatenated.
    """

    shapes: tuple[tuple[int, ...], ...]
    is_ragged: bool

    @classmethod
    def at(cls, backbone: Backbone, boundaries: Sequence[int]) -> "Packing":
        """Packing of the activations of these boundaries, in this order.

        Raises
        ------
        ValueError
            If a boundary is the input.
        """
        if 0 in boundaries:
            raise ValueError(
                f"taps are boundaries after a stage of {backbone.name!r}, from 1 to {backbone.n_stages}; got the "
                "input, boundary 0. Leave it out."
            )
        return cls(tuple(backbone.activation_shapes[boundary] for boundary in boundaries), backbone.is_ragged)

    def packed(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Activations (n, ...) per boundary -> (n, values); of tokens, (n, tokens, d) or (tokens, d), side by side."""
        return torch.cat(list(parts) if self.is_ragged else [part.flatten(1) for part in parts], dim=-1)

    def unpacked(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The activations of each boundary, (n, ...)."""
        if self.is_ragged:
            return batch.split([shape[-1] for shape in self.shapes], dim=-1)
        parts = batch.split([math.prod(shape) for shape in self.shapes], dim=1)
        return tuple(part.reshape(len(batch), *shape) for part, shape in zip(parts, self.shapes, strict=True))
