"""The canonical training set depends on content alone."""

import numpy as np
import pytest

from skltransfer.engine import ArrayTargets, canonical, split
from skltransfer.engine.training.training_set import folds

DIGESTS = [b"c", b"a", b"b", b"a", b"a", b""]
TARGETS = ArrayTargets(np.array([0, 1, 0, 1, 0, 1]))
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 1.0])


def test_equal_rows_merge_zero_weights_and_bad_samples_go():
    data = canonical(DIGESTS, TARGETS, WEIGHTS)
    assert list(zip(data.digests, data.targets.values, data.weights, strict=True)) == [
        (b"a", 0, 1),
        (b"a", 1, 2.5),
        (b"c", 0, 1),
    ]


def test_order_does_not_matter(rng):
    base = canonical(DIGESTS, TARGETS, WEIGHTS)
    for _ in range(5):
        p = rng.permutation(6)
        other = canonical([DIGESTS[i] for i in p], TARGETS.subset(p), WEIGHTS[p])
        assert other.digests == base.digests
        np.testing.assert_array_equal(other.weights, base.weights)


def test_nothing_left_is_an_empty_set():
    assert len(canonical([b"a"], ArrayTargets(np.array([0])), np.array([0.0]))) == 0


def test_a_split_keeps_shares_and_never_parts_equal_content():
    digests = [bytes([i // 2]) for i in range(80)]  # each content with two labels
    data = canonical(digests, ArrayTargets(np.arange(80) % 2), np.ones(80))
    ours, held = split(data, 0.2, 0, data.targets.values)
    assert not set(ours.digests) & set(held.digests)
    assert len(ours) + len(held) == 80
    single = canonical([bytes([i]) for i in range(100)], ArrayTargets(np.repeat([0, 1], [90, 10])), np.ones(100))
    ours, held = split(single, 0.2, 0, single.targets.values)
    assert np.bincount(held.targets.values).tolist() == [18, 2]


def test_folds_are_alike_in_size_and_shares_and_never_part_equal_content():
    labels = np.repeat([0, 1, 2], [50, 10, 3])
    single = canonical([bytes([i]) for i in range(63)], ArrayTargets(labels), np.ones(63))
    fold = folds(single, 3, 0, single.targets.values)
    shares = np.array([np.bincount(single.targets.values[fold == number], minlength=3) for number in range(3)])
    assert np.ptp(shares, axis=0).max() <= 1
    assert shares[:, 2].tolist() == [1, 1, 1]
    assert np.ptp(shares.sum(1)) <= 1
    twice = canonical([bytes([i // 2]) for i in range(80)], ArrayTargets(np.arange(80) % 2), np.ones(80))
    fold = folds(twice, 3, 0, twice.targets.values)
    assert all(len(set(fold[np.array(twice.digests) == digest])) == 1 for digest in set(twice.digests))


def test_folds_differ_with_the_seed_alone():
    data = canonical([bytes([i]) for i in range(30)], ArrayTargets(np.zeros(30, dtype=int)), np.ones(30))
    np.testing.assert_array_equal(folds(data, 3, 0), folds(data, 3, 0))
    assert (folds(data, 3, 0) != folds(data, 3, 1)).any()


def test_a_class_of_one_stays_in_training():
    data = canonical([bytes([i]) for i in range(11)], ArrayTargets(np.repeat([0, 1], [10, 1])), np.ones(11))
    ours, held = split(data, 0.5, 0, data.targets.values)
    assert 1 in ours.targets.values
    assert 1 not in held.targets.values


def test_one_sample_cannot_be_split():
    data = canonical([b"a"], ArrayTargets(np.array([0])), np.ones(1))
    with pytest.raises(ValueError, match="early_stopping=True needs samples to hold out"):
        split(data, 0.5, 0)
