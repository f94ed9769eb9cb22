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
    """Classify rows of numbers with an extreme learning machine, a fast baseline.

    X is a table of numbers, or embeddings of images, texts or audio from a :class:`PretrainedFeatureExtractor`. Choose
    this class as a fast nonlinear baseline, or for rows that arrive in parts: :meth:`partial_fit` gives the exact
    solution for all rows so far [2]_. No pretrained network is involved; for transfer learning see
    :class:`FineTunedClassifier`.

    Features are standardized and pass a hidden layer of random weights that is never trained [1]_. A ridge regression
    on the hidden values, with one target of +1 and -1 per class, is solved exactly. If ``alpha`` is to be chosen, the
    candidates are compared by the squared error of exact leave-one-out cross-validation, all from one decomposition
    [3]_.

    Parameters
    ----------
    n_hidden : int, default=500
        Number of random hidden units. The accuracy increases slowly with it, and the time of ``fit`` with its cube.
    activation : {"relu", "tanh"}, default="relu"
        Activation function of the hidden units. ``"tanh"`` is bounded, which limits the outputs for rows that are far
        from the training data.
    alpha : "loo", float or array-like of float, default="loo"
        Strength of the L2 penalty of the ridge regression, as in ``Ridge``; must be positive. The intercept is not
        penalized. Hidden values are divided by the square root of ``n_hidden``, so that a good value does not depend on
        it. Several numbers are candidates for leave-one-out cross-validation; ``"loo"`` stands for 17 candidates from
        1e-5 to 1e3.
    direct_links : bool, default=False
        If True, the ridge regression also receives the standardized features [5]_. This is useful after a
        :class:`PretrainedFeatureExtractor`, whose features are informative on their own; ``fit`` then takes longer, the
        more features there are.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss, as a dict from label to weight. ``"balanced"`` weights classes inversely to
        their frequency, which counteracts class imbalance. None weights all rows equally.
    random_state : int, RandomState instance or None, default=None
        Controls the random weights of the hidden layer. Pass an int for reproducible results.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    alpha_ : float
        Value of ``alpha`` that was passed or chosen.
    best_score_ : float
        Leave-one-out accuracy of the rows that determined ``alpha_``, weighted as in ``fit`` (so it is the balanced
        accuracy with ``class_weight="balanced"``). It is NaN for a single row.
    temperature_ : float
        Number by which outputs are divided before the softmax, fitted to leave-one-out outputs and smoothed labels
        [4]_.
    coef_ : ndarray of shape (1, n_hidden) or (n_classes, n_hidden)
        Coefficients of the hidden values, followed by those of the features if ``direct_links=True``. There is one row
        for two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercept of each output.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.

    See Also
    --------
    ELMRegressor : Predict numbers with an extreme learning machine.
    FineTunedClassifier : Fine-tune a pretrained network to predict class labels.

    Notes
    -----
    Leave-one-out applies to the ridge regression; means and scales of the features are those of all rows. A row of
    weight 3 counts as three rows, one of which is left out. Hidden values are computed for 4096 rows at a time.

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
        """Draw the hidden layer and solve the ridge regression.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. Rows of weight zero are left out; None gives each row the weight 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or ``sample_weight`` is invalid, or if y has fewer than two classes.
        """
        X, y, weights = self._checked_labels(X, y, sample_weight, reset=True)
        self.classes_ = np.unique(y)
        return self._begin(self._rows(X, y, weights))

    @checks_parameters()
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Update the fit with further rows. The result is the exact ridge regression on all rows so far.

        The first call, or ``fit``, determines everything that depends on more than sums over rows: the means and scales
        of the features, ``alpha_``, ``best_score_`` and ``temperature_``. It should therefore receive a representative
        sample. The method is a form of recursive least squares (Liang et al. 2006) that stores the moments of the
        hidden values rather than an inverse, so that rounding errors do not accumulate.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to add.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur. It is required in the first call and may be left out afterwards.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. Rows of weight zero are left out; None gives each row the weight 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or ``sample_weight`` is invalid, if ``classes`` is missing in the first call, if y
            holds a label that is not among them, or if ``class_weight="balanced"``, which needs all rows at once.
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
        """Compute the outputs of the ridge regression.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        ndarray of float64, shape (n_samples,) or (n_samples, n_classes)
            One output per class, near 1 for the predicted class and near -1 for the others. For two classes, a single
            output that is positive for ``classes_[1]``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or has another number of features than in ``fit``.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predicted labels.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or has another number of features than in ``fit``.
        """
        best = _logits(self._outputs(X)).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class.

        Probabilities are the softmax of the outputs divided by ``temperature_``, the number that maximizes the
        leave-one-out likelihood of the labels, smoothed as by Platt (1999) so that it is finite if all are correct.
        They are calibrated on average over rows like those of the first call, not for each group of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``; rows sum to 1.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or has another number of features than in ``fit``.
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
    """Predict numbers from rows of numbers with an extreme learning machine, a fast baseline.

    X is a table of numbers, or embeddings of images, texts or audio from a :class:`PretrainedFeatureExtractor`. Choose
    this class as a fast nonlinear baseline, or for rows that arrive in parts: :meth:`partial_fit` gives the exact
    solution for all rows so far [2]_. No pretrained network is involved; for transfer learning see
    :class:`FineTunedRegressor`.

    Features are standardized and pass a hidden layer of random weights that is never trained [1]_. A ridge regression
    on the hidden values is solved exactly. If ``alpha`` is to be chosen, the candidates are compared by the squared
    error of exact leave-one-out cross-validation, all from one decomposition [3]_.

    Parameters
    ----------
    n_hidden : int, default=500
        Number of random hidden units. The accuracy increases slowly with it, and the time of ``fit`` with its cube.
    activation : {"relu", "tanh"}, default="relu"
        Activation function of the hidden units. ``"tanh"`` is bounded, which limits the outputs for rows that are far
        from the training data.
    alpha : "loo", float or array-like of float, default="loo"
        Strength of the L2 penalty of the ridge regression, as in ``Ridge``; must be positive. The intercept is not
        penalized. Hidden values are divided by the square root of ``n_hidden``, so that a good value does not depend on
        it. Several numbers are candidates for leave-one-out cross-validation; ``"loo"`` stands for 17 candidates from
        1e-5 to 1e3.
    direct_links : bool, default=False
        If True, the ridge regression also receives the standardized features [4]_. This is useful after a
        :class:`PretrainedFeatureExtractor`, whose features are informative on their own; ``fit`` then takes longer, the
        more features there are.
    random_state : int, RandomState instance or None, default=None
        Controls the random weights of the hidden layer. Pass an int for reproducible results.

    Attributes
    ----------
    alpha_ : float
        Value of ``alpha`` that was passed or chosen. It is the same for all targets, whose errors count relative to
        their variance.
    best_score_ : float
        Leave-one-out R² of the rows that determined ``alpha_``, averaged over targets. It is NaN for a single row.
    coef_ : ndarray of shape (n_hidden,) or (n_targets, n_hidden)
        Coefficients of the hidden values, followed by those of the features if ``direct_links=True``.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept of each target.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.

    See Also
    --------
    ELMClassifier : Predict class labels with an extreme learning machine.
    FineTunedRegressor : Fine-tune a pretrained network to predict numbers.

    Notes
    -----
    Leave-one-out applies to the ridge regression; means and scales of the features are those of all rows. A row of
    weight 3 counts as three rows, one of which is left out. Hidden values are computed for 4096 rows at a time.

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
        """Draw the hidden layer and solve the ridge regression.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. Rows of weight zero are left out; None gives each row the weight 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or ``sample_weight`` is invalid.
        """
        X, y, weights = self._checked(X, y, sample_weight, multi_output=True, y_numeric=True, reset=True)
        self._is_flat = y.ndim == 1
        return self._begin(self._rows(X, y, weights))

    @checks_parameters()
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Update the fit with further rows. The result is the exact ridge regression on all rows so far.

        The first call, or ``fit``, determines everything that depends on more than sums over rows: the means and scales
        of the features, ``alpha_`` and ``best_score_``. It should therefore receive a representative sample. The method
        is a form of recursive least squares (Liang et al. 2006) that stores the moments of the hidden values rather
        than an inverse, so that rounding errors do not accumulate.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to add.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. Rows of weight zero are left out; None gives each row the weight 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or ``sample_weight`` is invalid, or if y has another number of targets than in the
            first call.
        """
        if not hasattr(self, "_moments"):
            return self.fit(X, y, sample_weight)
        X, y, weights = self._checked(X, y, sample_weight, multi_output=True, y_numeric=True, reset=False)
        return self._go_on(self._rows(X, y, weights))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the target values of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        ndarray of float64, shape (n_samples,) or (n_samples, n_targets)
            Predicted values.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or has another number of features than in ``fit``.
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
    """A column per class, (n, classes), also if one column separates two classes."""
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
