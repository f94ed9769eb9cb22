"""Checks for estimators of your own: what scikit-learn's ``check_estimator`` cannot see in images, texts and audio."""

from skltransfer.testing._checks import check_transfer_estimator, transfer_checks

__all__ = ["check_transfer_estimator", "transfer_checks"]
