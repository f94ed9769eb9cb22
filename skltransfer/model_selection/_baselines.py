"""What transfer is compared with: the same network without its pretrained weights, and models without a network.

Promises that what surrounds the network (a pipeline, a search) stays, and that nothing is fitted here. Must not know
folds, tests or verdicts.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier

from skltransfer._estimators.nested import network_of
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner
from skltransfer.backbones import Backbone, load_backbone
from skltransfer.model_selection._composed import networks_in, with_head, with_networks, without_networks
from skltransfer.model_selection._plain import features, linear_model, random_layer, reads_texts

WHOLE = {"adapter": None, "unfreeze_schedule": None}
# At the estimator's own rates and with norms that stay. At the head's rate, with norms that follow the data, a network
# from scratch does no better on few labels: two draws each, CIFAR-10 (10 per class) 17 % against 23 %, ants and bees
# 63 % against 66 %, digits (300) 94 % against 93 %.
NETWORKS = {"scratch": WHOLE | {"freeze_depth": 0.0}, "random": WHOLE | {"freeze_depth": 1.0}}
PLAIN = {"linear": linear_model, "elm": random_layer}
WITHOUT = "without"
BASELINES = (*NETWORKS, *PLAIN, WITHOUT)
CHANGED = {"backbone", "weights", "freeze_depth", *WHOLE}
IN_WORDS = {
    "scratch": "random weights, all stages trained",
    "random": "random weights, frozen",
    "linear": "linear model, no network",
    "elm": "random hidden layer, no network",
    WITHOUT: "the other columns, no network",
}


def unable(estimator: Any, X: Any = None) -> dict[str, str]:
    """Baselines that an estimator does not have, each with the reason."""
    reasons = {}
    if not any("freeze_depth" in network.get_params(deep=False) for network in networks_in(estimator).values()):
        reasons["scratch"] = "trains a network from random weights, and the networks of this estimator stay frozen"
    if isinstance(network_of(estimator), StructuredFineTuner):
        reasons |= dict.fromkeys(PLAIN, "predicts labels or numbers, and this estimator predicts neither")
    elif with_head(estimator, features, head=None, X=X) is None:
        reasons |= dict.fromkeys(PLAIN, "reads only what networks read, and this estimator reads more")
    if without_networks(estimator, X) is None:
        reasons[WITHOUT] = "drops the columns that networks give, and this estimator has no others"
    return reasons


def checked_baselines(baselines: Any, unable: Mapping[str, str]) -> dict[str, str | BaseEstimator]:
    """Names of baselines, each with one of :data:`BASELINES` or an estimator.

    Parameters
    ----------
    baselines : sequence of str, mapping or None
        Baselines as the user passed them; None for all that the estimator has.
    unable : mapping of str to str
        Baselines that it does not have, each with the reason.

    Raises
    ------
    ValueError
        If there is none, or one is neither.
    """
    able = tuple(name for name in BASELINES if name not in unable)
    baselines = able if baselines is None else [baselines] if isinstance(baselines, str) else baselines
    named = dict(baselines) if isinstance(baselines, Mapping) else {name: name for name in baselines}
    for name, baseline in named.items():
        is_known = hasattr(baseline, "fit") or baseline in BASELINES
        if name == "transfer" or not is_known:
            raise ValueError(
                f"baselines must be names out of {BASELINES}, or a mapping of names other than 'transfer' to these or "
                f"to estimators of your own; got {name!r}: {baseline!r}."
            )
        if isinstance(baseline, str) and baseline in unable:
            raise ValueError(
                f"The baseline {baseline!r} {unable[baseline]}. Choose out of {able}, or pass an estimator of your own."
            )
    if not named:
        raise ValueError(f"baselines is empty; expected at least one of {able}, or an estimator of your own.")
    return named


def built(
    baseline: str | BaseEstimator, estimator: Any, *, y: np.ndarray, seed: int, scoring: Any, X: Any = None
) -> BaseEstimator:
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
    X : table, optional
        Whose columns say whether a ColumnTransformer has a remainder.
    """
    if not isinstance(baseline, str):
        return clone(baseline)
    if baseline == WITHOUT:
        return without_networks(estimator, X)
    if baseline in NETWORKS:

        def changes(network: Any) -> dict[str, Any]:
            changed = NETWORKS[baseline] | _random_weights(network.backbone, seed)
            return {name: value for name, value in changed.items() if name in network.get_params()}

        return with_networks(estimator, changes, CHANGED)
    texts = [reads_texts(network) for network in networks_in(estimator).values()]
    kinds = {"texts": any(texts), "classifies": is_classifier(estimator)}
    head = PLAIN[baseline](**kinds, y=y, seed=seed, scoring=scoring)
    return with_head(estimator, partial(features, beside_texts=any(texts)), head, X)


def _random_weights(backbone: str | Backbone, seed: int) -> dict[str, Any]:
    weights = f"random:{seed}"
    if isinstance(backbone, Backbone):
        return {"backbone": load_backbone(_without_weights(backbone.name), weights=weights, **backbone.options)}
    return {"backbone": _without_weights(backbone), "weights": weights}


def _without_weights(name: str) -> str:
    """``torchvision:resnet50:IMAGENET1K_V2`` -> ``torchvision:resnet50``."""
    return name if name.startswith(("hf:", "keras:")) else ":".join(name.split(":")[:2])
