"""A search over four depths in two processes against one, each with one thread: the same scores, and how much sooner.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_processes.py [--photos 96]

Run it alone on the machine, of two cores at least; about six minutes. The folder of activations is empty at the start
of each search. The processes have started and have loaded what they need before the clock does. That each sample passes
each stage once in all processes together is a test (tests/engine/test_search_in_processes.py).
"""

import argparse
import os
import tempfile
import time

import numpy as np
from joblib import Parallel, delayed
from report import Ratio, record
from sklearn.model_selection import GridSearchCV
from timing import Timing, table

from skltransfer import Backbone, FineTunedClassifier, load_backbone

GRID = {"freeze_depth": [0.25, 0.5, 0.75, 1.0]}  # longest fits first, as freeze_depth_grid has them
ENOUGH = 8  # short tasks, so that each process takes one


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 224, 224, 3), dtype=np.uint8), np.arange(n) % 2


def network() -> Backbone:
    return load_backbone("torchvision:resnet18", weights="random")


def warm(X: np.ndarray, y: np.ndarray) -> None:
    FineTunedClassifier(network(), max_epochs=1, cache=None).fit(X, y).predict(X)


def search(n_jobs: int, X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds and scores of a search with an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        model = FineTunedClassifier(network(), max_epochs=5, random_state=0, cache=folder)
        options = {"cv": 3, "scoring": "neg_log_loss", "refit": False, "error_score": "raise", "n_jobs": n_jobs}
        start = time.perf_counter()
        found = GridSearchCV(model, GRID, **options).fit(X, y)
        return time.perf_counter() - start, found.cv_results_["mean_test_score"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("Set OMP_NUM_THREADS=1, so that one process has one thread, as each of two has.")
    X, y = data(chosen.photos)
    warm(X[:8], y[:8])
    Parallel(n_jobs=2)(delayed(warm)(X[:8], y[:8]) for _ in range(ENOUGH))
    seconds = {1: [], 2: []}
    for _ in range(chosen.repetitions):
        scores = {}
        for n_jobs, times in seconds.items():
            took, scores[n_jobs] = search(n_jobs, X, y)
            times.append(took)
            print(n_jobs, took, flush=True)
        np.testing.assert_allclose(scores[2], scores[1], atol=1e-6)
    one, two = (Timing(tuple(times)) for times in seconds.values())
    text = (
        f"ResNet-18 with random weights, {len(X)} photos of 224 px, freeze_depth 0.25, 0.5, 0.75 and 1.0 in this "
        "order, 3 folds, 5 epochs, one thread in each process; one folder of activations, empty at the start. Scores "
        "are equal (1e-6). "
        f"Two processes took {two.median / one.median:.2f} of the time of one.\n\n"
        f"{table({'two processes': two, 'one process': one}, 'two processes')}"
    )
    record(
        "processes",
        "A search over four depths in two processes",
        text,
        [Ratio("search over four depths in two processes, over one", one.median / two.median, 2)],
    )


if __name__ == "__main__":
    main()
