"""Cutting a model of Keras into stages by its own graph, on Keras' torch backend; nothing is traced.

A functional model is a list of calls of layers, in order, which Keras keeps. A stage ends after a call at which exactly
one tensor is alive; what lies between two of them is run call by call, each layer by its own code, with weights that
belong to the piece. So a piece is copied, trained, moved and saved as any module of torch, and the layers of Keras are
shared by all copies. Functional models within the model count as their layers.

Parameters have the names that Keras gives them, ``conv1.kernel``; what it does not train, such as moving averages, are
buffers. Masks are drawn from torch's generator, not from the state that Keras keeps for each layer.
"""

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from skltransfer._system.autocast import autocast
from skltransfer.backbones._keras_graph import Graph, Step, calls_of
from skltransfer.backbones._keras_parts import Kept, part_of
from skltransfer.backbones._refusals import runs
from skltransfer.exceptions import UnsupportedBackboneError

LUMA = (0.299, 0.587, 0.114)
CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}


class Entry:
    """From the package's images, (n, 3, h, w), to what a model of Keras takes.

    Parameters
    ----------
    channels : {"rgb", "bgr", "gray"}
        Channels of the model's images.
    comes_last : bool
        True if the model's images are (n, h, w, c).
    """

    def __init__(self, channels: str, comes_last: bool) -> None:
        self.channels, self.comes_last = channels, comes_last

    def __repr__(self) -> str:
        return f"Entry({self.channels!r}, {self.comes_last!r})"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.channels == "bgr":
            x = x.flip(1)
        elif self.channels == "gray":
            x = sum(level * x[:, i : i + 1] for i, level in enumerate(LUMA))
        return x.permute(0, 2, 3, 1) if self.comes_last else x


class KerasNetwork(nn.Module):
    """The weights of a model of Keras, by its layers.

    Parameters
    ----------
    steps : sequence of Step
        All calls of the model.
    computes_in : torch.dtype, default=torch.float32
        Dtype of products and of what pieces return; weights are in float32.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.computes_in = torch.float32
        for step in steps:
            if step.part and step.part not in self._modules:
                self.add_module(step.part, part_of(step.operation, step.name))

    def state_of_keras(self) -> list[tuple[Any, torch.Tensor]]:
        """All variables of the model, each with the tensor that replaces its value."""
        return [pair for part in self.children() for pair in part.state_of_keras()]


class Piece(nn.Module):
    """Some of a model's calls, from one tensor to another one, or to several.

    Parameters
    ----------
    network : KerasNetwork
        Owner of the parts, which are shared.
    steps : sequence of Step
        The calls.
    first : int
        Number of the symbol of the tensor that is given.
    last : sequence of int
        Numbers of the symbols of the tensors that are returned.
    entry : Entry or None
        Turns images of the package into the model's, where the piece begins with them.
    is_tapped : bool
        Return a tuple.
    """

    def __init__(
        self,
        network: KerasNetwork,
        steps: Sequence[Step],
        first: int,
        last: Sequence[int],
        entry: Entry | None,
        is_tapped: bool,
    ) -> None:
        super().__init__()
        self.computes_in, self.entry = network.computes_in, entry
        self.first, self.last, self.is_tapped = first, tuple(last), is_tapped
        self._plan = Kept((tuple(steps), _dead_after(steps, last)))
        for step in steps:
            if step.part:
                self.add_module(step.part, network.get_submodule(step.part))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        is_native = self.computes_in == torch.float32
        with contextlib.nullcontext() if is_native else autocast(x.device, self.computes_in):
            found = self._run(x if is_native else x.float())
        found = found if is_native else [one.to(self.computes_in) for one in found]
        return tuple(found) if self.is_tapped else found[0]

    def _run(self, x: torch.Tensor) -> list[torch.Tensor]:
        values = {self.first: x if self.entry is None else self.entry(x)}
        steps, dead_after = self._plan.value
        with _on_device(x.device):
            for step, dead in zip(steps, dead_after, strict=True):
                values |= zip(step.returned, _flat(step.run(self._modules.get(step.part), values)), strict=True)
                for symbol in dead:
                    del values[symbol]
        return [values[symbol] for symbol in self.last]


def _flat(output: Any) -> Sequence[Any]:
    import keras

    return [output] if isinstance(output, torch.Tensor) else keras.tree.flatten(output)


def _dead_after(steps: Sequence[Step], last: Sequence[int]) -> list[list[int]]:
    """Symbols that no later call reads, for each call."""
    found, needed = [], set(last)
    for step in reversed(steps):
        found.append([symbol for symbol in {*step.given, *step.returned} if symbol not in needed])
        needed |= {*step.given}
    return found[::-1]


def _on_device(device: torch.device) -> contextlib.AbstractContextManager:
    """Keras puts tensors that it makes on a device of its own choice, unless it is told."""
    import keras

    return keras.device(str(device))


class KerasCut:
    """A model of Keras and the calls after which its stages end.

    Parameters
    ----------
    model : keras.Model
        Functional model of one input and one output, without functional models in it; in float32.
    whole : keras.Model
        The model as it was loaded, whose output is compared with if it takes images of this size.
    entry : Entry
        Turns images of the package into the model's.
    names : mapping of int to str
        Names of layers and operations, by their ``id``, where these are not their own.
    pattern : str, default=""
        Pattern of the names of layers that end a stage; without one, a stage ends before the next layer with a kernel.
    identity : str
        Values that differ between models with the same weights.

    Attributes
    ----------
    identity : tuple of str
        The same, and what it takes for images.

    Raises
    ------
    UnsupportedBackboneError
        If there are fewer than two places at which one tensor is alive.
    """

    is_foldable = False

    def __init__(
        self, model: Any, whole: Any, entry: Entry, names: dict[int, str], pattern: str = "", *, identity: str
    ) -> None:
        takes = zip(whole.inputs[0].shape, model.inputs[0].shape, strict=True)
        self._model, self.entry = model, entry
        self._whole = whole if all(extent in (None, ours) for extent, ours in takes) else model
        self.identity = (identity, repr(entry))
        nodes = list(calls_of(model))
        called = [names.get(id(node.operation), node.operation.name) for node in nodes]
        self._steps = [
            Step(node, name.replace(".", "_") if _has_state(node.operation) else "", name)
            for node, name in zip(nodes, called, strict=True)
        ]
        self.network = KerasNetwork(self._steps)
        self._first, self._output = id(model.inputs[0]), id(model.outputs[0])
        self._set_ends(pattern)
        self._pieces: dict[tuple[int, int | None], Piece] = {}

    def _set_ends(self, pattern: str) -> None:
        graph = Graph(self._steps, self._first, self._output)
        self._ends = graph.stage_ends(pattern)
        if len(self._ends) < 2:
            raise UnsupportedBackboneError(
                f"its graph has {len(self._ends)} stages: there are too few places between its layers at which one "
                "tensor alone is needed by the rest"
            )
        names = [self._steps[end].name for end in self._ends]
        again = [names[:i].count(name) for i, name in enumerate(names)]  # a layer may be called twice
        self.stage_names = tuple(f"{name}:{i}" if i else name for name, i in zip(names, again, strict=True))
        self._before_kernels = graph.before_kernels()

    def refresh(self) -> None:
        """Have layers compute again what they derived from their weights when Keras loaded these."""
        for step in self._steps:
            if hasattr(step.operation, "finalize_state"):
                step.operation.finalize_state()

    @property
    def head_names(self) -> set[str]:
        """Entries of the state dict of layers that run after the last stage alone."""
        parts = {step.part for step in self._steps[: self._ends[-1] + 1]}
        return {key for key in self.network.state_dict() if key.rpartition(".")[0] not in parts}

    def maps_end_in_channels(self) -> list[int]:
        """Boundaries after which channels come last."""
        return list(range(1, len(self._ends) + 1)) if self.entry.comes_last else []

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's images, in pixels."""
        shape = self._model.inputs[0].shape
        return shape[1:3] if self.entry.comes_last else shape[2:4]

    @torch.inference_mode()
    def scaled(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the model makes of inputs before its first layer with a kernel."""
        if self._before_kernels < 0:
            return inputs
        return self._extract(-1, self._before_kernels, [self._steps[self._before_kernels].returned[0]])(inputs)

    def piece(self, start: int, stop: int | None = None) -> Piece:
        """The stages between two boundaries; to the model's own output without ``stop``."""
        if (start, stop) not in self._pieces:
            end = len(self._steps) - 1 if stop is None else self._end(stop)
            last = self._output if stop is None else self._symbol(stop)
            self._pieces[start, stop] = self._extract(self._end(start), end, [last])
        return self._pieces[start, stop]

    def tapped(self, start: int, stops: Sequence[int]) -> Piece:
        """The stages from boundary ``start`` to the last of ``stops``; returns a tuple of the activations at each."""
        last = [self._symbol(stop) for stop in stops]
        return self._extract(self._end(start), self._end(stops[-1]), last, is_tapped=True)

    def _end(self, boundary: int) -> int:
        return self._ends[boundary - 1] if boundary else -1

    def _symbol(self, boundary: int) -> int:
        return self._steps[self._end(boundary)].returned[0] if boundary else self._first

    def _extract(self, start: int, end: int, last: Sequence[int], *, is_tapped: bool = False) -> Piece:
        """The calls after number ``start`` up to number ``end``."""
        first = self._first if start < 0 else self._steps[start].returned[0]
        entry = self.entry if start < 0 <= end else None
        return Piece(self.network, self._steps[start + 1 : end + 1], first, last, entry, is_tapped)

    def parameter_names(self, stage: int) -> tuple[str, ...]:
        """Names of the parameters of one stage."""
        return tuple(name for name, _ in self.piece(stage, stage + 1).named_parameters())

    def _watched(self) -> Any:
        """The model with the activations at the ends of its stages as further outputs."""
        import keras

        ends = [self._steps[end].node.outputs[0] for end in self._ends]
        return keras.Model(self._model.inputs, [*ends, *self._model.outputs])

    def library_activations(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of Keras' own run of the model at the end of each stage, and of the model as it was loaded."""
        import keras

        with _on_device(inputs.device), keras.StatelessScope(state_mapping=self.network.state_of_keras()):
            x = self.entry(inputs)
            found = self._watched()(x, training=False)
            return [*found[:-1], self._whole(x, training=False)]

    def runs_on(self, shape: tuple[int, ...]) -> bool:
        """True if the model takes inputs of this shape."""
        return runs(lambda x: self.library_activations(x)[-1], torch.zeros(1, *shape))

    def on(self, device: torch.device, dtype: torch.dtype, *, folded: bool = False) -> "KerasCut":
        """The same cut of a copy of the network. In another dtype, products alone are computed in it."""
        cut = self.of(copy.deepcopy(self.network).to(device))
        cut.network.computes_in = dtype
        return cut

    def of(self, network: KerasNetwork) -> "KerasCut":
        """The same cut of another network of this kind."""
        cut = copy.copy(self)
        cut.network, cut._pieces = network, {}
        return cut


def _has_state(operation: Any) -> bool:
    """True for layers with variables, of which the state of a generator is one."""
    return bool(getattr(operation, "variables", ()))
