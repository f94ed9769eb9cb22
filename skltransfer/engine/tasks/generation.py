"""Text that a decoder writes about what an encoder read: translations, summaries, transcripts.

The decoder is the readout, of the library's own model; it learns with the right tokens before each (teacher forcing),
and answers with the library's own search. Must not know what a token means, nor where samples come from.
"""

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from skltransfer._system.autocast import autocast
from skltransfer.backbones import IGNORED, Backbone, DecoderModel, Geometry, checked_options, decoder_model
from skltransfer.engine.networks.adapters import inserted
from skltransfer.engine.networks.readout import PretrainedReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.task import OWN_HEAD, HeadedTask
from skltransfer.exceptions import WeightsError

Answer = list[int]


class DecoderReadout(PretrainedReadout):
    """A private copy of a decoder, or the decoder as it was with adapters of low rank in it.

    Parameters
    ----------
    pretrained : DecoderModel
        The shared decoder, of which this is a copy.
    adapter : {"lora"} or None
        If ``"lora"``, only adapters are trained.
    draws : bool
        If True, adapters start with random weights.
    """

    def __init__(self, pretrained: DecoderModel, adapter: str | None, *, draws: bool) -> None:
        super().__init__("decoder", pretrained)
        self.decoder = copy.deepcopy(pretrained).requires_grad_(adapter is None)
        if adapter is not None:
            inserted(self.decoder, draws=draws, without=self.decoder.not_adapted)

    def tie(self, suffix: nn.Module | None, spec: NetworkSpec) -> None:
        """Share the token vectors with an encoder that trains them; else leave them as that has them, untrained."""
        if not self.decoder.is_tied:
            return
        if spec.boundary == 0 and suffix is not None:
            self.decoder.use_tokens(suffix.model.get_input_embeddings().weight)
        else:
            self.decoder.tokens.requires_grad_(False)

    def forward(self, given: tuple[torch.Tensor, ...], batch: Any = None) -> torch.Tensor:
        """Scores of the tokens to write, (n, length, vocabulary)."""
        return self.decoder.logits(*read(given), labels_of(batch, given[-1].device))

    def written(self, given: tuple[torch.Tensor, ...], how: Mapping[str, Any]) -> torch.Tensor:
        """Token ids, (n, length)."""
        return self.decoder.generate(*read(given), **how)


def read(given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What an encoder gave, without padding, and a mask of its tokens where some are padding."""
    hidden = given[-1]
    is_padding = hidden[..., 0].isnan()
    if not is_padding.any():
        return hidden, None
    return torch.where(is_padding[..., None], 0.0, hidden), ~is_padding


def labels_of(batch: Sequence[Mapping[str, torch.Tensor]], device: torch.device) -> torch.Tensor:
    """Token ids of all samples, (n, length), padded with ``IGNORED``."""
    return pad_sequence([record["ids"] for record in batch], True, IGNORED).to(device)


class GenerationTask(HeadedTask):
    """Token ids to write.

    Parameters
    ----------
    kind : {"text to text", "speech to text"}
        Kind of the network.
    n_outputs : int
        Size of the vocabulary.
    decoder_hash : str
        Hash of the pretrained decoder.
    mean_tokens : float
        Mean number of tokens of a target. The loss of a sample is the sum over its tokens, divided by this: all tokens
        count alike, as in the library's own loss.
    smoothing : float, default=0.0
        Label smoothing of the loss.
    learned : mapping of str to list of int, optional
        Arguments of ``generate`` that replace those in the network's folder, which would keep it from writing what it
        learned.
    """

    how: Mapping[str, Any] = MappingProxyType({})  # arguments of ``generate``, which are no part of a fit

    def __init__(
        self,
        kind: str,
        n_outputs: int,
        decoder_hash: str,
        mean_tokens: float = 1.0,
        smoothing: float = 0.0,
        learned: Mapping[str, list[int]] | None = None,
    ) -> None:
        self.kind, self.n_outputs, self.decoder_hash = kind, n_outputs, decoder_hash
        self.mean_tokens, self.smoothing, self.learned = mean_tokens, smoothing, dict(learned or {})

    def writing(self, how: Mapping[str, Any]) -> Self:
        """The same task, with arguments of ``generate``."""
        task = copy.copy(self)
        task.how = how
        return task

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the spec is not that of a decoder."""
        if spec.head != OWN_HEAD or len(spec.taps) != 1 or spec.n_outputs != self.n_outputs:
            raise ValueError(f"head={spec.head!r}, taps={spec.taps!r} and n_outputs={spec.n_outputs!r}")
        checked_options(self.learned, {})

    def readout(self, backbone: Backbone, spec: NetworkSpec, draws: bool) -> DecoderReadout:
        """A copy of the backbone's decoder."""
        pretrained = decoder_model(backbone, self.kind)
        if pretrained.fingerprint != self.decoder_hash:
            raise WeightsError(
                f"The decoder of {backbone.name!r} has other weights than in the fit. Load the files of the fit, or "
                "fit again."
            )
        return DecoderReadout(pretrained, spec.adapter, draws=draws)

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> DecoderReadout:
        return self.readout(backbone, spec, pretrained)

    def loss(self, outputs: torch.Tensor, batch: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Cross-entropy summed over a sample's tokens, in units of a target of mean length, (n,)."""
        labels = labels_of(batch, outputs.device)
        losses = F.cross_entropy(
            outputs.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none", label_smoothing=self.smoothing
        )
        return losses.sum(1) / self.mean_tokens

    def answers(
        self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Geometry | None]
    ) -> list[Answer]:
        """Token ids of each sample, with those that begin, end and pad it."""
        given = network.given(activation)
        with autocast(activation.device, None):
            return network.readout.written(given, self.how).tolist()
