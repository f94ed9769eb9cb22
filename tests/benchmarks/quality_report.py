"""Can the verdicts of `transfer_report` be trusted? How often it claims what is not there, and misses what is.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_report.py results.json

*Nulls*: 500 data sets of 300 rows, on which a toy network is compared with its equal, which reads other columns that
say as much of the label; and 200 with labels that are coin tosses, against random weights, frozen and trained.
*Power*: 200 data sets on which the equal reads weaker columns; the same effect, as 10 times 5 folds with Nadeau and
Bengio's test find it in logistic regressions. *Photos*: ants and bees, and CIFAR-10 with 10 per class, by
``bundled:tiny-photo``. *Harm*: toy weights pretrained on permuted labels, on rows that are full of what the target task
asks for, so that they learn to ignore it. Results are kept in the file as they come, so a killed run goes on. Alone on
one core: about twenty minutes.
"""

import json
import os
import pathlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable

import numpy as np
from bench_transfer import cifar, members
from networks import tiny_photo
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import FineTunedClassifier, load_backbone, transfer_report
from skltransfer.model_selection._comparison import LEVEL, corrected_t

N, COLUMNS = 300, 16
EQUAL, STRONGER, WEAKER = (1.0, 1.0), 1.3, 0.8  # distance of the classes' means, in standard deviations, halved


def first_half(X: np.ndarray) -> np.ndarray:
    return X[:, :COLUMNS]


def second_half(X: np.ndarray) -> np.ndarray:
    return X[:, COLUMNS:]


def twins(seed: int, strengths: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of columns that speak of the label with these strengths, and are otherwise alike."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(N) % 2)
    direction = rng.normal(size=COLUMNS)
    signal = np.outer(2 * y - 1, direction / np.linalg.norm(direction))
    X = np.hstack([strength * signal + rng.normal(size=(N, COLUMNS)) for strength in strengths])
    return X.astype(np.float32), y


def toy(**parameters) -> FineTunedClassifier:
    defaults = {"freeze_depth": 1.0, "dtype": "float32", "random_state": 0}
    return FineTunedClassifier("toy:rows", **defaults | parameters)


def reading(half: Callable) -> Pipeline:
    return make_pipeline(FunctionTransformer(half), toy())


def against_its_equal(seed: int, strengths: tuple[float, float]) -> str:
    X, y = twins(seed, strengths)
    baselines = {"equal": reading(second_half)}
    return transfer_report(reading(first_half), X, y, baselines=baselines, random_state=seed).verdict


def coin_tosses(seed: int) -> str:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(N, COLUMNS)), rng.integers(0, 2, N)
    return transfer_report(toy(max_epochs=1), X, y, baselines=["scratch", "random"], random_state=seed).verdict


def fifty_folds(seed: int) -> str:
    """Whether the reference's procedure sees the planted effect."""
    X, y = twins(seed, (STRONGER, WEAKER))
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=10, random_state=seed)
    ours, theirs = (cross_val_score(LogisticRegression(), half(X), y, cv=folds) for half in (first_half, second_half))
    return (
        "HELPS" if corrected_t(ours, theirs, 1 / 4).p_value < LEVEL and ours.mean() > theirs.mean() else "CANNOT TELL"
    )


def searched(backbone) -> GridSearchCV:
    network = FineTunedClassifier(backbone, random_state=0)
    return GridSearchCV(network, {"freeze_depth": [1.0, 0.75]}, cv=3)


def photos(which: str) -> str:
    data = pathlib.Path(os.environ["SKLTRANSFER_DATA"])
    if which == "ants and bees":
        X, names = members(data / "hymenoptera.tar.gz")
        train = np.array([name[0] == "train" for name in names])
        X, y, backbone = X[train], np.array([name[1] for name in names])[train], tiny_photo()
    else:
        draw = next(cifar(data, 10))
        X, y, backbone = draw.X_train, draw.y_train, tiny_photo(input_size=40)
    report = transfer_report(searched(backbone), X, y, random_state=0)
    print(report, flush=True)
    return report.verdict


def harmful_weights(path: pathlib.Path, seed: int = 0, n_epochs: int = 60) -> None:
    """Pretrain on permuted labels; the two columns that the target asks for are six times as large as the others."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, 2 * COLUMNS)) * np.r_[6, 6, np.ones(2 * COLUMNS - 2)]
    y = rng.permutation((X[:, 4:7] > 0) @ [1, 2, 4])
    source = toy(
        weights="random:1",
        freeze_depth=0.0,
        backbone_lr_factor=1.0,
        norm_policy="train",
        head_init="random",
        batch_size=64,
        learning_rate=1e-2,
        max_epochs=n_epochs,
    ).fit(X, y)
    state = {k: v.numpy() for k, v in load_backbone("toy:rows", weights="random:1").library_state().items()}
    learnt = {k.removeprefix("suffix."): v for k, v in source._network_.changed.items() if k.startswith("suffix.")}
    save_file(state | learnt, path)


def harm(seed: int) -> str:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, 2 * COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder, "harmful.safetensors")
        harmful_weights(weights)
        model = toy(weights=str(weights), C=1.0)
        report = transfer_report(model, X, X[:, 0] + X[:, 1] > 0, baselines=["scratch", "random"], random_state=seed)
    print(report, flush=True)
    return report.verdict


STUDIES: dict[str, tuple[Callable[..., str], list]] = {
    "null: an equal": (lambda seed: against_its_equal(seed, EQUAL), list(range(500))),
    "power: a weaker twin": (lambda seed: against_its_equal(seed, (STRONGER, WEAKER)), list(range(200))),
    "power of 50 folds": (fifty_folds, list(range(100))),
    "harm": (harm, list(range(7))),
    "photos": (photos, ["ants and bees", "CIFAR-10, 10 per class"]),
    "null: coin tosses": (coin_tosses, list(range(200))),
}


def main() -> None:
    place = pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}
    for name, (study, cases) in STUDIES.items():
        verdicts = results.setdefault(name, {})
        for case in cases:
            if str(case) not in verdicts:
                verdicts[str(case)] = study(case)
                place.write_text(json.dumps(results, indent=1))
        print(f"{name}: {dict(Counter(verdicts.values()))} of {len(verdicts)}", flush=True)


if __name__ == "__main__":
    main()
