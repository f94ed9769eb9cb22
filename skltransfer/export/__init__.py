"""Fitted estimators as ONNX files."""

from skltransfer.export._export import export_onnx

__all__ = ["export_onnx"]
