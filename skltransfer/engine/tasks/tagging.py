"""Tags: one of several labels for each word of a text, read off the first token of the word.

Must not know what a word is, nor what tags mean together.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Backbone
from skltransfer.engine.networks.readout import ScaledReadout, head_layers
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.parts import PartsTask
from skltransfer.engine.tasks.probe import LEAST_SCALE, Probe, standardisation
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import OverSamples, Start

ENOUGH_WORDS = 50_000  # to begin a head whose features are going to change


class TokenReadout(ScaledReadout):
    """Scaling and head of single tokens.

    Parameters
    ----------
    n_features : int
        Width of a token.
    spec : NetworkSpec
        The network.
    """

    def __init__(self, n_features: int, spec: NetworkSpec) -> None:
        super().__init__(n_features)
        self.head = nn.Sequential(*head_layers(n_features, spec))

    def forward(self, given: Sequence[torch.Tensor], batch: Any = None) -> torch.Tensor:
        """Outputs of the words of all samples in turn, (words, n_outputs); without a batch, of all tokens."""
        tokens = torch.cat(list(given), dim=-1)  # (n, tokens, d), NaN where there is none
        vectors = tokens if batch is None else tokens[of_words(batch)]
        with autocast(vectors.device, None):
            return self.head((vectors.to(self.mean.dtype) - self.mean) / self.scale)


def of_words(batch: Sequence[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of the sample and position of the first token of each word of a batch, (words,) each."""
    counts = torch.tensor([len(record["places"]) for record in batch])
    owners = torch.arange(len(batch)).repeat_interleave(counts)
    return owners, torch.cat([record["places"].cpu() for record in batch])


def _some(counts: np.ndarray, most: int | None) -> np.ndarray:
    """Rows that have about ``most`` words together, or all, in their order."""
    rows = np.random.default_rng(0).permutation(len(counts))
    n_rows = len(counts) if most is None else 1 + np.searchsorted(np.cumsum(counts[rows]), most)
    return np.sort(rows[:n_rows])


class TaggingTask(PartsTask):
    """One of several labels for each word.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least two.
    factors : ndarray of shape (k,)
        Weight of a word in the loss, by its label.
    mean_words : float, default=1.0
        Mean number of words of a training sample. The loss of a sample is the sum over its words, divided by this: all
        words count alike, however long the text is that they are in.
    smoothing : float, default=0.0
        Label smoothing of the loss.
    """

    def __init__(
        self, classes: np.ndarray, factors: np.ndarray, mean_words: float = 1.0, smoothing: float = 0.0
    ) -> None:
        super().__init__(classes, factors, smoothing)
        self.mean_words = mean_words

    def placed(self, targets: RecordTargets, geometries: Callable[[], Iterable[np.ndarray]]) -> RecordTargets:
        """Tags beside the positions of the words' first tokens."""
        pairs = zip(targets.records, geometries(), strict=True)
        return RecordTargets([{**record, "places": places} for record, places in pairs])

    def new_readout(self, backbone: Backbone, spec: NetworkSpec) -> TokenReadout:
        """A head of the tokens after the tapped stages, side by side."""
        return TokenReadout(sum(backbone.activation_shapes[tap][-1] for tap in spec.taps), spec)

    def loss(self, outputs: torch.Tensor, batch: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Cross-entropy summed over a sample's words, in units of a text of mean length, (n,)."""
        tags = torch.cat([record["tags"] for record in batch]).to(outputs.device)
        factors = torch.as_tensor(self.factors, dtype=outputs.dtype, device=outputs.device)
        losses = self.of_part.loss(outputs, tags) * factors[tags]
        owners = of_words(batch)[0].to(outputs.device)
        return losses.new_zeros(len(batch)).index_add(0, owners, losses) / self.mean_words

    def answers(self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Any]) -> list:
        """Probabilities of the labels of each word, (words, k)."""
        outputs = network(activation).double().cpu().numpy()
        words = [one[places] for one, places in zip(outputs, geometries, strict=True) if places is not None]
        return [self.of_part.probabilities(one) for one in words]

    def start(
        self,
        network: TunedNetwork,
        over_samples: OverSamples,
        targets: RecordTargets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Standardize the tokens, and begin a linear head with the probe of single words."""
        counts = np.array([len(record["places"]) for record in targets.records])
        rows = _some(counts, None if how.reach is None else ENOUGH_WORDS)
        ends = np.zeros(len(counts), dtype=int)
        ends[rows] = np.cumsum(counts[rows])
        features = np.empty((counts[rows].sum(), len(network.readout.mean)))
        for members, given in over_samples.in_batches(network.given):
            for member, one in zip(members, torch.cat(given, dim=-1), strict=False):  # other rows fill the batch
                if ends[member]:
                    found = one[targets.records[member]["places"]].cpu().numpy()
                    features[ends[member] - counts[member] : ends[member]] = found
        tags = np.concatenate([targets.records[row]["tags"] for row in rows])
        scaling = standardisation(features, np.repeat(weights[rows], counts[rows]), floor=LEAST_SCALE)
        state, probe = dict(zip(("mean", "scale"), scaling, strict=True)), None
        if how.solves:
            in_loss = np.repeat(loss_weights[rows], counts[rows]) * self.factors[tags]
            probe = self.of_part.solve_probe(features, tags, in_loss, scaling, how.penalty)
            fraction = how.fraction(probe)
            state |= {"head.0.weight": fraction * probe.weight, "head.0.bias": fraction * probe.bias}
        tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in state.items()}
        network.readout.load_state_dict(tensors, strict=False)
        return probe
