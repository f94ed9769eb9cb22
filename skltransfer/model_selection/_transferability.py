"""Candidates, each a backbone read at a stage, ranked by what their features say about targets.

Promises that each sample passes each backbone once, for any number of layers and metrics; that all candidates meet
the same folds; and that no winner is named that the folds do not distinguish from another. Must not know how features
are computed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import StrOptions

from skltransfer._system.progress import progress_bar
from skltransfer._system.tables import aligned, frame
from skltransfer._system.validation import checks_arguments
from skltransfer.backbones import Backbone, layer_boundary
from skltransfer.feature_extraction import PretrainedFeatureExtractor
from skltransfer.model_selection._comparison import corrected_error
from skltransfer.model_selection._grid import freeze_depth_grid
from skltransfer.model_selection._scores import (
    Splits,
    checked_target,
    fold_scores,
    h_score,
    knn_model,
    leep_score,
    log_me_score,
    nce_score,
    probe_model,
    splits_of,
    trans_rate_score,
)

OF_FOLDS = ("probe", "knn")
OF_FEATURES = {"log_me": log_me_score, "h": h_score, "trans_rate": trans_rate_score}
OF_SOURCE_HEAD = ("leep", "nce")
OF_NUMBERS = ("probe", "knn", "log_me")  # the others need labels
METRICS = (*OF_FOLDS, *OF_FEATURES, *OF_SOURCE_HEAD)
CONFIDENCE = 0.95
AUTO_LAYERS = 4


@dataclass(frozen=True)
class TransferabilityCandidate:
    """A backbone that is read at one stage, with its scores; an entry of :class:`TransferabilityRanking`.

    Attributes
    ----------
    name : str
        Name of the backbone, with its weights and input size if they are not the default ones.
    backbone : str or Backbone
        The backbone as it was passed; use it as ``backbone`` of an estimator.
    layer : str
        Name of the stage; use it as ``layer`` of :class:`PretrainedFeatureExtractor`.
    n_features : int
        Number of features of the pooled output of this stage.
    score : float
        Score by the first metric; higher is better.
    standard_error : float or None
        Standard error of ``score``, corrected for overlapping training sets (Nadeau and Bengio). None if the metric has
        no folds.
    fold_scores : tuple of float or None
        Scores on the folds, whose mean is ``score``. None if the metric has no folds.
    scores : dict of str to float
        Scores by metric.
    source_domain : str or None
        Data set on which the accuracy of the pretrained weights was measured.
    source_accuracy : float or None
        Top-1 accuracy of the pretrained weights on that data set, in [0, 1]; None if it is not known.
    seconds : float
        Time of the pass through the backbone, which all its stages share, and of the scores, in seconds. The pass takes
        little time if its activations are cached.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import score_transferability
    >>> X, y = np.random.default_rng(0).random((20, 16, 16)), np.arange(20) % 2
    >>> candidate = score_transferability("toy:images", X, y, "knn", layers=["block2"]).candidates[0]
    >>> candidate.layer, candidate.n_features, list(candidate.scores)
    ('block2', 32, ['knn'])
    """

    name: str
    backbone: str | Backbone
    layer: str
    n_features: int
    score: float
    standard_error: float | None
    fold_scores: tuple[float, ...] | None
    scores: dict[str, float]
    source_domain: str | None
    source_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class TransferabilityRanking:
    """Result of :func:`score_transferability`: candidates, best first. Printing it shows a table with a verdict.

    Attributes
    ----------
    candidates : tuple of TransferabilityCandidate
        Candidates, best first.
    metrics : tuple of str
        Names of the metrics; the first one determines the order.
    n_samples : int
        Number of samples.
    test_share : float or None
        Average ratio of test to training samples in a fold; None if the first metric has no folds.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import score_transferability
    >>> X, y = np.random.default_rng(0).random((20, 16, 16)), np.arange(20) % 2
    >>> ranking = score_transferability("toy:images", X, y, layers=["stem", "block3"])
    >>> ranking.metrics, len(ranking.candidates), len(ranking.contenders)  # labels are noise: none is better
    (('probe', 'log_me'), 2, 2)
    """

    candidates: tuple[TransferabilityCandidate, ...]
    metrics: tuple[str, ...]
    n_samples: int
    test_share: float | None

    @property
    def contenders(self) -> tuple[TransferabilityCandidate, ...]:
        """The first candidate and all candidates that do not differ significantly from it.

        Two candidates differ if the 95 % confidence interval of their mean difference over the same folds, corrected
        for overlapping training sets [1]_, excludes zero. If the first metric has no folds, all candidates are
        contenders.

        References
        ----------
        .. [1] C. Nadeau, Y. Bengio (2003), "Inference for the generalization error", Machine Learning 52.
        """
        first = self.candidates[0]
        return (first, *(other for other in self.candidates[1:] if not self._is_behind(first, other)))

    @property
    def winner(self) -> TransferabilityCandidate | None:
        """The first candidate if it differs significantly from all others; else None."""
        return self.candidates[0] if len(self.contenders) == 1 else None

    def _is_behind(self, first: TransferabilityCandidate, other: TransferabilityCandidate) -> bool:
        if self.test_share is None:
            return False
        differences = np.subtract(first.fold_scores, other.fold_scores)
        reach = student.ppf(0.5 + CONFIDENCE / 2, len(differences) - 1) * corrected_error(differences, self.test_share)
        return bool(differences.mean() > reach)

    def to_frame(self) -> Any:
        """Convert the ranking to a DataFrame with one row per candidate, best first.

        Returns
        -------
        pandas.DataFrame
            Attributes and scores of the candidates as columns.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        names = [
            field.name for field in fields(TransferabilityCandidate) if field.name not in ("scores", "fold_scores")
        ]
        return frame({name: getattr(c, name) for name in names} | c.scores for c in self.candidates)

    def __str__(self) -> str:
        ranked_by = self.metrics[0] if self.test_share is None else f"{self.metrics[0]} ± standard error"
        head = f"{len(self.candidates)} candidates on {self.n_samples} samples, best first by {ranked_by}"
        return "\n".join([head, *_table(self), self._verdict()])

    __repr__ = __str__

    def _verdict(self) -> str:
        first, others = self.candidates[0], self.contenders[1:]
        if len(self.candidates) == 1:
            return "One candidate: nothing to compare."
        if self.test_share is None:
            return f"No winner is named: {self.metrics[0]} gives no interval. The probe does."
        by = f"by 95 % intervals over {len(first.fold_scores)} folds"
        if not others:
            return f"Winner, {by}: {first.name} at {first.layer!r}."
        return (
            f"No winner: {by}, {len(others)} of the others may be as good as {first.name} at {first.layer!r}.\n"
            "Take the cheapest of these contenders, or label more."
        )


def _table(ranking: TransferabilityRanking) -> list[str]:
    rows = [["backbone", "layer", "features", *ranking.metrics, "source accuracy", "s"]]
    for c in ranking.candidates:
        scores = [f"{c.scores[metric]:.3f}" for metric in ranking.metrics]
        if c.standard_error is not None:
            scores[0] += f" ± {c.standard_error:.3f}"
        source = "unknown" if c.source_accuracy is None else f"{c.source_accuracy:.1%} {c.source_domain}"
        rows.append([c.name, c.layer, str(c.n_features), *scores, source, f"{c.seconds:.1f}"])
    return aligned(rows, n_left=2)


@checks_arguments(
    {
        "backbones": ["array-like", str, Backbone],
        "y": ["array-like"],
        "metric": ["array-like", StrOptions(set(METRICS))],
        "layers": ["array-like", StrOptions({"auto", "all"})],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "extractor": [PretrainedFeatureExtractor, None],
        "verbose": ["verbose"],
    }
)
def score_transferability(
    backbones: str | Backbone | Sequence[str | Backbone],
    X: Any,
    y: ArrayLike,
    metric: str | Sequence[str] = ("probe", "log_me"),
    *,
    layers: str | Sequence[str | float] = "auto",
    cv: Any = 5,
    scoring: str | Callable | None = None,
    task: str = "auto",
    extractor: PretrainedFeatureExtractor | None = None,
    verbose: int = 0,
) -> TransferabilityRanking:
    """Rank backbones, and the stages at which to read them, by scores on labeled samples, without fine-tuning.

    Use it to choose a pretrained network for images, texts, audio or tables before you train anything. Each sample
    passes each backbone once and its activations are cached, so that a later fit or search with the same cache reuses
    them.

    Parameters
    ----------
    backbones : str, Backbone, or sequence of these
        Backbones to compare: names, or networks that :func:`load_backbone` returned. Pass a single backbone to compare
        its stages.
    X : sequence of samples, or array-like of shape (n_samples, n_features)
        Samples: images, texts or audio clips as the backbones read them, or rows of a table.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels, a 0/1 matrix with one column per label, or numbers.
    metric : str or sequence of str, default=("probe", "log_me")
        Metrics; the first one determines the order. ``"probe"`` and ``"knn"`` are cross-validated and have confidence
        intervals. ``"log_me"``, ``"h"`` and ``"trans_rate"`` are computed from all features at once. ``"leep"`` and
        ``"nce"`` use the predictions of the pretrained weights' own classification head, whichever the layer. Each
        metric is a function of :mod:`skltransfer.model_selection`, such as ``probe_score``.
    layers : {"auto", "all"} or sequence of str or float, default="auto"
        Stages at which each backbone is read. ``"auto"`` takes four evenly spaced stages that include the last one,
        ``"all"`` takes all stages, and a sequence lists names or fractions as in :class:`PretrainedFeatureExtractor`.
        Metrics of the pretrained head use only the last stage.
    cv : int, splitter or iterable, default=5
        Cross-validation of ``"probe"`` and ``"knn"``, as in :func:`sklearn.model_selection.cross_val_score`. All
        candidates are evaluated on the same folds.
    scoring : str or callable, default=None
        Score of ``"probe"``: a name or scorer of scikit-learn. None is accuracy for labels and R² for numbers.
    task : {"auto", "classification", "regression"}, default="auto"
        Type of the target. ``"auto"`` treats numbers that are not whole as a regression target, and anything else as
        labels.
    extractor : PretrainedFeatureExtractor, default=None
        Extractor with further settings, such as ``image_shape``, ``pooling`` or ``cache``. A copy of it reads each
        candidate, with ``backbone`` and ``layer`` replaced.
    verbose : int, default=0
        If positive, show a progress bar over backbones.

    Returns
    -------
    TransferabilityRanking
        Ranking that prints as a table with a verdict.

    Raises
    ------
    ValueError
        If a parameter is invalid, or a metric cannot be computed for a candidate.
    BadSampleError
        If a sample cannot be read; the message names its row.
    BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
        As :func:`load_backbone` raises them.

    See Also
    --------
    freeze_depth_grid : Freeze depths worth searching, once a backbone is chosen.
    transfer_report : Test whether transfer learning helps.

    Notes
    -----
    A score ranks candidates on one data set and cannot be compared across data sets. It ranks frozen features, and
    therefore backbones. It does not say how many stages to freeze in fine-tuning: the best stage to read is often not
    the best boundary. Search over :func:`freeze_depth_grid` instead.

    Among networks that were pretrained on ImageNet, their ImageNet accuracy is a strong prior, so the table shows it
    next to the scores.

    References
    ----------
    K. You et al. (2021), "LogME: practical assessment of pre-trained models for transfer learning", ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import load_backbone, score_transferability
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.random((60, 16, 16)) * 0.5, np.repeat(["above", "below"], 30)
    >>> X[:30, :8] += 0.4
    >>> X[30:, 8:] += 0.4
    >>> backbones = ["toy:images", load_backbone("toy:images", weights="random:1")]
    >>> ranking = score_transferability(backbones, X, y, layers=["stem", "block3"])
    >>> [(candidate.name, candidate.layer) for candidate in ranking.candidates][0]
    ('toy:images', 'block3')
    >>> ranking.winner is None  # another may be as good
    True
    """
    backbones = [backbones] if isinstance(backbones, str | Backbone) else list(backbones)
    if not backbones:
        raise ValueError("backbones must name at least one candidate, got none. list_backbones() names them.")
    plan = _planned(metric, layers, X, y, task, cv, scoring)
    template = PretrainedFeatureExtractor() if extractor is None else extractor
    candidates = [
        candidate
        for backbone in progress_bar(backbones, desc="backbones", unit="backbone", shown=verbose)
        for candidate in _candidates(plan, clone(template).set_params(backbone=backbone), X)
    ]
    candidates.sort(key=lambda candidate: -candidate.score)
    return TransferabilityRanking(tuple(candidates), plan.metrics, len(plan.y), plan.test_share)


@dataclass(frozen=True)
class _Plan:
    """The measurements of every candidate."""

    metrics: tuple[str, ...]
    layers: Any
    y: np.ndarray
    kind: str
    splits: Splits
    scoring: Any

    @property
    def test_share(self) -> float | None:
        if self.metrics[0] not in OF_FOLDS:
            return None
        return float(np.mean([len(test) / len(train) for train, test in self.splits]))

    def on_folds(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Scores per fold, (k,), of those metrics that have folds."""
        models = {"probe": probe_model(self.kind), "knn": knn_model(self.kind)}
        scorings = {"probe": self.scoring, "knn": None}
        return {
            metric: fold_scores(models[metric], features, self.y, self.splits, scorings[metric])
            for metric in self.metrics
            if metric in OF_FOLDS
        }

    def on_features(self, features: np.ndarray) -> dict[str, float]:
        """Scores of those metrics that look at features once."""
        options = {"log_me": {"task": "regression" if self.kind == "regression" else "auto"}}
        return {
            metric: OF_FEATURES[metric](features, self.y, **options.get(metric, {}))
            for metric in self.metrics
            if metric in OF_FEATURES
        }


def _planned(metric: Any, layers: Any, X: Any, y: ArrayLike, task: str, cv: Any, scoring: Any) -> _Plan:
    metrics = (metric,) if isinstance(metric, str) else tuple(dict.fromkeys(metric))
    if not metrics or not set(metrics) <= set(METRICS):
        raise ValueError(f"metric must be one or several of {list(METRICS)}, got {metric!r}.")
    y, kind = checked_target(y, task)
    check_consistent_length(X, y)
    if kind == "regression" and not set(metrics) <= set(OF_NUMBERS):
        raise ValueError(f"metric={metric!r} needs labels, but y holds numbers. Choose from {list(OF_NUMBERS)}.")
    splits = splits_of(y, kind, cv) if set(metrics) & set(OF_FOLDS) else []
    layers = ["penultimate"] if set(metrics) <= set(OF_SOURCE_HEAD) else layers
    return _Plan(metrics, layers, y, kind, splits, scoring)


def _candidates(plan: _Plan, extractor: PretrainedFeatureExtractor, X: Any) -> Iterator[TransferabilityCandidate]:
    """One backbone's candidates, of one pass."""
    start = time.perf_counter()
    backbone = extractor._loaded_backbone()
    of_layers = _features_of_layers(extractor, backbone, plan.layers, X)
    of_head = _source_head_scores(plan, extractor, backbone, X)
    passed = time.perf_counter() - start
    domain, accuracy = backbone.source_accuracy or (None, None)
    for layer, features in of_layers.items():
        start = time.perf_counter()
        folds = plan.on_folds(features)
        scores = of_head | plan.on_features(features) | {metric: float(f.mean()) for metric, f in folds.items()}
        ranked = folds.get(plan.metrics[0])
        yield TransferabilityCandidate(
            name=_name(backbone),
            backbone=extractor.backbone,
            layer=layer,
            n_features=features.shape[1],
            score=scores[plan.metrics[0]],
            standard_error=None if ranked is None else corrected_error(ranked, plan.test_share),
            fold_scores=None if ranked is None else tuple(map(float, ranked)),
            scores={metric: scores[metric] for metric in plan.metrics},
            source_domain=domain,
            source_accuracy=accuracy,
            seconds=passed + time.perf_counter() - start,
        )


def _features_of_layers(
    extractor: PretrainedFeatureExtractor, backbone: Backbone, layers: Any, X: Any
) -> dict[str, np.ndarray]:
    """Features (n, d) by stage, of one call of the extractor."""
    boundaries = _boundaries(backbone, layers)
    names = [backbone.stage_names[boundary - 1] for boundary in boundaries]
    pooling = extractor._resolved_pooling(backbone)
    ends = np.cumsum([backbone.pooled_width(boundary, pooling) for boundary in boundaries])
    features = extractor.set_params(layer=names).transform(X).astype(np.float64)
    return dict(zip(names, np.split(features, ends[:-1], axis=1), strict=True))


def _boundaries(backbone: Backbone, layers: Any) -> list[int]:
    """Where to read, without repetition; ascending where the choice is ours."""
    if isinstance(layers, str):
        depths = backbone.stage_names if layers == "all" else freeze_depth_grid(backbone, AUTO_LAYERS + 1)[1:]
    else:
        depths = layers
    return list(dict.fromkeys(layer_boundary(depth, backbone.stage_names, "layers") for depth in depths))


def _name(backbone: Backbone) -> str:
    notes = [] if backbone.weights == "pretrained" else [str(backbone.weights)]
    notes += [f"{backbone.options['input_size']} px"] if backbone.options.get("input_size") else []
    notes += [f"{len(backbone.options['bands'])} bands"] if backbone.options.get("bands") else []
    notes += [backbone.options["resize"]] if backbone.options.get("resize") else []
    return f"{backbone.name} ({', '.join(notes)})" if notes else backbone.name


def _source_head_scores(
    plan: _Plan, extractor: PretrainedFeatureExtractor, backbone: Backbone, X: Any
) -> dict[str, float]:
    """Score of the predictions of the pretrained weights' own head."""
    asked = [metric for metric in plan.metrics if metric in OF_SOURCE_HEAD]
    if not asked:
        return {}
    if backbone.classes is None:
        raise ValueError(
            f"metric={asked[0]!r} reads the head that the weights were trained with, but {_name(backbone)!r} "
            f"has none with known classes. Choose another metric, one of {[*OF_FOLDS, *OF_FEATURES]}."
        )
    proba = _source_proba(extractor, backbone, X)
    scores = {"leep": leep_score(proba, plan.y), "nce": nce_score(proba.argmax(axis=1), plan.y)}
    return {metric: scores[metric] for metric in asked}


def _source_proba(extractor: PretrainedFeatureExtractor, backbone: Backbone, X: Any) -> np.ndarray:
    """Probabilities of source classes, (n, source classes), in a pass of its own, which is not remembered."""
    samples = extractor._samples(X, backbone, reset=False)
    size, proba = backbone.inference_batch(), []
    for start in range(0, len(samples), size):
        rows = range(start, min(start + size, len(samples)))
        inputs = torch.stack([backbone.preprocessing(samples.read(row)) for row in rows])
        proba.append(backbone.source_outputs(inputs).double().softmax(dim=1).numpy())
    return np.vstack(proba)
