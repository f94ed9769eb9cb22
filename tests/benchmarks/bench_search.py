"""A search by cross-validation: this package against skorch, and against the best loop we can write.

    python tests/benchmarks/bench_search.py [frozen] [depths] [accuracy]

Run it alone on the machine; about half an hour. Two searches with ResNet-18 (random weights: speed is all that is asked
of it) at 224 px, and the same contestants with the default network on handwritten digits, to see that they reach the
same accuracy. Every contestant takes the same number of optimiser steps on the same folds; this package solves the
probe instead where all is frozen. *skorch*: float32, ``Freezer`` on the frozen layers. *Loop*: plain PyTorch, frozen
part in bfloat16 weights, the rest under bfloat16 autocast, channels-last, no DataLoader, nothing remembered.

The fits at one depth are alike, so skorch and the loop fit each fold once, at one rate; a fit's median counts for all.
"""

import copy
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from report import Ratio, record
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch import NeuralNetClassifier
from skorch.callbacks import Freezer
from timing import Timing, shown
from torch import nn
from torch.nn import functional as F

from skltransfer import ActivationStore, Backbone, FineTunedClassifier, describe_backbone, load_backbone
from skltransfer.backbones import freeze_boundary


class Task(NamedTuple):
    """One search: over depths and rates, by cross-validation."""

    backbone: Backbone
    X: np.ndarray
    y: np.ndarray
    depths: list[float]
    rates: list[float]
    folds: int
    epochs: int
    batch: int = 32

    @property
    def cv(self) -> StratifiedKFold:
        return StratifiedKFold(self.folds, shuffle=True, random_state=0)

    def boundary(self, depth: float) -> int:
        return freeze_boundary(depth, self.backbone.stage_names)


def photos(n: int, side: int = 224) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8), np.arange(n) % 2


def tensors(task: Task) -> torch.Tensor:
    """All pictures as the network takes them."""
    return torch.stack([task.backbone.preprocessing(x) for x in task.X])


def ours(task: Task) -> tuple[list[float], float]:
    """Scores per depth and seconds of a cold search, the decoding and preprocessing included."""
    model = FineTunedClassifier(
        task.backbone,
        max_epochs=task.epochs,
        batch_size=task.batch,
        backbone_lr_factor=1.0,  # one rate for all that is trained, and batch statistics, as the others have them
        norm_policy="train",
        random_state=0,
        cache=ActivationStore(),
    )
    grid = {"freeze_depth": task.depths, "learning_rate": task.rates}
    start = time.perf_counter()
    search = GridSearchCV(model, grid, cv=task.cv, refit=False, error_score="raise").fit(task.X, task.y)
    return _per_depth(search, task), time.perf_counter() - start


def _per_depth(search: GridSearchCV, task: Task) -> list[float]:
    """Fold scores of the better rate, per depth."""
    folds = np.array([search.cv_results_[f"split{i}_test_score"] for i in range(task.folds)])  # (folds, candidates)
    by_depth = folds.reshape(task.folds, len(task.depths), -1)
    return [by_depth[:, i, by_depth[:, i].mean(0).argmax()] for i in range(len(task.depths))]


class Network(nn.Module):
    """The backbone under a linear head, for those who train it by hand."""

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = backbone.suffix(0), nn.Linear(backbone.n_features, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Timed(ClassifierMixin, BaseEstimator):
    """Notes how long each fit of an estimator took, its scoring included."""

    seconds: list[float] = []  # of all clones

    def __init__(self, net) -> None:
        self.net = net

    def set_params(self, **params):
        self.net.set_params(**params)
        return self

    def fit(self, X, y):
        start = time.perf_counter()
        self.net.fit(X, y)
        self.started, self.fitted, self.classes_ = start, time.perf_counter(), np.unique(y)
        return self

    def predict(self, X):
        start = time.perf_counter()
        predicted = self.net.predict(X)
        Timed.seconds.append(self.fitted - self.started + time.perf_counter() - start)
        return predicted


def with_skorch(task: Task) -> tuple[list[float], list[float]]:
    pixels, labels = tensors(task).numpy(), task.y.astype(np.int64)
    scores, seconds = [], []
    for depth in task.depths:
        frozen = [f"body.{name}" for i in range(task.boundary(depth)) for name in task.backbone.stage_parameters(i)]
        net = NeuralNetClassifier(
            Network(task.backbone, len(np.unique(task.y))),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            max_epochs=task.epochs,
            batch_size=task.batch,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            callbacks=[Freezer(frozen)],
        )
        Timed.seconds = []
        search = GridSearchCV(Timed(net), {"lr": task.rates}, cv=task.cv, refit=False, error_score="raise")
        search.fit(pixels, labels)
        scores += _per_depth(search, task._replace(depths=[depth]))
        seconds += _alike(Timed.seconds)
    return scores, seconds


def _alike(seconds: list[float]) -> list[float]:
    """Fits that are alike, each as long as their median."""
    return [float(np.median(seconds))] * len(seconds)


def loop(task: Task) -> tuple[list[float], list[float]]:
    """The same search by hand."""
    pixels = tensors(task).contiguous(memory_format=torch.channels_last)
    labels, scores, seconds = torch.tensor(task.y), [], []
    for depth in task.depths:
        rights, took = np.empty((len(task.rates), task.folds)), []
        for i, rate in enumerate(task.rates):
            for j, (train, test) in enumerate(task.cv.split(task.X, task.y)):
                start = time.perf_counter()
                rights[i, j] = _one_fit(task, pixels, labels, train, test, task.boundary(depth), rate)
                took.append(time.perf_counter() - start)
        scores.append(rights[rights.mean(1).argmax()])
        seconds += _alike(took)
    return scores, seconds


def _one_fit(task: Task, pixels, labels, train, test, boundary: int, rate: float) -> float:
    network = Network(task.backbone, len(np.unique(task.y))).to(memory_format=torch.channels_last)
    before = copy.deepcopy(task.backbone.prefix(0, boundary)).bfloat16().to(memory_format=torch.channels_last).eval()
    after, head = task.backbone.suffix(boundary).to(memory_format=torch.channels_last).train(), network.head
    optimiser = torch.optim.AdamW([*after.parameters(), *head.parameters()], lr=rate, fused=True)

    def outputs(rows: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            x = before(pixels[rows].bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return head(after(x).mean((2, 3))).float()

    generator = np.random.default_rng(0)
    for _ in range(task.epochs):
        order = generator.permutation(train)
        for start in range(0, len(order), task.batch):
            rows = order[start : start + task.batch]
            loss = F.cross_entropy(outputs(rows), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    after.eval()
    with torch.inference_mode():
        return float((outputs(test).argmax(1) == labels[test]).float().mean())


def bound(task: Task) -> float:
    """The most that remembering can give over a loop that is otherwise as fast; s is a suffix's share of operations."""
    shares = np.cumsum([stage.cost_share for stage in describe_backbone(task.backbone).stages])
    s = np.array([1 - shares[task.boundary(depth) - 1] for depth in task.depths])
    return float((1 + 2 * s).sum() / (3 * s).sum())


def contest(task: Task) -> tuple[str, float, float]:
    """A Markdown table, and how many times as long as ours skorch and the loop take."""
    mine = Timing(tuple(ours(task)[1] for _ in range(6))[1:])
    one_rate = task._replace(rates=task.rates[:1])
    by_hand, by_skorch = (rival(one_rate)[1] * len(task.rates) for rival in (loop, with_skorch))
    print(mine, sum(by_hand), sum(by_skorch), flush=True)
    lines = ["| what | search | times ours |", "|---|---|---|", f"| skltransfer, cold | {mine} | 1.00 |"]
    for name, seconds in (("loop, bfloat16", by_hand), ("skorch, float32", by_skorch)):
        lines.append(f"| {name} | {shown(sum(seconds))} | {sum(seconds) / mine.median:.2f} |")
    return "\n".join(lines), sum(by_skorch) / mine.median, sum(by_hand) / mine.median


def accuracies() -> tuple[str, list[str]]:
    """With the default network at 64 px: fold scores per contestant and depth; where we are behind by two errors."""
    digits = load_digits()
    chosen = np.random.default_rng(0).permutation(len(digits.target))[:200]
    X = np.repeat((digits.images[chosen] * 15.9375).astype(np.uint8)[..., None], 3, axis=3)
    bundled = load_backbone("bundled:efficientnet-lite0", input_size=64)
    task = Task(bundled, X, digits.target[chosen], [1.0, 0.75, 0.5], [3e-3], folds=5, epochs=6)
    contestants: dict[str, Callable] = {"skltransfer": ours, "loop": loop, "skorch": with_skorch}
    scores = {name: np.array(contestant(task)[0]) for name, contestant in contestants.items()}  # (depths, folds)
    lines = ["| freeze_depth | " + " | ".join(scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for i, depth in enumerate(task.depths):
        cells = [f"{s[i].mean():.3f} ± {s[i].std(ddof=1) / task.folds**0.5:.3f}" for s in scores.values()]
        lines.append(f"| {depth} | " + " | ".join(cells) + " |")
    behind = []
    for name in ("loop", "skorch"):
        difference = scores[name] - scores["skltransfer"]
        error = difference.std(axis=1, ddof=1) / task.folds**0.5
        behind += [
            f"{depth} ({name}: {d.mean():+.3f} ± {e:.3f})"
            for depth, d, e in zip(task.depths, difference, error, strict=True)
            if d.mean() > 2 * e + 1e-9
        ]
    return "\n".join(lines), behind


def all_frozen(resnet: Backbone) -> None:
    task = Task(resnet, *photos(200), [1.0], [1e-3, 1e-2], folds=5, epochs=10)
    table, to_skorch, to_loop = contest(task)
    text = (
        f"ResNet-18 with random weights, {len(task.X)} photos of 224 px, 2 learning rates, 5 folds, 10 epochs for "
        f"those who take epochs.\n\n{table}"
    )
    ratios = [
        Ratio("search, all stages frozen, over skorch", to_skorch),
        Ratio("search, all stages frozen, over a PyTorch loop", to_loop),
    ]
    record("search", "A search with all stages frozen", text, ratios)


def three_depths(resnet: Backbone) -> None:
    task = Task(resnet, *photos(96), [1.0, 0.75, 0.5], [1e-3], folds=3, epochs=5)
    most = bound(task)
    table, to_skorch, to_loop = contest(task)
    text = (
        f"ResNet-18 with random weights, {len(task.X)} photos of 224 px, freeze_depth 1.0, 0.75 and 0.5, 3 folds, 5 "
        f"epochs. The most that remembering can give over the loop is Σ(1 + 2s) / Σ3s = {most:.2f}, where s is the "
        "share of the forward pass's operations that comes after the boundary; over skorch, that times what bfloat16 "
        f"gives the loop over it here ({to_skorch / to_loop:.2f}): {most * to_skorch / to_loop:.2f}.\n\n{table}"
    )
    ratios = [
        Ratio("search over three depths, over skorch", to_skorch, most * to_skorch / to_loop),
        Ratio("search over three depths, over a PyTorch loop", to_loop, most),
    ]
    record("depths", "A search over three depths", text, ratios)


def same_accuracy() -> None:
    table, behind = accuracies()
    text = (
        "The same contestants with bundled:efficientnet-lite0 at 64 px: 200 digits of scikit-learn, 5 folds, 6 epochs, "
        "one rate (0.003), mean ± standard error. The default recipe has a tenth of that rate below the head.\n\n"
        f"{table}\n\nLess accurate by two standard errors: {', '.join(behind) or 'nowhere'}.\n"
    )
    record("accuracy", "Accuracy of the contestants", text)


def main() -> None:
    resnet = load_backbone("torchvision:resnet18", weights="random")
    parts = {"frozen": lambda: all_frozen(resnet), "depths": lambda: three_depths(resnet), "accuracy": same_accuracy}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
