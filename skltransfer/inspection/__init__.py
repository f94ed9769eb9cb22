"""Plots of searches, training and comparisons, in scikit-learn's Display convention.

Promises colors that color-blind people can distinguish, axes with units, and matplotlib imported by ``plot`` alone.
Must not know how a network is trained, nor how a report is made.
"""

from skltransfer.inspection._detection import DetectionDisplay
from skltransfer.inspection._freeze_depth import FreezeDepthDisplay
from skltransfer.inspection._layer_probe import LayerProbeDisplay
from skltransfer.inspection._segmentation import SegmentationDisplay
from skltransfer.inspection._training_history import TrainingHistoryDisplay
from skltransfer.inspection._transfer_report import TransferReportDisplay

__all__ = [
    "DetectionDisplay",
    "FreezeDepthDisplay",
    "LayerProbeDisplay",
    "SegmentationDisplay",
    "TrainingHistoryDisplay",
    "TransferReportDisplay",
]
