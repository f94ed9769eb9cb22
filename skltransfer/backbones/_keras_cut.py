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
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from skltransfer._system.autocast import autocast
from skltransfer.backbones._refusals import runs
from skltransfer.exceptions import UnsupportedBackboneError

LUMA = (0.299, 0.587, 0.114)
CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
POOLS = ("Dropout", "Flatten", "GlobalAveragePooling2D")  # what may lie between the last maps and the last dense layer


class Kept:
    """Something of Keras that all copies of a network share.

    Parameters
    ----------
    value : object
        Layer, or call of one.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict) -> "Kept":
        return self


def _named_variables(layer: Any) -> list[tuple[str, Any]]:
    """Variables of a layer with names that are unique in it."""
    found: dict[str, Any] = {}
    for variable in layer.variables:
        name = variable.path.split(f"{layer.name}/", 1)[-1].replace(".", "_")
        name = name if name not in found else f"{name}_{len(found)}"
        found[name] = variable
    return list(found.items())


class LayerPart(nn.Module):
    """A layer of Keras, run by its own code with the parameters and buffers of this module.

    Parameters
    ----------
    layer : keras.Layer
        The layer, built.
    """

    axis = None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = Kept(layer)
        self._of_keras = Kept(_named_variables(layer))
        trained = set(map(id, layer.trainable_variables))
        for name, variable in self._of_keras.value:
            value = variable.value.detach()
            if id(variable) in trained:
                self.register_parameter(name, nn.Parameter(value))
            elif not _is_seed(variable):
                self.register_buffer(name, value)

    def state_of_keras(self) -> list[tuple[Any, torch.Tensor]]:
        """Variables of the layer, each with the tensor that replaces its value."""
        return [
            (variable, self._seed(variable) if _is_seed(variable) else getattr(self, name))
            for name, variable in self._of_keras.value
        ]

    def _seed(self, variable: Any) -> torch.Tensor:
        """A seed of torch's generator, for what draws in training."""
        value = variable.value
        drawn = torch.randint(2**31 - 1, (1,)) if self.training else torch.zeros(1)
        return torch.cat([drawn, torch.zeros(1)]).to(value.device, value.dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        import keras

        kwargs["training"] = self.training  # over what the call in the graph says, as Keras has it
        with keras.StatelessScope(state_mapping=self.state_of_keras()) as scope:
            output = self.layer.value(*args, **kwargs)
        if self.training:
            self._take_over(scope)
        return output

    @torch.no_grad()
    def _take_over(self, scope: Any) -> None:
        """Keep what the layer has learnt otherwise than by gradients."""
        for name, variable in self._of_keras.value:
            if name in self._buffers:
                self._buffers[name].copy_(scope.get_current_value(variable))


class BatchNormPart(nn.modules.batchnorm._BatchNorm):
    """BatchNormalization of Keras as one of torch's: its maps have channels first, and statistics are Keras' own.

    Parameters
    ----------
    layer : keras.layers.BatchNormalization
        The layer, built.
    """

    def __init__(self, layer: Any) -> None:
        nn.Module.__init__(self)
        self.layer, self.axis = Kept(layer), layer.axis
        self.eps, self.momentum = layer.epsilon, 1 - layer.momentum
        self.affine, self.track_running_stats = layer.scale or layer.center, True
        self.num_features = layer.moving_mean.shape[0]
        for name in ("gamma", "beta"):
            variable = getattr(layer, name)
            self.register_parameter(name, None if variable is None else nn.Parameter(variable.value.detach()))
        self.register_buffer("moving_mean", layer.moving_mean.value.detach())
        self.register_buffer("moving_variance", layer.moving_variance.value.detach())
        self.register_buffer("num_batches_tracked", torch.tensor(0), persistent=False)

    weight = property(lambda self: self.gamma)
    bias = property(lambda self: self.beta)
    running_mean = property(lambda self: self.moving_mean)
    running_var = property(lambda self: self.moving_variance)

    def state_of_keras(self) -> list[tuple[Any, torch.Tensor]]:
        """Variables of the layer, each with the tensor that replaces its value."""
        names = [name for name in ("gamma", "beta", "moving_mean", "moving_variance") if getattr(self, name) is not None]
        return [(getattr(self.layer.value, name), getattr(self, name)) for name in names]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return F.batch_norm(x, self.moving_mean, self.moving_variance, self.gamma, self.beta, eps=self.eps)
        self._update(x.detach().float())
        return F.batch_norm(x, None, None, self.gamma, self.beta, training=True, eps=self.eps)

    @torch.no_grad()
    def _update(self, x: torch.Tensor) -> None:
        """Keras' moving averages, whose variance is that of the batch itself; without a momentum, plain means."""
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        variance, mean = torch.var_mean(x.transpose(0, 1).flatten(1), dim=1, correction=0)
        self.moving_mean.lerp_(mean, share)
        self.moving_variance.lerp_(variance, share)

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)


def _is_seed(variable: Any) -> bool:
    return variable.path.endswith("seed_generator_state")


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


class Step(NamedTuple):
    """One call in a model's graph.

    Attributes
    ----------
    node : Node of Keras
        What is called, and with what.
    part : str
        Name of the module that holds the layer's weights; empty where it has none.
    name : str
        Name of what is called.
    """

    node: Any
    part: str
    name: str

    @property
    def operation(self) -> Any:
        return self.node.operation

    @property
    def given(self) -> list[int]:
        return [id(tensor) for tensor in self.node.input_tensors]

    @property
    def returned(self) -> list[int]:
        return [id(tensor) for tensor in self.node.outputs]

    def run(self, part: nn.Module | None, values: dict[int, torch.Tensor]) -> Any:
        """The call's result, given the tensors that there are by the numbers of their symbols."""
        args, kwargs = self.node.arguments.fill_in(values)
        if part is None:
            return self.operation(*args, **({**kwargs, "training": False} if "training" in kwargs else kwargs))
        if part.axis is None:
            return part(*args, **kwargs)
        return part(args[0].movedim(part.axis, 1)).movedim(1, part.axis)


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
                self.add_module(step.part, _part_of(step))

    def state_of_keras(self) -> list[tuple[Any, torch.Tensor]]:
        """All variables of the model, each with the tensor that replaces its value."""
        return [pair for part in self.children() for pair in part.state_of_keras()]


def _part_of(step: Step) -> nn.Module:
    import keras

    layer = step.operation
    norms = [part for part in layer._flatten_layers() if isinstance(part, keras.layers.BatchNormalization)]
    if not norms:
        return LayerPart(layer)
    if norms != [layer] or layer.renorm:
        raise UnsupportedBackboneError(
            f"its layer {step.name!r} is BatchNormalization with renorm=True, or holds BatchNormalization inside, whose "
            "statistics cannot be frozen"
        )
    return BatchNormPart(layer)


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


def calls_of(model: Any) -> Iterator[Any]:
    """The calls of a functional model, in the order in which Keras runs them."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if node.operation and not node.is_input)


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
        What tells the model from others that have the same weights.

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
        self.stage_names = tuple(self._steps[end].name for end in self._ends)
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

    def leading(self) -> Piece | None:
        """What the model does with an image before its first layer with a kernel; None if it does nothing."""
        if self._before_kernels < 0:
            return None
        return self._extract(-1, self._before_kernels, [self._steps[self._before_kernels].returned[0]])

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


def _has_kernel(operation: Any) -> bool:
    """True for layers with weights of two axes or more, as convolutions have."""
    return any(len(variable.shape) > 1 for variable in getattr(operation, "trainable_variables", ()))


class Graph:
    """Where one tensor alone is alive in a list of calls.

    Parameters
    ----------
    steps : sequence of Step
        The calls.
    first, output : int
        Numbers of the symbols of the model's input and output.
    """

    def __init__(self, steps: Sequence[Step], first: int, output: int) -> None:
        self.steps = steps
        self._last_read = {first: -1} | {symbol: i for i, step in enumerate(steps) for symbol in step.given}
        self._last_read[output] = len(steps)
        self._made = {first: -1} | {symbol: i for i, step in enumerate(steps) for symbol in step.returned}
        parts = [step.part for step in steps]
        self._spans = [(parts.index(part), len(parts) - 1 - parts[::-1].index(part)) for part in set(parts) - {""}]
        self.candidates = [i for i in range(len(steps)) if self._is_candidate(i)]

    def _is_candidate(self, i: int) -> bool:
        """True if the rest of the model is a function of what call ``i`` gave, and shares no layer with it."""
        alive = [symbol for symbol, made in self._made.items() if made <= i < self._last_read.get(symbol, -1)]
        shape = self.steps[i].node.outputs[0].shape
        is_one = alive == self.steps[i].returned[:1] and shape[0] is None and None not in shape[1:]
        return is_one and not any(begin <= i < end for begin, end in self._spans)

    def before_kernels(self) -> int:
        """The last candidate before the first layer with a kernel; -1 without one."""
        kernel = next((i for i, step in enumerate(self.steps) if _has_kernel(step.operation)), 0)
        return max((i for i in self.candidates if i < kernel), default=-1)

    def _features(self) -> int:
        """The call whose result is what the last dense layer reads, before it was pooled; without one, the last."""
        weighted = [i for i, step in enumerate(self.steps) if getattr(step.operation, "trainable_variables", ())]
        end = len(self.steps) - 1
        if weighted and type(self.steps[weighted[-1]].operation).__name__ == "Dense" and self._is_head(weighted[-1]):
            end = weighted[-1] - 1
        kinds = [type(step.operation).__name__ for step in self.steps]
        while end > 0 and kinds[end] in POOLS and end - 1 in self.candidates and self._keeps_means(kinds, end):
            end -= 1
        return end

    def _is_head(self, i: int) -> bool:
        """True if a dense layer gives the model's output, which may be activated, and its input is a candidate."""
        width = self.steps[-1].node.outputs[0].shape
        return i - 1 in self.candidates and len(width) == 2 and self.steps[i].node.outputs[0].shape == width

    def _keeps_means(self, kinds: list[str], end: int) -> bool:
        """True unless a call flattens maps: their means are not what follows has learnt from."""
        return kinds[end] != "Flatten" or len(self.steps[end].node.input_tensors[0].shape) == 2

    def stage_ends(self, pattern: str) -> list[int]:
        """Numbers of the calls that end a stage each."""
        last = self._features()
        found = [i for i in self.candidates if i < last]
        if pattern:
            return [i for i in found if re.fullmatch(pattern, self.steps[i].name)] + [last]
        return [i for i in self._before_next_kernels(found, last)] + [last]

    def _before_next_kernels(self, candidates: list[int], last: int) -> Iterator[int]:
        kernels = [_has_kernel(step.operation) for step in self.steps]
        begin = 0
        for end, following in itertools.pairwise([*candidates, last]):
            if any(kernels[begin : end + 1]) and any(kernels[end + 1 : following + 1]):
                yield end
                begin = end + 1
