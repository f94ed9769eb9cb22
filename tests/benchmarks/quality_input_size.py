"""Which bundled network, and read at how many pixels: frozen features and the probe, on six sets of pictures.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_input_size.py results.json

Test accuracy of the default probe, mean ± standard deviation of five draws, and milliseconds per picture. Nothing is
tuned on test parts. Results are kept in the file as they come, so a killed run goes on. Alone on 2 cores: about fifteen
minutes, of which the larger network takes half.
"""

import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from bench_transfer import members
from networks import TINY_PHOTO, tiny_photo_weights

from skltransfer import PretrainedFeatureExtractor, load_backbone
from skltransfer._estimators.probe import LogisticProbe

LITE0, LITE2 = "bundled:efficientnet-lite0", "bundled:efficientnet-lite2"
CANDIDATES = [(LITE0, "pretrained", side) for side in (224, 160, 128, 96)]
CANDIDATES += [(LITE2, "pretrained", side) for side in (260, 160)]
CANDIDATES += [(LITE0, "random", 224), (TINY_PHOTO, "pretrained", 64), (TINY_PHOTO, "pretrained", 40)]
Splits = list[tuple[np.ndarray, np.ndarray]]


def drawn(y: np.ndarray, n_train: int, n_test: int) -> Splits:
    splitter = StratifiedShuffleSplit(5, train_size=n_train, test_size=n_test, random_state=0)
    return list(splitter.split(np.zeros(len(y)), y))


def cifar(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, Splits]:
    """50 labels per class from the first 2,500 training pictures; the first 1,000 test pictures."""
    archive, parts = np.load(path), {}
    for part, n in (("train", 2500), ("test", 1000)):
        content, offset = archive[f"{part}_jpeg"], archive[f"{part}_offset"]
        pictures = [content[a:b].tobytes() for a, b in zip(offset[:n], offset[1 : n + 1], strict=True)]
        parts[part] = (pictures, archive[f"{part}_label"][:n])
    (X, y), (X_test, y_test) = parts["train"], parts["test"]
    test = np.arange(2500, 3500)
    rows = [train_test_split(np.arange(2500), train_size=500, stratify=y, random_state=seed)[0] for seed in range(5)]
    return np.array(X + X_test, dtype=object), np.concatenate([y, y_test]), [(train, test) for train in rows]


def tasks(data: pathlib.Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, Splits]]:
    X, names = members(data / "hymenoptera.tar.gz")
    y = np.array([name[1] for name in names])
    yield "ants and bees, 244 labels", X, y, drawn(y, 244, 153)
    for name, archive in (("satellite", "satellite_rsscn7_96.tar.gz"), ("blood cells", "blood_cells_wbc1.tar.gz")):
        X, names = members(data / archive)
        y = np.array([name[0] for name in names])
        classes, counts = np.unique(y, return_counts=True)
        kept = np.isin(y, classes[counts >= 10])
        folds = StratifiedKFold(5, shuffle=True, random_state=0).split(X[kept], y[kept])
        yield f"{name}, 5-fold", X[kept], y[kept], list(folds)
    yield "CIFAR-10, 50 per class", *cifar(data / "cifar10_jpeg.npz")
    X, names = members(data / "medical_mnist_64.tar.gz")
    y = np.array([name[0] for name in names])
    yield "medical, 10 per class", X, y, drawn(y, 60, 500)
    X, y = load_digits(return_X_y=True)
    X = np.rint(X.reshape(-1, 8, 8) / 16 * 255).astype(np.uint8)[:1200]
    yield "digits, 200 labels", X, y[:1200], drawn(y[:1200], 200, 1000)


def thumbnails(X: np.ndarray) -> np.ndarray:
    """Rows of 32 x 32 pixels."""
    opened = (Image.fromarray(x) if isinstance(x, np.ndarray) else Image.open(io.BytesIO(x)) for x in X)
    return np.stack([np.asarray(image.convert("RGB").resize((32, 32))).ravel() / 255 for image in opened])


def scores(model, features: np.ndarray, y: np.ndarray, splits: Splits) -> list[float]:
    return [float(model.fit(features[train], y[train]).score(features[test], y[test])) for train, test in splits]


def measured(candidate: tuple[str, str, int], X: np.ndarray, y: np.ndarray, splits: Splits) -> dict:
    name, weights, side = candidate
    weights = tiny_photo_weights() if name == TINY_PHOTO else weights
    extractor = PretrainedFeatureExtractor(load_backbone(name, weights=weights, input_size=side), cache=None)
    extractor.transform(list(X[:8]))
    start = time.perf_counter()
    features = extractor.transform(list(X))
    milliseconds = 1000 * (time.perf_counter() - start) / len(X)
    return {"scores": scores(LogisticProbe(), features, y, splits), "milliseconds": milliseconds}


def table(results: dict[str, dict[str, dict]]) -> str:
    names = list(next(iter(results.values())))
    lines = [f"| network | {' | '.join(names)} | mean | ms |", "|---" * (len(names) + 3) + "|"]
    for candidate, found in results.items():
        cells = [f"{np.mean(one['scores']):.3f} ± {np.std(one['scores'], ddof=1):.3f}" for one in found.values()]
        mean = np.mean([np.mean(one["scores"]) for one in found.values()])
        times = [one["milliseconds"] for one in found.values() if one["milliseconds"]]
        time_of_one = f"{np.median(times):.0f}" if times else ""
        lines.append(f"| {candidate} | {' | '.join(cells)} | {mean:.3f} | {time_of_one} |")
    return "\n".join(lines)


def main(path: pathlib.Path, data: pathlib.Path) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    for task, X, y, splits in tasks(data):
        for candidate in CANDIDATES:
            name = f"{candidate[0]}{', random weights' * (candidate[1] == 'random')}, {candidate[2]} px"
            of_network = results.setdefault(name, {})
            if task not in of_network:
                of_network[task] = measured(candidate, X, y, splits)
                path.write_text(json.dumps(results))
        of_pixels = results.setdefault("logistic regression on 32 x 32 pixels", {})
        if task not in of_pixels:
            of_pixels[task] = {"scores": scores(plain, thumbnails(X), y, splits), "milliseconds": None}
            path.write_text(json.dumps(results))
        print(f"{task}\n{table(results)}\n", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["SKLTRANSFER_DATA"]))
