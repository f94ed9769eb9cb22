"""How the cost of a search grows: in samples, candidates, folds and depths; and under a small budget.

    python tests/benchmarks/bench_growth.py

Run it alone on the machine; about five minutes. ``FineTunedClassifier`` with the default network on generated photos
of 96 px. Each point is the median of three cold searches. *Prefix* is the time in which frozen stages ran; the samples
that they computed must grow with samples and depths alone.
"""

import time
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from report import DOCS, record
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skltransfer import ActivationStore, FineTunedClassifier, load_backbone

PICTURE = DOCS / "images" / "growth_of_a_search.png"


class Search(NamedTuple):
    """What is searched."""

    samples: int = 128
    candidates: int = 2
    folds: int = 3
    depths: int = 1


AXES = {"samples": (64, 128, 256, 512), "candidates": (1, 2, 4, 8), "folds": (2, 3, 5, 10), "depths": (1, 2, 3, 4)}
DEPTHS = [1.0, 0.9, 0.75, 0.6]


class Cost(NamedTuple):
    """Seconds in all, seconds in the frozen stages of a cold store, and samples that these computed."""

    seconds: float
    prefix: float
    computed: int


def photos(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8), np.arange(n) % 2


def searched(search: Search, store: ActivationStore) -> np.ndarray:
    X, y = photos(search.samples)
    backbone = load_backbone("bundled:efficientnet-lite0", input_size=96)
    model = FineTunedClassifier(backbone, max_epochs=3, random_state=0, cache=store)
    grid = {"freeze_depth": DEPTHS[: search.depths], "C": np.logspace(-1, 1, search.candidates)}
    found = GridSearchCV(model, grid, cv=StratifiedKFold(search.folds), refit=False, error_score="raise").fit(X, y)
    return found.cv_results_["mean_test_score"]


def cost(search: Search) -> Cost:
    """The median of three cold searches; a warm one tells what the frozen stages took."""
    runs = []
    for _ in range(3):
        store = ActivationStore()
        start = time.perf_counter()
        searched(search, store)
        cold = time.perf_counter() - start
        computed = store.info()["misses"]
        start = time.perf_counter()
        searched(search, store)
        runs.append(Cost(cold, max(0.0, cold - (time.perf_counter() - start)), computed))
    return sorted(runs)[1]


def budget() -> str:
    """A search under 200 MB, and one under 2 MB, give the scores of one without a bound."""
    search = Search(samples=256, depths=4)
    scores = {mb: searched(search, ActivationStore(max_bytes=mb * 10**6)) for mb in (1000, 200, 2)}
    assert all(np.array_equal(s, scores[1000]) for s in scores.values()), scores
    return f"Scores of {len(scores[1000])} candidates are bitwise the same under a budget of 1000, 200 and 2 MB."


def main() -> None:
    searched(Search(samples=16), ActivationStore())  # loads and verifies the backbone
    costs = {
        axis: {value: cost(Search()._replace(**{axis: value})) for value in values} for axis, values in AXES.items()
    }
    lines = ["| what grows | | search | of it frozen stages | samples computed |", "|---|---|---|---|---|"]
    for axis, points in costs.items():
        for value, c in points.items():
            lines.append(f"| {axis} | {value} | {c.seconds:.2f} s | {c.prefix:.2f} s | {c.computed} |")
    for axis in ("candidates", "folds"):
        assert len({c.computed for c in costs[axis].values()}) == 1, "computed anew for a candidate or a fold"
    assert all(c.computed == n for n, c in costs["samples"].items())
    picture(costs)
    text = (
        "bundled:efficientnet-lite0 at 96 px; where nothing else is said 128 photos, 2 values of C, 3 folds, "
        "freeze_depth 1.0. Medians of three cold searches; the frozen stages' part is what a second, warm search "
        "saves.\n\n" + "\n".join(lines) + f"\n\n{budget()}\n\n![cost of a search](../images/{PICTURE.name})\n"
    )
    record("growth", "How the cost of a search grows", text)


def picture(costs: dict[str, dict[int, Cost]]) -> None:
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained", sharey=False)
    for ax, (axis, points) in zip(axes, costs.items(), strict=True):
        ax.plot(list(points), [c.seconds for c in points.values()], "o-", color="#4878a8", label="search")
        ax.plot(list(points), [c.prefix for c in points.values()], "s--", color="#c44e52", label="frozen stages")
        ax.set_xlabel(axis)
        ax.set_ylim(0)
        ax.set_xticks(list(points))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("seconds")
    axes[0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
