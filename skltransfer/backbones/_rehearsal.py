"""Where a network can be cut into layers, as one forward pass shows.

Knows modules, and entries by what they do; no architecture.
"""

from collections.abc import Collection, Sequence

import torch
from torch import nn

from skltransfer.backbones._stand_ins import Shape, hidden_of, shape_of
from skltransfer.exceptions import UnsupportedBackboneError


def layer_paths(network: nn.Module) -> list[str]:
    """Paths of the layers: the list of modules of one kind that holds most of the weights.

    Where that list is within an item of a list of different modules, that list's items are the layers; where its items
    are lists, which no forward pass calls, theirs are.
    """
    lists = {path: module for path, module in network.named_modules() if isinstance(module, nn.ModuleList) and module}
    sizes = {path: sum(p.numel() for p in module.parameters()) for path, module in lists.items()}
    alike = {path: size for path, size in sizes.items() if len({type(layer) for layer in lists[path]}) == 1}
    if not alike:
        raise UnsupportedBackboneError(f"{type(network).__name__} has no list of layers to cut at.")
    best = max(alike, key=alike.get)
    outermost = next(path for path in lists if f"{best}.".startswith(f"{path}."))
    return _called(outermost, lists[outermost])


def _called(path: str, module: nn.Module) -> list[str]:
    """The paths of a list's items, or of theirs."""
    if not isinstance(module, nn.ModuleList):
        return [path]
    return [inner for name, item in module.named_children() for inner in _called(f"{path}.{name}", item)]


class Rehearsal:
    """One forward pass of an example, watched: which modules run when, on what, and what they return.

    Parameters
    ----------
    network : nn.Module
        The library's model.
    entry : TokenEntry, DenseEntry or WaveformEntry
        Caller of the model.
    paths : sequence of str
        Paths of the layers; layer i begins stage i + 1.

    Attributes
    ----------
    given, returned : dict
        Shapes of what a module was given last, and of what it returned, by its path.
    shapes : list of tuple of int
        Shapes of one sample's activation before each layer, and of the network's output.
    """

    def __init__(self, network: nn.Module, entry, paths: Sequence[str]) -> None:
        self.network, self.paths = network, list(paths)
        self.given: dict[str, Shape] = {}
        self.returned: dict[str, object] = {}
        self._order: list[str] = []
        handles = [handle for path, module in network.named_modules() for handle in self._watch(path, module)]
        try:
            with torch.no_grad():  # tables that a network remembers of its first pass will be trained with
                weight, x = next(network.parameters()), entry.example()
                output = entry.run(network, x.to(weight.device, weight.dtype if x.is_floating_point() else x.dtype))
        finally:
            for handle in handles:
                handle.remove()
        self._refuse_unless_in_order()
        self.shapes = [self.given[path].dims[1:] for path in self.paths] + [tuple(output.shape[1:])]
        self._stages = self._stages_of_modules()

    def _watch(self, path: str, module: nn.Module):
        def before(module, args, kwargs):
            self._order.append(path)
            if (args or kwargs) and isinstance(hidden := hidden_of(args, kwargs), torch.Tensor):
                self.given[path] = shape_of(hidden)

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(lambda m, args, output: self.returned.__setitem__(path, shape_of(output)))

    def _refuse_unless_in_order(self) -> None:
        layers = set(self.paths)
        run = [path for path in self._order if path in layers]
        if run != self.paths or not layers <= self.given.keys():
            raise UnsupportedBackboneError(
                f"{type(self.network).__name__} does not run its layers {self.paths[0]!r} to {self.paths[-1]!r} once "
                "each, one after the other."
            )

    def _stages_of_modules(self) -> list[tuple[str, int]]:
        """The modules that run, in order, each with the stage that it runs in."""
        begins, stage, found = {path: i + 1 for i, path in enumerate(self.paths)}, 0, []
        for path in self._order:
            stage = begins.get(path, stage)
            found.append((path, stage))
        return found

    def stages_of_parameters(self) -> dict[str, int]:
        """The stage of each parameter: that in which its module first runs, or else the smallest module around it.

        Attention may read the weights of its parts without running them.
        """
        begins: dict[str, int] = {}
        for path, stage in self._stages:
            begins.setdefault(path, stage)
        return {name: begins[_nearest(name, begins)] for name, _ in self.network.named_parameters()}

    def over_before(self, stage: int) -> list[str]:
        """The largest modules that have returned for good when a stage begins, layers aside."""
        last: dict[str, int] = {}
        for path, when in self._stages:
            for end in [i for i, letter in enumerate(path) if letter == "."] + [len(path)]:
                last[path[:end]] = max(when, last.get(path[:end], 0))
        found: list[str] = []
        for path, _ in self.network.named_modules():
            is_over = last.get(path, stage) < stage and path in self.returned and path in self.given
            if is_over and path and not any(f"{path}.".startswith(f"{known}.") for known in (*found, *self.paths)):
                found.append(path)
        return found


def _nearest(name: str, paths: Collection[str]) -> str:
    """The longest of the paths that a parameter lies under; the network itself has the empty one."""
    while name not in paths:
        name = name.rpartition(".")[0]
    return name
