"""Mean absolute error on ordered labels: with an order, without one, and as numbers.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_ordinal.py results.json

Stars of Amazon reviews (1, 2, 4 and 5: the source has no 3) and the audience of Netflix titles by their descriptions
(kids, teen, adult), 1,000 of each, read by all-MiniLM-L6-v2. Ten draws of 100 and of 400 training samples; the others
are the test part. The network stays frozen, and nothing is tuned. Errors are in ranks. The answer of the regressor is
rounded to the nearest rank. Results are kept in the file as they come, so a killed run goes on.
"""

import json
import os
import pathlib
import sys

import numpy as np
import pandas as pd

from skltransfer import FineTunedClassifier, FineTunedRegressor

DRAWS, SIZES, N_TEXTS = 10, (100, 400), 1000
AUDIENCES = ["kids", "teen", "adult"]


def tasks(data: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Texts, and ranks from 0."""
    reviews = pd.read_csv(data / "amazon_sentiment_books_dvd_electronics.csv.gz").sample(N_TEXTS, random_state=0)
    titles = pd.read_csv(data / "netflix_titles_mixed.csv.gz").sample(N_TEXTS, random_state=0)
    stars = np.unique(reviews.rating.to_numpy(), return_inverse=True)[1]
    return {
        "stars": (reviews.text.to_numpy(dtype=object), stars),
        "audience": (titles.description.to_numpy(dtype=object), titles.audience.map(AUDIENCES.index).to_numpy()),
    }


def errors(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Mean absolute error in ranks of each model."""
    how = {"backbone": "bundled:minilm", "freeze_depth": 1.0}
    models = {
        "class_order": FineTunedClassifier(**how, class_order="sorted"),
        "no order": FineTunedClassifier(**how),
        "regressor, rounded": FineTunedRegressor(**how),
    }
    found = {}
    for name, model in models.items():
        answers = model.fit(X[train], y[train]).predict(X[test])
        found[name] = float(np.abs(np.clip(np.round(answers), 0, y.max()) - y[test]).mean())
    return found | {"always the median": float(np.abs(np.median(y[train]) - y[test]).mean())}


def main(path: pathlib.Path, data: pathlib.Path) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    for task, (X, y) in tasks(data).items():
        for size in SIZES:
            rows = results.setdefault(f"{task}, {size} labels", [])
            for seed in range(len(rows), DRAWS):
                order = np.random.default_rng(seed).permutation(len(X))
                rows.append(errors(X, y, order[:size], order[size:]))
                path.write_text(json.dumps(results, indent=1))
    for task, rows in results.items():
        for name in rows[0]:
            values = [row[name] for row in rows]
            print(f"| {task} | {name} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["SKLTRANSFER_DATA"]))
