"""Boxes around blood cells: red cells, white cells and platelets, with the default network.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_boxes.py results.json

100 images to fit and 60 to test, of 640 x 480 pixels, three draws; the first draw also with 25 and 50 images to fit.
mAP50 and mAP as COCO has it. *Random*: the same network with random weights. Defaults were chosen on 160 other images.
Results are kept in the file as they come, so a killed run goes on. Alone on 2 cores: about fifty minutes.
"""

import json
import os
import pathlib
import sys
import tarfile
import time

import numpy as np

from skltransfer import FineTunedDetector, mean_average_precision_score

N_TRAIN, N_TEST, DRAWS, USED_BEFORE = (100, 50, 25), 60, 3, 160
MODELS = {
    "default": {},
    "frozen": {"freeze_depth": 1.0},
    "random, default": {"weights": "random"},
    "random, frozen": {"weights": "random", "freeze_depth": 1.0},
}


def cells() -> tuple[list[bytes], list[dict]]:
    with tarfile.open(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "blood_boxes_bccd.tar.gz") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    rows = [json.loads(line) for line in files["boxes.jsonl"].splitlines()]
    return [files[row["file"]] for row in rows], [{"boxes": row["boxes"], "labels": row["labels"]} for row in rows]


def main(path: str) -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    X, y = cells()
    unseen = np.random.default_rng(0).permutation(len(X))[USED_BEFORE:]
    jobs = [(draw, n, name) for draw in range(DRAWS) for n in N_TRAIN[: 1 if draw else None] for name in MODELS]
    for draw, n, name in sorted(jobs, key=lambda job: job[0] > 0 and "random" in job[2]):
        key = f"{name} | {n} | {draw}"
        if key in results:
            continue
        order = np.random.default_rng(draw).permutation(unseen)
        train, test = order[:n], order[max(N_TRAIN) : max(N_TRAIN) + N_TEST]
        start = time.perf_counter()
        model = FineTunedDetector(random_state=draw, **MODELS[name]).fit([X[i] for i in train], [y[i] for i in train])
        seconds, found, true = time.perf_counter() - start, model.predict([X[i] for i in test]), [y[i] for i in test]
        scores = [mean_average_precision_score(true, found, iou_threshold=threshold) for threshold in (0.5, None)]
        results[key] = [*scores, seconds]
        kept.write_text(json.dumps(results, indent=1))
        print(f"{key}: mAP50 {scores[0]:.3f}, mAP {scores[1]:.3f}, {seconds:.0f} s", flush=True)
    print("| model | images | draws | mAP50 | mAP | seconds |\n|---|---|---|---|---|---|")
    for name in MODELS:
        for n in N_TRAIN:
            rows = np.array(
                [results[f"{name} | {n} | {draw}"] for draw in range(DRAWS) if n == max(N_TRAIN) or not draw]
            )
            mean, spread = rows.mean(0), rows.std(0, ddof=1) if len(rows) > 1 else np.zeros(3)
            scores = " | ".join(f"{mean[i]:.3f} ± {spread[i]:.3f}" for i in (0, 1))
            print(f"| {name} | {n} | {len(rows)} | {scores} | {mean[2]:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
