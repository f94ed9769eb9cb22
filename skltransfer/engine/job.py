"""What a fit is to do, in groups of values: network, training, held-out part, start, domain; and what comes of it.

Must not know X, labels or scikit-learn, nor how any of it is done.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.quantization import Agreement
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.state import NetworkState
from skltransfer.engine.tasks.task import Task
from skltransfer.engine.training.augmentation import Augment
from skltransfer.engine.training.loop import TrainingPlan
from skltransfer.engine.training.observer import EpochObserver
from skltransfer.engine.training.training_set import TrainingSet
from skltransfer.inputs import Samples


@dataclass(frozen=True)
class TuningResult:
    """Result of :func:`tune`.

    Attributes
    ----------
    network : NetworkState
        The trained network.
    task : Task
        The fitted task.
    history : dict of str to list of float
        Training history, with one value per epoch.
    n_iter : int
        Number of epochs, or of solver iterations.
    n_trainable : int
        Number of parameters that were trained.
    bad : list of int
        Samples that were left out.
    duplicates : list of list of int
        Samples of equal content.
    agreement : Agreement or None
        How near frozen stages in 8 bits are to float32.
    """

    network: NetworkState
    task: Task
    history: dict[str, list[float]]
    n_iter: int
    n_trainable: int
    bad: list[int]
    duplicates: list[list[int]]
    agreement: Agreement | None = None


@dataclass(frozen=True)
class HoldOut:
    """The part of the training set that is held out, and its purpose.

    Attributes
    ----------
    fraction : float
        Fraction of the samples.
    stops_early, calibrates : bool
        Purposes of the held-out samples.
    n_iter_no_change : int
        Number of epochs without progress before stopping.
    tol : float
        Minimum decrease of the loss that counts as progress.
    rows : ndarray of int or None
        Positions of the samples that are held out, if they are given; None draws a fraction.
    """

    fraction: float = 0.1
    stops_early: bool = False
    calibrates: bool = False
    n_iter_no_change: int = 3
    tol: float = 1e-4
    rows: np.ndarray | None = None


@dataclass(frozen=True)
class Resume:
    """The state from which a fit goes on.

    Attributes
    ----------
    start : NetworkState or None
        Network from which training starts.
    single_pass : bool
        True for ``partial_fit``: one pass over a part of the data, without probe.
    checkpoint : Path or None
        Folder in which training leaves its state after each epoch.
    """

    start: NetworkState | None = None
    single_pass: bool = False
    checkpoint: Path | None = None


@dataclass(frozen=True)
class DomainShift:
    """Another domain, from which samples come without labels.

    Attributes
    ----------
    target : Samples
        Unlabeled samples of the target domain.
    method : {"mcc", "deep_coral", "norm_statistics"} or None
        Adaptation method.
    weight : float
        Weight of the adaptation loss.
    prior : float
        Weight of the old statistics, in samples.
    """

    target: Samples
    method: str | None
    weight: float = 1.0
    prior: float = 0.0

    @property
    def adds_loss(self) -> bool:
        """True if a loss on the target domain is added in training."""
        return self.method in ("mcc", "deep_coral")

    @property
    def moves_norms(self) -> bool:
        """True if BatchNorm takes the target domain's statistics after training."""
        return self.method == "norm_statistics"


@dataclass(frozen=True)
class TuningJob:
    """All that :func:`tune` needs besides samples and targets.

    Attributes
    ----------
    stages : FrozenStages
        Frozen stages that compute activations.
    spec : NetworkSpec
        The network, except its outputs, which the task determines.
    policy : BadSamplePolicy
        Treatment of samples that cannot be read.
    to_task : callable
        Function from the canonical training set to the task, and to the set in the task's terms; with a task as the
        second argument, only the latter.
    plan : TrainingPlan
        How the network is trained.
    penalty : float, "auto" or a tuple of these
        Strength of the probe's penalty, as the task reads it.
    probe_first : bool
        If True, the probe initializes a linear head.
    augment : callable or None
        Random augmentation of training images.
    hold_out : HoldOut
        Held-out samples.
    resume : Resume
        State from which the fit continues.
    shift : DomainShift or None
        Target domain.
    observer : EpochObserver or None
        Callbacks, which receive functions that make a :class:`TuningResult`.
    """

    stages: FrozenStages
    spec: NetworkSpec
    policy: BadSamplePolicy
    to_task: Callable[..., tuple[Task, TrainingSet]]
    plan: TrainingPlan
    penalty: Any
    probe_first: bool = True
    augment: Augment | None = None
    hold_out: HoldOut = HoldOut()
    resume: Resume = Resume()
    shift: DomainShift | None = None
    observer: EpochObserver | None = None

    def at(self, boundary: int) -> "TuningJob":
        """The same with another number of frozen stages."""
        return replace(self, spec=replace(self.spec, boundary=boundary))

    @property
    def is_probe(self) -> bool:
        """True if all stages are frozen, the head is linear and images stay the same: then the probe is the fit."""
        all_frozen = self.spec.boundary == self.spec.last(self.stages.backbone.n_stages)
        trains_head = self.spec.head != "linear" or self.resume.single_pass or self.augment is not None
        return all_frozen and not trains_head and not (self.shift is not None and self.shift.adds_loss)
