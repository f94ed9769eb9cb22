"""A backbone's frozen stages, where and in which dtype they run, and the memory that they fill.

Must not know samples, y, losses or scikit-learn.
"""

import numpy as np
import torch

from skltransfer.backbones import Backbone
from skltransfer.engine._activations import ActivationStore
from skltransfer.engine._address import Address


class FrozenStages:
    """A backbone's shared stages on one device, in one dtype, with a memory.

    Parameters
    ----------
    backbone : Backbone
    dtype : torch.dtype
        Of weights and activations.
    device : torch.device
    store : ActivationStore or None
    verbose : int
        Whether to show progress.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        dtype: torch.dtype,
        device: torch.device,
        store: ActivationStore | None,
        verbose: int = 0,
    ) -> None:
        self.backbone, self.dtype, self.device, self.store, self.verbose = backbone, dtype, device, store, verbose
        self.batch = backbone.inference_batch(device)
        self.space = (backbone.fingerprint, str(dtype), device.type, self.batch)

    def address(self, boundary: int, pooling: str | None = None) -> Address:
        """Where the activations of ``boundary`` live: as they are, or pooled."""
        return Address(self.space, boundary, pooling)

    def row_bytes(self, address: Address) -> int:
        """Size of one sample's activation."""
        shape = self.backbone.activation_shapes[address.boundary]
        if address.pooling is not None:
            shape = (self.backbone.pooled_width(address.boundary, address.pooling),)
        return int(np.prod(shape)) * (4 if address.pooling is not None else self.dtype.itemsize)
