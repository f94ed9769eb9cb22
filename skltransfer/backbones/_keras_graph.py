"""The graph of a model of Keras: its calls in order, without models within the model, and where it can be cut.

Keras keeps the graph of a functional model itself; a stage ends after a call at which exactly one tensor is alive. Must
not know weights.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from skltransfer.backbones._keras_parts import is_seed
from skltransfer.backbones._refusals import summary
from skltransfer.exceptions import UnsupportedBackboneError

HEADS = ("Conv2D", "Dense")
POOLS = ("Dropout", "Flatten", "GlobalAveragePooling2D")  # what may lie between the last maps and the last dense layer


def calls_of(model: Any) -> Iterator[Any]:
    """The calls of a functional model, in the order in which Keras runs them."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if node.operation and not node.is_input)


def flattened(keras: Any, model: Any, side: int, *, comes_last: bool) -> tuple[Any, dict[int, str]]:
    """The model without models in it, for images of one size; and names of its layers that tell where they were."""
    graph, shape = keras.Model(model.inputs, model.outputs), tuple(model.inputs[0].shape[1:])
    asked = (side, side, shape[2]) if comes_last else (shape[0], side, side)
    if asked == shape and not any(_is_flat(keras, node) for node in calls_of(graph)):
        return graph, {}
    names: dict[int, str] = {}
    image = keras.Input(asked)
    try:
        return keras.Model(image, _called(keras, graph, image, "", names)), names
    except ValueError as error:
        if asked == shape:
            raise
        raise UnsupportedBackboneError(f"it does not take input_size={side}: Keras raises {summary(error)}") from None


def _called(keras: Any, model: Any, image: Any, prefix: str, names: dict[int, str]) -> Any:
    """The symbol of what a model gives, whose layers are called one by one."""
    values = {id(model.inputs[0]): image}
    for node in calls_of(model):
        args, kwargs = node.arguments.fill_in(values)
        operation = node.operation
        if _is_flat(keras, node):
            inner, given = keras.Model(operation.inputs, operation.outputs), values[id(node.input_tensors[0])]
            found = _called(keras, inner, given, f"{prefix}{operation.name}/", names)
        else:
            names[id(operation)] = f"{prefix}{operation.name}"
            found = operation(*args, **kwargs)
        values |= zip(map(id, node.outputs), keras.tree.flatten(found), strict=True)
    return values[id(model.outputs[0])]


def _is_flat(keras: Any, node: Any) -> bool:
    """True for a call of a functional or sequential model of one input and one output."""
    model = node.operation
    is_graph = isinstance(model, keras.Sequential) or hasattr(model, "_nodes_by_depth")
    return is_graph and len(model.inputs) == len(model.outputs) == 1


def names_of_a_new_process(graph: Any) -> dict[int, str]:
    """Names as they are where no model was built before: Keras counts layers that have no name of their own."""
    automatic: dict[str, list[tuple[int, int]]] = {}
    for operation in graph.operations:
        kind = _in_snake_case(type(operation).__name__)
        counted = re.fullmatch(rf"{kind}(?:_(\d+))?", operation.name)
        if counted is not None:
            automatic.setdefault(kind, []).append((int(counted[1] or 0), id(operation)))
    return {
        number: kind if i == 0 else f"{kind}_{i}"
        for kind, found in automatic.items()
        for i, (_, number) in enumerate(sorted(found))
    }


def _in_snake_case(name: str) -> str:
    """A class's name as Keras writes it in the name of a layer: ``max_pooling2d``."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


class Step(NamedTuple):
    """One call in a model's graph.

    Attributes
    ----------
    node : Node of Keras
        Layer that is called, and its arguments.
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
        return part(values[self.given[0]].movedim(part.axis, 1)).movedim(1, part.axis)


def _has_weights(operation: Any) -> bool:
    """True for layers with variables other than the state of a generator."""
    return not all(map(is_seed, getattr(operation, "variables", ())))


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
        parts = [step.part if _has_weights(step.operation) else "" for step in steps]
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
        """The call whose result is what the classification head reads, before it was pooled; without one, the last."""
        weighted = [i for i, step in enumerate(self.steps) if getattr(step.operation, "trainable_variables", ())]
        end = len(self.steps) - 1
        if weighted and self._is_head(weighted[-1]):
            end = weighted[-1] - 1
        kinds = [type(step.operation).__name__ for step in self.steps]
        while end > 0 and kinds[end] in POOLS and end - 1 in self.candidates and self._keeps_means(kinds, end):
            end -= 1
        return end

    def _is_head(self, i: int) -> bool:
        """True if a dense layer, or a convolution of one place, gives the model's output, which may be activated."""
        given, found = self.steps[i].node.outputs[0].shape, self.steps[-1].node.outputs[0].shape
        is_whole = len(found) == 2 and found[1] == math.prod(given[1:]) == max(given[1:])
        return type(self.steps[i].operation).__name__ in HEADS and is_whole and i - 1 in self.candidates

    def _keeps_means(self, kinds: list[str], end: int) -> bool:
        """True unless a call flattens maps: their means are not what follows has learnt from."""
        return kinds[end] != "Flatten" or len(self.steps[end].node.input_tensors[0].shape) == 2

    def stage_ends(self, pattern: str) -> list[int]:
        """Numbers of the calls that end a stage each."""
        last = self._features()
        found = [i for i in self.candidates if i < last]
        if pattern:
            return [i for i in found if re.fullmatch(pattern, self.steps[i].name)] + [last]
        return [*self._before_next_kernels(found, last), last]

    def _before_next_kernels(self, candidates: list[int], last: int) -> Iterator[int]:
        kernels = [_has_kernel(step.operation) for step in self.steps]
        begin = 0
        for end, following in itertools.pairwise([*candidates, last]):
            if any(kernels[begin : end + 1]) and any(kernels[end + 1 : following + 1]):
                yield end
                begin = end + 1
