"""How often a search by similarity finds a sample of the same class: recall at k, on arrays and as a scorer.

Promises that no sample is found by itself, and that neither the order of rows nor the luck of a tie changes a score.
Must not know where features come from.
"""

import warnings
from collections import Counter
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import hypergeom
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import column_or_1d

from skltransfer._estimators import target_checks
from skltransfer._system.validation import checks_arguments

TIE = 1e-9  # cosine distances that differ by less are equal
MOST_SHOWN = 5

K: dict[str, list] = {"k": [Interval(Integral, 1, None, closed="left")]}
ARRAYS: dict[str, list] = {"features": ["array-like", "sparse matrix"], "y": ["array-like"]}
GALLERY: dict[str, list] = {"gallery": ["array-like", "sparse matrix", None], "y_gallery": ["array-like", None]}


@checks_arguments(ARRAYS | GALLERY | K)
def recall_at_k_score(
    features: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 1,
    gallery: ArrayLike | None = None,
    y_gallery: ArrayLike | None = None,
) -> float:
    """Compute recall at k: the fraction of samples with at least one of their class among the k nearest others.

    Use it to judge embeddings for a search by similarity, for example before and after fine-tuning. It is the measure
    of image retrieval and metric learning [1]_ [2]_, here with cosine similarity. It is not the recall of a classifier,
    nor the fraction of all relevant samples that a search finds.

    Parameters
    ----------
    features : {array-like, sparse matrix} of shape (n_samples, n_features)
        Embeddings of the queries. Without ``gallery``, each one searches among the others, and never finds itself.
    y : array-like of shape (n_samples,)
        Class labels of the queries.
    k : int, default=1
        Number of nearest samples that are looked at, from 1 to the number of samples that are searched.
    gallery : {array-like, sparse matrix} of shape (n_gallery, n_features), default=None
        Embeddings of the samples that are searched. None searches among ``features``.
    y_gallery : array-like of shape (n_gallery,), default=None
        Class labels of the samples that are searched.

    Returns
    -------
    float
        Score in [0, 1]; higher is better. Random embeddings score about the chance that k samples drawn at random hold
        one of the query's class, which increases with ``k`` and decreases with the number of classes.

    Raises
    ------
    ValueError
        If an array is invalid or embeddings are NaN, ``k`` is larger than the number of samples that are searched,
        these have a single class, or no query can be answered.

    Warns
    -----
    UserWarning
        If no other sample has the class of a query, which is then left out of the mean.

    Notes
    -----
    Samples at the same distance as the k-th nearest are treated as in random order: the score is the expected value. So
    embeddings that are all equal score as random ones do. An embedding of zeros is at distance 1 from all others.

    Scores of different sizes of the gallery are not comparable: it is easier to find one of few.

    References
    ----------
    .. [1] H. Oh Song, Y. Xiang, S. Jegelka, S. Savarese (2016), "Deep metric learning via lifted structured feature
       embedding", CVPR.
    .. [2] K. Musgrave, S. Belongie, S.-N. Lim (2020), "A metric learning reality check", ECCV.

    Examples
    --------
    >>> from skltransfer.model_selection import recall_at_k_score
    >>> features = [[1, 0], [1, 0.1], [0, 1], [0.9, 0.2], [0.1, 1]]
    >>> y = ["cat", "cat", "dog", "dog", "dog"]
    >>> recall_at_k_score(features, y)
    0.8
    >>> recall_at_k_score(features, y, k=3)
    1.0
    """
    if (gallery is None) != (y_gallery is None):
        raise ValueError("gallery and y_gallery must be passed together: embeddings to search in, and their labels.")
    is_own = gallery is None
    queries, labels = _checked(features, y, "features", "y")
    searched, classes = (queries, labels) if is_own else _checked(gallery, y_gallery, "gallery", "y_gallery")
    _refuse_unsearchable(searched, classes, queries, k, is_own)
    members = Counter(classes.tolist())
    is_asked = np.array([members[label] > is_own for label in labels.tolist()])
    _tell_of_lonely(labels[~is_asked], int(is_asked.sum()))
    rows = np.flatnonzero(is_asked)

    def found(distances: np.ndarray, start: int) -> np.ndarray:  # (m, n) -> (m,)
        block = rows[start : start + len(distances)]
        if is_own:
            distances[np.arange(len(block)), block] = np.inf
        return _chance_of_a_match(distances, labels[block, None] == classes, k)

    chances = pairwise_distances_chunked(queries[rows], searched, reduce_func=found, metric="cosine")
    return float(np.concatenate(list(chances)).mean())


@checks_arguments({"estimator": [HasMethods(["fit", "transform"])]} | K)
def recall_at_k_scorer(estimator: Any, X: Any, y: Any, *, k: int = 1) -> float:
    """Score the embeddings of a transformer by recall at k.

    Use it as ``scoring=recall_at_k_scorer`` of ``GridSearchCV`` or ``cross_val_score``. Each sample of the test part is
    embedded, and searches among the other samples of the test part. See :func:`recall_at_k_score`.

    Parameters
    ----------
    estimator : fitted transformer, Pipeline or search with ``transform``
        Estimator whose ``transform`` computes embeddings, such as :class:`~skltransfer.PretrainedFeatureExtractor`,
        :class:`~skltransfer.FewShotClassifier` or a Pipeline that ends in one.
    X : sequence of samples, or array-like of shape (n_samples, n_features)
        Samples to embed.
    y : array-like of shape (n_samples,)
        Class labels.
    k : int, default=1
        Number of nearest samples that are looked at. For another number, pass
        ``scoring=functools.partial(recall_at_k_scorer, k=5)``.

    Returns
    -------
    float
        Score in [0, 1]; higher is better.

    Raises
    ------
    ValueError
        If the estimator has no ``transform``, or the embeddings cannot be scored.

    Notes
    -----
    ``GridSearchCV`` splits transformers by ``KFold``, without shuffling. Pass ``cv=StratifiedKFold(shuffle=True)``, so
    that each test part holds several samples of each class, or ``cv=GroupKFold()`` with ``groups=y`` for a network that
    shall embed classes that it did not see.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
    >>> from skltransfer import PretrainedFeatureExtractor
    >>> from skltransfer.model_selection import recall_at_k_scorer
    >>> X = np.random.default_rng(0).normal(size=(40, 8))
    >>> X[::2, 0] += 4
    >>> extractor, folds = PretrainedFeatureExtractor("toy:rows"), StratifiedKFold(2, shuffle=True, random_state=0)
    >>> search = GridSearchCV(extractor, {"layer": [0.5, 1.0]}, scoring=recall_at_k_scorer, cv=folds)
    >>> search.fit(X, np.arange(40) % 2).cv_results_["mean_test_score"].shape
    (2,)
    """
    return recall_at_k_score(estimator.transform(X), y, k=k)


def _chance_of_a_match(distances: np.ndarray, is_match: np.ndarray, k: int) -> np.ndarray:
    """Chance that one of the k nearest matches, if samples that tie come in random order: (m, n), (m, n) -> (m,)."""
    kth = np.partition(distances, k - 1, axis=1)[:, [k - 1]]
    nearer, tied = distances < kth - TIE, np.abs(distances - kth) <= TIE
    n_tied, n_matching = tied.sum(axis=1), (tied & is_match).sum(axis=1)
    places = k - nearer.sum(axis=1)  # for those that tie
    chance = 1 - hypergeom.pmf(0, n_tied, n_matching, places)
    chance[n_matching == 0] = 0.0
    return np.where((nearer & is_match).any(axis=1) | (n_tied - n_matching < places), 1.0, chance)


def _checked(features: Any, y: Any, name: str, name_of_y: str) -> tuple[Any, np.ndarray]:
    """Embeddings (n, d), finite, and their labels (n,)."""
    features = check_array(features, accept_sparse="csr", dtype=np.float64, ensure_all_finite=False, input_name=name)
    bad = np.flatnonzero(~np.isfinite(np.asarray(features.sum(axis=1)).ravel()))
    if len(bad):
        more = f" and {len(bad) - MOST_SHOWN} more" if len(bad) > MOST_SHOWN else ""
        raise ValueError(
            f"{name} holds NaN or infinity in rows {bad[:MOST_SHOWN].tolist()}{more}, which cannot be compared. Leave "
            f"these rows of {name} and {name_of_y} out, for example where samples could not be read."
        )
    y = target_checks.plain(y)
    labels, cells = column_or_1d(y), target_checks.cells_of(y).reshape(-1)
    absent = np.flatnonzero(target_checks.missing(cells))
    if len(absent):
        raise ValueError(f"{name_of_y} has no label in rows {absent[:MOST_SHOWN].tolist()}. Leave these rows out.")
    target_checks.refuse_mixed_labels([[cell] for cell in cells.tolist()])
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(f"{name_of_y} must hold labels, got numbers such as {labels.max()}. Cut them into classes.")
    check_consistent_length(features, labels)
    return features, labels


def _refuse_unsearchable(searched: Any, classes: np.ndarray, queries: Any, k: int, is_own: bool) -> None:
    n = searched.shape[0] - is_own
    if k > n:
        raise ValueError(f"k must be at most the number of samples that are searched, {n}; got k={k}.")
    if searched.shape[1] != queries.shape[1]:
        raise ValueError(f"features has {queries.shape[1]} columns, and gallery has {searched.shape[1]}.")
    if (classes == classes[0]).all():
        raise ValueError(
            f"All samples that are searched have the label {classes[:1].tolist()[0]!r}, so that any embedding would "
            "score 1. Pass samples of at least two classes."
        )


def _tell_of_lonely(labels: np.ndarray, n_others: int) -> None:
    """Name classes of queries of which no other sample could be found, and say that ``n_others`` queries remain."""
    if not len(labels):
        return
    names = sorted({str(label) for label in labels})
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    told = f"No other sample that is searched is of class {', '.join(names[:MOST_SHOWN])}{more}"
    if not n_others:
        raise ValueError(f"{told}, so that no query can be answered. Pass at least two samples of a class.")
    left_out = f"Queries of such classes are left out of recall at k: {len(labels)} of {len(labels) + n_others}"
    warnings.warn(f"{told}. {left_out}.", stacklevel=4)
