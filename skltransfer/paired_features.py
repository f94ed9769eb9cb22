"""Pairs of unlike things as a scikit-learn transformer: one transformer for each part, each distinct part passed once.

Must not know networks, samples or what parts mean: only how pairs are taken apart, and put together again.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import _check_feature_names, _check_feature_names_in, check_is_fitted

from skltransfer._estimators.base import BackboneEstimator, numbered
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_parameters
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Distinct, distinct, parts_of

SIDES = ("first", "second")
COMBINATIONS = ("concatenate", "product", "difference")


class PairedFeatureExtractor(VersionStamp, TransformerMixin, BaseEstimator):
    """Embed pairs of unlike things: the first parts with one transformer, the second parts with another.

    Choose it if each sample has two parts that no single network reads: a molecule and a protein, an image and a text,
    a user and a product. Each transformer gets each distinct part once: 68 molecules by 442 proteins are 30,056 pairs,
    but at most 510 passes through a network. For two texts that one network reads together, pass pairs to
    :class:`PretrainedFeatureExtractor` or :class:`FineTunedClassifier` instead.

    Parameters
    ----------
    first, second : transformer
        Transformers of the first and of the second parts, such as :class:`PretrainedFeatureExtractor` with two
        different backbones, or a transformer of scikit-learn for one column. They are cloned. Those of texts, and those
        of this package, get a list of parts; all others get an array of one column.
    combine : {"concatenate", "product", "difference"} or list of these, default="concatenate"
        How the features of two parts become the features of their pair: side by side, their products, or their absolute
        differences. The last two need as many features of the first part as of the second. The results of a list of
        these are put side by side in the given order.

    Attributes
    ----------
    first_, second_ : transformer
        Fitted transformers. Warnings of theirs number the distinct parts, in the order of their first appearance.
    n_features_in_ : int
        Number of columns of X, which is 2.
    feature_names_in_ : ndarray of str, shape (2,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.

    See Also
    --------
    PretrainedFeatureExtractor : Embed single samples, pairs of texts, or several columns of one kind.

    References
    ----------
    H. Ozturk et al. (2018), "DeepDTA: deep drug-target binding affinity prediction", Bioinformatics.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from skltransfer import PairedFeatureExtractor, PretrainedFeatureExtractor
    >>> pairs = [("CCO", "MKTAYIAK"), ("CCO", "GIGKFLHS"), ("c1ccccc1", "MKTAYIAK")]
    >>> letters = CountVectorizer(analyzer="char", lowercase=False)
    >>> extractor = PairedFeatureExtractor(letters, PretrainedFeatureExtractor("toy:text"))
    >>> extractor.fit_transform(pairs).shape
    (3, 36)
    >>> extractor.get_feature_names_out()[[0, -1]]
    array(['first__1', 'second__pretrainedfeatureextractor31'], dtype=object)
    """

    _parameter_constraints: ClassVar[dict] = {
        "first": [HasMethods(["fit", "transform"])],
        "second": [HasMethods(["fit", "transform"])],
        "combine": [StrOptions(set(COMBINATIONS)), list, tuple],
    }

    def __init__(self, first: Any, second: Any, *, combine: str | Sequence[str] = "concatenate") -> None:
        self.first = first
        self.second = second
        self.combine = combine

    @checks_parameters(also_nested=True)
    def fit(self, X: Any, y: Any = None) -> "PairedFeatureExtractor":
        """Fit both transformers, each on the distinct parts.

        Parameters
        ----------
        X : dataframe or array of shape (n_samples, 2), or sequence of tuples of two values
            Pairs.
        y : array-like of shape (n_samples,), default=None
            Targets. A transformer whose tags say that it requires them is fitted on all rows and their targets.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is invalid.
        BadSampleError
            If an element of X is no pair, or a transformer cannot read a part; the message names the row of X.
        """
        self._learn(X, y, transforms=False)
        return self

    @checks_parameters(also_nested=True)
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit both transformers and compute the features of each pair. Each distinct part is passed once.

        Parameters
        ----------
        X : dataframe or array of shape (n_samples, 2), or sequence of tuples of two values
            Pairs.
        y : array-like of shape (n_samples,), default=None
            Targets. A transformer whose tags say that it requires them is fitted on all rows and their targets.

        Returns
        -------
        ndarray or sparse matrix of shape (n_samples, n_features_out)
            Features of the pairs; sparse if both parts are combined from sparse features, or are concatenated and one
            of them is sparse.

        Raises
        ------
        ValueError
            If a parameter or X is invalid, or the two parts have different numbers of features and ``combine`` needs
            equal ones.
        BadSampleError
            If an element of X is no pair, or a transformer cannot read a part; the message names the row of X.
        """
        return self._combined(self._learn(X, y, transforms=True))

    def transform(self, X: Any) -> Any:
        """Compute the features of each pair. Each distinct part is passed to its transformer once.

        Parameters
        ----------
        X : dataframe or array of shape (n_samples, 2), or sequence of tuples of two values
            Pairs.

        Returns
        -------
        ndarray or sparse matrix of shape (n_samples, n_features_out)
            Features of the pairs; sparse if both parts are combined from sparse features, or are concatenated and one
            of them is sparse.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or does not match what ``fit`` saw.
        BadSampleError
            If an element of X is no pair, or a transformer cannot read a part; the message names the row of X.
        """
        check_is_fitted(self)
        sides = self._sides(X, reset=False)
        return self._combined([side.transformed(inner) for side, inner in zip(sides, self._fitted, strict=True)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Get the names of the output features of ``transform``.

        Names of features side by side begin with ``first__`` or ``second__``; products and differences are numbered.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X. They have no effect on the result, but must match the names seen in ``fit``.

        Returns
        -------
        ndarray of str objects, shape (n_features_out,)
            Names of the output features.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``input_features`` do not match the names seen in ``fit``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        first, second = (list(inner.get_feature_names_out()) for inner in self._fitted)
        beside = [f"{side}__{name}" for side, names in zip(SIDES, (first, second), strict=True) for name in names]
        named = [beside if how == "concatenate" else numbered(f"{how}_", len(first)) for how in self._ways]
        return np.concatenate([np.asarray(names, dtype=object) for names in named])

    @property
    def _fitted(self) -> tuple[Any, Any]:
        return self.first_, self.second_

    @property
    def _ways(self) -> list[str]:
        """How parts are combined, one way after the other."""
        return [self.combine] if isinstance(self.combine, str) else list(self.combine)

    def _refuse_unknown_ways(self) -> None:
        ways = self._ways
        if not ways or not all(way in COMBINATIONS and ways.count(way) == 1 for way in ways):
            raise ValueError(
                f"combine must be one of {list(COMBINATIONS)}, or a list of different ones of these; got "
                f"{self.combine!r}."
            )

    def _learn(self, X: Any, y: Any, *, transforms: bool) -> list[Any]:
        """Fit on a copy, which takes this one's place at the end; the parts' features if it also ``transforms``."""
        parameters, draft = self.get_params(deep=False), copy.copy(self)
        draft.__dict__ = {k: v for k, v in vars(self).items() if k in parameters or not k.endswith("_")}
        draft._refuse_unknown_ways()
        sides = draft._sides(X, reset=True)
        if y is not None:
            check_consistent_length(sides[0].values, y)
        draft.first_, draft.second_ = clone(self.first), clone(self.second)
        found = [side.fitted(inner, y, transforms=transforms) for side, inner in zip(sides, draft._fitted, strict=True)]
        self.__dict__ = draft.__dict__
        return found

    def _sides(self, X: Any, *, reset: bool) -> list["_Side"]:
        columns, names = parts_of(X), [f"{side} part of X" for side in SIDES]
        _check_feature_names(self, X, reset=reset)
        if reset:
            self.n_features_in_ = len(SIDES)
        if hasattr(X, "columns"):
            names = [f"X[{name!r}]" for name in X.columns]
        return [_Side(name, values, distinct(values)) for name, values in zip(names, columns, strict=True)]

    def _combined(self, features: Sequence[Any]) -> Any:
        """The features of the pairs, given those of the parts, (n, d1) and (n, d2)."""
        found = [_in_one_way(how, *features) for how in self._ways]
        return found[0] if len(found) == 1 else _side_by_side(found)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = _requires_y(self.first) or _requires_y(self.second)
        return tags


class _Side(NamedTuple):
    """One part of each pair: its name in errors, its values by row, and what is distinct among them."""

    name: str
    values: list[Any]
    distinct: Distinct

    def fitted(self, inner: Any, y: Any, *, transforms: bool) -> Any:
        """Fit a transformer; the features of the parts, if it also ``transforms``."""
        if y is not None and _requires_y(inner):
            rows = np.arange(len(self.values))
            return self._fitted_on(rows, self.values, inner, y, transforms=transforms)
        found = self._fitted_on(self.distinct.rows, self.distinct.values, inner, None, transforms=transforms)
        return None if found is None else found[self.distinct.inverse]

    def transformed(self, inner: Any) -> Any:
        """The features of the parts, each computed once."""
        with self._naming_rows(self.distinct.rows):
            features = inner.transform(_given(inner, self.distinct.values))
        return self._checked(features, len(self.distinct.values))[self.distinct.inverse]

    def _fitted_on(self, rows: np.ndarray, parts: Sequence[Any], inner: Any, y: Any, *, transforms: bool) -> Any:
        """Fit on these parts, which are of these rows of X; their features, if asked for."""
        given = _given(inner, parts)
        with self._naming_rows(rows):
            if transforms and hasattr(inner, "fit_transform"):
                return self._checked(inner.fit_transform(given, y), len(parts))
            inner.fit(given, y)
            return self._checked(inner.transform(given), len(parts)) if transforms else None

    def _checked(self, features: Any, n: int) -> Any:
        """Features as an array or a sparse matrix with a row for each of n parts."""
        features = features.tocsr() if sparse.issparse(features) else np.asarray(features)
        if features.ndim != 2 or features.shape[0] != n:
            raise ValueError(
                f"The transformer of the {self.name} returned an array of shape {features.shape} for {n} parts. Choose "
                "one that returns a row of features for each."
            )
        return features

    @contextlib.contextmanager
    def _naming_rows(self, rows: np.ndarray) -> Iterator[None]:
        """Errors about the parts that a transformer was passed name rows of X, or at least which parts."""
        try:
            yield
        except BadSampleError as error:
            raise self._of_row(error, rows) from error
        except Exception as error:
            error.add_note(f"This is about the {self.name}.")
            raise

    def _of_row(self, error: BadSampleError, rows: np.ndarray) -> BadSampleError:
        others = tuple(self._of_row(other, rows) for other in error.others)
        return type(error)(int(rows[error.row]), error.shown, error.cause, error.remedy, others, self.name)


def _given(inner: Any, parts: Sequence[Any]) -> Any:
    """Parts as a transformer takes them: a list of texts or samples, or an array of one column."""
    entrance = _entrance(inner)
    own = isinstance(entrance, BackboneEstimator | PairedFeatureExtractor)
    if own or not hasattr(entrance, "__sklearn_tags__") or not get_tags(entrance).input_tags.two_d_array:
        return list(parts)
    column = np.empty((len(parts), 1), dtype=object)
    for row, part in enumerate(parts):
        column[row, 0] = part
    return column


def _entrance(inner: Any) -> Any:
    """The transformer that reads the parts: the first one of a pipeline or a union, or that which is searched."""
    if isinstance(inner, Pipeline):
        return _entrance(inner.steps[0][1])
    if isinstance(inner, FeatureUnion):
        return _entrance(inner.transformer_list[0][1])
    return _entrance(inner.estimator) if isinstance(inner, BaseSearchCV) else inner


def _requires_y(inner: Any) -> bool:
    if isinstance(inner, Pipeline):
        return any(_requires_y(step) for _, step in inner.steps)
    return hasattr(inner, "__sklearn_tags__") and get_tags(inner).target_tags.required


def _in_one_way(how: str, first: Any, second: Any) -> Any:
    if how == "concatenate":
        return _side_by_side([first, second])
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"combine={how!r} needs as many features of the first part as of the second, but there are "
            f"{first.shape[1]} and {second.shape[1]}. Set combine='concatenate', or end both transformers in a step of "
            "one width, such as TruncatedSVD."
        )
    if not (sparse.issparse(first) and sparse.issparse(second)):
        first, second = (one.toarray() if sparse.issparse(one) else one for one in (first, second))
        return first * second if how == "product" else np.abs(first - second)
    return first.multiply(second).tocsr() if how == "product" else abs(first - second)


def _side_by_side(features: Sequence[Any]) -> Any:
    return sparse.hstack(features, format="csr") if any(map(sparse.issparse, features)) else np.hstack(features)
