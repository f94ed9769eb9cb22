"""scikit-learn's own callbacks (from its version 1.9 on), called for a fit and for its epochs.

Promises that a fit without callbacks, or under an older scikit-learn, costs and does nothing here. Must not know what
an epoch is.
"""

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""


class FitCallbacks:
    """Calls an estimator's callbacks; the fit is a task, its epochs are subtasks.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        Estimator that is fitted.
    X, y, sample_weight : object
        Arguments of ``fit``.
    n_epochs : int
        Maximum number of epochs.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, n_epochs: int) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(**self._told)

    def epoch_begins(self, attributes: Callable[[], dict[str, Any]]) -> None:
        """``attributes`` makes the fitted attributes as if ``fit`` ended here; it is called only if needed."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told, reconstruction_attributes=attributes)

    def epoch_ends(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """True if a callback wants the fit to end."""
        return self._epoch.call_on_fit_task_end(**self._told, reconstruction_attributes=attributes)

    def fit_ends(self) -> None:
        """Called when the estimator is fitted."""
        self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes=dict)


def fit_callbacks(estimator: Any, X: Any, y: Any, sample_weight: Any, n_epochs: int) -> FitCallbacks | None:
    """None where the estimator has no callbacks."""
    if not getattr(estimator, "_skl_callbacks", None):
        return None
    return FitCallbacks(estimator, X, y, sample_weight, n_epochs)
