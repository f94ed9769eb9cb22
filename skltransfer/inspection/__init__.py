"""Pictures of what was searched, trained and compared, in scikit-learn's Display convention.

Promises colours that colour-blind people tell apart, axes with units, and matplotlib imported by ``plot`` alone. Must
not know how a network is trained, nor how a report is made.
"""

from skltransfer.inspection._freeze_depth import FreezeDepthDisplay
from skltransfer.inspection._layer_probe import LayerProbeDisplay
from skltransfer.inspection._training_history import TrainingHistoryDisplay
from skltransfer.inspection._transfer_report import TransferReportDisplay

__all__ = ["FreezeDepthDisplay", "LayerProbeDisplay", "TrainingHistoryDisplay", "TransferReportDisplay"]
