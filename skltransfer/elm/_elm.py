"""Extreme learning machines: a random hidden layer, and a ridge on it that is solved exactly.

Promises a fit without iterations whose leave-one-out errors are exact, and that rows may come in any number of calls.
Must not know torch, backbones or kinds of samples.
"""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import StandardScaler, label_binarize
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from skltransfer._estimators import target_checks
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_parameters
from skltransfer.elm._ridge import BLOCK, FEW, LeaveOneOut, Moments, Rows, Spectrum, coefficients

ALPHAS = np.logspace(-5, 3, 17)
SHARPNESS = (-5.0, 7.0)  # of probabilities, as a logarithm


@dataclass(frozen=True)
class _HiddenLayer:
    mean: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    weights: np.ndarray  # (d, h)
    biases: np.ndarray  # (h,)
    activation: str
    direct_links: bool

    @classmethod
    def drawn(cls, rows: Rows, model: "_ExtremeLearningMachine") -> Self:
        scaler = StandardScaler().fit(rows.X, sample_weight=rows.weights)
        random, d, h = check_random_state(model.random_state), rows.X.shape[1], model.n_hidden
        weights, biases = random.standard_normal((d, h)) / np.sqrt(d), random.standard_normal(h)
        return cls(scaler.mean_, scaler.scale_, weights, biases, model.activation, model.direct_links)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Hidden values (n, h), and features where these are linked; each over the root of their number.

        So a row's norm, and with it a good strength of the ridge, does not depend on these numbers.
        """
        features = (X - self.mean) / self.scale  # (n, d)
        values = features @ self.weights + self.biases
        np.tanh(values, out=values) if self.activation == "tanh" else np.maximum(values, 0, out=values)
        values /= np.sqrt(len(self.biases))
        return np.hstack([values, features / np.sqrt(len(self.mean))]) if self.direct_links else values


class _ExtremeLearningMachine(VersionStamp, BaseEstimator, metaclass=ABCMeta):
    """Parent of both, which say what targets mean: ``_rows``, ``_precision``, ``_judge``."""

    _parameter_constraints: dict = {
        "n_hidden": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"tanh", "relu"})],
        "alpha": [StrOptions({"loo"}), Interval(Real, 0, None, closed="neither"), "array-like"],
        "direct_links": ["boolean"],
        "random_state": ["random_state"],
    }

    @abstractmethod
    def _rows(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Rows:
        """Targets as numbers, from checked labels or numbers."""

    @abstractmethod
    def _precision(self, rows: Rows) -> np.ndarray:
        """Weight of each target's squared error in the choice of alpha, (k,)."""

    @abstractmethod
    def _judge(self, rows: Rows, left_out: np.ndarray | None) -> None:
        """Set ``best_score_`` from leave-one-out outputs (n, k), or from their absence."""

    def _checked(self, X: Any, y: Any, sample_weight: Any, **options: Any) -> tuple[np.ndarray, ...]:
        are_numbers = options.get("y_numeric", False)
        if y is not None:
            target_checks.refuse_odd_targets(y, are_numbers=are_numbers)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], **options)
        if not are_numbers:
            target_checks.refuse_odd_labels(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        if not kept.any():
            raise ValueError("sample_weight is zero for all samples; at least one must be positive.")
        return (X, y, weights) if kept.all() else (X[kept], y[kept], weights[kept])

    def _alphas(self) -> np.ndarray:
        if isinstance(self.alpha, str):
            return ALPHAS
        alphas = _as_numbers(self.alpha)
        if alphas.ndim != 1 or not len(alphas) or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise ValueError(f"alpha must be 'loo', a positive number or a list of these; got {self.alpha!r}.")
        return alphas

    def _begin(self, rows: Rows) -> Self:
        """Learn from the first rows, which settle the hidden layer and alpha too."""
        alphas = self._alphas()
        if len(alphas) > 1 and not rows.can_leave_one_out:
            raise ValueError(
                "alpha is chosen by leaving one row out, which needs at least two rows of positive weight; got 1 "
                f"sample and alpha={self.alpha!r}. Pass more rows, or set alpha to a number."
            )
        layer = _HiddenLayer.drawn(rows, self)
        moments = Moments.of(layer, rows)
        spectrum = Spectrum.of(moments, layer(rows.X) if FEW * len(rows.X) < len(moments.center) else None)
        left_out = LeaveOneOut(layer, rows, moments, spectrum)
        alpha = left_out.best(alphas, self._precision(rows)) if len(alphas) > 1 else float(alphas[0])
        self._judge(rows, left_out.outputs(alpha) if rows.can_leave_one_out else None)
        self._layer, self.alpha_ = layer, alpha
        return self._set_coefficients(moments, spectrum.coefficients(alpha))

    def _go_on(self, rows: Rows) -> Self:
        """Learn from further rows."""
        if rows.targets.shape[1] != len(self._moments.target):
            raise ValueError(
                f"y has {rows.targets.shape[1]} target(s), but had {len(self._moments.target)} in the first call. Pass "
                "as many as before, or fit a clone."
            )
        moments = self._moments + Moments.of(self._layer, rows)
        return self._set_coefficients(moments, coefficients(moments, self.alpha_))

    def _set_coefficients(self, moments: Moments, coefficients: np.ndarray) -> Self:
        self._moments = moments
        self.coef_ = coefficients.T  # (k, h)
        self.intercept_ = moments.target - moments.center @ coefficients
        return self

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        parts = [self._layer(X[part]) @ self.coef_.T for part in gen_batches(len(X), BLOCK)]
        return np.concatenate(parts) + self.intercept_  # (n, k)


class ELMClassifier(ClassifierMixin, _ExtremeLearningMachine):
    """Classify by a random hidden layer and a ridge on it: a baseline that fits in tens of milliseconds.

    Features are standardised, a hidden layer of random weights follows that is never trained [1]_, and a ridge
    regression on codes of +1 and -1, one column per class, is solved exactly. Where ``alpha`` is to be chosen, it is by
    the squared error of exact leave-one-out, for all candidates from one decomposition [3]_. :meth:`partial_fit` goes
    on with further rows, as exactly [2]_.

    Parameters
    ----------
    n_hidden : int, default=500
        Random units. Accuracy rises slowly with them, and the time of ``fit`` with their cube.
    activation : {"relu", "tanh"}, default="relu"
        ``"tanh"`` is bounded, so that a row far from all others is not taken far.
    alpha : "loo", float or array-like of float, default="loo"
        Strength of the ridge's L2 penalty, as in ``Ridge``; positive. The intercept is not penalised. Hidden values are
        divided by the root of ``n_hidden``, so that a good alpha does not depend on it. Several numbers are candidates
        for leave-one-out; ``"loo"`` stands for 17 from 1e-5 to 1e3.
    direct_links : bool, default=False
        Whether the ridge sees the features beside the hidden values [5]_. Worth it after a
        :class:`PretrainedFeatureExtractor`, whose features are many and good as they are; ``fit`` then takes longer the
        more there are.
    class_weight : dict, "balanced" or None, default=None
        Factors of the classes in the loss; ``"balanced"`` makes classes count alike.
    random_state : int, RandomState instance or None, default=None
        Decides the random hidden layer.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels.
    alpha_ : float
        The alpha that was given or chosen.
    best_score_ : float
        Leave-one-out accuracy of the rows that settled ``alpha_``, weighted as in ``fit`` (so that it is the balanced
        accuracy where ``class_weight="balanced"``); NaN for a single row.
    temperature_ : float
        Number by which outputs are divided to become probabilities, fitted to leave-one-out outputs and smoothed labels
        [4]_.
    coef_ : ndarray of shape (1, n_hidden) or (n_classes, n_hidden)
        Coefficients of hidden values; one row for two classes. Features that are linked come after the hidden values.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.

    See Also
    --------
    ELMRegressor : The same for numbers.
    FineTunedClassifier : A pretrained network, partly or wholly frozen.

    Notes
    -----
    What is left out is left out of the ridge; means and scales of features are those of all rows. A row of weight 3
    counts as three rows, of which one is left out. Hidden values are computed 4096 rows at a time.

    References
    ----------
    .. [1] G.-B. Huang, Q.-Y. Zhu, C.-K. Siew (2006), "Extreme learning machine: theory and applications",
       Neurocomputing 70.
    .. [2] N.-Y. Liang et al. (2006), "A fast and accurate online sequential learning algorithm for feedforward
       networks", IEEE Transactions on Neural Networks 17.
    .. [3] R. Rifkin, R. Lippert (2007), "Notes on regularized least squares", MIT-CSAIL-TR-2007-025.
    .. [4] J. Platt (1999), "Probabilistic outputs for support vector machines and comparisons to regularized
       likelihood methods", Advances in Large Margin Classifiers.
    .. [5] Y.-H. Pao, G.-H. Park, D. J. Sobajic (1994), "Learning and generalization characteristics of the random
       vector functional-link net", Neurocomputing 6.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skltransfer import ELMClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> classifier = ELMClassifier(n_hidden=100, random_state=0).fit(X[::2], y[::2])
    >>> classifier.score(X[1::2], y[1::2]) > 0.9
    True
    >>> classifier.predict_proba(X[:1]).shape
    (1, 3)
    """

    _parameter_constraints: dict = {
        **_ExtremeLearningMachine._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        n_hidden: int = 500,
        *,
        activation: str = "relu",
        alpha: str | float | list = "loo",
        direct_links: bool = False,
        class_weight: dict | str | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.activation = activation
        self.alpha = alpha
        self.direct_links = direct_links
        self.class_weight = class_weight
        self.random_state = random_state

    @checks_parameters()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Draw the hidden layer, and solve the ridge on it.

        Parameters
        ----------
        X : array-like of shape (n, f)
        y : array-like of shape (n,)
            Labels, of at least two classes.
        sample_weight : array-like of shape (n,), default=None
            Not negative; rows of weight zero are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, X, y or a weight is not what it should be.
        """
        X, y, weights = self._checked_labels(X, y, sample_weight, reset=True)
        self.classes_ = np.unique(y)
        return self._begin(self._rows(X, y, weights))

    @checks_parameters()
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn from further rows, exactly: the ridge is that of all rows so far.

        The first call (or ``fit``) settles what depends on more than sums over rows: means and scales of features,
        ``alpha_``, ``best_score_`` and ``temperature_``. So it should hold rows of all kinds. This is recursive least
        squares (Liang et al. 2006) that carries the moments of hidden values rather than an inverse, so that rounding
        does not grow.

        Parameters
        ----------
        X : array-like of shape (n, f)
        y : array-like of shape (n,)
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a label is new, or ``class_weight="balanced"``, which needs all rows at once.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all rows at once, and partial_fit has some. Pass a dict, or "
                "weights as sample_weight."
            )
        begins = not hasattr(self, "_moments")
        _check_partial_fit_first_call(self, classes)
        X, y, weights = self._checked_labels(X, y, sample_weight, reset=begins)
        new = np.setdiff1d(y, self.classes_)
        if len(new):
            raise ValueError(
                f"y has labels {new.tolist()!r} that are not among the classes {self.classes_.tolist()!r} of the first "
                "call. Name all labels in its classes=, or fit a clone."
            )
        rows = self._rows(X, y, weights)
        return self._begin(rows) if begins else self._go_on(rows)

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the ridge: near 1 for the class, near -1 for the others.

        Parameters
        ----------
        X : array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes), or (n,) for two classes
            For two classes, positive values speak for ``classes_[1]``.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """The most likely label of each row.

        Parameters
        ----------
        X : array-like of shape (n, f)

        Returns
        -------
        ndarray of shape (n,)
        """
        best = _logits(self._outputs(X)).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Softmax of the outputs over ``temperature_``.

        A ridge makes no probabilities. Outputs are divided by the one number that makes the labels most likely under
        leave-one-out, smoothed as by Platt (1999) so that it is finite where all are right. That is honest on average
        over rows like the first ones, and not for each kind of row.

        Parameters
        ----------
        X : array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        logits = _logits(self._outputs(X))
        return softmax(logits / self.temperature_, axis=1)

    def _checked_labels(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[np.ndarray, ...]:
        X, y, weights = self._checked(X, y, sample_weight, reset=reset)
        check_classification_targets(y)
        return X, column_or_1d(y, warn=True), weights

    def _rows(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Rows:
        if len(self.classes_) < 2:
            raise ValueError(
                f"A classifier needs at least two classes; got one class, {self.classes_.tolist()!r}, in rows of "
                "positive weight. Pass rows of another class."
            )
        targets = label_binarize(y, classes=self.classes_, neg_label=-1).astype(np.float64)
        factors = compute_class_weight(self.class_weight, classes=self.classes_, y=y, sample_weight=weights)
        if not (factors > 0).all():
            raise ValueError(f"class_weight must be positive for each class; got {self.class_weight!r}.")
        factors = factors[np.searchsorted(self.classes_, y)]
        return Rows(X, targets, weights * factors, np.minimum(weights, 1) * factors)

    def _precision(self, rows: Rows) -> np.ndarray:
        return np.ones(rows.targets.shape[1])

    def _judge(self, rows: Rows, left_out: np.ndarray | None) -> None:
        if left_out is None:
            self.best_score_, self.temperature_ = np.nan, 1.0
            return
        labels, logits = _logits(rows.targets).argmax(axis=1), _logits(left_out)
        self.best_score_ = float(accuracy_score(labels, logits.argmax(axis=1), sample_weight=rows.weights))
        self.temperature_ = _temperature(logits, labels, rows.weights)


class ELMRegressor(RegressorMixin, _ExtremeLearningMachine):
    """Predict numbers by a random hidden layer and a ridge on it: a baseline that fits in tens of milliseconds.

    Features are standardised, a hidden layer of random weights follows that is never trained [1]_, and a ridge
    regression is solved exactly. Where ``alpha`` is to be chosen, it is by the squared error of exact leave-one-out,
    for all candidates from one decomposition [3]_. :meth:`partial_fit` goes on with further rows, as exactly [2]_.

    Parameters
    ----------
    n_hidden : int, default=500
        Random units. Accuracy rises slowly with them, and the time of ``fit`` with their cube.
    activation : {"relu", "tanh"}, default="relu"
        ``"tanh"`` is bounded, so that a row far from all others is not taken far.
    alpha : "loo", float or array-like of float, default="loo"
        Strength of the ridge's L2 penalty, as in ``Ridge``; positive. The intercept is not penalised. Hidden values are
        divided by the root of ``n_hidden``, so that a good alpha does not depend on it. Several numbers are candidates
        for leave-one-out; ``"loo"`` stands for 17 from 1e-5 to 1e3.
    direct_links : bool, default=False
        Whether the ridge sees the features beside the hidden values [4]_. Worth it after a
        :class:`PretrainedFeatureExtractor`, whose features are many and good as they are; ``fit`` then takes longer the
        more there are.
    random_state : int, RandomState instance or None, default=None
        Decides the random hidden layer.

    Attributes
    ----------
    alpha_ : float
        The alpha that was given or chosen; one for all targets, whose errors count relative to their variance.
    best_score_ : float
        Leave-one-out R² of the rows that settled ``alpha_``, averaged over targets; NaN for a single row.
    coef_ : ndarray of shape (n_hidden,) or (n_targets, n_hidden)
        Coefficients of hidden values. Features that are linked come after them.
    intercept_ : float or ndarray of shape (n_targets,)
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.

    See Also
    --------
    ELMClassifier : The same for labels.
    FineTunedRegressor : A pretrained network, partly or wholly frozen.

    Notes
    -----
    What is left out is left out of the ridge; means and scales of features are those of all rows. A row of weight 3
    counts as three rows, of which one is left out. Hidden values are computed 4096 rows at a time.

    References
    ----------
    .. [1] G.-B. Huang, Q.-Y. Zhu, C.-K. Siew (2006), "Extreme learning machine: theory and applications",
       Neurocomputing 70.
    .. [2] N.-Y. Liang et al. (2006), "A fast and accurate online sequential learning algorithm for feedforward
       networks", IEEE Transactions on Neural Networks 17.
    .. [3] R. Rifkin, R. Lippert (2007), "Notes on regularized least squares", MIT-CSAIL-TR-2007-025.
    .. [4] Y.-H. Pao, G.-H. Park, D. J. Sobajic (1994), "Learning and generalization characteristics of the random
       vector functional-link net", Neurocomputing 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import ELMRegressor
    >>> X = np.linspace(-3, 3, 60)[:, None]
    >>> regressor = ELMRegressor(n_hidden=50, random_state=0).fit(X, np.sin(X[:, 0]))
    >>> regressor.predict([[1.0]]).round(2)
    array([0.84])
    """

    def __init__(
        self,
        n_hidden: int = 500,
        *,
        activation: str = "relu",
        alpha: str | float | list = "loo",
        direct_links: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.activation = activation
        self.alpha = alpha
        self.direct_links = direct_links
        self.random_state = random_state

    @checks_parameters()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Draw the hidden layer, and solve the ridge on it.

        Parameters
        ----------
        X : array-like of shape (n, f)
        y : array-like of shape (n,) or (n, n_targets)
        sample_weight : array-like of shape (n,), default=None
            Not negative; rows of weight zero are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, X, y or a weight is not what it should be.
        """
        X, y, weights = self._checked(X, y, sample_weight, multi_output=True, y_numeric=True, reset=True)
        self._is_flat = y.ndim == 1
        return self._begin(self._rows(X, y, weights))

    @checks_parameters()
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from further rows, exactly: the ridge is that of all rows so far.

        The first call (or ``fit``) settles what depends on more than sums over rows: means and scales of features,
        ``alpha_`` and ``best_score_``. So it should hold rows of all kinds. This is recursive least squares (Liang et
        al. 2006) that carries the moments of hidden values rather than an inverse, so that rounding does not grow.

        Parameters
        ----------
        X : array-like of shape (n, f)
        y : array-like of shape (n,) or (n, n_targets)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If y has another number of targets than before.
        """
        if not hasattr(self, "_moments"):
            return self.fit(X, y, sample_weight)
        X, y, weights = self._checked(X, y, sample_weight, multi_output=True, y_numeric=True, reset=False)
        return self._go_on(self._rows(X, y, weights))

    def predict(self, X: Any) -> np.ndarray:
        """The predicted number of each row.

        Parameters
        ----------
        X : array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,) or (n, n_targets)
        """
        return self._outputs(X)

    def _rows(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Rows:
        return Rows(X, y.astype(np.float64).reshape(len(y), -1), weights, np.minimum(weights, 1))

    def _precision(self, rows: Rows) -> np.ndarray:
        return StandardScaler().fit(rows.targets, sample_weight=rows.weights).scale_ ** -2

    def _judge(self, rows: Rows, left_out: np.ndarray | None) -> None:
        can_score = left_out is not None and len(left_out) > 1
        self.best_score_ = float(r2_score(rows.targets, left_out, sample_weight=rows.weights)) if can_score else np.nan

    def _set_coefficients(self, moments: Moments, coefficients: np.ndarray) -> Self:
        super()._set_coefficients(moments, coefficients)
        if self._is_flat:
            self.coef_, self.intercept_ = self.coef_[0], float(self.intercept_[0])
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _as_numbers(value: Any) -> np.ndarray:
    """(n,); NaN where a value is no number."""
    try:
        return np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        return np.array([np.nan])


def _logits(outputs: np.ndarray) -> np.ndarray:
    """A column per class, (n, classes), also where one column tells two classes apart."""
    return np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs


def _temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Where the smoothed labels' log-likelihood, which is concave in the inverse, is flat."""
    smoothing = 1 / (1 + weights.sum())
    taken = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    target = weights @ ((1 - smoothing) * taken + smoothing * logits.mean(axis=1))

    def slope(sharpness: float) -> float:
        return weights @ (softmax(np.exp(sharpness) * logits, axis=1) * logits).sum(axis=1) - target

    low, high = SHARPNESS
    if slope(low) >= 0:
        return float(np.exp(-low))
    return float(np.exp(-high)) if slope(high) <= 0 else float(np.exp(-brentq(slope, low, high, xtol=1e-13)))
