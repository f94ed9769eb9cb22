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
from skltransfer.inputs import PAIR, PAIRS, contained, split_columns
from skltransfer.inspection._drawing import BLUE, axes_for, name_stages, score_label, standard_errors


class LayerProbeDisplay:
    """Plot of the cross-validated score of a linear probe on the pooled features of each stage [1]_.

    Use it before any training for a first guess of ``freeze_depth``: after the stage with the highest score, later
    stages hold more information about the pretraining task than about yours. Confirm the guess with a search. Create
    the display with :meth:`from_backbone` or :meth:`from_estimator`; parameters are stored as attributes.

    Parameters
    ----------
    scores : ndarray of float, shape (n_stages, n_folds)
        Scores of each stage on each fold.
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
    FreezeDepthDisplay : Scores after training, for each freeze depth.
    score_transferability : Rank several backbones and their stages.

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
        """Create the display from a backbone. Each sample passes the network once.

        Parameters
        ----------
        backbone : str or Backbone
            Name of the backbone, or a network that :func:`load_backbone` returned.
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples: images, texts or audio clips as the backbone reads them, or rows of a table.
        y : array-like of shape (n_samples,)
            Labels, or numbers.
        cv : int, splitter or iterable of splits, default=5
            Cross-validation: number of shuffled folds (stratified for labels), a splitter, or an iterable of train and
            test indices.
        scoring : str or callable, default=None
            Score: a name or scorer of scikit-learn. None is accuracy for labels and R² for numbers.
        C, alpha : float or "auto", default="auto"
            Regularization of the probe: ``C`` of a logistic regression for labels, ``alpha`` of a ridge regression for
            numbers, as in :class:`FineTunedClassifier` and :class:`FineTunedRegressor`.
        random_state : int, RandomState instance or None, default=None
            Controls the shuffling of the folds. Pass an int for reproducible results.
        **parameters
            Further parameters of :class:`PretrainedFeatureExtractor`, such as ``weights``, ``pooling`` or
            ``image_shape``.

        Returns
        -------
        LayerProbeDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        BadSampleError
            If a sample cannot be read; the message names its row.
        ValueError
            If a parameter, X or y is invalid.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
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
        """Create the display from an estimator, with its backbone as it was before training.

        Parameters
        ----------
        estimator : FineTunedClassifier or FineTunedRegressor
            Fitted or unfitted estimator, or a search around it. Its parameters determine how samples are read; features
            of windows that vote are averaged.
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples: images, texts or audio clips as the backbone reads them, or rows of a table.
        y : array-like of shape (n_samples,)
            Labels, or numbers.
        cv : int, splitter or iterable of splits, default=5
            Cross-validation: number of shuffled folds (stratified for labels), a splitter, or an iterable of train and
            test indices.
        scoring : str or callable, default=None
            Score: a name or scorer of scikit-learn. None is accuracy for labels and R² for numbers.
        random_state : int, RandomState instance or None, default=None
            Controls the shuffling of the folds. Pass an int for reproducible results.

        Returns
        -------
        LayerProbeDisplay
            Display to be plotted with :meth:`plot`.

        Raises
        ------
        ValueError
            If ``estimator`` contains no network, or a pipeline changes X before the network.
        BadSampleError
            If a sample cannot be read; the message names its row.
        """
        if place_of_network(estimator).removeprefix("estimator__"):
            raise ValueError(
                f"In {estimator!r} steps before the network change X. Pass the network, and X as it comes to it."
            )
        network = network_of(estimator)
        shared = {k: v for k, v in network.get_params().items() if k in PretrainedFeatureExtractor().get_params()}
        extractor = PretrainedFeatureExtractor(**{k: v for k, v in shared.items() if k != "batch_size"})
        if extractor.window_pooling == "vote":
            extractor.set_params(window_pooling="mean")
        if getattr(network, "sample_column", None) is not None:
            X = split_columns(X, network.sample_column).items
        elif contained(X, extractor._loaded_backbone().modality, columns=PAIR).kind == PAIRS:
            extractor.set_params(columns=PAIR)
        probe = LogisticProbe(network.C) if is_classifier(network) else RidgeProbe(network.alpha)
        return cls._from(extractor, probe, X, np.asarray(y), cv, scoring, random_state)

    @classmethod
    def _from(cls, extractor, probe, X, y, cv, scoring, random_state) -> Self:
        backbone = extractor._loaded_backbone()
        pooling = extractor._resolved_pooling(backbone)
        features = extractor.set_params(layer=list(backbone.stage_names)).fit_transform(X)  # (n, sum of widths)
        ends = np.cumsum([backbone.pooled_width(stage + 1, pooling) for stage in range(backbone.n_stages)])
        folds = _folds(cv, is_classifier(probe), random_state)
        parts = np.split(features, ends[:-1], axis=1)
        return cls(
            scores=np.stack([cross_val_score(probe, part, y, cv=folds, scoring=scoring) for part in parts]),
            stage_names=backbone.stage_names,
            score_name=score_label(scoring, is_classifier(probe)),
        )

    def plot(self, ax: Any = None) -> Self:
        """Plot the mean score with its standard error for each stage.

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
