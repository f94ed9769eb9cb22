"""Cutting a network into stages by its graph.

A stage ends where a named submodule of the library's network returns. The network is traced once with torch.fx; at
each end exactly one tensor may be alive, so that the rest of the network is a function of it. A *piece* is what lies
between two boundaries: a module whose parameters are the library's own, under the library's own names.

Modules whose ``forward`` reads ``self.training`` (dropout, stochastic depth) stay whole: traced through, their
behaviour in evaluation would be baked into the suffix that is trained later.
"""

import contextlib
import copy
import functools
import inspect
import re
import threading
from collections import Counter
from collections.abc import Collection, Sequence

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from skltransfer._system.forks import Lock
from skltransfer.backbones._refusals import runs
from skltransfer.exceptions import UnsupportedBackboneError

_tracing = Lock()  # of one thread at a time


@functools.cache
def _reads_training(kind: type) -> bool:
    try:
        return "self.training" in inspect.getsource(kind.forward)
    except (OSError, TypeError):
        return False


class _Tracer(fx.Tracer):
    """Traces in one thread and leaves what others run as it is: torch.fx replaces methods of ``nn.Module`` for all."""

    def trace(self, root, concrete_args=None):
        with _tracing:
            self.thread = threading.get_ident()
            return super().trace(root, concrete_args)

    def call_module(self, module, forward, args, kwargs):
        is_ours = threading.get_ident() == self.thread
        return self.call_traced(module, forward, args, kwargs) if is_ours else forward(*args, **kwargs)

    def call_traced(self, module, forward, args, kwargs):
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        is_ours = threading.get_ident() == self.thread
        return super().getattr(attr, attr_val, parameter_proxy_cache) if is_ours else attr_val


class _StageTracer(_Tracer):
    """Remembers the node that each submodule returned; buffers keep their names, as parameters do."""

    proxy_buffer_attributes = True

    def __init__(self, whole: Collection[str]) -> None:
        super().__init__()
        self.whole = frozenset(whole)
        self.received: dict[str, fx.Node] = {}
        self.returned: dict[str, fx.Node] = {}

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return path in self.whole or super().is_leaf_module(module, path) or _reads_training(type(module))

    def call_traced(self, module, forward, args, kwargs):
        path = self.path_of_module(module)
        output = super().call_traced(module, forward, args, kwargs)
        if args and isinstance(args[0], fx.Proxy):
            self.received[path] = args[0].node
        if isinstance(output, fx.Proxy):
            self.returned[path] = output.node
        return output


def _traced(tracer: fx.Tracer, network: nn.Module) -> list[fx.Node]:
    """The nodes of a trace in which all arguments of ``forward`` except its input have their defaults."""
    optional = list(inspect.signature(network.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in optional if p.default is not inspect.Parameter.empty}
    graph = tracer.trace(network, defaults or None)
    for placeholder in [node for node in graph.nodes if node.op == "placeholder"][1:]:
        _erase(graph, placeholder)
    return list(graph.nodes)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Take out a node and what only checks it."""
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


def _end_node(tracer: _StageTracer, end: str) -> fx.Node:
    path, _, where = end.partition("+")
    if where == "input":
        return tracer.received[path]
    node = tracer.returned[path]
    if where == "relu":
        (node,) = (user for user in node.users if user.target in (torch.relu, nn.functional.relu))
    return node


def matching(network: nn.Module, pattern: str, kind: str | None = None) -> list[str]:
    """Paths of the submodules that match ``pattern``, of class ``kind`` where one is named, in the network's order."""
    return [
        path
        for path, module in network.named_modules()
        if re.fullmatch(pattern, path) and kind in (None, type(module).__name__)
    ]


class GraphCut:
    """A traced network and the nodes at which its stages end.

    Parameters
    ----------
    network : nn.Module
        The library's own network, in eval mode.
    ends : sequence of (str, str)
        Stage name and the submodule at whose return the stage ends, from the input on. ``"path+relu"`` ends it after
        the rectification that follows, where the library writes that outside of any submodule; ``"path+input"`` ends
        it before the submodule, at what that is given.
    whole : collection of str
        Submodules that are not traced into, because their code branches on its input.

    Raises
    ------
    UnsupportedBackboneError
        If the network cannot be traced, or more than one tensor is alive at an end.
    """

    def __init__(self, network: nn.Module, ends: Sequence[tuple[str, str]], whole: Collection[str] = ()) -> None:
        self.network, self.whole = network, tuple(whole)
        self._is_foldable: bool | None = None
        self.stage_names = tuple(name for name, _ in ends)
        self.end_modules = tuple(path for _, path in ends)
        tracer = _StageTracer(whole)
        try:
            self._nodes = _traced(tracer, network)
        except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
            raise UnsupportedBackboneError(f"{type(network).__name__} cannot be traced by torch.fx: {error}") from error
        self._pieces: dict[tuple[int, int | None], nn.Module] = {}
        self._position = {node: i for i, node in enumerate(self._nodes)}
        self._bounds = [self._nodes[0], *(_end_node(tracer, path) for path in self.end_modules), self._nodes[-1]]
        for name, bound in zip(self.stage_names, self._bounds[1:], strict=False):
            self._check_one_tensor_alive(name, bound)

    def _check_one_tensor_alive(self, name: str, bound: fx.Node) -> None:
        here = self._position[bound]
        others = [
            node.name
            for node in self._nodes[:here]
            if node.op != "get_attr" and any(self._position[user] > here for user in node.users)
        ]
        if others:
            raise UnsupportedBackboneError(
                f"{type(self.network).__name__} cannot be cut after stage {name!r}: "
                f"besides the stage's output, {others} are still needed after it."
            )

    def piece(self, start: int, stop: int | None = None) -> nn.Module:
        """The stages between two boundaries; to the network's own output without ``stop``."""
        if (start, stop) not in self._pieces:
            self._pieces[start, stop] = self._extract(start, self._bounds[-1] if stop is None else self._bounds[stop])
        return self._pieces[start, stop]

    def tapped(self, start: int, stops: Sequence[int]) -> nn.Module:
        """The stages from boundary ``start`` to the last of ``stops``; returns a tuple of the activations at each."""
        bounds = [self._bounds[stop] for stop in stops]
        return self._extract(start, bounds[-1], taps=bounds)

    def _extract(self, start: int, last: fx.Node, taps: Sequence[fx.Node] = ()) -> nn.Module:
        first = self._bounds[start]
        graph, copied = fx.Graph(), {}
        copied[first] = graph.placeholder("x")

        def lookup(node: fx.Node) -> fx.Node:
            if node not in copied:  # a parameter that was read before the boundary
                copied[node] = graph.node_copy(node)
            return copied[node]

        for node in self._nodes[self._position[first] + 1 : self._position[last] + 1]:
            if node.op == "output":
                graph.output(lookup(node.args[0]))
            elif node not in copied:
                copied[node] = graph.node_copy(node, lookup)
        if taps:
            graph.output(tuple(copied[tap] for tap in taps))
        elif last.op != "output":
            graph.output(copied[last])
        piece = fx.GraphModule(self.network, graph, class_name="Piece").eval()
        for path, module in piece.named_modules():  # torch 2.11 forgets which buffers no state dict holds
            module._non_persistent_buffers_set |= self.network.get_submodule(path)._non_persistent_buffers_set
        return piece

    def parameter_names(self, stage: int) -> tuple[str, ...]:
        """Names of the parameters of one stage, as in the library's state dict."""
        return tuple(name for name, _ in self.piece(stage, stage + 1).named_parameters())

    def library_activations(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of the library's own ``forward`` at the end of each stage, and last of all."""
        seen: dict[str, torch.Tensor] = {}
        handles = [self._watch(end, seen) for end in self.end_modules]
        try:
            output = self.network(inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [*(seen[path] for path in self.end_modules), output]

    def runs_on(self, shape: tuple[int, ...]) -> bool:
        """True if the library's own ``forward`` takes inputs of this shape."""
        return runs(self.network, torch.zeros(1, *shape))

    def _watch(self, end: str, seen: dict[str, torch.Tensor]):
        """Note down what the library's network computes where a stage ends."""
        path, _, where = end.partition("+")
        module = self.network.get_submodule(path)
        if where == "input":
            return module.register_forward_pre_hook(lambda m, i: seen.__setitem__(end, i[0]))
        return module.register_forward_hook(
            lambda m, i, o: seen.__setitem__(end, torch.relu(o) if where == "relu" else o)
        )

    def on(self, device: torch.device, dtype: torch.dtype, *, folded: bool = False) -> "GraphCut":
        """The same cut of a copy of the network, which is for inference alone where batch norms are folded."""
        network = copy.deepcopy(self.network)
        if folded:
            for convolution, norm in self._foldable():
                _fold(network, convolution, norm)
        return self.of(network.to(device, dtype, memory_format=torch.channels_last))

    def of(self, network: nn.Module, input_shape: tuple[int, ...] | None = None) -> "GraphCut":
        """The same cut of another network of this kind, whose inputs may have another shape."""
        return GraphCut(network, list(zip(self.stage_names, self.end_modules, strict=True)), self.whole)

    @property
    def is_foldable(self) -> bool:
        """True if a batch norm alone sees what the convolution before it gives."""
        if self._is_foldable is None:
            self._is_foldable = bool(self._foldable())
        return self._is_foldable

    def _foldable(self) -> list[tuple[str, str]]:
        """Paths of convolutions with that of the batch norm which alone sees what they give."""
        found = _norms_after_convolutions(self.network, self._nodes, set(self._bounds))
        blocks = [(path, module) for path, module in self.network.named_modules() if path in self.whole]
        for path, block in blocks:
            with contextlib.suppress(fx.proxy.TraceError, TypeError, RuntimeError):  # its code branches
                pairs = _norms_after_convolutions(block, list(_Tracer().trace(block).nodes))
                found += [(f"{path}.{convolution}", f"{path}.{norm}") for convolution, norm in pairs]
        return found


def _norms_after_convolutions(
    network: nn.Module, nodes: Sequence[fx.Node], bounds: Collection[fx.Node] = ()
) -> list[tuple[str, str]]:
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in nodes if node.op == "call_module")

    def called(node: fx.Node) -> type | None:
        """Class of the module that a node alone calls."""
        return type(modules[node.target]) if node.op == "call_module" and calls[node.target] == 1 else None

    return [
        (node.target, user.target)
        for node in nodes
        if called(node) is nn.Conv2d and len(node.users) == 1 and node not in bounds
        for user in node.users
        if called(user) is nn.BatchNorm2d or _activates(called(user))
    ]


def _activates(kind: type | None) -> bool:
    """True for timm's batch norm that drops and activates, too; its library is not imported here."""
    return kind is not None and kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    """Put a batch norm in eval mode into the weights of the convolution before it: one pass over the maps less."""
    folded = fuse_conv_bn_eval(network.get_submodule(convolution), network.get_submodule(norm))
    before = network.get_submodule(norm)
    after = nn.Sequential(before.drop, before.act) if _activates(type(before)) else nn.Identity()
    network.set_submodule(convolution, folded)
    network.set_submodule(norm, after.eval())
