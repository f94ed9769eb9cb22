"""Transferability scores on arrays, in the style of ``sklearn.metrics``: how much features say about targets.

Higher is better. A score ranks candidates on one data set; its values are not to be compared across data sets. Promises
finite values where features are wide, dead, repeated or fewer than samples, and where a class has one sample. Must not
know where features come from.
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import svd, svdvals
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target

from skltransfer._estimators.probe import LogisticProbe, RidgeProbe
from skltransfer._system.validation import checks_arguments

DECADES = np.linspace(-32, 12, 177)  # where the ratio of precisions is looked for, relative to the largest variance
EPSILON = np.finfo(float).eps

ARRAYS: dict[str, list] = {"features": ["array-like"], "y": ["array-like"]}
TASK: dict[str, list] = {"task": [StrOptions({"auto", "classification", "regression"})]}
Splits = list[tuple[np.ndarray, np.ndarray]]


@checks_arguments(ARRAYS | TASK)
def log_me_score(features: ArrayLike, y: ArrayLike, *, task: str = "auto") -> float:
    """Compute LogME, the log evidence per sample of a Bayesian linear model on the features.

    It needs no folds and does not favor wide features: if features carry no information, the score is the same for 16
    and for 4,096 of them.

    The evidence is maximized exactly. With centered features and targets, ``m = n - 1`` degrees of freedom remain, and
    the evidence depends only on the ratio of the two precisions; the optimum is found by a grid over 44 decades and a
    bounded search. The fixed-point iteration that was published with the paper omits a term, and deviates by up to 45
    if there are more features than samples.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels of any kind, a 0/1 matrix with one column per label, or numbers. The score is the mean over classes (each
        against the rest) or columns. Constant columns are left out.
    task : {"auto", "classification", "regression"}, default="auto"
        Type of the target. ``"auto"`` treats numbers that are not whole as a regression target, and anything else as
        labels.

    Returns
    -------
    float
        Score in nats per sample; higher is better. It is invariant to rotation and a common scale of the features, to
        the order of rows and to the names of labels. For regression it depends on the unit of ``y``.

    Raises
    ------
    ValueError
        If an array is not finite or has another shape, or if ``y`` is constant.

    References
    ----------
    K. You, Y. Liu, J. Wang, M. Long (2021), "LogME: practical assessment of pre-trained models for transfer learning",
    ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skltransfer.model_selection import log_me_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(log_me_score(X, y), 3), round(log_me_score(X[:, :2], y), 3)
    (-0.121, -0.317)
    """
    features, y, kind = checked(features, y, task)
    targets = _columns(y, kind)
    return float(np.mean(_log_evidences(features, targets[:, np.ptp(targets, axis=0) > 0])))


@checks_arguments(ARRAYS | TASK | {"n_neighbors": [Interval(Integral, 1, None, closed="left")], "cv": ["cv_object"]})
def knn_score(features: ArrayLike, y: ArrayLike, *, n_neighbors: int = 5, cv: Any = 5, task: str = "auto") -> float:
    """Compute the cross-validated accuracy (or R²) of a nearest-neighbor model on the features.

    Neighbors are found by cosine distance and weighted by its inverse. Nothing is trained, so the score is a second
    opinion that shares no assumption with a linear head.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels of any kind, a 0/1 matrix with one column per label, or numbers.
    n_neighbors : int, default=5
        Number of neighbors, at least 1.
    cv : int, splitter or iterable, default=5
        Cross-validation, as in :func:`sklearn.model_selection.cross_val_score`.
    task : {"auto", "classification", "regression"}, default="auto"
        Type of the target. ``"auto"`` treats numbers that are not whole as a regression target, and anything else as
        labels.

    Returns
    -------
    float
        Mean score over folds, at most 1. It is invariant to rotation and a common scale of the features.

    Raises
    ------
    ValueError
        If an array is invalid, or if there are fewer samples than folds or neighbors.

    References
    ----------
    M. Sorkhei et al. (2025), "k-NN as a simple and effective estimator of transferability", arXiv:2503.18528.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skltransfer.model_selection import knn_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(knn_score(X, y), 3)
    0.98
    """
    features, y, kind = checked(features, y, task)
    return float(fold_scores(knn_model(kind, n_neighbors), features, y, splits_of(y, kind, cv)).mean())


@checks_arguments(ARRAYS | TASK | {"cv": ["cv_object"], "scoring": [str, callable, None]})
def probe_score(
    features: ArrayLike, y: ArrayLike, *, cv: Any = 5, scoring: str | Callable | None = None, task: str = "auto"
) -> float:
    """Compute the cross-validated score of a linear probe on the features.

    The probe is the head of :class:`FineTunedClassifier` and :class:`FineTunedRegressor` at ``freeze_depth=1.0``:
    logistic regression for labels and ridge regression for numbers. Generalized cross-validation chooses its
    regularization within each training set, so that neither wide nor narrow features are favored. This is the most
    reliable of the scores.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels of any kind, a 0/1 matrix with one column per label, or numbers.
    cv : int, splitter or iterable, default=5
        Cross-validation, as in :func:`sklearn.model_selection.cross_val_score`.
    scoring : str or callable, default=None
        Score: a name or scorer of scikit-learn. None is accuracy for labels and R² for numbers.
    task : {"auto", "classification", "regression"}, default="auto"
        Type of the target. ``"auto"`` treats numbers that are not whole as a regression target, and anything else as
        labels.

    Returns
    -------
    float
        Mean score over folds. It is invariant to a common scale of the features and to repeating all of them.

    Raises
    ------
    ValueError
        If an array is invalid, or if there are fewer samples than folds.

    References
    ----------
    G. Alain, Y. Bengio (2016), "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skltransfer.model_selection import probe_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(probe_score(X, y), 3)
    0.967
    """
    features, y, kind = checked(features, y, task)
    return float(fold_scores(probe_model(kind), features, y, splits_of(y, kind, cv), scoring).mean())


@checks_arguments(ARRAYS)
def h_score(features: ArrayLike, y: ArrayLike) -> float:
    """Compute the H-score with shrinkage, the variance between classes relative to the features' covariance.

    Use it for comparison with published results, not to choose a backbone. The covariance is shrunk (Ledoit and Wolf).
    Without shrinkage the score equals the number of classes minus one for any labels if there are more features than
    samples; with shrinkage it still increases with the number of features.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,)
        Class labels.

    Returns
    -------
    float
        Score between 0 and the number of classes minus one. It is invariant to rotation and a common scale of the
        features.

    Raises
    ------
    ValueError
        If an array is invalid, or if ``y`` has one class.

    References
    ----------
    Y. Bao et al. (2019), "An information-theoretic approach to transferability in task transfer learning", ICIP.

    S. Ibrahim, N. Ponomareva, R. Mazumder (2022), "Newer is not always better: rethinking transferability metrics,
    their peculiarities, stability and performance", ECML PKDD. Ledoit-Wolf shrinkage.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skltransfer.model_selection import h_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(h_score(X, y), 3)
    1.17
    """
    features, y, _ = checked(features, y, "classification", most_columns=1)
    u, s = _centred_svd(features)
    shrinkage = ledoit_wolf_shrinkage(features) if len(s) else 1.0
    variances = s**2 / len(y)  # (k,)
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.sum() / features.shape[1]
    classes, members, counts = np.unique(y, return_inverse=True, return_counts=True)
    means = np.eye(len(classes))[members].T @ (u * s) / counts[:, None]  # (classes, k)
    between = counts / len(y) @ means**2  # (k,)
    return float((1 - shrinkage) * (between / shrunk).sum())


@checks_arguments(ARRAYS | {"epsilon": [Interval(Real, 0, None, closed="neither")]})
def trans_rate_score(features: ArrayLike, y: ArrayLike, *, epsilon: float = 1e-4) -> float:
    """Compute TransRate, the number of nats by which labels shorten a code of the features.

    Use it for comparison with published results, among candidates of the same width and scale: it increases with both.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of the samples.
    y : array-like of shape (n_samples,)
        Class labels.
    epsilon : float, default=1e-4
        Squared distortion of the code, in squared units of the features; must be positive.

    Returns
    -------
    float
        Non-negative score in nats per sample. It is invariant to rotation, but not to scale.

    Raises
    ------
    ValueError
        If an array is invalid, or if ``y`` has one class.

    References
    ----------
    L.-K. Huang et al. (2022), "Frustratingly easy transferability estimation", ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skltransfer.model_selection import trans_rate_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(trans_rate_score(X, y), 3)
    0.589
    """
    features, y, _ = checked(features, y, "classification", most_columns=1)
    u, s = _centred_svd(features)
    rotated = u * s  # (n, k)

    def rate(rows: np.ndarray) -> float:
        return 0.5 * np.log1p(svdvals(rows) ** 2 / (len(rows) * epsilon)).sum() if rows.size else 0.0

    classes, counts = np.unique(y, return_counts=True)
    within = sum(count * rate(rotated[y == label]) for label, count in zip(classes, counts, strict=True))
    return float(rate(rotated) - within / len(y))


@checks_arguments({"source_proba": ["array-like"], "y": ["array-like"]})
def leep_score(source_proba: ArrayLike, y: ArrayLike) -> float:
    """Compute LEEP, the mean log likelihood of labels given the predictions of the pretrained classification head.

    It needs no features, only the predicted probabilities of a pretrained network for the target samples, for example
    from a web service. It is optimistic if there are many source classes and few samples: for 200 samples, 10 labels
    and predictions over 1,000 source classes that are confident but random it is about -1, while chance is -2.3.

    Parameters
    ----------
    source_proba : array-like of shape (n_samples, n_source_classes)
        Probabilities of the source classes (the classes of the pretraining); rows sum to 1.
    y : array-like of shape (n_samples,)
        Class labels.

    Returns
    -------
    float
        Non-positive score in nats per sample; higher is better.

    Raises
    ------
    ValueError
        If rows are not probabilities, or if ``y`` has one class.

    References
    ----------
    C. V. Nguyen et al. (2020), "LEEP: a new measure to evaluate transferability of learned representations", ICML.

    Examples
    --------
    >>> from skltransfer.model_selection import leep_score
    >>> round(leep_score([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]], ["cat", "cat", "dog", "dog"]), 3)
    -0.343
    """
    proba, y, _ = checked(source_proba, y, "classification", most_columns=1, input_name="source_proba")
    if (proba < 0).any() or np.abs(proba.sum(axis=1) - 1).max() > 1e-4:
        sums = proba.sum(axis=1)
        raise ValueError(
            f"source_proba must hold probabilities, rows of numbers >= 0 that sum to 1; got a least value of "
            f"{proba.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}. Apply a softmax to logits."
        )
    classes, members = np.unique(y, return_inverse=True)
    joint = np.eye(len(classes))[members].T @ proba / len(y)  # (classes, source classes)
    mass = joint.sum(axis=0)
    given = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    return float(np.log((given[members] * proba).sum(axis=1)).mean())


@checks_arguments({"source_labels": ["array-like"], "y": ["array-like"]})
def nce_score(source_labels: ArrayLike, y: ArrayLike) -> float:
    """Compute the negative conditional entropy of labels, given source labels of the same samples.

    It corresponds to :func:`leep_score` for a source that predicts only one class per sample, and is as optimistic.

    Parameters
    ----------
    source_labels : array-like of shape (n_samples,)
        Source classes that a network, or a person, assigns to the samples.
    y : array-like of shape (n_samples,)
        Class labels.

    Returns
    -------
    float
        Non-positive score in nats per sample; higher is better.

    Raises
    ------
    ValueError
        If an array is not one-dimensional, the lengths differ, or ``y`` has one class.

    References
    ----------
    A. T. Tran, C. V. Nguyen, T. Hassner (2019), "Transferability and hardness of supervised classification tasks",
    ICCV.

    Examples
    --------
    >>> from skltransfer.model_selection import nce_score
    >>> round(nce_score(["tabby", "tabby", "beagle", "tabby"], ["cat", "cat", "dog", "dog"]), 3)
    -0.477
    """
    y, _ = checked_target(y, "classification", most_columns=1)
    source_labels = check_array(source_labels, ensure_2d=False, dtype=None, input_name="source_labels")
    check_consistent_length(source_labels, y)
    joint = mutual_info_score(source_labels, y)
    return float(min(joint - mutual_info_score(y, y), 0.0))


def checked(
    features: ArrayLike, y: ArrayLike, task: str, *, most_columns: int | None = None, input_name: str = "features"
) -> tuple[np.ndarray, np.ndarray, str]:
    """Features (n, d) of float64, targets, and their kind: classification, multilabel or regression."""
    features = check_array(features, dtype=np.float64, ensure_min_samples=2, input_name=input_name)
    y, kind = checked_target(y, task, most_columns)
    check_consistent_length(features, y)
    return features, y, kind


def checked_target(y: ArrayLike, task: str, most_columns: int | None = None) -> tuple[np.ndarray, str]:
    """Targets, and their kind."""
    y = check_array(y, ensure_2d=False, dtype=None, ensure_min_samples=2, input_name="y")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    kind = _kind(y, task)
    if y.ndim > 1 and (most_columns == 1 or kind == "classification"):
        raise ValueError(
            f"y must be one column of labels here, got shape {y.shape}. Score each column by itself, or use "
            "log_me_score, knn_score or probe_score, which take a 0/1 matrix and columns of numbers."
        )
    if len(np.unique(y)) < 2:
        raise ValueError(f"y must hold at least two values, got {_shown(y)} alone: nothing to tell apart.")
    return y, kind


def _shown(y: np.ndarray) -> str:
    return repr(y.ravel()[:1].tolist()[0])


def _kind(y: np.ndarray, task: str) -> str:
    target = type_of_target(y, input_name="y")
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise ValueError(f"task='regression' needs numbers in y, got {y.dtype} such as {_shown(y)}.")
        return "regression"
    if target.startswith("continuous"):
        if task == "classification":
            raise ValueError(
                f"y must hold labels, got numbers such as {_shown(y)}. Cut them into classes, or use log_me_score, "
                "knn_score or probe_score with task='regression'."
            )
        return "regression"
    return "multilabel" if target == "multilabel-indicator" else "classification"


def _columns(y: np.ndarray, kind: str) -> np.ndarray:
    """Targets as numbers (n, c): one column per class, label or output."""
    if kind == "classification":
        classes, members = np.unique(y, return_inverse=True)
        return np.eye(len(classes))[members]
    return y.reshape(len(y), -1).astype(np.float64)


def _centred_svd(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (n, k) and singular values (k,) of centered features, cut to their rank, k < n."""
    centred = features - features.mean(axis=0)
    rounding = EPSILON * len(features) * np.abs(features).max(axis=0)
    centred[:, np.abs(centred).max(axis=0) <= rounding] = 0.0  # a dead column's mean need not be exact
    u, s, _ = svd(centred, full_matrices=False, check_finite=False)
    rank = min(int((s > EPSILON * max(features.shape) * s.max()).sum()), len(features) - 1)
    return u[:, :rank], s[:rank]


def _log_evidences(features: np.ndarray, targets: np.ndarray) -> list[float]:
    """The greatest log evidence per degree of freedom, for each column of ``targets`` (n, c).

    With ``t`` the ratio of the weights' precision to the noise's, the noise's own optimum is in closed form, so that
    one dimension is left.
    """
    u, s = _centred_svd(features)
    m = len(targets) - 1
    targets = targets - targets.mean(axis=0)
    total, explained = (targets**2).sum(axis=0), (u.T @ targets) ** 2  # (c,), (k, c)
    rest = np.maximum(total - explained.sum(axis=0), EPSILON * total) if len(s) < m else np.zeros_like(total)
    variances = (s / s.max(initial=0.0)) ** 2 if len(s) else s

    def loss(log_t: np.ndarray, column: slice) -> np.ndarray:  # (t,), c columns -> (t, c)
        t = np.exp(log_t)[:, None]
        noise = rest[column] + (t / (t + variances)) @ explained[:, column]
        return 0.5 * m * np.log(noise / m) + 0.5 * np.log1p(variances / t).sum(axis=1, keepdims=True)

    grid = DECADES * np.log(10)
    starts = grid[loss(grid, slice(None)).argmin(axis=0)]
    step = grid[1] - grid[0]
    best = [
        minimize_scalar(
            lambda log_t, c=c: loss(np.array([log_t]), slice(c, c + 1))[0, 0],
            bounds=(start - step, start + step),
            method="bounded",
            options={"xatol": 1e-9},
        ).fun
        for c, start in enumerate(starts)
    ]
    return [-value / m - 0.5 * (1 + np.log(2 * np.pi)) for value in best]


def splits_of(y: np.ndarray, kind: str, cv: Any) -> Splits:
    """The folds as positions, so that all candidates meet the same ones."""
    return list(check_cv(cv, y, classifier=kind == "classification").split(np.zeros(len(y)), y))


def fold_scores(
    model: BaseEstimator, features: np.ndarray, y: np.ndarray, splits: Splits, scoring: str | Callable | None = None
) -> np.ndarray:
    """The model's score on each fold, (k,)."""
    return cross_val_score(model, features, y, cv=splits, scoring=scoring, error_score="raise")


def probe_model(kind: str) -> BaseEstimator:
    """A linear head on scaled features."""
    return RidgeProbe() if kind == "regression" else LogisticProbe()


def knn_model(kind: str, n_neighbors: int = 5) -> BaseEstimator:
    """Nearest neighbours in cosine distance; nearer ones count more, so that no tie is settled by a label's name."""
    model = KNeighborsRegressor if kind == "regression" else KNeighborsClassifier
    return model(n_neighbors, metric="cosine", weights="distance")
