"""What runs the frozen stages: the one thing that another library for inference implements."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn


class Runtime(Protocol):
    """Makes a function of batches of a frozen module, which agrees with it within the store's tolerance.

    Attributes
    ----------
    name : str
        Part of the key of every activation that it computes.
    """

    name: str

    def prepared(self, stages: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function; called for each span of stages whenever a batch is to pass it, so it remembers what it made."""
