"""The only ``.backward()`` in the house: one function over activations and targets.

Promises that the optimizer gets exactly the parameters it was given, that order and masks come from the seed alone,
and that a loss that is not a number stops it. Must not know X, what y means, scikit-learn or the store.
"""

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from skltransfer._system.autocast import autocast
from skltransfer._system.progress import progress_bar
from skltransfer.backbones import seeded
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.processes import processes, shard
from skltransfer.engine.tasks.targets import each_tensor
from skltransfer.engine.training.batch_norm import train_mode
from skltransfer.engine.training.checkpoint import Checkpoint
from skltransfer.engine.training.dropout import fast_dropout
from skltransfer.engine.training.observer import EpochObserver
from skltransfer.engine.training.training_set import TrainingSet
from skltransfer.exceptions import TrainingDivergedError

Loss = Callable[[Any, Any], torch.Tensor]
History = dict[str, list[float]]
BLUR = 0.1  # of lengths before they are sorted, so that the same samples do not always meet


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of the training. The names are the estimators' parameters.

    Attributes
    ----------
    max_epochs, batch_size : int
        Number of epochs, and maximum batch size.
    learning_rate, weight_decay : float
        Learning rate of the head, and weight decay (AdamW).
    lr_schedule : {"cosine", "constant"}
        Learning rate schedule.
    warmup : float
        Fraction of the steps over which the rate increases from zero.
    backbone_lr_factor, layer_decay : float
        Rate of the last stage relative to the head's, and of each stage relative to the next.
    unfreeze_schedule : {"gradual"} or None
        ``"gradual"`` trains the last stage first, then adds one earlier stage at a time.
    norm_policy : {"frozen", "train"}
        ``"frozen"`` keeps the statistics of BatchNorm.
    max_grad_norm : float or None
        Maximum global gradient norm.
    seed : int
        Seed of the random numbers.
    autocast : torch.dtype or None
        Data type of mixed precision.
    verbose : int
        If positive, show progress.
    """

    max_epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    lr_schedule: str = "cosine"
    warmup: float = 0.1
    backbone_lr_factor: float = 0.1
    layer_decay: float = 1.0
    unfreeze_schedule: str | None = None
    norm_policy: str = "frozen"
    max_grad_norm: float | None = None
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

    def n_steps(self, n_samples: int) -> int:
        """Number of the optimizer's steps."""
        return self.max_epochs * len(batches(np.arange(n_samples), self.batch_size))

    def max_weight_change(self, n_samples: int) -> float:
        """Distance that AdamW moves a weight of the head whose steps all go one way, each about as long as the rate."""
        return (
            self.learning_rate
            * self.n_steps(n_samples)
            * float(np.mean([self.rate(t) for t in np.linspace(0, 1, 100)]))
        )


@dataclass(frozen=True)
class Validation:
    """Held-out samples by whose loss training stops.

    Attributes
    ----------
    data : TrainingSet
        Held-out samples.
    n_iter_no_change : int
        Number of epochs without progress before stopping.
    tol : float
        Minimum decrease of the loss that counts as progress.
    """

    data: TrainingSet
    n_iter_no_change: int = 3
    tol: float = 1e-4


class AuxiliaryLoss(Protocol):
    """A loss on other samples, added in each step."""

    def run(
        self, module: nn.Module, activation: torch.Tensor, step: int, n_steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The module's outputs for a batch of activations of the training set, and the loss beside them."""


def train(
    module: nn.Module,
    trainable: Sequence[Mapping],
    activations: Activations,
    data: TrainingSet,
    loss: Loss,
    plan: TrainingPlan,
    validation: Validation | None = None,
    checkpoint: Checkpoint | None = None,
    observer: EpochObserver | None = None,
    auxiliary: AuxiliaryLoss | None = None,
) -> History:
    """Train ``module`` in place; together with the other processes, where accelerate's launcher started several.

    Parameters
    ----------
    module : nn.Module
        Network from a batch of activations, and targets, to outputs.
    trainable : sequence of mappings
        Each ``{"params": [...], "lr_factor": float}``: all that the optimizer gets.
    activations : Activations
        Activations of the training samples.
    data : TrainingSet
        The training set.
    loss : callable
        Function ``(outputs, targets) -> (n,)``.
    plan : TrainingPlan
        How the network is trained.
    validation : Validation, optional
        Held-out samples of early stopping, after which the best weights are restored.
    checkpoint : Checkpoint, optional
        State that is written after each epoch, and from which training continues.
    observer : EpochObserver, optional
        Callbacks that are called in each epoch and may end the training. They receive a function that copies weights
        and history.
    auxiliary : AuxiliaryLoss, optional
        Adds a loss on other samples.

    Returns
    -------
    dict of str to list of float
        One entry per epoch: ``loss``, ``learning_rate`` and, with a validation part, ``validation_loss``.

    Raises
    ------
    TrainingDivergedError
        If the loss is NaN or infinite.
    ValueError
        If statistics of BatchNorm are to be trained, or a loss on other samples is to be added, by several processes,
        each of which sees a share of a batch.
    """
    run = _Run(module, trainable, activations, data, loss, plan, validation, auxiliary)
    if checkpoint is not None:
        run.restore(checkpoint.read())
    left = range(run.n_epochs, plan.max_epochs)
    for _ in progress_bar(left, desc="training", unit="epoch", shown=plan.verbose and run.processes.rank == 0):
        if run.has_converged:
            break
        if observer is not None:
            observer.epoch_begins(run.so_far)
        run.epoch()
        if checkpoint is not None and run.processes.rank == 0:
            checkpoint.write(run.state())
        if observer is not None and run.processes.broadcast(observer.epoch_ends(run.so_far)):
            break
    run.keep_the_best()
    return run.history


class _Run:
    """The optimizer, its steps and the history of one call of :func:`train`."""

    def __init__(
        self, module, trainable, activations, data, loss, plan: TrainingPlan, validation, auxiliary=None
    ) -> None:
        self.module, self.activations, self.data, self.loss, self.plan = module, activations, data, loss, plan
        self.validation, self.auxiliary, self.processes = validation, auxiliary, processes()
        if self.processes.count > 1:
            self._agree()
        self.optimiser = _optimiser(trainable, plan)
        self.weights = torch.as_tensor(data.loss_weights / data.loss_weights.mean(), dtype=torch.float32)
        self.generator = np.random.default_rng(plan.seed)
        self.lengths = activations.lengths(data.rows) if auxiliary is None else None  # that one compares batches
        self.n_steps = plan.n_steps(len(data))
        self.step = 0
        self.history: History = {"loss": [], "learning_rate": []}
        self.best_loss, self.best_epoch = math.inf, -1
        self.best_state: dict[str, torch.Tensor] | None = None

    def _agree(self) -> None:
        """All processes begin with the same weights, and with the same samples or not at all."""
        if self.auxiliary is not None:
            raise ValueError(f"A target domain needs whole batches, and {self.processes.count} processes see a share.")
        if self.plan.norm_policy == "train":
            raise ValueError(
                f"norm_policy='train' needs whole batches, and {self.processes.count} processes see a share of each. "
                "Use norm_policy='frozen'."
            )
        refuse_other_data(self.data)
        self.processes.broadcast_tensors(self.module.state_dict().values())

    @property
    def n_epochs(self) -> int:
        """Epochs that were trained."""
        return len(self.history["loss"])

    @property
    def has_converged(self) -> bool:
        """True if the validation loss stopped falling."""
        return self.best_state is not None and self.n_epochs - 1 - self.best_epoch >= self.validation.n_iter_no_change

    def epoch(self) -> None:
        """One pass over the samples, and a look at the validation part."""
        train_mode(self.module, self.plan.norm_policy)
        number, total = self.n_epochs, 0.0
        for rows in self._batches():
            with seeded(_mask_seed(self.plan.seed, self.step, self.processes.rank)):  # between steps, others may draw
                total += self._take_step(rows, number)
        self.history["loss"].append(total / len(self.data))
        self.history["learning_rate"].append(self.plan.learning_rate * self.plan.rate(self.step / self.n_steps))
        if self.validation is not None:
            self._validate(number)

    def _batches(self) -> list[np.ndarray]:
        """The epoch's batches, in random order; of texts, each holds samples of about one length."""
        order, lengths = self.generator.permutation(len(self.data)), self.lengths
        if lengths is None:
            return batches(order, self.plan.batch_size)
        blurred = lengths[order] * self.generator.uniform(1 - BLUR, 1 + BLUR, len(order))
        found = batches(order[np.argsort(blurred, kind="stable")], self.plan.batch_size)
        return [found[i] for i in self.generator.permutation(len(found))]

    def _validate(self, number: int) -> None:
        current = evaluate(self.module, self.activations, self.validation.data, self.loss, self.plan)
        current = self.processes.broadcast(current)  # so that all stop at once, also where devices round differently
        self.history.setdefault("validation_loss", []).append(current)
        if current < self.best_loss - self.validation.tol or self.best_state is None:
            self.best_loss, self.best_epoch = current, number
            self.best_state = copy.deepcopy(self.module.state_dict())

    def keep_the_best(self) -> None:
        """End in eval mode, with the weights of the best epoch where there was a validation part."""
        if self.best_state is not None:
            self.module.load_state_dict(self.best_state)
        self.module.eval()

    def so_far(self) -> tuple[dict[str, torch.Tensor], History]:
        """Copies of weights and history, as if training ended here."""
        state = self.module.state_dict() if self.best_state is None else self.best_state
        return copy.deepcopy(state), copy.deepcopy(self.history)

    def state(self) -> dict:
        """All that decides how training goes on."""
        return {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "order": json.dumps(self.generator.bit_generator.state),
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
        self.history = state["history"]
        self.best_loss, self.best_epoch, self.best_state = state["best"]
        self.step = self.n_epochs * self.n_steps // self.plan.max_epochs

    def _take_step(self, rows: np.ndarray, epoch: int) -> float:
        self.step += 1
        for group in self.optimiser.param_groups:
            factor = self.plan.rate((self.step - 0.5) / self.n_steps)
            group["lr"] = self.plan.learning_rate * group["lr_factor"] * factor
        self.optimiser.zero_grad()
        total = self._gradients(rows)
        if not torch.isfinite(total):
            raise TrainingDivergedError(
                f"The loss is {total.item() / len(rows)} in epoch {epoch + 1}. Lower learning_rate (now "
                f"{self.plan.learning_rate:g}), or look for extreme values in X or y."
            )
        if self.plan.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._params(), self.plan.max_grad_norm)
        self.optimiser.step()
        return total.item()

    def _gradients(self, rows: np.ndarray) -> torch.Tensor:
        """Leave the mean loss's gradients of this batch in place; return its summed loss."""
        own = shard(rows, self.processes)
        total = torch.zeros(())
        if len(own):
            activation, batch = self.activations.take_to_train(self.data.rows[own], self.data.targets.take(own))
            batch = on_device(batch, activation.device)
            with autocast(activation.device, self.plan.autocast), fast_dropout(activation.device):
                if self.auxiliary is None:
                    outputs, added = self.module(activation, batch), 0.0
                else:
                    outputs, added = self.auxiliary.run(self.module, activation, self.step, self.n_steps)
            losses = self.loss(in_float32(outputs), batch)
            total = (losses * self.weights[own].to(losses.device)).sum()
            (total / len(rows) + added).backward()
        total = total.detach().to(self._params()[0].device)
        if self.processes.count > 1:
            self._all_reduce_gradients(total)
        return total

    def _all_reduce_gradients(self, total: torch.Tensor) -> None:
        """Sum gradients and loss over the processes; what no process has a gradient for keeps none."""
        params = self._params()
        missing = torch.tensor([p.grad is None for p in params], dtype=torch.float32, device=total.device)
        for p in params:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self.processes.all_reduce([*(p.grad for p in params), total, missing])
        for p, absent in zip(params, missing.tolist(), strict=True):
            if absent == self.processes.count:
                p.grad = None

    def _params(self) -> list[torch.Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]


def joined_history(past: History, new: History) -> History:
    """Epochs after epochs."""
    return {key: [*past.get(key, []), *values] for key, values in new.items()}


def refuse_other_data(data: TrainingSet) -> None:
    """Raise in each process whose samples, targets or weights are not the first one's.

    Raises
    ------
    ValueError
        That says what each process must be given.
    """
    together = processes()
    if together.count > 1 and together.broadcast(data.content()) != data.content():
        raise ValueError(
            f"Process {together.rank} of {together.count} was given other samples, targets or weights than the first. "
            "Each process must call fit with the same data: it takes its share of every batch."
        )


def batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut into the fewest batches of at most ``size`` (three for size 2), all alike in length and none of one row.

    A short remainder would weigh its rows more, and its statistics less surely; BatchNorm cannot train on one row.
    """
    n = -(-len(order) // max(size, 1))
    if size > 1:
        n = min(n, len(order) // 2)
    return np.array_split(order, max(n, 1))


@torch.inference_mode()
def evaluate(module: nn.Module, activations: Activations, data: TrainingSet, loss: Loss, plan: TrainingPlan) -> float:
    """Weighted mean loss of ``module`` in eval mode."""
    module.eval()
    total, lengths = 0.0, activations.lengths(data.rows)
    order = np.arange(len(data)) if lengths is None else np.argsort(lengths, kind="stable")
    for rows in batches(order, plan.batch_size):
        activation = activations.take(data.rows[rows])
        batch = on_device(data.targets.take(rows), activation.device)
        with autocast(activation.device, plan.autocast):
            outputs = module(activation, batch)
        losses = loss(in_float32(outputs), batch).cpu()
        total += float((losses.double() * torch.as_tensor(data.loss_weights[rows])).sum())
    return total / float(data.loss_weights.sum())


def in_float32(outputs: Any) -> Any:
    """Outputs as losses are computed of them."""
    return each_tensor(lambda value: value.float() if value.is_floating_point() else value, outputs)


def on_device(batch: Any, device: torch.device) -> Any:
    """Targets where the outputs are."""
    return each_tensor(lambda value: value.to(device), batch)


def _mask_seed(seed: int, step: int, rank: int) -> int:
    """Seed of dropout and augmentation: the same after an interruption, another in each process."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _optimiser(trainable: Sequence[Mapping], plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); norms and biases are not decayed."""
    groups = []
    for group in trainable:
        for decayed in (True, False):
            params = [p for p in group["params"] if (p.ndim > 1) == decayed]
            decay = plan.weight_decay if decayed else 0.0
            groups.append({"params": params, "lr_factor": group["lr_factor"], "weight_decay": decay})
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.learning_rate, fused=True)
