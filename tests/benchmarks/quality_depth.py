"""What fine-tuning adds to the frozen network, and whether freeze_depth="auto" finds out: six sets of pictures.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_depth.py results.json [task ...]

Test accuracy of ``FineTunedClassifier`` with its defaults at freeze depths 1.0 and 0.5, mean ± standard deviation of
the five draws of ``quality_input_size.py``, and how often "auto" takes 0.5. Results are kept in the file as they come,
so a killed run goes on. Allow three hours on one core.
"""

import json
import os
import pathlib
import sys

import numpy as np
from quality_input_size import tasks

from skltransfer import FineTunedClassifier


def measured(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> dict:
    """The chosen depth, and accuracy at either: the one that was not chosen is fitted too."""
    chosen = FineTunedClassifier(random_state=seed).fit(list(X[train]), y[train])
    depth = 1.0 if chosen.n_frozen_stages_ == chosen.n_stages_ else 0.5
    other = FineTunedClassifier(freeze_depth=1.5 - depth, random_state=seed).fit(list(X[train]), y[train])
    found = {str(d): model.score(list(X[test]), y[test]) for d, model in ((depth, chosen), (1.5 - depth, other))}
    return found | {
        "chosen": depth,
        "auto": found[str(depth)],
        "cross-validated": list(chosen.freeze_depth_scores_.values()),
    }


def table(results: dict[str, list[dict]]) -> str:
    lines = ["| task | frozen (1.0) | 0.5 | auto | draws in which auto takes 0.5 |", "|---|---|---|---|---|"]
    for task, rows in results.items():
        scores = [np.array([row[key] for row in rows]) for key in ("1.0", "0.5", "auto")]
        cells = [f"{score.mean():.3f} ± {score.std(ddof=1):.3f}" for score in scores]
        lines.append(f"| {task} | {' | '.join(cells)} | {sum(row['chosen'] == 0.5 for row in rows)} of {len(rows)} |")
    return "\n".join(lines)


def main(path: pathlib.Path, data: pathlib.Path, wanted: list[str]) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    for task, X, y, splits in tasks(data):
        if wanted and task not in wanted:
            continue
        rows = results.setdefault(task, [])
        for seed in range(len(rows), len(splits)):
            rows.append(measured(X, y, *splits[seed], seed))
            path.write_text(json.dumps(results))
            print(task, seed, rows[-1], flush=True)
    print(table(results))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["SKLTRANSFER_DATA"]), sys.argv[2:])
