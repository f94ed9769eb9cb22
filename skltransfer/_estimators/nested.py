"""Where a network is inside of a Pipeline or a search. Must not know what is asked of it."""

from typing import Any

from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

PARAMETERS = {"backbone", "weights", "freeze_depth"}  # by which a network is known


def place_of_network(estimator: Any, place: str = "") -> str:
    """The prefix under which ``estimator.set_params`` reaches the fine-tuning estimator: it, a last step, or searched.

    Raises
    ------
    ValueError
        If there is none in these places.
    """
    if hasattr(estimator, "get_params") and estimator.get_params(deep=False).keys() >= PARAMETERS:
        return place
    if isinstance(estimator, BaseSearchCV):
        return place_of_network(estimator.estimator, f"{place}estimator__")
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return place_of_network(last, f"{place}{name}__")
    raise ValueError(
        "estimator must be a FineTunedClassifier or FineTunedRegressor, a Pipeline that ends in one, or a search "
        f"around either; got {estimator!r}. Put the network in one of these places."
    )


def network_of(estimator: Any) -> Any:
    """The last estimator inside: the fitted one, where a search or pipeline is fitted."""
    if isinstance(estimator, BaseSearchCV):
        return network_of(getattr(estimator, "best_estimator_", estimator.estimator))
    return network_of(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator
