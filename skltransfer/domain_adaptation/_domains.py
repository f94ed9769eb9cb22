"""Source and target rows: how they are marked, how far apart they are, and when adapting looks unsafe.

Promises that y is read and never written, and that labels of target rows are never looked at. Must not know how a model
is adapted; it receives predictions.
"""

from numbers import Number
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import assert_all_finite, check_consistent_length
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skltransfer._estimators.target_checks import cells_of, missing, refuse_lists

FOLDS = 3
LEAST_SHIFT = 0.1  # of the class mix, below which nothing is said
UNEXPLAINED = 0.55  # share of the expected errors that may all go one way before the mix is what moved
RARE = 0.01  # probability of such a difference by chance

NO_TARGET = (
    "No row is a target row, so that the fit is to the source alone. Add target rows, masked in y (-1 among whole "
    "numbers, NaN among other numbers, None among objects) or with a negative sample_domain; beside a single other "
    "label, -1 is a label."
)
LABEL_SHIFT = (
    "Before alignment, classes are predicted in other shares for target rows than for source rows (they differ by "
    "{:.0%} of the rows; see domain_report_). Where their true shares differ, aligning domains does harm more often "
    "than good. {}"
)


def source_rows(y: Any, sample_domain: Any = None, classes: np.ndarray | None = None) -> np.ndarray:
    """Mark the source rows, (n,) of bool.

    Parameters
    ----------
    y : array-like of shape (n,)
        Target rows are masked: -1 among whole numbers, NaN among other numbers, None among objects. -1 is a label
        where only one other is there (of -1 and +1), or where ``classes`` has it.
    sample_domain : array-like of shape (n,), optional
        Source rows are at least 0; wins over the mask.
    classes : ndarray, optional
        Labels that are known from ``fit``.
    """
    y = _column(y)
    if sample_domain is None:
        return ~_masked(y, classes)
    domains = column_or_1d(sample_domain)
    check_consistent_length(y, domains)
    if domains.dtype.kind not in "iu":
        raise ValueError(
            "sample_domain must be whole numbers, at least 0 for source rows and negative for target rows; got "
            f"{sample_domain!r}."
        )
    return domains >= 0


def _column(y: Any, *, warn: bool = False) -> np.ndarray:
    """y as a column, in which None and NaN among strings of a list stay what they are."""
    cells = cells_of(y)
    refuse_lists(cells)
    if isinstance(y, list | tuple):
        are_strings = any(isinstance(cell, str) for cell in cells.reshape(-1))
        y = cells if are_strings and missing(cells.reshape(-1)).any() else np.asarray(y)
    return column_or_1d(y, warn=warn)


def _masked(y: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    if y.dtype.kind == "f":
        return np.isnan(y)
    if y.dtype.kind == "O":
        return np.array([value is None or is_scalar_nan(value) or is_pandas_na(value) for value in y], dtype=bool)
    if y.dtype.kind != "i":
        return np.zeros(len(y), dtype=bool)
    is_label = len(np.unique(y[y != -1])) < 2 if classes is None else -1 in classes
    return (y == -1) & (not is_label)


def source_labels(y: Any, is_source: np.ndarray) -> np.ndarray:
    """Labels of the source rows, of at least two classes."""
    labels = chosen_labels(_column(y, warn=True), is_source)
    if not len(labels):
        raise ValueError(
            f"fit needs source rows, which have labels; got {len(is_source)} rows, all of them target rows. Mask in y "
            "(or give a negative sample_domain to) the rows whose labels are unknown, and no others."
        )
    unlabelled = np.flatnonzero(_masked(labels, np.array([-1])))
    if len(unlabelled):
        raise ValueError(
            f"y[{np.flatnonzero(is_source)[unlabelled[0]]}] is {labels[unlabelled[0]]!r}, but sample_domain says that "
            "this is a source row, which needs a label. Give the row a label or a negative sample_domain."
        )
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"fit needs source rows of at least 2 classes; got one class: {labels[0]!r}.")
    return labels


def chosen_labels(y: Any, chosen: np.ndarray) -> np.ndarray:
    """Some labels; numbers that stood beside None are numbers again."""
    labels = _column(y)[chosen]
    is_numeric = labels.dtype.kind == "O" and all(isinstance(label, Number) for label in labels)
    return np.array(labels.tolist()) if is_numeric and len(labels) else labels


def folds(labels: np.ndarray) -> StratifiedKFold | None:
    """Splitter with as many folds as the smallest class allows; None if it has a single row."""
    n_folds = min(FOLDS, np.unique(labels, return_counts=True)[1].min())
    return StratifiedKFold(n_folds, shuffle=True, random_state=0) if n_folds > 1 else None


def held_out_predictions(estimator: BaseEstimator, X: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Predictions for each row by a model that has not seen it; None where a class has a single row."""
    cv = folds(y)
    return None if cv is None else cross_val_predict(clone(estimator), X, y, cv=cv)


def target_probability(X: np.ndarray, is_source: np.ndarray) -> np.ndarray:
    """Probability of each row to be a target row, by linear classifiers that have not seen it; domains count alike."""
    cv = folds(is_source)
    if is_source.all() or cv is None:
        raise ValueError(
            f"Comparing domains needs at least 2 rows of each; got {is_source.sum()} source rows and "
            f"{(~is_source).sum()} target rows."
        )
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    return cross_val_predict(linear, X, ~is_source, cv=cv, method="predict_proba")[:, 1]


def proxy_a_distance(X: np.ndarray, is_source: np.ndarray) -> float:
    """2 (1 - 2 err) of a linear domain classifier: 0 for domains that it cannot separate, 2 if it never errs."""
    if min(is_source.sum(), (~is_source).sum()) < 2:
        return np.nan
    told_apart = balanced_accuracy_score(~is_source, target_probability(X, is_source) > 0.5)
    return float(max(0.0, 2 * (2 * told_apart - 1)))


def class_mix(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Share of each class, (n_classes,)."""
    return (labels[:, None] == classes).mean(axis=0)


def mix_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Share of rows that would have to change their label, in [0, 1]."""
    return float(np.abs(first - second).sum() / 2)


def expected_error(model: Any, target: np.ndarray, source_score: float) -> float:
    """Share of ``model``'s predictions for target rows that is thought to be wrong.

    The larger of its error on source rows that it had not seen and of what its probabilities leave open.
    """
    unsure = 1 - model.predict_proba(target).max(axis=1).mean() if hasattr(model, "predict_proba") else np.nan
    return float(np.fmax(1 - source_score, unsure))


def is_label_shift(source: np.ndarray, target: np.ndarray, classes: np.ndarray, expected_error: float) -> bool:
    """True if the classes' shares among predictions differ by more than errors and chance explain.

    Parameters
    ----------
    source, target : ndarray of labels
        Predictions; those of source rows by models that had not seen them.
    expected_error : float
        Share of target predictions that are thought to be wrong; where it is NaN, nothing is a shift.
    """
    distance = mix_distance(class_mix(source, classes), class_mix(target, classes))
    if not distance > np.maximum(LEAST_SHIFT, UNEXPLAINED * expected_error):
        return False
    counts = np.array([(labels[:, None] == classes).sum(axis=0) for labels in (source, target)])
    return bool(chi2_contingency(counts[:, counts.any(axis=0)]).pvalue < RARE)
