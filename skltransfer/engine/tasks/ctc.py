"""Text that is written a letter per frame: connectionist temporal classification (Graves et al. 2006).

A frame says a letter, or nothing (the blank); equal neighbours are one letter. Must not know what a letter means.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Backbone, Geometry, ctc_head, frame_dropout
from skltransfer.engine.networks.readout import ScaledReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.generation import read
from skltransfer.engine.tasks.parts import standardize_tokens
from skltransfer.engine.tasks.probe import Probe
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import OWN_HEAD, HeadedTask, OverSamples, Start
from skltransfer.exceptions import WeightsError

NEW_HEAD = "frames"
Outputs = tuple[torch.Tensor, torch.Tensor]


class FrameReadout(ScaledReadout):
    """Scaling, dropout and linear head of single frames.

    Parameters
    ----------
    n_features : int
        Width of a frame.
    head : nn.Linear
        Head.
    dropout : float
        Rate of the dropout before the head.
    """

    def __init__(self, n_features: int, head: nn.Linear, dropout: float) -> None:
        super().__init__(n_features)
        self.dropout, self.head = nn.Dropout(dropout), head

    def forward(self, given: Sequence[torch.Tensor], batch: Any = None) -> Outputs:
        """Scores of the letters of each frame, (n, frames, n_outputs), and numbers of frames before padding, (n,)."""
        frames, mask = read(tuple(given))
        with autocast(frames.device, None):
            scaled = (frames.to(self.mean.dtype) - self.mean) / self.scale
            scores = self.head(self.dropout(scaled))
        whole = frames.new_full((len(frames),), frames.shape[1], dtype=torch.long)
        return scores, whole if mask is None else mask.sum(1)


class CtcTask(HeadedTask):
    """Letters in their order, each said by one frame or several, with blanks between them.

    Parameters
    ----------
    n_outputs : int
        Size of the vocabulary, the blank included.
    blank : int
        Token of a frame that says no letter.
    head_hash : str or None
        Hash of the pretrained head; None for a new one.
    mean_letters : float, default=1.0
        Mean number of letters of a target. The loss of a sample is divided by this: all letters count alike, however
        long the clip is that they are in, as in the library's loss with ``ctc_loss_reduction="sum"``.
    """

    def __init__(self, n_outputs: int, blank: int, head_hash: str | None, mean_letters: float = 1.0) -> None:
        self.n_outputs, self.blank, self.head_hash, self.mean_letters = n_outputs, blank, head_hash, mean_letters

    @property
    def head(self) -> str:
        """Name of the readout in a spec."""
        return NEW_HEAD if self.head_hash is None else OWN_HEAD

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the spec is not that of a head of frames."""
        if spec.head != self.head or len(spec.taps) != 1 or spec.n_outputs != self.n_outputs:
            raise ValueError(f"head={spec.head!r}, taps={spec.taps!r} and n_outputs={spec.n_outputs!r}")
        if not 0 <= self.blank < self.n_outputs:
            raise ValueError(f"blank={self.blank!r} of {self.n_outputs!r} outputs")

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> FrameReadout:
        n_features = backbone.activation_shapes[spec.taps[-1]][-1]
        if self.head_hash is None or not pretrained:
            head = nn.Linear(n_features, self.n_outputs)
        else:
            head = copy.deepcopy(self._own(backbone)).requires_grad_(True)
        return FrameReadout(n_features, head, frame_dropout(backbone))

    def _own(self, backbone: Backbone) -> nn.Linear:
        own = ctc_head(backbone)
        if own is None or own.fingerprint != self.head_hash:
            raise WeightsError(f"The head of {backbone.name!r} has changed while it was fitted. Fit again.")
        return own.linear

    def loss(self, outputs: Outputs, batch: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Negative log-likelihood of a sample's letters over all ways to say them, in units of a mean target, (n,)."""
        scores, n_frames = outputs
        letters = torch.cat([record["ids"] for record in batch]).to(scores.device)
        counts = torch.tensor([len(record["ids"]) for record in batch], device=scores.device)
        logarithms = F.log_softmax(scores, dim=-1, dtype=torch.float32).transpose(0, 1)  # (frames, n, vocabulary)
        with torch.backends.cudnn.flags(enabled=False):
            losses = F.ctc_loss(logarithms, letters, n_frames, counts, self.blank, reduction="none")
        return losses / self.mean_letters

    def start(
        self,
        network: TunedNetwork,
        over_samples: OverSamples,
        targets: RecordTargets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Standardize the frames that a new head reads."""
        if self.head_hash is None:
            standardize_tokens(network, over_samples, weights)
        return None

    def answers(
        self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Geometry | None]
    ) -> list[list[int]]:
        """Letters of each sample: the most probable one of each frame, without repeats and blanks."""
        scores, n_frames = network(activation)
        best = [row[:n].unique_consecutive() for row, n in zip(scores.argmax(-1), n_frames, strict=True)]
        return [row[row != self.blank].tolist() for row in best]
