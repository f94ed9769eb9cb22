"""Cutting a network into stages by its list of layers.

The library's own model runs, always: a *piece* is that model with stand-ins for the layers outside of two boundaries.
What was computed before the first boundary is handed to the first layer that is left; where the next layer would begin,
the run ends. So masks, position encodings and all that the model makes for its layers are the library's own, and
parameters keep the library's names.

A batch of texts is one tensor: (n, tokens, d) in which padding is NaN, or (n, tokens) of token ids in which padding is
-1, and ids of the second of two texts are raised by a constant; a batch of waveforms (n, samples) is padded with NaN
too. So the mask, and the segments, travel with the activation.
"""

import copy
import functools
import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from skltransfer.backbones._refusals import runs
from skltransfer.backbones._rehearsal import Rehearsal, layer_paths
from skltransfer.backbones._stand_ins import (
    End,
    EndOfSpan,
    Handed,
    Passed,
    Tap,
    hidden_of,
    with_hook,
    with_position_bias,
    with_submodule,
)

PADDING_ID = -1


def mask_of(batch: torch.Tensor) -> torch.Tensor:
    """Mask of the tokens of a batch that are not padding, (n, tokens)."""
    if batch.is_floating_point():
        return ~torch.isnan(batch if batch.ndim == 2 else batch[..., 0])
    return batch != PADDING_ID


class TokenEntry:
    """Calls a text model.

    Parameters
    ----------
    network : nn.Module
        The library's model.
    segment_step : int, default=0
        By how much a token's id is raised per segment; 0 for networks that know no segments.
    """

    has_one_shape = False

    def __init__(self, network: nn.Module, segment_step: int = 0) -> None:
        self.segment_step = segment_step
        self.width = network.get_input_embeddings().embedding_dim
        self.takes_embeddings = "inputs_embeds" in inspect.signature(network.forward).parameters

    def example(self) -> torch.Tensor:
        return torch.ones(1, 3, dtype=torch.long)

    def run(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Call it with token ids, and with their segments where it knows some."""
        inputs = {"input_ids": batch.clamp_min(0), "attention_mask": mask_of(batch).long()}
        if self.segment_step:
            segments = torch.div(inputs["input_ids"], self.segment_step, rounding_mode="floor")
            inputs |= {"input_ids": inputs["input_ids"] - self.segment_step * segments, "token_type_ids": segments}
        return model(**inputs).last_hidden_state

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
    """Calls a model whose inputs all have one shape: images, spectrograms; no token is padding.

    Parameters
    ----------
    name : str
        Name of its argument.
    shape : tuple of int
        Shape of one input.
    """

    has_one_shape = True

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
        """The input, unchanged."""
        return output


class WaveformEntry:
    """Calls a model of waveforms: convolutions make frames, and an ``encoder`` holds the layers.

    Parameters
    ----------
    kernels, strides : sequence of int
        Kernel sizes and strides of the convolutions.

    Attributes
    ----------
    pads : bool
        True if waveforms of a batch may end in padding.
    """

    has_one_shape = False

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


class _Span(nn.Module):
    """The model between two boundaries; its parameters have the model's names.

    ``model`` shares its submodules with the span, but is no submodule of it: that would change the names.
    """

    def __init__(self, model: nn.Module, entry: Entry, handed: Handed | None, lent: list[nn.Module]) -> None:
        super().__init__()
        self.__dict__["model"], self.entry, self.handed, self.lent = model, entry, handed, lent
        self._modules, self._parameters, self._buffers = model._modules, model._parameters, model._buffers

    def _apply(self, fn, recurse: bool = True) -> "_Span":
        for module in self.lent:  # by the first layer, which may be no part of this span
            module._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> "_Span":
        super().train(mode)
        self.model.training = mode
        return self

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.handed is not None:
            self.handed.of_thread.hidden = torch.where(torch.isnan(batch), torch.zeros_like(batch), batch)
        try:
            output = (self.entry.run if self.handed is None else self.entry.run_from)(self.model, batch)
        except EndOfSpan as end:
            output = end.hidden
        return self.entry.with_padding(output, batch)


class TappedSpan(_Span):
    """A span that returns what reached the taps inside of it, and then its own output.

    Parameters
    ----------
    span : _Span
        Span of layers, some of which have the tap as their hook.
    tap : Tap
        Tap that collects activations.
    """

    def __init__(self, span: _Span, tap: Tap) -> None:
        super().__init__(span.model, span.entry, span.handed, span.lent)
        self.tap = tap
        self.eval()

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.tap.of_thread.seen = seen = []
        output = super().forward(batch)
        return (*(self.entry.with_padding(hidden, batch) for hidden in seen), output)


class LayerCut:
    """A network and its layers; the first stage is all that comes before them.

    Parameters
    ----------
    network : nn.Module
        The library's model, in eval mode; its output has a ``last_hidden_state``.
    entry : TokenEntry, DenseEntry or WaveformEntry
        Caller of the model.

    Attributes
    ----------
    stage_names : tuple of str
        Names of the stages.
    shapes : list of tuple of int
        Shapes of one sample's activation after each stage, for the entry's example.

    Raises
    ------
    UnsupportedBackboneError
        If there is no list of layers, or a forward pass does not run them once each, one after the other.
    """

    is_foldable = False

    def __init__(self, network: nn.Module, entry: Entry) -> None:
        self.network, self.entry = network, entry
        self.paths = layer_paths(network)
        self.layers = [network.get_submodule(path) for path in self.paths]
        self.stage_names = ("stem", *self.paths)
        self._pieces: dict[tuple[int, int | None], nn.Module] = {}
        self._rehearsal = Rehearsal(network, entry, self.paths)
        self._owners, self.shapes = self._rehearsal.stages_of_parameters(), self._rehearsal.shapes

    def parameter_names(self, stage: int) -> tuple[str, ...]:
        """Names of the parameters of one stage; what is before the layers is the first's, what is after the last's."""
        return tuple(name for name, owner in self._owners.items() if owner == stage)

    def piece(self, start: int, stop: int | None = None) -> nn.Module:
        """The stages between two boundaries."""
        stop = len(self.stage_names) if stop is None else stop
        if (start, stop) not in self._pieces:
            self._pieces[start, stop] = self._span(start, stop) if start < stop else nn.Identity()
        return self._pieces[start, stop]

    def tapped(self, start: int, stops: Sequence[int]) -> nn.Module:
        """The stages from boundary ``start`` to the last of ``stops``; returns a tuple of the activations at each."""
        tap = Tap()
        recorded = {
            self.paths[stop - 1]: with_hook(self.network.get_submodule(self.paths[stop - 1]), tap)
            for stop in stops[:-1]
        }
        return TappedSpan(self._span(start, stops[-1], recorded), tap)

    def _span(self, start: int, stop: int, replaced: Mapping[str, nn.Module] | None = None) -> "_Span":
        """Boundary b lies before layer b; the layers of the span are start - 1 to stop - 1, and stop ends it."""
        first, end = max(0, start - 1), stop - 1
        placed = {path: End(layer) for path, layer in list(zip(self.paths, self.layers, strict=True))[end:]}
        handed, lent = None, []
        if start > 0:
            handed, placed = Handed(), placed | self._passed(start)
            layer, lent = with_position_bias(self.layers[first], self.layers[0])
            placed[self.paths[first]] = with_hook(layer, handed)
        model = self.network
        for path, module in (placed | dict(replaced or {})).items():
            model = with_submodule(model, path.split("."), module)
        return _Span(model, self.entry, handed, lent).eval()

    def _passed(self, start: int) -> dict[str, nn.Module]:
        """Stand-ins for the layers before a boundary, and for what would learn the statistics of zeros there."""
        given, returned = self._rehearsal.given, self._rehearsal.returned
        passed = self.paths[: start - 1]
        if not self.entry.has_one_shape:
            return {path: Passed(self.network.get_submodule(path), None, returned[path]) for path in passed}
        passed = passed + [path for path in self._rehearsal.over_before(start) if self._has_statistics(path)]
        return {path: Passed(self.network.get_submodule(path), given[path], returned[path]) for path in passed}

    def _has_statistics(self, path: str) -> bool:
        return any(name.endswith("running_mean") for name, _ in self.network.get_submodule(path).named_buffers())

    def library_activations(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Inputs of the layers in the library's own ``forward``, and its output; padding as NaN."""
        seen: list[torch.Tensor] = []
        handles = [
            layer.register_forward_pre_hook(
                lambda m, args, kwargs: seen.append(hidden_of(args, kwargs).clone()), with_kwargs=True
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

    def runs_on(self, shape: tuple[int, ...]) -> bool:
        """True if the library's own ``forward`` takes inputs of this shape."""
        return runs(functools.partial(self.entry.run, self.network), torch.zeros(1, *shape))

    def on(self, device: torch.device, dtype: torch.dtype, *, folded: bool = False) -> "LayerCut":
        """The same cut of a copy of the network."""
        return self.of(copy.deepcopy(self.network).to(device, dtype))

    def of(self, network: nn.Module, input_shape: tuple[int, ...] | None = None) -> "LayerCut":
        """The same cut of another network of this kind, whose inputs may have another shape."""
        return LayerCut(network, self.entry if input_shape is None else DenseEntry(self.entry.name, input_shape))
