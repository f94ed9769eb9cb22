"""What is trained, awake and asleep: suffix, pooling and head as one module; and the same as numpy arrays.

Estimators hold the sleeping form, which pickles small (only what training changed) and holds no live torch object.
Waking it takes the backbone. Must not know y, scikit-learn or the store.
"""

import weakref
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer._system.forks import Lock
from skltransfer.backbones import PADDING_ID, POOLINGS, Backbone, Pooling, seeded
from skltransfer.engine.inference.autocast import autocast
from skltransfer.engine.networks.adapters import original_name, with_adapters
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.exceptions import WeightsError

HIDDEN = 256
AWAKE = 8


class Constants(nn.Module):
    """Puts trained numbers after each row."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(n))

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([outputs, self.values.expand(len(outputs), -1)], dim=1)


class TunedNetwork(nn.Module):
    """Suffix, pooling, standardisation and head.

    Parameters
    ----------
    suffix : nn.Module or None
        The private copy of the unfrozen stages; None where activations arrive pooled.
    pooling : Pooling
    n_features : int
    spec : NetworkSpec
        A hidden layer has 256 rectified units.
    n_axes : int or None
        Of a batch in which each sample is one input; where it has one more, its samples are packed windows.
    draws : bool
        Whether the head begins with random weights; else with none.

    Attributes
    ----------
    is_headless : bool
        Whether outputs are what the head would see.
    """

    def __init__(
        self,
        suffix: nn.Module | None,
        pooling: Pooling,
        n_features: int,
        spec: NetworkSpec,
        *,
        n_axes: int | None = None,
        draws: bool = True,
    ) -> None:
        super().__init__()
        self.n_axes = n_axes
        self.suffix, self.pooling, self.spec, self.is_headless = suffix, pooling, spec, False
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        with torch.device("cpu" if draws else "meta"):
            layers = [nn.Linear(n_features, HIDDEN), nn.ReLU()] if spec.head == "mlp" else []
            self.head = nn.Sequential(*layers, nn.Linear(HIDDEN if layers else n_features, spec.n_outputs))
            if spec.n_constants:
                self.head.append(Constants(spec.n_constants))
        if not draws:
            self.head.to_empty(device="cpu")

    def features(self, activation: torch.Tensor) -> torch.Tensor:
        """Pooled features, (n, d), in float32; of a sample of several windows their mean."""
        if self._is_packed(activation):
            windows, mask = _unpacked(activation)
            return _mean_of_windows(self.features(windows), mask)
        if self.suffix is not None:
            if activation.is_floating_point() and not torch.is_autocast_enabled(activation.device.type):
                activation = activation.float()  # its weights are
            if activation.ndim == 4:
                activation = activation.contiguous(memory_format=torch.channels_last)
            activation = self.pooling(self.suffix(activation).float())
        return activation.float()

    def seen(self, features: torch.Tensor) -> torch.Tensor:
        """Pooled features as the head sees them: standardised, or of length 1."""
        return F.normalize(features) if self.spec.normalizes else (features - self.mean) / self.scale

    def outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Head outputs (n, n_outputs) of pooled features, in the head's own precision also under autocast."""
        with autocast(features.device, None):
            seen = self.seen(features.to(self.mean.dtype))
            return seen if self.is_headless else self.head(seen)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        if self._is_packed(activation):
            windows, mask = _unpacked(activation)
            return _mean_of_windows(self.outputs(self.features(windows)), mask)
        return self.outputs(self.features(activation))

    def _is_packed(self, activation: torch.Tensor) -> bool:
        return self.n_axes is not None and activation.ndim > self.n_axes


def _axes(backbone: Backbone, boundary: int) -> int | None:
    """Of a batch at a boundary, if samples may have several windows there; at the last one these are averaged."""
    is_packed = backbone.is_windowed and boundary < backbone.n_stages
    return 1 + len(backbone.activation_shapes[boundary]) if is_packed else None


def _unpacked(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, windows, ...) -> the windows that are no padding, (k, ...), and where they are, (n, windows)."""
    first = batch.flatten(2)[..., 0]
    mask = ~torch.isnan(first) if batch.is_floating_point() else first != PADDING_ID
    return batch[mask], mask


def _mean_of_windows(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(k, d), one row per window -> (n, d), the mean of each sample's windows."""
    owners = mask.nonzero()[:, 0]
    total = values.new_zeros(len(mask), values.shape[1]).index_add(0, owners, values)
    return total / mask.sum(1, keepdim=True)


def new_network(backbone: Backbone, spec: NetworkSpec, *, seed: int | None) -> TunedNetwork:
    """The network that training starts from: the pretrained suffix after the boundary and a random head.

    Without a seed nothing is drawn: head and adapters are to be filled by the caller.
    """
    suffix = backbone.suffix(spec.boundary) if spec.boundary < backbone.n_stages else None
    with nullcontext() if seed is None else seeded(seed):
        if spec.adapter is not None:
            suffix = with_adapters(suffix, backbone, spec.boundary, draws=seed is not None)
        return TunedNetwork(
            suffix,
            backbone.pooling_at(backbone.n_stages, spec.pooling),
            backbone.pooled_width(backbone.n_stages, spec.pooling),
            spec,
            n_axes=_axes(backbone, spec.boundary),
            draws=seed is not None,
        )


@dataclass(frozen=True, eq=False)
class SleepingNetwork:
    """A :class:`TunedNetwork` as numpy arrays, without the weights that training left as they were.

    Attributes
    ----------
    spec : NetworkSpec
    changed : dict of str to ndarray
        Entries of the state dict that differ from the pretrained ones, and all of the head's.
    """

    spec: NetworkSpec
    changed: dict[str, np.ndarray]

    def __setstate__(self, state: dict) -> None:
        """Also of pickles from before there were specs."""
        changed = state["changed"]
        spec = state["spec"] if "spec" in state else NetworkSpec.from_scalars(state)
        self.__dict__.update(spec=spec, changed=changed)

    @classmethod
    def put_to_sleep(cls, network: TunedNetwork, backbone: Backbone) -> "SleepingNetwork":
        """Keep what differs from ``backbone``."""
        original = {}
        if network.suffix is not None:
            piece = backbone.prefix(network.spec.boundary, backbone.n_stages)
            original = {f"suffix.{k}": v for k, v in piece.state_dict().items()}
        changed = {
            key: value.detach().cpu().numpy().copy()
            for key, value in network.state_dict().items()
            if original_name(key) not in original or not torch.equal(value.cpu(), original[original_name(key)])
        }
        return cls(network.spec, changed)

    def _blank(self, backbone: Backbone) -> TunedNetwork:
        """Without a seed: the door to torch's generator may be closed for as long as another thread trains."""
        return new_network(backbone, self.spec, seed=None)

    def private_copy(self, backbone: Backbone, device: torch.device) -> TunedNetwork:
        """A trainable network in this state."""
        network = self._blank(backbone)
        state = {key: torch.tensor(np.array(value)) for key, value in self.changed.items()}
        network.load_state_dict(state, strict=False)
        return network.to(device)

    def refuse_unless_it_fits(self, backbone: Backbone, where: str) -> None:
        """Raise unless every array has its place in a network on ``backbone``, and the head is whole.

        Raises
        ------
        WeightsError
            With the names of those that do not fit.
        """
        spec = self.spec
        if not 0 <= spec.boundary <= backbone.n_stages:
            raise WeightsError(
                f"{where} freezes {spec.boundary} stages, but {backbone.name!r} has {backbone.n_stages}."
            )
        if spec.pooling not in POOLINGS or spec.head not in ("linear", "mlp"):
            raise WeightsError(
                f"{where} has pooling={spec.pooling!r} and head={spec.head!r}; expected one of {POOLINGS}, and "
                "'linear' or 'mlp'."
            )
        n_values = sum(value.size for value in self.changed.values())
        if not (0 < spec.n_outputs <= n_values and 0 <= spec.n_constants <= n_values):
            raise WeightsError(
                f"{where} claims {spec.n_outputs} outputs and {spec.n_constants} constants, but holds {n_values}."
            )
        network = self._blank(backbone)
        own = {key: (tuple(value.shape), value.numpy().dtype) for key, value in network.state_dict().items()}
        needed = {key for key in own if not key.startswith("suffix.")}
        wrong = {key for key, value in self.changed.items() if own.get(key) != (value.shape, value.dtype)}
        wrong |= needed - self.changed.keys()
        if wrong:
            raise WeightsError(f"{where} does not fit {backbone.name!r}: {sorted(wrong)[:5]} are missing or misshapen.")

    def awake(self, backbone: Backbone, device: torch.device) -> TunedNetwork:
        """The network in this state, ready for inference; shared while it is among the last few used."""
        with _awake_lock:
            known = _awake.get(self, {}).get(device)
        if known is not None:
            return known
        made = _for_inference(self.private_copy(backbone, device))  # outside of the lock: others are taken in it
        with _awake_lock:
            networks = _awake.pop(self, {})
            _awake[self] = networks
            while len(_awake) > AWAKE:
                del _awake[next(iter(_awake))]
            return networks.setdefault(device, made)


def _for_inference(network: TunedNetwork) -> TunedNetwork:
    """Frozen, in eval mode, with a head of float64: in float32, what a matrix product gives for a row depends in its
    last bits on where the row stands in the batch, on some processors."""
    if network.mean.device.type != "mps":  # which has no float64
        network.head.double()
        network.mean, network.scale = network.mean.double(), network.scale.double()
    return network.eval().requires_grad_(False)


_awake: "weakref.WeakKeyDictionary[SleepingNetwork, dict]" = weakref.WeakKeyDictionary()  # the last used comes last
_awake_lock = Lock()
