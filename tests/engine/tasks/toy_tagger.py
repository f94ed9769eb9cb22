"""A tagger in one file: a tag for each letter of a text, from the tokens as they are."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer.engine import Readout, RecordTargets, Task


class PerToken(Readout):
    def __init__(self, width, n_tags):
        super().__init__()
        self.head = nn.Linear(width, n_tags)

    def forward(self, given, batch=None):
        tokens = torch.cat(given, dim=-1)  # (n, tokens, d), NaN where there is none
        mask = ~tokens[..., :1].isnan()
        return self.head(torch.where(mask, tokens, 0.0))


class ToyTagging(Task):
    def __init__(self, tags):
        self.tags, self.n_outputs = list(tags), len(tags)

    def targets(self, y):
        return RecordTargets([{"tags": np.array([self.tags.index(tag) for tag in tags])} for tags in y])

    def new_readout(self, backbone, spec):
        return PerToken(sum(backbone.activation_shapes[tap][-1] for tap in spec.taps), self.n_outputs)

    def loss(self, outputs, batch):
        return torch.stack(
            [F.cross_entropy(one[: len(r["tags"])], r["tags"]) for one, r in zip(outputs, batch, strict=True)]
        )

    def answers(self, network, activation, geometries):
        given = network.given(activation)
        counts = (~given[-1][..., 0].isnan()).sum(1).tolist()
        best = network.readout(given).argmax(-1).tolist()
        return [[self.tags[tag] for tag in tags[:count]] for tags, count in zip(best, counts, strict=True)]
