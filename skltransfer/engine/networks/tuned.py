"""What is trained: the private copy of the unfrozen stages, and a readout, as one module.

Must not know targets, samples or the store.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from skltransfer.backbones import PADDING_ID, Backbone, seeded
from skltransfer.engine.inference.beside import Batch, WithNumbers, apart
from skltransfer.engine.inference.packing import Packing
from skltransfer.engine.networks.adapters import with_adapters
from skltransfer.engine.networks.readout import Readout
from skltransfer.engine.networks.spec import NetworkSpec

MakeReadout = Callable[[Backbone, NetworkSpec, bool], Readout]


class TunedNetwork(nn.Module):
    """Suffix and readout.

    Parameters
    ----------
    suffix : nn.Module or None
        Private copy of the unfrozen stages; None if the readout needs no further stage.
    readout : Readout
        Function from the last stage's activation, or a tuple of tapped ones, to outputs.
    spec : NetworkSpec
        The network.
    n_axes : int or None
        Number of axes of a batch in which each sample is one input; a batch with one more axis holds packed windows.
    packing : Packing or None
        Layout of the activations of several boundaries in one.
    """

    def __init__(
        self,
        suffix: nn.Module | None,
        readout: Readout,
        spec: NetworkSpec,
        *,
        n_axes: int | None = None,
        packing: Packing | None = None,
    ) -> None:
        super().__init__()
        self.suffix, self.readout, self.spec, self.n_axes, self.packing = suffix, readout, spec, n_axes, packing

    def given(self, activation: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The readout's input, in float32."""
        if not self.spec.taps:
            return self._after(activation)
        arrived = (activation,) if self.packing is None else self.packing.unpacked(activation)
        parts = dict(zip(self.spec.held, arrived, strict=True))
        held = [parts[boundary].float() for boundary in self.spec.taps if boundary in parts]
        return (*held, *(() if self.suffix is None else self._after(parts[self.spec.boundary])))

    def _after(self, activation: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        if self.suffix is None:
            return activation.float()
        if activation.is_floating_point() and not torch.is_autocast_enabled(activation.device.type):
            activation = activation.float()  # its weights are
        if activation.ndim == 4:
            activation = activation.contiguous(memory_format=torch.channels_last)
        found = self.suffix(activation)
        return found.float() if isinstance(found, torch.Tensor) else tuple(one.float() for one in found)

    def features(self, inputs: Batch) -> torch.Tensor:
        """Pooled features, (n, d), in float32; of a sample of several windows their mean or maximum."""
        given, mask = self._given_of(inputs)
        features = self.readout.features(given)
        return features if mask is None else self._pooled(features, mask)

    def forward(self, inputs: Batch, batch: Any = None) -> Any:
        """The readout's outputs; where windows vote, those of each window, (k, n_outputs), and a mask (n, windows)."""
        given, mask = self._given_of(inputs)
        if mask is None:
            return self.readout(given, batch)
        if self.spec.window_pooling == "max":
            return self.readout.of_features(self._pooled(self.readout.features(given), mask))
        outputs = self.readout(given, batch)
        return (outputs, mask) if self.votes else mean_of_windows(outputs, mask)

    def _given_of(self, inputs: Batch) -> tuple[Any, torch.Tensor | None]:
        """The readout's input, with the numbers beside each sample; and where windows are, if they are packed."""
        activation, numbers = apart(inputs)
        mask = None
        if self.n_axes is not None and activation.ndim > self.n_axes:
            activation, mask = _unpacked(activation)
            numbers = None if numbers is None else numbers[mask.nonzero()[:, 0]]
        given = self.given(activation)
        return (given if numbers is None else WithNumbers(given, numbers)), mask

    @property
    def votes(self) -> bool:
        """True if each window of a sample has outputs and a loss of its own."""
        return self.n_axes is not None and self.spec.window_pooling == "vote"

    @property
    def takes_maximum(self) -> bool:
        """True if the head reads the maximum over the windows of a sample."""
        return self.n_axes is not None and self.spec.window_pooling == "max"

    def _pooled(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(k, d), one row per window -> (n, d)."""
        if self.spec.window_pooling != "max":
            return mean_of_windows(features, mask)
        padded = features.new_full((*mask.shape, features.shape[1]), -torch.inf)
        padded[mask] = features
        return padded.amax(1)


def _axes(backbone: Backbone, spec: NetworkSpec) -> int | None:
    """Axes of a batch at the boundary, if samples may have several windows there.

    After the last stage these are pooled already, unless they vote.
    """
    if not backbone.is_windowed or (spec.boundary == backbone.n_stages and spec.window_pooling != "vote"):
        return None
    return 2 if spec.boundary == backbone.n_stages else 1 + len(backbone.activation_shapes[spec.boundary])


def _unpacked(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, windows, ...) -> the windows that are no padding, (k, ...), and where they are, (n, windows)."""
    first = batch.flatten(2)[..., 0]
    mask = ~torch.isnan(first) if batch.is_floating_point() else first != PADDING_ID
    return batch[mask], mask


def mean_of_windows(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(k, d), one row per window -> (n, d), the mean of each sample's windows."""
    owners = mask.nonzero()[:, 0]
    total = values.new_zeros(len(mask), values.shape[1]).index_add(0, owners, values)
    return total / mask.sum(1, keepdim=True)


def new_network(backbone: Backbone, spec: NetworkSpec, readout: MakeReadout, *, seed: int | None) -> TunedNetwork:
    """The network that training starts from: the pretrained suffix after the boundary and a readout of random weights.

    Without a seed nothing is drawn: readout and adapters are to be filled by the caller.
    """
    later = [tap for tap in spec.taps if tap > spec.boundary]
    suffix = backbone.suffix(spec.boundary, later) if spec.boundary < spec.last(backbone.n_stages) else None
    with nullcontext() if seed is None else seeded(seed):
        if spec.adapter is not None and suffix is not None:
            suffix = with_adapters(suffix, backbone, spec.boundary, draws=seed is not None)
        made = readout(backbone, spec, seed is not None)
        made.tie(suffix, spec)
        return TunedNetwork(
            suffix,
            made,
            spec,
            n_axes=_axes(backbone, spec),
            packing=Packing.at(backbone, spec.held) if len(spec.held) > 1 else None,
        )
