"""Loss against epochs, out of a fitted estimator."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import check_is_fitted

from skltransfer._estimators.nested import network_of, place_of_network
from skltransfer.inspection._drawing import BLUE, GREY, ORANGE, axes_for


class TrainingHistoryDisplay:
    """Plot of the training and validation loss of each epoch.

    Use it to detect overfitting, or training that stopped too early. Create it with :meth:`from_estimator`; parameters
    are stored as attributes.

    Parameters
    ----------
    history : mapping of str to sequence of float
        Losses by name, with one value per epoch: ``loss`` and, if samples were held out, ``validation_loss``.
    loss_name : str
        Name of the loss, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot. Only defined after ``plot``.
    figure_ : matplotlib Figure
        Figure that contains the axes. Only defined after ``plot``.
    lines_ : list of matplotlib Line2D
        Lines of the losses. Only defined after ``plot``.

    See Also
    --------
    FineTunedClassifier : The estimator, whose ``history_`` is shown.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skltransfer import FineTunedClassifier, TrainingHistoryDisplay
    >>> digits = load_digits()
    >>> X, y = digits.images[:60] / 16, digits.target[:60]
    >>> model = FineTunedClassifier("toy:images", freeze_depth=0.5, early_stopping=True, max_epochs=3).fit(X, y)
    >>> display = TrainingHistoryDisplay.from_estimator(model)
    >>> sorted(display.history)
    ['loss', 'validation_loss']
    >>> display.plot().ax_.get_ylabel()
    'loss (nats per sample)'
    """

    def __init__(self, *, history: Mapping[str, Sequence[float]], loss_name: str = "loss") -> None:
        self.history = history
        self.loss_name = loss_name

    @classmethod
    def from_estimator(cls, estimator: Any) -> Self:
        """Create the display from the ``history_`` of a fitted estimator.

        Parameters
        ----------
        estimator : FineTunedClassifier or FineTunedRegressor
            Fitted estimator, a Pipeline that ends in one, or a search around either, whose refitted estimator is used.

        Returns
        -------
        TrainingHistoryDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the head was solved rather than trained, so that there were no epochs.
        """
        place_of_network(estimator)
        network = network_of(estimator)
        check_is_fitted(network)
        losses = {key: network.history_[key] for key in ("loss", "validation_loss") if key in network.history_}
        if "learning_rate" not in network.history_:
            raise ValueError(
                f"With freeze_depth={network.freeze_depth!r} all stages stayed frozen and the head was solved to "
                "convergence, without epochs: there is no history to draw. Set freeze_depth below 1.0."
            )
        return cls(history=losses, loss_name=_loss_name(network))

    def plot(self, ax: Any = None) -> Self:
        """Plot the losses. If samples were held out, a line marks the epoch with the lowest validation loss.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        Returns
        -------
        self : object
            The display, which holds the axes and the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.ax_ = ax = axes_for(ax, "TrainingHistoryDisplay.plot")
        self.figure_, self.lines_ = ax.figure, []
        styles = {"loss": (BLUE, "o", "training samples"), "validation_loss": (ORANGE, "s", "held-out samples")}
        for key, values in self.history.items():
            colour, marker, label = styles[key]
            epochs = np.arange(1, len(values) + 1)
            self.lines_ += ax.plot(epochs, values, color=colour, marker=marker, markersize=4, label=label)
        held_out = self.history.get("validation_loss")
        if held_out is not None:
            best = int(np.argmin(held_out)) + 1
            ax.axvline(best, color=GREY, linestyle="--", linewidth=1, label=f"least held-out loss: epoch {best}")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("epoch")
        ax.set_ylabel(self.loss_name)
        ax.legend(framealpha=1, edgecolor="none")  # the line at the least loss may pass behind it
        return self


def _loss_name(network: Any) -> str:
    """The loss with its unit; several losses that are added have none."""
    if is_regressor(network):
        return "loss (squared error of the standardised target)"
    labels_parts = hasattr(network, "predict_proba") and not hasattr(network, "transform")
    return "loss (nats per sample)" if is_classifier(network) or labels_parts else "loss"
