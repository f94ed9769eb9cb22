"""Masks: one of several labels for each pixel of an image, read off the maps of several stages.

Must not know files, nor what labels mean.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Backbone, Geometry, source_network
from skltransfer.engine.networks.readout import Readout, ScaledReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.parts import PartsTask
from skltransfer.engine.tasks.probe import LEAST_SCALE, Penalty, Probe, Scaling, best_grouped_ridge, standardisation
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import OWN_HEAD, VECTOR_HEADS, HeadedTask, OverSamples, Start

HIDDEN = 64  # channels of a head with hidden layers
ENOUGH_PIXELS, TO_BEGIN = 20_000, 5_000  # on which the probe is solved; where it only begins a head
IGNORED = -1
AT_ONCE = 2**22  # numbers of an answer
SAMPLING = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}


class PyramidReadout(ScaledReadout):
    """Maps of several stages, each made small in channels, added at the size of the largest.

    A linear head of the concatenated maps is the sum of a linear head of each, so that no map is made large but that of
    the outputs.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Channels and side of each map.
    spec : NetworkSpec
        The network; ``"mlp"`` adds a hidden layer and a convolution.
    ends_in_channels : sequence of bool
        Maps that are (n, h, w, c).
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], spec: NetworkSpec, ends_in_channels: Sequence[bool]) -> None:
        super().__init__(sum(channels for channels, _ in shapes))
        self.side, self.ends_in_channels = max(side for _, side in shapes), tuple(ends_in_channels)
        self.channels = [channels for channels, _ in shapes]
        width = HIDDEN if spec.head == "mlp" else spec.n_outputs
        self.laterals = nn.ModuleList(nn.Linear(channels, width, bias=False) for channels in self.channels)
        self.bias = nn.Parameter(torch.zeros(width))
        self.head = nn.Sequential()
        if spec.head == "mlp":
            self.head = nn.Sequential(
                nn.ReLU(), nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(HIDDEN, spec.n_outputs, 1)
            )

    def maps(self, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Each map as (n, c, h, w)."""
        return [as_map(one, ends) for one, ends in zip(given, self.ends_in_channels, strict=True)]

    def forward(self, given: Sequence[torch.Tensor], batch: Any = None) -> torch.Tensor:
        """Outputs of the cells of the largest map, (n, n_outputs, side, side)."""
        with autocast(given[0].device, None):
            parts = zip(self.laterals, self.maps(given), self._split(self.mean), self._split(self.scale), strict=True)
            total = sum(self._enlarged(self._narrow(*part)) for part in parts) + self.bias[:, None, None]
            return self.head(total)

    def _split(self, values: torch.Tensor) -> Sequence[torch.Tensor]:
        return values.split(self.channels)

    def _narrow(self, lateral: nn.Linear, one: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        standardized = (one.to(mean.dtype).permute(0, 2, 3, 1) - mean) / scale
        return lateral(standardized).permute(0, 3, 1, 2)

    def _enlarged(self, one: torch.Tensor) -> torch.Tensor:
        return enlarged(one, self.side)


class OwnMaskReadout(Readout):
    """The pretrained head of a segmentation network of torchvision, with a new layer of labels.

    Parameters
    ----------
    head : nn.Module
        Head that makes outputs of the last map; or, as in LR-ASPP, of an early and a late one. It is changed in place.
    n_outputs : int
        Number of outputs.
    """

    def __init__(self, head: nn.Module, n_outputs: int) -> None:
        super().__init__()
        for name in ("low_classifier", "high_classifier") if hasattr(head, "low_classifier") else ("4",):
            old = head.get_submodule(name)
            setattr(head, name, nn.Conv2d(old.in_channels, n_outputs, 1))
        self.head = head

    def forward(self, given: Sequence[torch.Tensor], batch: Any = None) -> torch.Tensor:
        """Outputs of the cells of the first map, (n, n_outputs, side, side)."""
        with autocast(given[0].device, None):
            if len(given[0]) > 1 and any(part.training for part in self._norms()):
                return self._outputs(given)
            return torch.cat([self._alone(row) for row in zip(*(one.split(1) for one in given), strict=True)])

    def _alone(self, row: Sequence[torch.Tensor]) -> torch.Tensor:
        """Outputs of one image, which has no statistics of a batch, and whose mask depends on no other."""
        norms = [part for part in self._norms() if part.training]
        for part in norms:
            part.eval()
        outputs = self._outputs(row)
        for part in norms:
            part.train()
        return outputs

    def _norms(self) -> list[nn.Module]:
        return [part for part in self.head.modules() if isinstance(part, nn.BatchNorm2d)]

    def _outputs(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.head(maps[0] if len(maps) == 1 else {"low": maps[0], "high": maps[1]})


def as_map(activation: torch.Tensor, ends_in_channels: bool) -> torch.Tensor:
    """Maps, or tokens of a square of patches after special ones, as (n, c, h, w)."""
    if activation.ndim == 4:
        return activation.permute(0, 3, 1, 2) if ends_in_channels else activation
    side = int(activation.shape[1] ** 0.5)
    patches = activation[:, activation.shape[1] - side * side :]
    return patches.transpose(1, 2).unflatten(2, (side, side))


def map_shape(shape: Sequence[int], ends_in_channels: bool) -> tuple[int, int]:
    """Channels and side of the map of one sample's activation."""
    one = as_map(torch.empty(1, *shape, device="meta"), ends_in_channels)
    return one.shape[1], one.shape[2]


def tapped_maps(backbone: Backbone, taps: Sequence[int]) -> tuple[list[tuple[int, int]], list[bool]]:
    """Channels and side of the map at each boundary, and whether it is (n, h, w, c)."""
    ends = [backbone.ends_in_channels(tap) for tap in taps]
    return [map_shape(backbone.activation_shapes[tap], end) for tap, end in zip(taps, ends, strict=True)], ends


def enlarged(one: torch.Tensor, side: int) -> torch.Tensor:
    """A map, (n, c, h, w), at another size."""
    if one.shape[-1] == side:
        return one
    return F.interpolate(one, size=(side, side), mode="bilinear", align_corners=False)


class MaskAnswer(NamedTuple):
    """Outputs of one image, (n_outputs, side, side), and its position in the network's input."""

    outputs: torch.Tensor
    geometry: Geometry


class SegmentationTask(HeadedTask, PartsTask):
    """One of several labels for each pixel."""

    heads = (*VECTOR_HEADS, OWN_HEAD)

    def placed(self, targets: RecordTargets, geometries: Callable[[], Iterable[Geometry]]) -> RecordTargets:
        """Masks as the network sees the images, (side, side); what is no part of an image is ignored."""
        pairs = zip(targets.records, geometries(), strict=True)
        return RecordTargets([{"labels": seen_mask(record["labels"], geometry)} for record, geometry in pairs])

    def changed(
        self,
        augment: Callable,
        image: torch.Tensor,
        target: dict[str, np.ndarray],
        factors: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        """An image (3, h, w) and its mask after a transform of both; pixels that it fills in are ignored."""
        from torchvision import tv_tensors

        rows, columns = (
            np.minimum((np.arange(n) + 0.5) * old / n, old - 1).astype(int)
            for n, old in zip(image.shape[1:], target["labels"].shape, strict=True)
        )
        labels = target["labels"][rows][:, columns].astype(np.int64)
        mask = tv_tensors.Mask(torch.tensor(labels - IGNORED))  # transforms fill in zeros
        try:
            image, found = augment(tv_tensors.Image(image), {"mask": mask})
            mask = found["mask"].as_subclass(torch.Tensor)
            if mask.shape[-2:] != image.shape[-2:]:
                raise ValueError(f"the image became {tuple(image.shape[-2:])}, and the mask {tuple(mask.shape[-2:])}")
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                "augment must turn an image and its target, a dict with a mask, into another image and target, as the "
                f"transforms of torchvision.transforms.v2 and of albumentations do ({type(error).__name__}: {error})."
            ) from error
        kept = (mask.reshape(mask.shape[-2:]) + IGNORED).numpy().astype(np.int16)
        return image.as_subclass(torch.Tensor), {"labels": kept}

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> Readout:
        if spec.head == OWN_HEAD:
            return OwnMaskReadout(source_network(backbone, pretrained=pretrained).classifier, spec.n_outputs)
        shapes, ends = tapped_maps(backbone, spec.taps)
        return PyramidReadout(shapes, spec, ends)

    def loss(self, outputs: torch.Tensor, batch: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Mean cross-entropy of a sample's pixels that are not ignored, (n,); 0 if all of them are."""
        labels = torch.stack([record["labels"] for record in batch]).long().to(outputs.device)  # (n, side, side)
        large = enlarged(outputs, labels.shape[-1]).permute(0, 2, 3, 1)
        counts = labels != IGNORED
        factors = torch.as_tensor(self.factors, dtype=outputs.dtype, device=outputs.device)
        losses = torch.zeros_like(labels, dtype=outputs.dtype)
        losses[counts] = self.of_part.loss(large[counts], labels[counts]) * factors[labels[counts]]
        return losses.sum((1, 2)) / counts.sum((1, 2)).clamp_min(1)

    def answers(self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Any]) -> list:
        """Outputs of each image as small as the network gives them; see :meth:`labels` and :meth:`probabilities`."""
        outputs = network(activation).float().cpu()
        found = zip(outputs, geometries, strict=True)
        return [MaskAnswer(one.clone(), geometry) for one, geometry in found if geometry is not None]

    def labels(self, answer: MaskAnswer) -> np.ndarray:
        """Labels of an image's own pixels, (height, width)."""
        blocks = [(block[0] > 0).long() if self.n_outputs == 1 else block.argmax(0) for block in _at_own_size(answer)]
        return self.classes[torch.cat(blocks).numpy()]

    def probabilities(self, answer: MaskAnswer) -> np.ndarray:
        """Probability of each label for an image's own pixels, (height, width, k) of float32."""
        blocks = [self.of_part.probabilities(block.flatten(1).T.numpy()) for block in _at_own_size(answer)]
        width, height = answer.geometry.size
        return np.concatenate(blocks).reshape(height, width, len(self.classes)).astype(np.float32)

    def start(
        self,
        network: TunedNetwork,
        over_samples: OverSamples,
        targets: RecordTargets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Standardize the channels, and begin a linear head with the probe of single pixels; not of an own head."""
        if network.spec.head == OWN_HEAD:
            return None
        generator, k = np.random.default_rng(0), len(self.classes)
        most = max(2 * k, (ENOUGH_PIXELS if how.reach is None else TO_BEGIN) // len(targets))
        counted = np.asarray(self.factors) > 0
        chosen = [_some_pixels(record["labels"], counted, most, generator) for record in targets.records]
        counts = np.array([len(one.labels) for one in chosen])
        if not counts.any():
            raise ValueError(
                "No pixel of y counts: all have ignore_label or a class_weight of 0, or lie in images that cannot be "
                "read."
            )
        vectors = self._at(chosen, network, over_samples)
        labels, shares = (np.concatenate([getattr(one, name) for one in chosen]) for name in ("labels", "shares"))
        shares *= counts.sum() / np.count_nonzero(counts)  # as many pixels count as there are, as many of each image
        scaling = standardisation(vectors, shares * np.repeat(weights, counts), floor=LEAST_SCALE)
        state, probe = dict(zip(("mean", "scale"), scaling, strict=True)), None
        if how.solves:
            in_loss = shares * np.repeat(loss_weights, counts) * self.factors[labels]
            penalty = self._penalty(vectors, labels, in_loss, scaling, counts) if how.penalty == "auto" else how.penalty
            probe = self.of_part.solve_probe(vectors, labels, in_loss, scaling, penalty)
            fraction = how.fraction(probe)
            parts = np.split(fraction * probe.weight, np.cumsum(network.readout.channels)[:-1], axis=1)
            state |= {f"laterals.{i}.weight": part for i, part in enumerate(parts)} | {"bias": fraction * probe.bias}
        tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in state.items()}
        network.readout.load_state_dict(tensors, strict=False)
        return probe

    def _at(self, chosen: Sequence["_Pixels"], network: TunedNetwork, over_samples: OverSamples) -> np.ndarray:
        """Channels of all maps at the chosen pixels, those of one image after the other, (pixels, channels)."""
        ends = np.cumsum([len(one.labels) for one in chosen])
        found = np.empty((ends[-1], sum(network.readout.channels)))
        for members, maps in over_samples.in_batches(lambda one: network.readout.maps(network.given(one))):
            for i, member in enumerate(members):  # other rows fill the batch
                one = chosen[member]
                grid = torch.tensor(one.places, dtype=torch.float32, device=maps[0].device)[None, None]
                values = [F.grid_sample(m[i : i + 1].float(), grid, **SAMPLING)[0, :, 0] for m in maps]
                found[ends[member] - len(one.labels) : ends[member]] = torch.cat(values).T.cpu().numpy()
        return found

    def _penalty(
        self, vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray, scaling: Scaling, counts: Sequence[int]
    ) -> Penalty:
        """The penalty that predicts whole images best that were held out, because pixels of one image are alike."""
        counts = np.array([count for count in counts if count])
        if len(counts) < 2:
            return "auto"
        mean, scale = scaling
        indicators, images = np.eye(len(self.classes))[labels], np.repeat(np.arange(len(counts)), counts)
        return 4 / best_grouped_ridge((vectors - mean) / scale, indicators, weights, images)


def seen_mask(labels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A mask, (height, width), at the middles of the input's pixels, (side, side)."""
    columns, rows = geometry.nearest()
    seen = labels[np.maximum(rows, 0)][:, np.maximum(columns, 0)]
    seen[rows < 0], seen[:, columns < 0] = IGNORED, IGNORED
    return seen


class _Pixels(NamedTuple):
    """Pixels of one input: places (pixels, 2) between -1 and 1, labels, and shares of the image that they stand for."""

    places: np.ndarray
    labels: np.ndarray
    shares: np.ndarray


def _some_pixels(labels: np.ndarray, counted: np.ndarray, most: int, generator: np.random.Generator) -> _Pixels:
    """Pixels whose labels count, at most about so many; of each label of the image some.

    Parameters
    ----------
    labels : ndarray of int, shape (side, side)
        Mask, in which -1 is ignored.
    counted : ndarray of bool, shape (k,)
        Labels that count.
    most : int
        Number of pixels.
    generator : numpy.random.Generator
        Generator of the random numbers.
    """
    flat, chosen, shares = labels.ravel(), [], []
    known, sizes = np.unique(flat[flat != IGNORED], return_counts=True)
    known, sizes = known[counted[known]], sizes[counted[known]]
    for label, size in zip(known, sizes, strict=True):
        n = min(size, max(round(most * size / sizes.sum()), most // (10 * len(known)), 1))
        chosen.append(np.sort(generator.permutation(np.flatnonzero(flat == label))[:n]))
        shares.append(np.full(n, size / sizes.sum() / n))
    pixels = np.concatenate(chosen) if chosen else np.empty(0, dtype=int)
    rows, columns = np.divmod(pixels, len(labels))
    places = (2 * np.column_stack([columns, rows]) + 1) / len(labels) - 1
    return _Pixels(places, flat[pixels].astype(int), np.concatenate(shares) if shares else np.empty(0))


def _at_own_size(answer: MaskAnswer) -> Iterable[torch.Tensor]:
    """Outputs at the middles of an image's own pixels, in blocks of its rows, (n_outputs, rows, width)."""
    x, y = (torch.tensor(2 * one / answer.geometry.side - 1, dtype=torch.float32) for one in answer.geometry.centers())
    for rows in y.split(max(1, AT_ONCE // (len(x) * len(answer.outputs)))):
        grid = torch.stack(torch.meshgrid(x, rows, indexing="xy"), dim=-1)
        block = F.grid_sample(answer.outputs[None], grid[None], **SAMPLING)
        yield block[0]
