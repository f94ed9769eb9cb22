"""Searches over freeze depth for tags, masks and boxes: with the cache, without it, and torchvision in a plain loop.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_structures.py [tags] [masks] [boxes]

Three depths and three folds each, and the same number of optimizer steps; heads of tags and masks on a frozen network
are solved. *Loop*, for boxes: torchvision's FCOS on the same network in plain PyTorch, one fit per candidate and fold,
in which the frozen stages run in each step. *Bound*: the least share of the time without a cache that a search with one
can take, from the stages' shares of the cost of a forward pass, if a backward pass costs twice as much, and pyramid and
head cost nothing. Alone on 2 cores: about ten minutes.
"""

import gzip
import json
import os
import pathlib
import sys
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from quality_boxes import cells
from quality_masks import cells as masked_cells
from sklearn.model_selection import GridSearchCV, KFold
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from skltransfer import (
    ActivationStore,
    FineTunedDetector,
    FineTunedSegmenter,
    FineTunedTagger,
    describe_backbone,
    load_backbone,
)
from skltransfer.backbones import freeze_boundary

DEPTHS, FOLDS, EPOCHS = [1.0, 0.75, 0.5], 3, 3
FEW = 48  # images


def sentences(n: int) -> tuple[list, list]:
    path = pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "entities_wikigold.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:n]
    return [row["words"] for row in rows], [row["tags"] for row in rows]


def searched(model: Any, X: list, y: list, cache: ActivationStore | None) -> float:
    """Seconds of a search, without the fit on all samples at its end."""
    model = model.set_params(cache=cache, max_epochs=EPOCHS, random_state=0)
    start = time.perf_counter()
    GridSearchCV(
        model, {"freeze_depth": DEPTHS}, cv=KFold(FOLDS), scoring=lambda *_: 0.0, refit=False, error_score="raise"
    ).fit(X, y)
    return time.perf_counter() - start


def bound(name: str) -> float:
    """Least share of the time without a cache."""
    costs = np.array([stage.cost_share for stage in describe_backbone(name).stages])
    names = load_backbone(name).stage_names
    suffixes = [costs[freeze_boundary(depth, names) :].sum() for depth in DEPTHS]
    fits = FOLDS * EPOCHS * (FOLDS - 1) / FOLDS  # passes over all samples
    with_cache = 1 + sum(fits * 3 * suffix for suffix in suffixes)
    return with_cache / sum(fits * (1 + 2 * suffix) for suffix in suffixes)


class Trunk(nn.Module):
    """The stages of the network and a pyramid, for torchvision's detector."""

    def __init__(self, boundary: int, taps: tuple[int, ...]) -> None:
        super().__init__()
        backbone = load_backbone("bundled:efficientnet-lite0", input_size=320, letterbox=True)
        self.boundary, self.taps, self.out_channels = boundary, taps, 64
        self.frozen = nn.ModuleList(backbone.prefix(stage, stage + 1) for stage in range(boundary))
        self.trained = (
            backbone.suffix(boundary, [tap for tap in taps if tap > boundary]) if boundary < taps[-1] else None
        )
        channels = [backbone.activation_shapes[tap][0] for tap in taps]
        self.pyramid = FeaturePyramidNetwork(channels, 64, LastLevelMaxPool())

    def forward(self, images: torch.Tensor) -> OrderedDict:
        maps = []
        with torch.no_grad():
            for number, stage in enumerate(self.frozen, 1):
                images = stage(images)
                maps += [images] * (number in self.taps)
        if self.trained is not None:
            maps += list(self.trained(images))
        return self.pyramid(OrderedDict((str(i), one) for i, one in enumerate(maps)))


def loop(X: list, y: list, batch: int = 4) -> float:
    """Seconds of the same search by hand."""
    start = time.perf_counter()
    model = FineTunedDetector()
    backbone = model._loaded_backbone()
    taps = tuple(model._taps(backbone))
    labels = sorted({label for one in y for label in one["labels"]})
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    size = {"min_size": 320, "max_size": 320, "size_divisible": 1, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    for depth in DEPTHS:
        boundary = min(taps[-1], freeze_boundary(depth, backbone.stage_names))
        for train, _ in KFold(FOLDS).split(X):
            network = FCOS(Trunk(boundary, taps), len(labels), anchor_generator=anchors, **size).train()
            network.backbone.eval()
            params = [one for name, one in network.named_parameters() if ".frozen." not in name]
            optimizer, rng = torch.optim.AdamW(params, 2e-3, fused=True), np.random.default_rng(0)
            for _ in range(EPOCHS):
                for rows in np.array_split(rng.permutation(train), -(-len(train) // batch)):
                    images, targets = zip(*(placed(X[i], y[i], labels, backbone) for i in rows), strict=True)
                    loss = sum(network(list(images), list(targets)).values())
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(params, 1.0)
                    optimizer.step()
    return time.perf_counter() - start


def placed(image: bytes, target: dict, labels: list[str], backbone: Any) -> tuple[torch.Tensor, dict]:
    """An image and its boxes as the network sees them."""
    from skltransfer.inputs import samples_from_collection

    samples = samples_from_collection([image], "image", **backbone.reading)
    boxes = samples.geometry(0, backbone.preprocessing).to_input(np.array(target["boxes"], float).reshape(-1, 4))
    numbers = torch.tensor([labels.index(label) for label in target["labels"]], dtype=torch.long)
    return backbone.preprocessing(samples.read(0)), {"boxes": torch.tensor(boxes).float(), "labels": numbers}


def main(names: list[str]) -> None:
    boxes, masks, tags = ([part[:FEW] for part in cells()], [part[:FEW] for part in masked_cells()], sentences(200))
    tasks = {
        "tags": (lambda: FineTunedTagger(), tags, "bundled:minilm"),
        "masks": (lambda: FineTunedSegmenter(input_size=128), masks, "bundled:efficientnet-lite0"),
        "boxes": (lambda: FineTunedDetector(), boxes, "bundled:efficientnet-lite0"),
    }
    print("| task | samples | computed per sample | with cache, s | without, s | share | bound | loop, s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in names or tasks:
        make, (X, y), backbone = tasks[name]
        searched(make(), X[:6], y[:6], None)  # everything is loaded
        store = ActivationStore()
        cached, bare = searched(make(), X, y, store), searched(make(), X, y, None)
        by_hand = f"{loop(X, y):.0f}" if name == "boxes" else ""
        computed = store.info()["misses"] / len(X)
        row = (
            name,
            len(X),
            f"{computed:.1f}",
            f"{cached:.0f}",
            f"{bare:.0f}",
            f"{cached / bare:.2f}",
            f"{bound(backbone):.2f}",
            by_hand,
        )
        print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
