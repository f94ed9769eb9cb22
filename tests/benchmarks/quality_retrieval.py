"""Does contrastive fine-tuning improve a search for titles of one topic? Recall at k, on known and on new topics.

    SKLTRANSFER_DATA=data python tests/benchmarks/quality_retrieval.py

Titles of questions on Stack Overflow with 20 topics (``stackoverflow_titles_a.csv.gz``), read by all-MiniLM-L6-v2.
"""

import csv
import gzip
import os
import pathlib

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split

from skltransfer import FewShotClassifier, PretrainedFeatureExtractor
from skltransfer.model_selection import recall_at_k_score

PER_TOPIC, DRAWS, KS = 30, 3, (1, 5)


def main() -> None:
    file = pathlib.Path(os.environ["SKLTRANSFER_DATA"], "stackoverflow_titles_a.csv.gz")
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    X, y = (np.array([row[key] for row in rows]) for key in ("text", "label_name"))
    found = {(kind, name): [] for kind in ("known", "new") for name in ("TF-IDF", "frozen", "fine-tuned")}
    for draw in range(DRAWS):
        topics = np.random.default_rng(draw).permutation(np.unique(y))
        train, test = train_test_split(np.arange(len(y)), train_size=20 * PER_TOPIC, stratify=y, random_state=draw)
        old = train[np.isin(y[train], topics[:10])]
        new = test[np.isin(y[test], topics[10:])]
        for kind, learnt, asked in (("known", train, test), ("new", old, new)):
            models = {
                "TF-IDF": TfidfVectorizer(sublinear_tf=True).fit(X[learnt]),
                "frozen": PretrainedFeatureExtractor("bundled:minilm"),
                "fine-tuned": FewShotClassifier(
                    "bundled:minilm", method="contrastive", max_epochs=4, random_state=draw
                ).fit(X[learnt], y[learnt]),
            }
            for name, model in models.items():
                embeddings = model.transform(X[asked])
                found[kind, name].append([recall_at_k_score(embeddings, y[asked], k=k) for k in KS])
    for (kind, name), scores in found.items():
        told = [
            f"recall at {k} {m:.3f} ± {s:.3f}"
            for k, m, s in zip(KS, np.mean(scores, 0), np.std(scores, 0), strict=True)
        ]
        print(f"{kind} topics, {name}: {', '.join(told)}")


if __name__ == "__main__":
    main()
