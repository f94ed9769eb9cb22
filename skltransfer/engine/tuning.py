"""One fit, from samples to a sleeping network: recall, solve the probe, train what lies after the boundary.

The meeting point of the engine's parts. Must not know X, labels or scikit-learn.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from skltransfer.backbones import fingerprint
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.autocast import autocast
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.inference.recall import run_padded
from skltransfer.engine.job import Tuned, TuningTask
from skltransfer.engine.networks.adapters import adapted
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import SleepingNetwork, TunedNetwork, new_network
from skltransfer.engine.processes import processes
from skltransfer.engine.storing.key import Address
from skltransfer.engine.tasks.probe import LEAST_SCALE, Probe, standardisation
from skltransfer.engine.tasks.task import Head
from skltransfer.engine.training.augmentation import AugmentedActivations
from skltransfer.engine.training.batch_norm import refresh_norms, settle_norms
from skltransfer.engine.training.checkpoint import Checkpoint
from skltransfer.engine.training.domain_losses import Companion
from skltransfer.engine.training.loop import (
    History,
    SoFar,
    TrainingPlan,
    Validation,
    batches,
    joined_history,
    train,
)
from skltransfer.engine.training.training_set import TrainingSet, canonical, repeated, split
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples

INITIAL_FRACTION = 0.1  # of the probe's weights, at which a head starts whose features will be trained


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
    activations = activations_of(task.stages, task.spec, samples, task.policy)
    distinct = canonical(activations.digests, targets, weights)
    if not len(distinct):
        raise ValueError(f"None of the {len(samples)} samples could be read.") from next(iter(activations.bad.values()))
    head, data = task.to_head(distinct)
    task = replace(task, spec=replace(task.spec, n_outputs=head.n_outputs, n_constants=head.n_constants))
    purpose, held_out = task.hold_out, None
    if purpose.calibrates or (purpose.stops_early and not task.is_probe):
        why = "early_stopping=True" if purpose.stops_early else "calibrate"
        data, held_out = split(data, purpose.fraction, task.plan.seed, head.strata(data.targets), why)
    work = _Work(task, samples, activations, head, data, held_out)
    network = _starting_network(task)
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
    stages, backbone = task.stages, task.stages.backbone
    if stages.device.type != "cpu" or stages.autocast is None:
        return stages.autocast
    parts = backbone.prefix(task.spec.boundary, backbone.n_stages).modules()
    is_grouped = any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in parts)
    return None if is_grouped else stages.autocast


def _starting_network(task: TuningTask) -> TunedNetwork:
    backbone, device = task.stages.backbone, task.stages.device
    if task.resume.start is not None:
        return task.resume.start.private_copy(backbone, device)
    return new_network(backbone, task.spec, seed=task.plan.seed).to(device)


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
    activations = activations_of(stages, network.spec, samples, policy)
    awake, rows = network.awake(stages.backbone, stages.device), np.arange(len(samples))
    if head is None:
        values = _in_batches(awake.features, activations, rows, stages)
    else:
        values = _in_batches(awake, activations, rows, stages, head.of_windows)
    values[sorted(activations.bad)] = np.nan
    return values, activations.bad


def activations_of(stages: FrozenStages, spec: NetworkSpec, samples: Samples, policy: BadSamplePolicy) -> Activations:
    """Activations at a network's boundary: at the last one pooled, before it as they are."""
    return Activations(stages, samples, _address(stages, spec), policy)


def _address(stages: FrozenStages, spec: NetworkSpec) -> Address:
    at_the_top = spec.boundary == stages.backbone.n_stages
    return stages.address(spec.boundary, spec.pooling if at_the_top else None)


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
        if task.resume.start is not None and not task.is_probe:
            return None
        if task.plan.norm_policy == "train" and network.suffix is not None:
            self._settle(network)
        elif self._moves_norms:
            self._refresh(network, self.activations, data.rows)
        features = _in_batches(network.eval().features, self.activations, data.rows, task.stages)
        if task.spec.normalizes:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            scaling = (np.zeros(features.shape[1]), np.ones(features.shape[1]))
        else:
            scaling = standardisation(features, data.weights, floor=LEAST_SCALE)
        state = dict(zip(("mean", "scale"), scaling, strict=True))
        probe = None
        if task.is_probe or (task.probe_first and task.spec.head == "linear" and not task.resume.single_pass):
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
            self._refresh(network, *_of_target(task))
        if task.hold_out.calibrates:
            outputs = _in_batches(network.eval(), self.activations, held_out.rows, task.stages, head.of_windows)
            head = head.calibrated(outputs, held_out.targets, held_out.weights)
        return Tuned(
            network=SleepingNetwork.put_to_sleep(network, task.stages.backbone),
            head=head,
            history=history,
            n_iter=n_iter,
            n_trainable=sum(p.numel() for group in _trainable(task, network) for p in group["params"]),
            bad=sorted(self.activations.bad),
            duplicates=repeated(self.activations.digests),
        )

    @property
    def _moves_norms(self) -> bool:
        return self.task.shift is not None and self.task.shift.moves_norms

    def _refresh(self, network: TunedNetwork, activations: Activations, rows: np.ndarray) -> None:
        task = self.task

        def batches() -> Iterator[torch.Tensor]:
            return (batch for _, batch in activations.exact_batches(rows, task.stages.batch))

        with autocast(task.stages.device, task.stages.autocast):
            refreshed = refresh_norms(network, batches, task.shift.prior)
        if not refreshed:
            raise ValueError(
                f"method='norm_statistics' finds no BatchNorm in {task.stages.backbone.name!r} after "
                f"{task.spec.boundary} frozen stages. Freeze less, or choose another method."
            )


def _of_target(task: TuningTask) -> tuple[Activations, np.ndarray]:
    """The target domain's activations, and its readable rows in an order that only their content decides."""
    activations = activations_of(task.stages, task.spec, task.shift.target, task.policy)
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
        history = joined_history(self._past, history)
        return self._work.result(network, history, len(history["loss"]))


def _train_in_phases(work: _Work, network: TunedNetwork) -> History:
    """Train what lies after the boundary: at once, or at later boundaries first, a share of the epochs at each."""
    task, history = work.task, {}
    n_stages, boundaries = task.stages.backbone.n_stages, [task.spec.boundary]
    if task.plan.unfreeze_schedule == "gradual" and task.spec.boundary < n_stages:
        boundaries = list(range(n_stages - 1, task.spec.boundary - 1, -1))
    for boundary, epochs in zip(
        boundaries, np.array_split(np.arange(task.plan.max_epochs), len(boundaries)), strict=True
    ):
        if not len(epochs):
            continue
        watch = None if task.watch is None else _PhaseWatch(work, network, history)
        plan = replace(task.plan, max_epochs=len(epochs))
        history = joined_history(history, _train_from(boundary, work, network, plan, watch))
        if watch is not None and processes().same(watch.has_ended):
            break
    return history


def _train_from(
    boundary: int, work: _Work, network: TunedNetwork, plan: TrainingPlan, watch: _PhaseWatch | None
) -> History:
    """Train a network's part after a boundary, at or after its own."""
    task, part, seen = work.task, network, work.activations
    if boundary != task.spec.boundary:
        task = task.at(boundary)
        part = _from(network, task)
        seen = activations_of(task.stages, task.spec, work.samples, task.policy)
    watched, hold_out, place = None, task.hold_out, None
    if hold_out.stops_early and work.held_out is not None:
        watched = Validation(work.held_out, hold_out.n_iter_no_change, hold_out.tol)
    if task.resume.checkpoint is not None:
        place = Checkpoint(task.resume.checkpoint, _key(task, part, work, plan, watched))
    if task.augment is not None:
        address = _address(task.stages, task.spec)
        seen = AugmentedActivations(seen, task.stages, work.samples, address, task.augment)
    groups = _trainable(task, part)
    part.is_headless = task.contrasts
    beside = None
    if task.shift is not None and task.shift.adds_loss:
        beside = Companion(*_of_target(task), task.shift.method, task.shift.weight, plan.batch_size, plan.seed)
    history = train(part, groups, seen, work.data, work.head.loss, plan, watched, place, watch, beside)
    part.is_headless = False
    network.load_state_dict(part.state_dict(), strict=False)
    return history


def _key(task: TuningTask, start: TunedNetwork, work: _Work, plan: TrainingPlan, watched: Validation | None) -> str:
    """Names a training by all that decides its result."""
    rates = (repr(vars(work.head)), task.spec.pooling)
    if task.shift is not None and task.shift.adds_loss:
        target = b"".join(sorted(_of_target(task)[0].digests))
        rates += (task.shift.method, task.shift.weight, target)
    sets = [work.data.content()]
    if watched is not None:
        sets += [watched.data.content(), watched.n_iter_no_change, watched.tol]
    state = {key: value.cpu() for key, value in start.state_dict().items()}
    context = (task.stages.space, task.spec.boundary, replace(plan, verbose=0), rates, sets, repr(task.augment))
    return fingerprint(state, *context)


def _from(network: TunedNetwork, task: TuningTask) -> TunedNetwork:
    """A copy of the part of a network that comes after the task's boundary."""
    part, state = new_network(task.stages.backbone, task.spec, seed=task.plan.seed), network.state_dict()
    part.load_state_dict({key: state[key] for key in part.state_dict()})
    return part.to(task.stages.device)


def _trainable(task: TuningTask, network: TunedNetwork) -> list[dict]:
    """All that the optimiser gets: the head, and each unfrozen stage, or its adapters, at its own rate."""
    backbone = task.stages.backbone
    own = {name.removeprefix("suffix."): p for name, p in network.named_parameters() if name.startswith("suffix.")}
    if task.spec.adapter is None:
        of_weight = {name: [p] for name, p in own.items()}
    else:
        of_weight = {adapted(name): [] for name in own}
        for name, p in own.items():
            of_weight[adapted(name)].append(p)
    groups = [{"params": list(network.head.parameters()), "lr_factor": 1.0}]
    for stage in range(task.spec.boundary, backbone.n_stages):
        params = [p for name in backbone.stage_parameters(stage) for p in of_weight.get(name, [])]
        factor = task.plan.backbone_lr_factor * task.plan.layer_decay ** (backbone.n_stages - 1 - stage)
        groups.append({"params": params, "lr_factor": factor})
    return groups
