"""One fit, from samples to a sleeping network: recall, solve the probe, train what lies after the boundary.

The meeting point of the engine's parts. Must not know X, labels or scikit-learn.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from skltransfer.backbones import fingerprint
from skltransfer.engine._adaptation import Companion, refresh_norms
from skltransfer.engine._adapters import adapted
from skltransfer.engine._address import Address
from skltransfer.engine._augmented import Augment, AugmentedActivations
from skltransfer.engine._autocast import autocast
from skltransfer.engine._checkpoint import Checkpoint
from skltransfer.engine._dataset import Activations
from skltransfer.engine._forward import run_padded
from skltransfer.engine._frozen import FrozenStages
from skltransfer.engine._heads import LEAST_SCALE, Head, Probe, Strength, standardisation
from skltransfer.engine._networks import SleepingNetwork, TunedNetwork, new_network
from skltransfer.engine._processes import processes
from skltransfer.engine._reading import BadSamplePolicy
from skltransfer.engine._training import History, SoFar, TrainingPlan, batches, settle_norms, train
from skltransfer.engine._training_set import TrainingSet, canonical, repeated, split
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples

INITIAL_FRACTION = 0.1  # of the probe's weights, at which a head starts whose features will be trained


class FitWatch(Protocol):
    """Told of each epoch of a fit; ``now`` makes what the fit would return if it ended here."""

    def epoch_begins(self, now: "Callable[[], Tuned]") -> None:
        """Called before an epoch."""

    def epoch_ends(self, now: "Callable[[], Tuned]") -> bool:
        """Called after an epoch; whether the fit is to end."""


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
    strength : float or "auto"
        Of the probe's penalty, as its head reads it.
    hidden : bool
        Whether the head has a hidden layer.
    probe_first : bool
        Whether the probe initialises a linear head.
    backbone_lr_factor, layer_decay : float
        Rate of the last stage relative to the head's, and of each stage relative to the next.
    stops_early, calibrates : bool
        What a held-out part is for: each needs one.
    validation_fraction : float
        Of samples to hold out.
    unfreezes_gradually : bool
        Train the last stage first, then one more at a time, down to the boundary.
    adapter : {"lora"} or None
        What is trained of the unfrozen stages: adapters, or all of their weights.
    augment : callable or None
        Changes training pictures at random.
    checkpoint : Path or None
        Folder in which training leaves its state after each epoch.
    single_pass : bool
        Go on without probe: ``partial_fit``.
    start : SleepingNetwork or None
    watch : FitWatch or None
    sphere : bool
        Whether the head sees features scaled to length 1, not standardised ones.
    contrasts : bool
        Train the stages without a head, and solve the probe afterwards.
    target : Samples or None
        Of another domain, without labels.
    adaptation : {"mcc", "deep_coral", "norm_statistics"} or None
        How to draw that domain near.
    adaptation_weight, prior : float
        Of the loss; samples that old statistics are worth.
    """

    stages: FrozenStages
    boundary: int
    pooling: str
    policy: BadSamplePolicy
    to_head: Callable[[TrainingSet], tuple[Head, TrainingSet]]
    plan: TrainingPlan
    strength: Strength
    hidden: bool = False
    probe_first: bool = True
    backbone_lr_factor: float = 0.1
    layer_decay: float = 1.0
    stops_early: bool = False
    calibrates: bool = False
    validation_fraction: float = 0.1
    unfreezes_gradually: bool = False
    adapter: str | None = None
    augment: Augment | None = None
    checkpoint: Path | None = None
    single_pass: bool = False
    start: SleepingNetwork | None = None
    watch: FitWatch | None = None
    sphere: bool = False
    contrasts: bool = False
    target: Samples | None = None
    adaptation: str | None = None
    adaptation_weight: float = 1.0
    prior: float = 0.0

    @property
    def has_companion(self) -> bool:
        """Whether a loss on the target domain is added in training."""
        return self.target is not None and self.adaptation in ("mcc", "deep_coral")

    @property
    def is_probe(self) -> bool:
        """Whether all stages are frozen, the head is linear and pictures stay the same: then the probe is the fit."""
        all_frozen = self.boundary == self.stages.backbone.n_stages
        trains = self.hidden or self.single_pass or self.augment is not None or self.has_companion
        return all_frozen and not trains


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


@torch.inference_mode(False)
@torch.enable_grad()
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
    task = replace(task, plan=_settled(task))
    activations = activations_of(task.stages, task.boundary, task.pooling, samples, task.policy)
    distinct = canonical(activations.digests, targets, weights)
    if not len(distinct):
        raise ValueError(f"None of the {len(samples)} samples could be read.") from next(iter(activations.bad.values()))
    head, data = task.to_head(distinct)
    held_out = None
    if task.calibrates or (task.stops_early and not task.is_probe):
        why = "early_stopping=True" if task.stops_early else "calibrate"
        data, held_out = split(data, task.validation_fraction, task.plan.seed, head.strata(data.targets), why)
    work = _Work(task, samples, activations, head, data, held_out)
    network = _starting_network(task, head)
    probe = work.initialise(network, trains=not task.is_probe)
    if task.is_probe:
        return work.result(network, {"loss": [probe.loss]}, probe.n_iter)
    history = _train_in_phases(work, network)
    return work.result(network, history, len(history["loss"]))


def _settled(task: TuningTask) -> TrainingPlan:
    """With the dtype to train in, and one seed for all processes."""
    return replace(task.plan, autocast=_training_dtype(task), seed=processes().same(task.plan.seed))


def _training_dtype(task: TuningTask) -> torch.dtype | None:
    """That of the stages; but on a processor, gradients of grouped convolutions take 2.6 times as long in bfloat16 as
    in float32."""
    backbone, is_on_cpu = task.stages.backbone, task.stages.device.type == "cpu"
    suffix = backbone.prefix(task.boundary, backbone.n_stages) if is_on_cpu and task.stages.autocast else nn.Identity()
    is_grouped = any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in suffix.modules())
    return None if is_grouped else task.stages.autocast


def _starting_network(task: TuningTask, head: Head) -> TunedNetwork:
    backbone, device = task.stages.backbone, task.stages.device
    if task.start is not None:
        return task.start.private_copy(backbone, device)
    return _network_after(task, task.boundary, head)


def _network_after(task: TuningTask, boundary: int, head: Head) -> TunedNetwork:
    return new_network(
        task.stages.backbone,
        boundary,
        task.pooling,
        head.n_outputs,
        hidden=task.hidden,
        seed=task.plan.seed,
        adapter=task.adapter,
        sphere=task.sphere,
        n_constants=getattr(head, "n_constants", 0),
    ).to(task.stages.device)


def run_tuned(
    network: SleepingNetwork,
    stages: FrozenStages,
    samples: Samples,
    policy: BadSamplePolicy,
    *,
    head: Head | None = None,
) -> tuple[np.ndarray, dict[int, BadSampleError]]:
    """Outputs of a tuned network, or without a head its pooled features: float64 (n, ...), NaN for unreadable samples.

    Features of a sample's windows are averaged; the head says what outputs of windows mean together.
    """
    activations = activations_of(stages, network.boundary, network.pooling, samples, policy)
    awake, rows = network.awake(stages.backbone, stages.device), np.arange(len(samples))
    if head is None:
        values = _in_batches(awake.features, activations, rows, stages)
    else:
        values = _in_batches(awake, activations, rows, stages, head.of_windows)
    values[sorted(activations.bad)] = np.nan
    return values, activations.bad


def activations_of(stages: FrozenStages, boundary: int, pooling: str, samples: Samples, policy) -> Activations:
    return Activations(stages, samples, _address(stages, boundary, pooling), policy)


def _address(stages: FrozenStages, boundary: int, pooling: str) -> Address:
    """At the last boundary pooled, before it as they are."""
    at_the_top = boundary == stages.backbone.n_stages
    return stages.address(boundary, pooling if at_the_top else None)


def _in_batches(
    module: Callable,
    activations: Activations,
    rows: np.ndarray,
    stages: FrozenStages,
    of_windows: Callable[[np.ndarray], np.ndarray] = lambda values: values.mean(0),
) -> np.ndarray:
    """What a module says of each row, (n, d); ``of_windows`` makes one row of those of a sample's windows."""
    owners, values = [], []
    with torch.inference_mode(), autocast(stages.device, stages.autocast):
        for members, batch in activations.exact_batches(rows, stages.batch):
            owners.append(members)
            values.append(run_padded(module, batch, stages.batch).double().cpu().numpy())
    owner, value = np.concatenate(owners), np.concatenate(values)
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    if len(starts) == len(order):
        return value[order]
    return np.stack([part[0] if len(part) == 1 else of_windows(part) for part in np.split(value[order], starts[1:])])


@dataclass(frozen=True)
class _Work:
    """A task with the samples it is about.

    Attributes
    ----------
    task : TuningTask
    samples : Samples
    activations : Activations
    head : Head
    data : TrainingSet
    held_out : TrainingSet or None
        For early stopping or calibration.
    """

    task: TuningTask
    samples: Samples
    activations: Activations
    head: Head
    data: TrainingSet
    held_out: TrainingSet | None

    def initialise(self, network: TunedNetwork, *, trains: bool) -> Probe | None:
        """Standardise the features; the probe (Kumar et al. 2022) may begin the head. Not where training goes on.

        A head that ``trains`` starts at a fraction of the probe. The whole probe hardly errs on the samples that it was
        solved on, so the backbone would get little gradient but noise, and AdamW takes long steps all the same.
        """
        task, data = self.task, self.data
        if task.start is not None and not task.is_probe:
            return None
        if task.plan.norm_policy == "train" and network.suffix is not None:
            self._settle(network)
        elif self._moves_norms:
            self._refresh(network, self.activations, data.rows)
        features = _in_batches(network.eval().features, self.activations, data.rows, task.stages)
        if task.sphere:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            scaling = (np.zeros(features.shape[1]), np.ones(features.shape[1]))
        else:
            scaling = standardisation(features, data.weights, floor=LEAST_SCALE)
        state = dict(zip(("mean", "scale"), scaling, strict=True))
        probe = None
        if task.is_probe or (task.probe_first and not task.hidden and not task.single_pass):
            probe = self.head.solve_probe(features, data.targets, data.loss_weights, scaling, task.strength)
            fraction = self._initial_fraction(probe) if trains and network.suffix is not None else 1.0
            state |= {"head.0.weight": fraction * probe.weight, "head.0.bias": fraction * probe.bias}
        network.load_state_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in state.items()}, strict=False)
        return probe

    def _initial_fraction(self, probe: Probe) -> float:
        """The least from which training can still grow the probe back, and ``INITIAL_FRACTION`` at least."""
        typical_weight = float(np.sqrt(np.mean(probe.weight**2)))
        if typical_weight == 0:
            return 1.0
        return max(INITIAL_FRACTION, 1 - self.task.plan.max_weight_change(len(self.data)) / typical_weight)

    def _settle(self, network: TunedNetwork) -> None:
        """Statistics that training will replace at once must not decide how features are scaled."""
        plan, rows = self.task.plan, self.data.rows
        with autocast(self.task.stages.device, plan.autocast):
            settle_norms(
                network, (self.activations.take(rows[part]) for part in batches(np.arange(len(rows)), plan.batch_size))
            )

    def result(self, network: TunedNetwork, history: History, n_iter: int) -> Tuned:
        """What the fit returns if it ends with this network; its head is calibrated here."""
        task, head, held_out = self.task, self.head, self.held_out
        if task.contrasts and not task.is_probe:
            self.initialise(network, trains=False)
        if self._moves_norms:
            self._refresh(network, *_of_target(task, task.boundary))
        if task.calibrates:
            outputs = _in_batches(network.eval(), self.activations, held_out.rows, task.stages, head.of_windows)
            head = head.calibrated(outputs, held_out.targets, held_out.weights)
        return Tuned(
            network=SleepingNetwork.put_to_sleep(network, task.stages.backbone, task.boundary, task.adapter),
            head=head,
            history=history,
            n_iter=n_iter,
            n_trainable=sum(p.numel() for group in _trainable(task, network) for p in group["params"]),
            bad=sorted(self.activations.bad),
            duplicates=repeated(self.activations.digests),
        )

    @property
    def _moves_norms(self) -> bool:
        return self.task.target is not None and self.task.adaptation == "norm_statistics"

    def _refresh(self, network: TunedNetwork, activations: Activations, rows: np.ndarray) -> None:
        task = self.task

        def batches() -> Iterator[torch.Tensor]:
            return (batch for _, batch in activations.exact_batches(rows, task.stages.batch))

        with autocast(task.stages.device, task.stages.autocast):
            refreshed = refresh_norms(network, batches, task.prior)
        if not refreshed:
            raise ValueError(
                f"method='norm_statistics' finds no BatchNorm in {task.stages.backbone.name!r} after "
                f"{task.boundary} frozen stages. Freeze less, or choose another method."
            )


def _of_target(task: TuningTask, boundary: int) -> tuple[Activations, np.ndarray]:
    """The target domain's activations, and its readable rows in an order that only their content decides."""
    activations = activations_of(task.stages, boundary, task.pooling, task.target, task.policy)
    readable = np.flatnonzero([bool(digest) for digest in activations.digests])
    return activations, np.array(sorted(readable, key=lambda row: activations.digests[row]))


class _PhaseWatch:
    """Passes on the epochs of one phase, with the whole network as if the fit ended there."""

    def __init__(self, work: _Work, network: TunedNetwork, past: History) -> None:
        self._work, self._network, self._past, self.has_ended = work, network, past, False

    def epoch_begins(self, so_far: SoFar) -> None:
        self._work.task.watch.epoch_begins(lambda: self._result(so_far))

    def epoch_ends(self, so_far: SoFar) -> bool:
        self.has_ended = bool(self._work.task.watch.epoch_ends(lambda: self._result(so_far)))
        return self.has_ended

    def _result(self, so_far: SoFar) -> Tuned:
        state, history = so_far()
        network = copy.deepcopy(self._network)
        network.load_state_dict(state, strict=False)
        history = _joined(self._past, history)
        return self._work.result(network, history, len(history["loss"]))


def _train_in_phases(work: _Work, network: TunedNetwork) -> History:
    """Train what lies after the boundary: at once, or at later boundaries first, a share of the epochs at each."""
    task, history = work.task, {}
    n_stages, boundaries = task.stages.backbone.n_stages, [task.boundary]
    if task.unfreezes_gradually and task.boundary < n_stages:
        boundaries = list(range(n_stages - 1, task.boundary - 1, -1))
    for boundary, epochs in zip(
        boundaries, np.array_split(np.arange(task.plan.max_epochs), len(boundaries)), strict=True
    ):
        if not len(epochs):
            continue
        watch = None if task.watch is None else _PhaseWatch(work, network, history)
        plan = replace(task.plan, max_epochs=len(epochs))
        history = _joined(history, _train_from(boundary, work, network, plan, watch))
        if watch is not None and processes().same(watch.has_ended):
            break
    return history


def _train_from(
    boundary: int, work: _Work, network: TunedNetwork, plan: TrainingPlan, watch: _PhaseWatch | None
) -> History:
    """Train a network's part after a boundary, at or after its own."""
    task, part, seen = work.task, network, work.activations
    if boundary != task.boundary:
        part = _from(network, boundary, task, work.head)
        seen = activations_of(task.stages, boundary, task.pooling, work.samples, task.policy)
    address = _address(task.stages, boundary, task.pooling)
    watched = work.held_out if task.stops_early else None
    place = None
    if task.checkpoint is not None:
        sets = [chosen for chosen in (work.data, watched) if chosen is not None]
        place = Checkpoint(task.checkpoint, _key(task, part, sets, boundary, plan, work.head))
    if task.augment is not None:
        seen = AugmentedActivations(seen, task.stages, work.samples, address, task.augment)
    groups = _trainable(replace(task, boundary=boundary), part)
    part.is_headless = task.contrasts
    beside = None
    if task.has_companion:
        weight, size = task.adaptation_weight, plan.batch_size
        beside = Companion(*_of_target(task, boundary), task.adaptation, weight, size, plan.seed)
    history = train(part, groups, seen, work.data, work.head.loss, plan, watched, place, watch, beside)
    part.is_headless = False
    network.load_state_dict(part.state_dict(), strict=False)
    return history


def _joined(past: History, new: History) -> History:
    return {key: [*past.get(key, []), *values] for key, values in new.items()}


def _key(task: TuningTask, start: TunedNetwork, parts: Sequence[TrainingSet], boundary: int, plan, head) -> str:
    """Names a training by all that decides its result."""
    rates = (task.backbone_lr_factor, task.layer_decay, repr(vars(head)), task.pooling)
    if task.has_companion:
        target = b"".join(sorted(_of_target(task, boundary)[0].digests))
        rates += (task.adaptation, task.adaptation_weight, target)
    sets = [part.content() for part in parts]
    state = {key: value.cpu() for key, value in start.state_dict().items()}
    return fingerprint(state, task.stages.space, boundary, replace(plan, verbose=0), rates, sets, repr(task.augment))


def _from(network: TunedNetwork, boundary: int, task: TuningTask, head: Head) -> TunedNetwork:
    """A copy of the part of a network that comes after a later boundary."""
    part, state = _network_after(task, boundary, head), network.state_dict()
    part.load_state_dict({key: state[key] for key in part.state_dict()})
    return part


def _trainable(task: TuningTask, network: TunedNetwork) -> list[dict]:
    """All that the optimiser gets: the head, and each unfrozen stage, or its adapters, at its own rate."""
    backbone = task.stages.backbone
    own = {name.removeprefix("suffix."): p for name, p in network.named_parameters() if name.startswith("suffix.")}
    if task.adapter is None:
        of_weight = {name: [p] for name, p in own.items()}
    else:
        of_weight = {adapted(name): [] for name in own}
        for name, p in own.items():
            of_weight[adapted(name)].append(p)
    groups = [{"params": list(network.head.parameters()), "lr_factor": 1.0}]
    for stage in range(task.boundary, backbone.n_stages):
        params = [p for name in backbone.stage_parameters(stage) for p in of_weight.get(name, [])]
        factor = task.backbone_lr_factor * task.layer_decay ** (backbone.n_stages - 1 - stage)
        groups.append({"params": params, "lr_factor": factor})
    return groups
