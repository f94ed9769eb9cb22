"""Extreme learning machines: exact leave-one-out, exact in any number of calls, scikit-learn's checks whole."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.special import log_softmax
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.fixes import parse_version

import skltransfer.elm
import skltransfer.elm._ridge
from skltransfer import ELMClassifier, ELMRegressor, PretrainedFeatureExtractor

ESTIMATORS = [ELMClassifier(), ELMRegressor()]
COUNTED = list(zip(ESTIMATORS, (63, 60), strict=True))  # of scikit-learn 1.9
IS_1_9 = parse_version("1.9") <= parse_version(sklearn.__version__) < parse_version("1.10")
CALLS = [[0, 1, 70], [0, 30, 31, 70], [0, 5, 20, 45, 70], list(range(0, 71, 10))]  # borders of calls


def name_of(thing):
    return type(thing).__name__


@pytest.fixture
def numbers(rng):
    """Seventy rows of six features, one of them constant, and two targets."""
    X = rng.standard_normal((70, 6)) * [1, 10, 0.1, 1, 1, 0] + 3
    return X, np.c_[np.sin(X[:, 0]) + X[:, 3], 100 * X[:, 4] + 10 * rng.standard_normal(70)]


@pytest.fixture
def labels(rng):
    """Ninety rows of three overlapping classes."""
    X = rng.standard_normal((90, 4))
    return X, np.array(["a", "b", "c"])[np.digitize(X[:, 0] + 0.5 * rng.standard_normal(90), [-0.5, 0.5])]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "expected"), COUNTED, ids=name_of)
def test_as_many_checks_pass_as_are_generated(estimator, expected):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert {r["check_name"]: r["status"] for r in results if r["status"] != "passed"} == {}
    if IS_1_9:
        assert len(results) == expected
    assert len(results) >= 55


@pytest.mark.parametrize("check", ["check_dataframe_column_names_consistency", "check_param_validation"])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_checks_that_scikit_learn_leaves_to_its_own_estimators(estimator, check):
    getattr(estimator_checks, check)(name_of(estimator), estimator)


def test_torch_is_not_needed():
    code = "import sys, skltransfer; skltransfer.ELMClassifier; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def refit_without_each(model, X, targets, alpha, weights=None):
    """Outputs for each row of a ridge that was solved on all others, by scikit-learn."""
    hidden, weights = model._layer(X), np.ones(len(X)) if weights is None else weights
    left_out = []
    for i in range(len(X)):
        kept = np.arange(len(X)) != i
        ridge = Ridge(alpha=alpha, solver="svd").fit(hidden[kept], targets[kept], sample_weight=weights[kept])
        left_out.append(ridge.predict(hidden[[i]])[0])
    return np.array(left_out)


@pytest.mark.parametrize("n_hidden", [20, 200], ids=["fewer units than rows", "more units than rows"])
@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0])
def test_the_leave_one_out_score_of_a_regressor_is_that_of_refits(numbers, n_hidden, alpha):
    X, y = numbers
    model = ELMRegressor(n_hidden, alpha=alpha, random_state=0).fit(X, y)
    assert model.best_score_ == pytest.approx(r2_score(y, refit_without_each(model, X, y, alpha)), abs=1e-8)


def test_weights_below_one_are_left_out_whole(numbers, rng):
    X, y = numbers
    weights = rng.random(len(X))
    model = ELMRegressor(50, alpha=0.1, random_state=0).fit(X, y, weights)
    expected = r2_score(y, refit_without_each(model, X, y, 0.1, weights), sample_weight=weights)
    assert model.best_score_ == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_leave_one_out_score_of_a_classifier_is_that_of_refits(labels, n_classes):
    X, y = labels
    X, y = (X[y != "c"], y[y != "c"]) if n_classes == 2 else (X, y)
    model = ELMClassifier(60, alpha=0.01, random_state=0).fit(X, y)
    left_out = refit_without_each(model, X, np.where(y[:, None] == model.classes_, 1.0, -1.0), 0.01)
    assert model.best_score_ == pytest.approx(accuracy_score(y, model.classes_[left_out.argmax(axis=1)]), abs=1e-12)
    assert 1 / n_classes < model.best_score_ < 1


def test_the_alpha_that_is_chosen_errs_least_in_refits(numbers):
    X, y = numbers
    candidates = [1e-3, 1e-1, 1e1]
    model = ELMRegressor(50, alpha=candidates, random_state=0).fit(X, y)
    scores = [r2_score(y, refit_without_each(model, X, y, alpha)) for alpha in candidates]
    assert model.alpha_ == candidates[np.argmax(scores)]
    assert model.best_score_ == pytest.approx(max(scores), abs=1e-8)


def test_the_choice_of_alpha_does_not_depend_on_the_unit_of_a_target(numbers):
    X, y = numbers
    model, other = (ELMRegressor(50, random_state=0).fit(X, y * unit) for unit in ([1, 1], [1, 1e-6]))
    assert model.alpha_ == other.alpha_
    np.testing.assert_allclose(model.predict(X), other.predict(X) * [1, 1e6], rtol=1e-8)


def test_the_ridge_is_scikit_learns(numbers):
    X, y = numbers
    model = ELMRegressor(50, alpha=0.1, random_state=0).fit(X, y)
    ridge = Ridge(alpha=0.1).fit(model._layer(X), y)
    np.testing.assert_allclose(model.coef_, ridge.coef_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, ridge.intercept_, rtol=1e-8)


def test_direct_links_put_features_beside_hidden_values(numbers):
    X, y = numbers
    model = ELMRegressor(20, alpha=0.1, direct_links=True, random_state=0).fit(X, y)
    without = ELMRegressor(20, alpha=0.1, random_state=0).fit(X, y)
    beside = np.hstack([without._layer(X), StandardScaler().fit_transform(X) / np.sqrt(6)])
    np.testing.assert_allclose(model.predict(X), Ridge(alpha=0.1).fit(beside, y).predict(beside), rtol=1e-8)
    assert model.coef_.shape == (2, 26)


def in_calls(model, X, y, borders, **first):
    for i, (begin, end) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        model.partial_fit(X[begin:end], y[begin:end], **(first if i == 0 else {}))
    return model


def same_layer(model, X, y, first, monkeypatch):
    """Fit on all rows with the hidden layer that the first call's rows standardise."""
    layer = model.fit(X[:first], y[:first])._layer
    monkeypatch.setattr(skltransfer.elm._elm._HiddenLayer, "drawn", lambda *args: layer)
    return model.fit(X, y)


@pytest.mark.parametrize("borders", CALLS, ids=str)
@pytest.mark.parametrize("params", [{"n_hidden": 20}, {"n_hidden": 200, "direct_links": True}], ids=str)
def test_a_regressor_learns_the_same_in_any_number_of_calls(numbers, borders, params, monkeypatch):
    X, y = numbers
    called = in_calls(ELMRegressor(alpha=0.1, random_state=0, **params), X, y, borders)
    at_once = same_layer(ELMRegressor(alpha=0.1, random_state=0, **params), X, y, borders[1], monkeypatch)
    np.testing.assert_allclose(called.coef_, at_once.coef_, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(called.predict(X), at_once.predict(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("borders", CALLS, ids=str)
def test_a_classifier_learns_the_same_in_any_number_of_calls(labels, borders, monkeypatch):
    X, y = labels
    borders = [*borders[:-1], len(X)]
    called = in_calls(ELMClassifier(alpha=0.1, random_state=0), X, y, borders, classes=["a", "b", "c"])
    at_once = ELMClassifier(alpha=0.1, random_state=0).partial_fit(X[: borders[1]], y[: borders[1]], ["a", "b", "c"])
    layer = at_once._layer
    monkeypatch.setattr(skltransfer.elm._elm._HiddenLayer, "drawn", lambda *args: layer)
    at_once.fit(X, y)
    np.testing.assert_allclose(called.decision_function(X), at_once.decision_function(X), rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(called.predict(X), at_once.predict(X))


def test_calls_go_on_from_fit_and_keep_what_it_settled(labels):
    X, y = labels
    model = ELMClassifier(random_state=0).fit(X[:60], y[:60])
    settled = model.alpha_, model.best_score_, model.temperature_
    before = model.decision_function(X)
    model.partial_fit(X[60:], y[60:])
    assert (model.alpha_, model.best_score_, model.temperature_) == settled
    assert not np.allclose(model.decision_function(X), before)
    model.fit(X[:60], y[:60])
    np.testing.assert_array_equal(model.decision_function(X), before)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_memory_in_blocks_changes_nothing(estimator, monkeypatch):
    X, y = load_wine(return_X_y=True)
    at_once = sklearn.clone(estimator).set_params(random_state=0).fit(X, y)
    monkeypatch.setattr(skltransfer.elm._ridge, "BLOCK", 50)
    in_blocks = sklearn.clone(estimator).set_params(random_state=0).fit(X, y)
    assert in_blocks.alpha_ == at_once.alpha_
    assert in_blocks.best_score_ == pytest.approx(at_once.best_score_, rel=1e-9)
    np.testing.assert_allclose(in_blocks._outputs(X), at_once._outputs(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, {"class_weight": {"a": 5, "b": 0.2, "c": 1}}])
def test_weights_are_repeated_rows(labels, rng, params):
    X, y = labels
    weights = rng.integers(0, 4, len(X))
    weighted = ELMClassifier(80, random_state=0, **params).fit(X, y, weights)
    repeated = ELMClassifier(80, random_state=0, **params).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert weighted.alpha_ == repeated.alpha_
    assert weighted.best_score_ == pytest.approx(repeated.best_score_, rel=1e-9)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-7)


def test_weights_are_repeated_rows_for_numbers(numbers, rng):
    X, y = numbers
    weights = rng.integers(0, 4, len(X))
    weighted = ELMRegressor(80, random_state=0).fit(X, y, weights)
    repeated = ELMRegressor(80, random_state=0).fit(X.repeat(weights, axis=0), y.repeat(weights, axis=0))
    assert weighted.best_score_ == pytest.approx(repeated.best_score_, rel=1e-9)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-7)


def test_a_row_that_outweighs_all_others_leaves_numbers_finite(numbers):
    X, y = numbers
    model = ELMRegressor(random_state=0).fit(X, y, np.r_[1, np.full(len(X) - 1, 1e-20)])
    np.testing.assert_allclose(model.predict(X[:1]), y[:1])
    assert np.isfinite(model.best_score_)


def test_class_weights_count_like_sample_weights(labels):
    X, y = labels
    factors = {"a": 5.0, "b": 0.5, "c": 1.0}
    by_class = ELMClassifier(80, alpha=0.1, class_weight=factors, random_state=0).fit(X, y)
    plain = ELMClassifier(80, alpha=0.1, random_state=0).fit(X, y)
    ridge = Ridge(alpha=0.1).fit(by_class._layer(X), np.where(y == "a", 1, -1), [factors[label] for label in y])
    np.testing.assert_allclose(by_class.decision_function(X)[:, 0], ridge.predict(by_class._layer(X)), rtol=1e-7)
    assert (by_class.predict(X) == "a").sum() > (plain.predict(X) == "a").sum()


def test_the_order_of_rows_does_not_matter(numbers, rng):
    X, y = numbers
    order = rng.permutation(len(X))
    model, shuffled = (ELMRegressor(random_state=0).fit(X[rows], y[rows]) for rows in (slice(None), order))
    assert model.alpha_ == shuffled.alpha_
    np.testing.assert_allclose(model.predict(X), shuffled.predict(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("alpha", [1e-300, 1e-15])
def test_a_vanishing_alpha_gives_the_least_norm_solution(numbers, activation, alpha):
    X, y = numbers
    model = ELMRegressor(300, activation=activation, alpha=alpha, random_state=0).fit(X, y)
    hidden = model._layer(X)
    least = np.linalg.lstsq(hidden - hidden.mean(axis=0), y - y.mean(axis=0))[0]
    np.testing.assert_allclose(model.predict(X), y, rtol=1e-6)
    np.testing.assert_allclose(model.coef_, least.T, rtol=1e-4, atol=1e-4 * np.abs(least).max())
    nearly = ELMRegressor(300, activation=activation, alpha=1e-8, random_state=0).fit(X, y)
    assert model.best_score_ == pytest.approx(nearly.best_score_, abs=1e-4)
    called = ELMRegressor(300, activation=activation, alpha=alpha, random_state=0).fit(X, y).partial_fit(X, y)
    np.testing.assert_allclose(called.predict(X), y, rtol=1e-6)


def test_dead_units_and_constant_columns_do_no_harm():
    X, y = np.c_[np.zeros(30), np.full(30, 1e9)], np.arange(30) % 2
    model = ELMClassifier(random_state=0).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), 0.5)
    np.testing.assert_allclose(ELMRegressor(random_state=0).fit(X, y).predict(X), 0.5)


def test_more_features_than_rows_and_classes_of_one_row(rng):
    X, y = rng.standard_normal((12, 100)), np.array(["common"] * 10 + ["rare", "single"])
    np.testing.assert_array_equal(ELMClassifier(alpha=0.01, random_state=0).fit(X, y).predict(X), y)
    chosen = ELMClassifier(random_state=0).fit(X, y)  # what is seen once cannot be learnt from the others
    np.testing.assert_array_equal(chosen.predict(X), "common")
    assert np.isfinite(chosen.predict_proba(X)).all()


def test_single_precision_predicts_the_same(labels):
    X, y = labels
    single, double = (ELMClassifier(random_state=0).fit(X.astype(t), y) for t in (np.float32, np.float64))
    assert single.alpha_ == double.alpha_
    np.testing.assert_allclose(single.predict_proba(X.astype(np.float32)), double.predict_proba(X), atol=1e-4)


def test_two_classes_have_one_output_and_targets_keep_their_shape(numbers, labels):
    X, y = labels
    model = ELMClassifier(random_state=0).fit(X, y == "a")
    outputs, chances = model.decision_function(X), model.predict_proba(X)
    assert outputs.shape == (90,)
    np.testing.assert_array_equal(model.predict(X), outputs > 0)
    np.testing.assert_array_equal(chances[:, 1] > 0.5, outputs > 0)
    X, y = numbers
    assert ELMRegressor().fit(X, y).predict(X).shape == (70, 2)
    flat = ELMRegressor().fit(X, y[:, 0])
    assert flat.partial_fit(X, y[:, 0]).predict(X).shape == (70,)
    assert flat.coef_.shape == (500,)
    assert isinstance(flat.intercept_, float)


def test_the_temperature_makes_labels_most_likely_when_left_out(labels):
    X, y = labels
    model = ELMClassifier(60, alpha=0.01, random_state=0).fit(X, y)
    targets = np.where(y[:, None] == model.classes_, 1.0, -1.0)
    left_out = refit_without_each(model, X, targets, 0.01)
    smooth = (targets > 0) * (1 - 1 / 91) + 1 / 91 / 3
    losses = [-(smooth * log_softmax(left_out / (model.temperature_ * f), axis=1)).sum() for f in (0.99, 1, 1.01)]
    assert losses[1] == min(losses)


def test_probabilities_stay_finite_where_all_are_right_and_shrink_where_nothing_is_learnt(rng):
    X = np.r_[np.full((20, 1), -1.0), np.full((20, 1), 1.0)]
    chances = ELMClassifier(random_state=0).fit(X, X[:, 0] > 0).predict_proba(X)
    assert 0.95 < chances.max() < 1
    X, y = rng.standard_normal((200, 3)), rng.integers(0, 2, 200)
    chances = ELMClassifier(random_state=0).fit(X, y).predict_proba(rng.standard_normal((200, 3)))
    assert np.abs(chances - 0.5).max() < 0.2


def test_digits_are_read_better_than_by_logistic_regression_and_with_fair_probabilities():
    X, y = load_digits(return_X_y=True)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X[:1000], y[:1000])
    model = ELMClassifier(random_state=0).fit(X[:1000], y[:1000])
    assert model.score(X[1000:], y[1000:]) > logistic.score(X[1000:], y[1000:])
    assert abs(model.best_score_ - 0.97) < 0.02
    chances = model.predict_proba(X[1000:])
    assert log_loss(y[1000:], chances) < log_loss(y[1000:], logistic.predict_proba(X[1000:]))
    assert chances.max(axis=1).mean() == pytest.approx(model.score(X[1000:], y[1000:]), abs=0.03)


def test_diabetes_is_predicted_as_well_as_by_a_linear_model():
    X, y = load_diabetes(return_X_y=True)
    linear = Ridge(alpha=0.1).fit(X[::2], y[::2])
    assert ELMRegressor(random_state=0).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > linear.score(X[1::2], y[1::2])


def test_a_pickle_predicts_and_goes_on(labels):
    X, y = labels
    model = ELMClassifier(random_state=0).fit(X[:60], y[:60])
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(
        copy.partial_fit(X[60:], y[60:]).decision_function(X), model.partial_fit(X[60:], y[60:]).decision_function(X)
    )


def test_it_follows_an_extractor_and_is_searched(two_kinds):
    X, y = two_kinds
    pipeline = make_pipeline(PretrainedFeatureExtractor("toy:images"), ELMClassifier(random_state=0))
    grid = {"elmclassifier__alpha": ["loo", 0.1], "elmclassifier__n_hidden": [20, 100]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.9
    assert search.best_estimator_[-1].n_features_in_ == 32


def test_a_seed_settles_the_layer_and_the_global_generator_is_left_alone(labels):
    X, y = labels
    np.random.seed(0)
    first = ELMClassifier(random_state=1).fit(X, y)
    drawn = np.random.rand()
    np.random.seed(0)
    assert drawn == np.random.rand()
    np.testing.assert_array_equal(first.coef_, ELMClassifier(random_state=1).fit(X, y).coef_)
    assert not np.array_equal(first.coef_, ELMClassifier(random_state=2).fit(X, y).coef_)


def test_names_of_columns_are_remembered(labels):
    X, y = labels
    model = ELMClassifier().fit(pd.DataFrame(X, columns=list("wxyz")), y)
    np.testing.assert_array_equal(model.feature_names_in_, list("wxyz"))


def test_a_single_row_can_begin_where_alpha_is_given(numbers, labels):
    X, y = numbers
    model = ELMRegressor(alpha=0.1).partial_fit(X[:1], y[:1])
    assert np.isnan(model.best_score_)
    np.testing.assert_allclose(model.predict(X[5:6]), y[:1])
    X, y = labels
    model = ELMClassifier(alpha=0.1).partial_fit(X[:1], y[:1], classes=["a", "b", "c"])
    assert np.isnan(model.best_score_)
    assert model.temperature_ == 1
    assert model.predict(X[5:6]) == y[:1]


@pytest.mark.parametrize("alpha", [[], [[1.0]], [1.0, -1.0], [np.nan], [0.0]])
def test_an_alpha_that_is_no_strength_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be 'loo', a positive number or a list of these; got"):
        ELMRegressor(alpha=alpha).fit([[1.0], [2.0]], [1, 2])


@pytest.mark.parametrize("params", [{"alpha": 0}, {"alpha": "cv"}, {"n_hidden": 0}, {"activation": "sine"}])
def test_bad_parameters_are_named(params):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of ELMRegressor must be"):
        ELMRegressor(**params).fit([[1.0], [2.0]], [1, 2])


def test_what_leave_one_out_cannot_do_is_said():
    with pytest.raises(ValueError, match="needs at least two rows of positive weight; got 1 sample and alpha='loo'"):
        ELMRegressor().fit([[1.0], [2.0]], [1, 2], sample_weight=[1, 0])


def test_weights_must_count():
    with pytest.raises(ValueError, match="at least one"):
        ELMRegressor().fit([[1.0], [2.0]], [1, 2], sample_weight=[0, 0])
    with pytest.raises(ValueError, match="class_weight must be positive for each class; got {0: 0, 1: 1}"):
        ELMClassifier(class_weight={0: 0, 1: 1}).fit([[1.0], [2.0]], [0, 1])


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"at least two classes; got one class, \['a'\]"):
        ELMClassifier().fit([[1.0], [2.0], [3.0]], ["a", "a", "b"], sample_weight=[1, 1, 0])


def test_later_calls_must_fit_the_first(numbers, labels):
    X, y = labels
    model = ELMClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        model.partial_fit(X, y)
    model.fit(X[y != "c"], y[y != "c"])
    before = model.coef_
    with pytest.raises(ValueError, match=r"labels \['c'\] that are not among the classes \['a', 'b'\]"):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(model.coef_, before)
    with pytest.raises(ValueError, match="class_weight='balanced' needs all rows at once"):
        ELMClassifier(class_weight="balanced").partial_fit(X, y, classes=["a", "b", "c"])
    X, y = numbers
    with pytest.raises(ValueError, match=r"y has 1 target\(s\), but had 2 in the first call"):
        ELMRegressor().fit(X, y).partial_fit(X, y[:, 0])
