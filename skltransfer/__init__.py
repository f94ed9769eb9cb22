"""skltransfer: pretrained networks as scikit-learn estimators."""

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_ROOMS = {
    "ActivationStore": "engine",
    "Backbone": "backbones",
    "ELMClassifier": "elm",
    "ELMRegressor": "elm",
    "FineTunedClassifier": "fine_tuning",
    "FineTunedRegressor": "fine_tuning",
    "FreezeDepthDisplay": "inspection",
    "LayerProbeDisplay": "inspection",
    "PretrainedFeatureExtractor": "feature_extraction",
    "TrainingHistoryDisplay": "inspection",
    "TransferReportDisplay": "inspection",
    "describe_backbone": "backbones",
    "list_backbones": "backbones",
    "load": "persistence",
    "load_backbone": "backbones",
    "load_image_folder": "inputs",
    "show_versions": "_versions",
    "transfer_report": "model_selection",
}

__all__ = [
    "ActivationStore",
    "Backbone",
    "ELMClassifier",
    "ELMRegressor",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "FreezeDepthDisplay",
    "LayerProbeDisplay",
    "PretrainedFeatureExtractor",
    "TrainingHistoryDisplay",
    "TransferReportDisplay",
    "describe_backbone",
    "list_backbones",
    "load",
    "load_backbone",
    "load_image_folder",
    "show_versions",
    "transfer_report",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'skltransfer' has no attribute {name!r}; it offers {__all__}")
    return getattr(importlib.import_module(f"skltransfer.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
