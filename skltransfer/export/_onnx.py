"""ONNX files: written from a module, made small, run, described. The only importer of onnx and onnxruntime.

Must not know estimators, backbones or what the numbers mean.
"""

import contextlib
import itertools
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from skltransfer.exceptions import MissingDependencyError

KEY = "skltransfer"
Feed = Mapping[str, np.ndarray]


def require() -> None:
    """Raise unless the libraries are there.

    Raises
    ------
    MissingDependencyError
        With the extra that brings them.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"export_onnx needs onnx, onnxruntime and onnxscript ({error}): pip install 'skltransfer[export]'."
        ) from error


def write(network: nn.Module, axes: Mapping[str, Sequence[str]], example: Sequence[torch.Tensor], path: Path) -> None:
    """Write a module down as a graph.

    Parameters
    ----------
    network : nn.Module
        Network that returns a dict of named tensors.
    axes : mapping of str to sequence of str
        Names of the first axes of each input, whose lengths may change, by the name of the input.
    example : sequence of tensor
        One of each input.
    path : Path
        File to write.
    """
    import onnx

    shapes = tuple(dict.fromkeys(range(len(names)), torch.export.Dim.DYNAMIC) for names in axes.values())
    with torch.inference_mode():
        outputs = list(network(*example))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks for those who write exporters
        graph = torch.export.export(network, tuple(example), dynamic_shapes=(shapes,), strict=False)
        program = torch.onnx.export(graph, verbose=False, input_names=list(axes), output_names=outputs)
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # names this machine's files
    del model.graph.value_info[:]  # quantisation changes shapes
    _name_axes(model.graph, axes)
    onnx.save(model, path)


def _name_axes(graph: Any, axes: Mapping[str, Sequence[str]]) -> None:
    inputs, outputs = ([value.type.tensor_type.shape.dim for value in values] for values in (graph.input, graph.output))
    names = {
        dim.dim_param: name
        for dims, own in zip(inputs, axes.values(), strict=True)
        for dim, name in zip(dims, own, strict=False)
    }
    for dim in itertools.chain(*inputs, *outputs):
        if dim.dim_param in names:
            dim.dim_param = names[dim.dim_param]


def run(path: Path, feeds: Sequence[Feed]) -> list[dict[str, np.ndarray]]:
    """All outputs, by name, for each of several inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]


def quantise(source: Path, target: Path, feeds: Sequence[Feed]) -> None:
    """Write a copy whose weights are whole numbers of 8 bits.

    In a network of convolutions, scales of what flows through it are settled by ``feeds``; elsewhere, or without them,
    they are computed in each call.
    """
    import onnx
    from onnxruntime import quantization

    count = Counter(node.op_type for node in onnx.load(source).graph.node)
    convolves = count["Conv"] > count["MatMul"]
    with _quiet():
        if convolves and feeds:
            quantization.quantize_static(source, target, _Reader(feeds), per_channel=True)
            return
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["Conv", "MatMul"] if convolves else ["Gather", "MatMul"],
            per_channel=True,
            weight_type=quantization.QuantType.QUInt8 if convolves else quantization.QuantType.QInt8,
        )  # convolutions of signed weights have no fast kernel


class _Reader:
    """Hands out one input after the other, as onnxruntime asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps remarks of onnxruntime from giving the root logger a handler."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def describe(path: Path, text: Mapping[str, Any]) -> None:
    """Put a description into a file's metadata, as JSON."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {KEY: json.dumps(text, default=str)})
    onnx.save(model, path)
