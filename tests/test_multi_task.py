"""Several tasks at once: kinds, missing cells, weights, and what sharing gives."""

import pickle

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from skltransfer import FineTunedClassifier, FineTunedRegressor, MultiTaskFineTuner, load
from skltransfer.engine import ClassificationTask, MultiTask, RegressionTask

OPTIONS = {"dtype": "float32", "random_state": 0}


@pytest.fixture
def tasks(two_kinds, rng):
    """Pictures, and a frame of a colour, a number and a tag; a third of the cells are missing."""
    X, y = two_kinds
    frame = pd.DataFrame({"side": y, "light": X[:, :8].mean((1, 2)), "tag": (rng.random(40) < 0.5).astype(int)})
    frame = frame.astype(object)
    gaps = rng.random(frame.shape) < 1 / 3
    gaps[:4] = False
    return X, frame, frame.mask(gaps, None)


def test_kinds_names_and_classes_are_read_off_the_columns(tasks):
    X, full, gappy = tasks
    for y in (full, gappy, polars.DataFrame({name: list(full[name]) for name in full})):
        model = MultiTaskFineTuner("toy:images", freeze_depth=1.0, **OPTIONS).fit(X, y)
        assert model.tasks_ == {"side": "classification", "light": "regression", "tag": "classification"}
        assert [None if c is None else c.tolist() for c in model.classes_] == [["above", "below"], None, [0, 1]]
        assert model.predict(X).dtype == object
        assert model.predict(X).shape == (40, 3)
        side, light, tag = model.predict_proba(X)
        assert (side.shape, light, tag.shape) == ((40, 2), None, (40, 2))


def test_frozen_tasks_are_single_probes(tasks):
    X, full, _ = tasks
    model = MultiTaskFineTuner("toy:images", freeze_depth=1.0, C=0.1, alpha=2.0, **OPTIONS).fit(X, full)
    labels = FineTunedClassifier("toy:images", freeze_depth=1.0, C=0.1, **OPTIONS).fit(X, list(full.side))
    numbers = FineTunedRegressor("toy:images", freeze_depth=1.0, alpha=2.0, **OPTIONS).fit(X, full.light.astype(float))
    np.testing.assert_allclose(model.predict_proba(X)[0], labels.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(model.predict(X)[:, 1].astype(float), numbers.predict(X), atol=1e-5)


@pytest.mark.parametrize("gap", [None, float("nan"), np.nan, pd.NA])
def test_a_missing_cell_may_be_written_in_any_way(two_kinds, gap):
    X, y = two_kinds
    table = np.column_stack([y, y]).astype(object)
    table[5:15, 1] = gap
    expected = np.column_stack([y, y]).astype(object)
    expected[5:15, 1] = None
    models = [MultiTaskFineTuner("toy:images", freeze_depth=0.5, max_epochs=2, **OPTIONS) for _ in range(2)]
    ours, theirs = (m.fit(X, t).predict_proba(X) for m, t in zip(models, (table, expected), strict=True))
    np.testing.assert_array_equal(ours, theirs)


def head(n_tasks=2, **options):
    parts = [
        ("classification", vars(ClassificationTask(np.arange(3)))),
        ("regression", vars(RegressionTask([0.0], [1.0], True))),
    ]
    return MultiTask(parts[:n_tasks], np.array([1.0, 2.0])[:n_tasks], **options)


def test_a_missing_label_changes_nothing_for_the_other_task(rng):
    """Gradients of outputs, and of what both tasks share."""
    features = torch.tensor(rng.standard_normal((6, 4)), requires_grad=True)
    weights = torch.tensor(rng.standard_normal((4, 4)))
    targets = torch.tensor(np.column_stack([[0, 1, 2, 0, 1, 2], rng.standard_normal(6), np.ones(6), np.ones(6)]))

    def slopes(targets):
        outputs = (features @ weights).requires_grad_()
        loss = head().loss(outputs, targets).sum()
        return torch.autograd.grad(loss, outputs)[0]

    whole = slopes(targets)
    gappy = targets.clone()
    gappy[2:4, 3] = 0
    gappy[2:4, 1] = 99.0  # what stands in a missing cell is never read
    found = slopes(gappy)
    torch.testing.assert_close(found[:, :3], whole[:, :3])
    torch.testing.assert_close(found[[0, 1, 4, 5], 3], whole[[0, 1, 4, 5], 3])
    assert (found[2:4, 3] == 0).all()


def test_the_mean_loss_is_each_tasks_mean_on_its_own_labels(tasks, monkeypatch):
    X, _, gappy = tasks
    model = MultiTaskFineTuner("toy:images", freeze_depth=0.5, max_epochs=1, **OPTIONS)
    seen = {}
    monkeypatch.setattr(
        "skltransfer.engine.tuning._train_in_phases",
        lambda fit, network: seen.update(task=fit.task, data=fit.data) or {"loss": [0.0]},
    )
    model.fit(X, gappy)
    outputs = torch.tensor(np.random.default_rng(0).standard_normal((40, 3)))
    targets = torch.tensor(seen["data"].targets.values)
    found = seen["task"].loss(outputs, targets).mean().item()
    expected = 0.0
    for task, single in enumerate(seen["task"].heads):
        rows = targets[:, 3 + task] > 0
        value = targets[rows, task]
        value = value[:, None] if task == 1 else value.long()
        columns = outputs[rows][:, task : task + 1]
        expected += single.loss(columns, value).mean().item() / (1.0 if task == 1 else np.log(2))
    assert found == pytest.approx(expected, rel=1e-9)


def test_learnt_weights_trust_the_task_with_less_noise(rng):
    X = rng.standard_normal((120, 6))
    y = np.column_stack([X[:, 0] + 0.01 * rng.standard_normal(120), rng.standard_normal(120)])
    options = {"freeze_depth": 0.0, "max_epochs": 60, "learning_rate": 0.01, "weight_decay": 0.0}
    model = MultiTaskFineTuner("toy:rows", loss_weights="uncertainty", **options, **OPTIONS).fit(X, y)
    clear, noisy = model._network_.changed["readout.head.1.values"]
    assert clear < noisy - 0.1
    assert model.predict(X).shape == (120, 2)


def test_weights_of_losses_lead_the_shared_stages(two_kinds, rng):
    X, y = two_kinds
    table = np.column_stack([y, rng.permutation(y)]).astype(object)
    options = {"freeze_depth": 0.0, "max_epochs": 3, "head_init": "random", **OPTIONS}
    first, second = (
        MultiTaskFineTuner("toy:images", loss_weights=w, **options).fit(X, table) for w in ([1, 0], [0, 1])
    )
    assert first.score_tasks(X, table)["task0"] > second.score_tasks(X, table)["task0"]


def test_scores_are_means_over_tasks_of_cells_that_are_there(tasks):
    X, full, gappy = tasks
    model = MultiTaskFineTuner("toy:images", freeze_depth=1.0, **OPTIONS).fit(X, gappy)
    predicted = model.predict(X)
    by_task = model.score_tasks(X, gappy)
    there = ~gappy.side.isna().to_numpy()
    assert by_task["side"] == accuracy_score(full.side[there], predicted[there, 0].astype(str))
    there = ~gappy.light.isna().to_numpy()
    assert by_task["light"] == pytest.approx(
        r2_score(full.light[there].astype(float), predicted[there, 1].astype(float))
    )
    assert model.score(X, gappy) == pytest.approx(np.mean(list(by_task.values())))
    weights = np.r_[np.ones(20), np.zeros(20)]
    assert model.score(X, gappy, weights) == pytest.approx(model.score(X[:20], gappy[:20]))


def test_labels_that_were_floats_beside_gaps_are_scored_as_the_whole_numbers_they_are(two_kinds):
    X, y = two_kinds
    whole = np.column_stack([y == "above", y == "above"]).astype(int)
    gappy = whole.astype(float)
    gappy[:4, 1] = np.nan
    model = MultiTaskFineTuner("toy:images", tasks=["classification"] * 2, freeze_depth=1.0, **OPTIONS).fit(X, gappy)
    assert model.score(X, whole) == model.score(X, whole.astype(float)) > 0.9


def test_the_callers_table_is_not_touched(tasks):
    X, _, gappy = tasks
    before = gappy.copy()
    MultiTaskFineTuner("toy:images", freeze_depth=1.0).fit(X, gappy)
    pd.testing.assert_frame_equal(gappy, before)


def test_a_search_and_a_cross_validation_over_gaps(tasks):
    X, _, gappy = tasks
    model = MultiTaskFineTuner("toy:images", max_epochs=1, **OPTIONS)
    grid = {"freeze_depth": [1.0, 0.5], "loss_weights": ["equal", "uncertainty"]}
    search = GridSearchCV(model, grid, cv=KFold(2, shuffle=True, random_state=0), error_score="raise").fit(X, gappy)
    assert np.isfinite(search.best_score_)
    assert np.isfinite(cross_val_score(model, X, gappy, cv=KFold(2, shuffle=True, random_state=1))).all()


@pytest.mark.parametrize("loss_weights", ["equal", "uncertainty"])
def test_it_is_saved_and_sent_like_the_others(tasks, tmp_path, loss_weights):
    X, _, gappy = tasks
    options = {"freeze_depth": 0.5, "max_epochs": 1, "loss_weights": loss_weights}
    model = MultiTaskFineTuner("toy:images", **options, **OPTIONS).fit(X, gappy)
    model.save(tmp_path / "model.skl")
    for copy in (load(tmp_path / "model.skl"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.predict(X), model.predict(X))
        np.testing.assert_array_equal(copy.predict_proba(X)[0], model.predict_proba(X)[0])
        assert copy.tasks_ == model.tasks_


def test_other_weights_have_a_checkpoint_of_their_own(tasks, tmp_path):
    X, full, _ = tasks
    options = {"freeze_depth": 0.5, "max_epochs": 1, "checkpoint": tmp_path, **OPTIONS}
    for weights in ("equal", [1, 2, 3], "uncertainty", "equal"):
        MultiTaskFineTuner("toy:images", loss_weights=weights, **options).fit(X, full)
    assert len(list(tmp_path.glob("*.pt"))) == 3


def test_one_task_answers_like_a_classifier(two_kinds):
    X, y = two_kinds
    model = MultiTaskFineTuner("toy:images", freeze_depth=1.0, **OPTIONS).fit(X, y)
    assert (model.predict(X).shape, model.predict_proba(X).shape) == ((40,), (40, 2))


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"tasks": ["classification"]}, {}, r"for each of y's 3 columns; got \['classification'\]"),
        (
            {"tasks": {"side": "classification"}},
            {},
            r"tasks names \['side'\], but the columns of y are \['side', 'light'",
        ),
        ({"tasks": ["guess"] * 3}, {}, "tasks must be one of"),
        ({"tasks": ["regression"] * 3}, {}, "Task 'side' is a regression, but holds what is no number"),
        ({"loss_weights": [1, 2]}, {}, r"or 3 numbers.*got \[1, 2\]"),
        ({"loss_weights": [1, -1, 0]}, {}, "none negative"),
        ({}, {"side": "above"}, "Task 'side' needs labels of at least 2 classes; got one class"),
        ({}, {"side": [1, "a"] * 20}, r"Task 'side' mixes labels of kinds \['int', 'str'\]"),
        ({}, {"light": [np.inf, 0.5] * 20}, "Task 'light' holds infinity"),
        ({"tasks": ["classification", "regression", "classification"]}, {"light": None}, "'light' has no label at all"),
    ],
)
def test_what_cannot_be_a_task_is_refused(tasks, options, change, message):
    X, full, _ = tasks
    y = full.assign(**change)
    with pytest.raises(ValueError, match=message):
        MultiTaskFineTuner("toy:images", freeze_depth=1.0, **options).fit(X, y)


def test_going_on_needs_the_same_labels(tasks):
    X, full, _ = tasks
    model = MultiTaskFineTuner("toy:images", freeze_depth=0.5, max_epochs=1, warm_start=True, **OPTIONS).fit(X, full)
    model.fit(X, full)
    with pytest.raises(ValueError, match=r"Task 'side' holds labels array\(\['left'"):
        model.fit(X, full.assign(side=["left", "above"] * 20))


@pytest.mark.slow
def test_tasks_that_share_a_signal_help_each_other_where_labels_are_few():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1400, 20))
    hidden = np.tanh(2 * X @ rng.standard_normal((20, 3)) / np.sqrt(20))
    hidden = np.column_stack([hidden, hidden[:, 0] * hidden[:, 1], hidden[:, 1] * hidden[:, 2]])
    signal = hidden @ rng.standard_normal((5, 6))
    y = (signal > np.median(signal, axis=0)).astype(int)
    few = np.where(rng.random((400, 6)) < 0.3, y[:400], None)
    options = {"freeze_depth": 0.0, "max_epochs": 30, "learning_rate": 3e-3, "backbone_lr_factor": 1.0}
    options |= {"norm_policy": "train", "random_state": 0}
    joint = MultiTaskFineTuner("toy:rows", **options).fit(X[:400], few).score(X[400:], y[400:])
    single = []
    for task in range(6):
        seen = few[:, task] != None  # noqa: E711
        model = FineTunedClassifier("toy:rows", **options).fit(X[:400][seen], few[seen, task].astype(int))
        single.append(model.score(X[400:], y[400:, task]))
    assert joint > np.mean(single) + 0.01
