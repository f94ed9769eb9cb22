"""What a fitted classifier answers: labels, probabilities, decision values, each read off the same outputs.

Must not know how outputs are made, nor what was trained.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from skltransfer.engine import ArrayTargets, ClassificationTask, MultilabelTask
from skltransfer.exceptions import BadSampleError


class ClassifierVerbs:
    """Prediction methods of classifiers that have a head and ``_run(X)``, which returns outputs and unreadable rows."""

    _task_: ClassificationTask | MultilabelTask
    _run: Callable[[Any], tuple[np.ndarray, dict[int, BadSampleError]]]

    def _label_positions(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Labels -> positions in ``classes_``, which are set unless an earlier fit did.

        Raises
        ------
        ValueError
            If there are fewer than two classes, or labels that an earlier fit did not know.
        """
        known = getattr(self, "classes_", None)
        self.classes_ = np.unique(y[weights > 0]) if known is None else known
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in y (of positive weight); got one "
                f"class: {self.classes_.tolist()[0]!r}."
            )
        if known is not None and not np.isin(y, known).all():
            raise ValueError(f"y holds labels {np.setdiff1d(y, known)!r} that are not among classes_={known!r}.")
        return np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)

    def _encode_labels(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        """Positions of labels in ``classes_``, (n,), or columns of 0 and 1, (n, k).

        Raises
        ------
        ValueError
            If y holds neither, or an earlier fit had other labels or another number of columns.
        """
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                f"y of shape {y.shape} is a multiclass-multioutput target, which is not supported: pass one column of "
                "labels, or a matrix of 0 and 1 (sklearn.preprocessing.MultiLabelBinarizer makes one of lists of "
                "labels). MultiTaskFineTuner and sklearn.multioutput.MultiOutputClassifier take a column per task."
            )
        if kind != "multilabel-indicator":
            return ArrayTargets(self._label_positions(column_or_1d(y, warn=True), weights))
        known = getattr(self, "classes_", None)
        if known is not None and len(known) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} columns of labels, but there are {len(known)} labels: {known!r}.")
        self.classes_ = np.arange(y.shape[1]) if known is None else known
        return ArrayTargets(y.astype(np.int64))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class label of each sample.

        For a multilabel target (:class:`FineTunedClassifier` and :class:`FewShotClassifier` only), each label with a
        probability above 0.5 is predicted. With ``class_order`` (:class:`FineTunedClassifier` only), the median class
        is predicted: a higher and a lower class have a probability of at most 0.5 each.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to classify: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            The most probable label of each sample, or the median one with ``class_order``; for a multilabel target, a
            matrix of 0 and 1.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read, also with ``on_bad_sample="nan"``, because no label stands for a missing
            prediction. Use :meth:`predict_proba` to get NaN instead.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        outputs, bad = self._run(X)
        if bad:
            raise bad[min(bad)]
        return self._task_.decode(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to classify: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``. Rows sum to 1, except for multilabel targets, whose labels do
            not exclude each other. With ``on_bad_sample="nan"``, a sample that cannot be read is NaN.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        outputs = self._run(X)[0]
        return self._task_.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to classify: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
            Logarithms of :meth:`predict_proba`, in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        outputs = self._run(X)[0]
        return self._task_.log_probabilities(outputs)

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the decision values of each sample.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to classify: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of float64, shape (n_samples,) or (n_samples, n_classes)
            For two classes, the log-odds of ``classes_[1]``; else one logit per class. For a multilabel target, the
            log-odds of each label. With ``class_order``, minus the expected absolute error of predicting each class, in
            ranks.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        outputs = self._run(X)[0]
        return self._task_.decision(outputs)
