"""Fits on folds: each model on the same training parts, judged on the same test parts.

Promises that no model sees a row of its test part, and that all see the same ones. Must not know what is compared
with what, nor why.
"""

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples

from skltransfer._estimators.nested import network_of
from skltransfer.model_selection._composed import is_network

Split = tuple[np.ndarray, np.ndarray]


class Evaluated(NamedTuple):
    """One model on all folds.

    Attributes
    ----------
    scores : ndarray of float, shape (k,)
        Scores of the folds.
    is_right : ndarray of bool, shape (n,), or None
        True for rows that were predicted correctly by the model that did not see them; None for other scores than
        accuracy.
    seconds : float
        Time of all fits, in seconds.
    histories : list of dict
        Training history of each fold; empty if there is none.
    boundaries : list of str
        Name of the last frozen stage in each fold; empty if there are no stages.
    """

    scores: np.ndarray
    is_right: np.ndarray | None
    seconds: float
    histories: list[dict[str, list[float]]]
    boundaries: list[str]


def checked_splits(
    cv: Any, X: Any, y: np.ndarray, *, classifies: bool, seed: int, groups: np.ndarray | None = None
) -> list[Split]:
    """Training and test rows of each fold; folds made of a number are shuffled, and stratified for labels.

    Raises
    ------
    ValueError
        If a class has fewer rows, or there are fewer groups, than there are folds; or there is one fold alone.
    """
    if isinstance(cv, int | np.integer):
        cv = _splitter(int(cv), y, classifies and type_of_target(y) in ("binary", "multiclass"), seed, groups)
    labels = y if y.ndim == 1 or groups is None else np.zeros(len(y), dtype=int)
    splits = [(np.asarray(train), np.asarray(test)) for train, test in check_cv(cv, y).split(X, labels, groups)]
    if len(splits) < 2:
        raise ValueError(f"cv must give at least 2 folds, to tell chance from effect; {cv!r} gives {len(splits)}.")
    return splits


def _splitter(n_folds: int, y: np.ndarray, stratifies: bool, seed: int, groups: np.ndarray | None) -> Any:
    if stratifies:
        _refuse_rare_classes(y, n_folds)
    if groups is None:
        kind = StratifiedKFold if stratifies else KFold
        return kind(n_folds, shuffle=True, random_state=seed)
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise ValueError(f"groups has {n_groups} different groups, fewer than the cv={n_folds} folds. Lower cv.")
    kind = StratifiedGroupKFold if stratifies else GroupKFold
    return kind(n_folds, shuffle=True, random_state=seed)


def _refuse_rare_classes(y: np.ndarray, n_folds: int) -> None:
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < n_folds:
        rarest = classes[counts.argmin()]
        raise ValueError(
            f"class {rarest!s} has {counts.min()} rows in y, fewer than the cv={n_folds} folds that each shall test "
            "it. Lower cv, collect more rows of it, or leave it out."
        )


def each_row_is_tested_once(splits: Sequence[Split], n: int) -> bool:
    """True if the test parts are disjoint and cover all rows, so that predictions can be pooled."""
    tested = np.concatenate([test for _, test in splits])
    return len(tested) == n and len(np.unique(tested)) == n


def subsampled(splits: Sequence[Split], y: np.ndarray, size: int, *, classifies: bool, seed: int) -> list[Split]:
    """Splits of which the training parts are cut to ``size`` rows, smaller cuts lying inside of larger ones.

    Classes keep their shares, and each has at least one row.

    Raises
    ------
    ValueError
        If a training part has fewer rows, or ``size`` is smaller than the number of classes.
    """
    smallest = min(len(train) for train, _ in splits)
    n_classes = len(np.unique(y)) if classifies and y.ndim == 1 else 1
    if not max(2, n_classes) <= size <= smallest:
        raise ValueError(
            f"target_sizes must be whole numbers from {max(2, n_classes)} (a row per class) to {smallest} (the "
            f"smallest training part); got {size!r}."
        )
    rng = np.random.default_rng(seed)
    return [(_first(rng.permutation(train), y, size, classifies), test) for train, test in splits]


def _first(rows: np.ndarray, y: np.ndarray, size: int, classifies: bool) -> np.ndarray:
    if not classifies or y.ndim > 1:
        return rows[:size]
    labels, place = y[rows], np.empty(len(rows))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members)) / len(members)  # so that each prefix holds the classes' shares
    return rows[np.argsort(place, kind="stable")[:size]]


def evaluated(
    make: Callable[[int], BaseEstimator],
    X: Any,
    y: np.ndarray,
    splits: Sequence[Split],
    scoring: Any,
    advance: Callable,
    groups: np.ndarray | None = None,
) -> Evaluated:
    """Fit what ``make`` gives for each fold, and judge it on the fold's test part.

    Parameters
    ----------
    make : callable
        Function from the number of a fold to an unfitted estimator.
    X, y : collection, ndarray
        Samples and targets.
    splits : sequence of (train, test)
        Indices of the training and test rows of each fold.
    scoring : str, callable or None
        Score; ``"accuracy"`` also compares predictions row by row.
    advance : callable
        Function that is called after each fold.
    groups : ndarray of shape (n,), optional
        Groups, for searches and for what a network holds out.
    """
    is_right = np.zeros(_num_samples(X), dtype=bool) if scoring == "accuracy" else None
    scores, histories, boundaries, seconds = [], [], [], 0.0
    for fold, (train, test) in enumerate(splits):
        model, start = make(fold), time.perf_counter()
        how = {} if groups is None else _with_groups(model, groups[train])
        model.fit(_safe_indexing(X, train), y[train], **how)
        seconds += time.perf_counter() - start
        unseen = _safe_indexing(X, test)
        if is_right is None:
            scores.append(check_scoring(model, scoring)(model, unseen, y[test]))
        else:
            equal = np.asarray(model.predict(unseen)) == y[test]
            is_right[test] = equal.reshape(len(test), -1).all(axis=1)
            scores.append(is_right[test].mean())
        network = network_of(model)
        histories.append(getattr(network, "history_", {}) if is_network(network) else {})
        boundaries.append(getattr(network, "freeze_boundary_", ""))
        advance()
    return Evaluated(np.array(scores, dtype=float), is_right, seconds, histories, boundaries)


def _with_groups(model: BaseEstimator, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters of ``fit`` that hand the groups to a search's splitter, or to a network."""
    if get_config()["enable_metadata_routing"]:
        return {"groups": groups} if get_routing_for_object(model).consumes("fit", ["groups"]) else {}
    prefix, last = "", model
    while isinstance(last, Pipeline):
        name, last = last.steps[-1]
        prefix += f"{name}__"
    if isinstance(last, BaseSearchCV) or "groups" in inspect.signature(last.fit).parameters:
        return {f"{prefix}groups": groups}
    return {}
