"""Together or apart: the same folds and labels for both, and a verdict per task."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, RepeatedKFold

from skltransfer import MultiTaskFineTuner, task_report
from skltransfer.multi_task import MultiTaskFineTuner as Tuner

TRAINED = {"freeze_depth": 0.0, "learning_rate": 3e-3, "backbone_lr_factor": 1.0, "norm_policy": "train"}
TRAINED |= {"random_state": 0, "max_epochs": 30}


@pytest.fixture
def table(rng):
    X = rng.standard_normal((60, 4))
    y = pd.DataFrame({"sign": np.where(X[:, 0] > 0, "up", "down"), "size": X[:, 1]}).astype(object)
    y.loc[rng.random(60) < 0.3, "sign"] = None
    return X, y


def test_frozen_tasks_do_as_well_apart(table):
    """Nothing is shared but the scaling of features, which rows without the label take part in."""
    X, y = table
    y = y.assign(sign=np.where(X[:, 0] > 0, "up", "down"))
    report = task_report(MultiTaskFineTuner("toy:rows", freeze_depth=1.0), X, y, cv=3, random_state=0)
    assert [record["difference"] for record in report.table_] == pytest.approx([0, 0], abs=1e-5)
    assert (report.helped, report.lost) == ([], [])
    assert "Sharing" in str(report) or "do not decide" in str(report)


def test_both_sides_see_the_same_rows_and_labels(table, monkeypatch):
    X, y = table
    seen, fit = [], Tuner.fit

    def recorded(self, X, y, sample_weight=None):
        seen.append((X.copy(), np.array(y, dtype=object)))
        return fit(self, X, y, sample_weight)

    monkeypatch.setattr(Tuner, "fit", recorded)
    splits = list(KFold(3, shuffle=True, random_state=1).split(X))
    report = task_report(MultiTaskFineTuner("toy:rows", freeze_depth=1.0), X, y, cv=splits)
    joint, single = seen[:3], seen[3:]
    for fold, (train, _) in enumerate(splits):
        np.testing.assert_array_equal(joint[fold][0], X[train])
        labelled = train[~y.sign.isna().to_numpy()[train]]
        np.testing.assert_array_equal(single[2 * fold][0], X[labelled])
        np.testing.assert_array_equal(single[2 * fold][1][:, 0], y.sign.to_numpy()[labelled])
        np.testing.assert_array_equal(single[2 * fold + 1][0], X[train])
    assert [record["n"] for record in report.table_] == [int(y["sign"].notna().sum()), 60]
    assert [record["kind"] for record in report.table_] == ["classification", "regression"]
    assert report.to_frame().loc["size", "together"] == report.table_[1]["together"]


def test_what_cannot_be_compared_is_refused(table):
    X, y = table
    model = MultiTaskFineTuner("toy:rows", freeze_depth=1.0)
    with pytest.raises(ValueError, match=r"at least two; got \['size'\]"):
        task_report(model, X, y[["size"]])
    with pytest.raises(ValueError, match="cv must test each row once"):
        task_report(model, X, y, cv=RepeatedKFold(n_splits=2, n_repeats=2, random_state=0))
    few = y.assign(size=[0.5, 0.1, 0.7] + [None] * 37 + [0.3] + [None] * 19)
    with pytest.raises(ValueError, match="Task 'size' has fewer than 2 labels in a test part"):
        task_report(model, X, few, cv=KFold(2))


@pytest.mark.slow
def test_tasks_that_have_nothing_in_common_hurt_each_other():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 20))
    noise = (rng.random((600, 5)) < 0.5).astype(int)
    y = np.column_stack([X[:, 0] * X[:, 1] > 0, noise]).astype(int)
    weights = [1, 3, 3, 3, 3, 3]
    report = task_report(MultiTaskFineTuner("toy:rows", loss_weights=weights, **TRAINED), X, y, cv=3, random_state=0)
    assert report.lost == ["task0"]
    assert "Sharing hurts 'task0'" in str(report)


@pytest.mark.slow
def test_tasks_that_share_a_signal_help_each_other():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 20))
    hidden = np.tanh(2 * X @ rng.standard_normal((20, 3)) / np.sqrt(20))
    hidden = np.column_stack([hidden, hidden[:, 0] * hidden[:, 1], hidden[:, 1] * hidden[:, 2]])
    signal = hidden @ rng.standard_normal((5, 6))
    y = (signal > np.median(signal, axis=0)).astype(int)
    gappy = np.where(rng.random(y.shape) < 0.3, y, None)
    report = task_report(MultiTaskFineTuner("toy:rows", **TRAINED), X, gappy, cv=3, random_state=0)
    assert report.lost == []
    assert np.mean([record["difference"] for record in report.table_]) > 0.01
