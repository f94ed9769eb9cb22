"""What transfer is compared with: the same network without its pretrained weights, and models without a network.

Promises that what surrounds the network (a pipeline, a search) stays, and that nothing is fitted here. Must not know
folds, tests or verdicts.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from skltransfer._estimators.nested import network_of, place_of_network
from skltransfer.backbones import Backbone, load_backbone
from skltransfer.model_selection._plain import linear_model, random_layer

WHOLE = {"adapter": None, "unfreeze_schedule": None}
# At the estimator's own rates and with norms that stay. At the head's rate, with norms that follow the data, a network
# from scratch does no better on few labels: two draws each, CIFAR-10 (10 per class) 17 % against 23 %, ants and bees
# 63 % against 66 %, digits (300) 94 % against 93 %.
NETWORKS = {"scratch": WHOLE | {"freeze_depth": 0.0}, "random": WHOLE | {"freeze_depth": 1.0}}
PLAIN = {"linear": linear_model, "elm": random_layer}
BASELINES = (*NETWORKS, *PLAIN)
IN_WORDS = {
    "scratch": "random weights, all stages trained",
    "random": "random weights, frozen",
    "linear": "linear model, no network",
    "elm": "random hidden layer, no network",
}


def checked_baselines(baselines: Any, *, is_structured: bool = False) -> dict[str, str | BaseEstimator]:
    """Names of baselines, each with one of :data:`BASELINES` or an estimator.

    Parameters
    ----------
    baselines : sequence of str, or mapping
        Baselines as the user passed them.
    is_structured : bool, default=False
        If True, targets are structures such as tags, which models without a network do not know.

    Raises
    ------
    ValueError
        If there is none, or one is neither.
    """
    if is_structured and baselines is BASELINES:
        baselines = tuple(NETWORKS)
    baselines = [baselines] if isinstance(baselines, str) else baselines
    named = dict(baselines) if isinstance(baselines, Mapping) else {name: name for name in baselines}
    for name, baseline in named.items():
        if name == "transfer" or not (hasattr(baseline, "fit") or baseline in BASELINES):
            raise ValueError(
                f"baselines must be names out of {BASELINES}, or a mapping of names other than 'transfer' to these or "
                f"to estimators of your own; got {name!r}: {baseline!r}."
            )
    unable = [name for name, baseline in named.items() if isinstance(baseline, str) and baseline in PLAIN]
    if is_structured and unable:
        raise ValueError(
            f"The baselines {unable} predict labels or numbers, and this estimator predicts neither. Choose out of "
            f"{tuple(NETWORKS)}, or pass an estimator of your own."
        )
    if not named:
        raise ValueError(f"baselines is empty; expected at least one of {BASELINES}, or an estimator of your own.")
    return named


def built(baseline: str | BaseEstimator, estimator: Any, *, y: np.ndarray, seed: int, scoring: Any) -> BaseEstimator:
    """The baseline that goes with an estimator.

    Parameters
    ----------
    baseline : str or estimator
        One of :data:`BASELINES`, or what is to be cloned.
    estimator : estimator
        With pretrained weights.
    y : ndarray
        Whose shape says whether a sample has several labels.
    seed : int
        Seed of what is random in it.
    scoring : str, callable or None
        By which a model without a network chooses its strength.
    """
    if not isinstance(baseline, str):
        return clone(baseline)
    network = network_of(estimator)
    if baseline in NETWORKS:
        changes = NETWORKS[baseline] | _random_weights(network.backbone, seed)
        return _changed(clone(estimator), {k: v for k, v in changes.items() if k in network.get_params()})
    return _replaced(clone(estimator), PLAIN[baseline](clone(network), y=y, seed=seed, scoring=scoring))


def _random_weights(backbone: str | Backbone, seed: int) -> dict[str, Any]:
    weights = f"random:{seed}"
    if isinstance(backbone, Backbone):
        return {"backbone": load_backbone(_without_weights(backbone.name), weights=weights, **backbone.options)}
    return {"backbone": _without_weights(backbone), "weights": weights}


def _without_weights(name: str) -> str:
    """``torchvision:resnet50:IMAGENET1K_V2`` -> ``torchvision:resnet50``."""
    return name if name.startswith("hf:") else ":".join(name.split(":")[:2])


def _changed(estimator: Any, changes: Mapping[str, Any]) -> Any:
    """With the network's parameters set, and no longer searched; a search over nothing is left out."""
    place = place_of_network(estimator)
    if isinstance(estimator, BaseSearchCV):
        inner = place.removeprefix("estimator__")
        estimator = _narrowed(estimator, {f"{inner}{name}" for name in changes})
        place = place if isinstance(estimator, BaseSearchCV) else inner
    return estimator.set_params(**{f"{place}{name}": value for name, value in changes.items()})


def _narrowed(search: BaseSearchCV, settled: Iterable[str]) -> Any:
    name = "param_grid" if hasattr(search, "param_grid") else "param_distributions"
    grid = getattr(search, name)
    grids = [grid] if isinstance(grid, Mapping) else grid
    kept = [{key: values for key, values in one.items() if key not in settled} for one in grids]
    kept = [one for one in kept if one]
    return search.set_params(**{name: kept}) if kept else search.estimator


def _replaced(estimator: Any, model: BaseEstimator) -> Any:
    """With ``model`` in the place of the network; what is searched belongs to the network, so a search is left out."""
    if isinstance(estimator, BaseSearchCV):
        return _replaced(estimator.estimator, model)
    if isinstance(estimator, Pipeline):
        return Pipeline([*estimator.steps[:-1], (estimator.steps[-1][0], _replaced(estimator.steps[-1][1], model))])
    return model
