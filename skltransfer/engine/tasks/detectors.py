"""Pyramids and heads of torchvision's detectors, which read the maps of several stages: of one stage, and of two.

Pyramid, heads, losses and decoding are torchvision's own. Must not know files, nor what labels mean.
"""

import copy
import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Geometry, seeded
from skltransfer.engine.networks.readout import ScaledReadout
from skltransfer.engine.tasks.masks import as_map

PRIOR = 0.01  # probability of an object at a place, as torchvision sets it
Detections = dict[str, torch.Tensor]
Levels = Mapping[str, torch.Tensor]


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
    joins : bool, default=True
        If False, each map is a level of its own.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        ends_in_channels: Sequence[bool],
        side: int,
        detector: nn.Module,
        *,
        joins: bool = True,
    ) -> None:
        super().__init__(sum(channels for channels, _ in shapes))
        self.channels, sides = zip(*shapes, strict=True)
        order = sorted(set(sides), reverse=True)
        self.levels = tuple(order.index(one) if joins else number for number, one in enumerate(sides))
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
            levels = list(self._pyramid(given).values())
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
            levels = list(self._pyramid(given).values())
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

    def _pyramid(self, given: Sequence[torch.Tensor]) -> Levels:
        """Maps of the pyramid, the largest first, by the names that torchvision gives them."""
        scaling = zip(self.maps(given), self.mean.split(self.channels), self.scale.split(self.channels), strict=True)
        maps = [(one.float() - mean[:, None, None]) / scale[:, None, None] for one, mean, scale in scaling]
        levels = OrderedDict()
        for level in sorted(set(self.levels)):
            alike = [one for one, its_level in zip(maps, self.levels, strict=True) if its_level == level]
            levels[str(level)] = torch.cat(alike, dim=1)
        return self.detector.backbone(levels)

    def _anchors(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Boxes around the places of all levels, (places, 4); where torchvision has them, if sizes are divisible."""
        generator, device = self._anchor_generator, levels[0].device
        generator.set_cell_anchors(torch.float32, device)
        steps = [torch.tensor(stride_of(self.side, level.shape[-1]), device=device) for level in levels]
        grids = [list(level.shape[-2:]) for level in levels]
        return torch.cat(generator.grid_anchors(grids, [[step, step] for step in steps]))

    @property
    def _anchor_generator(self) -> nn.Module:
        return self.detector.anchor_generator

    def _counts(self, levels: Sequence[torch.Tensor]) -> list[int]:
        """Number of anchors of each level."""
        per_place = self._anchor_generator.num_anchors_per_location()[0]
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


class TwoStageReadout(DetectionReadout):
    """A feature pyramid, regions of it that may hold an object, and a head that gives each a label and a box.

    Each image counts alike in the loss. torchvision has each chosen region count alike, which is the same where all
    images have as many.
    """

    @property
    def _anchor_generator(self) -> nn.Module:
        return self.detector.rpn.anchor_generator

    def forward(self, given: Sequence[torch.Tensor], batch: Sequence[Detections] | None = None) -> Any:
        """The loss of each image, (n,); without targets, the head's outputs for the regions of all images."""
        with autocast(given[0].device, None):
            pyramid = self._pyramid(given)
            rows = [{name: one[i : i + 1] for name, one in pyramid.items()} for i in range(len(given[0]))]
            if batch is None:
                return [self._of_regions(row, self._regions(row)[0]) for row in rows]
            with nullcontext() if self.training else seeded(0):  # regions are drawn
                return torch.stack([self._loss(row, target) for row, target in zip(rows, batch, strict=True)])

    def detections(
        self,
        given: Sequence[torch.Tensor],
        geometry: Geometry,
        score_threshold: float,
        nms_threshold: float,
        max_detections: int,
    ) -> Detections:
        """The same as of detectors of one stage; regions, too, are cut off at the image's edges."""
        with autocast(given[0].device, None):
            pyramid = self._pyramid(given)
            offset = torch.tensor([*geometry.offset, *geometry.offset], device=given[0].device)
            width, height = (n * scale for n, scale in zip(geometry.size, geometry.scale, strict=True))
            regions, *_ = self._regions(pyramid, (height, width), offset)
            part = copy.copy(self.detector.roi_heads)  # whose numbers another thread may want otherwise
            part.score_thresh, part.nms_thresh, part.detections_per_img = score_threshold, nms_threshold, max_detections
            outputs = self._of_regions(pyramid, [regions[0] + offset])
            boxes, scores, labels = part.postprocess_detections(*outputs, regions, [(height, width)])
        return {"boxes": boxes[0], "labels": labels[0] - 1, "scores": scores[0]}

    def _regions(
        self, pyramid: Levels, size: tuple[float, float] | None = None, offset: torch.Tensor | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Regions of one image, in pixels from ``offset`` and within ``size``; and of all anchors the outputs."""
        from torchvision.models.detection.rpn import concat_box_prediction_layers

        rpn, levels = self.detector.rpn, list(pyramid.values())
        anchors = self._anchors(levels) - (0 if offset is None else offset)
        objectness, deltas = concat_box_prediction_layers(*rpn.head(levels))
        boxes = rpn.box_coder.decode(deltas.detach(), [anchors]).view(1, -1, 4)
        sizes = [(self.side, self.side) if size is None else size]
        regions, _ = rpn.filter_proposals(boxes, objectness, sizes, self._counts(levels))
        return regions, anchors, objectness, deltas

    def _of_regions(self, pyramid: Levels, regions: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs for labels, and for boxes."""
        part = self.detector.roi_heads
        return part.box_predictor(part.box_head(part.box_roi_pool(pyramid, regions, [(self.side, self.side)])))

    def _loss(self, pyramid: Levels, target: Detections) -> torch.Tensor:
        """The four losses of one image, summed."""
        from torchvision.models.detection.roi_heads import fastrcnn_loss

        rpn, target = self.detector.rpn, {**target, "labels": target["labels"] + 1}  # 0 is the background
        regions, anchors, objectness, deltas = self._regions(pyramid)
        labels, boxes = rpn.assign_targets_to_anchors([anchors], [target])
        found = rpn.compute_loss(objectness, deltas, labels, rpn.box_coder.encode(boxes, [anchors]))
        regions, _, labels, deltas = self.detector.roi_heads.select_training_samples(regions, [target])
        if not len(regions[0]):  # no object, and nothing that looks like one
            return sum(found)
        return sum(found) + sum(fastrcnn_loss(*self._of_regions(pyramid, regions), labels, deltas))


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


def own_detector(detector: nn.Module, n_classes: int) -> nn.Module:
    """A pretrained detector, changed in place: its backbone is the pyramid alone, and its last layer has other labels.

    Parameters
    ----------
    detector : nn.Module
        Whole detector of torchvision.
    n_classes : int
        Number of labels.
    """
    pyramid = detector.backbone.fpn
    pyramid.out_channels = detector.backbone.out_channels
    detector.backbone = pyramid
    if hasattr(detector, "roi_heads"):
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

        width = detector.roi_heads.box_predictor.cls_score.in_features
        detector.roi_heads.box_predictor = FastRCNNPredictor(width, n_classes + 1)
        for name in list(detector.roi_heads._modules):
            if name.startswith(("mask_", "keypoint_")):
                setattr(detector.roi_heads, name, None)
        return detector
    part = detector.head.classification_head
    old, part.num_classes = part.cls_logits, n_classes
    part.cls_logits = nn.Conv2d(old.in_channels, part.num_anchors * n_classes, old.kernel_size, old.stride, old.padding)
    nn.init.normal_(part.cls_logits.weight, std=0.01)
    nn.init.constant_(part.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))
    if type(detector).__name__ == "FCOS":
        detector.head = CountingHead(detector.head)
    return detector
