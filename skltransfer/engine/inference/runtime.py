"""What runs the frozen stages: the one thing that another library for inference implements; torch's own two ways.

Must not know samples, the store, y or scikit-learn.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch

from skltransfer.backbones import Backbone, freeze_boundary

TOKENS = {torch.float32: 256, torch.bfloat16: 512}  # of a batch of texts; with half of them it is 10 to 25 % slower
USUAL_DEPTHS = (0.25, 0.5, 0.75)
Function = Callable[[torch.Tensor], torch.Tensor]


class Entries(NamedTuple):
    """Boundaries at which a computation may begin that were computed before.

    A value is always computed from the last entry before it, or from the input, so that its bits do not depend on what
    the store holds. With ``compose``, what lies between two entries gives the same bits in one piece and in several.
    """

    boundaries: tuple[int, ...]
    compose: bool


class Runtime(Protocol):
    """Makes functions of batches from frozen stages, which agree with them within the store's tolerance.

    Attributes
    ----------
    name, key : str
        Name, and part of the key of every activation that it computes.
    has_equal_rows : bool
        True if its functions take any number of rows, and probably give a row the same bits in a batch of any size.
        For each shape this is checked at its first use.
    is_quantized : bool
        True if matrix products are in 8 bits.
    """

    name: str
    key: str
    has_equal_rows: bool
    is_quantized: bool

    def between(self, backbone: Backbone, start: int, stop: int, dtype: torch.dtype, device: torch.device) -> Function:
        """The function from activations at one boundary to those at a later one; it remembers what it made."""

    def entries(self, backbone: Backbone, dtype: torch.dtype) -> Entries:
        """Boundaries that a fit stores on the way, for others to begin there."""

    def rows(self, backbone: Backbone, length: int, dtype: torch.dtype, device: torch.device) -> int:
        """Rows of a full batch of samples of this padded length; 0 stands for samples of one shape."""


def usual_boundaries(backbone: Backbone) -> list[int]:
    """Boundaries of the freeze depths that searches usually try: what is computed up to one of them serves the rest."""
    found = {freeze_boundary(depth, backbone.stage_names) for depth in USUAL_DEPTHS}
    return sorted(found - {backbone.n_stages})


class TorchRuntime:
    """The library's own modules, run by torch.

    Parameters
    ----------
    name : {"eager", "folded"}
        ``"folded"`` computes a batch norm within the convolution before it, also in float32.
    """

    has_equal_rows = False  # matrix libraries add up in another order where there are few rows
    is_quantized = False

    def __init__(self, name: str) -> None:
        self.name = self.key = name

    def between(self, backbone: Backbone, start: int, stop: int, dtype: torch.dtype, device: torch.device) -> Function:
        """The stages between two boundaries."""
        return backbone.prefix(start, stop, dtype, device, folded=self.name == "folded")

    def entries(self, backbone: Backbone, dtype: torch.dtype) -> Entries:
        """All boundaries."""
        return Entries(tuple(range(1, backbone.n_stages)), compose=True)

    def rows(self, backbone: Backbone, length: int, dtype: torch.dtype, device: torch.device) -> int:
        """As many as are faster together: since each call has all of them, one sample costs as much as a full batch."""
        return rows_of_tokens(backbone, length, dtype, device, TOKENS[dtype])


def rows_of_tokens(backbone: Backbone, length: int, dtype: torch.dtype, device: torch.device, tokens: int) -> int:
    """As many rows as have a number of tokens together, at most the backbone's own constant."""
    most = backbone.inference_batch(device, dtype)
    return most if device.type != "cpu" or not length else min(most, max(1, tokens // length))


EAGER, FOLDED = TorchRuntime("eager"), TorchRuntime("folded")
