"""Masked tokens: some tokens of a text are hidden, and a network with a language head learns to guess them.

In training new masks are drawn each time a text is seen, from torch's own generator, which :func:`train` seeds; of a
text that is only looked at, the same tokens are hidden every time. Must not know where texts come from, nor why.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skltransfer.backbones import PADDING_ID, seeded, source_language_head
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.frozen import FrozenStages

HIDDEN, REPLACED = 0.8, 0.1  # of the tokens that are asked for; the others are left as they are (Devlin et al. 2019)


class MaskedTexts:
    """Texts as ``train`` sees them: token ids some of which are hidden, and what these are.

    Parameters
    ----------
    activations : Activations
        Token ids.
    stages : FrozenStages
        Frozen stages that compute activations.
    fraction : float
        Fraction of the tokens to predict, at least one token per text.
    seed : int
        Seed of the random numbers.
    """

    def __init__(self, activations: Activations, stages: FrozenStages, fraction: float, seed: int) -> None:
        reader, self._device = stages.backbone.preprocessing, stages.device
        self._activations, self._fraction, self._seed = activations, fraction, seed
        self.lengths = activations.lengths
        self._mask, self._special = reader.mask_id, np.array([PADDING_ID, *reader.special_ids])
        self._words = np.setdiff1d(np.arange(reader.n_tokens), self._special)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Batches of (n, 2, tokens): ids, and those that are asked for; of each text the same ones every time."""
        contents = (int.from_bytes(self._activations.digests[row][:8]) for row in rows)
        return self._masked(rows, [np.random.default_rng([self._seed, content]) for content in contents])

    def take_to_train(self, rows: np.ndarray, batch: Any = None) -> tuple[torch.Tensor, Any]:
        """The same, but other ones every time; and the batch of targets."""
        generator = np.random.default_rng(int(torch.randint(2**62, ())))
        return self._masked(rows, [generator] * len(rows)), batch

    def n_asked(self, rows: np.ndarray) -> np.ndarray:
        """Number of tokens of each text to predict; none of one without tokens of its own."""
        return np.array([self._count(self._is_word(self._ids([row])[0]).sum()) for row in rows])

    def frequencies(self, rows: np.ndarray) -> np.ndarray:
        """Frequency of each token of the vocabulary, (vocabulary,)."""
        counts = np.zeros(self._words.max(initial=0) + 1)
        for row in rows:
            ids = self._ids([row])[0]
            np.add.at(counts, ids[self._is_word(ids)], 1)
        return counts

    def _ids(self, rows: np.ndarray) -> np.ndarray:
        return self._activations.take(np.asarray(rows)).cpu().numpy()

    def _is_word(self, ids: np.ndarray) -> np.ndarray:
        return ~np.isin(ids, self._special)

    def _count(self, n: int) -> int:
        return max(1, round(self._fraction * n)) if n else 0

    def _masked(self, rows: np.ndarray, generators: list[np.random.Generator]) -> torch.Tensor:
        ids = self._ids(rows)
        asked = np.full_like(ids, PADDING_ID)
        for row, generator in enumerate(generators):
            words = np.flatnonzero(self._is_word(ids[row]))
            chosen = generator.choice(words, self._count(len(words)), replace=False)
            asked[row, chosen] = ids[row, chosen]
            fate, others = generator.random(len(chosen)), generator.choice(self._words, len(chosen))
            seen = np.where(fate < HIDDEN + REPLACED, others, ids[row, chosen])
            ids[row, chosen] = np.where(fate < HIDDEN, self._mask, seen)
        return torch.tensor(np.stack([ids, asked], axis=1), device=self._device)


class TiedHead(nn.Module):
    """A language head for a network that has none: one layer, then the token vectors again, as BERT has it.

    Parameters
    ----------
    width : int
        Width of the network's output.
    tokens : nn.Embedding
        Whose vectors score the tokens; shared with the network where that trains them.
    frequencies : ndarray of shape (vocabulary,)
        How often tokens come: what the head says before it has learnt anything.
    """

    def __init__(self, width: int, tokens: nn.Embedding, frequencies: np.ndarray) -> None:
        super().__init__()
        self.tokens = tokens
        vocabulary, inner = tokens.weight.shape
        self.layer, self.norm = nn.Linear(width, inner), nn.LayerNorm(inner)
        counts = np.pad(frequencies, (0, max(0, vocabulary - len(frequencies))))[:vocabulary] + 0.1
        self.bias = nn.Parameter(torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32))
        length = tokens.weight.detach().square().sum(1).mean().sqrt().item()
        nn.init.constant_(self.norm.weight, 1 / length)  # so that scores begin with a variance of one

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.linear(self.norm(F.gelu(self.layer(vectors))), self.tokens.weight, self.bias)


class MaskedLanguageModel(nn.Module):
    """Frozen stages, a private suffix and a language head: from masked texts to their losses.

    Parameters
    ----------
    stages : FrozenStages
        Frozen stages that compute activations.
    boundary : int
        Number of frozen stages.
    frequencies : ndarray of shape (vocabulary,)
        Frequency of each token.
    seed : int
        Seed of a head that the checkpoint does not bring.

    Attributes
    ----------
    is_head_new : bool
        True if the checkpoint has no language modeling head.
    """

    def __init__(self, stages: FrozenStages, boundary: int, frequencies: np.ndarray, seed: int) -> None:
        super().__init__()
        backbone = stages.backbone
        self._stages, self._boundary, self.suffix = stages, boundary, backbone.suffix(boundary)
        model = copy.deepcopy(backbone.text_model()) if boundary else backbone.text_model(self.suffix)
        head = source_language_head(backbone, model)
        self.is_head_new = head is None
        with seeded(seed):
            width = backbone.activation_shapes[-1][-1]
            self.head = head or TiedHead(width, model.get_input_embeddings(), frequencies)

    def suffix_parameters(self) -> list[nn.Parameter]:
        """Those of the stages after the boundary."""
        backbone, own = self._stages.backbone, dict(self.suffix.named_parameters())
        stages = range(self._boundary, backbone.n_stages)
        return [own[name] for stage in stages for name in backbone.stage_parameters(stage) if name in own]

    def head_parameters(self) -> list[nn.Parameter]:
        """Those of the head that are not the network's."""
        tokens = {id(p) for p in self.head.tokens.parameters()}
        return [p for p in self.head.parameters() if id(p) not in tokens and p.requires_grad]

    def forward(self, texts: torch.Tensor, batch: Any = None) -> torch.Tensor:
        """Mean cross-entropy of the tokens that are asked for, of each text: (n, 2, tokens) -> (n,)."""
        ids, asked = texts.unbind(1)
        chosen = asked != PADDING_ID
        vectors = self.suffix(self._frozen(ids).clone())[chosen]  # (k, d)
        losses = F.cross_entropy(self.head(vectors).float(), asked[chosen], reduction="none")
        total = losses.new_zeros(len(ids)).index_add(0, chosen.nonzero()[:, 0], losses)
        return total / chosen.sum(1)

    @torch.inference_mode()
    def _frozen(self, ids: torch.Tensor) -> torch.Tensor:
        stages, boundary = self._stages, self._boundary
        parts = ids.split(stages.rows(ids.shape[1]))
        return torch.cat([dict(stages.passing(part, 0, {boundary}))[boundary] for part in parts])
