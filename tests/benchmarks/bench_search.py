"""What the store gives a search over freeze depths: the same GridSearchCV with it and without it, in one process.

    python tests/benchmarks/bench_search.py [repetitions]

Run it alone on the machine. Both searches must score alike; what is reported is the ratio of medians. Without the
store each fit still runs the frozen stages once, not once per epoch; so the ratio is what folds and candidates share.
"""

import statistics
import sys
import time

import numpy as np
from sklearn.model_selection import GridSearchCV

from skltransfer import ActivationStore, FineTunedClassifier

DEPTHS = [1.0, 0.75, 0.5]
NAME, N, SIDE = "torchvision:resnet18", 48, 160


def seconds(cache, X, y):
    classifier = FineTunedClassifier(NAME, weights="random", max_epochs=5, cache=cache, random_state=0)
    search = GridSearchCV(classifier, {"freeze_depth": DEPTHS}, cv=3, refit=False, error_score="raise")
    start = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - start, search.cv_results_["mean_test_score"]


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8), np.arange(N) % 2
    seconds(None, X[:8], y[:8])
    times = {"store": [], "no store": []}
    scores = {}
    for _ in range(repetitions):
        for name, cache in (("store", ActivationStore()), ("no store", None)):
            taken, scores[name] = seconds(cache, X, y)
            times[name].append(taken)
    assert np.allclose(scores["store"], scores["no store"]), scores
    print(f"{NAME}, {N} pictures, depths {DEPTHS}, 3 folds, 5 epochs, median of {repetitions} (spread)")
    for name, values in times.items():
        print(f"  {name:9s} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})")
    print(f"  ratio     {statistics.median(times['no store']) / statistics.median(times['store']):.2f}")


if __name__ == "__main__":
    main()
