"""Masks of white blood cells: outside, cytoplasm and nucleus, with the default network.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_masks.py results.json

100 images to fit and 200 to test, of 120 x 120 pixels, five draws; mean IoU. *Random*: the same network with random
weights. Nothing is tuned on test parts. Results are kept in the file as they come, so a killed run goes on. Alone on 2
cores: about twenty minutes.
"""

import io
import json
import os
import pathlib
import sys
import tarfile
import time

import numpy as np
from PIL import Image

from skltransfer import FineTunedSegmenter

N_TRAIN, N_TEST, DRAWS, SIDE = 100, 200, 5, 128
MODELS = {
    "frozen": {"freeze_depth": 1.0},
    "default": {},
    "freeze_depth=0.25": {"freeze_depth": 0.25},
    "random, frozen": {"freeze_depth": 1.0, "weights": "random"},
    "random, default": {"weights": "random"},
}


def cells() -> tuple[list[bytes], list[np.ndarray]]:
    with tarfile.open(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "blood_masks_wbc1.tar.gz") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    names = sorted(name[:-4] for name in files if name.endswith(".png"))
    masks = [np.asarray(Image.open(io.BytesIO(files[f"{name}.png"]))) for name in names]
    return [files[f"{name}.jpg"] for name in names], masks


def main(path: str) -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    X, y = cells()
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(X))
        train, test = order[:N_TRAIN], order[N_TRAIN : N_TRAIN + N_TEST]
        for name, parameters in MODELS.items():
            key = f"{name} | {seed}"
            if key in results:
                continue
            start = time.perf_counter()
            model = FineTunedSegmenter(input_size=SIDE, random_state=seed, **parameters)
            model.fit([X[i] for i in train], [y[i] for i in train])
            seconds = time.perf_counter() - start
            results[key] = [model.score([X[i] for i in test], [y[i] for i in test]), seconds]
            kept.write_text(json.dumps(results, indent=1))
    print("| model | mean IoU | seconds |\n|---|---|---|")
    for name in MODELS:
        found = np.array([results[f"{name} | {seed}"] for seed in range(DRAWS)])
        print(f"| {name} | {found[:, 0].mean():.3f} ± {found[:, 0].std(ddof=1):.3f} | {found[:, 1].mean():.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
