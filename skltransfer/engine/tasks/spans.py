"""Spans: the first and the last token of a part of a text, which may be absent.

The loss is that of transformers: all tokens that are not padding compete, those of the question and the special ones,
too, so that a fit on one is a fit on the other. Answers are sought in the context alone. Absent parts are learned as
the first token of the input, as SQuAD 2 does. Must not know what a text is, nor what is asked.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from scipy.special import log_softmax
from torch import nn
from torch.nn import functional as F

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Backbone, span_head
from skltransfer.engine.networks.readout import ScaledReadout, head_layers
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.parts import standardize_tokens
from skltransfer.engine.tasks.probe import Probe
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import OWN_HEAD, HeadedTask, OverSamples, Start

NEW_SPAN_HEADS = {"linear": "spans", "mlp": "mlp"}  # none of them is solved
LONGEST = 30  # tokens of an answer
ABSENT = (-1, -1)


class SpanAnswer(NamedTuple):
    """The first letter of an answer, the one after its last, and its probability; ``ABSENT`` if there is none."""

    start: int
    stop: int
    score: float


class SpanReadout(ScaledReadout):
    """Two scores for each token: how well an answer begins there, and ends there.

    Parameters
    ----------
    n_features : int
        Width of a token.
    spec : NetworkSpec
        The network.
    pretrained : nn.Module, optional
        Head of the network that the backbone is part of, of which this is a copy.
    """

    def __init__(self, n_features: int, spec: NetworkSpec, pretrained: nn.Module | None = None) -> None:
        super().__init__(n_features)
        if pretrained is not None:
            self.head = copy.deepcopy(pretrained).requires_grad_(True)
        elif spec.head == OWN_HEAD:
            self.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(n_features, spec.n_outputs))
        else:
            self.head = nn.Sequential(*head_layers(n_features, spec))

    def forward(self, given: Sequence[torch.Tensor], batch: Any = None) -> torch.Tensor:
        """Scores (n, tokens, 2), of padding minus infinity."""
        tokens = given[-1]  # (n, tokens, d), NaN where there is none
        is_padding = tokens[..., :1].isnan()
        vectors = torch.where(is_padding, 0.0, tokens)  # before the head: no gradient is NaN
        with autocast(vectors.device, None):
            scores = self.head((vectors.to(self.mean.dtype) - self.mean) / self.scale)
        return scores.masked_fill(is_padding, -torch.inf)


class SpanTask(HeadedTask):
    """The first and the last token of an answer."""

    n_outputs = 2
    max_answer_length = LONGEST  # which is no part of a fit

    def answering(self, max_answer_length: int) -> Self:
        """The same task, with another maximum number of tokens of an answer."""
        task = copy.copy(self)
        task.max_answer_length = max_answer_length
        return task

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the spec is not that of a network that finds spans."""
        is_known = spec.head in (OWN_HEAD, *NEW_SPAN_HEADS.values())
        if vars(self) or not is_known or len(spec.taps) != 1 or spec.n_outputs != self.n_outputs:
            raise ValueError(f"{sorted(vars(self))}, head={spec.head!r}, taps={spec.taps!r}, {spec.n_outputs!r}")

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> SpanReadout:
        width = backbone.activation_shapes[spec.taps[0]][-1]
        return SpanReadout(width, spec, span_head(backbone) if pretrained and spec.head == OWN_HEAD else None)

    def loss(self, outputs: torch.Tensor, batch: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Mean of the cross-entropies of the first and the last token, (n,)."""
        spans = torch.stack([record["span"] for record in batch]).to(outputs.device)  # (n, 2)
        return F.cross_entropy(outputs, spans, reduction="none").mean(1)

    def answers(
        self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[np.ndarray | None]
    ) -> list[SpanAnswer]:
        """The most probable answer of each sample."""
        outputs = network(activation).double().cpu().numpy()
        pairs = zip(outputs, geometries, strict=True)
        return [best_span(one, context, self.max_answer_length) for one, context in pairs if context is not None]

    def start(
        self,
        network: TunedNetwork,
        over_samples: OverSamples,
        targets: RecordTargets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Standardize the tokens for a new head."""
        if network.spec.head != OWN_HEAD:
            standardize_tokens(network, over_samples, weights)
        return None


def best_span(outputs: np.ndarray, context: np.ndarray, longest: int) -> SpanAnswer:
    """The most probable part of a context, or none of it.

    Parameters
    ----------
    outputs : ndarray of shape (tokens, 2)
        Scores of the tokens as the first and as the last one.
    context : ndarray of int, shape (m, 3)
        Position of each token of the context among all tokens, or -1, and the letters that it stands for.
    longest : int
        Maximum number of tokens.
    """
    context = context[(context[:, 0] > 0) & (context[:, 2] > context[:, 1])]
    places = context[:, 0]
    (no_start, *starts), (no_end, *ends) = log_softmax(outputs[np.r_[0, places]], axis=0).T  # the first token is none
    if len(places):
        lengths = places[None] - places[:, None] + 1
        scores = np.where((lengths > 0) & (lengths <= longest), np.add.outer(starts, ends), -np.inf)
        first, last = np.unravel_index(scores.argmax(), scores.shape)
        if scores[first, last] > no_start + no_end:
            return SpanAnswer(int(context[first, 1]), int(context[last, 2]), float(np.exp(scores[first, last])))
    return SpanAnswer(*ABSENT, float(np.exp(no_start + no_end)))
