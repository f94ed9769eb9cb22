"""skltransfer: pretrained networks as scikit-learn estimators."""

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_ROOMS = {
    "ActivationStore": "engine",
    "Backbone": "backbones",
    "ELMClassifier": "elm",
    "ELMRegressor": "elm",
    "FeatureAdaptedClassifier": "domain_adaptation",
    "FewShotClassifier": "few_shot",
    "FineTunedClassifier": "fine_tuning",
    "FineTunedRegressor": "fine_tuning",
    "PretrainedFeatureExtractor": "feature_extraction",
    "describe_backbone": "backbones",
    "importance_weighted_accuracy": "domain_adaptation",
    "list_backbones": "backbones",
    "load": "persistence",
    "load_backbone": "backbones",
    "load_image_folder": "inputs",
    "show_versions": "_versions",
}

__all__ = [
    "ActivationStore",
    "Backbone",
    "ELMClassifier",
    "ELMRegressor",
    "FeatureAdaptedClassifier",
    "FewShotClassifier",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "PretrainedFeatureExtractor",
    "describe_backbone",
    "importance_weighted_accuracy",
    "list_backbones",
    "load",
    "load_backbone",
    "load_image_folder",
    "show_versions",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'skltransfer' has no attribute {name!r}; it offers {__all__}")
    return getattr(importlib.import_module(f"skltransfer.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
