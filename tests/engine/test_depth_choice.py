"""``freeze_depth="auto"``: short fits on parts of the training set decide whether later stages are trained."""

import warnings

import numpy as np
import pytest
from scipy.stats import sem
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from torchvision.transforms import v2

from skltransfer import (
    ActivationStore,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    load,
)
from skltransfer.engine import depth_choice

ROWS = {"backbone": "toy:rows", "dtype": "float32", "random_state": 0, "max_epochs": 6}
LEARNS = ROWS | {"learning_rate": 1e-2, "backbone_lr_factor": 1.0, "batch_size": 4}


@pytest.fixture
def frozen_suffices(rng):
    """Sixty rows whose labels a linear head reads off frozen features."""
    X = rng.standard_normal((60, 6))
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture
def tuning_pays(rng):
    """Rows whose labels are the sign of a product, which a linear head on random features cannot tell."""
    X = rng.standard_normal((300, 6))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def test_the_frozen_network_is_kept_where_tuning_gains_less_than_a_standard_error(rng):
    X, y = rng.standard_normal((60, 6)), rng.integers(0, 2, 60)  # labels that have nothing to do with the rows
    chosen = FineTunedClassifier(**LEARNS).fit(X, y)
    assert chosen.n_frozen_stages_ == chosen.n_stages_
    assert chosen.freeze_depth_scores_[1.0]["neg_log_loss"] > chosen.freeze_depth_scores_[0.5]["neg_log_loss"]
    frozen = FineTunedClassifier(freeze_depth=1.0, **LEARNS).fit(X, y)
    np.testing.assert_array_equal(chosen.predict_proba(X), frozen.predict_proba(X))
    assert chosen.history_ == frozen.history_


def test_later_stages_are_trained_where_that_pays(tuning_pays):
    X, y = tuning_pays
    chosen = FineTunedClassifier(**LEARNS).fit(X, y)
    assert chosen.n_frozen_stages_ == chosen.n_stages_ / 2
    frozen, half = chosen.freeze_depth_scores_[1.0], chosen.freeze_depth_scores_[0.5]
    assert all(half[name] > frozen[name] for name in ("accuracy", "neg_log_loss"))
    tuned = FineTunedClassifier(freeze_depth=0.5, **LEARNS).fit(X, y)
    np.testing.assert_array_equal(chosen.predict_proba(X), tuned.predict_proba(X))


def test_numbers_and_several_labels_are_compared_by_their_own_scores(rng):
    X = rng.standard_normal((60, 6))
    y, options = 1e6 + 1e3 * X[:, :2], ROWS | {"freeze_depth": 1.0}
    scores = FineTunedRegressor(**ROWS).fit(X, y).freeze_depth_scores_
    by_hand = cross_val_score(FineTunedRegressor(**options), X, y, cv=3).mean()
    assert scores[1.0] == {"r2": pytest.approx(by_hand, abs=0.1)}
    y = (X[:, :3] > 0).astype(int)
    scores = FineTunedClassifier(**ROWS).fit(X, y).freeze_depth_scores_
    by_hand = (cross_val_predict(FineTunedClassifier(**options), X, y, cv=3) == y).mean()
    assert scores[1.0]["accuracy"] == pytest.approx(by_hand, abs=0.1)


def test_the_scores_are_those_of_fits_by_hand(frozen_suffices, monkeypatch):
    """On one fold, so that a user's own split gives the same number."""
    monkeypatch.setattr(depth_choice, "ENOUGH", 1)
    X, y = frozen_suffices
    seen = []
    whole = depth_choice.folds
    monkeypatch.setattr(depth_choice, "folds", lambda data, *rest: seen.append(data) or whole(data, *rest))
    chosen = FineTunedClassifier(C=1.0, **ROWS).fit(X, y)
    (data,) = seen
    seed = np.random.RandomState(0).randint(2**31 - 1)
    held_out = whole(data, 3, seed, data.targets.values) == 0
    train, test = data.rows[~held_out], data.rows[held_out]
    by_hand = FineTunedClassifier(freeze_depth=1.0, C=1.0, **ROWS).fit(X[train], y[train])
    assert chosen.freeze_depth_scores_[1.0]["accuracy"] == pytest.approx(by_hand.score(X[test], y[test]))
    logits, signs = by_hand.decision_function(X[test]), 2 * y[test] - 1
    least = min(np.logaddexp(0, -signs * logits / t).mean() for t in np.geomspace(0.02, 50, 5000))
    assert -chosen.freeze_depth_scores_[1.0]["neg_log_loss"] == pytest.approx(least, rel=1e-4)
    by_hand = FineTunedClassifier(freeze_depth=0.5, C=1.0, **ROWS | {"max_epochs": 5}).fit(X[train], y[train])
    assert chosen.freeze_depth_scores_[0.5]["accuracy"] == pytest.approx(by_hand.score(X[test], y[test]))


def test_a_gain_is_more_than_a_standard_error_of_the_mean(rng):
    values = rng.standard_normal(50)
    values += sem(values, ddof=0) - values.mean()
    assert not depth_choice._gains(values - 1e-9, np.ones(50))
    assert depth_choice._gains(values + 1e-9, np.ones(50))
    assert depth_choice._gains(np.r_[values, np.full(9, -9.0)] + 1e-9, np.arange(59) < 50)


def test_order_and_repetition_of_rows_have_no_effect(tuning_pays, rng):
    X, y = tuning_pays
    base = FineTunedClassifier(**LEARNS).fit(X, y).freeze_depth_scores_
    p = rng.permutation(len(X))
    assert FineTunedClassifier(**LEARNS).fit(X[p], y[p]).freeze_depth_scores_ == base
    weights = rng.integers(0, 3, len(X))
    rows = np.repeat(np.arange(len(X)), weights)
    weighted = FineTunedClassifier(**LEARNS).fit(X, y, sample_weight=weights)
    repeated = FineTunedClassifier(**LEARNS).fit(X[rows], y[rows])
    assert weighted.freeze_depth_scores_ == repeated.freeze_depth_scores_ != base


def test_with_and_without_a_cache_the_choice_is_the_same(two_kinds):
    X, y = two_kinds
    options = {"dtype": "float32", "random_state": 0, "max_epochs": 2}
    found = [
        FineTunedClassifier("toy:images", cache=cache, **options).fit(X, y).freeze_depth_scores_
        for cache in (None, ActivationStore())
    ]
    for depth in (1.0, 0.5):
        assert found[0][depth] == pytest.approx(found[1][depth], abs=1e-6)


def test_the_frozen_part_runs_once_without_a_cache_too(two_kinds, monkeypatch):
    X, y = two_kinds
    stores = []
    monkeypatch.setattr(depth_choice, "ActivationStore", lambda: stores.append(ActivationStore()) or stores[-1])
    FineTunedClassifier("toy:images", cache=None, random_state=0, max_epochs=1).fit(X, y)
    (store,) = stores
    assert store.info()["misses"] == 2 * len(X)  # in the middle, and at the end


@pytest.mark.parametrize(("n", "n_of_second_class"), [(11, 5), (20, 2)], ids=["few samples", "few samples of a class"])
def test_few_samples_decide_nothing_and_all_stages_stay_frozen(rng, n, n_of_second_class):
    X = rng.standard_normal((n, 6))
    chosen = FineTunedClassifier(**ROWS).fit(X, np.arange(n) < n_of_second_class)
    assert chosen.n_frozen_stages_ == chosen.n_stages_
    assert not hasattr(chosen, "freeze_depth_scores_")


def test_copies_of_one_sample_are_one_sample(rng):
    X = np.repeat(rng.standard_normal((5, 6)), 20, axis=0)
    chosen = FineTunedClassifier(**ROWS).fit(X, np.arange(100) // 20 % 2)
    assert not hasattr(chosen, "freeze_depth_scores_")


@pytest.mark.parametrize(
    "options",
    [{"head": "mlp"}, {"head_init": "random"}, {"norm_policy": "train"}, {"augment": v2.Compose([v2.Identity()])}],
    ids=str,
)
def test_what_the_probe_does_not_begin_is_trained_from_the_middle(two_kinds, options):
    chosen = FineTunedClassifier("toy:images", max_epochs=1, random_state=0, **options).fit(*two_kinds)
    assert chosen.n_frozen_stages_ == chosen.n_stages_ / 2
    assert not hasattr(chosen, "freeze_depth_scores_")


def test_partial_fit_and_warm_start_go_on_where_they_are(frozen_suffices, tuning_pays):
    X, y = frozen_suffices
    in_parts = FineTunedClassifier(**ROWS).partial_fit(X, y, classes=[0, 1]).partial_fit(X, y)
    assert in_parts.n_frozen_stages_ == in_parts.n_stages_ / 2
    for options, (X, y) in ((ROWS, frozen_suffices), (LEARNS, tuning_pays)):
        model = FineTunedClassifier(warm_start=True, **options).fit(X, y)
        depth, losses = model.n_frozen_stages_, model.freeze_depth_scores_
        model.fit(X[:40], 1 - y[:40])
        assert (model.n_frozen_stages_, model.freeze_depth_scores_) == (depth, losses)
    fresh = clone(model).set_params(warm_start=False).fit(X, y)
    assert not hasattr(fresh.set_params(freeze_depth=1.0).fit(X, y), "freeze_depth_scores_")


def test_what_is_guessed_of_samples_is_told_once(rng):
    X = rng.integers(0, 200, (20, 16, 16)).astype(np.uint16)
    X[0, 0, 0] = 300
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        FineTunedClassifier("toy:images", max_epochs=1, random_state=0).fit(X, np.arange(20) % 2)
    assert len({str(warning.message) for warning in told}) == len(told)


def test_unreadable_rows_are_left_out_with_one_warning(two_kinds):
    X, y = list(two_kinds[0]), two_kinds[1]
    X[3] = b"no picture"
    with pytest.warns(UserWarning, match=r"Rows \[3\] of X could not be read") as told:
        chosen = FineTunedClassifier("toy:images", on_bad_sample="nan", max_epochs=1, random_state=0).fit(X, y)
    assert len(told) == 1
    assert chosen.bad_samples_ == [3]
    assert hasattr(chosen, "freeze_depth_scores_")


def test_no_more_folds_are_fitted_than_decide(frozen_suffices, monkeypatch):
    fits = []
    whole = depth_choice.tune
    monkeypatch.setattr(depth_choice, "tune", lambda task, *rest: fits.append(task) or whole(task, *rest))
    FineTunedClassifier(**ROWS).fit(*frozen_suffices)
    assert len(fits) == 6
    assert {task.plan.max_epochs for task in fits} == {5}
    monkeypatch.setattr(depth_choice, "ENOUGH", 40)
    FineTunedClassifier(**ROWS).fit(*frozen_suffices)
    assert len(fits) == 10


def test_a_class_that_does_not_count_decides_nothing(tuning_pays):
    X, y = tuning_pays
    y = np.where(np.arange(len(y)) < 20, 2, y)
    weighted = FineTunedClassifier(class_weight={0: 1.0, 1: 1.0, 2: 0.0}, **ROWS).fit(X, y)
    assert all(np.isfinite(list(scores.values())).all() for scores in weighted.freeze_depth_scores_.values())


@pytest.mark.parametrize("enough", [500, 1])
def test_a_bar_shows_the_comparison_and_ends_when_it_does(frozen_suffices, monkeypatch, capfd, enough):
    monkeypatch.setattr(depth_choice, "ENOUGH", enough)
    FineTunedClassifier(verbose=1, **ROWS).fit(*frozen_suffices)
    assert "comparing freeze depths: 100%" in capfd.readouterr().err


def test_it_is_searched_saved_and_shown(frozen_suffices, tmp_path):
    X, y = frozen_suffices
    search = GridSearchCV(FineTunedClassifier(**ROWS), {"freeze_depth": ["auto", 1.0]}, cv=2).fit(X, y)
    assert search.cv_results_["rank_test_score"].tolist() == [1, 1]
    model = FineTunedClassifier(**ROWS).fit(X, y)
    model.save(tmp_path / "model.skl")
    again = load(tmp_path / "model.skl")
    assert again.freeze_depth == "auto"
    assert again.freeze_depth_scores_ == model.freeze_depth_scores_
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_word_that_is_no_depth_is_refused_with_those_that_are(frozen_suffices):
    with pytest.raises(ValueError, match=r"or the name of the last frozen stage, one of \[.*\], or 'auto'; got 'all'"):
        FineTunedClassifier(**ROWS | {"freeze_depth": "all"}).fit(*frozen_suffices)


@pytest.mark.parametrize("kind", [MultiTaskFineTuner, FewShotClassifier, DomainAdaptedClassifier])
def test_estimators_of_another_aim_do_not_take_it(frozen_suffices, kind):
    X, y = frozen_suffices
    with pytest.raises(ValueError, match=r"one of \['stem', .*'block3'\]; got 'auto'"):
        kind("toy:rows", freeze_depth="auto").fit(X, np.c_[y, y] if kind is MultiTaskFineTuner else y)


@pytest.mark.parametrize("seed", range(4))
def test_where_both_depths_are_perfect_rounding_does_not_choose_the_dearer_one(rng, seed):
    y = np.repeat([0, 1], 20)
    X = 0.01 * rng.standard_normal((40, 8)) + (2 * y - 1)[:, None]
    model = FineTunedClassifier("toy:rows", max_epochs=3, random_state=seed).fit(X, y)
    assert model.n_frozen_stages_ == model.n_stages_
