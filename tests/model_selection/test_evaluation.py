"""Folds: the same for all, none seen, and refused where they cannot be."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold, RepeatedKFold, ShuffleSplit

from skltransfer.model_selection._evaluation import checked_splits, each_row_is_tested_once, evaluated, subsampled


class Spy(ClassifierMixin, BaseEstimator):
    """Writes down the rows that it was fitted on and asked for; predicts 1."""

    seen: list = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.seen.append(("fit", sorted(x[0] for x in X)))
        return self

    def predict(self, X):
        self.seen.append(("predict", sorted(x[0] for x in X)))
        return np.ones(len(X), dtype=int)


@pytest.fixture
def spied():
    Spy.seen = []
    return Spy.seen


def test_no_row_of_a_test_part_is_seen_in_training_and_each_is_predicted_once(spied):
    X, y = [(i,) for i in range(12)], np.arange(12) % 2
    splits = checked_splits(3, X, y, classifies=True, seed=0)
    found = evaluated(lambda fold: Spy(), X, y, splits, "accuracy", lambda: None)
    for (_, trained), (_, tested) in zip(spied[::2], spied[1::2], strict=True):
        assert sorted(trained + tested) == list(range(12))
    assert (found.is_right == (y == 1)).all()
    assert found.scores == pytest.approx([0.5, 0.5, 0.5])


def test_another_score_than_accuracy_is_taken_on_each_test_part(spied):
    X, y = [(i,) for i in range(12)], np.arange(12) % 2
    splits = checked_splits(3, X, y, classifies=True, seed=0)
    found = evaluated(lambda fold: Spy(), X, y, splits, "recall", lambda: None)
    assert found.is_right is None
    assert found.scores == pytest.approx([1, 1, 1])


def test_folds_of_a_number_are_shuffled_seeded_and_stratified():
    y = np.repeat([0, 1], [40, 10])
    first, again, other = (checked_splits(5, y, y, classifies=True, seed=seed) for seed in (0, 0, 1))
    assert all((a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    assert any((a[1] != b[1]).any() for a, b in zip(first, other, strict=True))
    assert [y[test].sum() for _, test in first] == [2] * 5
    numbers = checked_splits(5, y, np.arange(50.0), classifies=False, seed=0)
    assert max(np.ptp(test) for _, test in numbers) > 10


def test_a_class_of_fewer_rows_than_folds_is_named():
    y = np.array(["ant"] * 9 + ["bee"] * 3)
    with pytest.raises(ValueError, match=r"class bee has 3 rows in y, fewer than the cv=5 folds"):
        checked_splits(5, y, y, classifies=True, seed=0)


def test_one_fold_alone_is_refused():
    with pytest.raises(ValueError, match="cv must give at least 2 folds"):
        checked_splits(ShuffleSplit(1, random_state=0), np.zeros(9), np.zeros(9), classifies=False, seed=0)


@pytest.mark.parametrize(
    ("cv", "expected"),
    [(KFold(3), True), (RepeatedKFold(n_splits=3, n_repeats=2), False), (ShuffleSplit(3, test_size=0.2), False)],
)
def test_predictions_are_pooled_only_where_each_row_has_one(cv, expected):
    assert (
        each_row_is_tested_once(checked_splits(cv, np.zeros(12), np.zeros(12), classifies=False, seed=0), 12)
        is expected
    )


def test_smaller_training_parts_lie_inside_of_larger_ones_and_keep_the_classes_shares():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    splits = checked_splits(5, y, y, classifies=True, seed=0)
    small, large = (subsampled(splits, y, size, classifies=True, seed=0) for size in (8, 40))
    for (few, test), (many, same), (train, _) in zip(small, large, splits, strict=True):
        assert len(few) == 8
        assert set(few) < set(many) < set(train)
        assert (test == same).all()
        assert np.bincount(y[many]).tolist() == [24, 12, 4]
        assert set(y[few]) == {0, 1, 2}


@pytest.mark.parametrize("size", [2, 81])
def test_a_target_size_that_does_not_fit_is_refused(size):
    y = np.repeat([0, 1, 2], [60, 30, 10])
    splits = checked_splits(5, y, y, classifies=True, seed=0)
    with pytest.raises(ValueError, match=rf"target_sizes must be whole numbers from 3 .* to 80 .*; got {size}"):
        subsampled(splits, y, size, classifies=True, seed=0)
