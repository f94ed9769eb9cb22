"""Labels in one domain, none in another: adapt features, or the network that makes them."""

import importlib
from typing import Any

_HOMES = {
    "DomainAdaptedClassifier": "_network",
    "FeatureAdaptedClassifier": "_features",
    "importance_weighted_accuracy": "_features",
}

__all__ = ["DomainAdaptedClassifier", "FeatureAdaptedClassifier", "importance_weighted_accuracy"]


def __getattr__(name: str) -> Any:
    """Features are adapted without torch, which the network needs: so each is loaded when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {__all__}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
