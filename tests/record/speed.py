"""Is the package as fast as it was at another commit, and does it need as much memory? Paired runs, alternating.

    python tests/record/speed.py COMMIT [pairs]

Each run is a process of its own, on one thread, that times a fit of photos and one of texts with half of the stages
frozen, predictions, and a search over three depths; eleven pairs by default. Prints the median of the paired ratios
(now / then) with a 95 % bootstrap interval. Leave the machine alone meanwhile: about six minutes.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from compare import ROOT

JOBS = """
import json, resource, sys, time, warnings
import numpy as np
from sklearn.model_selection import GridSearchCV
from skltransfer import FineTunedClassifier, load_backbone

warnings.simplefilter("ignore")
rng, found = np.random.default_rng(0), {}
X = rng.integers(0, 255, (64, 72, 72, 3), dtype=np.uint8)
words = np.array("good bad film long short actor story light dark quiet".split())
texts = [" ".join(rng.choice(words, 4 + i % 40)) for i in range(96)]
photos = load_backbone("torchvision:resnet18", weights="random", input_size=64)
reader = load_backbone("toy:text")
options = {"dtype": "float32", "random_state": 0, "max_epochs": 3, "cache": None}
for backbone in (photos, reader):
    backbone.verify()


def timed(name, function):
    start = time.perf_counter()
    result = function()
    found[name] = time.perf_counter() - start
    return result


for name, backbone, samples in (("photos", photos, X), ("texts", reader, texts)):
    y = np.arange(len(samples)) % 2
    model = FineTunedClassifier(backbone, freeze_depth=0.5, **options)
    timed(f"fit {name}", lambda: model.fit(samples, y))
    timed(f"predict {name}", lambda: model.predict(samples))
grid = {"freeze_depth": [1.0, 0.75, 0.5]}
search = GridSearchCV(FineTunedClassifier(photos, **options | {"cache": "memory"}), grid, cv=2)
timed("search", lambda: search.fit(X, np.arange(len(X)) % 2))
found["peak memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(found))
"""


def measured(tree: pathlib.Path) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    run = subprocess.run(
        [sys.executable, "-c", JOBS], env=os.environ | threads | {"PYTHONPATH": str(tree)}, check=True,
        capture_output=True, text=True, cwd=tree,
    )  # fmt: skip
    return json.loads(run.stdout)


def main(commit: str, n_pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True, capture_output=True)
        try:
            pairs = [
                {side: measured(place) for side, place in ((("then", tree), ("now", ROOT))[:: 1 if i % 2 else -1])}
                for i in range(n_pairs)
            ]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    rng = np.random.default_rng(0)
    for name in pairs[0]["now"]:
        ratios = np.array([pair["now"][name] / pair["then"][name] for pair in pairs])
        medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        print(f"{name}: {np.median(ratios):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 11)
