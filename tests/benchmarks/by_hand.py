"""What a careful user writes without this package: loops over a network in torch, and over it compiled by OpenVINO."""

import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from openvino import Core
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from PIL import Image

from skltransfer import Backbone

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
Function = Callable[..., np.ndarray]


def compiled(network: torch.nn.Module, example: tuple[torch.Tensor, ...], dtype: torch.dtype) -> Function:
    """The network as OpenVINO runs it, for any number of rows and tokens."""
    frontend = FrontEndManager().load_by_framework("pytorch")
    traced = TorchScriptPythonDecoder(network, example_input=example)
    model = frontend.convert(frontend.load(traced))
    for tensor in model.inputs:
        shape = tensor.partial_shape
        for axis in range(1 if len(shape) == 4 else 2):
            shape[axis] = -1
        model.reshape({tensor: shape})
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": PRECISIONS[dtype]}
    ready = Core().compile_model(model, "CPU", settings)
    return lambda *arrays: ready(list(arrays))[0]


def eager(network: torch.nn.Module, dtype: torch.dtype) -> Function:
    """The network as torch runs it."""
    network = network.to(dtype).to(memory_format=torch.channels_last).eval()

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(dtype).contiguous(memory_format=torch.channels_last)
            return network(x).float().numpy()

    return run


def features_of_files(run: Function, backbone: Backbone, paths: list[pathlib.Path], batch: int) -> np.ndarray:
    """Features of image files, which are decoded in threads ahead of the network, at the size that it needs."""
    side, features = backbone.preprocessing.draft, []

    def read(path: pathlib.Path) -> np.ndarray:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            return backbone.preprocessing(np.asarray(image.convert("RGB"))).numpy()

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.map(read, paths)
        while rows := [row for _, row in zip(range(batch), waiting, strict=False)]:
            features.append(run(np.stack(rows)))
    return np.concatenate(features)


def embeddings_of_texts(run: Function, tokenizer, texts: list[str], batch: int = 32) -> np.ndarray:
    """Mean of the token vectors, of length 1; texts of about one length go together."""
    order = np.argsort([len(text) for text in texts])
    found = [None] * len(texts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        read = tokenizer([texts[row] for row in rows], return_tensors="np", padding=True, truncation=True)
        mask = read["attention_mask"].astype(np.int64)
        vectors = run(read["input_ids"].astype(np.int64), mask) * mask[..., None]
        means = vectors.sum(1) / mask.sum(1, keepdims=True)
        for row, mean in zip(rows, means / np.linalg.norm(means, axis=1, keepdims=True), strict=True):
            found[row] = mean
    return np.stack(found)


class TokenVectors(torch.nn.Module):
    """A text model as a function of ids and mask."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.network(input_ids=ids, attention_mask=mask).last_hidden_state


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The least cosine between rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
