"""What bundled:tiny-photo gives on other data, and where it gives nothing: the transfer table of its model card.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_transfer.py results.json

Each task is drawn five times; each draw has a training part and a test part. On the training part alone: a probe on
the frozen network; the freeze depth that a held-out third of it prefers, fitted again on all of it; the same two from
random weights; and logistic regression on pixels, its C chosen likewise. Accuracy on the test part, mean ± standard
deviation. Results are kept in the file as they come, so a killed run goes on. Alone on 2 cores: about half an hour.
"""

import io
import json
import os
import pathlib
import sys
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skltransfer import FineTunedClassifier, load_backbone
from skltransfer.backbones._weights import read_metadata

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from networks import TINY_PHOTO, WEIGHTS, tiny_photo_weights

DEPTHS, SEEDS = [1.0, 0.75, 0.5], range(5)
FIGURES = pathlib.Path(__file__).parent.parent.parent / "figures"
SMALL = 40  # px at which CIFAR-10's photos of 32 px are read: enlarged to 64 they look like nothing it has seen
MANY = 1000  # training samples from which on fine-tuning takes 5 epochs


class Draw(NamedTuple):
    """One draw of a task."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def members(path: pathlib.Path) -> tuple[np.ndarray, list[list[str]]]:
    """Encoded pictures of an archive, and the parts of their names."""
    with tarfile.open(path) as tar:
        rows = [(member.name.split("/"), tar.extractfile(member).read()) for member in tar if member.isfile()]
    return np.array([content for _, content in rows], dtype=object), [name for name, _ in rows]


def cifar(data: pathlib.Path, n_per_class: int) -> Iterator[Draw]:
    archive = np.load(data / "cifar10_jpeg.npz")

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        content, offset = archive[f"{name}_jpeg"], archive[f"{name}_offset"]
        pictures = [content[a:b].tobytes() for a, b in zip(offset[:-1], offset[1:], strict=True)]
        return np.array(pictures, dtype=object), archive[f"{name}_label"]

    (X, y), (X_test, y_test) = part("train"), part("test")
    for seed in SEEDS:
        rows, _ = train_test_split(np.arange(len(y)), train_size=10 * n_per_class, stratify=y, random_state=seed)
        yield Draw(X[rows], y[rows], X_test, y_test)


def hymenoptera(data: pathlib.Path) -> Iterator[Draw]:
    """Its own split; a draw is nine tenths of the training part."""
    X, names = members(data / "hymenoptera.tar.gz")
    part, y = (np.array([name[i] for name in names]) for i in (0, 1))
    train, test = np.flatnonzero(part == "train"), part == "val"
    for seed in SEEDS:
        rows, _ = train_test_split(train, train_size=0.9, stratify=y[train], random_state=seed)
        yield Draw(X[rows], y[rows], X[test], y[test])


def few_per_class(data: pathlib.Path, archive: str, n_per_class: int) -> Iterator[Draw]:
    X, names = members(data / archive)
    y = np.array([name[0] for name in names])
    for seed in SEEDS:
        size = n_per_class * len(set(y))
        X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=size, stratify=y, random_state=seed)
        yield Draw(X_train, y_train, X_test, y_test)


def folds(data: pathlib.Path, archive: str) -> Iterator[Draw]:
    """Five folds; classes of fewer than ten pictures are left out."""
    X, names = members(data / archive)
    y = np.array([name[0] for name in names])
    classes, counts = np.unique(y, return_counts=True)
    kept = np.isin(y, classes[counts >= 10])
    X, y = X[kept], y[kept]
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        yield Draw(X[train], y[train], X[test], y[test])


def digits(data: pathlib.Path) -> Iterator[Draw]:
    X, y = load_digits(return_X_y=True)
    pictures = np.rint(X.reshape(-1, 8, 8) / 16 * 255).astype(np.uint8)
    for seed in SEEDS:
        X_train, X_test, y_train, y_test = train_test_split(pictures, y, train_size=200, stratify=y, random_state=seed)
        yield Draw(X_train, y_train, X_test, y_test)


TASKS: dict[str, Callable[[pathlib.Path], Iterator[Draw]]] = {
    "hymenoptera, 219 labels": hymenoptera,
    "satellite, 5-fold": lambda data: folds(data, "satellite_rsscn7_96.tar.gz"),
    "CIFAR-10, 10 per class": lambda data: cifar(data, 10),
    "CIFAR-10, 50 per class": lambda data: cifar(data, 50),
    "medical_mnist, 10 per class": lambda data: few_per_class(data, "medical_mnist_64.tar.gz", 10),
    "blood cells, 5-fold (balanced accuracy)": lambda data: folds(data, "blood_cells_wbc1.tar.gz"),
    "digits, 200 labels": digits,
    "CIFAR-10, 500 per class": lambda data: cifar(data, 500),
}


def pixels(pictures) -> np.ndarray:
    """Pictures in any container -> rows of 32 x 32 x 3 numbers in [0, 1]."""
    opened = [Image.open(io.BytesIO(p)) if isinstance(p, bytes) else Image.fromarray(p) for p in pictures]
    return np.stack([np.asarray(image.convert("RGB").resize((32, 32))).ravel() / 255 for image in opened])


def methods(draw: Draw, seed: int, input_size: int | None) -> dict[str, BaseEstimator]:
    held_out = StratifiedShuffleSplit(1, test_size=1 / 3, random_state=seed)
    epochs = 5 if len(draw.y_train) >= MANY else 10

    def network(weights: str, depth: float) -> FineTunedClassifier:
        weights = tiny_photo_weights() if weights == "pretrained" else weights
        backbone = load_backbone(TINY_PHOTO, weights=weights, input_size=input_size)
        return FineTunedClassifier(backbone, freeze_depth=depth, max_epochs=epochs, random_state=seed)

    def searched(weights: str) -> GridSearchCV:
        return GridSearchCV(network(weights, 1.0), {"freeze_depth": DEPTHS}, cv=held_out, error_score="raise")

    regression = make_pipeline(FunctionTransformer(pixels), StandardScaler(), LogisticRegression(max_iter=300))
    return {
        "probe": network("pretrained", 1.0),
        "best depth": searched("pretrained"),
        "random probe": network("random", 1.0),
        "random best depth": searched("random"),
        "pixels": GridSearchCV(regression, {"logisticregression__C": [1e-4, 1e-3, 1e-2, 0.1]}, cv=held_out),
    }


def table(results: dict[str, dict[str, list[float]]]) -> str:
    names = list(next(iter(results.values())))
    lines = ["| task | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for task, scores in results.items():
        cells = [f"{np.mean(scores[name]):.3f} ± {np.std(scores[name], ddof=1):.3f}" for name in names]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(results: dict[str, dict[str, list[float]]], path: pathlib.Path) -> None:
    """A dot per draw and a bar at the mean, task by task."""
    styles = {"best depth": "#0072B2", "probe": "#56B4E9", "random best depth": "#D55E00", "pixels": "#555555"}
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for place, scores in enumerate(reversed(results.values())):
        for shift, (name, colour) in zip((0.27, 0.09, -0.09, -0.27), styles.items(), strict=True):
            axes.plot(scores[name], [place + shift] * len(scores[name]), "o", color=colour, alpha=0.4, markersize=4)
            axes.plot(np.mean(scores[name]), place + shift, "|", color=colour, markersize=13, markeredgewidth=2.5)
    axes.set_yticks(range(len(results)), list(reversed(results)))
    axes.set_xlabel("accuracy on the test part; a dot per draw, a bar at the mean")
    names = {"best depth": "pretrained, best depth", "probe": "pretrained, probe"}
    names |= {"random best depth": "random weights, best depth", "pixels": "logistic regression on pixels"}
    handles = [plt.Line2D([], [], color=colour, marker="o", linestyle="") for colour in styles.values()]
    figure.legend(handles, [names[name] for name in styles], loc="outside lower center", ncols=2)
    axes.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def learning_curve(path: pathlib.Path) -> None:
    """What the file's own header says of its training."""
    curve = read_metadata(WEIGHTS)["learning_curve"]
    epochs = [row["epoch"] for row in curve]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(epochs, [100 * row["held_out_top1"] for row in curve], color="#0072B2", marker="o", markersize=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel("top-1 on held-out training photos (%)", color="#0072B2")
    beside = axes.twinx()
    beside.plot(epochs, [row["loss"] for row in curve], color="#D55E00")
    beside.set_ylabel("training loss (label smoothing 0.1)", color="#D55E00")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    data, path = pathlib.Path(os.environ["SKLTRANSFER_DATA"]), pathlib.Path(sys.argv[1])
    results = json.loads(path.read_text()) if path.exists() else {}
    for task, draws in TASKS.items():
        score = balanced_accuracy_score if "balanced" in task else accuracy_score
        scores = results.setdefault(task, {})
        for seed, draw in zip(SEEDS, draws(data), strict=True):
            input_size = SMALL if "CIFAR" in task else None
            for name, model in methods(draw, seed, input_size).items():
                if len(scores.setdefault(name, [])) > seed:
                    continue
                model.fit(draw.X_train, draw.y_train)
                scores[name].append(score(draw.y_test, model.predict(draw.X_test)))
                path.write_text(json.dumps(results, indent=1))
        print(table({task: scores}).splitlines()[-1], flush=True)
    print(table(results))
    FIGURES.mkdir(exist_ok=True)
    picture(results, FIGURES / "transfer_of_tiny_photo.png")
    learning_curve(FIGURES / "learning_curve_of_tiny_photo.png")
    print(f"Pictures: {FIGURES}")


if __name__ == "__main__":
    main()
