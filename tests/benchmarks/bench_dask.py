"""A search in two Dask workers against one: the same scores, each sample once through the prefix, and how much sooner.

    python tests/benchmarks/bench_dask.py [--photos 400]

Run it alone on the machine, of two cores at least; minutes. Each worker is a process of one thread with the memory
settings that docs/how_to/distributed.md advises; the folder is empty at the start of each search. Workers have
started and have loaded what they need before the clock does.
"""

import argparse
import os
import tempfile
import time

import joblib
import numpy as np
from dask.distributed import Client, LocalCluster
from report import Ratio, record
from sklearn.model_selection import GridSearchCV
from timing import Timing, table

from skltransfer import Backbone, FineTunedClassifier, load_backbone
from skltransfer.engine import folder_store

MEMORY = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "33554432"}
GRID = {"freeze_depth": [0.75], "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3]}


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8), np.arange(n) % 2


def network() -> Backbone:
    return load_backbone("bundled:efficientnet-lite0", input_size=64)


def search(folder: str, X: np.ndarray, y: np.ndarray) -> GridSearchCV:
    model = FineTunedClassifier(network(), dtype="float32", max_epochs=3, random_state=0, cache=folder)
    options = {"cv": 4, "scoring": "neg_log_loss", "refit": False, "error_score": "raise"}
    return GridSearchCV(model, GRID, **options).fit(X, y)


def warm(X: np.ndarray, y: np.ndarray) -> None:
    """In a worker: imports, and the backbone."""
    FineTunedClassifier(network(), dtype="float32", max_epochs=1, cache=None).fit(X, y).predict(X)


def computed(folder: str) -> int:
    return folder_store(folder).info()["misses"]


def one_round(client: Client, n_workers: int, X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds and scores of a search with an empty folder, each sample computed once."""
    with tempfile.TemporaryDirectory() as folder, joblib.parallel_config("dask", scatter=[X, y]):
        start = time.perf_counter()
        # with a single worker joblib would search here, in the client
        found = search(folder, X, y) if n_workers > 1 else client.submit(search, folder, X, y, pure=False).result()
        seconds = time.perf_counter() - start
        n_computed = sum(client.run(computed, folder).values())
        assert n_computed == len(X), f"{n_computed} samples were computed, of {len(X)}"
    return seconds, found.cv_results_["mean_test_score"]


def rounds(n_workers: int, X: np.ndarray, y: np.ndarray, repetitions: int) -> tuple[Timing, np.ndarray]:
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        places = client.scheduler_info(n_workers=-1)["workers"]
        assert len(places) == n_workers
        client.gather([client.submit(warm, X[:8], y[:8], workers=[place], pure=False) for place in places])
        seconds, scores = zip(*(one_round(client, n_workers, X, y) for _ in range(repetitions)), strict=True)
    return Timing(seconds), scores[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    os.environ.update(MEMORY)
    X, y = data(chosen.photos)
    (one, expected), (two, scores) = (rounds(n, X, y, chosen.repetitions) for n in (1, 2))
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    text = (
        f"bundled:efficientnet-lite0 in float32, {len(X)} photos of 64 px, freeze_depth 0.75, 4 learning rates, 4 "
        "folds, 3 epochs; one folder of activations, empty at the start; workers with the memory settings of [several "
        "machines](../how_to/distributed.md). Scores are equal (1e-6), and the workers together "
        f"computed {len(X)} samples. Two workers took {two.median / one.median:.2f} of the time of one.\n\n"
        f"{table({'two workers': two, 'one worker': one}, 'two workers')}"
    )
    record(
        "dask",
        "A search in Dask's workers",
        text,
        [Ratio("search with two Dask workers, over one", one.median / two.median, 2)],
    )


if __name__ == "__main__":
    main()
