"""Tools to choose a backbone and a freeze depth, and to test whether transfer helps: scores, rankings, reports.

Promises that candidates are compared on the same samples and folds, and that nothing is chosen or claimed by looking at
rows that were kept for judging. Must not know how features are computed or networks trained.
"""

from skltransfer.model_selection._grid import freeze_depth_grid
from skltransfer.model_selection._report import TransferReport, transfer_report
from skltransfer.model_selection._retrieval import recall_at_k_score, recall_at_k_scorer
from skltransfer.model_selection._scores import (
    h_score,
    knn_score,
    leep_score,
    log_me_score,
    nce_score,
    probe_score,
    trans_rate_score,
)
from skltransfer.model_selection._tasks import TaskReport, task_report
from skltransfer.model_selection._transferability import (
    TransferabilityCandidate,
    TransferabilityRanking,
    score_transferability,
)

__all__ = [
    "TaskReport",
    "TransferReport",
    "TransferabilityCandidate",
    "TransferabilityRanking",
    "freeze_depth_grid",
    "h_score",
    "knn_score",
    "leep_score",
    "log_me_score",
    "nce_score",
    "probe_score",
    "recall_at_k_score",
    "recall_at_k_scorer",
    "score_transferability",
    "task_report",
    "trans_rate_score",
    "transfer_report",
]
