"""Does transfer help on these data? A pretrained network against baselines, on the same folds, with a verdict.

Promises that nothing of a test part is seen in training: what chooses among freeze depths does so inside each
training part. Must not know how a network is trained.
"""

import numbers
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import entropy
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.metrics import get_scorer_names
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skltransfer._estimators.nested import network_of
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner
from skltransfer._estimators.target_checks import checked_groups, ordered_categories, rows_of
from skltransfer._system.progress import progress_bar
from skltransfer._system.tables import frame
from skltransfer._system.validation import checks_arguments
from skltransfer.backbones import is_automatic
from skltransfer.inspection import TransferReportDisplay
from skltransfer.model_selection._advice import advice, reason, warnings_of
from skltransfer.model_selection._baselines import IN_WORDS, built, checked_baselines, unable
from skltransfer.model_selection._comparison import Comparison, corrected_t, holm, mcnemar, overall
from skltransfer.model_selection._composed import checked_networks, with_networks
from skltransfer.model_selection._evaluation import (
    Evaluated,
    Split,
    checked_splits,
    each_row_is_tested_once,
    evaluated,
    subsampled,
)
from skltransfer.model_selection._rendering import as_html, as_text, margin_in_words
from skltransfer.multi_task import MultiTaskFineTuner

POOLED = "exact McNemar on pooled out-of-fold predictions"
BY_FOLD = "Nadeau and Bengio's corrected t on the folds' scores"


@dataclass(frozen=True, repr=False)
class TransferReport:
    """Result of :func:`transfer_report`: scores, differences, a verdict and suggestions. Printing it shows a table.

    Attributes
    ----------
    table_ : list of dict
        One record per model, transfer first: ``name``, ``description``, ``score`` (on all rows if predictions are
        pooled, else the mean over folds) and its standard deviation ``std`` over folds, ``difference`` (transfer minus
        this baseline) with its 95 % confidence interval ``low`` and ``high``, ``p_value``, ``p_adjusted`` (Holm),
        ``verdict``, ``n_needed`` (number of labels needed for a decision), ``n_better`` and ``n_worse`` (rows that only
        transfer, and only the baseline, predicts correctly), ``fit_seconds``.
    curve_ : list of dict
        One record per size of the training sets and baseline: ``n_train``, ``name``, ``score_of_transfer``, ``score``,
        ``difference``, ``low``, ``high``. It is empty without ``target_sizes``.
    fold_scores_ : dict of str to ndarray of shape (n_folds,)
        Scores of each model on each fold, by name.
    verdict : {"HELPS", "HURTS", "NO DIFFERENCE", "CANNOT TELL"}
        Overall verdict over all baselines.
    reason : str
        Reason for the verdict, in one sentence.
    advice, warnings : list of str
        Suggestions of what to try next, and warnings derived from the training histories.
    depths : dict of str to int
        Names of the last frozen stages, with the number of folds in which each was chosen. It is empty if the network
        is not fine-tuned.
    scoring : str or callable
        Score that was compared.
    rope : float
        Half the width of the region of practical equivalence, in the unit of the score: smaller differences count as
        none.
    chance : float or None
        Fraction of the most frequent class, for the accuracy of a single target.
    n, n_folds : int
        Number of rows, and number of folds.
    n_classes : int or None
        Number of classes; None for numbers.
    test : str
        Statistical test from which the p-values come.

    See Also
    --------
    TransferReportDisplay : Plot of the report.
    transfer_report : Make the report.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FineTunedClassifier, transfer_report
    >>> X = np.random.default_rng(0).normal(size=(40, 8))
    >>> model = FineTunedClassifier("toy:rows", freeze_depth=1.0, random_state=0)
    >>> report = transfer_report(model, X, X[:, 0] > 0, cv=2, baselines=["linear"], random_state=0)
    >>> sorted(report.to_dict())[:3]
    ['advice', 'chance', 'curve']
    >>> [record["name"] for record in report.table_]
    ['transfer', 'linear']
    """

    table_: list[dict[str, Any]]
    curve_: list[dict[str, Any]]
    fold_scores_: dict[str, np.ndarray]
    verdict: str
    reason: str
    advice: list[str]
    warnings: list[str]
    depths: dict[str, int]
    scoring: str | Callable
    rope: float
    chance: float | None
    n: int
    n_folds: int
    n_classes: int | None
    test: str

    @property
    def scoring_name(self) -> str:
        """Name of the score, in words."""
        name = self.scoring if isinstance(self.scoring, str) else getattr(self.scoring, "__name__", "score")
        return name.replace("_", " ")

    def to_frame(self) -> Any:
        """Convert the table to a DataFrame, indexed by the name of the model.

        Returns
        -------
        pandas.DataFrame
            One row per model, with the entries of ``table_`` as columns.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed; ``table_`` holds the same values.
        """
        return frame(self.table_, index="name")

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to strings, numbers, lists and dicts that can be written as JSON.

        Returns
        -------
        dict
            All attributes by name, without trailing underscores.
        """
        plain = {key.removesuffix("_"): value for key, value in vars(self).items()}
        scores = {name: values.tolist() for name, values in self.fold_scores_.items()}
        return plain | {"fold_scores": scores, "scoring": self.scoring_name}

    def plot(self, ax: Any = None, *, kind: str = "differences") -> TransferReportDisplay:
        """Plot the report; see :class:`TransferReportDisplay`.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.
        kind : {"differences", "curve"}, default="differences"
            ``"differences"`` shows the difference between transfer and each baseline; ``"curve"`` shows it against the
            number of labels, which requires ``target_sizes``.

        Returns
        -------
        TransferReportDisplay
            Display that holds the axes and the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            If ``kind`` is not one of the choices, or ``kind="curve"`` and the report has no curve.
        """
        return TransferReportDisplay.from_report(self).plot(ax, kind=kind)

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        return f"TransferReport({self.verdict}: {self.reason})"

    def _repr_html_(self) -> str:
        return as_html(self)


@checks_arguments(
    {
        "estimator": [HasMethods(["fit", "predict", "get_params"])],
        "cv": ["cv_object"],
        "baselines": [str, list, tuple, Mapping, None],
        "target_sizes": ["array-like", None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "rope": [Interval(numbers.Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
)
def transfer_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = 5,
    groups: Any = None,
    baselines: Sequence[str] | Mapping[str, Any] | None = None,
    target_sizes: Sequence[int] | None = None,
    scoring: str | Callable | None = None,
    rope: float = 0.01,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> TransferReport:
    """Test whether transfer learning helps: compare a pretrained estimator with baselines on the same folds.

    Use it before you rely on a pretrained network for images, texts, audio or tables: it fits the estimator, the same
    network with random weights, and models without a network, and tests the differences. The network may be fine-tuned,
    or give its features to another model of scikit-learn, alone or beside other columns of a table.

    Transfer helps if it beats every baseline, and hurts if a baseline beats it [1]_. A difference counts if it is
    larger than ``rope`` and its p-value, adjusted for the number of baselines [2]_, is below .05. Accuracies are
    compared by McNemar's exact test on pooled out-of-fold predictions [3]_, for which 5 folds are enough; other scores,
    samples in groups, and folds that test a row more than once, by Nadeau and Bengio's corrected t-test [4]_.

    Parameters
    ----------
    estimator : estimator object
        A fine-tuning estimator such as :class:`FineTunedClassifier`, :class:`FineTunedRegressor` or
        :class:`FineTunedTagger` with pretrained weights, or a Pipeline that ends in one; or a Pipeline in which a
        classifier or regressor follows a :class:`PretrainedFeatureExtractor`, which may be in a ColumnTransformer, a
        FeatureUnion or another Pipeline; or a search around these. A search chooses its parameters, such as the freeze
        depth, within each training set. The estimator is cloned.
    X : sequence of samples, or array-like of shape (n_samples, n_features)
        Samples: images, texts or audio clips as the estimator reads them, or rows of a table.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels or numbers, one per sample; lists of tags for a :class:`FineTunedTagger`.
    cv : int, splitter or iterable of splits, default=5
        Cross-validation: number of shuffled folds (stratified for labels), a splitter, or an iterable of train and test
        indices.
    groups : array-like of shape (n_samples,), default=None
        Groups of the samples, such as patients. A number of folds then keeps each group in one fold, a splitter
        receives them, and so do a search around the estimator and the ``fit`` of a fine-tuned network at its end (with
        metadata routing, those that request them). None treats all samples as independent.
    baselines : sequence of str, mapping or None, default=None
        Models to compare with. None chooses all names below that apply to the estimator. Random weights differ between
        folds, and a search around the estimator is applied to the remaining parameters. Several networks in one
        estimator are exchanged or dropped together.

        - ``"scratch"`` is the same network trained from random weights, all stages for as many epochs at the same
          rates. It applies to fine-tuned networks.
        - ``"random"`` is the same network with random weights, frozen, with the same head or model after it.
        - ``"linear"`` (logistic or ridge regression) and ``"elm"`` (an extreme learning machine) use no network and
          read simple features: 16 x 16 pixels, weighted words and character n-grams, loudness by pitch, or the table
          itself. They apply if networks read all that the estimator reads, and predict labels or numbers, not tags.
        - ``"without"`` is the same Pipeline without the columns that networks give. It applies if a ColumnTransformer
          or FeatureUnion gives other columns, too.

        A mapping from names to these or to your own estimators, which receive X unchanged, adds other baselines.
    target_sizes : sequence of int, default=None
        Sizes of smaller training sets, to compare the models against the number of labels. None uses only the full
        training sets.
    scoring : str or callable, default=None
        Score: a name or scorer of scikit-learn. None is accuracy for labels, R² for numbers, and the estimator's own
        ``score`` for tags.
    rope : float, default=0.01
        Region of practical equivalence, in the unit of ``scoring``: a difference within ``±rope`` counts as none. The
        default is one point of accuracy.
    random_state : int, RandomState instance or None, default=None
        Controls the folds, the random weights and the smaller training sets; estimators keep their own
        ``random_state``. Pass an int for reproducible results.
    verbose : int, default=0
        If positive, show a progress bar.

    Returns
    -------
    TransferReport
        Report that prints as a table with a verdict.

    Raises
    ------
    ValueError
        If ``estimator`` holds no pretrained network, one that cannot be exchanged (for example because a search
        replaces it as a whole), or several tasks; if a baseline is unknown or does not apply, a class has fewer rows
        than folds, there are fewer groups than folds, or a target size does not fit.

    See Also
    --------
    sklearn.model_selection.cross_validate : Evaluate one estimator.
    task_report : Test whether the tasks of a multi-task model help each other.

    References
    ----------
    .. [1] Z. Wang et al. (2019), "Characterizing and avoiding negative transfer", CVPR.
    .. [2] S. Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
       Statistics 6.
    .. [3] T. Dietterich (1998), "Approximate statistical tests for comparing supervised classification learning
       algorithms", Neural Computation 10.
    .. [4] C. Nadeau, Y. Bengio (2003), "Inference for the generalization error", Machine Learning 52.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FineTunedClassifier, transfer_report
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 16))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = FineTunedClassifier("toy:rows", freeze_depth=1.0, random_state=0)
    >>> report = transfer_report(model, X, y, cv=3, baselines=["random", "linear"], random_state=0)
    >>> report.verdict  # a network that was never trained
    'HURTS'
    >>> report.reason
    "behind 'linear' by more than 1 point (p < .05, Holm-adjusted)."
    """
    networks = checked_networks(estimator)
    categories = ordered_categories(y)
    if categories is not None:
        estimator = with_networks(estimator, lambda network: _order(network, categories), {"class_order"})
        networks = checked_networks(estimator)
    is_structured = isinstance(network_of(estimator), StructuredFineTuner)
    _refuse_other_targets(estimator, networks, is_structured)
    named = checked_baselines(baselines, unable(estimator, X))
    check_consistent_length(X, y)
    y = rows_of(y) if is_structured else np.asarray(y)
    classifies = is_classifier(estimator)
    if scoring is None and not is_structured:
        scoring = "accuracy" if classifies else "r2"
    rng = check_random_state(random_state)
    groups = None if groups is None else checked_groups(groups, len(y))
    folds_seed = rng.randint(2**31 - 1)
    splits = checked_splits(5 if cv is None else cv, X, y, classifies=classifies, seed=folds_seed, groups=groups)
    seeds = rng.randint(2**31 - 1, size=len(splits))
    validation = _CrossValidation(estimator, networks, named, X, y, scoring, seeds, groups)
    sizes = [] if target_sizes is None else sorted({int(size) for size in target_sizes})
    seed = int(rng.randint(2**31 - 1))
    cuts = {size: subsampled(splits, y, size, classifies=classifies, seed=seed) for size in sizes}
    n_fits = (1 + len(named)) * len(splits) * (1 + len(cuts))
    with progress_bar(total=n_fits, desc="transfer_report", unit="fit", shown=verbose) as progress:
        by_size = {size: validation.on(cut, progress.update) for size, cut in cuts.items()}
        found = validation.on(splits, progress.update)
    return validation.report(splits, found, by_size, rope)


def _order(network: Any, categories: list[Any]) -> dict[str, Any]:
    """The order of labels that y itself has, as an array cannot keep it."""
    return {"class_order": categories} if getattr(network, "class_order", None) == "sorted" else {}


def _refuse_other_targets(estimator: Any, networks: Mapping[str, Any], is_structured: bool) -> None:
    """Several tasks have no score in common, by which they could be compared with baselines, nor have clusters."""
    if any(isinstance(network, MultiTaskFineTuner) for network in networks.values()):
        raise ValueError(
            "transfer_report compares models of one target, but a MultiTaskFineTuner has several tasks. Use "
            "task_report to ask whether tasks help each other, or pass a FineTunedClassifier or FineTunedRegressor and "
            "one column of y to ask whether transfer helps."
        )
    if not (is_structured or is_classifier(estimator) or is_regressor(estimator)):
        raise ValueError(
            f"transfer_report compares classifiers and regressors, and {network_of(estimator)!r} at the end of "
            "estimator is neither. Pass a Pipeline that ends in one."
        )


@dataclass(frozen=True)
class _CrossValidation:
    """Models, data and folds; the methods fit and compare."""

    estimator: Any
    networks: Mapping[str, Any]  # by place
    baselines: Mapping[str, str | BaseEstimator]
    X: Any
    y: np.ndarray
    scoring: str | Callable
    seeds: np.ndarray  # of random weights, one per fold
    groups: np.ndarray | None

    def on(self, splits: Sequence[Split], advance: Callable) -> dict[str, Evaluated]:
        """All models on these splits, by name."""
        return {name: self._evaluated(name, splits, advance) for name in ("transfer", *self.baselines)}

    def _evaluated(self, name: str, splits: Sequence[Split], advance: Callable) -> Evaluated:
        def make(fold: int) -> BaseEstimator:
            if name == "transfer":
                return clone(self.estimator)
            seed = int(self.seeds[fold])
            return built(self.baselines[name], self.estimator, y=self.y, seed=seed, scoring=self.scoring, X=self.X)

        try:
            return evaluated(make, self.X, self.y, splits, self.scoring, advance, self.groups)
        except Exception as error:
            error.add_note(f"while {name!r} of transfer_report was fitted")
            raise

    def report(
        self, splits: Sequence[Split], found: dict[str, Evaluated], by_size: dict, rope: float
    ) -> TransferReport:
        """The findings, in numbers and in words."""
        table = self._table(splits, found, rope)
        verdict = overall([record["verdict"] for record in table[1:]])
        transfer, is_accuracy = found["transfer"], self.scoring == "accuracy"
        by_size = by_size | {int(np.median([len(train) for train, _ in splits])): found} if by_size else {}
        return TransferReport(
            table_=table,
            curve_=[row for size, models in by_size.items() for row in self._curve(size, splits, models)],
            fold_scores_={name: one.scores for name, one in found.items()},
            verdict=verdict,
            reason=reason(verdict, table[1:], margin_in_words(rope, is_accuracy)),
            advice=advice(
                verdict,
                table[1:],
                rope=rope,
                trains_stages=2 * sum(len(h.get("loss", ())) > 1 for h in transfer.histories) > len(splits),
                is_searched=self._searches_depth(),
                is_repeated=not each_row_is_tested_once(splits, len(self.y)),
                place=next(iter(self.networks)),
                is_frozen=not any(hasattr(network, "freeze_depth") for network in self.networks.values()),
            ),
            warnings=warnings_of(transfer.histories, self._chance_loss()),
            depths=dict(Counter(filter(None, transfer.boundaries)).most_common()),
            scoring=self.scoring,
            rope=float(rope),
            chance=float(self._shares().max()) if is_accuracy and self.y.ndim == 1 else None,
            n=len(self.y),
            n_folds=len(splits),
            n_classes=len(self._shares()) if is_classifier(self.estimator) and self.y.ndim == 1 else None,
            test=POOLED if self._pools(splits) else BY_FOLD,
        )

    def _table(self, splits: Sequence[Split], found: Mapping[str, Evaluated], rope: float) -> list[dict[str, Any]]:
        comparisons = self._comparisons(splits, found)
        adjusted = holm([comparison.p_value for comparison in comparisons.values()])
        pools = self._pools(splits)
        table = [self._record("transfer", found["transfer"], pools)]
        for (name, comparison), p in zip(comparisons.items(), adjusted, strict=True):
            judged = {"p_adjusted": float(p), "verdict": comparison.verdict(p, rope)}
            judged["n_needed"] = comparison.n_needed(len(self.y), rope)
            table.append(self._record(name, found[name], pools) | _told(comparison) | judged)
        return table

    def _comparisons(self, splits: Sequence[Split], found: Mapping[str, Evaluated]) -> dict[str, Comparison]:
        """Transfer against each baseline."""
        ratio = float(np.mean([len(test) / len(train) for train, test in splits]))
        transfer = found["transfer"]
        if self._pools(splits):
            return {name: mcnemar(transfer.is_right, found[name].is_right) for name in self.baselines}
        return {name: corrected_t(transfer.scores, found[name].scores, ratio) for name in self.baselines}

    def _pools(self, splits: Sequence[Split]) -> bool:
        is_independent = self.groups is None  # rows of one group are right or wrong together
        return self.scoring == "accuracy" and is_independent and each_row_is_tested_once(splits, len(self.y))

    def _record(self, name: str, one: Evaluated, pools: bool) -> dict[str, Any]:
        return {
            "name": name,
            "description": self._description(name),
            "score": float(one.is_right.mean() if pools else one.scores.mean()),
            "std": float(one.scores.std(ddof=1)),
            "fit_seconds": one.seconds,
            **dict.fromkeys((*_told(None), "p_adjusted", "verdict", "n_needed")),
        }

    def _description(self, name: str) -> str:
        if name == "transfer":
            backbones = (network.backbone for network in self.networks.values())
            names = dict.fromkeys(str(getattr(backbone, "name", backbone)) for backbone in backbones)
            return f"transfer: {', '.join(names)}"
        baseline = self.baselines[name]
        words = IN_WORDS[baseline] if isinstance(baseline, str) else ""
        return f"{name}: {words}" if words else name

    def _curve(self, size: int, splits: Sequence[Split], found: Mapping[str, Evaluated]) -> list[dict[str, Any]]:
        transfer = float(found["transfer"].scores.mean())
        return [
            {
                "n_train": size,
                "name": name,
                "score_of_transfer": transfer,
                "score": float(found[name].scores.mean()),
                **{key: value for key, value in _told(comparison).items() if key in ("difference", "low", "high")},
            }
            for name, comparison in self._comparisons(splits, found).items()
        ]

    def _shares(self) -> np.ndarray:
        """How often each class occurs."""
        return np.unique(self.y, return_counts=True)[1] / len(self.y)

    def _searches_depth(self) -> bool:
        """True if each training part chooses a freeze depth of its own."""
        depths = (getattr(network, "freeze_depth", None) for network in self.networks.values())
        return isinstance(self.estimator, BaseSearchCV) or any(map(is_automatic, depths))

    def _chance_loss(self) -> float:
        """The loss of guessing by the shares alone; numbers are standardized in training."""
        if not is_classifier(self.estimator):
            return 1.0
        if self.y.ndim == 1:
            return float(entropy(self._shares()))
        shares = self.y.mean(axis=0)
        return float(entropy([shares, 1 - shares]).mean())


def _told(comparison: Comparison | None) -> dict[str, Any]:
    """A comparison's part of a record."""
    names = ("difference", "low", "high", "p_value", "n_better", "n_worse")
    return {name: getattr(comparison, name, None) for name in names}
