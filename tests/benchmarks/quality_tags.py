"""Tags of words: entities in Wikipedia sentences, and parts of speech in web texts, with MiniLM.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_tags.py results.json

*Entities*: Wikigold, sentences of 3 to 60 words, 600 to fit and 600 to test, five draws; F1 of exact entities. *Parts
of speech*: the dev part of EWT, 1,000 and 1,000, word accuracy, two draws. *Most frequent*: the tag that a word has
most often in the training part, or the most frequent tag of all for words that are not in it. *Random*: the same
network with random weights. Nothing is tuned on test parts. Results are kept in the file as they come, so a killed run
goes on. Alone on 2 cores: about twenty minutes.
"""

import gzip
import json
import os
import pathlib
import sys
import time
from collections import Counter

import numpy as np

from skltransfer import FineTunedTagger, entity_f1_score

TWO_LAYERS = ["encoder.layer.1", "encoder.layer.4"]
MODELS = {
    "frozen, layer 2": {"freeze_depth": 1.0, "layer": "encoder.layer.2"},
    "frozen, layer 3": {"freeze_depth": 1.0, "layer": "encoder.layer.3"},
    "frozen, last layer": {"freeze_depth": 1.0},
    "frozen, layers 1 and 4": {"freeze_depth": 1.0, "layer": TWO_LAYERS},
    "default": {},
    "freeze_depth=0.25, backbone_lr_factor=0.3": {"freeze_depth": 0.25, "backbone_lr_factor": 0.3},
    "random, layers 1 and 4": {"freeze_depth": 1.0, "layer": TWO_LAYERS, "weights": "random"},
    "random, default": {"weights": "random"},
}
SETS = {"entities_wikigold": (600, 5), "parts_of_speech_ewt": (1000, 2)}
WITHIN = {"entities_wikigold": (3, 60), "parts_of_speech_ewt": (1, 200)}


def sentences(name: str) -> tuple[list, list]:
    with gzip.open(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    least, most = WITHIN[name]
    kept = [row for row in rows if least <= len(row["words"]) <= most][: 2 * SETS[name][0]]
    return [row["words"] for row in kept], [row["tags"] for row in kept]


def most_frequent(train: tuple[list, list], texts: list) -> list:
    counts: dict[str, Counter] = {}
    for words, tags in zip(*train, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    of_all = sum(counts.values(), Counter()).most_common(1)[0][0]
    return [[counts[w].most_common(1)[0][0] if w in counts else of_all for w in words] for words in texts]


def score_of(parameters: dict | None, train: tuple[list, list], test: tuple[list, list], seed: int) -> list[float]:
    """Score and seconds of the fit; ``None`` for the most frequent tag."""
    if parameters is None:
        return [entity_f1_score(test[1], most_frequent(train, test[0])), 0.0]
    start = time.perf_counter()
    model = FineTunedTagger(random_state=seed, **parameters).fit(*train)
    return [model.score(*test), time.perf_counter() - start]


def main(path: str) -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for name, (n, draws) in SETS.items():
        X, y = sentences(name)
        for seed in range(draws):
            order = np.random.default_rng(seed).permutation(len(X))
            parts = [([X[i] for i in rows], [y[i] for i in rows]) for rows in (order[:n], order[n : 2 * n])]
            for model, parameters in ({"most frequent tag": None} | MODELS).items():
                key = f"{name} | {model} | {seed}"
                if key not in results:
                    results[key] = score_of(parameters, *parts, seed)
                    kept.write_text(json.dumps(results, indent=1))
        print(f"\n{name}, {n} and {n} sentences, {draws} draws\n\n| model | score | seconds |\n|---|---|---|")
        for model in ("most frequent tag", *MODELS):
            found = np.array([results[f"{name} | {model} | {seed}"] for seed in range(draws)])
            print(f"| {model} | {found[:, 0].mean():.3f} ± {found[:, 0].std(ddof=1):.3f} | {found[:, 1].mean():.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
