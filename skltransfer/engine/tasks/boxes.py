"""Boxes: objects in an image, found by a detector of torchvision on a pyramid of several stages' maps.

Must not know files, nor what labels mean.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from skltransfer.backbones import Backbone, Geometry, source_network
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.detectors import DetectionReadout, TwoStageReadout, new_detector, own_detector
from skltransfer.engine.tasks.masks import tapped_maps
from skltransfer.engine.tasks.probe import LEAST_SCALE, Probe, scales_of
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import OWN_HEAD, HeadedTask, OverSamples, Start

NEW_HEADS = ("fcos", "retinanet")
CHANNELS = 32  # in a group of FCOS' normalization: a head has a multiple of them
MOST_CHANNELS = 1024


class DetectionTask(HeadedTask):
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
                "as the transforms of torchvision.transforms.v2 and of albumentations do "
                f"({type(error).__name__}: {error})."
            ) from error
        return image.as_subclass(torch.Tensor), record

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> DetectionReadout:
        shapes, ends = tapped_maps(backbone, spec.taps)
        side = backbone.preprocessing.geometry(1, 1).side
        if spec.head == OWN_HEAD:
            detector = own_detector(source_network(backbone, pretrained=pretrained), self.n_outputs)
            kind = TwoStageReadout if hasattr(detector, "roi_heads") else DetectionReadout
            return kind(shapes, ends, side, detector, joins=False)
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
