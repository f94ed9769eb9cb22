"""Tests and intervals against their definitions, and against data of which the truth is known."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from skltransfer.model_selection._comparison import (
    HELPS,
    HURTS,
    SAME,
    UNKNOWN,
    Comparison,
    corrected_t,
    holm,
    mcnemar,
    overall,
)


def rows(both, first_alone, second_alone, neither=0):
    """Which rows two models have right, given how many of each kind there are."""
    first = [True] * (both + first_alone) + [False] * (second_alone + neither)
    second = [True] * both + [False] * first_alone + [True] * second_alone + [False] * neither
    return np.array(first), np.array(second)


@pytest.mark.parametrize(("better", "worse"), [(3, 0), (8, 2), (2, 8), (30, 17), (5, 5)])
def test_mcnemar_is_the_sum_of_binomial_probabilities(better, worse):
    m = better + worse
    tail = sum(math.comb(m, k) for k in range(max(better, worse), m + 1)) / 2**m
    found = mcnemar(*rows(20, better, worse, 3))
    assert found.p_value == pytest.approx(min(1, 2 * tail))
    assert (found.n_better, found.n_worse) == (better, worse)
    assert found.difference == pytest.approx((better - worse) / (23 + m))


def test_six_discordant_rows_of_one_kind_are_the_fewest_that_convince():
    assert mcnemar(*rows(50, 5, 0)).p_value > 0.05
    assert mcnemar(*rows(50, 6, 0)).p_value < 0.05


def test_models_that_are_right_on_the_same_rows_do_not_differ():
    found = mcnemar(*rows(200, 0, 0, 100))
    assert found.p_value == 1
    assert found.verdict(1.0, rope=0.01) == SAME


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.1, 0.1), (0.3, 0.3, 0.3, 0.1), (0.8, 0.1, 0.02, 0.08)])
def test_intervals_of_accuracies_hold_the_true_difference(rng, shares):
    n, truth = 120, shares[1] - shares[2]
    found = [mcnemar(*rows(*counts)) for counts in rng.multinomial(n, shares, size=600)]
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.99


def test_corrected_t_is_the_formula():
    first, second = np.array([0.9, 0.8, 0.85, 0.95]), np.array([0.7, 0.75, 0.8, 0.7])
    d = first - second
    t = d.mean() / np.sqrt(d.var(ddof=1) * (1 / 4 + 1 / 3))
    found = corrected_t(first, second, 1 / 3)
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, 3))
    reach = stats.t.ppf(0.975, 3) * d.mean() / t
    assert (found.low, found.high) == pytest.approx((d.mean() - reach, d.mean() + reach))


def test_larger_test_parts_make_the_corrected_t_more_careful(rng):
    first, second = rng.normal(1, 1, 10), rng.normal(0, 1, 10)
    assert corrected_t(first, second, 1.0).p_value > corrected_t(first, second, 0.1).p_value


def test_equal_scores_on_all_folds_are_no_difference():
    found = corrected_t(np.full(5, 0.5), np.full(5, 0.5), 0.25)
    assert (found.p_value, found.low, found.high) == (1, 0, 0)


@pytest.mark.parametrize("p_values", [(0.01, 0.02, 0.03), (0.2, 0.001, 0.04, 0.04), (0.9, 0.8), (0.03,)])
def test_holm_is_bonferroni_on_every_subset(p_values):
    m = range(len(p_values))
    subsets = [s for size in m for s in itertools.combinations(m, size + 1)]
    closed = [min(1, max(len(s) * min(p_values[i] for i in s) for s in subsets if k in s)) for k in m]
    assert holm(p_values) == pytest.approx(closed)


@pytest.mark.parametrize(
    ("difference", "low", "high", "p", "verdict"),
    [
        (0.10, 0.05, 0.15, 0.001, HELPS),
        (-0.10, -0.15, -0.05, 0.001, HURTS),
        (0.10, -0.05, 0.25, 0.2, UNKNOWN),
        (0.10, 0.01, 0.19, 0.06, UNKNOWN),  # significant before Holm's adjustment
        (0.002, -0.005, 0.009, 0.6, SAME),
        (0.007, 0.004, 0.0099, 0.001, SAME),  # significant, but too small to matter
        (0.008, 0.004, 0.02, 0.001, UNKNOWN),
    ],
)
def test_verdicts(difference, low, high, p, verdict):
    assert Comparison(difference, 0.01, low, high, p).verdict(p, rope=0.01) == verdict


def test_as_many_labels_as_are_said_to_be_needed_find_the_difference_in_four_of_five_studies(rng):
    shares = np.array([0.6, 0.16, 0.1, 0.14])
    pilot = mcnemar(*rows(*(100 * shares).astype(int)))
    n = pilot.n_needed(100, rope=0.01)
    found = [mcnemar(*rows(*counts)).p_value < 0.05 for counts in rng.multinomial(n, shares, size=600)]
    assert 0.74 <= np.mean(found) <= 0.88


def test_labels_needed_for_equality_are_told_too_and_none_where_they_are_out_of_reach():
    equal = mcnemar(*rows(80, 10, 10))
    n = equal.n_needed(100, rope=0.05)
    assert 250 < n < 400
    assert mcnemar(*rows(80 * n // 100, n // 10, n // 10)).verdict(1.0, rope=0.05) == SAME
    assert equal.n_needed(100, rope=0.0) is None


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([HELPS, HELPS], HELPS),
        ([HELPS, SAME], SAME),
        ([HELPS, UNKNOWN, SAME], UNKNOWN),
        ([HELPS, HURTS, UNKNOWN], HURTS),
    ],
)
def test_transfer_helps_if_it_beats_all_and_hurts_if_one_beats_it(verdicts, expected):
    assert overall(verdicts) == expected
