"""Labels: what is answered, and how sure."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from skltransfer.engine import ClassificationTask


def test_a_few_samples_that_are_all_right_do_not_make_predictions_certain(rng):
    """Calibrated on n correct samples, the mean probability of the labels is about 1 - 1 / (n + 2)."""
    for classes, n in ((2, 9), (3, 9), (3, 90)):
        task, targets = ClassificationTask(np.arange(classes)), rng.integers(0, classes, n)
        outputs = 4 * np.eye(classes)[targets] if classes > 2 else (8.0 * targets - 4)[:, None]
        calibrated = task.calibrated(outputs, targets, np.ones(n))
        own = calibrated.probabilities(outputs)[np.arange(n), targets]
        assert own.mean() == pytest.approx(1 - 1 / (n + 2), abs=1e-3)


def test_with_many_samples_calibration_is_that_of_maximum_likelihood(rng):
    targets = rng.integers(0, 3, 5000)
    logits = 2 * np.eye(3)[targets] + rng.standard_normal((5000, 3))
    likely = min(np.geomspace(0.2, 5, 400), key=lambda t: log_loss(targets, softmax(3 * logits / t, axis=1)))
    task = ClassificationTask(np.arange(3)).calibrated(3 * logits, targets, np.ones(5000))
    assert task.temperature == pytest.approx(likely, rel=0.02)
