"""A head for few labels: the nearest prototype on the unit sphere; and the pairs that teach a network to make it easy.

Must not know where features come from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax

from skltransfer.backbones import Backbone
from skltransfer.engine.networks.readout import ContrastiveReadout, Readout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.tasks.classification import ClassificationTask
from skltransfer.engine.tasks.multilabel import MultilabelTask
from skltransfer.engine.tasks.probe import Probe, Scaling, best_temperature


@dataclass(frozen=True, eq=False)
class Described:
    """Descriptions of classes, in the space of the features of another kind of sample.

    Attributes
    ----------
    features : ndarray of shape (m, d)
        Features of length 1 of the descriptions.
    targets : ndarray of int, shape (m,)
        Positions of their labels among the classes.
    scale : float
        Number by which outputs are multiplied where no labeled sample calibrates them.
    """

    features: np.ndarray
    targets: np.ndarray
    scale: float

    def beside(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, targets and weights of the labeled samples, and of the descriptions as samples of weight 1.

        Images and texts lie apart in the space that they share (Liang et al. 2022), so descriptions are moved by the
        mean difference of the classes that have samples.
        """
        is_labeled = targets >= 0
        features, targets, weights = features[is_labeled], targets[is_labeled], weights[is_labeled]
        moved = self.features
        if is_labeled.any():
            apart = [
                np.average(features[targets == one], axis=0, weights=weights[targets == one])
                - self.features[self.targets == one].mean(0)
                for one in np.unique(targets)
            ]
            moved = moved + np.mean(apart, axis=0)
        return (
            np.vstack([features, moved]),
            np.concatenate([targets, self.targets]),
            np.concatenate([weights, np.ones(len(moved))]),
        )


class PrototypeTask(ClassificationTask):
    """Each class is a point among features of length 1; a sample belongs to the nearest (Snell et al. 2017).

    Near is meant under the covariance within classes, shrunk towards a multiple of the identity, so the head is linear.
    Its outputs are scaled so that the training labels are as likely as can be when each sample is left out of its own
    prototype; labels are smoothed as Platt (1999) does, since a few separated samples are no proof of certainty.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least two.
    corrects_sizes : bool, default=False
        If True, squared distances are corrected for the error of the prototypes, which is larger in small classes: a
        mean of many samples is nearer to all samples than a single sample is.
    names : Described, optional
        Descriptions of the classes. With them, samples may be unlabeled: their targets are -1.
    """

    solves_last = True

    def __init__(self, classes: np.ndarray, corrects_sizes: bool = False, names: "Described | None" = None) -> None:
        super().__init__(classes)
        self.corrects_sizes, self.names = corrects_sizes, names

    def readout(self, backbone: Backbone, spec: NetworkSpec, draws: bool) -> Readout:
        """One that gives features in training."""
        return ContrastiveReadout.of(backbone, spec, draws)

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: float
    ) -> Probe:
        """Parameters as :meth:`ClassificationTask.solve_probe`'s; ``penalty`` is the identity's share, in (0, 1]."""
        temperature, loss = 1.0, 0.0
        if self.names is not None:
            temperature = 1 / self.names.scale
            features, targets, weights = self.names.beside(features, targets, weights)
        members = np.zeros((len(self.classes), len(targets)))
        members[targets, np.arange(len(targets))] = weights
        mass = members.sum(1)
        prototypes = members @ features / mass[:, None]  # (k, d)
        rest = features - prototypes[targets]
        inverse = _shrunk_inverse(rest * np.sqrt(weights / weights.sum())[:, None], penalty)
        weight = inverse(prototypes)
        bias = -0.5 * (weight * prototypes).sum(1)
        freedom = weights.sum() - len(mass)
        if self.corrects_sizes and freedom > 0:
            bias += 0.5 * weights @ (inverse(rest) * rest).sum(1) / freedom / mass
        outputs = features @ weight.T + bias
        known = mass[targets] > weights * (1 + 1e-9)  # others are the only ones of their class
        if known.any():
            without = (mass[targets] / np.where(known, mass[targets] - weights, 1)) ** 2
            outputs[np.arange(len(targets)), targets] -= 0.5 * (without - 1) * (inverse(rest) * rest).sum(1)
            temperature = best_temperature(lambda t: _smooth_loss(outputs[known] / t, targets[known], weights[known]))
            loss = _smooth_loss(outputs[known] / temperature, targets[known], weights[known])
        if self.n_outputs == 1:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        return Probe(*scaling, weight / temperature, bias / temperature, 1, loss)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss on features of length 1, (n, d): how far a sample's cosines are from 1 with its class, 0 with others.

        The mean square over its own class and that over the others count alike, as with pairs drawn evenly (Reimers &
        Gurevych 2019); all pairs of the batch are used, none is stored.
        """
        wrong = outputs @ outputs.T
        same = (targets[:, None] == targets[None, :]).to(outputs.dtype)
        wrong = (wrong - same) ** 2
        own = same - torch.eye(len(targets), device=outputs.device, dtype=outputs.dtype)
        return sum((wrong * mask).sum(1) / mask.sum(1).clamp(min=1) for mask in (own, 1 - same))


class MultilabelPrototypeTask(MultilabelTask):
    """Each label has two prototypes: of the samples that have it, and of those that do not.

    The labels are separate :class:`PrototypeTask` of two classes. A label that all n samples have, or none, is always
    answered, or never, with a doubt of ``1 / (n + 2)``.
    """

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: float
    ) -> Probe:
        """Parameters as :meth:`PrototypeTask.solve_probe`'s, with targets (n, k)."""
        one, probes = PrototypeTask(np.arange(2)), []
        for column in targets.T:
            if 0 < column.sum() < len(column):
                probes.append(one.solve_probe(features, column, weights, scaling, penalty))
            else:
                log_odds = np.log(weights.sum() + 1) * (1 if column.all() else -1)
                weight, loss = np.zeros((1, features.shape[1])), float(np.logaddexp(0, -abs(log_odds)))
                probes.append(Probe(*scaling, weight, np.array([log_odds]), 1, loss))
        return Probe.side_by_side(probes)


def _smooth_loss(outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    doubt = 1 / (weights.sum() + 2)
    log_p = log_softmax(outputs, axis=1)
    told = (1 - doubt) * log_p[np.arange(len(targets)), targets] + doubt * log_p.mean(1)
    return -float(weights @ told / weights.sum())


def _shrunk_inverse(rest: np.ndarray, share: float) -> Callable[[np.ndarray], np.ndarray]:
    """The map v -> v S^-1 of rows v, where S = (1 - share) R'R + share trace(R'R) / d I, and R (n, d) is the rest."""
    level = share * (rest**2).sum() / rest.shape[1]
    if level <= 0:  # one sample per class: nothing is known of how a class spreads
        return lambda v: v.copy()
    _, lengths, directions = np.linalg.svd(rest, full_matrices=False)
    spread = (1 - share) * lengths**2
    return lambda v: (v - (v @ directions.T * (spread / (spread + level))) @ directions) / level
