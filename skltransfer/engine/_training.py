"""The only ``.backward()`` in the house: one function over activations and targets.

Promises that the optimiser gets exactly the parameters it was given, that order and masks come from the seed alone,
and that a loss that is not a number stops it. Must not know X, what y means, scikit-learn or the store.
"""

import contextlib
import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from skltransfer.backbones import seeded
from skltransfer.engine._checkpoint import Checkpoint
from skltransfer.engine._dataset import Activations
from skltransfer.engine._training_set import TrainingSet
from skltransfer.exceptions import TrainingDivergedError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class TrainingPlan:
    """How to train. The names are the estimators' parameters.

    Attributes
    ----------
    max_epochs, batch_size : int
    learning_rate, weight_decay : float
    lr_schedule : {"cosine", "constant"}
    warmup : float
        Share of the steps over which the rate rises from zero.
    norm_policy : {"frozen", "train"}
        Whether statistics of BatchNorm stay.
    n_iter_no_change : int
        Epochs without progress of the validation loss after which to stop, where there is a validation part.
    tol : float
    seed : int
    autocast : torch.dtype or None
    verbose : int
    """

    max_epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    lr_schedule: str = "cosine"
    warmup: float = 0.1
    norm_policy: str = "frozen"
    n_iter_no_change: int = 3
    tol: float = 1e-4
    seed: int = 0
    autocast: torch.dtype | None = None
    verbose: int = 0

    def rate(self, progress: float) -> float:
        """Factor of the learning rate after this share of all steps."""
        if self.lr_schedule == "constant":
            return 1.0
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / max(1e-9, 1 - self.warmup)))


def train(
    module: nn.Module,
    trainable: Sequence[Mapping],
    activations: Activations,
    data: TrainingSet,
    loss: Loss,
    plan: TrainingPlan,
    validation: TrainingSet | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, list[float]]:
    """Train ``module`` in place.

    Parameters
    ----------
    module : nn.Module
        From a batch of activations to outputs.
    trainable : sequence of mappings
        Each ``{"params": [...], "lr_factor": float}``: all that the optimiser gets.
    activations : Activations
    data : TrainingSet
    loss : callable
        ``(outputs, targets) -> (n,)``.
    plan : TrainingPlan
    validation : TrainingSet, optional
        Watched by early stopping; the best weights are restored.
    checkpoint : Checkpoint, optional
        Written after each epoch; training goes on from what it holds, as if there had been no interruption.

    Returns
    -------
    dict of str to list of float
        One entry per epoch: ``loss``, ``learning_rate`` and, with a validation part, ``validation_loss``.

    Raises
    ------
    TrainingDivergedError
        If the loss is NaN or infinite.
    """
    run = _Run(module, trainable, activations, data, loss, plan, validation)
    with seeded(plan.seed):
        if checkpoint is not None:
            run.restore(checkpoint.read())
        left = range(run.n_epochs, plan.max_epochs)
        for _ in tqdm(left, desc="training", unit="epoch", disable=not plan.verbose):
            if run.has_converged:
                break
            run.epoch()
            if checkpoint is not None:
                checkpoint.write(run.state())
    run.keep_the_best()
    return run.history


class _Run:
    """The optimiser, its steps and the history of one call of :func:`train`."""

    def __init__(self, module, trainable, activations, data, loss, plan: TrainingPlan, validation) -> None:
        self.module, self.activations, self.data, self.loss, self.plan = module, activations, data, loss, plan
        self.validation = validation
        self.optimiser = _optimiser(trainable, plan)
        self.targets = torch.as_tensor(data.targets)
        self.weights = torch.as_tensor(data.loss_weights / data.loss_weights.mean(), dtype=torch.float32)
        self.generator = np.random.default_rng(plan.seed)
        self.n_steps = plan.max_epochs * len(batches(np.arange(len(data)), plan.batch_size))
        self.step = 0
        self.history: dict[str, list[float]] = {"loss": [], "learning_rate": []}
        self.best_loss, self.best_epoch = math.inf, -1
        self.best_state: dict[str, torch.Tensor] | None = None

    @property
    def n_epochs(self) -> int:
        """Epochs that were trained."""
        return len(self.history["loss"])

    @property
    def has_converged(self) -> bool:
        """Whether the validation loss stopped falling."""
        return self.best_state is not None and self.n_epochs - 1 - self.best_epoch >= self.plan.n_iter_no_change

    def epoch(self) -> None:
        """One pass over the samples, and a look at the validation part."""
        _train_mode(self.module, self.plan.norm_policy)
        number, total = self.n_epochs, 0.0
        for rows in batches(self.generator.permutation(len(self.data)), self.plan.batch_size):
            total += self._take_step(rows, number)
        self.history["loss"].append(total / len(self.data))
        self.history["learning_rate"].append(self.plan.learning_rate * self.plan.rate(self.step / self.n_steps))
        if self.validation is not None:
            self._validate(number)

    def _validate(self, number: int) -> None:
        current = evaluate(self.module, self.activations, self.validation, self.loss, self.plan)
        self.history.setdefault("validation_loss", []).append(current)
        if current < self.best_loss - self.plan.tol or self.best_state is None:
            self.best_loss, self.best_epoch = current, number
            self.best_state = copy.deepcopy(self.module.state_dict())

    def keep_the_best(self) -> None:
        """End in eval mode, with the weights of the best epoch where there was a validation part."""
        if self.best_state is not None:
            self.module.load_state_dict(self.best_state)
        self.module.eval()

    def state(self) -> dict:
        """All that decides how training goes on."""
        return {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "order": json.dumps(self.generator.bit_generator.state),
            "masks": torch.get_rng_state(),
            "history": self.history,
            "best": [self.best_loss, self.best_epoch, self.best_state],
        }

    def restore(self, state: dict | None) -> None:
        """Go on from there, if anywhere."""
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.bit_generator.state = json.loads(state["order"])
        torch.set_rng_state(state["masks"])
        self.history = state["history"]
        self.best_loss, self.best_epoch, self.best_state = state["best"]
        self.step = self.n_epochs * self.n_steps // self.plan.max_epochs

    def _take_step(self, rows: np.ndarray, epoch: int) -> float:
        self.step += 1
        for group in self.optimiser.param_groups:
            factor = self.plan.rate((self.step - 0.5) / self.n_steps)
            group["lr"] = self.plan.learning_rate * group["lr_factor"] * factor
        activation = self.activations.take_to_train(self.data.rows[rows])
        with autocast(activation.device, self.plan.autocast):
            outputs = self.module(activation)
        device = outputs.device
        losses = self.loss(outputs.float(), self.targets[rows].to(device)) * self.weights[rows].to(device)
        value = losses.mean()
        if not torch.isfinite(value):
            raise TrainingDivergedError(
                f"The loss is {value.item()} in epoch {epoch + 1}. Lower learning_rate (now "
                f"{self.plan.learning_rate:g}), or look for extreme values in X or y."
            )
        self.optimiser.zero_grad()
        value.backward()
        self.optimiser.step()
        return losses.detach().sum().item()


def batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut into batches; a remainder of one joins its neighbour, since BatchNorm cannot train on one row."""
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)


@torch.inference_mode()
def evaluate(module: nn.Module, activations: Activations, data: TrainingSet, loss: Loss, plan: TrainingPlan) -> float:
    """Weighted mean loss of ``module`` in eval mode."""
    module.eval()
    total = 0.0
    for rows in batches(np.arange(len(data)), plan.batch_size):
        activation = activations.take(data.rows[rows])
        with autocast(activation.device, plan.autocast):
            outputs = module(activation)
        losses = loss(outputs.float(), torch.as_tensor(data.targets[rows]).to(outputs.device)).cpu()
        total += float((losses.double() * torch.as_tensor(data.loss_weights[rows])).sum())
    return total / float(data.loss_weights.sum())


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """torch's autocast to ``dtype``, or nothing."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _train_mode(module: nn.Module, norm_policy: str) -> None:
    module.train()
    if norm_policy == "frozen":
        for part in module.modules():
            if isinstance(part, NORMS):
                part.eval()


def _optimiser(trainable: Sequence[Mapping], plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); norms and biases are not decayed."""
    groups = []
    for group in trainable:
        for decayed in (True, False):
            params = [p for p in group["params"] if (p.ndim > 1) == decayed]
            decay = plan.weight_decay if decayed else 0.0
            groups.append({"params": params, "lr_factor": group["lr_factor"], "weight_decay": decay})
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.learning_rate, fused=True)
