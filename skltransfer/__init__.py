"""skltransfer: pretrained networks as scikit-learn estimators."""

import importlib
import pathlib
from typing import Any

from skltransfer._system.version import __version__ as __version__

__path__.append(str(pathlib.Path(__file__).with_name("_moved")))  # until version 0.2

_ROOMS = {
    "ActivationStore": "engine",
    "AdaptedBackbone": "pretraining",
    "Backbone": "backbones",
    "BatchExtractor": "distributed",
    "DetectionDisplay": "inspection",
    "DomainAdaptedClassifier": "domain_adaptation",
    "ELMClassifier": "elm",
    "ELMRegressor": "elm",
    "FeatureAdaptedClassifier": "domain_adaptation",
    "FewShotClassifier": "few_shot",
    "FineTunedClassifier": "fine_tuning",
    "FineTunedDetector": "detection",
    "FineTunedLanguageModel": "text_generation",
    "FineTunedQuestionAnswerer": "question_answering",
    "FineTunedRegressor": "fine_tuning",
    "FineTunedSegmenter": "segmentation",
    "FineTunedTagger": "tagging",
    "FineTunedTextToText": "text_generation",
    "FineTunedTranscriber": "transcription",
    "FreezeDepthDisplay": "inspection",
    "LayerProbeDisplay": "inspection",
    "MultiTaskFineTuner": "multi_task",
    "PairedFeatureExtractor": "paired_features",
    "PretrainedFeatureExtractor": "feature_extraction",
    "SegmentationDisplay": "inspection",
    "TrainingHistoryDisplay": "inspection",
    "TransferReportDisplay": "inspection",
    "chrf_score": "text_generation",
    "answer_exact_match_score": "question_answering",
    "answer_f1_score": "question_answering",
    "describe_backbone": "backbones",
    "entity_f1_score": "tagging",
    "export_onnx": "export",
    "extract_to_parquet": "distributed",
    "freeze_depth_grid": "model_selection",
    "from_torch_dataset": "inputs",
    "importance_weighted_accuracy": "domain_adaptation",
    "list_backbones": "_catalogue",
    "load": "persistence",
    "load_backbone": "backbones",
    "load_image_folder": "inputs",
    "mean_average_precision_score": "detection",
    "mean_iou_score": "segmentation",
    "read_coco": "inputs",
    "read_conll": "tagging",
    "read_mask_folder": "inputs",
    "read_voc": "inputs",
    "read_yolo": "inputs",
    "score_transferability": "model_selection",
    "show_versions": "_system.versions",
    "task_report": "model_selection",
    "transfer_report": "model_selection",
    "word_error_rate": "transcription",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'skltransfer' has no attribute {name!r}; it offers {__all__}")
    return getattr(importlib.import_module(f"skltransfer.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
