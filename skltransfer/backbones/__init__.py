"""What a pretrained network is: named stages, preprocessing, pooling, and a fingerprint.

Promises that a network cut in two computes what it computed whole. Must not know targets, training or scikit-learn.
"""

from skltransfer.backbones._backbone import POOLINGS, Backbone, pool
from skltransfer.backbones._description import BackboneDescription, StageDescription, describe_backbone
from skltransfer.backbones._freeze_depth import freeze_boundary
from skltransfer.backbones._random import seeded
from skltransfer.backbones._registry import list_backbones, load_backbone, reload_backbone

__all__ = [
    "POOLINGS",
    "Backbone",
    "BackboneDescription",
    "StageDescription",
    "describe_backbone",
    "freeze_boundary",
    "list_backbones",
    "load_backbone",
    "pool",
    "reload_backbone",
    "seeded",
]
