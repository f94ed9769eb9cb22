"""A detector in one file: boxes of any number per picture, maps of several stages, answers in the picture's pixels."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer.engine import Readout, RecordTargets, Task


class Cells(Readout):
    """Per cell of the finest map: whether a box has its middle there, and its distances to the four edges."""

    def __init__(self, widths):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in widths)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 5, 1))

    def forward(self, given, batch=None):
        maps = [lateral(one) for lateral, one in zip(self.laterals, given, strict=True)]
        return self.head(sum(F.interpolate(one, maps[0].shape[-2:]) for one in maps))  # (n, 5, h, w)


class ToyDetection(Task):
    n_outputs = 5

    def __init__(self, side):
        self.side = side  # of the network's input, in pixels

    def targets(self, y, geometries):
        """Lists of (k, 4) boxes in pixels of the pictures."""
        placed = [geometry.to_input(np.reshape(boxes, (-1, 4))) for boxes, geometry in zip(y, geometries, strict=True)]
        return RecordTargets([{"boxes": boxes.astype(np.float32)} for boxes in placed])

    def new_readout(self, backbone, spec):
        return Cells([backbone.activation_shapes[tap][0] for tap in spec.taps])

    def _middles(self, h, w):
        y, x = torch.meshgrid(*((torch.arange(n) + 0.5) * self.side / n for n in (h, w)), indexing="ij")
        return torch.stack([x, y])  # (2, h, w)

    def loss(self, outputs, batch):
        middles = self._middles(*outputs.shape[-2:])
        losses = []
        for one, record in zip(outputs, batch, strict=True):
            wanted, edges = torch.zeros(one.shape[-2:]), torch.zeros(4, *one.shape[-2:])
            for box in record["boxes"]:
                x, y = ((box[:2] + box[2:]) / 2 / self.side * one.shape[-1]).long().clamp(max=one.shape[-1] - 1)
                wanted[y, x] = 1
                edges[:, y, x] = (box - middles[:, y, x].repeat(2)).abs() / self.side
            found = F.binary_cross_entropy_with_logits(one[0], wanted, pos_weight=torch.tensor(10.0))
            losses.append(found + (wanted * (F.softplus(one[1:]) - edges).abs()).sum() / wanted.sum().clamp(min=1))
        return torch.stack(losses)

    def answers(self, network, activation, geometries):
        found = []
        for one, geometry in zip(network(activation).float(), geometries, strict=True):
            middles, edges = self._middles(*one.shape[-2:]), F.softplus(one[1:]) * self.side
            is_best = (one[0] > 0) & (one[0] == F.max_pool2d(one[:1], 3, 1, 1)[0])
            boxes = torch.cat([middles - edges[:2], middles + edges[2:]])[:, is_best].T.numpy()
            found.append(None if geometry is None else geometry.to_picture(boxes))
        return found
