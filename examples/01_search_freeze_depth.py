"""How deep to freeze? Search it like any hyper-parameter.

Which surface does a photo show? 200 labelled squares of ten photographs (``surfaces.py`` says which), and a pretrained
network in a GridSearchCV over ``freeze_depth``. Beside it: the same network from random weights, and logistic
regression on pixels. All are tested on 300 squares from the other half of each photograph.
"""

import pathlib
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from surfaces import load_surfaces
from tqdm import tqdm

from skltransfer import FineTunedClassifier, load_backbone

DEPTHS = [1.0, 0.5, 0.0]
PRETRAINED, RANDOM, PIXELS = "pretrained network", "same network, random weights", "logistic regression on pixels"
FIGURES = pathlib.Path(__file__).parent.parent / "figures"


def search(weights: str, X: np.ndarray, y: np.ndarray, progress: tqdm) -> GridSearchCV:
    """The main job: without the progress bar, these few lines are what a user writes."""

    def accuracy(model: FineTunedClassifier, X: np.ndarray, y: np.ndarray) -> float:
        score = model.score(X, y)
        progress.update()
        return score

    backbone = load_backbone("bundled:efficientnet-lite0", weights=weights, input_size=64)  # as large as the squares
    classifier = FineTunedClassifier(backbone, max_epochs=4, dtype="float32", random_state=0)
    grid = GridSearchCV(classifier, {"freeze_depth": DEPTHS}, cv=3, scoring=accuracy, error_score="raise")
    return grid.fit(X, y)


def search_pixels(X: np.ndarray, y: np.ndarray) -> GridSearchCV:
    flatten = FunctionTransformer(lambda images: images.reshape(len(images), -1))
    pipeline = make_pipeline(flatten, StandardScaler(), LogisticRegression(max_iter=1000))
    return GridSearchCV(pipeline, {"logisticregression__C": [1e-4, 1e-2, 1.0]}, cv=3).fit(X, y)


def best_score(found: GridSearchCV) -> tuple[float, float]:
    """Mean and standard deviation over the folds."""
    return tuple(found.cv_results_[key][found.best_index_] for key in ("mean_test_score", "std_test_score"))


def depth_table(found: GridSearchCV) -> str:
    results = found.cv_results_
    lines = ["freeze_depth   cross-validated   fit (s)"]
    for i, depth in enumerate(DEPTHS):
        score = f"{results['mean_test_score'][i]:.3f} ± {results['std_test_score'][i]:.3f}"
        chosen = "  <- chosen by cross-validation" if i == found.best_index_ else ""
        lines.append(f"{depth:12.2f}   {score:>15}   {results['mean_fit_time'][i]:7.1f}{chosen}")
    return "\n".join(lines)


def test_table(right: dict[str, np.ndarray]) -> str:
    """Accuracy on the test squares; how far the pretrained network is ahead, with the paired standard error."""
    lines = [f"accuracy on {len(right[PRETRAINED])} test squares"]
    for name, hits in right.items():
        lead = 100 * (right[PRETRAINED].astype(float) - hits)
        error = lead.std(ddof=1) / np.sqrt(len(lead))
        behind = "" if name == PRETRAINED else f"   pretrained ahead by {lead.mean():.1f} ± {error:.1f} points"
        lines.append(f"{name:32}{hits.mean():.3f}{behind}")
    return "\n".join(lines)


def plot_depths(searches: dict[str, GridSearchCV], pixels: tuple[float, float]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    styles = (("o", "#0072B2", 0.008), ("s", "#D55E00", -0.008))  # apart, so that no error bar hides another
    for (name, found), (marker, colour, shift) in zip(searches.items(), styles, strict=True):
        mean, std = (found.cv_results_[key] for key in ("mean_test_score", "std_test_score"))
        axes.errorbar(np.add(DEPTHS, shift), mean, std, label=name, marker=marker, color=colour, capsize=4)
    axes.axhline(pixels[0], color="#555555", linestyle="--", label=PIXELS)
    axes.axhspan(pixels[0] - pixels[1], pixels[0] + pixels[1], color="#555555", alpha=0.12, linewidth=0)
    axes.set_xticks(DEPTHS, ["1.0\ntrains the head", "0.5\ntrains the upper half", "0.0\ntrains everything"])
    axes.invert_xaxis()
    axes.set(xlabel="freeze_depth (fraction of stages that stay frozen)", ylim=(0, 1))
    axes.set_ylabel("accuracy, 3-fold cross-validation (mean ± std)")
    axes.set_title("Which of ten surfaces? 200 labelled squares of photographs")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_predictions(X: np.ndarray, y: np.ndarray, predicted: dict[str, np.ndarray]) -> plt.Figure:
    """Two test squares that the pretrained network names rightly, and one that it does not."""
    order = np.random.default_rng(0).permutation(len(y))
    right = (predicted[PRETRAINED] == y)[order]
    shown = [*order[right][:2], *order[~right][:1]]
    figure, axes = plt.subplots(1, 3, figsize=(9, 4), layout="constrained")
    for ax, i in zip(axes, shown, strict=False):
        ax.imshow(X[i], cmap="gray", vmin=0, vmax=1)
        answers = [f"{name}: {labels[i]}" for name, labels in predicted.items()]
        ax.set_title("\n".join([f"true: {y[i]}", *answers]), loc="left", fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    return figure


def save(figure: plt.Figure, name: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / name, dpi=120, bbox_inches="tight")
    plt.close(figure)
    print(f"Picture: {FIGURES / name}")


def main() -> None:
    start = time.perf_counter()
    X_train, X_test, y_train, y_test = load_surfaces()
    print(f"Which of ten surfaces? {len(y_train)} squares of photographs for training, {len(y_test)} for testing\n")
    baseline = search_pixels(X_train, y_train)
    pixels = best_score(baseline)
    print(f"{PIXELS}: {pixels[0]:.3f} ± {pixels[1]:.3f}, cross-validated\n", flush=True)

    searches, predicted = {}, {}
    for name, weights in ((PRETRAINED, "pretrained"), (RANDOM, "random")):
        with tqdm(total=3 * len(DEPTHS), desc=name, unit="fit") as progress:
            searches[name] = search(weights, X_train, y_train, progress)
        predicted[name] = searches[name].best_estimator_.predict(X_test)
        print(f"\n{name}\n{depth_table(searches[name])}\n", flush=True)
    predicted[PIXELS] = baseline.predict(X_test)

    print(test_table({name: labels == y_test for name, labels in predicted.items()}))
    save(plot_depths(searches, pixels), "freeze_depth_surfaces.png")
    save(plot_predictions(X_test, y_test, predicted), "surfaces_predictions.png")
    print(f"Done in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
