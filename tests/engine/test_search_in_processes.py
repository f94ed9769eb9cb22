"""A search over several depths in several processes: each sample passes each frozen stage once in all of them."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skltransfer import FineTunedClassifier


class Noted(FineTunedClassifier):
    """A classifier that notes beside its cache folder which stages ran on how many samples."""

    def _frozen_stages(self, backbone, *, fits=False):
        stages = super()._frozen_stages(backbone, fits=fits)
        run, notes = stages.run, Path(self.cache).parent / f"notes {os.getpid()}"

        def noted(start, stop, batch):
            with notes.open("a") as file:
                file.writelines(f"{stage} {len(batch)}\n" for stage in range(start, stop))
            return run(start, stop, batch)

        stages.run = noted
        return stages


def passes(folder):
    """How many samples passed each stage, over all processes."""
    counts = Counter()
    for file in folder.glob("notes *"):
        for line in file.read_text().splitlines():
            stage, n = map(int, line.split())
            counts[stage] += n
    return dict(counts)


@pytest.mark.parametrize("depths", [[1.0, 0.75, 0.5, 0.25], [0.25, 1.0, 0.5, 0.75]])
def test_each_sample_passes_each_stage_once(tmp_path, rng, depths):
    X, y = rng.integers(0, 256, (48, 20, 20, 3), dtype=np.uint8), np.arange(48) % 2
    model = Noted("toy:images", dtype="float32", max_epochs=1, random_state=0, cache=tmp_path / "cache")
    grid = {"freeze_depth": depths, "learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(model, grid, cv=3, n_jobs=2, refit=False, error_score="raise").fit(X, y)
    assert passes(tmp_path) == dict.fromkeys(range(4), 48)
    alone = GridSearchCV(model.set_params(cache=tmp_path / "other"), grid, cv=3, refit=False).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
