"""Which backbone, how deep, and whether transfer helps at all.

Promises that nothing is chosen or claimed by looking at rows that were kept for judging. Must not know how a network
is trained.
"""

from skltransfer.model_selection._report import TransferReport, transfer_report

__all__ = ["TransferReport", "transfer_report"]
