"""Estimators that are made of others: where pretrained networks are in them, and the same estimator without them.

Promises that what it is given stays as it is, and that a place where a network cannot be exchanged is refused by name.
Must not know baselines, folds or verdicts.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils._indexing import _get_column_indices

from skltransfer.pretraining import AdaptedBackbone

NETWORK = {"backbone", "weights"}  # parameters by which an estimator with a pretrained network is known
Place = str  # prefix under which set_params reaches the parameters of a part


def is_network(estimator: Any) -> bool:
    """True if the estimator itself reads a backbone."""
    return _is_estimator(estimator) and estimator.get_params(deep=False).keys() >= NETWORK


def networks_in(estimator: Any, place: Place = "") -> dict[Place, Any]:
    """The estimators inside that read a backbone, by their places."""
    if is_network(estimator):
        return {place: estimator}
    found = {}
    for name, part in _parts(estimator):
        found |= networks_in(part, f"{place}{name}__")
    return found


def checked_networks(estimator: Any) -> dict[Place, Any]:
    """The networks inside, each of which can be exchanged.

    Raises
    ------
    ValueError
        If there is none, or one is in a place where it cannot be exchanged.
    """
    found, parts = networks_in(estimator), estimator.get_params(deep=True)
    hidden = [name for name, part in parts.items() if is_network(part) and f"{name}__" not in found]
    if not found and not hidden:
        raise ValueError(
            "transfer_report needs a pretrained network: estimator must be a FineTunedClassifier or "
            "FineTunedRegressor, a Pipeline with one or with a PretrainedFeatureExtractor (also in a ColumnTransformer "
            f"or FeatureUnion), or a search around either; got {estimator!r}."
        )
    if hidden:
        raise ValueError(
            f"transfer_report cannot exchange the network {hidden[0]!r}. Put it into a Pipeline, ColumnTransformer, "
            "FeatureUnion, or an estimator with one inner estimator."
        )
    for place, network in found.items():
        if isinstance(network, AdaptedBackbone):
            raise ValueError(
                f"{place.removesuffix('__')!r} is an AdaptedBackbone, which has no counterpart with random weights. "
                "Fit it first, and pass PretrainedFeatureExtractor(adapted.backbone_) in its place."
            )
        for name, part in _around(place, estimator, parts):
            _refuse_fixed(part, name, place.removeprefix(f"{name}__" if name else ""))
    return found


def _around(place: Place, estimator: Any, parts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What holds the part at ``place``, by name, outermost first."""
    steps = place.removesuffix("__").split("__")
    names = ["__".join(steps[:i]) for i in range(1, len(steps))]
    return [("", estimator), *((name, parts[name]) for name in names)]


def _refuse_fixed(part: Any, name: str, inner: Place) -> None:
    """Refuse a part in which the network at the place ``inner`` stays as it is."""
    if isinstance(part, FrozenEstimator):
        raise ValueError(
            f"{name or 'estimator'!r} is a FrozenEstimator, whose network cannot get other weights. Pass the estimator "
            "inside it: a PretrainedFeatureExtractor learns nothing in fit."
        )
    if isinstance(part, BaseSearchCV):
        for key, values in ((key, values) for grid in _grids(part) for key, values in grid.items()):
            if f"estimator__{key}__" in _prefixes(inner) or _holds_network(values):
                raise ValueError(
                    f"The search replaces {key!r} as a whole, which holds a pretrained network, so that no baseline "
                    "can exchange the network. Search over its parameters instead, such as its backbone or layer."
                )


def _prefixes(place: Place) -> set[Place]:
    steps = place.removesuffix("__").split("__")
    return {"__".join(steps[:i]) + "__" for i in range(1, len(steps) + 1)}


def _holds_network(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_network, value))
    return bool(networks_in(value))


def with_networks(estimator: Any, changes: Callable[[Any], Mapping[str, Any]], settled: set[str]) -> Any:
    """A clone with other parameters of the networks, over which no search goes on; a search over nothing is left out.

    Parameters
    ----------
    estimator : estimator
        To be cloned.
    changes : callable
        Function from a network to its changed parameters.
    settled : set of str
        Names of the parameters that ``changes`` may give.
    """
    return _changed(clone(estimator), changes, settled)


def _changed(estimator: Any, changes: Callable[[Any], Mapping[str, Any]], settled: set[str]) -> Any:
    if is_network(estimator):
        return estimator.set_params(**changes(estimator))
    for name, part in _parts(estimator):
        if networks_in(part):
            estimator.set_params(**{name: _changed(part, changes, settled)})
    if not isinstance(estimator, BaseSearchCV):
        return estimator
    chosen = {f"{place}{name}" for place in networks_in(estimator.estimator) for name in settled}
    return _narrowed(estimator, lambda key: key not in chosen)


def without_networks(estimator: Any, X: Any = None) -> Any | None:
    """A clone without what the networks give: their columns are dropped. None if nothing would be left.

    Parameters
    ----------
    estimator : estimator
        To be cloned.
    X : table, optional
        Whose columns say whether a ColumnTransformer has a remainder.
    """
    return _without(clone(estimator), X)


def _without(estimator: Any, X: Any) -> Any | None:
    if is_network(estimator):
        return None
    inner = {
        name: _without(part, _input_of(name, estimator, X)) for name, part in _parts(estimator) if networks_in(part)
    }
    if not inner:
        return estimator
    if isinstance(estimator, ColumnTransformer | FeatureUnion):
        estimator.set_params(**{name: "drop" if part is None else part for name, part in inner.items()})
        return estimator if _live(estimator, X) else None
    if any(part is None for part in inner.values()):
        return None
    estimator.set_params(**inner)
    if isinstance(estimator, BaseSearchCV):
        known = estimator.estimator.get_params(deep=True)
        return _narrowed(estimator, lambda key: key in known)
    return estimator


def _input_of(name: str, estimator: Any, X: Any) -> Any:
    """X, if it reaches this part unchanged; else None."""
    if isinstance(estimator, ColumnTransformer) or (isinstance(estimator, Pipeline) and name != estimator.steps[0][0]):
        return None
    return X


def with_head(estimator: Any, features: Callable[[Any], Any], head: Any, X: Any = None) -> Any | None:
    """A clone that reads simple features in the networks' places, with another model at its end.

    What comes before a network stays, what comes after it is left out, and so is a search. None if the estimator also
    reads what no network reads.

    Parameters
    ----------
    estimator : estimator
        To be cloned.
    features : callable
        Function from a network to a transformer of the samples that it reads.
    head : estimator
        Model of these features.
    X : table, optional
        Whose columns say whether a ColumnTransformer has a remainder.
    """
    return _headed(clone(estimator), features, head, X)


def _headed(estimator: Any, features: Callable[[Any], Any], head: Any, X: Any) -> Any | None:
    if is_network(estimator):
        return Pipeline([("features", features(estimator)), ("model", head)])
    if isinstance(estimator, BaseSearchCV):
        return _headed(estimator.estimator, features, head, X)
    if not isinstance(estimator, Pipeline):
        inner = {name: _headed(part, features, head, X) for name, part in _parts(estimator) if networks_in(part)}
        return None if any(part is None for part in inner.values()) else estimator.set_params(**inner)
    last, _ = estimator.steps[-1]
    name, part = next((name, part) for name, part in _parts(estimator) if networks_in(part))
    X = _input_of(name, estimator, X)
    new = _headed(part, features, head, X) if name == last else _simple(part, features, X)
    model = [] if name == last else [(last, head)]
    return None if new is None else estimator.set_params(steps=[*_until(estimator, name), (name, new), *model])


def _simple(estimator: Any, features: Callable[[Any], Any], X: Any) -> Any | None:
    """A transformer with simple features in the networks' places, and nothing after them."""
    if is_network(estimator):
        return features(estimator)
    held = {name: part for name, part in _parts(estimator) if networks_in(part)}
    inner = {name: _simple(part, features, _input_of(name, estimator, X)) for name, part in held.items()}
    if any(part is None for part in inner.values()):
        return None
    if isinstance(estimator, Pipeline):
        name, part = next(iter(inner.items()))
        return estimator.set_params(steps=[*_until(estimator, name), (name, part)])
    if not isinstance(estimator, ColumnTransformer | FeatureUnion) or len(inner) < len(_live(estimator, X)):
        return None
    TransformerMixin.set_output(estimator, transform="default")  # of this alone: its parts may give sparse columns
    return estimator.set_params(**inner)


def _until(pipeline: Pipeline, name: str) -> list[tuple[str, Any]]:
    return pipeline.steps[: [step for step, _ in pipeline.steps].index(name)]


def _live(estimator: Any, X: Any) -> list[Any]:
    """Parts that give columns, side by side; of a ColumnTransformer, as far as the columns of X are known."""
    parts = [entry[1] for entry in _entries(estimator)]
    if isinstance(estimator, ColumnTransformer):
        parts.append(estimator.remainder)
        if len(getattr(X, "shape", ())) == 2:
            selections = [one(X) if callable(one) else one for _, _, one in estimator.transformers]
            columns = [_get_column_indices(X, one) for one in selections]
            rest = X.shape[1] - len({column for one in columns for column in one})
            parts = [part for part, n in zip(parts, [*map(len, columns), rest], strict=True) if n]
    return [part for part in parts if not (isinstance(part, str) and part == "drop")]


def _narrowed(search: BaseSearchCV, stays: Callable[[str], bool]) -> Any:
    """The search over what stays of its grids; over nothing, it is left out."""
    name = "param_grid" if hasattr(search, "param_grid") else "param_distributions"
    kept = [{key: values for key, values in grid.items() if stays(key)} for grid in _grids(search)]
    kept = [grid for grid in kept if grid]
    return search.set_params(**{name: kept}) if kept else search.estimator


def _grids(search: BaseSearchCV) -> list[Mapping[str, Any]]:
    grid = getattr(search, "param_grid", getattr(search, "param_distributions", None))
    if grid is None:
        raise ValueError(
            f"transfer_report cannot exchange the network in a {type(search).__name__}, which has neither param_grid "
            "nor param_distributions. Pass one of scikit-learn's searches, or its best_estimator_."
        )
    return [grid] if isinstance(grid, Mapping) else list(grid)


def _parts(estimator: Any) -> list[tuple[str, Any]]:
    """Estimators directly inside, by the name under which ``set_params`` replaces each."""
    if not _is_estimator(estimator):
        return []
    named = [(name, part) for name, part, *_ in _entries(estimator)]
    return [(name, part) for name, part in [*named, *estimator.get_params(deep=False).items()] if _is_estimator(part)]


def _entries(estimator: Any) -> list[tuple]:
    """Named members of a composed estimator."""
    if isinstance(estimator, Pipeline):
        return estimator.steps
    if isinstance(estimator, FeatureUnion):
        return estimator.transformer_list
    if isinstance(estimator, ColumnTransformer):
        return estimator.transformers
    return []


def _is_estimator(thing: Any) -> bool:
    return hasattr(thing, "get_params") and not isinstance(thing, type)
