"""Fine-tuning against a hand-written loop of a fixed recipe, on three sets of photos.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_photos.py results.json

The rival is what a practitioner writes: ``bundled:tiny-photo`` and a linear layer, all of it trained by AdamW at one
rate, 10 epochs, cosine, flips and crops, BatchNorm in evaluation mode. Its rate is the one of three that does best on
a held-out fifth of the training part; then it is trained on all of it. ``FineTunedClassifier`` keeps its defaults, and
its freeze depth is the one of four that does best on the same fifth. Accuracy on the test part, drawn five times. The
probe is compared with StandardScaler and LogisticRegression on the extracted features. Results are kept in the file as
they come, so a killed run goes on. Alone on 2 cores: about an hour.
"""

import io
import json
import os
import pathlib
import sys

import numpy as np
import torch
from bench_transfer import SEEDS, SMALL, Draw, cifar, folds, hymenoptera
from networks import tiny_photo
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from skltransfer import Backbone, FineTunedClassifier, PretrainedFeatureExtractor

DEPTHS, RATES, EPOCHS, BATCH = [1.0, 0.75, 0.5, 0.0], [3e-4, 1e-3, 3e-3], 10, 32
TASKS = {
    "hymenoptera, 219 labels": hymenoptera,
    "CIFAR-10, 50 per class": lambda data: cifar(data, 50),
    "satellite, 5-fold": lambda data: folds(data, "satellite_rsscn7_96.tar.gz"),
}


class Rival:
    """The loop by hand. Pictures are decoded and scaled once; a flip and a shift of an eighth are drawn per epoch."""

    def __init__(self, backbone: Backbone, rate: float, seed: int) -> None:
        self.backbone, self.rate, self.seed = backbone, rate, seed

    def fit(self, inputs: torch.Tensor, y: np.ndarray) -> "Rival":
        torch.manual_seed(self.seed)
        self.classes, targets = np.unique(y, return_inverse=True)
        body = self.backbone.suffix(0)
        head = nn.Linear(self.backbone.n_features, len(self.classes))
        self.network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=self.rate)
        order = [torch.randperm(len(y)).split(BATCH) for _ in range(EPOCHS)]
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, sum(len(batches) for batches in order))
        self.network.eval()  # BatchNorm stays, and there is no dropout
        for batch in (rows for epoch in order for rows in epoch):
            loss = F.cross_entropy(self.network(flipped_and_shifted(inputs[batch])), torch.tensor(targets)[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return self

    @torch.inference_mode()
    def score(self, inputs: torch.Tensor, y: np.ndarray) -> float:
        outputs = torch.cat([self.network(part) for part in inputs.split(256)])
        return float((self.classes[outputs.argmax(1).numpy()] == y).mean())


def flipped_and_shifted(pictures: torch.Tensor) -> torch.Tensor:
    side = pictures.shape[-1]
    padded = F.pad(pictures, [side // 8] * 4, mode="reflect")
    flips, places = torch.rand(len(pictures)) < 0.5, torch.randint(0, 2 * (side // 8) + 1, (len(pictures), 2))
    cut = [p[:, i : i + side, j : j + side] for p, (i, j) in zip(padded, places, strict=True)]
    return torch.stack([p.flip(-1) if flip else p for p, flip in zip(cut, flips, strict=True)])


def inputs_of(pictures: np.ndarray, backbone: Backbone) -> torch.Tensor:
    opened = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in pictures]
    return torch.stack([backbone.preprocessing(pixels) for pixels in opened])


def of_rival(draw: Draw, parts: tuple[np.ndarray, np.ndarray], backbone: Backbone, seed: int) -> dict[str, float]:
    train, held_out = parts
    X, X_test = inputs_of(draw.X_train, backbone), inputs_of(draw.X_test, backbone)
    seen = {rate: Rival(backbone, rate, seed).fit(X[train], draw.y_train[train]) for rate in RATES}
    found = {f"held out, rival at {rate}": m.score(X[held_out], draw.y_train[held_out]) for rate, m in seen.items()}
    for rate in RATES:
        found[f"rival at {rate}"] = Rival(backbone, rate, seed).fit(X, draw.y_train).score(X_test, draw.y_test)
    best = max(RATES, key=lambda rate: found[f"held out, rival at {rate}"])
    return found | {"rival": found[f"rival at {best}"]}


def of_ours(draw: Draw, parts: tuple[np.ndarray, np.ndarray], backbone: Backbone, seed: int) -> dict[str, float]:
    (train, held_out), X, y, found = parts, draw.X_train, draw.y_train, {}
    for depth in DEPTHS:
        model = FineTunedClassifier(backbone, freeze_depth=depth, random_state=seed)
        found[f"held out, depth {depth}"] = model.fit(X[train], y[train]).score(X[held_out], y[held_out])
        found[f"depth {depth}"] = model.fit(X, y).score(draw.X_test, draw.y_test)
    best = max(DEPTHS, key=lambda depth: found[f"held out, depth {depth}"])
    return found | {"ours": found[f"depth {best}"]}


def of_probe(draw: Draw, backbone: Backbone) -> dict[str, float]:
    """The largest difference between the probe's probabilities and those of scikit-learn's own logistic regression."""
    X, y, C = draw.X_train, draw.y_train, 0.01
    ours = FineTunedClassifier(backbone, freeze_depth=1.0, C=C, dtype="float32").fit(X, y)
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32")
    theirs = make_pipeline(extractor, StandardScaler(), LogisticRegression(C=C, tol=1e-8, max_iter=5000)).fit(X, y)
    return {
        "probe differs by": float(np.abs(ours.predict_proba(draw.X_test) - theirs.predict_proba(draw.X_test)).max())
    }


def measured(task: str, draw: Draw, seed: int) -> dict[str, float]:
    backbone = tiny_photo(input_size=SMALL if "CIFAR" in task else None)
    rows = np.arange(len(draw.y_train))
    parts = tuple(train_test_split(rows, test_size=0.2, stratify=draw.y_train, random_state=seed))
    found = of_ours(draw, parts, backbone, seed) | of_rival(draw, parts, backbone, seed)
    return found | of_probe(draw, backbone)


def main() -> None:
    data, place = pathlib.Path(os.environ["SKLTRANSFER_DATA"]), pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}
    for task, draws in TASKS.items():
        for seed, draw in zip(SEEDS, draws(data), strict=True):
            if f"{task} {seed}" not in results:
                results[f"{task} {seed}"] = measured(task, draw, seed)
                place.write_text(json.dumps(results, indent=1))
            shown = {name: round(value, 3) for name, value in results[f"{task} {seed}"].items() if "held" not in name}
            print(task, seed, shown, flush=True)
        of_task = [results[f"{task} {seed}"] for seed in SEEDS]
        for name in of_task[0]:
            values = [draw[name] for draw in of_task]
            print(f"| {task} | {name} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |", flush=True)


if __name__ == "__main__":
    main()
