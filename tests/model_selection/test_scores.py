"""Scores agree with their defining formulas, keep still under what should not matter, and stay finite."""

import math

import numpy as np
import pytest
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import KFold, StratifiedKFold

from skltransfer.model_selection import (
    h_score,
    knn_score,
    leep_score,
    log_me_score,
    nce_score,
    probe_score,
    trans_rate_score,
)

OF_LABELS = [h_score, knn_score, log_me_score, probe_score, trans_rate_score]
ROTATABLE = [h_score, knn_score, log_me_score, trans_rate_score]
SCALABLE = [h_score, knn_score, log_me_score, probe_score]


def informative(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features in which class means differ, and labels as strings."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    X = rng.standard_normal((n, d)) + 1.5 * rng.standard_normal((n_classes, d))[y] / np.sqrt(d) ** 0.5
    return X, np.array(["ant", "bee", "cat", "dog", "eel"])[y]


def dense_evidence(features: np.ndarray, target: np.ndarray) -> float:
    """max over (alpha, beta) of log N(y; 0, I / beta + F Fᵀ / alpha) / m, in the m = n - 1 dimensions that are left."""
    contrast = helmert(len(target))  # (m, n), orthonormal rows that sum to zero
    F, y = contrast @ features, contrast @ target
    K, m = F @ F.T, len(y)
    variances, axes = np.linalg.eigh(K)
    squares = (axes.T @ y) ** 2

    def loss(log_precisions: np.ndarray) -> float:
        spread = np.exp(-log_precisions[1]) + variances.clip(0) * np.exp(-log_precisions[0])
        return 0.5 * (np.log(spread) + squares / spread).sum()

    starts = [(a + np.log(np.trace(K) / m), b - np.log(y.var())) for a in (0, 4, 9) for b in (0, 2)]
    found = [minimize(loss, start, method="L-BFGS-B", bounds=[(-20, 20)] * 2) for start in starts]
    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000}
    best = min(found, key=lambda one: one.fun)
    alpha, beta = np.exp(minimize(loss, best.x, method="Nelder-Mead", bounds=[(-25, 25)] * 2, options=options).x)
    return multivariate_normal(cov=np.eye(m) / beta + K / alpha).logpdf(y) / m


@pytest.mark.parametrize("says_something", [True, False])
@pytest.mark.parametrize("d", [64, 256, 2048])
def test_log_me_is_the_dense_optimum_over_both_precisions(d, says_something):
    X, y = informative(200, d, 3)
    X = X if says_something else np.random.default_rng(1).standard_normal(X.shape)
    expected = np.mean([dense_evidence(X, (y == label).astype(float)) for label in np.unique(y)])
    assert log_me_score(X, y) == pytest.approx(expected, abs=1e-5)


def test_log_me_of_numbers_is_the_mean_over_outputs():
    X, _ = informative(60, 100, 2)
    Y = X[:, :2] + np.random.default_rng(1).standard_normal((60, 2))
    expected = [dense_evidence(X, column) for column in Y.T]
    assert log_me_score(X, Y) == pytest.approx(np.mean(expected), abs=1e-5)
    assert log_me_score(X, Y[:, 0]) == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_log_me_says_the_same_of_noise_of_any_width(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, 200)
    scores = [log_me_score(rng.standard_normal((200, d)), y) for d in (16, 64, 256, 1024, 4096)]
    assert min(scores) > -0.211
    assert max(scores) < -0.199
    assert np.ptp(scores) < 0.005


def test_log_me_of_two_classes_is_that_of_one_column():
    X, y = informative(80, 20, 2)
    assert log_me_score(X, y) == pytest.approx(log_me_score(X, (y == "ant").astype(float), task="regression"))


def test_log_me_of_a_label_matrix_is_the_mean_over_its_columns():
    X, y = informative(80, 20, 4)
    Y = np.stack([np.isin(y, ["ant", "bee"]), np.isin(y, ["ant", "cat"]), np.zeros(80)], axis=1).astype(int)
    expected = np.mean([log_me_score(X, Y[:, 0]), log_me_score(X, Y[:, 1])])  # a constant column says nothing
    assert log_me_score(X, Y) == pytest.approx(expected)


@pytest.mark.parametrize("d", [5, 300])
def test_h_score_is_the_trace_of_its_definition(d):
    X, y = informative(90, d, 4)
    covariance, shrinkage = ledoit_wolf(X)
    means = {label: X[y == label].mean(axis=0) - X.mean(axis=0) for label in np.unique(y)}
    between = np.mean([np.outer(means[label], means[label]) for label in y], axis=0)
    expected = (1 - shrinkage) * np.trace(np.linalg.solve(covariance, between))
    assert h_score(X, y) == pytest.approx(expected)


def test_shrinkage_lets_h_score_tell_labels_from_noise_where_features_are_many():
    X, y = informative(60, 500, 3)
    assert h_score(X, y) > 1.3 * h_score(X, np.random.default_rng(3).permutation(y))


@pytest.mark.parametrize("d", [5, 300])
def test_trans_rate_is_the_difference_of_code_lengths(d):
    X, y = informative(90, d, 4)
    Z = X - X.mean(axis=0)

    def rate(rows: np.ndarray) -> float:
        return 0.5 * np.linalg.slogdet(np.eye(d) + rows.T @ rows / (len(rows) * 1e-4))[1]

    within = sum((y == label).mean() * rate(Z[y == label]) for label in np.unique(y))
    assert trans_rate_score(X, y) == pytest.approx(rate(Z) - within)


def test_knn_score_is_the_weighted_vote_of_the_most_similar():
    X, y = informative(60, 8, 3)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores = []
    for train, test in StratifiedKFold(4).split(X, y):
        nearest = np.argsort(-(unit[test] @ unit[train].T), axis=1)[:, :3]
        votes = [
            {label: sum(1 / (1 - unit[i] @ unit[train[j]]) for j in row if y[train[j]] == label) for label in y[train]}
            for i, row in zip(test, nearest, strict=True)
        ]
        scores.append(np.mean([max(vote, key=vote.get) for vote in votes] == y[test]))
    assert knn_score(X, y, n_neighbors=3, cv=4) == pytest.approx(np.mean(scores))


def test_probe_score_is_high_where_labels_are_linear_and_chance_where_they_are_noise():
    X, y = informative(200, 20, 4)
    assert probe_score(X, y) > 0.9
    assert 0.15 < probe_score(X, np.random.default_rng(1).permutation(y)) < 0.35


@pytest.mark.parametrize("score", [knn_score, probe_score])
def test_numbers_are_scored_by_r2(score):
    X, _ = informative(100, 3, 2)
    assert score(X, X @ [1.0, 2.0, -1.0]) > 0.4
    assert score(X, np.stack([X @ [1.0, 2.0, -1.0], X[:, 0]], axis=1)) > 0.4
    assert score(X, np.random.default_rng(1).random(100)) < 0.2


@pytest.mark.parametrize("times", [3, 20])
def test_the_probe_gains_nothing_by_width_alone(times):
    X, y = informative(90, 6, 3)
    X += 2 * np.random.default_rng(1).standard_normal(X.shape)
    assert 0.4 < probe_score(X, y) < 0.9
    assert probe_score(np.tile(X, times), y) == pytest.approx(probe_score(X, y))


def test_probe_score_takes_any_scorer_of_scikit_learn():
    X, y = informative(100, 5, 2)
    y[:90] = "ant"
    assert probe_score(X, y) == pytest.approx(probe_score(X, y, scoring="accuracy"))
    assert probe_score(X, y, scoring="balanced_accuracy") < probe_score(X, y)


def test_leep_is_the_mean_log_likelihood_under_the_empirical_joint():
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet(np.ones(6), 40), rng.integers(0, 3, 40)
    joint = np.array([[proba[y == label, z].sum() / 40 for z in range(6)] for label in range(3)])
    given = joint / joint.sum(axis=0)
    expected = np.mean([math.log(sum(given[y[i], z] * proba[i, z] for z in range(6))) for i in range(40)])
    assert leep_score(proba, y) == pytest.approx(expected)


def test_a_source_class_that_is_never_predicted_changes_nothing():
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet(np.ones(6), 40), rng.integers(0, 3, 40)
    with_zeros = np.insert(proba, 2, 0.0, axis=1)
    assert leep_score(with_zeros, y) == pytest.approx(leep_score(proba, y), abs=1e-12)
    assert nce_score(with_zeros.argmax(axis=1), y) == pytest.approx(nce_score(proba.argmax(axis=1), y), abs=1e-12)


def test_nce_is_the_conditional_entropy_and_leep_of_certain_predictions():
    rng = np.random.default_rng(0)
    z, y = rng.integers(0, 5, 60), rng.integers(0, 3, 60)
    counts = np.array([[((z == a) & (y == b)).sum() for b in range(3)] for a in range(5)])
    expected = sum(n / 60 * math.log(n / row.sum()) for row in counts for n in row if n)
    assert nce_score(z, y) == pytest.approx(expected)
    assert leep_score(np.eye(5)[z], y) == pytest.approx(expected)


def test_leep_is_optimistic_where_source_classes_are_many():
    z = np.random.default_rng(0).standard_normal((200, 1000)) * 3
    proba = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert leep_score(proba, np.arange(200) % 10) > -1.1  # chance is log(0.1) = -2.3


@pytest.mark.parametrize("score", [*OF_LABELS, leep_score, nce_score])
@pytest.mark.parametrize("seed", range(3))
def test_names_of_labels_do_not_matter(score, seed):
    X, y = informative(60, 12, 4, seed)
    if score is leep_score:
        X = np.abs(X) / np.abs(X).sum(axis=1, keepdims=True)
    X = X.argmax(axis=1) if score is nce_score else X
    renamed = np.array([{"ant": 7, "bee": 3, "cat": 5, "dog": 1}[label] for label in y])
    assert score(X, renamed) == pytest.approx(score(X, y), rel=1e-9)


@pytest.mark.parametrize("score", [h_score, log_me_score, trans_rate_score])
@pytest.mark.parametrize("d", [12, 200])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(score, d, seed):
    X, y = informative(60, d, 4, seed)
    order = np.random.default_rng(seed).permutation(60)
    assert score(X[order], y[order]) == pytest.approx(score(X, y), rel=1e-9)


@pytest.mark.parametrize("score", [knn_score, probe_score])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter_where_folds_go_along(score, seed):
    X, y = informative(60, 12, 4, seed)
    order = np.random.default_rng(seed).permutation(60)
    place = np.argsort(order)
    folds = list(KFold(3).split(X))
    moved = [(place[train], place[test]) for train, test in folds]
    assert score(X[order], y[order], cv=moved) == pytest.approx(score(X, y, cv=folds))


@pytest.mark.parametrize("score", ROTATABLE)
@pytest.mark.parametrize("d", [12, 120])
@pytest.mark.parametrize("seed", range(3))
def test_rotations_do_not_matter(score, d, seed):
    X, y = informative(60, d, 4, seed)
    assert score(X @ ortho_group.rvs(d, random_state=seed), y) == pytest.approx(score(X, y), rel=1e-8)


@pytest.mark.parametrize("score", SCALABLE)
@pytest.mark.parametrize("d", [12, 200])
@pytest.mark.parametrize("scale", [1e-6, 0.01, 100, 1e6])
def test_a_common_scale_does_not_matter(score, d, scale):
    X, y = informative(60, d, 4)
    assert score(X * scale, y) == pytest.approx(score(X, y), rel=1e-6)


def test_log_me_does_not_see_a_common_shift_or_repeated_samples_of_features():
    X, y = informative(60, 12, 4)
    assert log_me_score(X + 5, y) == pytest.approx(log_me_score(X, y))
    repeated = np.hstack([X, X]) / np.sqrt(2)  # a rotation of X beside zeros
    assert log_me_score(repeated, y) == pytest.approx(log_me_score(X, y))


def test_a_large_constant_column_hides_nothing():
    X, y = informative(60, 12, 4)
    beside = np.hstack([1e-6 * X, np.full((60, 1), 1e9 / 7)])
    assert log_me_score(beside, y) == pytest.approx(log_me_score(X, y))


def awkward(kind: str) -> tuple[np.ndarray, np.ndarray]:
    X, y = informative(40, 20, 4)
    if kind == "wide":
        X, y = informative(40, 900, 4)
    elif kind == "dead columns":
        X[:, ::2] = 3.0
    elif kind == "all columns dead":
        X[:] = 3.0
    elif kind == "rank 2":
        X = X[:, :2] @ np.random.default_rng(0).standard_normal((2, 50))
    elif kind == "a class of one sample":
        y[y == "dog"] = "cat"
        y[0] = "dog"
    elif kind == "two classes, one of one sample":
        y[:] = "cat"
        y[0] = "dog"
    elif kind == "told by the features":
        X = np.eye(4)[np.unique(y, return_inverse=True)[1]]
    elif kind == "tiny":
        X = X * 1e-30
    elif kind == "float32":
        X = X.astype(np.float32)
    return X, y


@pytest.mark.filterwarnings("ignore:The least populated class", "ignore:Label not")
@pytest.mark.parametrize("score", OF_LABELS)
@pytest.mark.parametrize(
    "kind",
    [
        "wide",
        "dead columns",
        "all columns dead",
        "rank 2",
        "a class of one sample",
        "two classes, one of one sample",
        "told by the features",
        "tiny",
        "float32",
    ],
)
def test_scores_are_finite_on_awkward_features(score, kind):
    X, y = awkward(kind)
    assert math.isfinite(score(X, y))


def test_features_that_are_dead_score_no_more_than_noise():
    X, y = awkward("all columns dead")
    noise = np.random.default_rng(0).standard_normal(X.shape)
    assert h_score(X, y) == trans_rate_score(X, y) == 0.0
    assert log_me_score(X, y) == pytest.approx(log_me_score(noise, y), abs=0.02)


def test_features_that_tell_the_label_score_highest():
    told, y = awkward("told by the features")
    noisy = told + 0.1 * np.random.default_rng(0).standard_normal(told.shape)
    assert log_me_score(told, y) > log_me_score(noisy, y)
    assert probe_score(told, y) == knn_score(told, y) == 1.0


@pytest.mark.filterwarnings("ignore:The least populated class", "ignore:The number of unique classes")
def test_whole_numbers_are_labels_unless_the_task_says_otherwise():
    X, _ = informative(100, 3, 2)
    years = np.rint(5 * X @ [1.0, 2.0, -1.0]).astype(int)
    assert probe_score(X, years, task="regression", cv=KFold(5)) > 0.9
    assert probe_score(X, years, cv=KFold(5)) < 0.5


@pytest.mark.parametrize("score", OF_LABELS)
def test_one_class_is_refused(score):
    with pytest.raises(ValueError, match="y must hold at least two values, got 'ant' alone"):
        score(np.ones((4, 2)), ["ant"] * 4)


@pytest.mark.parametrize("score", [h_score, trans_rate_score, leep_score])
def test_numbers_are_refused_where_only_labels_mean_something(score):
    with pytest.raises(ValueError, match=r"y must hold labels, got numbers such as 0\.5.*log_me_score"):
        score([[1.0, 0.0], [0.0, 1.0]], [0.5, 1.5])


def test_labels_are_refused_where_numbers_are_asked_for():
    with pytest.raises(ValueError, match="task='regression' needs numbers in y, got .* such as 'ant'"):
        log_me_score(np.eye(3), ["ant", "bee", "ant"], task="regression")


@pytest.mark.parametrize("score", [h_score, trans_rate_score, leep_score])
def test_several_columns_are_refused_where_one_is_meant(score):
    with pytest.raises(ValueError, match=r"y must be one column of labels here, got shape \(2, 2\)"):
        score(np.eye(2), np.eye(2, dtype=int))


def test_several_columns_of_labels_are_refused():
    with pytest.raises(ValueError, match=r"y must be one column of labels here, got shape \(3, 2\)"):
        probe_score(np.eye(3), [[0, 1], [1, 2], [2, 0]])


@pytest.mark.parametrize("proba", [[[0.5, 0.6], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]], [[2.0, 1.0], [0.0, 3.0]]])
def test_what_is_not_a_probability_is_refused(proba):
    with pytest.raises(ValueError, match="source_proba must hold probabilities.*Apply a softmax"):
        leep_score(proba, ["ant", "bee"])


def test_features_with_holes_and_arrays_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="Input features contains NaN"):
        log_me_score([[np.nan], [1.0]], ["ant", "bee"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        log_me_score([[2.0], [1.0]], ["ant", "bee", "bee"])


def test_fewer_samples_per_class_than_folds_are_refused():
    with pytest.raises(ValueError, match="n_splits=5 cannot be greater than the number of members in each class"):
        probe_score(np.eye(8), ["ant", "bee"] * 4)
