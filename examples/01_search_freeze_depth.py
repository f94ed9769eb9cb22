"""How deep to freeze? Search it like any hyper-parameter.

200 labelled digits; a pretrained network in a Pipeline in a GridSearchCV over ``freeze_depth``; the rest is for
testing. Beside it: the same network from random weights, and logistic regression on raw pixels. Where the environment
variable SKLTRANSFER_DATA names a folder with ``hymenoptera.tar.gz``, the same for photos of ants and bees.
"""

import io
import os
import pathlib
import tarfile
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skltransfer import FineTunedClassifier

DEPTHS = [1.0, 0.75, 0.5, 0.0]
FIGURES = pathlib.Path(__file__).parent.parent / "figures"


class Task(NamedTuple):
    """Pictures, labels, the test part, and how a picture becomes a row of pixels for the baseline."""

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    to_photos: FunctionTransformer
    to_pixels: FunctionTransformer


def scaled(images):
    """Digits come as floats from 0 to 16; pictures are floats from 0 to 1."""
    return images / 16


def flattened(images):
    return images.reshape(len(images), -1)


def thumbnails(photos):
    """Encoded photos -> rows of 32 x 32 x 3 pixels."""
    opened = (Image.open(io.BytesIO(photo)).convert("RGB").resize((32, 32)) for photo in photos)
    return np.stack([np.asarray(image).ravel() / 255 for image in opened])


def digits() -> Task:
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)
    parts = train_test_split(X, y, train_size=200, stratify=y, random_state=0)
    X_train, X_test, y_train, y_test = parts
    to_photos, to_pixels = FunctionTransformer(scaled), FunctionTransformer(flattened)
    return Task("digits", X_train, y_train, X_test, y_test, to_photos, to_pixels)


def ants_and_bees(archive: pathlib.Path) -> Task:
    with tarfile.open(archive) as tar:
        rows = [(*member.name.split("/")[:2], tar.extractfile(member).read()) for member in tar if member.isfile()]
    X = np.array([content for *_, content in rows], dtype=object)
    part, y = (np.array([row[i] for row in rows]) for i in (0, 1))
    train, test = part == "train", part == "val"
    to_pixels = FunctionTransformer(thumbnails)
    return Task("ants and bees", X[train], y[train], X[test], y[test], FunctionTransformer(), to_pixels)


def search(task: Task, weights: str) -> GridSearchCV:
    """The main job: these few lines are what a user writes."""
    pipeline = Pipeline(
        [
            ("photos", task.to_photos),
            ("network", FineTunedClassifier("bundled:tiny-photo", weights=weights, random_state=0)),
        ]
    )
    grid = GridSearchCV(pipeline, {"network__freeze_depth": DEPTHS}, cv=3, error_score="raise")
    return grid.fit(task.X_train, task.y_train)


def tested(task: Task, model: Pipeline, depth: float) -> np.ndarray:
    """Which test pictures are classified rightly by a model of this depth, trained on the whole training part."""
    fitted = clone(model).set_params(network__freeze_depth=depth).fit(task.X_train, task.y_train)
    return fitted.predict(task.X_test) == task.y_test


def table(found: GridSearchCV, right: dict[float, np.ndarray]) -> str:
    lines = ["freeze_depth   cross-validated   fit (s)   test"]
    results = found.cv_results_
    for i, depth in enumerate(DEPTHS):
        chosen = "  <- chosen by cross-validation" if depth == found.best_params_["network__freeze_depth"] else ""
        score = f"{results['mean_test_score'][i]:.3f} ± {results['std_test_score'][i]:.3f}"
        lines.append(
            f"{depth:12.2f}   {score}   {results['mean_fit_time'][i]:7.2f}  {right[depth].mean():5.3f}{chosen}"
        )
    return "\n".join(lines)


def compared(ours: np.ndarray, theirs: np.ndarray, name: str) -> str:
    """The difference in words, with its paired standard error."""
    difference = ours.astype(float) - theirs
    points, error = 100 * difference.mean(), 100 * difference.std(ddof=1) / np.sqrt(len(difference))
    verdict = "ahead of" if points > 2 * error else "behind" if points < -2 * error else "not distinguishable from"
    return f"  {verdict} {name}: {points:+.1f} ± {error:.1f} points"


def picture(task: Task, searches: dict[str, GridSearchCV], pixels: tuple[float, float], path: pathlib.Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    styles = (("o", "#0072B2", 0.008), ("s", "#D55E00", -0.008))  # apart, so that no error bar hides another
    for (name, found), (marker, colour, shift) in zip(searches.items(), styles, strict=True):
        results = found.cv_results_
        axes.errorbar(
            np.add(DEPTHS, shift),
            results["mean_test_score"],
            results["std_test_score"],
            label=name,
            marker=marker,
            color=colour,
            capsize=4,
        )
    axes.axhline(pixels[0], color="#555555", linestyle="--", label="logistic regression on pixels")
    axes.axhspan(pixels[0] - pixels[1], pixels[0] + pixels[1], color="#555555", alpha=0.12, linewidth=0)
    axes.set_xticks(DEPTHS, ["1.0\nhead only", "0.75", "0.5", "0.0\neverything"])
    axes.invert_xaxis()
    axes.set_xlabel("freeze_depth (fraction of stages that stay frozen)")
    axes.set_ylabel("accuracy, 3-fold cross-validation (mean ± std)")
    axes.set_title(f"{task.name}: {len(task.y_train)} labelled pictures")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def run(task: Task) -> None:
    print(f"\n{task.name}: {len(task.y_train)} for training, {len(task.y_test)} for testing")
    searches, right = {}, {}
    for name, weights in (("pretrained network", "pretrained"), ("same network, random weights", "random")):
        searches[name] = search(task, weights)
        right[name] = {depth: tested(task, searches[name].estimator, depth) for depth in DEPTHS}
        print(f"\n{name}\n{table(searches[name], right[name])}")
    regression = LogisticRegression(max_iter=5000)
    baseline = GridSearchCV(
        make_pipeline(task.to_pixels, StandardScaler(), regression),
        {"logisticregression__C": [1e-3, 1e-2, 0.1, 1.0]},
        cv=3,
    ).fit(task.X_train, task.y_train)
    pixels = tuple(baseline.cv_results_[key][baseline.best_index_] for key in ("mean_test_score", "std_test_score"))
    right_pixels = baseline.predict(task.X_test) == task.y_test
    print(f"\nlogistic regression on pixels: {pixels[0]:.3f} ± {pixels[1]:.3f}, test {right_pixels.mean():.3f}")

    chosen = {name: found.best_params_["network__freeze_depth"] for name, found in searches.items()}
    ours, scratch = (right[name][chosen[name]] for name in searches)
    print(f"\nOn the test pictures, the pretrained network at freeze_depth={chosen['pretrained network']} is")
    print(compared(ours, scratch, "the same network from random weights"))
    print(compared(ours, right_pixels, "logistic regression on pixels"))
    path = FIGURES / f"freeze_depth_{task.name.replace(' ', '_')}.png"
    picture(task, searches, pixels, path)
    print(f"Picture: {path}")


def main() -> None:
    run(digits())
    archive = pathlib.Path(os.environ.get("SKLTRANSFER_DATA", ""), "hymenoptera.tar.gz")
    if "SKLTRANSFER_DATA" in os.environ and archive.exists():
        run(ants_and_bees(archive))
    else:
        print("\nAnts and bees are left out: SKLTRANSFER_DATA names no folder with hymenoptera.tar.gz.")


if __name__ == "__main__":
    main()
