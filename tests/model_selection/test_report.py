"""The report on data of which the truth is known, and what it says."""

import json
import pathlib
import re
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import FineTunedClassifier, FineTunedRegressor, transfer_report

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
from quality_report import EQUAL, STRONGER, WEAKER, against_its_equal, first_half, harmful_weights, second_half


def toy(**parameters):
    return FineTunedClassifier("toy:rows", **{"freeze_depth": 1.0, "dtype": "float32", "random_state": 0} | parameters)


@pytest.fixture
def rows(rng):
    """Sixty rows; the label is the sign of the first column, nearly."""
    X = rng.normal(size=(60, 16)).astype(np.float32)
    return X, np.where(X[:, 0] + 0.2 * rng.normal(size=60) > 0, "up", "down")


@pytest.fixture
def report(rows):
    return transfer_report(toy(C=1.0), *rows, cv=7, baselines=["random", "linear"], random_state=0)


def test_equals_are_told_apart_no_more_often_than_promised():
    claims = [against_its_equal(seed, EQUAL) in ("HELPS", "HURTS") for seed in range(1000, 1016)]
    assert sum(claims) <= 3  # at one in twenty, more come about in one of a hundred runs; these are seeded


def test_a_planted_effect_is_found():
    seeds = range(1000, 1006)
    assert [against_its_equal(seed, (STRONGER, WEAKER)) for seed in seeds].count("HELPS") >= 4
    assert [against_its_equal(seed, (WEAKER, STRONGER)) for seed in seeds].count("HURTS") >= 4


def test_weights_that_learnt_to_ignore_what_the_task_asks_for_hurt(tmp_path):
    weights = tmp_path / "harmful.safetensors"
    harmful_weights(weights)
    X = np.random.default_rng(6).normal(size=(300, 32))
    report = transfer_report(
        toy(weights=str(weights), C=1.0), X, X[:, 0] + X[:, 1] > 0, baselines=["random"], random_state=6
    )
    assert report.verdict == "HURTS"
    assert "Let later stages adapt" in report.advice[0]


def test_one_seed_gives_one_report(rows):
    first, second = (
        transfer_report(toy(), *rows, cv=2, baselines=["random", "elm"], random_state=7).table_ for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert {k: v for k, v in one.items() if k != "fit_seconds"} == {
            k: v for k, v in other.items() if k != "fit_seconds"
        }


def test_the_estimator_and_the_data_are_left_as_they_were(rows):
    X, y = rows
    model, before = toy(), (X.copy(), y.copy())
    transfer_report(model, X, y, cv=2, baselines=["random"], random_state=0)
    assert not hasattr(model, "classes_")
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])


def test_differences_are_those_of_the_rows_that_each_has_right(report):
    transfer, *others = report.table_
    for record in others:
        assert record["difference"] == pytest.approx(transfer["score"] - record["score"])
        assert record["difference"] == pytest.approx((record["n_better"] - record["n_worse"]) / 60)
        assert record["low"] < record["difference"] < record["high"]
        assert record["p_adjusted"] >= record["p_value"]
    assert report.test.startswith("exact McNemar")


@pytest.mark.parametrize(
    ("options", "test"),
    [
        ({"scoring": "neg_log_loss"}, "Nadeau"),
        ({"scoring": "roc_auc"}, "Nadeau"),
        ({"cv": RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)}, "Nadeau"),
        ({"cv": 2}, "exact McNemar"),
    ],
)
def test_each_score_has_its_test(rows, options, test):
    report = transfer_report(toy(), *rows, baselines=["linear"], random_state=0, **{"cv": 2} | options)
    assert report.test.startswith(test)
    assert ("accuracy, %" in str(report)) == ("scoring" not in options)


def test_a_scorer_of_ones_own_is_used(rows):
    def half(estimator, X, y):
        return 0.5

    report = transfer_report(toy(), *rows, cv=2, baselines=["random"], scoring=half, random_state=0)
    assert report.verdict == "NO DIFFERENCE"
    assert report.scoring_name == "half"


def test_numbers_are_judged_by_r2(rng):
    X = rng.normal(size=(150, 16))
    model = FineTunedRegressor("toy:rows", freeze_depth=1.0, random_state=0)
    report = transfer_report(model, X, X[:, 0], cv=5, random_state=0, baselines=["linear", "elm"])
    assert report.verdict == "HURTS"
    assert "behind 'linear' and 'elm' by more than 0.01" in report.reason
    assert "right alone" not in str(report)
    assert (report.scoring, report.chance, report.n_classes) == ("r2", None, None)


@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_targets_of_several_columns_are_reported_on(rng, kind):
    X = rng.normal(size=(40, 8))
    estimator, y = (
        (toy(), (X[:, :2] > 0).astype(int)) if kind == "labels" else (FineTunedRegressor("toy:rows"), X[:, :2])
    )
    report = transfer_report(estimator, X, y, cv=2, baselines=["linear", "elm"], random_state=0)
    assert report.fold_scores_["linear"].mean() > 0.4


def test_the_depth_is_chosen_inside_each_training_part(rows):
    search = GridSearchCV(toy(max_epochs=1), {"freeze_depth": [1.0, 0.5]}, cv=2)
    report = transfer_report(search, *rows, cv=3, baselines=["random"], random_state=0)
    assert sum(report.depths.values()) == 3
    assert set(report.depths) <= {"block1", "block3"}
    assert report.n_folds == 3


def test_texts_and_pictures_are_compared_as_they_come(rng, photos):
    y = np.arange(12) % 2
    words = [f"a {'lovely' if k else 'dull'} day, number {rng.integers(1000)}" for k in y]
    for kind, X in (("toy:text", words), ("toy:images", list(photos)), ("toy:text", pd.Series(words, index=y))):
        model = FineTunedClassifier(kind, freeze_depth=1.0, random_state=0)
        report = transfer_report(model, X, y, cv=2, baselines=["random", "linear"], random_state=0)
        assert report.n == 12


def test_ones_own_estimator_is_a_baseline_under_its_own_name(rows):
    baselines = {"regression": LogisticRegression(), "first": "linear"}
    report = transfer_report(toy(), *rows, cv=2, baselines=baselines, random_state=0)
    assert [record["name"] for record in report.table_] == ["transfer", "regression", "first"]
    assert "first: linear model, no network" in str(report)
    assert report.table_[1]["score"] > report.table_[0]["score"]


def test_what_goes_wrong_in_a_baseline_names_it(rows):
    broken = make_pipeline(FunctionTransformer(np.linalg.inv), LogisticRegression())
    with pytest.raises(np.linalg.LinAlgError) as caught:
        transfer_report(toy(), *rows, cv=2, baselines={"broken": broken}, random_state=0)
    assert caught.value.__notes__ == ["while 'broken' of transfer_report was fitted"]


def test_the_curve_ends_in_the_table(rows):
    report = transfer_report(
        toy(), *rows, cv=3, baselines=["random", "linear"], target_sizes=[20, 10], scoring="accuracy", random_state=0
    )
    assert [(r["n_train"], r["name"]) for r in report.curve_] == [
        (n, name) for n in (10, 20, 40) for name in ("random", "linear")
    ]
    last, whole = report.curve_[-1], report.table_[-1]
    assert [last[k] for k in ("difference", "low", "high")] == [whole[k] for k in ("difference", "low", "high")]


def test_text_has_a_line_per_model_and_the_verdict(report):
    text = str(report)
    assert text.startswith("Does transfer help?  n=60, 2 classes; 7 folds, the same for all, chance 5")
    for record in report.table_:
        assert f"{100 * record['score']:.1f} ± {100 * record['std']:.1f}" in text
    assert re.search(rf"^{report.verdict} +{re.escape(report.reason)}$", text, re.MULTILINE)
    assert re.search(r"^next +\w", text, re.MULTILINE)
    assert repr(report) == f"TransferReport({report.verdict}: {report.reason})"


def test_html_takes_nothing_for_markup(rows):
    name = "<script>alert('x')</script>"
    report = transfer_report(toy(), *rows, cv=2, baselines={name: LogisticRegression()}, random_state=0)
    html = report._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") >= 4


def test_the_table_is_a_frame_and_the_whole_is_json(report):
    frame = report.to_frame()
    assert list(frame.index) == ["transfer", "random", "linear"]
    assert frame.loc["linear", "verdict"] == report.table_[2]["verdict"]
    told = json.loads(json.dumps(report.to_dict()))
    assert told["verdict"] == report.verdict
    assert len(told["fold_scores"]["random"]) == 7


def test_a_frame_needs_pandas(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        report.to_frame()


def test_an_estimator_without_a_network_is_refused(rows):
    with pytest.raises(ValueError, match="must be a FineTunedClassifier or FineTunedRegressor"):
        transfer_report(LogisticRegression(), *rows)


def test_parameters_are_checked(rows):
    with pytest.raises(ValueError, match="The 'rope' parameter of transfer_report"):
        transfer_report(toy(), *rows, rope=-1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_bundled_network_helps_with_ants_and_bees(ants_and_bees):
    X, y, *_ = ants_and_bees
    report = transfer_report(
        FineTunedClassifier(freeze_depth=1.0, random_state=0), X, y, baselines=["random", "linear"], random_state=0
    )
    assert report.verdict == "HELPS"


def test_halves_hold_what_they_say():
    X = np.arange(64).reshape(2, 32)
    assert (np.hstack([first_half(X), second_half(X)]) == X).all()
