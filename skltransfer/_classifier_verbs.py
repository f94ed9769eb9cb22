"""What a fitted classifier answers: labels, probabilities, decision values, each read off the same outputs.

Must not know how outputs are made, nor what was trained.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from skltransfer.engine import ClassificationHead, MultilabelHead
from skltransfer.exceptions import BadSampleError


class ClassifierVerbs:
    """For estimators with a head, and with ``_run(X)``: outputs, a row per sample, and what could not be read."""

    _head_: ClassificationHead | MultilabelHead
    _run: Callable[[Any], tuple[np.ndarray, dict[int, BadSampleError]]]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each sample; of a multilabel target, the labels that are more likely than not.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of shape (n,), or of 0 and 1, shape (n, n_classes)

        Raises
        ------
        BadSampleError
            If a sample cannot be read: there is no label that would say so.
        """
        outputs, bad = self._run(X)
        if bad:
            raise bad[min(bad)]
        return self._head_.decode(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            Rows sum to 1, but for multilabel targets, whose labels do not exclude each other; a row that could not be
            read is NaN, where ``on_bad_sample="nan"``.
        """
        outputs = self._run(X)[0]
        return self._head_.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        return np.log(self.predict_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the head: log-odds of the second class, or one logit per class.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,) for two classes, else (n, n_classes): of a multilabel target, log-odds of each
        """
        outputs = self._run(X)[0]
        return self._head_.decision(outputs)
