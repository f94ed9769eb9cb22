"""One fit, from samples to a sleeping network: recall, solve the probe, train what lies after the boundary.

The meeting point of the engine's parts. Must not know X, labels or scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from skltransfer.engine._forward import Activations, run_padded
from skltransfer.engine._frozen import FrozenStages
from skltransfer.engine._heads import Head, Probe, standardisation
from skltransfer.engine._networks import SleepingNetwork, TunedNetwork, new_network
from skltransfer.engine._reading import BadSamplePolicy
from skltransfer.engine._training import TrainingPlan, autocast, train
from skltransfer.engine._training_set import TrainingSet, canonical, repeated, split
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples

LEAST_SCALE = 0.1


@dataclass(frozen=True)
class TuningTask:
    """What :func:`tune` is to do.

    Attributes
    ----------
    stages : FrozenStages
    boundary : int
        Number of frozen stages.
    pooling : str
    policy : BadSamplePolicy
    to_head : callable
        From the canonical training set to the head, and to the set in the head's terms.
    plan : TrainingPlan
    strength : float
        Of the probe's penalty, as its head reads it.
    hidden : bool
        Whether the head has a hidden layer.
    probe_first : bool
        Whether the probe initialises a linear head.
    backbone_lr_factor, layer_decay : float
        Rate of the last stage relative to the head's, and of each stage relative to the next.
    validation_fraction : float or None
    single_pass : bool
        Go on without probe: ``partial_fit``.
    start : SleepingNetwork or None
    """

    stages: FrozenStages
    boundary: int
    pooling: str
    policy: BadSamplePolicy
    to_head: Callable[[TrainingSet], tuple[Head, TrainingSet]]
    plan: TrainingPlan
    strength: float
    hidden: bool = False
    probe_first: bool = True
    backbone_lr_factor: float = 0.1
    layer_decay: float = 1.0
    validation_fraction: float | None = None
    single_pass: bool = False
    start: SleepingNetwork | None = None

    @property
    def is_probe(self) -> bool:
        """Whether all stages are frozen and the head is linear: then the probe is the whole fit."""
        return self.boundary == self.stages.backbone.n_stages and not self.hidden and not self.single_pass


@dataclass(frozen=True)
class Tuned:
    """What :func:`tune` returns.

    Attributes
    ----------
    network : SleepingNetwork
    head : ClassificationHead or RegressionHead
    history : dict of str to list of float
    n_iter : int
    n_trainable : int
        Number of parameters that were trained.
    bad : list of int
        Samples that were left out.
    duplicates : list of list of int
        Samples of equal content.
    """

    network: SleepingNetwork
    head: Head
    history: dict[str, list[float]]
    n_iter: int
    n_trainable: int
    bad: list[int]
    duplicates: list[list[int]]


def tune(task: TuningTask, samples: Samples, targets: np.ndarray, weights: np.ndarray) -> Tuned:
    """Fit a head, and the stages after the boundary, to samples.

    Parameters
    ----------
    task : TuningTask
    samples : Samples, length n
    targets, weights : ndarray of shape (n,)

    Raises
    ------
    ValueError
        If no sample could be read, or early stopping finds none to hold out.
    """
    activations = _activations(task.stages, task.boundary, task.pooling, samples, task.policy)
    distinct = canonical(activations.digests, targets, weights)
    if not len(distinct):
        raise ValueError(f"None of the {len(samples)} samples could be read.") from next(iter(activations.bad.values()))
    head, data = task.to_head(distinct)
    validation = None
    if task.validation_fraction is not None and not task.is_probe:
        data, validation = split(data, task.validation_fraction, task.plan.seed, head.strata(data.targets))
    network = _starting_network(task, head)
    plan = replace(task.plan, autocast=_autocast_dtype(task.stages))
    probe = _initialise(task, network, activations, data, head, plan)
    groups = _trainable(task, network)
    if task.is_probe:
        history, n_iter = {"loss": [probe.loss]}, probe.n_iter
    else:
        history = train(network, groups, activations, data, head.loss, plan, validation)
        n_iter = len(history["loss"])
    return Tuned(
        network=SleepingNetwork.put_to_sleep(network, task.stages.backbone, task.boundary),
        head=head,
        history=history,
        n_iter=n_iter,
        n_trainable=sum(p.numel() for group in groups for p in group["params"]),
        bad=sorted(activations.bad),
        duplicates=repeated(activations.digests),
    )


def _starting_network(task: TuningTask, head: Head) -> TunedNetwork:
    backbone, device = task.stages.backbone, task.stages.device
    if task.start is not None:
        return task.start.private_copy(backbone, device)
    return new_network(
        backbone, task.boundary, task.pooling, head.n_outputs, hidden=task.hidden, seed=task.plan.seed
    ).to(device)


def run_tuned(
    network: SleepingNetwork, stages: FrozenStages, samples: Samples, policy: BadSamplePolicy, *, features: bool
) -> tuple[np.ndarray, dict[int, BadSampleError]]:
    """Outputs, or pooled features, of a tuned network: float64 (n, ...), NaN where a sample could not be read."""
    activations = _activations(stages, network.boundary, network.pooling, samples, policy)
    awake = network.awake(stages.backbone, stages.device)
    values = _in_batches(awake.features if features else awake, activations, np.arange(len(samples)), stages)
    values[sorted(activations.bad)] = np.nan
    return values, activations.bad


def _activations(stages: FrozenStages, boundary: int, pooling: str, samples: Samples, policy) -> Activations:
    """At the last boundary pooled, before it as they are."""
    at_the_top = boundary == stages.backbone.n_stages
    return Activations(stages, samples, stages.address(boundary, pooling if at_the_top else None), policy)


def _in_batches(module: Callable, activations: Activations, rows: np.ndarray, stages: FrozenStages) -> np.ndarray:
    values: np.ndarray | None = None
    with torch.inference_mode(), autocast(stages.device, _autocast_dtype(stages)):
        for members, batch in activations.exact_batches(rows, stages.batch):
            part = run_padded(module, batch, stages.batch).float().cpu().numpy()
            values = np.empty((len(rows), *part.shape[1:])) if values is None else values
            values[members] = part
    return values


def _autocast_dtype(stages: FrozenStages) -> torch.dtype | None:
    return None if stages.dtype == torch.float32 else stages.dtype


def _initialise(
    task: TuningTask, network: TunedNetwork, activations: Activations, data: TrainingSet, head: Head, plan: TrainingPlan
) -> Probe | None:
    """Standardise the features, and let the probe (Kumar et al. 2022) begin the head; not where training goes on."""
    if task.start is not None and not task.is_probe:
        return None
    features = _in_batches(network.eval().features, activations, data.rows, task.stages)
    scaling = standardisation(features, data.weights, floor=0.0 if task.is_probe else LEAST_SCALE)
    state = dict(zip(("mean", "scale"), scaling, strict=True))
    probe = None
    if task.is_probe or (task.probe_first and not task.hidden and not task.single_pass):
        probe = head.solve_probe(features, data.targets, data.loss_weights, scaling, task.strength)
        state |= {"head.0.weight": probe.weight, "head.0.bias": probe.bias}
    network.load_state_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in state.items()}, strict=False)
    return probe


def _trainable(task: TuningTask, network: TunedNetwork) -> list[dict]:
    """All that the optimiser gets: the head, and each unfrozen stage at its own rate."""
    backbone, parameters = task.stages.backbone, dict(network.named_parameters())
    groups = [{"params": list(network.head.parameters()), "lr_factor": 1.0}]
    for stage in range(task.boundary, backbone.n_stages):
        names = [f"suffix.{name}" for name in backbone.stage_parameters(stage)]
        factor = task.backbone_lr_factor * task.layer_decay ** (backbone.n_stages - 1 - stage)
        groups.append({"params": [parameters[name] for name in names], "lr_factor": factor})
    return groups
