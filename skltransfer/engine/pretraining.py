"""Samples without labels to changed weights of a backbone: by guessing hidden tokens, or by statistics of BatchNorm.

Must not know X, estimators, or what the weights will be used for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skltransfer._system.autocast import autocast
from skltransfer.backbones import fingerprint
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.networks.readout import VectorReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import new_network
from skltransfer.engine.processes import processes
from skltransfer.engine.tasks.masked_tokens import MaskedLanguageModel, MaskedTexts
from skltransfer.engine.tasks.targets import ArrayTargets
from skltransfer.engine.training.batch_norm import norm_shift, refresh_norms
from skltransfer.engine.training.checkpoint import Checkpoint
from skltransfer.engine.training.loop import History, TrainingPlan, Validation, evaluate, train
from skltransfer.engine.training.training_set import TrainingSet, canonical, split
from skltransfer.inputs import Samples

HEAD_RATE = 1e-3


@dataclass(frozen=True)
class PretrainingTask:
    """A self-supervised adaptation that is to be done.

    Attributes
    ----------
    stages : FrozenStages
        Frozen stages that compute activations.
    boundary : int
        Number of frozen stages.
    policy : BadSamplePolicy
        Treatment of samples that cannot be read.
    prior : float
        Weight of the old statistics, in samples.
    fraction : float
        Fraction of tokens to predict.
    validation_fraction : float
        Fraction of texts to hold out.
    plan : TrainingPlan
        How the network is trained.
    checkpoint : Path or None
        Folder in which training saves its state.
    """

    stages: FrozenStages
    boundary: int
    policy: BadSamplePolicy
    prior: float
    fraction: float
    validation_fraction: float
    plan: TrainingPlan
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Pretrained:
    """Result of a self-supervised adaptation.

    Attributes
    ----------
    state : dict of str to tensor
        Weights of the stages after the boundary, by the library's names.
    report : dict of str to object
        Summary of the adaptation.
    history : dict of str to list of float
        Training history, with one value per epoch.
    n_trainable : int
        Number of parameters that were trained.
    bad : list of int
        Samples that were left out.
    """

    state: dict[str, torch.Tensor]
    report: dict[str, object]
    history: History
    n_trainable: int
    bad: list[int]


@torch.inference_mode(False)
def adapt_norms(task: PretrainingTask, samples: Samples) -> Pretrained:
    """Give BatchNorm layers after the boundary the statistics of these samples.

    Raises
    ------
    ValueError
        If there is no such layer, or fewer than two distinct samples.
    """
    stages, backbone = task.stages, task.stages.backbone
    activations = _activations(task, samples, task.boundary)
    readable = np.flatnonzero([bool(digest) for digest in activations.digests])
    rows = np.array(sorted(readable, key=lambda row: activations.digests[row]))
    network = new_network(backbone, NetworkSpec(task.boundary, backbone.pooling), VectorReadout.of, seed=0).to(
        stages.device
    )

    def batches() -> Iterator[torch.Tensor]:
        return (batch for _, batch in activations.exact_batches(rows))

    with autocast(stages.device, stages.autocast):
        n_layers = refresh_norms(network, batches, task.prior)
    if not n_layers:
        after = f" after {task.boundary} frozen stages" if task.boundary else ""
        raise ValueError(
            f"objective='norm_statistics' finds no BatchNorm in {backbone.name!r}{after}. Choose another backbone or "
            "objective, or freeze less."
        )
    shift = norm_shift(network.suffix, backbone.prefix(task.boundary, backbone.n_stages))
    report = {"n_samples": len(rows), "norm_shift": shift}
    return Pretrained(_state(network.suffix), report, {}, 0, sorted(activations.bad))


@torch.inference_mode(False)
@torch.enable_grad()
def adapt_to_texts(task: PretrainingTask, samples: Samples) -> Pretrained:
    """Train the stages after the boundary to guess hidden tokens.

    A head that the checkpoint does not bring is trained alone first, so that it does not spoil the stages while it
    knows nothing, and so that most of what a head can learn is learnt before the first loss is taken.

    Raises
    ------
    ValueError
        If no stage is left to train, or there are fewer than two distinct texts with words in them.
    """
    plan = replace(task.plan, autocast=task.stages.autocast, seed=processes().broadcast(task.plan.seed))
    fit = _MaskedFit.of(replace(task, plan=plan), samples)
    head, suffix = fit.model.head_parameters(), fit.model.suffix_parameters()
    if fit.model.is_head_new:
        fit.model.suffix.requires_grad_(False)
        fit.train([head], replace(plan, learning_rate=HEAD_RATE))
        fit.model.suffix.requires_grad_(True)
    before = fit.loss()
    history = fit.train([suffix, head], plan, fit.held_out)
    report = {"n_samples": len(samples) - len(fit.bad), "n_held_out": len(fit.held_out)}
    report |= {"loss_before": before, "loss_after": fit.loss()}
    n_trainable = sum(p.numel() for p in suffix)
    return Pretrained(_state(fit.model.suffix), report, history, n_trainable, fit.bad)


@dataclass(frozen=True)
class _MaskedFit:
    """A model, and the texts that it learns from and is judged by."""

    task: PretrainingTask
    model: MaskedLanguageModel
    texts: MaskedTexts
    data: TrainingSet
    held_out: TrainingSet
    bad: list[int]

    @classmethod
    def of(cls, task: PretrainingTask, samples: Samples) -> "_MaskedFit":
        stages, seed, n = task.stages, task.plan.seed, len(samples)
        activations = _activations(task, samples, 0)
        texts = MaskedTexts(activations, stages, task.fraction, seed)
        data = _with_words(texts, canonical(activations.digests, ArrayTargets(np.zeros(n)), np.ones(n)))
        data, held_out = split(data, task.validation_fraction, seed)
        model = MaskedLanguageModel(stages, task.boundary, texts.frequencies(data.rows), seed).to(stages.device)
        return cls(task, model, texts, data, held_out, sorted(activations.bad))

    def loss(self) -> float:
        """Mean loss of the held-out texts."""
        return evaluate(self.model, self.texts, self.held_out, _given, self.task.plan)

    def train(
        self, parts: list[list[nn.Parameter]], plan: TrainingPlan, held_out: TrainingSet | None = None
    ) -> History:
        """Train these parts; where texts are held out, the weights of the best epoch stay."""
        place, task = None, self.task
        groups = [{"params": params, "lr_factor": 1.0} for params in parts]
        if task.checkpoint is not None:
            state = {key: value.cpu() for key, value in self.model.state_dict().items()}
            context = (task.stages.space, task.boundary, task.fraction, replace(plan, verbose=0), len(groups))
            place = Checkpoint(task.checkpoint, fingerprint(state, *context, self.data.content()))
        watched = None if held_out is None else Validation(held_out, n_iter_no_change=plan.max_epochs, tol=0.0)
        return train(self.model, groups, self.texts, self.data, _given, plan, watched, place)


def _given(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The model's outputs are losses already: what is asked for comes with the text."""
    return losses


def _activations(task: PretrainingTask, samples: Samples, boundary: int) -> Activations:
    backbone = task.stages.backbone
    if task.boundary == backbone.n_stages:
        raise ValueError(f"All {backbone.n_stages} stages of {backbone.name!r} are frozen: none adapts. Freeze less.")
    activations = Activations(task.stages, samples, task.stages.address(boundary), task.policy)
    n = len({digest for digest in activations.digests if digest})
    if n < 2:
        raise ValueError(f"Adapting needs at least 2 distinct samples, got {n} among n_samples={len(samples)}.")
    return activations


def _with_words(texts: MaskedTexts, data: TrainingSet) -> TrainingSet:
    """Texts of which something can be asked, each counting by how much."""
    n_asked = texts.n_asked(data.rows)
    if (n_asked > 0).sum() < 2:
        raise ValueError(f"Adapting needs at least 2 distinct texts with words in them, got {(n_asked > 0).sum()}.")
    return data.encoded(data.targets, n_asked).subset(n_asked > 0)


def _state(suffix: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu() for key, value in suffix.state_dict().items()}
