"""From what the stages give to outputs: pooling, scaling and head of the tasks whose answers are read off one vector.

Must not know targets, samples or the store.
"""

import copy
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Backbone, Pooling, shared_space
from skltransfer.engine.inference.beside import Batch, apart
from skltransfer.engine.networks.spec import NetworkSpec

HIDDEN = 256


class Constants(nn.Module):
    """Puts trained numbers after each row."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(n))

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([outputs, self.values.expand(outputs.shape[0], -1)], dim=1)


class Readout(nn.Module):
    """Parent of the modules that make a task's outputs of what a network's stages give.

    ``forward(given, batch=None)``: ``batch`` is what is to be learnt of these samples, where a loss is wanted, for
    readouts that begin with it (teacher forcing); None in inference.
    """

    def prepare_for_inference(self) -> None:
        """Called once, before outputs are computed without gradients; changes the module in place."""

    def tie(self, suffix: nn.Module | None, spec: NetworkSpec) -> None:
        """Called once, when a network is put together: share with the unfrozen stages what the library's model does."""

    def pretrained_state(self) -> dict[str, torch.Tensor]:
        """Entries of the state dict that can be read from the backbone's files again: a state leaves them out."""
        return {}


class PretrainedReadout(Readout):
    """Parent of the readouts that begin as a part of the library's own model, in ``self.<name>``.

    A copy does not copy the pretrained weights, which are shared.

    Parameters
    ----------
    name : str
        Name of the part.
    pretrained : nn.Module
        The part, shared.
    """

    def __init__(self, name: str, pretrained: nn.Module) -> None:
        super().__init__()
        self.__dict__["pretrained"] = {f"{name}.{key}": value for key, value in pretrained.state_dict().items()}

    def __deepcopy__(self, memo: dict) -> Self:
        new = object.__new__(type(self))
        memo[id(self)] = new
        state = {key: value for key, value in vars(self).items() if key != "pretrained"}
        new.__dict__.update(copy.deepcopy(state, memo), pretrained=self.__dict__["pretrained"])
        return new

    def pretrained_state(self) -> dict[str, torch.Tensor]:
        """Weights of the part as they were read."""
        return self.__dict__["pretrained"]


def head_layers(n_features: int, spec: NetworkSpec) -> list[nn.Module]:
    """One linear layer, or two with 256 rectified units between them."""
    layers = [nn.Linear(n_features, HIDDEN), nn.ReLU()] if spec.head == "mlp" else []
    return [*layers, nn.Linear(HIDDEN if layers else n_features, spec.n_outputs)]


class ScaledReadout(Readout):
    """Parent of the readouts that standardize features before a head.

    Parameters
    ----------
    n_features : int
        Number of features.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def prepare_for_inference(self) -> None:
        """Compute in float64: in float32, what a matrix product gives for a row depends in its last bits on where the
        row stands in the batch, on some processors."""
        if self.mean.device.type != "mps":  # which has no float64
            self.double()


class VectorReadout(ScaledReadout):
    """Pooling, standardisation and head.

    Parameters
    ----------
    pooling : Pooling or None
        Pooling of the activations; None if they are pooled already.
    n_features : int
        Number of pooled features, and of numbers beside each sample.
    spec : NetworkSpec
        The network; a hidden layer has 256 rectified units.
    draws : bool
        If True, the head starts with random weights; else its weights are not initialized.
    """

    def __init__(self, pooling: Pooling | None, n_features: int, spec: NetworkSpec, *, draws: bool = True) -> None:
        super().__init__(spec.projected or n_features)
        self.pooling, self.normalizes, self.projection = pooling, spec.normalizes, None
        with torch.device("cpu" if draws else "meta"):
            if spec.projected:
                linear = nn.Linear(n_features, spec.projected, bias=False)
                self.projection, n_features = nn.Sequential(nn.LayerNorm(n_features), linear), spec.projected
            self.head = nn.Sequential(*head_layers(n_features, spec))
            if spec.n_constants:
                self.head.append(Constants(spec.n_constants))
        for part in () if draws else (self.head, self.projection):
            if part is not None:
                part.to_empty(device="cpu")

    @classmethod
    def of(cls, backbone: Backbone, spec: NetworkSpec, draws: bool) -> "VectorReadout":
        """The readout that follows a backbone's last stage."""
        at_the_top = spec.boundary == backbone.n_stages
        pooling = None if at_the_top else backbone.pooling_at(backbone.n_stages, spec.pooling)
        n_features = backbone.pooled_width(backbone.n_stages, spec.pooling) + spec.n_numbers
        readout = cls(pooling, n_features, spec, draws=draws)
        if draws and spec.projected:
            readout.projection.load_state_dict(shared_space(backbone).projection.state_dict())
        return readout

    def features(self, given: Batch) -> torch.Tensor:
        """Pooled features, (n, d), in float32, and after them the numbers beside each sample.

        If they are projected, they are in the space that images and texts share.
        """
        activation, numbers = apart(given)
        pooled = activation if self.pooling is None else self.pooling(activation).float()
        if self.projection is not None:
            with autocast(pooled.device, None):
                pooled = self.projection(pooled.to(self.mean.dtype))
        return pooled if numbers is None else torch.cat([pooled, numbers], dim=1)

    def seen(self, features: torch.Tensor) -> torch.Tensor:
        """Pooled features as the head sees them: standardized, or of length 1."""
        return F.normalize(features) if self.normalizes else (features - self.mean) / self.scale

    def outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Head outputs (n, n_outputs) of pooled features, in the head's own precision also under autocast."""
        with autocast(features.device, None):
            return self.head(self.seen(features.to(self.mean.dtype)))

    def forward(self, given: Batch, batch: Any = None) -> torch.Tensor:
        return self.of_features(self.features(given))

    def of_features(self, features: torch.Tensor) -> torch.Tensor:
        """What :meth:`forward` returns, from pooled features (n, d)."""
        return self.outputs(features)


class ContrastiveReadout(VectorReadout):
    """In training, features of length 1 that a loss on pairs compares; in evaluation, outputs of the head."""

    def of_features(self, features: torch.Tensor) -> torch.Tensor:
        """Features of length 1 in training, else outputs."""
        if not self.training:
            return self.outputs(features)
        with autocast(features.device, None):
            return self.seen(features.to(self.mean.dtype))
