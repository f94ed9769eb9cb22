"""What a task means: losses, probes and answers, against scikit-learn's own."""

import numpy as np
import pytest
import torch
from scaling import ClippedScaler
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer._estimators.probe import LogisticProbe, RidgeProbe
from skltransfer.engine import ClassificationTask, RegressionTask
from skltransfer.engine.tasks.probe import RIDGES, best_ridge, standardisation


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize(("n", "d"), [(90, 6), (30, 60)])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_the_probe_is_standardised_logistic_regression(rng, n_classes, n, d, C):
    X = rng.standard_normal((n, d)) * rng.uniform(0.1, 10, d) + 3
    y = np.arange(n) % n_classes
    X[:, 0] += y
    weights = np.ones(n)
    task = ClassificationTask(np.arange(n_classes))
    probe = task.solve_probe(X, y, weights, standardisation(X, weights), C)
    outputs = (X - probe.mean) / probe.scale @ probe.weight.T + probe.bias
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000)).fit(X, y)
    np.testing.assert_allclose(task.probabilities(outputs), theirs.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize(("n", "d"), [(90, 6), (30, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_probe_is_standardised_ridge(rng, n, d, weighted):
    X, y = rng.standard_normal((n, d)) * 3 + 1, rng.standard_normal(n) * 5 + 100
    weights = rng.integers(1, 4, n).astype(float) if weighted else np.ones(n)
    task = RegressionTask.fitted(y, weights)
    probe = task.solve_probe(X, task.encode(y), weights, standardisation(X, weights), 0.7)
    ours = task.decode((X - probe.mean) / probe.scale @ probe.weight.T + probe.bias)
    model = make_pipeline(StandardScaler(), Ridge(alpha=0.7))
    theirs = model.fit(X, y, standardscaler__sample_weight=weights, ridge__sample_weight=weights).predict(X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_binary_and_multiclass_loss_are_cross_entropy(rng):
    for k in (2, 4):
        task = ClassificationTask(np.arange(k), smoothing=0.1)
        outputs = torch.tensor(rng.standard_normal((6, task.n_outputs)))
        targets = torch.arange(6) % k
        logits = torch.cat([torch.zeros(6, 1), outputs], 1) if k == 2 else outputs
        expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
        torch.testing.assert_close(task.loss(outputs, targets), expected)


def test_probabilities_sum_to_one_and_survive_extremes():
    for outputs in (np.array([[1000.0], [-1000.0], [0.0]]), np.array([[1e3, -1e3, 0], [1.0, 1, 1]])):
        p = ClassificationTask(np.arange(outputs.shape[1])).probabilities(outputs)
        np.testing.assert_allclose(p.sum(1), 1)
        assert p.dtype == np.float64
        assert np.isfinite(p).all()


def test_a_constant_feature_and_a_constant_target_do_no_harm():
    X, weights = np.ones((5, 2)), np.ones(5)
    X[:, 1] = np.arange(5)
    mean, scale = standardisation(X, weights)
    assert scale[0] == 1
    task = RegressionTask.fitted(np.full(5, 7.0), weights)
    np.testing.assert_allclose(task.decode(np.zeros((1, 1))), 7)


def test_a_nearly_constant_feature_is_not_blown_up_where_features_will_move(rng):
    X = rng.standard_normal((50, 3)) * [1, 1, 1e-4]
    assert standardisation(X, np.ones(50))[1][2] < 2e-4
    assert standardisation(X, np.ones(50), floor=0.1)[1][2] > 0.05


@pytest.mark.parametrize(("n", "d"), [(90, 6), (30, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_ridge_is_the_one_that_generalized_cross_validation_prefers(rng, n, d, weighted):
    X = rng.standard_normal((n, d))
    y = X[:, :3].sum(1) + 2 * rng.standard_normal(n)
    weights = rng.integers(1, 4, n).astype(float) if weighted else np.ones(n)
    X, y = np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int))
    errors = {}
    for alpha in d * RIDGES:
        design = np.column_stack([np.ones(len(X)), X])
        penalty = alpha * np.eye(d + 1)
        penalty[0, 0] = 0.0
        hat = design @ np.linalg.solve(design.T @ design + penalty, design.T)
        errors[alpha] = ((y - hat @ y) ** 2).sum() / (len(X) - np.trace(hat)) ** 2
    expected = min(errors, key=errors.get)
    distinct, counts = np.unique(np.column_stack([X, y]), axis=0, return_counts=True)
    assert best_ridge(X, y[:, None], np.ones(len(X))) == pytest.approx(expected)
    assert best_ridge(distinct[:, :-1], distinct[:, -1:], counts.astype(float)) == pytest.approx(expected)


def test_noise_asks_for_a_stronger_ridge_and_few_or_constant_rows_for_the_strongest(rng):
    X = rng.standard_normal((80, 40))
    signal, weights = X[:, :1] + X[:, 1:2], np.ones(80)
    ridges = [best_ridge(X, signal + noise * rng.standard_normal((80, 1)), weights) for noise in (0.01, 1, 10)]
    assert ridges == sorted(ridges)
    assert ridges[0] < ridges[-1]
    strongest = pytest.approx(40 * RIDGES[-1])
    assert best_ridge(X, np.ones((80, 1)), weights) == strongest
    assert best_ridge(np.ones((80, 40)), signal, weights) == strongest
    assert best_ridge(X[:1], signal[:1], weights[:1]) == strongest


def test_a_feature_that_is_nearly_constant_among_the_training_rows_does_not_swamp_the_others(rng):
    """Rectified units that are dead in training and awake in one test row: R² was in the thousands, and negative."""
    X = rng.standard_normal((200, 20))
    y = X[:, 0] + 0.1 * rng.standard_normal(200)
    X[:, -1] = 1e-4 * np.abs(rng.standard_normal(200))
    probe = RidgeProbe().fit(X[:150], y[:150])
    X[150:, -1] = 1.0
    assert probe.score(X[150:], y[150:]) > 0.8


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_automatic_strength_is_four_over_the_ridge_of_the_indicators(rng, n_classes):
    X, y = rng.standard_normal((60, 10)), np.arange(60) % n_classes
    X[:, 0] += y
    probe = LogisticProbe().fit(X, y)
    z = ClippedScaler().fit_transform(X)
    C = 4 / best_ridge(z, np.eye(n_classes)[y], np.ones(60))
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(z, y)
    np.testing.assert_allclose(probe.predict_proba(X), theirs.predict_proba(z), atol=1e-3)


def test_labels_of_a_matrix_may_be_floats(rng):
    X, Y = rng.standard_normal((40, 5)), rng.integers(0, 2, (40, 3))
    X[:, :3] += 2 * Y
    whole = LogisticProbe().fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(LogisticProbe().fit(X, Y.astype(float)).predict_proba(X), whole)
