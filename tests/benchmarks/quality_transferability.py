"""Which transferability score to trust: the ranks that scores give candidates, against what the candidates then give.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_transferability.py results.json

Candidates are (backbone, stage) pairs: bundled:efficientnet-lite0, bundled:efficientnet-lite2 and bundled:tiny-photo,
each pretrained and from random weights. Of each of five sets of pictures, 200 to 240 labels are drawn three times;
each score sees a draw. The truth is the accuracy on other pictures, (a) of a linear head, its strength chosen by
cross-validation, fitted on the draw's features, mean of the draws; (b) of a network fine-tuned on the first draw,
frozen up to that stage: for those candidates alone that train fast. Agreement is the weighted Kendall tau over
candidates, with a 95 % bootstrap interval; regret is the best candidate's accuracy less that of the candidate with
the highest score. Results are kept in the file as they come, and activations in a folder beside it, so a killed run
goes on. Allow an hour for (a) and several for (b).
"""

import itertools
import json
import os
import pathlib
import sys
import time

import numpy as np
from bench_transfer import members
from networks import TINY_PHOTO, tiny_photo_weights
from scaling import ClippedScaler
from scipy.stats import weightedtau
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from tqdm import tqdm

from skltransfer import Backbone, FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.model_selection import h_score, knn_score, log_me_score, probe_score, trans_rate_score

SCORES = {"probe": probe_score, "log_me": log_me_score, "knn": knn_score, "trans_rate": trans_rate_score, "h": h_score}
LITE0, LITE2 = "bundled:efficientnet-lite0", "bundled:efficientnet-lite2"
LITE_STAGES = ["blocks.2", "blocks.4", "blocks.5", "blocks.6"]
CANDIDATES = {  # (name, weights): stages
    (LITE0, "pretrained"): LITE_STAGES,
    (LITE2, "pretrained"): LITE_STAGES,
    (TINY_PHOTO, "pretrained"): ["block2", "block4", "block6", "block8"],
    (LITE0, "random:1"): ["blocks.2", "blocks.4", "blocks.6"],
    (LITE2, "random:1"): ["blocks.2", "blocks.4", "blocks.6"],
    (TINY_PHOTO, "random:1"): ["block2", "block4", "block8"],
}
SLOW_TO_TUNE = {(LITE2, "pretrained"), (LITE2, "random:1")}
DRAWS, MOST_TESTED = 3, 500
Pool = tuple[np.ndarray, np.ndarray, int]


def cifar(data: pathlib.Path) -> Pool:
    archive = np.load(data / "cifar10_jpeg.npz")
    content, offset = archive["train_jpeg"], archive["train_offset"]
    pictures = [content[a:b].tobytes() for a, b in zip(offset[:-1], offset[1:], strict=True)]
    return np.array(pictures, dtype=object), archive["train_label"], 240


def mnist(data: pathlib.Path) -> Pool:
    archive = np.load(data / "digits_mnist_usps_16.npz")
    return archive["mnist_X"], archive["mnist_y"], 200


def folder(data: pathlib.Path, archive: str, part: int, n: int) -> Pool:
    """Labels are that part of each member's name."""
    X, names = members(data / archive)
    return X, np.array([name[part] for name in names]), n


POOLS = {
    "hymenoptera": lambda data: folder(data, "hymenoptera.tar.gz", 1, 240),
    "CIFAR-10": cifar,
    "satellite": lambda data: folder(data, "satellite_rsscn7_96.tar.gz", 0, 210),
    "medical": lambda data: folder(data, "medical_mnist_64.tar.gz", 0, 240),
    "MNIST": mnist,
}


def linear_head(width: int) -> GridSearchCV:
    head = make_pipeline(ClippedScaler(), LogisticRegression(max_iter=500))
    return GridSearchCV(head, {"logisticregression__C": [1 / width, 10 / width, 100 / width]}, cv=3)


class Task:
    """One data set: its draws, and what is measured of a candidate on them."""

    def __init__(self, pool: Pool, cache: pathlib.Path) -> None:
        self.X, self.y, n = pool
        splitter = StratifiedShuffleSplit(
            DRAWS, train_size=n, test_size=min(MOST_TESTED, len(self.y) - n), random_state=0
        )
        self.draws = list(splitter.split(self.X, self.y))
        self.cache = cache

    def score(self, backbone: Backbone, stage: str, found: dict) -> None:
        """Scores, what they took, and the accuracy of a linear head, per draw."""
        extractor = PretrainedFeatureExtractor(backbone, layer=stage, cache=self.cache)
        for train, test in self.draws[len(found["linear"]) :]:
            features, scores, seconds = extractor.transform(self.X[train]), {}, {}
            for metric, function in SCORES.items():
                start = time.perf_counter()
                scores[metric] = function(features, self.y[train])
                seconds[metric] = time.perf_counter() - start
            head = linear_head(features.shape[1]).fit(features, self.y[train])
            found["scores"].append(scores)
            found["seconds"].append(seconds)
            found["linear"].append(head.score(extractor.transform(self.X[test]), self.y[test]))

    def tune(self, backbone: Backbone, stage: str, found: dict) -> None:
        """Accuracy of the fine-tuned network, on the first draw."""
        if "tuned" not in found:
            train, test = self.draws[0]
            network = FineTunedClassifier(backbone, freeze_depth=stage, cache=self.cache, random_state=0)
            found["tuned"] = network.fit(self.X[train], self.y[train]).score(self.X[test], self.y[test])


def measure(data: pathlib.Path, place: pathlib.Path) -> dict:
    """All that is not in the file yet: first what is fast, for all candidates and sets."""
    results = json.loads(place.read_text()) if place.exists() else {}
    tasks = {name: Task(pool(data), place.with_suffix(".activations")) for name, pool in POOLS.items()}
    jobs = [(step, task, c) for step in (Task.score, Task.tune) for task in tasks for c in CANDIDATES]
    jobs = [job for job in jobs if job[0] is Task.score or job[2] not in SLOW_TO_TUNE]
    for step, task, candidate in tqdm(jobs):
        name, weights = candidate
        is_file = (name, weights) == (TINY_PHOTO, "pretrained")
        backbone = load_backbone(name, weights=tiny_photo_weights() if is_file else weights)
        for stage in CANDIDATES[candidate]:
            key = f"{task} | {name} {weights} | {stage}"
            step(tasks[task], backbone, stage, results.setdefault(key, {"scores": [], "seconds": [], "linear": []}))
            place.write_text(json.dumps(results, indent=1))
    return results


def agreement(scores: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Mean weighted tau over draws, its interval over resampled candidates, and mean regret.

    ``scores`` is (draws, candidates), ``truth`` (candidates,).
    """

    def tau(rows: np.ndarray) -> float:
        return float(np.mean([weightedtau(drawn[rows], truth[rows]).statistic for drawn in scores]))

    everyone = np.arange(len(truth))
    resampled = [tau(rng.choice(everyone, len(everyone))) for _ in range(500)]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return tau(everyone), low, high, float(np.mean(truth.max() - truth[scores.argmax(axis=1)]))


def table(results: dict, truth: str, only: str = "") -> list[str]:
    """Markdown: tau [interval] and regret in points, per score and data set."""
    tasks = list(dict.fromkeys(key.split(" | ")[0] for key in results))
    lines = [f"| {truth} | " + " | ".join(tasks) + " | mean tau | mean regret |", "|---" * (len(tasks) + 3) + "|"]
    for metric in SCORES:
        found = []
        for task in tasks:
            rows = [v for k, v in results.items() if k.startswith(f"{task} | ") and only in k and truth in v]
            scores = np.array([[draw[metric] for draw in row["scores"]] for row in rows]).T
            scores = scores[:1] if truth == "tuned" else scores  # the network was tuned on the first draw
            found.append(agreement(scores, np.array([np.mean(row[truth]) for row in rows]), np.random.default_rng(0)))
        cells = [f"{tau:.2f} [{low:.2f}, {high:.2f}], {100 * regret:.1f}" for tau, low, high, regret in found]
        taus, regrets = np.mean([f[0] for f in found]), np.mean([f[3] for f in found])
        lines.append(f"| {metric} | " + " | ".join(cells) + f" | {taus:.2f} | {100 * regrets:.1f} |")
    return lines


def backbones_in_order(results: dict) -> list[str]:
    """Markdown: of backbones, each with its highest score over stages, those pairs that fine-tuning ranks alike.

    What fine-tuning gives a backbone is its best over freeze depths.
    """
    tasks = list(dict.fromkeys(key.split(" | ")[0] for key in results))
    lines = ["| pairs in order | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for metric in SCORES:
        cells = []
        for task in tasks:
            best: dict[str, list[float]] = {}
            for key, row in results.items():
                if key.startswith(f"{task} | ") and "tuned" in row:
                    score, tuned = best.get(name := key.split(" | ")[1], [-np.inf, -np.inf])
                    best[name] = [max(score, row["scores"][0][metric]), max(tuned, row["tuned"])]
            pairs = [(a, b) for a, b in itertools.combinations(best.values(), 2) if a[1] != b[1]]
            right = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs)
            cells.append(f"{right} of {len(pairs)}")
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return lines


def truths(results: dict) -> list[str]:
    """Markdown: what each candidate gives, linear head / fine-tuned."""
    tasks = list(dict.fromkeys(key.split(" | ")[0] for key in results))
    names = list(dict.fromkeys(key.split(" | ", 1)[1] for key in results))
    lines = ["| candidate | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for name in names:
        rows = [results[f"{task} | {name}"] for task in tasks]
        cells = [f"{np.mean(row['linear']):.3f} / {row.get('tuned', np.nan):.3f}" for row in rows]
        lines.append(f"| {name.replace(' | ', ', ')} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    results = measure(pathlib.Path(os.environ["SKLTRANSFER_DATA"]), pathlib.Path(sys.argv[1]))
    print("\n".join(truths(results)))
    for truth in ("linear", "tuned") if any("tuned" in row for row in results.values()) else ("linear",):
        print("\n".join(["", *table(results, truth)]))
        print("\n".join(["", "Pretrained candidates alone:", *table(results, truth, only=" pretrained ")]))
    print("\n".join(["", *backbones_in_order(results)]))
    seconds = {m: np.mean([draw[m] for row in results.values() for draw in row["seconds"]]) for m in SCORES}
    print("\nseconds per candidate:", {metric: round(float(value), 3) for metric, value in seconds.items()})


if __name__ == "__main__":
    main()
