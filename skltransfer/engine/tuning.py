"""One fit, from samples to a network's state: recall, solve the probe, train what lies after the boundary.

The meeting point of the engine's parts. Must not know X, labels or scikit-learn.
"""

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from skltransfer._system.autocast import autocast
from skltransfer.backbones import Backbone, fingerprint
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.quantization import ENOUGH, Agreement, checked_cosine, equal_share, in_float32
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.job import TuningJob, TuningResult
from skltransfer.engine.networks.adapters import adapted
from skltransfer.engine.networks.state import NetworkState
from skltransfer.engine.networks.tuned import TunedNetwork, new_network
from skltransfer.engine.processes import processes
from skltransfer.engine.samplewise import (
    activations_of,
    addresses_of,
    each_batch,
    features_before_training,
    features_of,
    in_batches,
    loss_of_votes,
    of_inputs,
    outputs_of,
)
from skltransfer.engine.tasks.probe import Probe
from skltransfer.engine.tasks.targets import RecordTargets, Targets
from skltransfer.engine.tasks.task import OverSamples, Start, Task, VectorTask
from skltransfer.engine.training.augmentation import AugmentedActivations
from skltransfer.engine.training.batch_norm import average_norms, refresh_norms
from skltransfer.engine.training.checkpoint import Checkpoint
from skltransfer.engine.training.domain_losses import DomainLoss
from skltransfer.engine.training.loop import History, TrainingPlan, Validation, batches, joined_history, train
from skltransfer.engine.training.observer import EpochObserver
from skltransfer.engine.training.training_set import TrainingSet, canonical, repeated, split
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples


@torch.inference_mode(False)
@torch.enable_grad()
def tune(
    job: TuningJob, samples: Samples, targets: Targets, weights: np.ndarray, groups: np.ndarray | None = None
) -> TuningResult:
    """Fit a readout, and the stages after the boundary, to samples.

    Parameters
    ----------
    job : TuningJob
        The fit.
    samples : Samples, length n
        Samples.
    targets : Targets, length n
        Targets of the samples.
    weights : ndarray of shape (n,)
        Weights of the samples.
    groups : ndarray of int, shape (n,), optional
        Samples of one group are all held out, or none of them.

    Raises
    ------
    ValueError
        If no sample could be read, or early stopping finds none to hold out.
    """
    job = replace(job, plan=_with_dtype_and_seed(job))
    activations = activations_of(job.stages, job.spec, samples, job.policy)
    distinct, to_validate = _distinct(job, activations, targets, weights, groups)
    if not len(distinct):
        raise ValueError(f"None of the {len(samples)} samples could be read.") from next(iter(activations.bad.values()))
    task, data = job.to_task(distinct)
    backbone, rows, unplaced = job.stages.backbone, data.rows, {}
    if job.augment is not None and isinstance(data.targets, RecordTargets):
        unplaced = dict(zip(rows.tolist(), data.targets.records, strict=True))
    data = _placed(data, task, samples, backbone)
    job = replace(job, spec=replace(job.spec, n_outputs=task.n_outputs, n_constants=task.n_constants))
    purpose, held_out = job.hold_out, None
    if to_validate is not None:
        held_out = _placed(job.to_task(to_validate, task)[1], task, samples, backbone)
    elif purpose.calibrates or (purpose.stops_early and not job.is_probe):
        why = "early_stopping=True" if purpose.stops_early else "calibrate"
        data, held_out = split(data, purpose.fraction, job.plan.seed, task.strata(data.targets), why)
    fit = _Fit(job, samples, activations, task, data, held_out, unplaced)
    if not job.stages.runtime.is_quantized:
        return _fitted(fit)
    some = samples.take(np.sort(data.rows[:ENOUGH]))
    cosine = checked_cosine(job.stages, job.spec.held[-1], some, job.policy)
    result = _fitted(fit)
    return replace(result, agreement=Agreement(cosine, _equal_labels(result, job, some)))


def _distinct(
    job: TuningJob, activations: Activations, targets: Targets, weights: np.ndarray, groups: np.ndarray | None
) -> tuple[TrainingSet, TrainingSet | None]:
    """Distinct samples to learn from, and those to validate on, if they are given."""
    digests = activations.digests
    if job.hold_out.rows is None:
        return canonical(digests, targets, weights, groups), None
    is_given = np.isin(np.arange(len(weights)), job.hold_out.rows)
    to_learn, to_validate = (canonical(digests, targets, np.where(mask, weights, 0)) for mask in (~is_given, is_given))
    if not len(to_validate):
        raise ValueError("None of the samples of X_val could be read.") from next(iter(activations.bad.values()))
    shared = set(to_learn.digests) & set(to_validate.digests)
    if shared:
        warnings.warn(
            f"{len(shared)} of {len(to_validate)} samples of X_val are also in X, so that the validation loss is too "
            "low.",
            stacklevel=2,
        )
    return to_learn, to_validate


def _placed(data: TrainingSet, task: Task, samples: Samples, backbone: Backbone) -> TrainingSet:
    """The same with targets at their places in the network's input."""
    if not len(data):
        raise ValueError("X_val holds nothing to validate on. Add samples.")
    return replace(
        data, targets=task.placed(data.targets, lambda: geometries_of(samples, backbone, data.rows).values())
    )


def _fitted(fit: "_Fit") -> TuningResult:
    network = _starting_network(fit.job, fit.task)
    probe = fit.start(network, trains=not fit.job.is_probe)
    if fit.job.is_probe:
        return fit.result(network, {"loss": [probe.loss]}, probe.n_iter)
    history = _train_in_phases(fit, network)
    return fit.result(network, history, len(history["loss"]))


def _equal_labels(result: TuningResult, job: TuningJob, samples: Samples) -> float | None:
    """Share of samples with the same label in 8 bits and in float32; None where there is not one label per sample."""
    task = result.task
    if not isinstance(task, VectorTask) or not hasattr(task, "classes"):
        return None
    found = [
        task.decode(run_tuned(result.network, stages, samples, job.policy, task)[0])
        for stages in (job.stages, in_float32(job.stages))
    ]
    return equal_share(*found)


def _with_dtype_and_seed(job: TuningJob) -> TrainingPlan:
    """The plan with the dtype to train in, and one seed for all processes."""
    return replace(job.plan, autocast=_training_dtype(job), seed=processes().broadcast(job.plan.seed))


def _training_dtype(job: TuningJob) -> torch.dtype | None:
    """That of the stages; but on a processor, gradients of grouped convolutions take 2.6 times as long in bfloat16 as
    in float32."""
    stages, backbone = job.stages, job.stages.backbone
    if stages.device.type != "cpu" or stages.autocast is None:
        return stages.autocast
    parts = backbone.prefix(job.spec.boundary, backbone.n_stages).modules()
    is_grouped = any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in parts)
    return None if is_grouped else stages.autocast


def _starting_network(job: TuningJob, task: Task) -> TunedNetwork:
    backbone, device = job.stages.backbone, job.stages.device
    if job.resume.start is not None:
        return job.resume.start.trainable(backbone, task.readout, device)
    return new_network(backbone, job.spec, task.readout, seed=job.plan.seed).to(device)


def run_tuned(
    network: NetworkState,
    stages: FrozenStages,
    samples: Samples,
    policy: BadSamplePolicy,
    task: VectorTask,
    *,
    features: bool = False,
) -> tuple[np.ndarray, dict[int, BadSampleError]]:
    """Outputs of a tuned network, or its pooled features: float64 (n, ...), NaN for unreadable samples.

    Features of a sample's windows are averaged, or their maximum is taken; the task says what outputs of windows mean
    together.
    """
    activations = activations_of(stages, network.spec, samples, policy)
    ready, rows = network.for_inference(stages.backbone, task.readout, stages.device), np.arange(len(samples))
    values = (features_of if features else functools.partial(outputs_of, task))(ready, activations, rows, stages)
    values[sorted(activations.bad)] = np.nan
    return values, activations.bad


def answers_of(
    network: NetworkState, stages: FrozenStages, samples: Samples, policy: BadSamplePolicy, task: Task
) -> tuple[list, dict[int, BadSampleError]]:
    """The task's answer for each sample; None for unreadable ones."""
    activations = activations_of(stages, network.spec, samples, policy)
    ready, found = network.for_inference(stages.backbone, task.readout, stages.device), [None] * len(samples)
    readable = np.setdiff1d(np.arange(len(samples)), list(activations.bad))
    geometries = geometries_of(samples, stages.backbone, readable)
    with torch.inference_mode(), autocast(stages.device, stages.autocast):
        for members, batch in activations.exact_batches(readable):
            rows, full = readable[members], stages.filled_after(batch)
            places = [geometries[row] for row in rows] + [None] * (len(full) - len(rows))
            for row, answer in zip(rows, task.answers(ready, full, places), strict=False):  # others fill the batch
                found[row] = answer
    return found, activations.bad


def geometries_of(samples: Samples, backbone: Backbone, rows: np.ndarray) -> dict[int, Any]:
    """Position of each sample, or of its parts, in the backbone's input; None for samples without positions."""
    return {int(row): samples.geometry(row, backbone.preprocessing) for row in rows}


@dataclass(frozen=True)
class _Fit(OverSamples):
    """A job with the samples that it is about.

    Attributes
    ----------
    job : TuningJob
        The fit.
    samples : Samples
        Samples.
    activations : Activations
        Activations of the samples.
    task : Task
        The task.
    data : TrainingSet
        The training set.
    held_out : TrainingSet or None
        Samples that are held out for early stopping or calibration.
    unplaced : dict of int to mapping
        Targets that a random transform of images changes, by row.
    has_trained : bool
        True if stages after the boundary may no longer have the backbone's weights.
    """

    job: TuningJob
    samples: Samples
    activations: Activations
    task: Task
    data: TrainingSet
    held_out: TrainingSet | None
    unplaced: dict[int, Mapping[str, np.ndarray]]
    has_trained: bool = False

    def start(self, network: TunedNetwork, *, trains: bool) -> Probe | None:
        """Let the task set what the readout begins with; not where training goes on."""
        job, data = self.job, self.data
        if job.resume.start is not None and not job.is_probe:
            return None
        if job.plan.norm_policy == "train" and network.suffix is not None:
            self._average_norms(network)
        elif self._moves_norms:
            self._refresh_norms(network, self.activations, data.rows)
        solves = job.is_probe or (job.probe_first and job.spec.head == "linear" and not job.resume.single_pass)
        reach = job.plan.max_weight_change(len(data)) if trains and network.suffix is not None else None
        how = Start(job.penalty, solves, reach)
        return self.task.start(network.eval(), self, data.targets, data.weights, data.loss_weights, how)

    def __call__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        """Values of a function for each sample of the training set; see :class:`OverSamples`."""
        return in_batches(function, self.activations, self.data.rows, self.job.stages)

    def features(self, network: TunedNetwork) -> tuple[np.ndarray, np.ndarray]:
        """What the head learns from, and the samples that it is of; see :class:`OverSamples`."""
        where = (self.activations, self.data.rows, self.job.stages)
        if network.votes:
            return of_inputs(network.features, *where)
        is_changed = self.has_trained or self._moves_norms or self.job.plan.norm_policy == "train"
        features = features_of if is_changed else features_before_training
        return features(network, *where), np.arange(len(self.data))

    def in_batches(self, function: Callable[[torch.Tensor], Any]) -> Iterator[tuple[np.ndarray, Any]]:
        """Values of a function for each batch of the training set; see :class:`OverSamples`."""
        return each_batch(function, self.activations, self.data.rows, self.job.stages)

    def _average_norms(self, network: TunedNetwork) -> None:
        """Statistics that training will replace at once must not decide how features are scaled."""
        plan, rows = self.job.plan, self.data.rows
        with autocast(self.job.stages.device, plan.autocast):
            average_norms(
                network, (self.activations.take(rows[part]) for part in batches(np.arange(len(rows)), plan.batch_size))
            )

    def result(self, network: TunedNetwork, history: History, n_iter: int) -> TuningResult:
        """The result of the fit if it ends with this network; outputs are calibrated here."""
        job, task, held_out = self.job, self.task, self.held_out
        if task.solves_last and not job.is_probe:
            replace(self, has_trained=True).start(network, trains=False)
        if self._moves_norms:
            self._refresh_norms(network, *_of_target(job))
        if job.hold_out.calibrates:
            outputs = outputs_of(task, network.eval(), self.activations, held_out.rows, job.stages)
            task = task.calibrated(outputs, held_out.targets.values, held_out.weights)
        return TuningResult(
            network=NetworkState.of(network, job.stages.backbone),
            task=task,
            history=history,
            n_iter=n_iter,
            n_trainable=sum(p.numel() for group in _trainable(job, network) for p in group["params"]),
            bad=sorted(self.activations.bad),
            duplicates=repeated(self.activations.digests),
        )

    @property
    def _moves_norms(self) -> bool:
        return self.job.shift is not None and self.job.shift.moves_norms

    def _refresh_norms(self, network: TunedNetwork, activations: Activations, rows: np.ndarray) -> None:
        job = self.job

        def batches() -> Iterator[torch.Tensor]:
            return (batch for _, batch in activations.exact_batches(rows))

        with autocast(job.stages.device, job.stages.autocast):
            refreshed = refresh_norms(network, batches, job.shift.prior)
        if not refreshed:
            raise ValueError(
                f"method='norm_statistics' finds no BatchNorm in {job.stages.backbone.name!r} after "
                f"{job.spec.boundary} frozen stages. Freeze less, or choose another method."
            )


def _of_target(job: TuningJob) -> tuple[Activations, np.ndarray]:
    """The target domain's activations, and its readable rows in an order that only their content decides."""
    activations = activations_of(job.stages, job.spec, job.shift.target, job.policy)
    readable = np.flatnonzero([bool(digest) for digest in activations.digests])
    return activations, np.array(sorted(readable, key=lambda row: activations.digests[row]))


def _observed(fit: _Fit, network: TunedNetwork, past: History) -> EpochObserver | None:
    """The observer of one phase, which sees the whole network as if the fit ended there."""

    def result(so_far: tuple[dict[str, torch.Tensor], History]) -> TuningResult:
        state, history = so_far
        whole = copy.deepcopy(network)
        whole.load_state_dict(state, strict=False)
        history = joined_history(past, history)
        return fit.result(whole, history, len(history["loss"]))

    return None if fit.job.observer is None else fit.job.observer.seeing(result)


def _train_in_phases(fit: _Fit, network: TunedNetwork) -> History:
    """Train what lies after the boundary: at once, or at later boundaries first, a share of the epochs at each."""
    job, history = fit.job, {}
    last, boundaries = job.spec.last(job.stages.backbone.n_stages), [job.spec.boundary]
    if job.plan.unfreeze_schedule == "gradual" and job.spec.boundary < last:
        boundaries = list(range(last - 1, job.spec.boundary - 1, -1))
    for boundary, epochs in zip(
        boundaries, np.array_split(np.arange(job.plan.max_epochs), len(boundaries)), strict=True
    ):
        if not len(epochs):
            continue
        observer = _observed(fit, network, history)
        plan = replace(job.plan, max_epochs=len(epochs))
        history = joined_history(history, _train_from(boundary, fit, network, plan, observer))
        if observer is not None and processes().broadcast(observer.has_ended):
            break
    return history


def _train_from(
    boundary: int, fit: _Fit, network: TunedNetwork, plan: TrainingPlan, observer: EpochObserver | None
) -> History:
    """Train a network's part after a boundary, at or after its own."""
    job, part, seen = fit.job, network, fit.activations
    if boundary != job.spec.boundary:
        job = job.at(boundary)
        part = _from(network, job, fit.task)
        seen = activations_of(job.stages, job.spec, fit.samples, job.policy)
    validation, hold_out, checkpoint = None, job.hold_out, None
    if hold_out.stops_early and fit.held_out is not None:
        validation = Validation(fit.held_out, hold_out.n_iter_no_change, hold_out.tol)
    if job.resume.checkpoint is not None:
        checkpoint = Checkpoint(job.resume.checkpoint, _key(job, part, fit, plan, validation))
    if job.augment is not None:
        addresses = addresses_of(job.stages, job.spec)
        seen = AugmentedActivations(seen, job.stages, fit.samples, addresses, job.augment, fit.task, fit.unplaced)
    auxiliary = None
    if job.shift is not None and job.shift.adds_loss:
        auxiliary = DomainLoss(*_of_target(job), job.shift.method, job.shift.weight, plan.batch_size, plan.seed)
    groups = _trainable(job, part)
    loss = functools.partial(loss_of_votes, fit.task) if part.votes else fit.task.loss
    history = train(part, groups, seen, fit.data, loss, plan, validation, checkpoint, observer, auxiliary)
    network.load_state_dict(part.state_dict(), strict=False)
    return history


def _key(job: TuningJob, start: TunedNetwork, fit: _Fit, plan: TrainingPlan, validation: Validation | None) -> str:
    """Names a training by all that decides its result."""
    how = (repr(vars(fit.task)), job.spec.pooling, job.spec.taps)
    if job.spec.window_pooling != "mean":
        how += (job.spec.window_pooling,)
    if job.shift is not None and job.shift.adds_loss:
        target = b"".join(sorted(_of_target(job)[0].digests))
        how += (job.shift.method, job.shift.weight, target)
    sets = [fit.data.content()]
    if validation is not None:
        sets += [validation.data.content(), validation.n_iter_no_change, validation.tol]
    state = {key: value.cpu() for key, value in start.state_dict().items()}
    context = (job.stages.space, job.spec.boundary, replace(plan, verbose=0), how, sets, repr(job.augment))
    return fingerprint(state, *context)


def _from(network: TunedNetwork, job: TuningJob, task: Task) -> TunedNetwork:
    """A copy of the part of a network that comes after the job's boundary.

    What its readout shares with the whole network's stages is not trained: the frozen stages have it as it was.
    """
    part = new_network(job.stages.backbone, job.spec, task.readout, seed=job.plan.seed)
    state = network.state_dict()
    part.load_state_dict({key: state[key] for key in part.state_dict()})
    stages = {id(p) for p in network.suffix.parameters()}
    tied = {name for name, p in network.readout.named_parameters(remove_duplicate=False) if id(p) in stages}
    for name, p in part.readout.named_parameters():
        if name in tied:
            p.requires_grad_(False)
    return part.to(job.stages.device)


def _trainable(job: TuningJob, network: TunedNetwork) -> list[dict]:
    """All that the optimizer gets: the readout, and each unfrozen stage, or its adapters, at its own rate."""
    backbone = job.stages.backbone
    own = {name.removeprefix("suffix."): p for name, p in network.named_parameters() if name.startswith("suffix.")}
    if job.spec.adapter is None:
        of_weight = {name: [p] for name, p in own.items()}
    else:
        of_weight = {adapted(name): [] for name in own}
        for name, p in own.items():
            of_weight[adapted(name)].append(p)
    shared = {id(p) for p in own.values()}  # a readout may have vectors of the stages
    of_readout = [p for p in network.readout.parameters() if p.requires_grad and id(p) not in shared]
    groups = [{"params": of_readout, "lr_factor": 1.0}]
    last = job.spec.last(backbone.n_stages)
    for stage in range(job.spec.boundary, last):
        params = [p for name in backbone.stage_parameters(stage) for p in of_weight.get(name, [])]
        factor = job.plan.backbone_lr_factor * job.plan.layer_decay ** (last - 1 - stage)
        groups.append({"params": params, "lr_factor": factor})
    return groups
