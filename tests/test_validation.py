"""Own validation samples, and groups that are never on both sides."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skltransfer import (
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedDetector,
    FineTunedRegressor,
    FineTunedSegmenter,
    FineTunedTagger,
    FineTunedTextToText,
    MultiTaskFineTuner,
    transfer_report,
)
from skltransfer.engine import ArrayTargets, canonical, split
from skltransfer.engine.training.training_set import folds
from skltransfer.exceptions import BadSampleError

OPTIONS = {"dtype": "float32", "random_state": 0, "max_epochs": 6}


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 16))
    return X, (X[:, 0] > 0).astype(int)


def classifier(**parameters):
    return FineTunedClassifier("toy:rows", **{"freeze_depth": 0.5, **OPTIONS} | parameters)


# groups in the engine


def digests(n):
    return [bytes([i]) * 20 for i in range(n)]


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_split(fraction, seed):
    rng = np.random.default_rng(seed)
    groups, labels = rng.integers(0, 12, 100), rng.integers(0, 3, 100)
    contents = [bytes([i // 2]) * 20 for i in range(100)]  # each content twice, often in two groups
    data = canonical(contents, ArrayTargets(labels), np.ones(100), groups)
    many = canonical(digests(100), ArrayTargets(labels), np.ones(100), groups)
    for one in (data, many):
        if len(np.unique(one.groups)) == 1:  # contents in common join all groups
            continue
        train, held_out = split(one, fraction, seed, one.targets.values)
        assert not set(groups[train.rows]) & set(groups[held_out.rows])
        assert not set(train.digests) & set(held_out.digests)
        assert set(one.targets.values) == set(train.targets.values)
        assert len(train) + len(held_out) == len(one)
    train, held_out = split(many, fraction, seed, many.targets.values)
    assert abs(len(held_out) / 100 - fraction) < 0.12
    fold = folds(many, 3, seed, many.targets.values)
    assert set(fold) == {0, 1, 2}
    for group in np.unique(groups):
        assert len(set(fold[many.groups == many.groups[many.rows == np.flatnonzero(groups == group)[0]]])) == 1


def test_what_is_held_out_depends_on_content_alone():
    labels, groups, order = np.arange(40) % 2, np.arange(40) // 4, np.random.default_rng(1).permutation(40)
    sides = []
    for rows_ in (np.arange(40), order):
        contents = [digests(40)[i] for i in rows_]
        data = canonical(contents, ArrayTargets(labels[rows_]), np.ones(40), groups[rows_])
        sides.append(set(split(data, 0.2, 0, data.targets.values)[1].digests))
    assert sides[0] == sides[1]


def test_one_group_leaves_nothing_to_hold_out():
    X, y = rows(30)
    with pytest.raises(ValueError, match="X has 1 groups, and each class must keep one for training"):
        classifier(early_stopping=True).fit(X, y, groups=np.zeros(30))
    with pytest.raises(ValueError, match="each class must keep one"):  # each label lives in one group
        classifier(early_stopping=True).fit(X, y, groups=y)


# groups in estimators


def patients(n_patients, seed):
    """Rows with the mark of a patient, which tells the label of patients that were seen, and a weak true signal."""
    rng = np.random.default_rng(seed)
    marks, labels = rng.normal(size=(n_patients, 14)) * 2, rng.integers(0, 2, n_patients)
    groups = np.repeat(np.arange(n_patients), 6)
    noise = rng.normal(size=(len(groups), 14)) * 0.1
    signal = labels[groups, None] + rng.normal(size=(len(groups), 2)) * 1.2
    return np.hstack([marks[groups] + noise, signal]).astype(np.float32), labels[groups], groups


@pytest.mark.slow
def test_rows_of_one_patient_on_both_sides_raise_the_score_and_groups_do_not():
    shared, apart, new = [], [], []
    for seed in range(8):
        X, y, groups = patients(60, seed)
        model = classifier(freeze_depth=1.0, C=100.0)
        shared.append(cross_val_score(model, X, y, cv=StratifiedKFold(5, shuffle=True, random_state=0)).mean())
        apart.append(cross_val_score(model, X, y, groups=groups, cv=GroupKFold(5)).mean())
        X_new, y_new, _ = patients(400, seed + 100)
        new.append(model.fit(X, y).score(X_new, y_new))
    assert np.mean(shared) >= np.mean(apart) + 0.10
    assert abs(np.mean(apart) - np.mean(new)) <= 0.02


def test_early_stopping_calibration_and_the_choice_of_depth_hold_out_whole_groups(monkeypatch):
    X, y, groups = patients(20, 0)
    seen = []
    monkeypatch.setattr("skltransfer.engine.tuning.split", lambda data, *a: seen.append(data.groups) or split(data, *a))
    monkeypatch.setattr(
        "skltransfer.engine.depth_choice.folds", lambda data, *a: seen.append(data.groups) or folds(data, *a)
    )
    classifier(early_stopping=True).fit(X, y, groups=groups)
    classifier(freeze_depth=1.0, calibrate="temperature").fit(X, y, groups=[f"patient {g}" for g in groups])
    classifier(freeze_depth="auto").fit(X, y, groups=groups)
    assert len(seen) >= 3
    assert all(len(np.unique(one)) == 20 for one in seen)
    seen.clear()
    classifier(early_stopping=True).fit(X, y)
    assert seen == [None]


@pytest.mark.parametrize("how", [{"early_stopping": True}, {"freeze_depth": "auto"}, {"calibrate": "temperature"}])
def test_the_order_of_rows_and_the_names_of_groups_have_no_effect(how):
    X, y, groups = patients(20, 0)
    order = np.random.default_rng(2).permutation(len(X))
    model = classifier(**how).fit(X, y, groups=groups)
    again = classifier(**how).fit(X[order], y[order], groups=np.array([f"{37 * g % 20}" for g in groups])[order])
    assert again.history_ == model.history_
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_groups_travel_through_pipelines_and_searches():
    X, y, groups = patients(20, 0)
    pipeline = make_pipeline(StandardScaler(), classifier(early_stopping=True))
    pipeline.fit(X, y, finetunedclassifier__groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier(early_stopping=True).set_fit_request(groups=True)
        search = GridSearchCV(make_pipeline(StandardScaler(), model), {"finetunedclassifier__batch_size": [8, 16]})
        search.set_params(cv=GroupKFold(3), error_score="raise").fit(X, y, groups=groups)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        transfer_report(make_pipeline(StandardScaler(), model), X, y, cv=3, groups=groups, baselines=["linear"])


def test_a_report_keeps_groups_apart():
    X, y, groups = patients(30, 1)
    model = classifier(freeze_depth=1.0, C=100.0)
    together = transfer_report(model, X, y, cv=5, baselines=["linear"], random_state=0)
    apart = transfer_report(model, X, y, cv=5, groups=groups, baselines=["linear"], random_state=0)
    assert together.table_[0]["score"] > apart.table_[0]["score"] + 0.1
    assert together.test != apart.test  # rows of one patient are no independent trials
    search = GridSearchCV(model, {"C": [1.0, 100.0]}, cv=GroupKFold(2))
    transfer_report(search, X, y, cv=3, groups=groups, baselines=["random"], random_state=0)
    with pytest.raises(ValueError, match="groups has 30 different groups, fewer than the cv=31 folds"):
        transfer_report(model, X, y, cv=31, groups=groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(29), "groups has 29 entries, but X has 30 samples"),
        ([None, *range(29)], r"groups\[0\] is missing \(None\)"),
        ([*range(29), float("nan")], r"groups\[29\] is missing"),
        ([[1]] * 30, "groups must hold strings or numbers"),
        ("a" * 30, "groups must be a list or an array"),
    ],
)
def test_odd_groups_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        classifier(early_stopping=True).fit(*rows(30), groups=groups)


# own validation samples


def test_the_validation_loss_is_that_of_the_named_samples():
    X, y = rows(60)
    X_val, y_val = rows(30, 1)
    model = classifier(early_stopping=True, n_iter_no_change=100).fit(X, y, X_val=X_val, y_val=y_val)
    assert len(model.history_["validation_loss"]) == 6
    probabilities = model.predict_proba(X_val)[np.arange(30), y_val]
    assert min(model.history_["validation_loss"]) == pytest.approx(-np.log(probabilities).mean(), abs=1e-4)
    plain = classifier().fit(X, y)
    assert model.history_["loss"] == plain.history_["loss"]  # all of X is trained on
    order = np.random.default_rng(0).permutation(30)
    again = classifier(early_stopping=True, n_iter_no_change=100).fit(X, y, X_val=X_val[order], y_val=y_val[order])
    assert again.history_ == model.history_


@pytest.mark.parametrize("kind", [FineTunedClassifier, FineTunedRegressor])
def test_a_solved_head_learns_nothing_from_them(kind):
    X, y = rows(60)
    X_val, y_val = rows(30, 1)
    y, y_val = (y, y_val) if kind is FineTunedClassifier else (X[:, 0], X_val[:, 0] + 5)
    plain = kind("toy:rows", freeze_depth=1.0, **OPTIONS).fit(X, y)
    model = kind("toy:rows", freeze_depth=1.0, early_stopping=True, **OPTIONS).fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))


def test_they_decide_neither_scales_nor_weights_of_classes():
    X, y = rows(60)
    tuned = {"freeze_depth": 0.5, "early_stopping": True, "n_iter_no_change": 100, **OPTIONS}
    plain = FineTunedRegressor("toy:rows", **OPTIONS | {"freeze_depth": 0.5}).fit(X, X[:, 0])
    model = FineTunedRegressor("toy:rows", **tuned).fit(X, X[:, 0], X_val=X[:9] + 1, y_val=1000 * X[:9, 0])
    assert model.history_["loss"] == plain.history_["loss"]
    plain = classifier(class_weight="balanced").fit(X, y, np.full(60, 1 / 60))
    model = classifier(class_weight="balanced", early_stopping=True, n_iter_no_change=100)
    model.fit(X, y, np.full(60, 1 / 60), X_val=X[:9] + 1, y_val=[1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert model.history_["loss"] == plain.history_["loss"]


def test_tasks_are_those_of_y():
    X, y = rows(40)
    table = pd.DataFrame({"label": y, "amount": X[:, 1]})
    model = MultiTaskFineTuner("toy:rows", freeze_depth=0.5, early_stopping=True, **OPTIONS)
    some = pd.DataFrame({"amount": [None, None, 3.0], "label": [0, 1, 1]})
    model.fit(X, table, X_val=X[:3] + 1, y_val=some)
    assert model.tasks_ == {"label": "classification", "amount": "regression"}
    same = clone(model).fit(X, table, X_val=X[:3] + 1, y_val=some[["label", "amount"]])
    assert same.history_ == model.history_
    with pytest.raises(ValueError, match=r"y_val has the columns \['other', 'label'\], but those of y are"):
        model.fit(X, table, X_val=X[:3], y_val=some.rename(columns={"amount": "other"}))
    cells = [[label, value if i else None] for i, (label, value) in enumerate(table.to_numpy().tolist())]
    model.fit(X, cells, X_val=X[:2] + 1, y_val=[[0, 0.3], [1, 0.2]])  # None in y alone


def test_weights_of_zero_and_rows_that_cannot_be_read_are_told_apart(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    y = np.arange(12) % 2
    options = {"early_stopping": True, "on_bad_sample": "nan", **OPTIONS}
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, **options)
    broken = str(tmp_path / "absent.jpg")
    weights = np.ones(12)
    weights[[0, 1]] = 0
    with pytest.warns(UserWarning, match="could not be read") as told:
        model.fit([*X[:11], broken], y, weights, X_val=[broken, *X[:3]], y_val=[0, 0, 1, 0])
    said = {str(one.message) for one in told}
    for row, name in ((11, "X"), (0, "X_val")):
        assert f"Rows [{row}] of {name} could not be read and were left out." in said
    assert any("1 of 3 samples of X_val are also in X" in one for one in said)  # X[2]; the others have no weight
    assert model.bad_samples_ == [11]
    assert model.duplicates_ == []
    model.set_params(on_bad_sample="raise")
    with pytest.raises(BadSampleError, match=r"(?s)X_val\[0\] .*absent.jpg.*X_val\[2\]"):
        model.fit(X, y, X_val=[broken, X[1], broken], y_val=[0, 1, 0])
    with pytest.raises(BadSampleError, match=r"(?s)X\[11\] .*X_val\[0\]"):
        model.fit([*X[:11], broken], y, X_val=[broken, X[1]], y_val=[0, 1])


def test_remarks_on_samples_to_validate_on_name_them():
    X = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    small = np.random.default_rng(1).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, early_stopping=True, **OPTIONS)
    with pytest.warns(UserWarning, match=r"less than 8 px.*2 of 2 samples: X_val\[0\], X_val\[1\]"):
        model.fit(list(X), [0, 1] * 4, X_val=list(small), y_val=[0, 1])


@pytest.mark.parametrize(
    ("X_val", "y_val", "message"),
    [
        (rows(5)[0], None, "belong together, but y_val is None"),
        (None, [0, 1], "belong together, but X_val is None"),
        (rows(5)[0], [0, 1, 0, 1.5, 1], r"y_val has the labels \[1.5\], which y has not|continuous"),
        (rows(5)[0], [0, 1, 0, 2, 1], r"y_val has the labels \[2\], which y has not"),
        (rows(5)[0], ["a", "b", "a", "b", "a"], "Pass targets of one kind"),
        (rows(5)[0], [0, 1], "inconsistent numbers of samples"),
        (rows(5)[0][:, :3], [0, 1, 0, 1, 0], "features"),
    ],
)
def test_odd_validation_samples_are_refused(X_val, y_val, message):
    with pytest.raises(ValueError, match=message):
        classifier(early_stopping=True).fit(*rows(30), X_val=X_val, y_val=y_val)


def test_validation_samples_without_a_use_are_refused():
    named = {"X_val": rows(5)[0], "y_val": rows(5)[1]}
    with pytest.raises(ValueError, match="FineTunedClassifier makes none. Set early_stopping or calibrate, or leave"):
        classifier().fit(*rows(30), **named)
    with pytest.raises(ValueError, match="this FewShotClassifier makes none. Leave them out"):
        FewShotClassifier("toy:rows").fit(*rows(30), **named)


@pytest.mark.parametrize(
    "kind", [list, np.array, lambda y: pd.Series(y, dtype=object), lambda y: pd.Series(y, dtype="category")]
)
def test_labels_may_come_in_another_container(kind):
    X, y = rows(60)
    X_val, y_val = rows(30, 1)
    ours, theirs = np.array(["no", "yes"])[y], [["no", "yes"][label] for label in y_val]
    model = classifier(early_stopping=True).fit(X, ours, X_val=X_val, y_val=kind(theirs))
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.classes_.dtype == ours.dtype
    assert model.history_ == classifier(early_stopping=True).fit(X, list(ours), X_val=X_val, y_val=theirs).history_
    with pytest.raises(ValueError, match=r"y_val has the labels \['nobody'\]"):
        classifier(early_stopping=True).fit(X, ours, X_val=X_val, y_val=kind(["nobody", *theirs[1:]]))


def test_calibration_uses_the_named_samples():
    X, y = rows(60)
    X_val, y_val = rows(40, 1)
    model = classifier(freeze_depth=1.0, calibrate="temperature").fit(X, y, X_val=X_val, y_val=y_val)
    wrong = classifier(freeze_depth=1.0, calibrate="temperature").fit(X, y, X_val=X_val, y_val=1 - y_val)
    assert (model.predict(X) == wrong.predict(X)).all()  # nothing was trained on them
    assert np.abs(wrong.predict_proba(X) - 0.5).max() < np.abs(model.predict_proba(X) - 0.5).max()


def test_all_fine_tuners_take_them():
    X, y = rows(40)
    how = {"early_stopping": True, **OPTIONS}
    FineTunedRegressor("toy:rows", freeze_depth=0.5, **how).fit(X, X[:, 0], X_val=X[:9] + 1, y_val=X[:9, 0] + 1)
    table = np.column_stack([y, 1 - y])
    classifier(**how).fit(X, table, X_val=X[:9] + 1, y_val=table[:9])
    tasks = MultiTaskFineTuner("toy:rows", freeze_depth=0.5, **how)
    tasks.fit(X, np.column_stack([y, y]), X_val=X[:9] + 1, y_val=table[:9])
    with pytest.raises(ValueError, match=r"y_val has the labels \[7"):
        tasks.fit(X, np.column_stack([y, y]), X_val=X[:9] + 1, y_val=table[:9] * 7)
    words, tags = [["a", "B"], ["c"], ["D", "e"]] * 4, [["O", "X"], ["O"], ["X", "O"]] * 4
    tagger = FineTunedTagger("toy:text", freeze_depth=0.5, **how)
    tagger.fit(words, tags, X_val=[["f", "G"]], y_val=[["O", "X"]], groups=range(12))
    with pytest.raises(ValueError, match=r"y_val has the labels \['Y'\]"):
        tagger.fit(words, tags, X_val=[["f"]], y_val=[["Y"]])
    images = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), dtype=np.uint8)
    masks = (images[..., 0] > 128).astype(int)
    segmenter = FineTunedSegmenter("toy:images", freeze_depth=0.5, **how)
    segmenter.fit(images[:4], masks[:4], X_val=images[4:], y_val=masks[4:])
    boxes = [{"boxes": [[2, 2, 12, 12]], "labels": ["a"]}] * 6
    detector = FineTunedDetector("toy:images", freeze_depth=0.5, head_width=32, **how | {"max_epochs": 1})
    detector.set_params(input_size=None).fit(images[:4], boxes[:4], X_val=images[4:], y_val=boxes[4:])
    writer = FineTunedTextToText("toy:text-to-text", **how | {"max_epochs": 1})
    writer.fit(list("abcd"), list("efgh"), X_val=["i", "j"], y_val=["k", "l"])
    assert np.isfinite(writer.history_["validation_loss"]).all()
    for model in (tagger.fit(words, tags, X_val=[["f", "G"]], y_val=[["O", "X"]]), segmenter, detector):
        assert np.isfinite(model.history_["validation_loss"]).all()


def test_validation_samples_pass_the_steps_before_with_metadata_routing():
    X, y = rows(60)
    X_val, y_val = rows(20, 1)
    plain = classifier(early_stopping=True).fit(2 * X, y, X_val=2 * X_val, y_val=y_val)
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier(early_stopping=True).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(FunctionTransformer(lambda X: 2 * X), model, transform_input=["X_val"])
        pipeline.fit(X, y, X_val=X_val, y_val=y_val)
        search = GridSearchCV(pipeline, {"finetunedclassifier__batch_size": [8]}, cv=2, error_score="raise")
        search.fit(X, y, X_val=X_val, y_val=y_val)
    assert pipeline[-1].history_ == plain.history_
    assert len(search.best_estimator_[-1].history_["validation_loss"]) > 0
