"""What a fitted classifier answers: labels, probabilities, decision values, each read off the same outputs.

Must not know how outputs are made, nor what was trained.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from skltransfer.engine import ClassificationTask, MultilabelTask
from skltransfer.exceptions import BadSampleError


class ClassifierVerbs:
    """For estimators with a head, and with ``_run(X)``: outputs, a row per sample, and what could not be read."""

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

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each sample.

        For a multilabel target, which :class:`FineTunedClassifier` takes, the labels that are more likely than not.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of shape (n,), or of 0 and 1 and shape (n, n_classes) for a multilabel target

        Raises
        ------
        BadSampleError
            If a sample cannot be read: there is no label that would say so.
        """
        outputs, bad = self._run(X)
        if bad:
            raise bad[min(bad)]
        return self._task_.decode(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            Rows sum to 1, except for multilabel targets (:class:`FineTunedClassifier` only), whose labels do not
            exclude each other. A row that could not be read is NaN, where ``on_bad_sample="nan"``.
        """
        outputs = self._run(X)[0]
        return self._task_.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        outputs = self._run(X)[0]
        return self._task_.log_probabilities(outputs)

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the head: log-odds of the second class, or one logit per class.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,) for two classes, else (n, n_classes)
            For a multilabel target (:class:`FineTunedClassifier` only), log-odds of each label.
        """
        outputs = self._run(X)[0]
        return self._task_.decision(outputs)
