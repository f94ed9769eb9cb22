"""Matrix products in 8 bits, in a model of OpenVINO: weights are rounded here, inputs by OpenVINO as they come.

Nothing is learned from data, and no sample depends on another: a weight matrix has one scale for each of its outputs,
and 64 numbers of one token share a scale. NNCF makes the same model of a network; it is not used because it prints to
the terminal while it does, and brings ten more packages. Must not know what a network computes.
"""

import importlib
from typing import Any

import numpy as np
import torch

from skltransfer.backbones import Backbone

GROUP = 64
LEAST_SHARE = 0.5  # of the weights in matrix products; convolutions would be no faster
LARGEST = 127
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni")


def is_native() -> bool:
    """True if the processor has instructions for products of 8 bits; without them, float32 is as fast."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in INSTRUCTIONS)


def share_in_products(backbone: Backbone) -> float:
    """Share of a network's weights that are matrices; the others are kernels of convolutions."""
    matrices, kernels = 0, 0
    for parameter in backbone.library_network.parameters():
        matrices += parameter.numel() if parameter.ndim == 2 else 0
        kernels += parameter.numel() if parameter.ndim > 2 else 0
    return matrices / max(1, matrices + kernels)


def round_weights(model: Any) -> None:
    """Give a model of OpenVINO, in place, weights of 8 bits in its matrix products."""
    ops = importlib.import_module("openvino.opset13")
    for node in model.get_ordered_ops():
        weight = node.input_value(1).get_node() if node.get_type_name() == "MatMul" else None
        if weight is None or weight.get_type_name() != "Constant" or len(weight.shape) != 2:
            continue
        values = np.asarray(weight.data, dtype=np.float32)
        inputs = 1 if node.get_attributes()["transpose_b"] else 0
        scale = np.maximum(np.abs(values).max(axis=inputs, keepdims=True), 1e-12) / LARGEST
        rounded = np.clip(np.rint(values / scale), -LARGEST, LARGEST).astype(np.int8)
        restored = ops.multiply(ops.convert(ops.constant(rounded), "f32"), ops.constant(scale))
        node.input(1).replace_source_output(restored.output(0))
