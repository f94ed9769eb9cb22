"""Whether to train later stages at all: short fits on parts of the training set are compared with the frozen network.

Promises that the answer depends on the seed, the samples' content, targets and weights alone. Must not know X, labels
or scikit-learn.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from skltransfer._system.progress import progress_bar
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.job import HoldOut, TuningJob
from skltransfer.engine.processes import processes
from skltransfer.engine.storing.memory import ActivationStore
from skltransfer.engine.tasks.targets import Targets
from skltransfer.engine.tasks.task import VectorTask
from skltransfer.engine.training.loop import refuse_other_data
from skltransfer.engine.training.training_set import TrainingSet, canonical, folds
from skltransfer.engine.tuning import activations_of, run_tuned, tune
from skltransfer.inputs import Samples

N_FOLDS, SHORT_EPOCHS = 3, 5
ENOUGH = 500  # samples, after which no further fold is held out
FEWEST_SAMPLES, FEWEST_OF_A_CLASS = 12, 3
DECISIVE = ("neg_log_loss", "r2")
LEAST_GAIN = 1e-3  # nats or R² per sample; a smaller gain does not show in predictions
Scores = dict[int, dict[str, float]]
PerSample = dict[str, np.ndarray]


def at_better_boundary(
    job: TuningJob, samples: Samples, targets: Targets, weights: np.ndarray, groups: np.ndarray | None = None
) -> tuple[TuningJob, Scores | None]:
    """The job at its own boundary if that is clearly better in cross-validation, or else with all stages frozen.

    Up to three folds of the training set are held out in turn. The rest is fitted twice: the probe alone, and five
    epochs after the job's boundary. Clearly better is what gains more than one standard error in log loss, or in R²:
    after Breiman et al. (1984), who keep the simpler of two models within a standard error. Accuracy is too coarse: on
    a few hundred samples three that are right by chance look like a gain.

    Parameters
    ----------
    job : TuningJob
        The fit, with the depth that is compared.
    samples : Samples, length n
        Samples.
    targets : Targets, length n
        Targets of the samples.
    weights : ndarray of shape (n,)
        Weights of the samples.
    groups : ndarray of int, shape (n,), optional
        Samples of one group are in one fold.

    Returns
    -------
    TuningJob
    dict of int to dict of str to float, or None
        Mean scores of held-out samples by number of frozen stages. None where nothing was compared: the job is not
        one that the probe begins, and stays as it is; or there are too few samples, and all stages stay frozen.
    """
    frozen = job.at(job.stages.backbone.n_stages)
    if not _can_be_compared(job, frozen):
        return job, None
    stages = _with_store(job.stages)
    job, frozen = replace(job, stages=stages), replace(frozen, stages=stages)
    digests = activations_of(job.stages, job.spec, samples, job.policy).digests
    distinct = canonical(digests, targets, weights, groups)
    if not len(distinct):
        return job, None  # what is wrong with the samples is said by the fit
    refuse_other_data(distinct)
    task, data = job.to_task(distinct)
    found, counts = processes().broadcast(_held_out_scores((frozen, job), samples, task, data))
    if not counts.sum():
        return frozen, None
    before, after = found
    decides = next(name for name in DECISIVE if name in before)
    is_better = _gains(after[decides] - before[decides], counts)
    means = [{name: float(np.average(values, weights=counts)) for name, values in one.items()} for one in found]
    return (job if is_better else frozen), {frozen.spec.boundary: means[0], job.spec.boundary: means[1]}


def _gains(differences: np.ndarray, weights: np.ndarray) -> bool:
    """True if the weighted mean of independent differences is above one standard error, and above rounding."""
    share = weights / weights.sum()
    mean = share @ differences
    return bool(mean > max(LEAST_GAIN, np.sqrt(share**2 @ (differences - mean) ** 2)))


def _can_be_compared(job: TuningJob, frozen: TuningJob) -> bool:
    """True if the frozen network's fit is the probe that the job's fit starts from."""
    is_plain = job.resume.start is None and job.spec.adapter is None and job.plan.norm_policy == "frozen"
    return frozen.is_probe and job.probe_first and is_plain and job.spec != frozen.spec


def _with_store(stages: FrozenStages) -> FrozenStages:
    """The frozen stages with a memory, if only for this fit: each fold begins with the same activations."""
    stages = copy.copy(stages)
    stages.store = ActivationStore() if stages.store is None else stages.store
    return stages


def _held_out_scores(
    jobs: Sequence[TuningJob], samples: Samples, task: VectorTask, data: TrainingSet
) -> tuple[list[PerSample], np.ndarray]:
    """For each job, the scores of all k samples that were held out; and their weights, (k,)."""
    found, weights = [[] for _ in jobs], [np.empty(0)]
    seed, verbose = processes().broadcast(jobs[0].plan.seed), jobs[0].plan.verbose
    shorts = [_short(job, task, seed) for job in jobs]
    splits = list(_splits(data, task.strata(data.targets), seed))
    for train, held_out in progress_bar(splits, desc="comparing freeze depths", unit="fold", shown=verbose):
        for short, scores in zip(shorts, found, strict=True):
            scores.append(_scores_after(short, samples, train, held_out))
        weights.append(held_out.loss_weights)
    together = [
        {name: np.concatenate([one[name] for one in scores]) for name in scores[0]} for scores in found if scores
    ]
    return together, np.concatenate(weights)


def _splits(data: TrainingSet, strata: np.ndarray | None, seed: int) -> Iterator[tuple[TrainingSet, TrainingSet]]:
    """Training and held-out parts until enough samples were held out; none if there are too few."""
    sizes = np.unique(strata, return_counts=True)[1] if strata is not None else np.array([len(data)])
    if len(data) < FEWEST_SAMPLES or sizes.min() < FEWEST_OF_A_CLASS:
        return
    fold, n_held_out = folds(data, N_FOLDS, seed, strata), 0
    for number in range(N_FOLDS):
        held_out = fold == number
        if held_out.any() and not held_out.all() and n_held_out < ENOUGH:
            n_held_out += held_out.sum()
            yield data.subset(~held_out), data.subset(held_out)


def _short(job: TuningJob, task: VectorTask, seed: int) -> TuningJob:
    """The same job for few epochs, on a part of the training set that is in the task's terms already."""
    stages = copy.copy(job.stages)
    stages.verbose = 0
    epochs = min(SHORT_EPOCHS, job.plan.max_epochs)
    plan = replace(job.plan, max_epochs=epochs, unfreeze_schedule=None, seed=seed, verbose=0)
    plain = {"hold_out": HoldOut(), "observer": None, "to_task": lambda part: (task, part)}
    return replace(job, stages=stages, plan=plan, **plain)


def _scores_after(job: TuningJob, samples: Samples, train: TrainingSet, held_out: TrainingSet) -> PerSample:
    """Scores of the held-out samples after a fit on the others."""
    fitted = tune(job, samples.take(train.rows), train.targets, train.loss_weights)
    outputs, _ = run_tuned(fitted.network, job.stages, samples.take(held_out.rows), job.policy, fitted.task)
    return fitted.task.scores(outputs, held_out.targets.values, held_out.loss_weights)
