"""From an activation to a vector. Knows the shapes of activations, not where they come from."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from skltransfer.backbones._layer_cut import mask_of

POOLINGS = ("cls", "mean", "max", "last", "flatten")


@dataclass(frozen=True)
class Pooling:
    """Pool maps (n, c, h, w) or tokens (n, t, d) to vectors; vectors (n, d) are as they are.

    Parameters
    ----------
    how : {"cls", "mean", "max", "last", "flatten"}
        ``"cls"`` is the first token, ``"last"`` the last one that is not padding; maps have neither.
    ends_in_channels : bool, default=False
        Maps are (n, h, w, c).
    unit_length : bool, default=False
        Scale vectors to length 1.
    """

    how: str
    ends_in_channels: bool = False
    unit_length: bool = False

    def __call__(self, activation: torch.Tensor) -> torch.Tensor:
        """Vectors, (n, width).

        Raises
        ------
        ValueError
            If ``how`` needs tokens, and there are maps.
        """
        if activation.ndim == 4 and self.ends_in_channels:
            activation = activation.permute(0, 3, 1, 2)
        vectors = self._pooled(activation)
        return F.normalize(vectors, dim=1) if self.unit_length else vectors

    def _pooled(self, activation: torch.Tensor) -> torch.Tensor:
        if activation.ndim == 2:
            return activation
        if activation.ndim == 3:
            return self._of_tokens(activation)
        if self.how == "flatten":
            return activation.flatten(1)
        if self.how in ("cls", "last"):
            raise ValueError(
                f"pooling={self.how!r} needs tokens, but this stage gives maps; use 'mean', 'max' or 'flatten'."
            )
        return activation.mean((2, 3)) if self.how == "mean" else activation.amax((2, 3))

    def _of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = mask_of(tokens)
        if self.how == "flatten":
            return tokens.flatten(1)
        if self.how == "cls":
            return tokens[:, 0]
        if self.how == "last":
            return tokens[torch.arange(tokens.shape[0], device=tokens.device), mask.sum(1) - 1]
        if not torch.compiler.is_exporting() and mask.all():  # a graph cannot look at values; the rest gives the same
            return tokens.mean(1) if self.how == "mean" else tokens.amax(1)
        if self.how == "max":
            return tokens.masked_fill(~mask[..., None], -torch.inf).amax(1)
        return tokens.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
