"""A labeled source domain and an unlabeled target domain: classifiers for the target.

Promises that labels of target rows are never looked at, and that the caller's y is never written. Must not know torch,
backbones or kinds of samples.
"""

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

import skltransfer.domain_adaptation._domains as _domains
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_arguments, checks_parameters
from skltransfer.domain_adaptation._alignment import METHODS, Affine, Alignment
from skltransfer.exceptions import AdaptationWarning

FORGOTTEN = 0.3  # share of what labels told about the source that self-training may lose
SAFER = "Unless you can rule that out, keep to align='pooled' and self_training=0."
DRIFT = (
    "Self-training moved the target's labels away from what the source says: {:.0%} of what they told about source "
    "rows is lost (reverse_loss in domain_report_). It may well do harm; set self_training=0, or try align='coral' or "
    "'monge' before it."
)


class _Rows(NamedTuple):
    """Training rows after alignment."""

    source: np.ndarray  # (n_source, d)
    labels: np.ndarray  # (n_source,)
    target: np.ndarray  # (n_target, d)


def _if_estimator_has(method: str) -> Callable:
    def check(model: "FeatureAdaptedClassifier") -> bool:
        getattr(model.estimator_ if hasattr(model, "estimator_") else model._plain_estimator(), method)
        return True

    return available_if(check)


class FeatureAdaptedClassifier(VersionStamp, ClassifierMixin, BaseEstimator):
    """Classify rows of an unlabeled target domain, using labeled rows of a source domain.

    X is a table of numbers: embeddings of images, texts or audio from a :class:`PretrainedFeatureExtractor`, or any
    other features. Choose this class if the data to classify differ systematically from the labeled data and unlabeled
    rows of the target are available. It trains no network, so it is fast, works with any scikit-learn classifier and
    fits into a ``Pipeline`` or ``GridSearchCV``: the domains are encoded in y. :class:`DomainAdaptedClassifier`
    fine-tunes the network itself.

    Both domains are scaled or aligned, and a classifier is fitted on the source rows. It may then be fitted again with
    its own predictions for target rows (self-training).

    Parameters
    ----------
    estimator : classifier, default=None
        Classifier that is fitted on aligned rows. None is ``LogisticRegression(C=0.01, max_iter=1000)``.
    align : {"pooled", "per_domain", "coral", "monge"} or None, default="pooled"
        How the domains are made comparable. ``"pooled"`` divides each column by its largest spread, among source rows,
        target rows and both together, so that no column that varies in the target is magnified. ``"per_domain"``
        standardizes each domain separately. ``"coral"`` [1]_ and ``"monge"`` [2]_ scale like ``"pooled"`` and then map
        mean and covariance of source rows to those of target rows; covariances are shrunk [3]_, so there may be more
        columns than rows. None leaves rows unchanged.

        The default is the safest: the other alignments tend to reduce the accuracy if the fractions of the classes
        differ between the domains.
    self_training : int, default=0
        Number of rounds of self-training [4]_. In round i of n, the most confident fraction i/n of the target rows of
        each predicted class is added to the training set. The classifier needs ``predict_proba`` or
        ``decision_function``. 0 disables self-training.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels of source rows.
    estimator_ : classifier
        Classifier fitted on aligned rows.
    domain_report_ : dict
        Comparison of the domains. ``n_source`` and ``n_target`` are numbers of rows. ``proxy_a_distance`` measures how
        well a linear classifier separates the domains, from 0 (not at all) to 2 (without error) [5]_. ``source_score``
        is the accuracy on held-out source rows (3 folds). ``source_mix`` and ``target_mix`` are the predicted fractions
        of the classes, among held-out source rows and among target rows. Values that cannot be computed are NaN.

        ``label_shift`` is the distance, in [0, 1], between predicted fractions after pooled scaling and before
        self-training, where alignment cannot hide a difference; ``expected_error`` is the estimated error rate of these
        predictions for target rows. ``reverse_loss`` measures how much self-training damaged the labels of target rows:
        the fraction of the accuracy above chance, of a classifier that is fitted on target rows with predicted labels
        and tested on source rows, that is lost [6]_.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.

    Warns
    -----
    AdaptationWarning
        If ``fit`` receives no target row, if the predicted fractions of the classes suggest that they differ between
        the domains (label shift), or if self-training diverges from the source.

    See Also
    --------
    DomainAdaptedClassifier : Fine-tune a network for a target domain.
    importance_weighted_accuracy : Scorer that favors source rows similar to target rows.

    Notes
    -----
    Rows passed to ``predict`` are target rows, unless ``sample_domain`` says otherwise. Several sources count as one
    domain, and so do several targets.

    Label shift is reported if the distance between the predicted fractions exceeds 0.1, exceeds 0.55 of
    ``expected_error``, and is larger than chance explains (p < 0.01). Self-training is reported as divergent if
    ``reverse_loss`` exceeds 0.3.

    ``fit`` fits the classifier once, once more per round of self-training, and for the report three times on folds of
    the source, once if ``align`` can hide a difference between class fractions, and twice after self-training.

    References
    ----------
    .. [1] B. Sun, J. Feng, K. Saenko (2016), "Return of frustratingly easy domain adaptation", AAAI.
    .. [2] R. Flamary, K. Lounici, A. Ferrari (2019), "Concentration bounds for linear Monge mapping estimation and
       optimal transport domain adaptation", arXiv:1905.10155.
    .. [3] O. Ledoit, M. Wolf (2004), "A well-conditioned estimator for large-dimensional covariance matrices", Journal
       of Multivariate Analysis 88.
    .. [4] Y. Zou et al. (2018), "Unsupervised domain adaptation for semantic segmentation via class-balanced
       self-training", ECCV.
    .. [5] S. Ben-David et al. (2007), "Analysis of representations for domain adaptation", NIPS.
    .. [6] L. Bruzzone, M. Marconcini (2010), "Domain adaptation problems: a DASVM classification technique and a
       circular validation strategy", IEEE Transactions on Pattern Analysis and Machine Intelligence 32.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FeatureAdaptedClassifier
    >>> rng = np.random.default_rng(0)
    >>> kinds = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 3)) + 3 * kinds[:, None]
    >>> X[100:] += 1  # another camera
    >>> y = np.where(np.arange(200) < 100, kinds, -1)
    >>> model = FeatureAdaptedClassifier(align="per_domain").fit(X, y)
    >>> bool(model.score(X[100:], kinds[100:]) > 0.95)
    True
    >>> model.domain_report_["n_target"], model.domain_report_["target_mix"].round(1)
    (100, array([0.5, 0.5]))
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "align": [StrOptions(set(METHODS)), None],
        "self_training": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self, estimator: BaseEstimator | None = None, *, align: str | None = "pooled", self_training: int = 0
    ) -> None:
        self.estimator = estimator
        self.align = align
        self.self_training = self_training

    @checks_parameters(also_nested=True)
    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> Self:
        """Fit on labeled source rows and unlabeled target rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains.
        y : array-like of shape (n_samples,)
            Labels of source rows. Target rows are masked: by -1 among integers, NaN among other numbers, and None among
            objects such as strings. If there is only one other label, -1 is a label.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each row: non-negative for source rows, negative for target rows, whose y is then not used. It
            takes precedence over the mask in y, and is required if the labels are -1 and +1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or ``sample_domain`` is invalid, if the source has fewer than two classes, or if
            ``self_training`` is positive and ``estimator`` has neither ``predict_proba`` nor ``decision_function``.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        X = validate_data(self, X, dtype=np.float64)
        check_consistent_length(X, y)
        is_source = _domains.source_rows(y, sample_domain)
        labels = _domains.source_labels(y, is_source)
        estimator = self._plain_estimator()
        source, target = X[is_source], X[~is_source]
        alignment = _alignment(self.align, source, target)
        rows = _Rows(alignment.source(source), labels, alignment.target(target))
        first = clone(estimator).fit(rows.source, labels)
        last = _self_trained(first, estimator, rows, self.self_training)
        report, doubts = self._report(X, is_source, rows, first, last)
        for doubt in doubts:
            warnings.warn(doubt, AdaptationWarning, stacklevel=3)
        self.domain_report_, self.classes_ = report, np.unique(labels)
        self._alignment, self.estimator_ = alignment, last
        return self

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Predict the class label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each row: non-negative for source rows, negative for target rows. If None, all rows are target
            rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predicted labels.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has another number of features than in ``fit``, or ``sample_domain`` does not hold one integer per row.
        """
        return self._answer("predict", X, sample_domain)

    @_if_estimator_has("predict_proba")
    def predict_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Predict the probability of each class.

        The method exists if the classifier has it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each row: non-negative for source rows, negative for target rows. If None, all rows are target
            rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``.

        Raises
        ------
        AttributeError
            If the classifier has no such method.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has another number of features than in ``fit``, or ``sample_domain`` does not hold one integer per row.
        """
        return self._answer("predict_proba", X, sample_domain)

    @_if_estimator_has("predict_log_proba")
    def predict_log_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        The method exists if the classifier has it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each row: non-negative for source rows, negative for target rows. If None, all rows are target
            rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Logarithms of probabilities, in the order of ``classes_``.

        Raises
        ------
        AttributeError
            If the classifier has no such method.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has another number of features than in ``fit``, or ``sample_domain`` does not hold one integer per row.
        """
        return self._answer("predict_log_proba", X, sample_domain)

    @_if_estimator_has("decision_function")
    def decision_function(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Compute the classifier's decision values of aligned rows.

        The method exists if the classifier has it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each row: non-negative for source rows, negative for target rows. If None, all rows are target
            rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Decision values, as the classifier returns them.

        Raises
        ------
        AttributeError
            If the classifier has no such method.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has another number of features than in ``fit``, or ``sample_domain`` does not hold one integer per row.
        """
        return self._answer("decision_function", X, sample_domain)

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Compute the accuracy on labeled rows.

        If X holds rows of both domains, only the source rows are scored, because the labels of target rows are masked.
        ``GridSearchCV`` therefore scores held-out source rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.
        y : array-like of shape (n_samples,)
            True labels. If some rows are masked as in ``fit``, the others are source rows; if none is, all are target
            rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights of the score. None gives each sample the same weight.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each row, as in ``fit``. If rows of both domains are passed, only source rows are scored.

        Returns
        -------
        float
            Accuracy, in [0, 1].

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X has another number of features than in ``fit``, or ``sample_domain`` does not hold one integer per row.
        """
        check_is_fitted(self)
        is_source = _domains.source_rows(y, sample_domain, self.classes_)
        both = is_source.any() and not is_source.all()
        scored = is_source if both else np.ones(len(is_source), dtype=bool)
        as_source = is_source.any() and (both or sample_domain is not None)
        labels = self.predict(X, np.where(is_source, 1, -1) if as_source else None)
        weights = None if sample_weight is None else np.asarray(sample_weight)[scored]
        return accuracy_score(_domains.chosen_labels(y, scored), labels[scored], sample_weight=weights)

    def _answer(self, verb: str, X: Any, sample_domain: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        rows = self._alignment.target(X)
        if sample_domain is not None:
            check_consistent_length(X, sample_domain)
            is_source = _domains.source_rows(np.zeros(len(X)), sample_domain)
            rows[is_source] = self._alignment.source(X[is_source])
        return getattr(self.estimator_, verb)(rows)

    def _plain_estimator(self) -> BaseEstimator:
        return LogisticRegression(C=0.01, max_iter=1000) if self.estimator is None else self.estimator

    def _report(
        self, X: np.ndarray, is_source: np.ndarray, rows: _Rows, first: Any, last: Any
    ) -> tuple[dict[str, Any], list[str]]:
        """The content of ``domain_report_``, and warnings."""
        classes = np.unique(rows.labels)
        held_out = _domains.held_out_predictions(self._plain_estimator(), rows.source, rows.labels)
        known = rows.labels if held_out is None else held_out
        report = {
            "n_source": len(rows.source),
            "n_target": len(rows.target),
            "proxy_a_distance": _domains.proxy_a_distance(X, is_source),
            "source_score": np.nan if held_out is None else accuracy_score(rows.labels, held_out),
            "source_mix": _domains.class_mix(known, classes),
            "target_mix": np.full(len(classes), np.nan),
            "label_shift": np.nan,
            "expected_error": np.nan,
            "reverse_loss": np.nan,
        }
        if not len(rows.target):
            return report, [_domains.NO_TARGET]
        report["target_mix"] = _domains.class_mix(last.predict(rows.target), classes)
        model, target = self._before_alignment(X, is_source, rows, first)
        predicted = model.predict(target)
        error = report["expected_error"] = _domains.expected_error(model, target, report["source_score"])
        shift = report["label_shift"] = _domains.mix_distance(
            report["source_mix"], _domains.class_mix(predicted, classes)
        )
        is_shift = _domains.is_label_shift(known, predicted, classes, error)
        doubts = [_domains.LABEL_SHIFT.format(shift, SAFER)] if is_shift else []
        if self.self_training:
            loss = report["reverse_loss"] = self._reverse_loss(rows, first, last)
            doubts += [DRIFT.format(loss)] if loss > FORGOTTEN else []
        return report, doubts

    def _before_alignment(
        self, X: np.ndarray, is_source: np.ndarray, rows: _Rows, model: Any
    ) -> tuple[Any, np.ndarray]:
        """A model that does not hide other shares of classes, and target rows as it takes them.

        Scaling per domain and the like make the mixes equal by force, so a model after pooled scaling is asked.
        """
        target = rows.target
        if self.align not in (None, "pooled"):
            pooled = Alignment.fitted("pooled", X[is_source], X[~is_source]).target
            model = clone(self._plain_estimator()).fit(pooled(X[is_source]), rows.labels)
            target = pooled(X[~is_source])
        return model, target

    def _reverse_loss(self, rows: _Rows, first: Any, last: Any) -> float:
        """Fraction of the accuracy of target labels on source rows, above chance, that self-training loses."""
        before, after = (self._taught_by_target(rows, model.predict(rows.target)) for model in (first, last))
        chance = np.unique(rows.labels, return_counts=True)[1].max() / len(rows.labels)
        return float((before - after) / (before - chance)) if before > chance else 0.0

    def _taught_by_target(self, rows: _Rows, labels: np.ndarray) -> float:
        """Accuracy on source rows of a model that has seen target rows alone, with these labels."""
        if len(np.unique(labels)) < 2:
            return float((rows.labels == labels[0]).mean())
        return accuracy_score(rows.labels, clone(self._plain_estimator()).fit(rows.target, labels).predict(rows.source))


def _alignment(method: str | None, source: np.ndarray, target: np.ndarray) -> Alignment:
    if method is None:
        unchanged = Affine(np.zeros(source.shape[1]), np.ones(source.shape[1]))
        return Alignment(unchanged, unchanged)
    return Alignment.fitted(method, source, target)


def _self_trained(model: Any, estimator: BaseEstimator, rows: _Rows, n_rounds: int) -> Any:
    """The model after rounds of learning its own surest labels of target rows, more in each round."""
    for n_done in range(n_rounds if len(rows.target) else 0):
        labels = model.predict(rows.target)
        taken = _surest_of_each(labels, _sureness(model, rows.target), (n_done + 1) / n_rounds)
        X, y = np.concatenate([rows.source, rows.target[taken]]), np.concatenate([rows.labels, labels[taken]])
        model = clone(estimator).fit(X, y)
    return model


def _sureness(model: Any, X: np.ndarray) -> np.ndarray:
    """Highest probability or decision value of each row, (n,)."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(X).max(axis=1)
    if not hasattr(model, "decision_function"):
        raise ValueError(
            "self_training needs a classifier that has predict_proba or decision_function, for its confidence; got "
            f"{model!r}. Take another estimator, or set self_training=0."
        )
    values = model.decision_function(X)
    return np.abs(values) if values.ndim == 1 else values.max(axis=1)


def _surest_of_each(labels: np.ndarray, sureness: np.ndarray, share: float) -> np.ndarray:
    """Positions of this share of the rows of each label, the surest ones."""
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.argsort(-sureness[members], kind="stable")
        chosen.append(members[order[: int(np.ceil(share * len(members)))]])
    return np.sort(np.concatenate(chosen))


@checks_arguments({"estimator": [HasMethods(["score"])], "X": "no_validation", "y": ["array-like"]})
def importance_weighted_accuracy(estimator: Any, X: Any, y: Any) -> float:
    """Score a classifier on source rows, weighted by their similarity to target rows.

    Use it as ``scoring=importance_weighted_accuracy`` of ``GridSearchCV`` if target rows have no labels to score with
    [1]_. The weight of a source row is the odds of being a target row that a cross-validated logistic regression
    predicts for it.

    Parameters
    ----------
    estimator : fitted classifier or Pipeline
        Classifier to score. In a pipeline, the domains are compared in the features that reach its last step.
    X : sequence of samples, or array-like of shape (n_samples, n_features)
        Held-out rows of both domains; for a pipeline, samples that it reads.
    y : array-like of shape (n_samples,)
        Labels of source rows. Target rows are masked as in :class:`FeatureAdaptedClassifier`.

    Returns
    -------
    float
        Weighted accuracy, in [0, 1].

    Raises
    ------
    ValueError
        If a domain has fewer than 2 rows.

    Notes
    -----
    If the domains hardly overlap, a few rows carry nearly all the weight and the score is mostly noise.

    References
    ----------
    .. [1] M. Sugiyama, M. Krauledat, K.-R. Müller (2007), "Covariate shift adaptation by importance weighted cross
       validation", Journal of Machine Learning Research 8.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skltransfer import FeatureAdaptedClassifier, importance_weighted_accuracy
    >>> X = np.random.default_rng(0).normal(size=(120, 2))
    >>> X[60:] += 0.2
    >>> y = np.where(np.arange(120) < 60, X[:, 0] > 0, -1)
    >>> grid = {"align": ["pooled", "coral"]}
    >>> search = GridSearchCV(FeatureAdaptedClassifier(), grid, scoring=importance_weighted_accuracy, cv=3).fit(X, y)
    >>> search.cv_results_["mean_test_score"].shape
    (2,)
    """
    is_source = _domains.source_rows(y, classes=estimator.classes_)
    features = estimator[:-1].transform(X) if isinstance(estimator, Pipeline) and len(estimator) > 1 else X
    probability = np.clip(_domains.target_probability(np.asarray(features), is_source), 1e-6, 1 - 1e-6)
    weights = np.where(is_source, probability / (1 - probability), 0)
    return float(estimator.score(X, y, sample_weight=weights))
