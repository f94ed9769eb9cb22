"""What histories warn of, and what to try next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skltransfer import FineTunedClassifier, transfer_report
from skltransfer.model_selection._advice import advice, reason, warnings_of

CHANCE = np.log(2)
SOUND = {"loss": [0.6, 0.5, 0.4, 0.3, 0.25, 0.2]}


def against(name, verdict, **more):
    record = {"name": name, "verdict": verdict, "score": 0.5, "fit_seconds": 1.0, "n_needed": None, "difference": 0.05}
    return record | {"n_better": 20, "n_worse": 10} | more


def advised(verdict, *records, **about):
    plain = {"trains_stages": False, "is_searched": False, "is_repeated": False, "rope": 0.01}
    return " ".join(advice(verdict, records, **plain | about))


def test_a_history_that_falls_to_its_end_warns_of_nothing():
    assert warnings_of([SOUND] * 5, CHANCE) == []
    assert warnings_of([SOUND | {"validation_loss": [0.6, 0.5, 0.45, 0.42, 0.41, 0.42]}] * 5, CHANCE) == []


def test_a_head_that_was_solved_without_epochs_warns_of_nothing():
    assert warnings_of([{"loss": [1e-9]}] * 5, CHANCE) == []


def test_a_held_out_loss_that_rises_again_is_overfitting():
    rises = SOUND | {"validation_loss": [0.6, 0.5, 0.45, 0.5, 0.55, 0.6]}
    (said,) = warnings_of([rises, rises, SOUND], CHANCE)
    assert said.startswith("Overfitting: in 2 of 3 folds the held-out loss was least after epoch 3 of 6")
    assert "Set max_epochs=3" in said


def test_labels_known_by_heart_in_the_first_half_are_too_much_fine_tuning():
    by_heart = {"loss": [0.6, 0.01, 0.005, 0.004, 0.003, 0.002]}
    (said,) = warnings_of([by_heart] * 3, CHANCE)
    assert said.startswith(
        "Too much fine-tuning: in 3 of 3 folds the training labels were known by heart after epoch 2"
    )
    assert warnings_of([{"loss": by_heart["loss"][:3]}] * 3, CHANCE) != []
    assert warnings_of([{"loss": [0.6, 0.5, 0.4, 0.3, 0.2, 0.01]}] * 3, CHANCE) == []


def test_a_training_loss_that_rises_asks_for_a_lower_rate():
    (said,) = warnings_of([{"loss": [0.6, 0.9, 1.2]}] * 2, CHANCE)
    assert "Lower learning_rate" in said


def test_a_sign_in_half_of_the_folds_is_not_told():
    assert warnings_of([{"loss": [0.6, 0.9, 1.2]}, SOUND], CHANCE) == []


def test_training_for_long_on_labels_that_are_noise_is_noticed(rng):
    X, y = rng.normal(size=(40, 16)), rng.integers(0, 2, 40)
    tuned = {"freeze_depth": 0.0, "backbone_lr_factor": 1.0, "learning_rate": 0.01, "max_epochs": 40, "random_state": 0}
    watched = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 40}
    said = warnings_of([FineTunedClassifier("toy:rows", **tuned, **watched).fit(X, y).history_], CHANCE)
    assert [words.split(":")[0] for words in said] == ["Overfitting", "Too much fine-tuning"]


def test_help_is_kept_and_a_single_depth_is_told_to_be_one():
    assert advised("HELPS", against("linear", "HELPS"), is_searched=True) == "Keep transfer."
    assert "GridSearchCV(estimator, {'freeze_depth'" in advised("HELPS", against("linear", "HELPS"))


@pytest.mark.parametrize(
    ("trains_stages", "first"), [(True, "Fine-tune less"), (False, "Let later stages adapt")], ids=["tuned", "frozen"]
)
def test_harm_names_what_else_to_try_and_who_is_ahead(trains_stages, first):
    records = [against("scratch", "HURTS", score=0.7), against("linear", "HURTS", score=0.8), against("elm", "HELPS")]
    said = advised("HURTS", *records, trains_stages=trains_stages)
    assert said.startswith(first)
    assert "backbone whose pretraining is closer" in said
    assert "drop transfer: 'linear' does better" in said


def test_no_difference_names_the_cheapest_equal():
    records = [against("scratch", "NO DIFFERENCE", fit_seconds=60.0), against("elm", "NO DIFFERENCE", fit_seconds=0.5)]
    assert "Drop transfer for 'elm' (0.5 s of fitting)" in advised("NO DIFFERENCE", *records)


def test_doubt_names_the_labels_that_would_be_needed():
    said = advised(
        "CANNOT TELL", against("linear", "CANNOT TELL", n_needed=1234), against("elm", "HELPS", n_needed=9999)
    )
    assert "About 1,234 labels would be needed" in said
    out_of_reach = advised("CANNOT TELL", against("linear", "CANNOT TELL"))
    assert "The difference from 'linear' lies so near the margin" in out_of_reach


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.005, -0.01, 0.02, -0.3]), st.integers(50, 999)), min_size=1))
def test_labels_are_counted_only_where_there_is_a_difference_to_show(records):
    """Of equal scores, no number of labels shows which is better."""
    said = advised(
        "CANNOT TELL",
        *(against(f"b{i}", "CANNOT TELL", difference=d, n_needed=n) for i, (d, n) in enumerate(records)),
    )
    needed = [n for d, n in records if abs(d) > 0.01]
    assert ("labels would be needed" in said) == bool(needed)
    assert not needed or f"About {max(needed)} labels" in said
    for i, (d, _) in enumerate(records):
        assert (f"'b{i}'" in said) == (abs(d) <= 0.01)


def test_equal_models_are_not_told_to_label_more():
    X = np.random.default_rng(0).normal(size=(60, 8))
    model = FineTunedClassifier("toy:rows", freeze_depth=1.0)
    report = transfer_report(model, X, X[:, 0] > 0, cv=2, baselines={"the same": model}, random_state=0)
    assert (report.table_[1]["difference"], report.verdict) == (0.0, "CANNOT TELL")
    assert "labels would be needed" not in " ".join(report.advice)
    assert "no difference from 'the same' that counts" in " ".join(report.advice)


def test_doubt_says_where_too_few_rows_differ_for_any_test():
    said = advised("CANNOT TELL", against("elm", "CANNOT TELL", n_better=5, n_worse=0, n_needed=50))
    assert "From 'elm' it differs in fewer than 6 rows: no test could tell." in said


def test_doubt_of_scores_by_fold_asks_for_repeated_folds_once():
    doubt = against("linear", "CANNOT TELL", n_better=None, n_worse=None, n_needed=50)
    assert "cv=RepeatedKFold" in advised("CANNOT TELL", doubt)
    assert "cv=RepeatedKFold" not in advised("CANNOT TELL", doubt, is_repeated=True)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("HELPS", "ahead of every baseline by more than 1 point"),
        ("HURTS", "behind 'a' by more than 1 point"),
        ("NO DIFFERENCE", "no better than 'a'"),
        ("CANNOT TELL", "against 'a' the data do not decide"),
    ],
)
def test_a_verdict_comes_with_its_reason(verdict, expected):
    assert reason(verdict, [against("a", verdict)], "1 point").startswith(expected)
