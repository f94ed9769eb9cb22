"""Labels with an order: the proportional odds model, against its definition."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from skltransfer.engine import ClassificationTask, NetworkSpec, OrdinalTask, solved_probe
from skltransfer.engine.tasks.probe import standardisation


@pytest.fixture
def graded(rng):
    """Features of 120 samples, and their grades: unequal steps of a noisy direction."""
    z = rng.standard_normal((120, 4))
    return z, np.digitize(z[:, 0] - z[:, 1] + rng.logistic(size=120), [-2, -1, 1])


def outputs_of(probe, features):
    return np.column_stack([probe.outputs(features), np.tile(probe.constants, (len(features), 1))])


def by_definition(scores, thresholds):
    """Probabilities as differences of cumulative ones."""
    below = expit(np.asarray(thresholds) - scores[:, None])
    return np.diff(below, prepend=0.0, append=1.0, axis=1)


def test_the_probe_is_the_least_penalized_loss_of_the_proportional_odds_model(graded):
    z, y = graded
    probe = solved_probe(OrdinalTask(np.arange(4), np.arange(4)), z, y, 0.5)

    def loss(x):
        p = by_definition((z - probe.mean) / probe.scale @ x[:4], x[4:])[np.arange(120), y]
        return 0.5 * x[:4] @ x[:4] - 0.5 * np.log(np.maximum(p, 1e-300)).sum()

    best = minimize(loss, np.r_[np.zeros(4), -1.0, 0.0, 1.0], method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(probe.weight[0], best.x[:4], atol=1e-4)
    ours = OrdinalTask(np.arange(4), np.arange(4)).probabilities(outputs_of(probe, z))
    expected = by_definition((z - probe.mean) / probe.scale @ best.x[:4], best.x[4:])
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert probe.loss == pytest.approx(-np.log(expected[np.arange(120), y]).mean(), abs=1e-5)


def test_probabilities_never_cross_and_sum_to_one(rng):
    outputs = 2 * rng.standard_normal((500, 5))
    task = OrdinalTask(np.arange(6), np.arange(6))
    p = task.probabilities(outputs)
    assert p.shape == (500, 6)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.log(p), task.log_probabilities(outputs), rtol=1e-12)


def test_outputs_of_zero_make_all_classes_equally_likely():
    p = OrdinalTask(np.arange(5), np.arange(5)).probabilities(np.zeros((1, 4)))
    np.testing.assert_allclose(p, np.full((1, 5), 0.2), rtol=1e-12)


def test_the_median_has_the_least_expected_absolute_error_whatever_the_labels_are_apart(rng):
    outputs = 3 * rng.standard_normal((300, 4))
    labels = np.array([1, 2, 4, 5, 50])
    task = OrdinalTask(labels, np.arange(5))
    p = task.probabilities(outputs)
    expected = p @ np.abs(labels[:, None] - labels)  # of answering each label
    np.testing.assert_array_equal(task.decode(outputs), labels[expected.argmin(1)])
    np.testing.assert_array_equal(task.decode(outputs), labels[task.decision(outputs).argmax(1)])


def test_answers_come_in_the_order_of_the_classes_whatever_their_ranks(graded):
    z, y = graded
    names = np.array(["poor", "fair", "good", "superb"])
    classes = np.sort(names)
    named = OrdinalTask(classes, np.argsort(np.searchsorted(classes, names)))
    plain = OrdinalTask(np.arange(4), np.arange(4))
    theirs = solved_probe(named, z, named.encode(names[y]), 1.0)
    outputs = outputs_of(solved_probe(plain, z, y, 1.0), z)
    np.testing.assert_allclose(outputs_of(theirs, z), outputs, atol=1e-6)
    assert named.decode(outputs).tolist() == names[plain.decode(outputs)].tolist()
    np.testing.assert_array_equal(
        named.probabilities(outputs)[:, np.searchsorted(classes, names)], plain.probabilities(outputs)
    )
    exported = {name: value.numpy() for name, value in named.exported(torch.tensor(outputs)).items()}
    np.testing.assert_allclose(exported["probabilities"], named.probabilities(outputs), atol=1e-12)
    assert classes[exported["label"]].tolist() == named.decode(outputs).tolist()


def test_the_loss_is_the_cross_entropy_also_with_smoothing(rng):
    outputs, y = rng.standard_normal((40, 3)), rng.integers(0, 4, 40)
    for smoothing in (0.0, 0.2):
        task = OrdinalTask(np.arange(4), np.array([2, 0, 3, 1]), smoothing)
        log_p = task.log_probabilities(outputs)
        expected = -(1 - smoothing) * log_p[np.arange(40), y] - smoothing * log_p.mean(1)
        np.testing.assert_allclose(task.loss(torch.tensor(outputs), torch.tensor(y)), expected, rtol=1e-12)


def test_a_temperature_changes_no_label_and_keeps_probabilities_proper(graded):
    z, y = graded
    task = OrdinalTask(np.arange(4), np.arange(4))
    outputs = outputs_of(solved_probe(task, z, y, 1e4), z)
    cool = task.calibrated(outputs, 3 - y, np.ones(120))  # on labels that say the contrary
    assert cool.temperature > 2
    np.testing.assert_array_equal(cool.decode(outputs), task.decode(outputs))
    np.testing.assert_allclose(cool.probabilities(outputs).sum(1), 1, rtol=1e-12)


def test_windows_answer_with_their_mean_probabilities(rng):
    outputs = np.column_stack([5 * rng.standard_normal(7), np.tile(rng.standard_normal(3), (7, 1))])
    task = OrdinalTask(np.arange(5), np.arange(5))
    np.testing.assert_allclose(
        task.probabilities(task.of_windows(outputs)[None])[0], task.probabilities(outputs).mean(0), rtol=1e-9
    )


def test_the_automatic_penalty_is_that_of_labels_for_two_classes_of_equal_size(rng):
    """A third class of nearly no weight is as good as none."""
    z = rng.standard_normal((200, 3))
    y = (z[:, 0] + rng.standard_normal(200) > np.median(z[:, 0])).astype(int)
    y[np.flatnonzero(y == 1)[: max(0, (y == 1).sum() - 100)]] = 0
    y[np.flatnonzero(y == 0)[: max(0, (y == 0).sum() - 100)]] = 1
    weights = np.ones(200)
    scaling = standardisation(z, weights, 1.0)
    two = ClassificationTask(np.arange(2)).solve_probe(z, y, weights, scaling, "auto")
    y, weights = np.r_[y, 2], np.r_[weights, 1e-9]
    three = OrdinalTask(np.arange(3), np.arange(3)).solve_probe(np.vstack([z, 0 * z[:1]]), y, weights, scaling, "auto")
    np.testing.assert_allclose(three.weight, two.weight, rtol=1e-3)


def test_samples_of_a_rare_class_and_of_none_leave_a_proper_model(graded):
    z, y = graded
    task = OrdinalTask(np.arange(6), np.arange(6))  # the first and the last have no sample
    probe = solved_probe(task, z, np.where(y == 3, 4, y + 1), "auto")
    p = task.probabilities(outputs_of(probe, z))
    assert np.isfinite(probe.weight).all()
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    assert p[:, [0, 5]].max() < 1e-2
    assert p[:, [1, 2, 3, 4]].mean(0) == pytest.approx(np.bincount(y) / 120, abs=0.03)


def test_separated_classes_have_finite_weights(rng):
    z = np.sort(rng.standard_normal((60, 1)), axis=0)
    probe = solved_probe(OrdinalTask(np.arange(3), np.arange(3)), z, np.repeat([0, 1, 2], 20), 100.0)
    assert np.isfinite(probe.weight).all()
    task = OrdinalTask(np.arange(3), np.arange(3))
    assert (task.decode(outputs_of(probe, z)) == np.repeat([0, 1, 2], 20)).mean() > 0.95


@pytest.mark.parametrize(
    ("change", "spec"),
    [
        ({"ranks": np.array([0, 0, 1])}, NetworkSpec(2, "mean", n_constants=1)),
        ({}, NetworkSpec(2, "mean", n_constants=2)),
        ({}, NetworkSpec(2, "mean", n_outputs=3, n_constants=1)),
        ({"more": 1}, NetworkSpec(2, "mean", n_constants=1)),
        ({"classes": np.arange(2), "ranks": np.arange(2)}, NetworkSpec(2, "mean")),
    ],
)
def test_a_file_whose_order_and_outputs_do_not_go_together_is_refused(change, spec):
    task = OrdinalTask(np.arange(3), np.arange(3))
    task.refuse_unless_it_reads(NetworkSpec(2, "mean", n_constants=1))
    vars(task).update(change)
    with pytest.raises(ValueError, match="ranks"):
        task.refuse_unless_it_reads(spec)
