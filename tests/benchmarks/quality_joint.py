"""Is one network for a text and the numbers beside it better than frozen features before a model of tables?

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_joint.py results.json

Netflix titles: the description is read by MiniLM; beside it are numbers and kinds of the title, but no genres. Two
targets that were chosen before any run: the *audience* (three classes, accuracy) of 2,000 titles, and the *minutes* of
2,000 movies (R²). Three times two folds, each of which trains on half; differences have the corrected 95 % interval
(Nadeau and Bengio 2003). Results are kept in the file as they come. Alone on 2 cores: about ten minutes.
"""

import json
import os
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import RepeatedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skltransfer import FineTunedClassifier, FineTunedRegressor, PretrainedFeatureExtractor

N = 2000
FOLDS = RepeatedKFold(n_splits=2, n_repeats=3, random_state=0)
JOINT = {"all frozen": {"freeze_depth": 1.0}, "half trained": {"freeze_depth": 0.5, "max_epochs": 3}}


class Table(NamedTuple):
    """A table with a text, and a target."""

    X: pd.DataFrame
    y: pd.Series
    numbers: list[str]
    kinds: list[str]


def tables() -> dict[str, Table]:
    titles = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"], "netflix_titles_mixed.csv.gz"))
    titles["added"] = pd.to_datetime(titles.date_added).dt.year
    titles["country"] = titles.countries.fillna("unknown").str.split(",").str[0]
    some = titles.sample(N, random_state=0).reset_index(drop=True)
    movies = titles[titles.minutes.notna()].sample(N, random_state=0).reset_index(drop=True)
    of_all = ["release_year", "minutes", "seasons", "added"]
    return {
        "audience": Table(some, some.audience, of_all, ["show_type", "country"]),
        "minutes": Table(movies, movies.minutes, ["release_year", "added"], ["country"]),
    }


def encoded(table: Table, reader: Any) -> ColumnTransformer:
    """Numbers and kinds as numbers; the text as a reader gives it, or as it is."""
    rare = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10, sparse_output=False)
    columns = [
        ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), table.numbers),
        ("kinds", rare, table.kinds),
    ]
    if reader is not None:
        columns.append(("text", reader, ["description"]))
    names = {"verbose_feature_names_out": False, "sparse_threshold": 0}
    return ColumnTransformer(columns, **names).set_output(transform="pandas")


def models(name: str, table: Table) -> dict[str, Pipeline]:
    is_label = name == "audience"
    boosting = (HistGradientBoostingClassifier if is_label else HistGradientBoostingRegressor)(random_state=0)
    linear = LogisticRegressionCV(max_iter=2000) if is_label else RidgeCV(np.logspace(-1, 4, 11))
    tuned = FineTunedClassifier if is_label else FineTunedRegressor
    frozen = PretrainedFeatureExtractor("bundled:minilm")
    return {
        "table, boosting": make_pipeline(encoded(table, None), boosting),
        "extractor, boosting": make_pipeline(encoded(table, frozen), boosting),
        "extractor, linear": make_pipeline(encoded(table, frozen), StandardScaler(), linear),
        **{
            f"joint, {how}": make_pipeline(
                encoded(table, "passthrough"),
                tuned("bundled:minilm", sample_column="description", random_state=0, **options),
            )
            for how, options in JOINT.items()
        },
    }


def interval(difference: np.ndarray) -> tuple[float, float, float]:
    """The mean of paired differences, and its 95 % interval; half of the rows train, half test."""
    n = len(difference)
    half = student.ppf(0.975, n - 1) * np.sqrt(difference.var(ddof=1) * (1 / n + 1))
    return difference.mean(), difference.mean() - half, difference.mean() + half


def main(path: pathlib.Path) -> None:
    found = json.loads(path.read_text()) if path.exists() else {}
    for name, table in tables().items():
        for kind, model in models(name, table).items():
            key = f"{name}: {kind}"
            if key not in found:
                found[key] = cross_val_score(model, table.X, table.y, cv=FOLDS, error_score="raise").tolist()
                path.write_text(json.dumps(found))
            print(f"{key:32} {np.mean(found[key]):.3f} +- {np.std(found[key], ddof=1):.3f}", flush=True)
        frozen = np.array(found[f"{name}: extractor, boosting"])
        for how in JOINT:
            mean, low, high = interval(np.array(found[f"{name}: joint, {how}"]) - frozen)
            print(f"  joint, {how} - extractor, boosting: {mean:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
