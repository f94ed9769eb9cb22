"""Is one model better than another on the same folds? Tests, intervals and verdicts, on arrays alone.

Promises that nothing is claimed from a difference that folds or rows do not bear out: p-values are two-sided, and
adjusted over all comparisons. Must not know estimators, networks or how anything was fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05  # of each report: the chance of a claim where there is nothing
POWER = 0.8  # with which the number of labels that would be needed shall show the difference
HELPS, HURTS, SAME, UNKNOWN = "HELPS", "HURTS", "NO DIFFERENCE", "CANNOT TELL"
LEAST_DISCORDANT = 6  # rows, all one way: the fewest from which an exact McNemar test reaches p < .05
MOST_NEEDED = 1_000_000  # labels; what would take more is said to be out of reach


@dataclass(frozen=True)
class Comparison:
    """One model against another.

    Parameters
    ----------
    difference : float
        First minus second, positive where the first is better.
    error : float
        Its standard error.
    low, high : float
        Its 95 % interval.
    p_value : float
        Two-sided, of no difference.
    n_better, n_worse : int or None
        Rows that the first alone has right, and the second alone; None where rows were not compared.
    dof : float
        Degrees of freedom of the standard error.
    """

    difference: float
    error: float
    low: float
    high: float
    p_value: float
    n_better: int | None = None
    n_worse: int | None = None
    dof: float = np.inf

    def verdict(self, p_adjusted: float, rope: float) -> str:
        """Verdict on the first model, once its p-value is adjusted.

        A difference within ``rope`` either way is none, regardless of its p-value.
        """
        if -rope <= self.low and self.high <= rope:
            return SAME
        if p_adjusted < LEVEL and abs(self.difference) > rope:
            return HELPS if self.difference > 0 else HURTS
        return UNKNOWN

    def n_needed(self, n: int, rope: float) -> int | None:
        """About how many labels would decide it, if the difference is what it seems; None where it is out of reach.

        Decided is a difference beyond ``rope`` that is found in four of five such studies, or one whose interval lies
        within ``rope``. Standard errors fall with the square root of ``n``.
        """
        ahead, (critical, more) = abs(self.difference), stats.t.ppf([1 - LEVEL / 2, POWER], self.dof)
        wide, room = (critical + more, ahead) if ahead > rope else (critical, rope - ahead)
        if room == 0 or n * (wide * self.error / room) ** 2 > MOST_NEEDED:
            return None
        return max(n + 1, int(np.ceil(n * (wide * self.error / room) ** 2)))


def mcnemar(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Two models' out-of-fold predictions, row by row: exact McNemar test [1]_, Agresti and Min's interval [2]_.

    Parameters
    ----------
    first, second : ndarray of bool, shape (n,)
        Which rows each has right.

    References
    ----------
    .. [1] T. Dietterich (1998), "Approximate statistical tests for comparing supervised classification learning
       algorithms", Neural Computation 10.
    .. [2] A. Agresti, Y. Min (2005), "Simple improved confidence intervals for comparing matched proportions",
       Statistics in Medicine 24.

    Examples
    --------
    >>> first, second = [True] * 8 + [False], [True] * 3 + [False] * 6
    >>> found = mcnemar(np.array(first), np.array(second))
    >>> found.n_better, found.n_worse, round(found.p_value, 3)
    (5, 0, 0.062)
    """
    n, better, worse = len(first), int(np.sum(first & ~second)), int(np.sum(second & ~first))
    p_value = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    centre = (better - worse) / (n + 2)  # half a row more in each of the four cells
    error = np.sqrt((better + worse + 1) / (n + 2) - centre**2) / np.sqrt(n + 2)
    reach = stats.norm.ppf(1 - LEVEL / 2) * error
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return Comparison((better - worse) / n, float(error), float(low), float(high), float(p_value), better, worse)


def corrected_error(values: np.ndarray, test_over_train: float) -> float:
    """Standard error of a mean over folds whose training parts overlap (Nadeau and Bengio 2003)."""
    return float(np.std(values, ddof=1) * np.sqrt(1 / len(values) + test_over_train))


def corrected_t(first: np.ndarray, second: np.ndarray, test_over_train: float) -> Comparison:
    """Two models' scores, fold by fold: Nadeau and Bengio's t-test, for folds that share training rows [1]_.

    Parameters
    ----------
    first, second : ndarray of float, shape (k,)
        Scores, higher is better.
    test_over_train : float
        Rows in a test part, relative to those in a training part.

    References
    ----------
    .. [1] C. Nadeau, Y. Bengio (2003), "Inference for the generalization error", Machine Learning 52.

    Examples
    --------
    >>> found = corrected_t(np.array([0.8, 0.9, 0.7]), np.array([0.5, 0.7, 0.5]), test_over_train=0.5)
    >>> round(found.difference, 3), round(found.p_value, 3)
    (0.233, 0.047)
    """
    differences = np.asarray(first, dtype=float) - second
    k, mean = len(differences), float(differences.mean())
    error = corrected_error(differences, test_over_train)
    if np.isclose(error, 0, atol=1e-12):
        return Comparison(mean, 0.0, mean, mean, float(np.isclose(mean, 0)))
    reach = float(stats.t.ppf(1 - LEVEL / 2, k - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, k - 1))
    return Comparison(mean, error, mean - reach, mean + reach, p_value, dof=k - 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values of several comparisons, adjusted so that a false claim among all of them is as rare as in one [1]_.

    References
    ----------
    .. [1] S. Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
       Statistics 6.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def overall(verdicts: Sequence[str]) -> str:
    """One verdict out of those against each baseline.

    Transfer helps if it beats every baseline, and hurts if one beats it.
    """
    if HURTS in verdicts:
        return HURTS
    if all(verdict == HELPS for verdict in verdicts):
        return HELPS
    return UNKNOWN if UNKNOWN in verdicts else SAME
