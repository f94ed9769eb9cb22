"""The next token of a text, for networks that read from left to right: domain texts, code, continuations of prompts.

The readout is the output head of the library's own model. To continue a prompt, the frozen stages, the trained ones and
the head are put together to that model, which writes with its own search. Must not know what a token means, nor where
samples come from.
"""

import copy
import weakref
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer._system.autocast import autocast
from skltransfer._system.forks import Lock
from skltransfer.backbones import Backbone, CausalHead, causal_head, seeded, written
from skltransfer.engine.networks.adapters import adapted, inserted, merged, original_name
from skltransfer.engine.networks.readout import PretrainedReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.task import OWN_HEAD, HeadedTask
from skltransfer.exceptions import WeightsError

ROWS = 32  # texts that are written at once, over all beams
Record = Mapping[str, torch.Tensor]


class HeadReadout(PretrainedReadout):
    """A private copy of an output head, or the head as it was.

    Parameters
    ----------
    pretrained : CausalHead
        The shared head, of which this is a copy.
    spec : NetworkSpec
        The network. With adapters, the head stays as it was; it has one beside it where no stage is unfrozen.
    n_stages : int
        Number of stages of the backbone.
    draws : bool
        If True, an adapter starts with random weights.
    """

    def __init__(self, pretrained: CausalHead, spec: NetworkSpec, n_stages: int, *, draws: bool) -> None:
        super().__init__("head", pretrained)
        self.head = copy.deepcopy(pretrained).requires_grad_(spec.adapter is None)
        if spec.adapter is not None and spec.boundary == n_stages:
            inserted(self.head, draws=draws)

    def tie(self, suffix: nn.Module | None, spec: NetworkSpec) -> None:
        """Share the token vectors with the stages where these train them, if the library's model does."""
        if self.head.is_tied and spec.boundary == 0 and suffix is not None:
            self.head.use_tokens(suffix.model.get_input_embeddings().weight)

    def forward(self, given: Sequence[torch.Tensor], batch: Sequence[Record] | None = None) -> torch.Tensor:
        """Scores of the tokens that count, of all samples in turn, (counted, vocabulary)."""
        owners, places = _before_counted(batch)
        return self.head(given[-1][owners, places])


def _before_counted(batch: Sequence[Record]) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of the sample, and position of the token before, of each token that counts, (counted,) each."""
    counts = [len(record["counted"]) for record in batch]
    owners = torch.arange(len(batch)).repeat_interleave(torch.tensor(counts))
    starts = [int(record["start"]) for record in batch]
    places = [torch.arange(start, start + n) for start, n in zip(starts, counts, strict=True)]
    return owners, torch.cat(places)


class LanguageModelingTask(HeadedTask):
    """The next token, at the positions that count.

    Parameters
    ----------
    head_hash : str
        Hash of the pretrained head.
    mean_tokens : float
        Mean number of tokens of a sample that count. The loss of a sample is the sum over its tokens, divided by this:
        all tokens count alike, as in the library's own loss.
    """

    n_outputs = 1  # at least; how large the vocabulary is, only the head knows

    def __init__(self, head_hash: str, mean_tokens: float = 1.0) -> None:
        self.head_hash, self.mean_tokens = head_hash, mean_tokens

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the spec is not that of a language model."""
        if spec.head != OWN_HEAD or len(spec.taps) != 1 or spec.n_outputs != 1:
            raise ValueError(f"head={spec.head!r}, taps={spec.taps!r} and n_outputs={spec.n_outputs!r}")
        values = vars(self)
        is_known = values.keys() == {"head_hash", "mean_tokens"} and isinstance(self.head_hash, str)
        if not is_known or not isinstance(self.mean_tokens, float) or not 0 < self.mean_tokens < np.inf:
            raise ValueError(f"{values!r:.200}")

    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> HeadReadout:
        head = causal_head(backbone)
        if head.fingerprint != self.head_hash:
            raise WeightsError(
                f"The output head of {backbone.name!r} has other weights than in the fit. Load the files of the fit, "
                "or fit again."
            )
        return HeadReadout(head, spec, backbone.n_stages, draws=pretrained)

    def loss(self, outputs: torch.Tensor, batch: Sequence[Record]) -> torch.Tensor:
        """Cross-entropy summed over a sample's tokens, in units of a sample of mean length, (n,)."""
        counted = torch.cat([record["counted"] for record in batch]).to(outputs.device)
        losses = F.cross_entropy(outputs, counted, reduction="none")
        owners = _before_counted(batch)[0].to(outputs.device)
        return losses.new_zeros(len(batch)).index_add(0, owners, losses) / self.mean_tokens

    def answers(
        self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Record | None]
    ) -> list[tuple[float, int]]:
        """Log-likelihood of the tokens of each sample that count, in nats, and how many there are."""
        hidden, found = network.given(activation)[-1], []
        with autocast(activation.device, None):
            for vectors, place in zip(hidden, geometries, strict=True):
                if place is None or not len(place["counted"]):
                    found.append((0.0, 0))
                    continue
                start, counted = int(place["start"]), torch.as_tensor(place["counted"], device=hidden.device)
                scores = network.readout.head(vectors[start : start + len(counted)].float())
                found.append((-F.cross_entropy(scores.double(), counted, reduction="sum").item(), len(counted)))
        return found


def whole_model(network: TunedNetwork, backbone: Backbone) -> nn.Module:
    """The library's own model: the frozen stages, shared, then those of a network in evaluation mode, and its head."""
    with _lock:
        known = _whole.get(network)
    if known is not None:
        return known
    changed = {}
    if network.suffix is not None:
        suffix = network.suffix if network.spec.adapter is None else merged(copy.deepcopy(network.suffix))
        own = {original_name(key): value for key, value in suffix.named_parameters() if adapted(key) is None}
        stages = range(network.spec.boundary, backbone.n_stages)
        changed = {name: own[name] for stage in stages for name in backbone.stage_parameters(stage)}
    head = network.readout.head if network.spec.adapter is None else merged(copy.deepcopy(network.readout.head))
    model, device = head.whole(backbone.library_network, changed), next(head.parameters()).device
    if any(one.device != device for one in model.parameters()):
        model = copy.deepcopy(model).to(device)  # a move would take the shared tensors along
    with _lock:
        return _whole.setdefault(network, model)


def continuations(
    network: TunedNetwork,
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    how: Mapping[str, Any],
    seeds: Sequence[int] | None = None,
) -> list[list[int]]:
    """Token ids that follow each prompt.

    Parameters
    ----------
    network : TunedNetwork
        The network, in evaluation mode.
    backbone : Backbone
        The backbone.
    prompts : sequence of sequence of int
        Token ids of the prompts.
    how : mapping
        Settings of the library's ``generate``.
    seeds : sequence of int, optional
        Seeds of texts that are drawn, one each. Each is then written alone, so that it has random numbers of its own.
    """
    model, found = whole_model(network, backbone), [[] for _ in prompts]
    size = 1 if seeds is not None else max(1, ROWS // how.get("num_beams", 1))
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")  # so that little is padding
    ends = sorted(network.readout.head.texts.ends)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids, mask = _padded_left([prompts[row] for row in rows], next(model.parameters()).device)
        drawn = nullcontext() if seeds is None else seeded(seeds[rows[0]])
        with drawn, autocast(ids.device, None):
            texts = written(model, ids, mask, ends, how).tolist()
        for row, text in zip(rows, texts, strict=True):
            found[row] = _until_end(text, ends)
    return found


def _padded_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts side by side, (n, tokens), so that all end in the last column, and a mask of their tokens."""
    ids = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, ids.shape[1] - len(prompt) :] = torch.tensor(prompt)
        mask[row, ids.shape[1] - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """A text without what only fills the row after its end."""
    first = next((i for i, one in enumerate(ids) if one in ends), len(ids))
    return ids[: first + 1]


_whole: "weakref.WeakKeyDictionary[TunedNetwork, nn.Module]" = weakref.WeakKeyDictionary()
_lock = Lock()
