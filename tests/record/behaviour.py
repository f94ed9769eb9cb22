"""What every estimator gives on fixed inputs, written down so that two versions of the package can be compared.

    python tests/record/behaviour.py behaviour.npz

Everything runs in float32 with fixed seeds on one thread, so on one processor two runs of one version agree bitwise.
Only public names are used: the script runs against any version, the one that is importable. ``compare.py`` runs it
against two commits.
"""

import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

import skltransfer as st
from skltransfer.model_selection import h_score, knn_score, log_me_score, probe_score, trans_rate_score

OPTIONS = {"dtype": "float32", "random_state": 0}
TRAINED = OPTIONS | {"freeze_depth": 0.5, "max_epochs": 2}
Values = dict[str, np.ndarray]


class Data:
    """Small inputs of each kind, and targets that can be learnt."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.y = np.arange(36) % 3
        noise = rng.integers(0, 128, (36, 20, 20, 3), dtype=np.uint8)
        self.photos = noise + (60 * self.y).astype(np.uint8)[:, None, None, None]
        self.rows = rng.standard_normal((36, 5)) + self.y[:, None]
        self.texts = [
            f"{('good', 'bad', 'odd')[k]} film, number {i}" + " so long" * (i % 5) for i, k in enumerate(self.y)
        ]
        self.sounds = [rng.standard_normal(4000 + 100 * i) * 0.05 * (1 + k) for i, k in enumerate(self.y)]
        self.numbers = np.column_stack([self.rows[:, 0], 100 + 10 * self.rows[:, 1]])
        self.names = np.array(["a", "b", "c"])[self.y]
        self.tags = np.eye(3, dtype=int)[self.y]
        self.weights = np.arange(36) % 4 + 0.5


def fitted_values(model: Any) -> Values:
    """Public attributes that ``fit`` left, as JSON where they are no arrays."""
    found = {k: v for k, v in vars(model).items() if k.endswith("_") and not k.startswith("_")}
    return {k: v if isinstance(v, np.ndarray) and v.dtype != object else _json(v) for k, v in sorted(found.items())}


def _json(value: Any) -> np.ndarray:
    return np.array(json.dumps(value, default=_plain, sort_keys=True))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return repr(value) if not hasattr(value, "fingerprint") else value.fingerprint


def answers(model: Any, X: Any) -> Values:
    """What the verbs give that the model has."""
    found = {}
    for verb in ("predict", "predict_proba", "decision_function", "transform"):
        if hasattr(model, verb):
            value = getattr(model, verb)(X)
            for i, part in enumerate(value if isinstance(value, list) else [value]):
                found[f"{verb}{i}"] = np.asarray(part) if part is not None else np.array("None")
                if found[f"{verb}{i}"].dtype == object:
                    found[f"{verb}{i}"] = found[f"{verb}{i}"].astype(str)
    return found


def file_values(model: Any, **options: Any) -> Values:
    """Size and hash of what ``save`` writes, and what ``load`` makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model.skl"
        model.save(place, **options)
        content = place.read_bytes()
        again = st.load(place)
    return {
        "file": np.array(hashlib.sha256(content).hexdigest()),
        **{f"loaded {k}": v for k, v in fitted_values(again).items()},
    }


def fine_tuners(d: Data) -> Iterator[tuple[str, Any, Any, Any, dict]]:
    """Name, estimator, X, y and what else ``fit`` takes."""
    classifier, regressor = st.FineTunedClassifier, st.FineTunedRegressor
    for name, options in {
        "probe": {"freeze_depth": 1.0},
        "half": {},
        "whole": {"freeze_depth": 0.0},
        "chosen": {"freeze_depth": "auto"},
        "by name": {"freeze_depth": "block1"},
        "hidden layer": {"head": "mlp"},
        "random head": {"head_init": "random"},
        "early stopping and calibration": {
            "early_stopping": True,
            "calibrate": "temperature",
            "validation_fraction": 0.3,
        },
        "gradual": {"freeze_depth": 0.0, "unfreeze_schedule": "gradual", "max_epochs": 4},
        "norms that follow": {"freeze_depth": 0.0, "norm_policy": "train"},
        "rates": {"layer_decay": 0.7, "warmup": 0.3, "lr_schedule": "constant", "max_grad_norm": 0.1, "batch_size": 7},
        "smoothed and balanced": {"label_smoothing": 0.1, "class_weight": "balanced", "C": 0.1},
        "no cache": {"cache": None},
    }.items():
        yield f"images, {name}", classifier("toy:images", **TRAINED | options), d.photos, d.names, {}
    yield "images, weights", classifier("toy:images", **TRAINED), d.photos, d.y, {"sample_weight": d.weights}
    yield "images, two classes", classifier("toy:images", **TRAINED), d.photos, d.y == 0, {}
    yield "images, tags", classifier("toy:images", **TRAINED), d.photos, d.tags, {}
    yield "texts, half", classifier("toy:text", **TRAINED), d.texts, d.y, {}
    yield "texts, adapters", classifier("toy:text", adapter="lora", **TRAINED), d.texts, d.y, {}
    yield "texts, windows", classifier("toy:text", max_length=16, long_samples="windows", **TRAINED), d.texts, d.y, {}
    yield "sounds, half", classifier("toy:audio", sampling_rate=8000, **TRAINED), d.sounds, d.y, {}
    yield "rows, numbers", regressor("toy:rows", **TRAINED), d.rows, d.numbers, {}
    yield "rows, chosen", regressor("toy:rows", **OPTIONS, max_epochs=2), d.rows, d.numbers[:, 0], {}
    yield "rows, ridge", regressor("toy:rows", freeze_depth=1.0, **OPTIONS), d.rows, d.numbers[:, 0], {}
    tasks = np.column_stack([d.y, d.rows[:, 0]])
    for weights in ("equal", "uncertainty"):
        yield f"tasks, {weights}", st.MultiTaskFineTuner("toy:rows", loss_weights=weights, **TRAINED), d.rows, tasks, {}
    few = OPTIONS | {"max_epochs": 2}
    yield "few, prototypes", st.FewShotClassifier("toy:images", **few), d.photos, d.names, {}
    yield "few, contrastive", st.FewShotClassifier("toy:images", method="contrastive", **few), d.photos, d.names, {}
    domains = np.where(np.arange(36) < 20, 1, -1)
    for method in ("mcc", "deep_coral", "norm_statistics", None):
        model = st.DomainAdaptedClassifier("toy:images", method=method, **TRAINED | {"freeze_depth": 0.0})
        yield f"domains, {method}", model, d.photos, d.y, {"sample_domain": domains}


def of_fine_tuners(d: Data) -> Iterator[tuple[str, Values]]:
    for name, model, X, y, more in fine_tuners(d):
        model.fit(X, y, **more)
        yield name, fitted_values(model) | answers(model, X) | file_values(model)
    model = st.FineTunedClassifier("toy:images", **TRAINED).partial_fit(d.photos[:18], d.y[:18], classes=[0, 1, 2])
    model.partial_fit(d.photos[18:], d.y[18:])
    yield "in parts", fitted_values(model) | answers(model, d.photos)
    model = st.FineTunedClassifier("toy:images", warm_start=True, **TRAINED).fit(d.photos, d.y).fit(d.photos, d.y)
    yield "warm", fitted_values(model) | answers(model, d.photos) | file_values(model, include_backbone=True)


def of_bundled(d: Data) -> Iterator[tuple[str, Values]]:
    photos = np.kron(d.photos[:15], np.ones((1, 4, 4, 1), dtype=np.uint8))
    network = st.load_backbone("bundled:efficientnet-lite0", input_size=64)
    for depth in (1.0, -1):
        model = st.FineTunedClassifier(network, **OPTIONS | {"freeze_depth": depth, "max_epochs": 1}).fit(
            photos, d.y[:15]
        )
        yield f"lite0, {depth}", fitted_values(model) | answers(model, photos)
    model = st.FineTunedClassifier("bundled:minilm", **OPTIONS | {"freeze_depth": -1, "max_epochs": 1})
    model.fit(d.texts[:15], d.y[:15])
    yield "minilm", fitted_values(model) | answers(model, d.texts[:15])


def of_extractors(d: Data) -> Iterator[tuple[str, Values]]:
    for backbone, X in (("toy:images", d.photos), ("toy:text", d.texts), ("toy:rows", d.rows)):
        for options in ({}, {"layer": 0.5}, {"layer": ["stem", 1.0]}, {"pooling": "max"}):
            model = st.PretrainedFeatureExtractor(backbone, dtype="float32", **options).fit(X)
            yield f"features, {backbone}, {options}", answers(model, X) | fitted_values(model)
    domains = np.where(np.arange(36) < 20, 1, -1)
    features = st.PretrainedFeatureExtractor("toy:rows", dtype="float32").fit_transform(d.rows)
    for method in ("coral", "subspace", None):
        try:
            model = st.FeatureAdaptedClassifier(method=method).fit(features, d.y, sample_domain=domains)
        except (ValueError, TypeError) as error:
            yield f"aligned, {method}", {"error": np.array(str(error))}
        else:
            yield f"aligned, {method}", answers(model, features) | fitted_values(model)
    for model, y in ((st.ELMClassifier(random_state=0), d.y), (st.ELMRegressor(random_state=0), d.numbers)):
        model.fit(features, y)
        yield type(model).__name__, answers(model, features) | fitted_values(model)


def of_pretraining(d: Data) -> Iterator[tuple[str, Values]]:
    options = {"dtype": "float32", "random_state": 0}
    model = st.AdaptedBackbone("toy:text", objective="masked_lm", max_epochs=2, **options).fit(d.texts)
    yield "adapted to texts", answers(model, d.texts) | {"history": _json(model.history_)}
    model = st.AdaptedBackbone("toy:images", objective="norm_statistics", **options).fit(d.photos)
    yield "adapted norms", answers(model, d.photos)


def of_selection(d: Data) -> Iterator[tuple[str, Values]]:
    model = st.FineTunedClassifier("toy:images", **TRAINED)
    search = GridSearchCV(model, {"freeze_depth": [1.0, 0.5, 0.0]}, cv=3).fit(d.photos, d.y)
    yield "search", {"scores": search.cv_results_["mean_test_score"]} | answers(search, d.photos)
    yield "cross-validation", {"scores": cross_val_score(clone(model), d.photos, d.y, cv=3, scoring="neg_log_loss")}
    report = st.transfer_report(model, d.photos, d.y, cv=3, baselines=("random", "linear"), random_state=0)
    timeless = [{k: v for k, v in record.items() if "seconds" not in k} for record in report.table_]
    yield "report", {"table": _json(timeless), "words": _json([report.verdict, report.reason, report.warnings])}
    ranking = st.score_transferability(["toy:images"], d.photos, d.y)
    rows = [{k: v for k, v in vars(row).items() if "seconds" not in k} for row in ranking.candidates]
    yield "ranking", {"rows": _json(rows)}
    features = st.PretrainedFeatureExtractor("toy:images", dtype="float32").fit_transform(d.photos)
    scores = (probe_score, log_me_score, knn_score, trans_rate_score, h_score)
    yield "scores", {score.__name__: np.array(score(features, d.y)) for score in scores}


def of_faults(d: Data) -> Iterator[tuple[str, Values]]:
    """Words of errors that users meet."""
    faults: dict[str, Callable[[], Any]] = {
        "depth": lambda: st.FineTunedClassifier("toy:images", freeze_depth="all").fit(d.photos, d.y),
        "labels": lambda: st.FineTunedClassifier("toy:images").fit(d.photos, [None, *d.y[1:].tolist()]),
        "lengths": lambda: st.FineTunedClassifier("toy:images").fit(d.photos, d.y[1:]),
        "sample": lambda: st.FineTunedClassifier("toy:images").fit([b"no picture", *d.photos[1:]], d.y),
        "adapter": lambda: st.FineTunedClassifier("toy:text", freeze_depth=1.0, adapter="lora").fit(d.texts, d.y),
        "rate": lambda: st.FineTunedClassifier("toy:images", learning_rate=-1.0).fit(d.photos, d.y),
        "diverged": lambda: st.FineTunedRegressor("toy:rows", learning_rate=1e30, **TRAINED).fit(d.rows, d.numbers),
    }
    for name, fault in faults.items():
        try:
            fault()
        except Exception as error:
            yield f"fault, {name}", {"words": np.array(f"{type(error).__name__}: {error}")}
        else:
            yield f"fault, {name}", {"words": np.array("none")}


def main(place: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    d, found = Data(), {}
    for part in (of_fine_tuners, of_extractors, of_pretraining, of_selection, of_faults, of_bundled):
        for name, values in part(d):
            found |= {f"{name} | {key}": value for key, value in values.items()}
    np.savez(place, **{key.replace("/", "_"): value for key, value in found.items()})


if __name__ == "__main__":
    main(sys.argv[1])
