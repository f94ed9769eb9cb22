"""What stands in a library's model where layers outside of a span were, so that its own forward runs without them.

Stand-ins have no parameters and no buffers. They show the layer's plain attributes, which models read: the kind of its
attention, its stride, whether it has a part. They know modules and tensors; no architecture but for the position bias
of T5 and WavLM.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

BIAS_MAKERS = ("relative_attention_bias", "rel_attn_embed")  # of T5 and its kin, of WavLM


def hidden_of(args: tuple, kwargs: Mapping[str, object]) -> torch.Tensor:
    """The activation among the arguments of a layer."""
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values())))


class Shape(NamedTuple):
    """Shape and dtype of a tensor that a module returned."""

    dims: tuple[int, ...]
    dtype: torch.dtype


def shape_of(output: object) -> object:
    """The structure of a module's output, with shapes in the place of tensors."""
    if isinstance(output, torch.Tensor):
        return Shape(tuple(output.shape), output.dtype)
    if isinstance(output, tuple | list):
        return tuple(map(shape_of, output))
    return {key: shape_of(value) for key, value in output.items()} if isinstance(output, dict) else output


class EndOfSpan(Exception):  # noqa: N818
    """Carries what the layer after the span would have been given."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class _StandIn(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, value in vars(module).items():
            if value is None or isinstance(value, str | int | float | bool):
                self.__dict__.setdefault(name, value)
        self.__dict__ |= {name: part is not None for name, part in module._modules.items()}


class End(_StandIn):
    """Stands where a layer after the span was; the first of these ends the run."""

    def forward(self, *args, **kwargs):
        raise EndOfSpan(hidden_of(args, kwargs))


class Passed(_StandIn):
    """Stands where a module before the span was, and returns what has the form of its output.

    Parameters
    ----------
    module : nn.Module
        Module that is replaced.
    given, output : object
        Shapes of what the module was given, and of what it returned. Without ``given``, what it is given now is passed
        on as the first tensor, and there is no other: its length is not known beforehand.
    """

    def __init__(self, module: nn.Module, given: Shape | None, output: object) -> None:
        super().__init__(module)
        self.given, self.output = given, output

    def forward(self, *args, **kwargs):
        hidden = hidden_of(args, kwargs)
        if self.given is None:
            return _with_first(self.output, iter([hidden]))
        return _zeros(self.output, hidden, hidden.shape[0] // self.given.dims[0])


def _with_first(output: object, tensors) -> object:
    if isinstance(output, Shape):
        return next(tensors, None)
    return tuple(_with_first(part, tensors) for part in output) if isinstance(output, tuple) else output


def _zeros(output: object, like: torch.Tensor, n: int) -> object:
    """Zeros of these shapes, which were of one sample, for n."""
    if isinstance(output, Shape):
        dtype = like.dtype if output.dtype.is_floating_point else output.dtype
        return like.new_zeros(n * output.dims[0], *output.dims[1:], dtype=dtype)
    if isinstance(output, dict):
        return {key: _zeros(value, like, n) for key, value in output.items()}
    return tuple(_zeros(part, like, n) for part in output) if isinstance(output, tuple) else output


class Handed:
    """A hook that puts what was computed before the span in the place of the first layer's input."""

    def __init__(self) -> None:
        self.of_thread = threading.local()

    def __deepcopy__(self, memo: dict) -> "Handed":
        memo[id(self)] = new = type(self)()
        return new

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        hidden = self.of_thread.hidden
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs)): hidden}


class Tap(Handed):
    """A hook that notes down what reaches the layers that have it."""

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        self.of_thread.seen.append(hidden_of(args, kwargs).clone())
        return args, kwargs


def with_hook(layer: nn.Module, hook: Handed) -> nn.Module:
    """The same layer, sharing its weights, but with a hook of its own."""
    layer = copy.copy(layer)
    layer._forward_pre_hooks, layer._forward_pre_hooks_with_kwargs = OrderedDict(), OrderedDict()
    layer.register_forward_pre_hook(hook, with_kwargs=True)
    return layer


def with_position_bias(layer: nn.Module, first: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The same layer, which makes the position bias itself that a model's first layer makes and hands on.

    The bias is the first layer's, and no parameter of this one: it is lent as a plain attribute. What is lent comes
    second, since a move to another device does not find it. A layer that has a bias of its own, as in UMT5, keeps it.
    """
    lent = []
    for path, attention in first.named_modules():
        for name in BIAS_MAKERS:
            maker = getattr(attention, name, None)
            if isinstance(maker, nn.Module) and not _has_own(layer, path, name):
                borrower = copy.copy(layer.get_submodule(path))
                borrower.__dict__ |= {name: maker, "has_relative_attention_bias": True}
                layer = with_submodule(layer, path.split("."), borrower)
                lent.append(maker)
    return layer, lent


def _has_own(layer: nn.Module, path: str, name: str) -> bool:
    return isinstance(getattr(layer.get_submodule(path), name, None), nn.Module)


def with_submodule(module: nn.Module, path: list[str], replacement: nn.Module) -> nn.Module:
    """The same module, sharing its weights, with one submodule replaced."""
    if not path:
        return replacement
    module = copy.copy(module)
    module._modules = dict(module._modules)
    module._modules[path[0]] = with_submodule(module._modules[path[0]], path[1:], replacement)
    return module
