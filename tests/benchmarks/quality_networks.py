"""What adapting a network to another domain gives: digits of two post offices, and photos that were spoilt.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_networks.py results.json

*Digits*: MNIST and USPS, 16 x 16, all samples of both domains, the target's without labels; a network of three
convolutions and a dense layer, defined below and trained from random weights. *Photos*: ``bundled:tiny-photo`` learns
from 1,000 photos of CIFAR-10, and gets BatchNorm statistics of 1,000 others that were blurred, faded or made noisy, or
left as they are; scored on 1,000 further ones, spoilt likewise. Last, a target that holds two of the ten classes. Five
draws each. Results are kept in the file as they come, so a killed run goes on.
"""

import io
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from bench_transfer import SEEDS, SMALL, cifar
from networks import tiny_photo
from PIL import Image, ImageEnhance, ImageFilter
from torch import nn

from skltransfer import Backbone, DomainAdaptedClassifier, load_backbone
from skltransfer.backbones import seeded
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._registry import ADAPTERS
from skltransfer.exceptions import AdaptationWarning

METHODS = [None, "norm_statistics", "deep_coral", "mcc"]
WIDTHS = {"block1": (3, 32), "block2": (32, 64), "block3": (64, 128)}
FROM_NOTHING = {
    "freeze_depth": 0.0,
    "norm_policy": "train",
    "head_init": "random",
    "backbone_lr_factor": 1.0,
    "max_epochs": 40,
    "batch_size": 64,
    "lr_schedule": "constant",
    "dtype": "float32",
}
TUNED = {"freeze_depth": 0.0, "max_epochs": 5, "dtype": "float32"}


class SmallNetwork(nn.Module):
    """Three times convolution, BatchNorm and pooling; a dense layer; 0.2 million weights."""

    def __init__(self) -> None:
        super().__init__()
        for name, (n_in, n_out) in WIDTHS.items():
            convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
            self.add_module(name, nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)))
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(512, 128), nn.BatchNorm1d(128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dense(self.block3(self.block2(self.block1(x)))))


def load_small(name: str, weights: str, options: Mapping) -> Backbone:
    """An adapter: from a name to a backbone."""
    with seeded(int(weights.partition(":")[2])):
        network = SmallNetwork().eval()
    return Backbone(
        GraphCut(network, [(stage, stage) for stage in (*WIDTHS, "dense")]),
        name=f"small:{name}",
        weights=weights,
        preprocessing=ImagePreprocessing(resize=16, crop=16, mean=(0.0,) * 3, std=(1.0,) * 3),
        pooling="mean",
        head_names={"head.weight", "head.bias"},
        options=options,
    )


def told(model: DomainAdaptedClassifier, X: np.ndarray, y: np.ndarray) -> bool:
    """Fit; whether a warning came."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        model.fit(X, y)
    return any(message.category is AdaptationWarning for message in messages)


def digits(data: pathlib.Path, source: str, target: str, seed: int) -> dict[str, float]:
    arrays = np.load(data / "digits_mnist_usps_16.npz")
    X = np.concatenate([arrays[f"{source}_X"], arrays[f"{target}_X"]])
    truth = arrays[f"{target}_y"]
    y = np.r_[arrays[f"{source}_y"].astype(int), np.full(len(truth), -1)]
    network, found = load_backbone("small:digits", weights=f"random:{seed}"), {}
    for method in METHODS:
        model = DomainAdaptedClassifier(network, method=method, random_state=seed, **FROM_NOTHING)
        told(model, X, y)
        found[str(method)] = model.score(X[-len(truth) :], truth)
    return found


def blurred(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(1.5))


def faded(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(photo).enhance(0.3)


def noisy(photo: Image.Image, rng: np.random.Generator, sigma: float = 0.1) -> Image.Image:
    values = np.asarray(photo) + rng.normal(0, sigma * 255, (*photo.size[::-1], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def noisier(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    return noisy(photo, rng, sigma=0.2)


def as_it_is(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    return photo


SPOILT = {"blur": blurred, "contrast": faded, "noise": noisy, "more noise": noisier, "clean": as_it_is}


def spoilt(content: np.ndarray, change: Callable, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    photos = [change(Image.open(io.BytesIO(photo)).convert("RGB"), rng) for photo in content]
    return np.stack([np.asarray(photo) for photo in photos])


def photos(data: pathlib.Path, seed: int) -> dict[str, float]:
    draw = list(cifar(data, 100))[seed]
    source, found = spoilt(draw.X_train, as_it_is, seed), {}
    rows = np.random.default_rng(seed).permutation(len(draw.y_test))
    unlabelled, rest = rows[:1000], rows[1000:]
    y = np.r_[draw.y_train.astype(int), np.full(len(unlabelled), -1)]
    two = unlabelled[draw.y_test[unlabelled] < 2]
    network = tiny_photo(input_size=SMALL)

    def scored(name: str, change: Callable, target: np.ndarray, others: np.ndarray, method: str | None) -> None:
        model = DomainAdaptedClassifier(network, method=method, random_state=seed, **TUNED)
        X = np.concatenate([source, spoilt(draw.X_test[target], change, seed)])
        found[f"{name}, told"] = told(model, X, y[: len(X)])
        found[name] = model.score(spoilt(draw.X_test[others], change, seed + 1), draw.y_test[others])
        if name.startswith("before"):  # one model of the source alone, scored on every kind of photo
            for kind, other in SPOILT.items():
                found[f"{kind}, before"] = model.score(spoilt(draw.X_test[rest], other, seed + 1), draw.y_test[rest])
            found["two classes, before"] = model.score(*_two(draw, rest))

    scored("before", as_it_is, unlabelled, rest, None)
    for kind, change in SPOILT.items():
        scored(f"{kind}, after", change, unlabelled, rest, "norm_statistics")
    scored("two classes, after", as_it_is, two, rest[draw.y_test[rest] < 2], "norm_statistics")
    return {name: float(value) for name, value in found.items()}


def _two(draw, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = rest[draw.y_test[rest] < 2]
    return spoilt(draw.X_test[chosen], as_it_is, 0), draw.y_test[chosen]


def main() -> None:
    ADAPTERS["small"] = load_small
    data, place = pathlib.Path(os.environ["SKLTRANSFER_DATA"]), pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}
    tasks = {
        "USPS to MNIST": lambda seed: digits(data, "usps", "mnist", seed),
        "MNIST to USPS": lambda seed: digits(data, "mnist", "usps", seed),
        "CIFAR-10": lambda seed: photos(data, seed),
    }
    for name, task in tasks.items():
        for seed in SEEDS:
            if f"{name} {seed}" not in results:
                results[f"{name} {seed}"] = task(seed)
                place.write_text(json.dumps(results, indent=1))
            print(name, seed, {k: round(v, 3) for k, v in results[f"{name} {seed}"].items()}, flush=True)
        draws = [results[f"{name} {seed}"] for seed in SEEDS]
        for key in draws[0]:
            values = [draw[key] for draw in draws]
            print(f"| {name} | {key} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |", flush=True)


if __name__ == "__main__":
    main()
