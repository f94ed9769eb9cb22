"""What every task promises: whoever trains, predicts, saves or exports asks it, and knows no kind of target.

A task is one file beside the others: how targets are held, what reads the activations, what is lost, what is answered.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from skltransfer.backbones import Backbone, Geometry, seeded
from skltransfer.engine.networks.readout import Readout, VectorReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.probe import LEAST_SCALE, Penalty, Probe, Scaling, standardisation
from skltransfer.engine.tasks.targets import ArrayTargets, Targets

VECTOR_HEADS = ("linear", "mlp")
OWN_HEAD = "own"  # of a backbone that is part of a larger network
INITIAL_FRACTION = 0.1  # of the probe's weights, at which a head starts whose features will be trained


@dataclass(frozen=True)
class Start:
    """Settings with which a task initializes the readout.

    Attributes
    ----------
    penalty : float, "auto" or a tuple of these
        Strength of the probe's penalty, as the task reads it.
    solves : bool
        If True, the probe is solved; else only the scaling of the features is set.
    reach : float or None
        Distance by which training will move a weight, if the stages are trained too; None if the probe stays as it is
        solved.
    """

    penalty: Any
    solves: bool
    reach: float | None = None

    def fraction(self, probe: Probe) -> float:
        """Share of the probe's weights: the least from which training can still grow it back, and a tenth at least.

        The whole probe hardly errs on the samples that it was solved on, so the backbone would get little gradient but
        noise, and AdamW takes long steps all the same.
        """
        typical_weight = float(np.sqrt(np.mean(probe.weight**2)))
        if self.reach is None or typical_weight == 0:
            return 1.0
        return max(INITIAL_FRACTION, 1 - self.reach / typical_weight)


class OverSamples(Protocol):
    """Runs a function of a batch of activations, (m, ...), over the n samples of a training set."""

    def __call__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        """Values of a function with one vector per sample: float64, (n, ...)."""

    def features(self, network: TunedNetwork) -> tuple[np.ndarray, np.ndarray]:
        """Rows that the head learns from, float64, (k, d), and the number of the sample that each is of, (k,).

        These are the samples' features; where windows vote, those of each window.
        """

    def in_batches(self, function: Callable[[torch.Tensor], Any]) -> Iterator[tuple[np.ndarray, Any]]:
        """Numbers of the samples in a batch, and what the function gives for it; rows after these fill the batch."""


class Task(ABC):
    """Targets, readout, loss and answers of one kind of problem.

    Targets are entries of :class:`Targets`, one per sample.

    Attributes
    ----------
    n_outputs : int
        Number of outputs of the head.
    n_constants : int
        Number of further trained outputs that are the same for all samples.
    solves_last : bool
        If True, the probe is solved once more after training, on the trained stages' features.
    """

    n_outputs: int
    n_constants: int = 0
    solves_last: bool = False

    def readout(self, backbone: Backbone, spec: NetworkSpec, draws: bool) -> Readout:
        """From the last stage's activation, or a tuple of those at ``spec.taps``, to outputs.

        Parameters
        ----------
        backbone : Backbone
            The backbone.
        spec : NetworkSpec
            The network.
        draws : bool
            If True, weights start at random; else they will be filled, and torch's generator is not used.
        """
        if draws:
            return self.new_readout(backbone, spec)
        with seeded(0):
            return self.new_readout(backbone, spec)

    @abstractmethod
    def new_readout(self, backbone: Backbone, spec: NetworkSpec) -> Readout:
        """The readout with weights as its modules draw them."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Any) -> torch.Tensor:
        """The loss of each sample, (n,), so that sample weights count; ``batch`` is what ``Targets.take`` gives."""

    @abstractmethod
    def answers(self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Geometry | None]) -> list:
        """Values that ``predict`` returns, one per sample of a batch.

        Parameters
        ----------
        network : TunedNetwork
            The trained network.
        activation : Tensor, (n, ...)
            Activations of a batch. Rows that only fill the batch are dropped from the result.
        geometries : sequence of Geometry or None, length n
            Position of each sample in the network's input; None if that has no positions.
        """

    def placed(self, targets: Targets, geometries: Callable[[], Iterable[Any]]) -> Targets:
        """Targets with their positions in the network's input; the same targets where they have none.

        Parameters
        ----------
        targets : Targets, length n
            Targets in the task's terms.
        geometries : callable
            Finds the position of each sample, or of its parts, in the network's input, which may take a look at each.
        """
        return targets

    def changed(
        self, augment: Callable, image: torch.Tensor, target: Any, factors: tuple[float, float] = (1.0, 1.0)
    ) -> tuple[Any, Any]:
        """An image (3, h, w) and its target, not yet placed, after a random transform; by default targets stay.

        ``factors`` are the width and the height of the image in shares of the user's, which the target is about: a
        large file is decoded smaller than it is.
        """
        return augment(image), target

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the task, as a file describes it, cannot read the outputs of a network."""
        raise NotImplementedError

    def strata(self, targets: Targets) -> np.ndarray | None:
        """Groups that keep their shares when a part is held out; None where there are none."""
        return None

    def start(
        self,
        network: TunedNetwork,
        over_samples: "OverSamples",
        targets: Targets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Set what the readout begins with, in place; the probe, where there is one.

        Parameters
        ----------
        network : TunedNetwork
            The network, in evaluation mode.
        over_samples : OverSamples
            Runs functions of batches of activations over the training set.
        targets : Targets, length n
            Targets of the samples.
        weights, loss_weights : ndarray of shape (n,)
            Weights of the samples in statistics, and in the loss.
        how : Start
            How the readout is initialized.
        """
        return None


class HeadedTask(Task):
    """Parent of the tasks whose head may be a pretrained one, of the network that the backbone is part of."""

    def readout(self, backbone: Backbone, spec: NetworkSpec, draws: bool) -> Readout:
        """The same as :meth:`new_readout`; weights that will be filled are not read from files."""
        if draws:
            return self.new_readout(backbone, spec)
        with seeded(0):
            return self._readout(backbone, spec, pretrained=False)

    def new_readout(self, backbone: Backbone, spec: NetworkSpec) -> Readout:
        """A new head of the tapped maps, or the network's own."""
        return self._readout(backbone, spec, pretrained=True)

    @abstractmethod
    def _readout(self, backbone: Backbone, spec: NetworkSpec, *, pretrained: bool) -> Readout:
        """The readout; only with ``pretrained``, weights are read from files."""


class VectorTask(Task):
    """Parent of the tasks whose answers are read off one vector of outputs per sample."""

    def readout(self, backbone: Backbone, spec: NetworkSpec, draws: bool) -> Readout:
        """Pooling, scaling and head."""
        return VectorReadout.of(backbone, spec, draws)

    def new_readout(self, backbone: Backbone, spec: NetworkSpec) -> Readout:
        """The same with a head of random weights."""
        return self.readout(backbone, spec, True)

    @abstractmethod
    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, penalty: Any
    ) -> Probe:
        """The linear head on features that stay as they are, (n, d)."""

    @abstractmethod
    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, n_outputs) of one sample -> (n_outputs,)."""

    @abstractmethod
    def decode(self, outputs: np.ndarray) -> Any:
        """Outputs (n, n_outputs) -> what ``predict`` returns."""

    @abstractmethod
    def exported(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs -> what a client of an exported network receives, by name; without a branch on values."""

    @abstractmethod
    def expected(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Those of the exported answers that an estimator gives as numbers, in float64."""

    @abstractmethod
    def described(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Description of each exported answer for a client; ``names`` are those of several tasks."""

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the network gives no vector, or outputs of its number cannot be decoded."""
        if spec.taps or spec.pooling is None or spec.head not in VECTOR_HEADS:
            raise ValueError(f"pooling={spec.pooling!r}, head={spec.head!r} and taps={spec.taps!r}")
        self.decode(np.arange(1.0, spec.n_outputs + spec.n_constants + 1)[None])

    def answers(self, network: TunedNetwork, activation: torch.Tensor, geometries: Sequence[Geometry | None]) -> list:
        """Labels or numbers, as :meth:`decode` has them."""
        return list(self.decode(network(activation).double().cpu().numpy()))

    def start(
        self,
        network: TunedNetwork,
        over_samples: "OverSamples",
        targets: ArrayTargets,
        weights: np.ndarray,
        loss_weights: np.ndarray,
        how: Start,
    ) -> Probe | None:
        """Standardise the features, and begin a linear head with the probe (Kumar et al. 2022)."""
        features, sample = over_samples.features(network)
        share = 1 / np.bincount(sample)[sample]  # of its sample, which counts once
        weights, loss_weights = share * weights[sample], share * loss_weights[sample]
        if network.spec.normalizes:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            scaling = (np.zeros(features.shape[1]), np.ones(features.shape[1]))
        else:
            scaling = _scaling(features, weights, network.spec.n_numbers)
        state, probe = dict(zip(("mean", "scale"), scaling, strict=True)), None
        if how.solves:
            probe = self.solve_probe(features, targets.values[sample], loss_weights, scaling, how.penalty)
            fraction = how.fraction(probe)
            state |= {"head.0.weight": fraction * probe.weight, "head.0.bias": fraction * probe.bias}
            state |= {"head.1.values": fraction * probe.constants} if len(probe.constants) else {}
        tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in state.items()}
        network.readout.load_state_dict(tensors, strict=False)
        return probe


def _scaling(features: np.ndarray, weights: np.ndarray, n_numbers: int) -> Scaling:
    """Scaling of features of which the last are numbers beside the samples, each in a unit of its own.

    The embedding and the numbers have the same total variance, so that few numbers are not lost among many features.
    """
    n = features.shape[1] - n_numbers
    mean, scale = standardisation(features[:, :n], weights, floor=LEAST_SCALE)
    if not n_numbers:
        return mean, scale
    mean_beside, scale_beside = standardisation(features[:, n:], weights)
    return np.r_[mean, mean_beside], np.r_[scale, scale_beside / np.sqrt(n / n_numbers)]


def solved_probe(task: VectorTask, features: np.ndarray, targets: np.ndarray, penalty: Penalty) -> Probe:
    """The probe on features that stay as they are.

    Parameters
    ----------
    task : VectorTask
        The task.
    features : ndarray of shape (n, d)
        Features of the samples.
    targets : ndarray of shape (n,) or (n, outputs)
        Targets in the task's terms.
    penalty : float or "auto"
        Strength of the probe's penalty, as the task reads it.
    """
    features, weights = np.asarray(features, dtype=np.float64), np.ones(len(features))
    scaling = standardisation(features, weights, LEAST_SCALE)
    return task.solve_probe(features, targets, weights, scaling, penalty)
