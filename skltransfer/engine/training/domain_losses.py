"""What draws a target domain near a source domain: losses on its samples, which have no labels.

Must not know how domains are marked, nor what labels mean.
"""

import math

import numpy as np
import torch

from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.networks.tuned import TunedNetwork

TEMPERATURE = 2.5
RAMP = 10.0
CORAL_SCALE = 100.0


class DomainLoss:
    """A target domain beside the training set: in each step a batch of it, and a loss on both.

    Parameters
    ----------
    activations : Activations
        Activations of target samples.
    rows : ndarray of int
        Target samples, in an order that depends only on their content.
    method : {"mcc", "deep_coral"}
        Adaptation method.
    weight : float
        Final weight of the loss.
    batch_size, seed : int
        Batch size, and seed of the random numbers.
    """

    def __init__(
        self, activations: Activations, rows: np.ndarray, method: str, weight: float, batch_size: int, seed: int
    ) -> None:
        self._activations, self._rows, self._method = activations, rows, method
        self._weight, self._size, self._seed = weight, min(batch_size, len(rows)), seed

    def run(
        self, network: TunedNetwork, source: torch.Tensor, step: int, n_steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of a batch of source activations, and the loss of this step's batch of the target beside it."""
        drawn = np.random.default_rng([self._seed, step]).choice(self._rows, self._size, replace=False)
        of_source = network.features(source)
        of_target = network.features(self._activations.take(drawn))
        if self._method == "mcc":
            value = class_confusion(network.readout.outputs(of_target).float())
        else:
            value = CORAL_SCALE * covariance_distance(network.readout.seen(of_source), network.readout.seen(of_target))
        rise = 2 / (1 + math.exp(-RAMP * step / n_steps)) - 1
        return network.readout.outputs(of_source), self._weight * rise * value


def class_confusion(outputs: torch.Tensor) -> torch.Tensor:
    """Minimum class confusion (Jin et al. 2020): how far predictions of one class go with those of another.

    Parameters
    ----------
    outputs : Tensor of shape (n, k), or (n, 1) for two classes
        Logits of target samples.
    """
    logits = torch.cat([torch.zeros_like(outputs), outputs], dim=1) if outputs.shape[1] == 1 else outputs
    p = torch.softmax(logits / TEMPERATURE, dim=1)
    entropy = -(p * torch.log(p + 1e-8)).sum(1)
    certainty = (1 + torch.exp(-entropy)).detach()
    weights = certainty / certainty.sum() * len(p)
    confusion = (p * weights[:, None]).T @ p
    confusion = confusion / confusion.sum(1, keepdim=True)
    return (confusion.sum() - confusion.trace()) / len(confusion)


def covariance_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Deep CORAL (Sun & Saenko 2016): the squared distance of two sets' covariances, over 4 d², (n, d) each."""

    def covariance(x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(0)
        return x.T @ x / max(1, len(x) - 1)

    return ((covariance(a) - covariance(b)) ** 2).sum() / (4 * a.shape[1] ** 2)
