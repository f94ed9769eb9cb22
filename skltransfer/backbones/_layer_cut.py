"""Cutting a transformer into stages by its list of layers.

The library's own model runs, always: a *piece* is that model with the layers outside of two boundaries left out. What
was computed before the first boundary is handed to the first layer that is left; where the next layer would begin, the
run ends. So masks, position encodings and whatever else the model makes for its layers are the library's own, and
parameters keep the library's names.

A batch of texts is one tensor: (n, tokens, d) in which padding is NaN, or (n, tokens) of token ids in which padding is
-1; a batch of waveforms (n, samples) is padded with NaN too. So the mask travels with the activation.
"""

import copy
import inspect
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from skltransfer.exceptions import UnsupportedBackboneError

PADDING_ID = -1


def mask_of(batch: torch.Tensor) -> torch.Tensor:
    """Which tokens of a batch are not padding, (n, tokens)."""
    if batch.is_floating_point():
        return ~torch.isnan(batch if batch.ndim == 2 else batch[..., 0])
    return batch != PADDING_ID


class TokenEntry:
    """How a model of texts is called.

    Parameters
    ----------
    network : nn.Module
    """

    def __init__(self, network: nn.Module) -> None:
        self.width = network.get_input_embeddings().embedding_dim
        self.takes_embeddings = "inputs_embeds" in inspect.signature(network.forward).parameters

    def example(self) -> torch.Tensor:
        return torch.ones(1, 3, dtype=torch.long)

    def run(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call it with token ids."""
        return model(input_ids=batch.clamp_min(0), attention_mask=mask_of(batch).long()).last_hidden_state

    def run_from(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call it with what has the shape of these activations, which will replace what it makes of that."""
        n, n_tokens = batch.shape[:2]
        if self.takes_embeddings:
            inputs = {"inputs_embeds": batch.new_zeros(n, n_tokens, self.width)}
        else:
            inputs = {"input_ids": torch.zeros(n, n_tokens, dtype=torch.long, device=batch.device)}
        return model(**inputs, attention_mask=mask_of(batch).long()).last_hidden_state

    def with_padding(self, output: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Padding as NaN, where the batch has it."""
        return output.masked_fill(~mask_of(batch)[..., None], torch.nan)


class DenseEntry:
    """How a model is called whose inputs all have one shape: pictures, spectrograms; no token is padding.

    Parameters
    ----------
    name : str
        Of its argument.
    shape : tuple of int
        Of one input.
    """

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape

    def example(self) -> torch.Tensor:
        return torch.zeros(1, *self.shape)

    def run(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call it with inputs."""
        return model(**{self.name: batch}).last_hidden_state

    def run_from(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call it with zeros; activations will replace what it makes of them."""
        return model(**{self.name: batch.new_zeros(batch.shape[0], *self.shape)}).last_hidden_state

    def with_padding(self, output: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """As it is."""
        return output


class WaveformEntry:
    """How a model of waveforms is called: convolutions make frames, and an ``encoder`` holds the layers.

    Parameters
    ----------
    kernels, strides : sequence of int
        Of the convolutions.

    Attributes
    ----------
    pads : bool
        Whether waveforms of a batch may end in padding; where all are whole, nothing depends on values.
    """

    def __init__(self, kernels: Sequence[int], strides: Sequence[int]) -> None:
        self.kernels, self.strides, self.pads = tuple(kernels), tuple(strides), True

    def example(self) -> torch.Tensor:
        return torch.zeros(1, 4000)

    def run(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call it with waveforms."""
        mask = mask_of(batch)
        padding = {} if not self.pads or mask.all() else {"attention_mask": mask.long()}
        return model(input_values=batch.nan_to_num(), **padding).last_hidden_state

    def run_from(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call its encoder with zeros; activations will replace what it makes of them."""
        mask = mask_of(batch)
        is_whole = not self.pads or mask.all()
        return model.encoder(torch.zeros_like(batch), attention_mask=None if is_whole else mask).last_hidden_state

    def with_padding(self, output: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Frames that saw padding alone as NaN."""
        mask = mask_of(batch)
        if batch.ndim == 2:
            lengths = mask.sum(1)
            for kernel, stride in zip(self.kernels, self.strides, strict=True):
                lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            mask = torch.arange(output.shape[1], device=output.device) < lengths[:, None]
        return output.masked_fill(~mask[..., None], torch.nan)


Entry = TokenEntry | DenseEntry | WaveformEntry


class _EndOfSpan(Exception):  # noqa: N818
    """Carries what the layer after the span would have been given."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class _End(nn.Module):
    """Stands where the layer after the span was."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, value in vars(layer).items():  # models read some of these, such as the kind of attention
            if isinstance(value, str | int | float | bool):
                self.__dict__[name] = value

    def forward(self, *args, **kwargs):
        raise _EndOfSpan(args[0] if args else kwargs["hidden_states"])


class _Layers(nn.ModuleList):
    """Some layers of a list, under the names that they have in it."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules = OrderedDict(layers)

    def __getitem__(self, index):
        values = list(self._modules.values())
        return _Layers(list(self._modules.items())[index]) if isinstance(index, slice) else values[index]


class _Handed:
    """A hook that puts what was computed before the span in the place of the first layer's input."""

    def __init__(self) -> None:
        self.of_thread = threading.local()

    def __deepcopy__(self, memo: dict) -> "_Handed":
        memo[id(self)] = new = _Handed()
        return new

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        hidden = self.of_thread.hidden
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})


class _Span(nn.Module):
    """The model between two boundaries; its parameters have the model's names.

    ``model`` shares its submodules with the span, but is no submodule of it: that would change the names.
    """

    def __init__(self, model: nn.Module, entry: Entry, handed: _Handed | None) -> None:
        super().__init__()
        self.__dict__["model"], self.entry, self.handed = model, entry, handed
        self._modules, self._parameters, self._buffers = model._modules, model._parameters, model._buffers

    def train(self, mode: bool = True) -> "_Span":
        super().train(mode)
        self.model.training = mode
        return self

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.handed is not None:
            self.handed.of_thread.hidden = batch.nan_to_num()
        try:
            output = (self.entry.run if self.handed is None else self.entry.run_from)(self.model, batch)
        except _EndOfSpan as end:
            output = end.hidden
        return self.entry.with_padding(output, batch)


class LayerCut:
    """A transformer and its list of layers; the first stage is all that comes before them.

    Parameters
    ----------
    network : nn.Module
        The library's model, in eval mode; its output has a ``last_hidden_state``.
    entry : TokenEntry, DenseEntry or WaveformEntry
        How it is called.

    Raises
    ------
    UnsupportedBackboneError
        If there is no list of layers of one kind.
    """

    def __init__(self, network: nn.Module, entry: Entry) -> None:
        self.network, self.entry = network, entry
        self.path = _longest_list(network)
        self.layers: Sequence[nn.Module] = list(network.get_submodule(self.path))
        self.stage_names = ("stem", *(f"{self.path}.{i}" for i in range(len(self.layers))))
        self._pieces: dict[tuple[int, int | None], nn.Module] = {}
        self._owners = _stages_of_parameters(network, entry, self.path)

    def parameter_names(self, stage: int) -> tuple[str, ...]:
        """Names of the parameters of one stage; what is before the layers is the first's, what is after the last's."""
        return tuple(name for name, owner in self._owners.items() if owner == stage)

    def piece(self, start: int, stop: int | None = None) -> nn.Module:
        """What lies between two boundaries."""
        stop = len(self.stage_names) if stop is None else stop
        if (start, stop) not in self._pieces:
            self._pieces[start, stop] = self._span(start, stop) if start < stop else nn.Identity()
        return self._pieces[start, stop]

    def _span(self, start: int, stop: int) -> nn.Module:
        """Boundary b lies before layer b; the layers of the span are start - 1 to stop - 1, and stop ends it."""
        first, end = max(0, start - 1), stop - 1
        kept = {str(i): self.layers[i] for i in range(first, end)}
        handed = None
        if start > 0:
            handed = _Handed()
            kept[str(first)] = _with_position_bias(_with_hook(self.layers[first], handed), self.layers[0])
        if end < len(self.layers):
            kept[str(end)] = _End(self.layers[end])
        model = _with_submodule(self.network, self.path.split("."), _Layers(kept))
        return _Span(model, self.entry, handed).eval()

    def library_activations(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """What the library's own ``forward`` gives its layers, and last of all; padding as NaN."""
        seen: list[torch.Tensor] = []
        handles = [
            layer.register_forward_pre_hook(
                lambda m, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
            for layer in self.layers
        ]
        try:
            output = self.entry.run(self.network, inputs)
        finally:
            for handle in handles:
                handle.remove()
        seen += [output, output]
        return [self.entry.with_padding(hidden, inputs) for hidden in seen]

    def on(self, device: torch.device, dtype: torch.dtype) -> "LayerCut":
        """The same cut of a copy of the network."""
        return self.of(copy.deepcopy(self.network).to(device, dtype))

    def of(self, network: nn.Module) -> "LayerCut":
        """The same cut of another network of this kind."""
        return LayerCut(network, self.entry)


def _longest_list(network: nn.Module) -> str:
    """The path of the list of layers of one kind that holds most of the weights."""
    sizes = {
        path: sum(p.numel() for p in module.parameters())
        for path, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0 and len({type(layer) for layer in module}) == 1
    }
    if not sizes:
        raise UnsupportedBackboneError(f"{type(network).__name__} has no list of layers of one kind to cut at.")
    return max(sizes, key=sizes.get)


def _with_hook(layer: nn.Module, hook: _Handed) -> nn.Module:
    """The same layer, sharing its weights, but with a hook of its own."""
    layer = copy.copy(layer)
    layer._forward_pre_hooks, layer._forward_pre_hooks_with_kwargs = OrderedDict(), OrderedDict()
    layer.register_forward_pre_hook(hook, with_kwargs=True)
    return layer


def _with_position_bias(layer: nn.Module, first: nn.Module) -> nn.Module:
    """The same layer, which makes the position bias itself that T5's first layer makes and hands on.

    The bias is the first layer's, and no parameter of this one: it is lent as a plain attribute.
    """
    for path, attention in first.named_modules():
        if getattr(attention, "has_relative_attention_bias", False):
            borrower = copy.copy(layer.get_submodule(path))
            borrower.__dict__["has_relative_attention_bias"] = True
            borrower.__dict__["relative_attention_bias"] = attention.relative_attention_bias
            layer = _with_submodule(layer, path.split("."), borrower)
    return layer


def _with_submodule(module: nn.Module, path: list[str], replacement: nn.Module) -> nn.Module:
    """The same module, sharing its weights, with one submodule replaced."""
    if not path:
        return replacement
    module = copy.copy(module)
    module._modules = dict(module._modules)
    module._modules[path[0]] = _with_submodule(module._modules[path[0]], path[1:], replacement)
    return module


def _stages_of_parameters(network: nn.Module, entry: Entry, path: str) -> dict[str, int]:
    """Which stage each parameter belongs to, by when its module runs; what is only looked at belongs to the first."""
    order: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda m, i, name=name: order.append(name))
        for name, module in network.named_modules()
    ]
    try:
        with torch.inference_mode():
            weight, x = next(network.parameters()), entry.example()
            entry.run(network, x.to(weight.device, weight.dtype if x.is_floating_point() else x.dtype))
    finally:
        for handle in handles:
            handle.remove()
    owners, stage = {}, 0
    own = {name: [key for key, _ in m.named_parameters(recurse=False)] for name, m in network.named_modules()}
    for name in order:
        if name.startswith(f"{path}."):
            stage = 1 + int(name.removeprefix(f"{path}.").partition(".")[0])
        for key in own[name]:
            owners.setdefault(f"{name}.{key}" if name else key, stage)
    return {name: owners.get(name, 0) for name, _ in network.named_parameters()}
