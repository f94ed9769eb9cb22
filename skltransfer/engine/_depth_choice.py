"""Whether to train later stages at all: short fits on parts of the training set are compared with the frozen network.

Promises that the answer depends on the seed, the samples' content, targets and weights alone. Must not know X, labels
or scikit-learn.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from skltransfer._progress import progress_bar
from skltransfer.engine._activations import ActivationStore
from skltransfer.engine._frozen import FrozenStages
from skltransfer.engine._heads import Head
from skltransfer.engine._processes import processes
from skltransfer.engine._training import refuse_other_data
from skltransfer.engine._training_set import TrainingSet, canonical, folds
from skltransfer.engine._tuning import TuningTask, activations_of, run_tuned, tune
from skltransfer.inputs import Samples

N_FOLDS, SHORT_EPOCHS = 3, 3
ENOUGH = 500  # held-out samples, after which no further fold is fitted
FEWEST_SAMPLES, FEWEST_OF_A_CLASS = 12, 3
Scores = dict[int, float]


def at_better_boundary(
    task: TuningTask, samples: Samples, targets: np.ndarray, weights: np.ndarray
) -> tuple[TuningTask, Scores | None]:
    """The task at its own boundary if that has the higher cross-validated score, or else with all stages frozen.

    Up to three folds of the training set are held out in turn. The rest is fitted twice: the probe alone, and three
    epochs after the task's boundary.

    Parameters
    ----------
    task : TuningTask
    samples : Samples, length n
    targets, weights : ndarray of shape (n,)

    Returns
    -------
    TuningTask
    dict of int to float, or None
        Mean score (accuracy or R²) of held-out samples by number of frozen stages. None where nothing was compared:
        the task is not one that the probe begins, and stays as it is; or there are too few samples, and all stages
        stay frozen.
    """
    frozen = replace(task, boundary=task.stages.backbone.n_stages)
    if not _can_be_compared(task, frozen):
        return task, None
    stages = _with_store(task.stages)
    task, frozen = replace(task, stages=stages), replace(frozen, stages=stages)
    digests = activations_of(task.stages, task.boundary, task.pooling, samples, task.policy).digests
    distinct = canonical(digests, targets, weights)
    if not len(distinct):
        return task, None  # what is wrong with the samples is said by the fit
    refuse_other_data(distinct)
    head, data = task.to_head(distinct)
    scores = processes().same(_held_out_scores((frozen, task), samples, head, data))
    is_better = scores is not None and scores[task.boundary] > scores[frozen.boundary]
    return (task if is_better else frozen), scores


def _can_be_compared(task: TuningTask, frozen: TuningTask) -> bool:
    """Whether the frozen network's fit is the probe that the task's fit starts from."""
    starts_from_probe = task.probe_first and task.start is None and task.adapter is None
    return (
        frozen.is_probe and starts_from_probe and task.plan.norm_policy == "frozen" and task.boundary != frozen.boundary
    )


def _with_store(stages: FrozenStages) -> FrozenStages:
    """The frozen stages with a memory, if only for this fit: each fold begins with the same activations."""
    stages = copy.copy(stages)
    stages.store = ActivationStore() if stages.store is None else stages.store
    return stages


def _held_out_scores(tasks: tuple[TuningTask, ...], samples: Samples, head: Head, data: TrainingSet) -> Scores | None:
    """Of each task, by its boundary."""
    total, weight, n_scored = np.zeros(len(tasks)), 0.0, 0
    seed, verbose = processes().same(tasks[0].plan.seed), tasks[0].plan.verbose
    shorts = [_short(task, head, seed) for task in tasks]
    splits = list(_splits(data, head.strata(data.targets), seed))
    for train, held_out in progress_bar(splits, desc="comparing freeze depths", unit="fold", shown=verbose):
        total += [_score_after(short, samples, train, held_out) for short in shorts]
        weight, n_scored = weight + held_out.loss_weights.sum(), n_scored + len(held_out)
        if n_scored >= ENOUGH:
            break
    return {task.boundary: float(t / weight) for task, t in zip(tasks, total, strict=True)} if weight else None


def _splits(data: TrainingSet, strata: np.ndarray | None, seed: int) -> Iterator[tuple[TrainingSet, TrainingSet]]:
    """Training and held-out parts; none if there are too few samples to tell from."""
    sizes = np.unique(strata, return_counts=True)[1] if strata is not None else np.array([len(data)])
    if len(data) < FEWEST_SAMPLES or sizes.min() < FEWEST_OF_A_CLASS:
        return
    fold = folds(data, N_FOLDS, seed, strata)
    for number in range(N_FOLDS):
        held_out = fold == number
        if held_out.any() and not held_out.all():
            yield data.subset(~held_out), data.subset(held_out)


def _short(task: TuningTask, head: Head, seed: int) -> TuningTask:
    """The same task for few epochs, on a part of the training set that is in the head's terms already."""
    stages = copy.copy(task.stages)
    stages.verbose = 0
    plan = replace(task.plan, max_epochs=min(SHORT_EPOCHS, task.plan.max_epochs), seed=seed, verbose=0)
    plain = {"stops_early": False, "calibrates": False, "unfreezes_gradually": False, "watch": None}
    return replace(task, stages=stages, plan=plan, to_head=lambda part: (head, part), **plain)


def _score_after(task: TuningTask, samples: Samples, train: TrainingSet, held_out: TrainingSet) -> float:
    """Weighted sum of the scores of held-out samples after a fit on the others."""
    fitted = tune(task, samples.take(train.rows), train.targets, train.loss_weights)
    outputs, _ = run_tuned(fitted.network, task.stages, samples.take(held_out.rows), task.policy, head=fitted.head)
    return float(fitted.head.scores(outputs, held_out.targets) @ held_out.loss_weights)
