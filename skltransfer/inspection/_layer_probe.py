"""How much a linear head reads from each stage of a frozen backbone."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from skltransfer._estimators.nested import network_of, place_of_network
from skltransfer._estimators.probe import LogisticProbe, RidgeProbe
from skltransfer.backbones import Backbone
from skltransfer.feature_extraction import PretrainedFeatureExtractor
from skltransfer.inspection._drawing import BLUE, axes_for, name_stages, score_label, standard_errors


class LayerProbeDisplay:
    """The score of a linear probe on each stage's pooled features, by cross-validation [1]_.

    Make it with :meth:`from_backbone` or :meth:`from_estimator`; parameters are stored as attributes. Where it is
    highest, later stages know more of the source task than of yours: a first guess at ``freeze_depth``, to be confirmed
    by a search.

    Parameters
    ----------
    scores : ndarray of float, shape (n_stages, k)
        On each of k folds.
    stage_names : sequence of str
        Names of the backbone's stages, from the input on.
    score_name : str
        With its unit, if it has one.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbar_ : matplotlib ErrorbarContainer

    See Also
    --------
    FreezeDepthDisplay : What training from each boundary on gives.

    References
    ----------
    .. [1] G. Alain, Y. Bengio (2017), "Understanding intermediate layers using linear classifier probes", ICLR
       Workshop.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skltransfer import LayerProbeDisplay
    >>> digits = load_digits()
    >>> X, y = digits.images[:100] / 16, digits.target[:100]
    >>> display = LayerProbeDisplay.from_backbone("toy:images", X, y, cv=2, random_state=0)
    >>> display.scores.shape
    (4, 2)
    >>> display.plot().ax_.get_xlabel()
    'stage whose features the probe reads'
    """

    def __init__(self, *, scores: np.ndarray, stage_names: Sequence[str], score_name: str = "score") -> None:
        self.scores = scores
        self.stage_names = stage_names
        self.score_name = score_name

    @classmethod
    def from_backbone(
        cls,
        backbone: str | Backbone,
        X: Any,
        y: Any,
        *,
        cv: Any = 5,
        scoring: Any = None,
        C: float | str = "auto",
        alpha: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
        **parameters: Any,
    ) -> Self:
        """Probe a backbone's stages; each sample passes it once.

        Parameters
        ----------
        backbone : str or Backbone
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n,)
        cv : int, splitter or iterable of splits, default=5
            An int makes shuffled folds, stratified for labels.
        scoring : str or callable, default=None
            As in scikit-learn. None is accuracy for labels, r2 for numbers.
        C, alpha : float or "auto", default="auto"
            Strength of the probe, logistic regression for labels and ridge regression for numbers, as in
            :class:`FineTunedClassifier` and :class:`FineTunedRegressor`.
        random_state : int, RandomState instance or None, default=None
            Decides how folds are drawn.
        **parameters
            Further ones of :class:`PretrainedFeatureExtractor`: ``weights``, ``pooling``, ``image_shape`` …

        Returns
        -------
        LayerProbeDisplay
        """
        extractor = PretrainedFeatureExtractor(backbone, **parameters)
        probe = RidgeProbe(alpha) if type_of_target(y).startswith("continuous") else LogisticProbe(C)
        return cls._from(extractor, probe, X, np.asarray(y), cv, scoring, random_state)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        cv: Any = 5,
        scoring: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Self:
        """Probe the stages of an estimator's backbone as it was before training, read as the estimator reads it.

        Parameters
        ----------
        estimator : FineTunedClassifier or FineTunedRegressor
            Fitted or not; or a search around it.
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n,)
        cv : int, splitter or iterable of splits, default=5
            An int makes shuffled folds, stratified for labels.
        scoring : str or callable, default=None
            As in scikit-learn. None is accuracy for labels, r2 for numbers.
        random_state : int, RandomState instance or None, default=None
            Decides how folds are drawn.

        Returns
        -------
        LayerProbeDisplay

        Raises
        ------
        ValueError
            If there is no network in it, or a pipeline changes X before the network.
        """
        if place_of_network(estimator).removeprefix("estimator__"):
            raise ValueError(
                f"In {estimator!r} steps before the network change X. Pass the network, and X as it comes to it."
            )
        network = network_of(estimator)
        shared = {k: v for k, v in network.get_params().items() if k in PretrainedFeatureExtractor().get_params()}
        extractor = PretrainedFeatureExtractor(**{k: v for k, v in shared.items() if k != "batch_size"})
        probe = LogisticProbe(network.C) if is_classifier(network) else RidgeProbe(network.alpha)
        return cls._from(extractor, probe, X, np.asarray(y), cv, scoring, random_state)

    @classmethod
    def _from(cls, extractor, probe, X, y, cv, scoring, random_state) -> Self:
        backbone = extractor._loaded_backbone()
        pooling = extractor._resolved_pooling(backbone)
        features = extractor.set_params(layer=list(backbone.stage_names)).transform(X)  # (n, sum of widths)
        ends = np.cumsum([backbone.pooled_width(stage + 1, pooling) for stage in range(backbone.n_stages)])
        folds = _folds(cv, is_classifier(probe), random_state)
        parts = np.split(features, ends[:-1], axis=1)
        return cls(
            scores=np.stack([cross_val_score(probe, part, y, cv=folds, scoring=scoring) for part in parts]),
            stage_names=backbone.stage_names,
            score_name=score_label(scoring, is_classifier(probe)),
        )

    def plot(self, ax: Any = None) -> Self:
        """Draw means with standard errors, stage by stage.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        self.ax_ = ax = axes_for(ax, "LayerProbeDisplay.plot")
        self.figure_ = ax.figure
        places = np.arange(1, len(self.stage_names) + 1)
        errors = standard_errors(self.scores)
        self.errorbar_ = ax.errorbar(places, self.scores.mean(axis=1), errors, color=BLUE, marker="o", capsize=4)
        name_stages(ax, places, self.stage_names)
        ax.set_xlabel("stage whose features the probe reads")
        ax.set_ylabel(f"{self.score_name} of the probe (mean ± standard error, {self.scores.shape[1]} folds)")
        return self


def _folds(cv: Any, classifies: bool, random_state: Any) -> Any:
    """The same folds for each stage."""
    if not isinstance(cv, int | np.integer):
        return cv if hasattr(cv, "split") else list(cv)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    return (StratifiedKFold if classifies else KFold)(cv, shuffle=True, random_state=seed)
