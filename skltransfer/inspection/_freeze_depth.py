"""Score against freeze depth, out of a fitted search."""

from typing import Any, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from skltransfer._estimators.nested import network_of, place_of_network
from skltransfer.backbones import freeze_boundary, is_automatic
from skltransfer.inspection._drawing import BLUE, ORANGE, axes_for, name_stages, score_label, standard_errors


class FreezeDepthDisplay:
    """Plot of the score against the freeze depth, from a fitted search.

    Use it to see how many stages of a backbone should be frozen. Create it with :meth:`from_search`; parameters are
    stored as attributes.

    Parameters
    ----------
    boundaries : ndarray of int, shape (n_depths,)
        Numbers of frozen stages, increasing.
    scores : ndarray of float, shape (n_depths, n_folds)
        Scores of each depth on each fold.
    stage_names : sequence of str
        Names of the backbone's stages, from the input to the output.
    score_name : str
        Name of the score, with its unit if it has one.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot. Only defined after ``plot``.
    figure_ : matplotlib Figure
        Figure that contains the axes. Only defined after ``plot``.
    errorbar_ : matplotlib ErrorbarContainer
        Means and standard errors. Only defined after ``plot``.

    See Also
    --------
    LayerProbeDisplay : Scores of the stages before any training.
    freeze_depth_grid : Freeze depths worth searching.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skltransfer import FineTunedClassifier, FreezeDepthDisplay
    >>> digits = load_digits()
    >>> model = FineTunedClassifier("toy:images", max_epochs=1, random_state=0)
    >>> search = GridSearchCV(model, {"freeze_depth": [1.0, -1, "block1"], "C": [0.01, 0.1]}, cv=2)
    >>> display = FreezeDepthDisplay.from_search(search.fit(digits.images[:60] / 16, digits.target[:60]))
    >>> display.boundaries
    array([2, 3, 4])
    >>> display.plot().ax_.get_ylabel()
    'accuracy (mean ± standard error, 2 folds)'
    """

    def __init__(
        self, *, boundaries: np.ndarray, scores: np.ndarray, stage_names: tuple[str, ...], score_name: str = "score"
    ) -> None:
        self.boundaries = boundaries
        self.scores = scores
        self.stage_names = stage_names
        self.score_name = score_name

    @classmethod
    def from_search(cls, search: Any, *, metric: str | None = None) -> Self:
        """Create the display from a fitted search over ``freeze_depth``, alone or with other parameters.

        Depths may be fractions, negative numbers and names of stages; those that freeze the same stages are merged. Of
        several candidates with the same depth the best is shown, which favors depths with many candidates. If the
        search compares backbones, the candidates of the best one are shown; if it is a halving search, those of the
        last round that a depth reached. A candidate with ``freeze_depth="auto"`` has no place on the axis and is left
        out.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV or HalvingRandomSearchCV
            Fitted search.
        metric : str, default=None
            Score to show if the search computed several. None is the score by which the search refits.

        Returns
        -------
        FreezeDepthDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        ValueError
            If ``freeze_depth`` was not searched, all its values were ``"auto"``, or the search has no such metric.
        """
        check_is_fitted(search, "cv_results_")
        results, key = search.cv_results_, _searched_key(search)
        suffix = _suffix(search, metric)
        best = getattr(search, "best_index_", int(np.nanargmin(results[f"rank_test_{suffix}"])))
        place = key.removesuffix("freeze_depth")
        network = network_of(clone(search.estimator).set_params(**results["params"][best]))
        stages = network._loaded_backbone().stage_names
        chosen: dict[int, int] = {}
        for row, candidate in enumerate(results["params"]):
            depth = candidate.get(key, network.freeze_depth)
            if candidate.get(f"{place}backbone", network.backbone) == network.backbone and not is_automatic(depth):
                boundary = freeze_boundary(depth, stages)
                chosen[boundary] = _better(results, suffix, chosen.get(boundary, row), row)
        if not chosen:
            raise ValueError(
                f"Expected a search over depths; all candidates of this one have {key}='auto', which chooses a depth "
                "of its own in each fold. Search over numbers, such as freeze_depth_grid(backbone)."
            )
        boundaries = np.array(sorted(chosen))
        rows = [chosen[boundary] for boundary in boundaries]
        return cls(
            boundaries=boundaries,
            scores=np.stack([results[f"split{i}_test_{suffix}"][rows] for i in range(search.n_splits_)], axis=1),
            stage_names=stages,
            score_name=score_label(search.scoring, is_classifier(network)) if suffix == "score" else suffix,
        )

    def plot(self, ax: Any = None) -> Self:
        """Plot the mean score with its standard error against the last frozen stage.

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
        self.ax_ = ax = axes_for(ax, "FreezeDepthDisplay.plot")
        self.figure_ = ax.figure
        means = self.scores.mean(axis=1)
        errors = standard_errors(self.scores)
        self.errorbar_ = ax.errorbar(self.boundaries, means, errors, color=BLUE, marker="o", capsize=4)
        best = int(np.nanargmax(means))
        ax.plot(self.boundaries[best], means[best], "o", color=ORANGE, markersize=9, label="best mean", zorder=3)
        name_stages(ax, self.boundaries, self.stage_names)
        ax.set_xlabel("last frozen stage (later ones are trained)")
        ax.set_ylabel(f"{self.score_name} (mean ± standard error, {self.scores.shape[1]} folds)")
        ax.legend(frameon=False)
        return self


def _searched_key(search: Any) -> str:
    """The name under which the search varies the depth."""
    expected = f"{place_of_network(search.estimator)}freeze_depth"
    searched = sorted({key for candidate in search.cv_results_["params"] for key in candidate})
    if expected not in searched:
        raise ValueError(f"Expected a search over {expected!r}; got one over {searched}.")
    return expected


def _suffix(search: Any, metric: str | None) -> str:
    """The end of the names of test scores."""
    names = [key.removeprefix("mean_test_") for key in search.cv_results_ if key.startswith("mean_test_")]
    if metric is None:
        metric = search.refit if isinstance(search.refit, str) else names[0]
    metric = names[0] if names == ["score"] else metric
    if metric not in names:
        raise ValueError(f"metric must be one of {names}, got {metric!r}.")
    return metric


def _better(results: dict, suffix: str, one: int, other: int) -> int:
    """The candidate of the later round of halving; among equals, the one with the higher mean."""
    rounds, means = results.get("iter", np.zeros(len(results["params"]))), results[f"mean_test_{suffix}"]
    return max(one, other, key=lambda row: (rounds[row], np.nan_to_num(means[row], nan=-np.inf)))
