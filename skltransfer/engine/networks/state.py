"""A tuned network as numpy arrays.

Estimators hold this form, which pickles small (only what training changed) and holds no live torch object. To run or
train it takes the backbone and the task's readout. Must not know targets, scikit-learn or the store.
"""

import itertools
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from skltransfer._system.forks import Lock
from skltransfer.backbones import POOLINGS, Backbone
from skltransfer.engine.networks.adapters import original_name
from skltransfer.engine.networks.spec import WINDOW_POOLINGS, NetworkSpec
from skltransfer.engine.networks.tuned import MakeReadout, TunedNetwork, new_network
from skltransfer.exceptions import WeightsError

MOST_READY = 8


@dataclass(frozen=True, eq=False)
class NetworkState:
    """A :class:`TunedNetwork` as numpy arrays, without the weights that training left as they were.

    Attributes
    ----------
    spec : NetworkSpec
        The network.
    changed : dict of str to ndarray
        Entries of the state dict that differ from the pretrained ones, and all of the readout's.
    """

    spec: NetworkSpec
    changed: dict[str, np.ndarray]

    def __setstate__(self, state: dict) -> None:
        """Also of pickles from before there were specs and readouts."""
        spec = state["spec"] if "spec" in state else NetworkSpec.from_scalars(state)
        self.__dict__.update(spec=spec, changed=with_current_names(state["changed"]))

    @classmethod
    def of(cls, network: TunedNetwork, backbone: Backbone) -> "NetworkState":
        """Keep what differs from ``backbone``."""
        original = {f"readout.{k}": v for k, v in network.readout.pretrained_state().items()}
        if network.suffix is not None:
            piece = backbone.prefix(network.spec.boundary, backbone.n_stages)
            original |= {f"suffix.{k}": v for k, v in piece.state_dict().items()}
        changed = {
            key: value.detach().cpu().numpy().copy()
            for key, value in _distinct_entries(network).items()
            if original_name(key) not in original or not torch.equal(value.cpu(), original[original_name(key)])
        }
        return cls(network.spec, changed)

    def trainable(self, backbone: Backbone, readout: MakeReadout, device: torch.device) -> TunedNetwork:
        """A network of its own in this state."""
        network = new_network(backbone, self.spec, readout, seed=None)
        state = {key: torch.tensor(np.array(value)) for key, value in self.changed.items()}
        network.load_state_dict(state, strict=False)
        return network.to(device)

    def refuse_impossible_spec(self, backbone: Backbone, where: str) -> None:
        """Raise if no network on ``backbone`` has these parts, or if it claims more outputs than it holds numbers.

        Raises
        ------
        WeightsError
            That names the part.
        """
        spec = self.spec
        if not 0 <= spec.boundary <= backbone.n_stages:
            raise WeightsError(
                f"{where} freezes {spec.boundary} stages, but {backbone.name!r} has {backbone.n_stages}."
            )
        is_vector = spec.pooling in POOLINGS and not spec.taps
        is_tapped = spec.pooling is None and len(spec.taps) > 0 and _can_be_tapped(spec, backbone.n_stages)
        if not (is_vector or is_tapped):
            raise WeightsError(
                f"{where} has pooling={spec.pooling!r} and taps={spec.taps!r}; expected one of {POOLINGS} and no taps, "
                "or no pooling and increasing numbers of stages."
            )
        if spec.window_pooling not in WINDOW_POOLINGS:
            raise WeightsError(
                f"{where} has window_pooling={spec.window_pooling!r}; expected one of {WINDOW_POOLINGS}."
            )
        n_values = sum(value.size for value in self.changed.values())
        if not (
            0 < spec.n_outputs <= n_values
            and 0 <= min(spec.n_constants, spec.projected) <= max(spec.n_constants, spec.projected) <= n_values
        ):
            raise WeightsError(
                f"{where} claims {spec.n_outputs} outputs, {spec.n_constants} constants and a space of "
                f"{spec.projected} dimensions, but holds {n_values} values."
            )

    def refuse_unless_it_fits(self, backbone: Backbone, readout: MakeReadout, where: str) -> None:
        """Raise unless every array has its place in a network on ``backbone``, and the readout is whole.

        Raises
        ------
        WeightsError
            With the names of those that do not fit.
        """
        network = new_network(backbone, self.spec, readout, seed=None)
        entries, pretrained = _distinct_entries(network), network.readout.pretrained_state()
        own = {key: (tuple(value.shape), value.detach().numpy().dtype) for key, value in entries.items()}
        known = {f"readout.{key}" for key in pretrained}
        needed = {key for key in own if not key.startswith("suffix.") and original_name(key) not in known}
        wrong = {key for key, value in self.changed.items() if own.get(key) != (value.shape, value.dtype)}
        wrong |= needed - self.changed.keys()
        if wrong:
            raise WeightsError(f"{where} does not fit {backbone.name!r}: {sorted(wrong)[:5]} are missing or misshapen.")

    def for_inference(self, backbone: Backbone, readout: MakeReadout, device: torch.device) -> TunedNetwork:
        """A frozen network in this state and in eval mode; shared while it is among the last few used."""
        with _ready_lock:
            known = _ready.get(self, {}).get(device)
        if known is not None:
            return known
        made = self.trainable(backbone, readout, device)  # outside of the lock: others are taken in it
        made.readout.prepare_for_inference()
        made = made.eval().requires_grad_(False)
        with _ready_lock:
            networks = _ready.pop(self, {})
            _ready[self] = networks
            while len(_ready) > MOST_READY:
                del _ready[next(iter(_ready))]
            return networks.setdefault(device, made)


def _distinct_entries(network: TunedNetwork) -> dict[str, torch.Tensor]:
    """The state dict, with the first name alone of a tensor that has several."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for key, value in network.state_dict(keep_vars=True).items():
        found.setdefault(id(value), (key, value))
    return dict(found.values())


def _can_be_tapped(spec: NetworkSpec, n_stages: int) -> bool:
    """True if taps are boundaries after the input, in order, and no stage after the last of them is frozen."""
    are_numbers = all(type(tap) is int for tap in spec.taps)
    are_ordered = are_numbers and all(a < b for a, b in itertools.pairwise((0, *spec.taps)))
    return are_ordered and spec.boundary <= spec.taps[-1] <= n_stages


def with_current_names(changed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under the names that they have now, where they were kept before readouts were modules of their own."""
    parts = ("suffix.", "readout.")
    named = {key if key.startswith(parts) else f"readout.{key}": value for key, value in changed.items()}
    if len(named) < len(changed):
        raise ValueError(f"entries come under an old and a new name: {sorted(changed.keys() - named.keys())[:5]}")
    return named


_ready: "weakref.WeakKeyDictionary[NetworkState, dict]" = weakref.WeakKeyDictionary()  # the last used comes last
_ready_lock = Lock()
