"""Boxes: objects in an image, found by one-stage detectors of torchvision on a pyramid of several stages' maps.

Pyramid, heads, losses and decoding are torchvision's own. Must not know files, nor what labels mean.
"""

import copy
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from skltransfer.backbones import Backbone, Geometry, seeded, source_detector
from skltransfer.engine.inference.autocast import autocast
from skltransfer.engine.networks.readout import ScaledReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.masks import as_map, tapped_maps
from skltransfer.engine.tasks.probe import LEAST_SCALE, Probe, scales_of
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import OverSamples, Start, Task

NEW_HEADS, OWN_HEAD = ("fcos", "retinanet"), "own"
PRIOR = 0.01  # probability of an object at a place, as torchvision sets it
CHANNELS = 32  # in a group of FCOS' normalization: a head has a multiple of them
MOST_CHANNELS = 1024
Detections = dict[str, torch.Tensor]


class CountingHead(nn.Module):
    """A detector's head that also counts the places of objects, by which torchvision divides the losses of a batch.

    Parameters
    ----------
    head : nn.Module
        The head.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, levels: list[torch.Tensor]) -> Detections:
        return self.head(levels)

    def compute_loss(self, targets: Any, outputs: Any, anchors: Any, matched: list[torch.Tensor]) -> Detections:
        """Losses of the head, and the number of places."""
        losses = self.head.compute_loss(targets, outputs, anchors, matched)
        return {**losses, "n_places": (torch.stack(matched) >= 0).sum()}


class DetectionReadout(ScaledReadout):
    """A feature pyramid of the maps of several stages, and a detector's head on each of its levels.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Channels and side of each map; those of one size are one level.
    ends_in_channels : sequence of bool
        Maps that are (n, h, w, c).
    side : int
        Side of the network's input, in pixels.
    detector : nn.Module
        Detector of torchvision whose ``backbone`` makes the pyramid of the levels.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], ends_in_channels: Sequence[bool], side: int, detector: nn.Module
    ) -> None:
        super().__init__(sum(channels for channels, _ in shapes))
        self.channels, self.sides = zip(*shapes, strict=True)
        self.side, self.ends_in_channels, self.detector = side, tuple(ends_in_channels), detector

    def prepare_for_inference(self) -> None:
        """Stay in float32: each image has a batch of its own, so that its boxes depend on no other."""

    def maps(self, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Each map as (n, c, h, w)."""
        return [as_map(one, ends) for one, ends in zip(given, self.ends_in_channels, strict=True)]

    def moments(self, given: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mean and mean square of each channel over an image, (n, 2 * channels)."""
        maps = [one.float() for one in self.maps(given)]
        return torch.cat([one.mean((2, 3)) for one in maps] + [one.square().mean((2, 3)) for one in maps], dim=1)

    def forward(self, given: Sequence[torch.Tensor], batch: Sequence[Detections] | None = None) -> Any:
        """The loss of each image, (n,); without targets, the head's outputs for the places of all levels."""
        with autocast(given[0].device, None):
            levels = self._levels(given)
            outputs = self.detector.head(levels)
            if batch is None:
                return outputs
            return self._losses(outputs, batch, levels)

    def detections(
        self,
        given: Sequence[torch.Tensor],
        geometry: Geometry,
        score_threshold: float,
        nms_threshold: float,
        max_detections: int,
    ) -> Detections:
        """Boxes (m, 4) in pixels of the input from the image's corner, labels and scores of one image, the best first.

        Boxes are cut off at the image's edges before they are compared and counted.
        """
        with autocast(given[0].device, None):
            levels = self._levels(given)
            counts = self._counts(levels)
            outputs = {name: value.split(counts, dim=1) for name, value in self.detector.head(levels).items()}
            detector = copy.copy(self.detector)  # whose numbers another thread may want otherwise
            detector.score_thresh, detector.nms_thresh = score_threshold, nms_threshold
            detector.detections_per_img = None  # counted below, without those beside the image
            anchors = self._anchors(levels) - torch.tensor([*geometry.offset, *geometry.offset], device=given[0].device)
            width, height = (n * scale for n, scale in zip(geometry.size, geometry.scale, strict=True))
            (found,) = detector.postprocess_detections(outputs, [list(anchors.split(counts))], [(height, width)])
        boxes = found["boxes"]
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # others lie beside the image
        return {name: value[has_area][:max_detections] for name, value in found.items()}

    def _levels(self, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        scaling = zip(self.maps(given), self.mean.split(self.channels), self.scale.split(self.channels), strict=True)
        maps = [(one.float() - mean[:, None, None]) / scale[:, None, None] for one, mean, scale in scaling]
        levels = OrderedDict()
        for side in sorted(set(self.sides), reverse=True):
            alike = [one for one, its_side in zip(maps, self.sides, strict=True) if its_side == side]
            levels[str(side)] = torch.cat(alike, dim=1)
        return list(self.detector.backbone(levels).values())

    def _anchors(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Boxes around the places of all levels, (places, 4); where torchvision has them, if sizes are divisible."""
        generator, device = self.detector.anchor_generator, levels[0].device
        generator.set_cell_anchors(torch.float32, device)
        steps = [torch.tensor(stride_of(self.side, level.shape[-1]), device=device) for level in levels]
        grids = [list(level.shape[-2:]) for level in levels]
        return torch.cat(generator.grid_anchors(grids, [[step, step] for step in steps]))

    def _counts(self, levels: Sequence[torch.Tensor]) -> list[int]:
        """Number of anchors of each level."""
        per_place = self.detector.anchor_generator.num_anchors_per_location()[0]
        return [per_place * level.shape[-2] * level.shape[-1] for level in levels]

    def _losses(self, outputs: Detections, batch: Sequence[Detections], levels: Sequence[torch.Tensor]) -> torch.Tensor:
        anchors = self._anchors(levels)
        how = (self._counts(levels),) if isinstance(self.detector.head, CountingHead) else ()
        losses, places = [], []
        for i, target in enumerate(batch):
            of_one = {name: value[i : i + 1].float() for name, value in outputs.items()}
            found = self.detector.compute_loss([target], of_one, [anchors], *how)
            places.append(found.pop("n_places", torch.ones((), device=anchors.device)))
            losses.append(sum(found.values()))
        counts = torch.stack(places)  # FCOS: each place of an object in the batch counts alike
        return torch.stack(losses) * counts.clamp_min(1) * len(batch) / counts.sum().clamp_min(1)


def stride_of(side: int, cells: int) -> int:
    """Pixels between two cells of a map that ``cells`` of them cover a side of the input.

    Networks halve sizes and round up, so that the last cell may reach beyond the input.
    """
    power = 2 ** math.ceil(math.log2(side / cells))
    return power if cells == 1 or power < side / (cells - 1) else math.ceil(side / cells)


def new_detector(head: str, shapes: Sequence[tuple[int, int]], side: int, n_classes: int, width: int) -> nn.Module:
    """A detector of random weights, whose pyramid has a last level of half the size of the smallest map.

    Parameters
    ----------
    head : {"fcos", "retinanet"}
        Type of the detector.
    shapes : sequence of (int, int)
        Channels and side of each map.
    side : int
        Side of the network's input, in pixels.
    n_classes : int
        Number of labels.
    width : int
        Channels of the pyramid and of the head.
    """
    from torchvision.models.detection import FCOS, RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import FeaturePyramidNetwork
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

    levels = sorted({level for _, level in shapes}, reverse=True)
    channels = [sum(n for n, one in shapes if one == level) for level in levels]
    pyramid = FeaturePyramidNetwork(channels, width, LastLevelMaxPool())
    pyramid.out_channels = width
    strides = [stride_of(side, level) for level in levels]
    strides.append(2 * strides[-1])
    if head == "fcos":
        if any(later > 2 * stride for stride, later in itertools.pairwise(strides)):
            raise ValueError(
                f"layer names stages whose maps have {', '.join(map(str, levels))} cells a side. Each must have at "
                "least half as many as the one before, or objects of sizes between them would not be found. Name the "
                "stages between them, too, or set head='retinanet'."
            )
        sizes = tuple((max(2, stride),) for stride in strides)  # a box of one pixel would be rounded to nothing
        anchors = AnchorGenerator(sizes, ((1.0,),) * len(strides))
        detector = FCOS(pyramid, n_classes, anchor_generator=anchors)
        detector.head = CountingHead(detector.head)
        return detector
    sizes = tuple(tuple(int(4 * stride * 2 ** (third / 3)) for third in range(3)) for stride in strides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))
    return RetinaNet(pyramid, n_classes, anchor_generator=anchors)


def with_labels(detector: nn.Module, n_classes: int) -> nn.Module:
    """A detector with pretrained weights, in place, whose last layer has other labels."""
    part = detector.head.classification_head
    old, part.num_classes = part.cls_logits, n_classes
    part.cls_logits = nn.Conv2d(old.in_channels, part.num_anchors * n_classes, old.kernel_size, old.stride, old.padding)
    nn.init.normal_(part.cls_logits.weight, std=0.01)
    nn.init.constant_(part.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))
    if type(detector).__name__ == "FCOS":
        detector.head = CountingHead(detector.head)
    return detector


class DetectionTask(Task):
    """Boxes around objects, with a label each.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels.
    width : int, default=64
        Channels of the pyramid and of the head, a multiple of 32.
    score_threshold : float, default=0.05
        Lowest score of a box.
    nms_threshold : float, default=0.6
        Overlap (intersection over union) above which the lower-scored one of two boxes of a label is dropped.
    max_detections : int, default=100
        Maximum number of boxes per image.
    """

    def __init__(
        self,
        classes: np.ndarray,
        width: int = 64,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        self.classes, self.width, self.n_outputs = classes, width, len(classes)
        self.score_threshold, self.nms_threshold, self.max_detections = score_threshold, nms_threshold, max_detections

    def placed(self, targets: RecordTargets, geometries: Callable[[], Iterable[Geometry]]) -> RecordTargets:
        """Boxes in pixels of the network's input."""
        pairs = zip(targets.records, geometries(), strict=True)
        return RecordTargets(
            [
                {**record, "boxes": geometry.to_input(record["boxes"].astype(np.float64)).astype(np.float32)}
                for record, geometry in pairs
            ]
        )

    def changed(
        self,
        augment: Callable,
        image: torch.Tensor,
        target: dict[str, np.ndarray],
        factors: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        """An image (3, h, w) and its boxes after a transform of both; boxes that left the image are dropped."""
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional

        boxes = torch.tensor(target["boxes"] * np.tile(factors, 2).astype(np.float32))
        boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[1:]))
        try:
            image, found = augment(tv_tensors.Image(image), {"boxes": boxes, "labels": torch.tensor(target["labels"])})
            boxes, (height, width) = found["boxes"], image.shape[-2:]
            if isinstance(boxes, tv_tensors.BoundingBoxes):
                boxes = functional.convert_bounding_box_format(boxes, new_format="XYXY")
            edges = torch.tensor([width, height, width, height])
            boxes = boxes.as_subclass(torch.Tensor).float().clamp(min=0).minimum(edges)
            kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            record = {"boxes": boxes[kept].numpy(), "labels": found["labels"][kept].numpy()}
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                "augment must turn an image and its target, a dict of boxes and labels, into another image and target, "
                f"as the transforms of torchvision.transforms.v2 do ({type(error).__name__}: {error})."
            ) from error
        return image.as_subclass(torch.Tensor), record

    def readout(self, backbone: Backbone, spec: NetworkSpec, draws: bool) -> DetectionReadout:
        """The same as :meth:`new_readout`; weights that will be filled are not read from files."""
        if draws:
            return self.new_readout(backbone, spec)
        with seeded(0):
            return self._readout(backbone, spec, pretrained=False)

    def new_readout(self, backbone: Backbone, spec: NetworkSpec) -> DetectionReadout:
        """A pyramid of the maps after the tapped stages, and the detector's head: new ones, or the network's own."""
        return self._readout(backbone, spec, pretrained=True)

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> DetectionReadout:
        shapes, ends = tapped_maps(backbone, spec.taps)
        side = backbone.preprocessing.geometry(1, 1).side
        if spec.head == OWN_HEAD:
            detector = with_labels(source_detector(backbone, pretrained=pretrained), self.n_outputs)
        else:
            detector = new_detector(spec.head, shapes, side, self.n_outputs, self.width)
        return DetectionReadout(shapes, ends, side, detector)

    def loss(self, outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        """The detector's loss of each image, (n,), which the readout computes from outputs and targets."""
        return outputs

    def start(
        self,
        network: TunedNetwork,
        over_samples: OverSamples,
        targets: RecordTargets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Standardize the channels of the maps, unless a pretrained pyramid takes them as they are."""
        if network.spec.head == OWN_HEAD:
            return None
        moments = over_samples(lambda one: network.readout.moments(network.given(one)))
        mean, square = np.split(weights @ moments / weights.sum(), 2)
        scale = scales_of(mean, np.maximum(square - mean**2, 0), LEAST_SCALE)
        state = {"mean": torch.tensor(mean).float(), "scale": torch.tensor(scale).float()}
        network.readout.load_state_dict(state, strict=False)
        return None

    def answers(self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Geometry | None]) -> list:
        """Boxes (m, 4) in pixels of the image, labels (m,) and scores (m,) of each image, the best first."""
        rows = [(activation[i : i + 1], geometry) for i, geometry in enumerate(geometries) if geometry is not None]
        return [self._answer(network, row, geometry) for row, geometry in rows]

    def _answer(self, network: TunedNetwork, row: torch.Tensor, geometry: Geometry) -> dict[str, np.ndarray]:
        how = (self.score_threshold, self.nms_threshold, self.max_detections)
        found = network.readout.detections(network.given(row), geometry, *how)
        boxes = found["boxes"].double().cpu().numpy().reshape(-1, 4) + np.tile(geometry.offset, 2)
        return {
            "boxes": geometry.to_picture(boxes).astype(np.float32),
            "labels": self.classes[found["labels"].cpu().numpy()],
            "scores": found["scores"].float().cpu().numpy(),
        }

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the network has another number of outputs, or the numbers of the task are impossible."""
        if vars(self).keys() != vars(DetectionTask(np.arange(1))).keys() or np.ndim(self.classes) != 1:
            raise ValueError(f"a DetectionTask of {sorted(vars(self))}")
        if (
            not spec.taps
            or spec.head not in (*NEW_HEADS, OWN_HEAD)
            or not len(self.classes) == self.n_outputs == spec.n_outputs
        ):
            raise ValueError(
                f"{len(self.classes)} labels, {spec.n_outputs} outputs, taps={spec.taps!r}, head={spec.head!r}"
            )
        if type(self.width) is not int or not 0 < self.width <= MOST_CHANNELS or self.width % CHANNELS:
            raise ValueError(f"width={self.width!r}")
        thresholds = (float(self.score_threshold), float(self.nms_threshold))
        if not all(0 <= one <= 1 for one in thresholds) or not int(self.max_detections) > 0:
            raise ValueError(f"thresholds {thresholds}, max_detections={self.max_detections!r}")
