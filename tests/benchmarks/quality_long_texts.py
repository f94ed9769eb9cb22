"""Which part of a long text should be read, and how its windows become one answer.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_long_texts.py results.json

Amazon reviews of books, DVDs and electronics that are longer than the 256 tokens that all-MiniLM-L6-v2 reads:
positive or negative, all stages frozen, nothing tuned. Of 500 reviews, 300 are drawn five times for training, the
others are the test part. TF-IDF with logistic regression, which reads all of a review, beside them. Results are kept
in the file as they come, so a killed run goes on. Alone on 2 cores: a few minutes.
"""

import json
import os
import pathlib
import sys
import warnings

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, load_backbone

SEEDS, N_REVIEWS, N_TRAIN, BACKBONE = range(5), 500, 300, "bundled:minilm"
READINGS = {
    "beginning": {"long_samples": "keep_start"},
    "end": {"long_samples": "keep_end"},
    "both ends": {"long_samples": "keep_both_ends"},
    "windows, mean": {"long_samples": "windows", "window_pooling": "mean"},
    "windows, max": {"long_samples": "windows", "window_pooling": "max"},
    "windows, vote": {"long_samples": "windows", "window_pooling": "vote"},
}


def long_reviews() -> pd.DataFrame:
    folder = pathlib.Path(os.environ["SKLTRANSFER_DATA"])
    table = pd.read_csv(folder / "amazon_sentiment_books_dvd_electronics.csv.gz")
    reader = load_backbone(BACKBONE).preprocessing
    return table[[reader.cuts(text) for text in table.text]].sample(N_REVIEWS, random_state=0)


def scores(table: pd.DataFrame, seed: int) -> dict[str, float]:
    train, test = train_test_split(table, train_size=N_TRAIN, random_state=seed, stratify=table.label)
    models = {
        name: FineTunedClassifier(BACKBONE, freeze_depth=1.0, random_state=seed, **how)
        for name, how in READINGS.items()
    }
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    models["TF-IDF"] = make_pipeline(words, LogisticRegression(C=10))
    return {name: model.fit(train.text, train.label).score(test.text, test.label) for name, model in models.items()}


def main() -> None:
    warnings.filterwarnings("ignore", ".* texts are longer")
    place, table = pathlib.Path(sys.argv[1]), long_reviews()
    results = json.loads(place.read_text()) if place.exists() else {}
    print(f"{len(table)} reviews, {N_TRAIN} to train, positive {table.label.mean():.2f}")
    for seed in SEEDS:
        if str(seed) not in results:
            results[str(seed)] = scores(table, seed)
            place.write_text(json.dumps(results, indent=1))
        print(seed, {name: round(score, 3) for name, score in results[str(seed)].items()}, flush=True)
    found = pd.DataFrame([results[str(seed)] for seed in SEEDS])
    gains = found.sub(found["beginning"], axis=0)
    for name in found:
        score, gain = (
            f"{one.mean():{sign}.3f} ± {one.std():.3f}" for one, sign in ((found[name], ""), (gains[name], "+"))
        )
        print(f"| {name} | {score} | {gain} |")


if __name__ == "__main__":
    main()
