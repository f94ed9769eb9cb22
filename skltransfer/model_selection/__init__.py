"""Which backbone, and how deep: scores, rankings and grids of freeze depth.

Promises that candidates are compared on the same samples and folds. Must not know how features are computed or networks
trained.
"""

from skltransfer.model_selection._grid import freeze_depth_grid
from skltransfer.model_selection._scores import (
    h_score,
    knn_score,
    leep_score,
    log_me_score,
    nce_score,
    probe_score,
    trans_rate_score,
)
from skltransfer.model_selection._transferability import (
    TransferabilityCandidate,
    TransferabilityRanking,
    score_transferability,
)

__all__ = [
    "TransferabilityCandidate",
    "TransferabilityRanking",
    "freeze_depth_grid",
    "h_score",
    "knn_score",
    "leep_score",
    "log_me_score",
    "nce_score",
    "probe_score",
    "score_transferability",
    "trans_rate_score",
]
