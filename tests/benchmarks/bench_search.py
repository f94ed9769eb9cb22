"""A search over freeze depths: this package against skorch with a Freezer, and against the best loop we can write.

    python tests/benchmarks/bench_search.py [repetitions]

Run it alone on the machine. ResNet-18 with random weights at 224 px; every contestant takes the same number of
optimiser steps on the same folds. *skorch*: float32, ``Freezer`` on the frozen layers. *Loop*: plain PyTorch, bfloat16
autocast, channels-last, no DataLoader, the frozen part in eval mode without gradients, but run in every epoch. Printed
beside the ratio to the loop: the most that remembering activations could give, sum(1 + 2 s) / sum(3 s) over the depths
with suffix share s of the forward cost.
"""

import sys

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from timing import Timing, table, timed
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from skltransfer import ActivationStore, FineTunedClassifier, describe_backbone

DEPTHS = {0.75: 4, 0.5: 3}  # freeze_depth -> frozen stages of stem, layer1 ... layer4
N, SIDE, FOLDS, EPOCHS, BATCH = 96, 224, 3, 5, 32
STAGES = (("conv1", "bn1", "relu", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


def photos() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8), np.arange(N) % 2


def ours(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    model = FineTunedClassifier(
        "torchvision:resnet18",
        weights="random",
        max_epochs=EPOCHS,
        batch_size=BATCH,
        random_state=0,
        cache=ActivationStore(),
    )
    grid = {"freeze_depth": [1.0, *DEPTHS]}
    search = GridSearchCV(model, grid, cv=StratifiedKFold(FOLDS), refit=False, error_score="raise")
    return search.fit(X, y).cv_results_["mean_test_score"]


def network() -> nn.Module:
    torch.manual_seed(0)
    model = resnet18()
    model.fc = nn.Linear(512, 2)
    return model


def with_skorch(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Freezer

    frozen = [[f"{name}*" for stage in STAGES[:n] for name in stage] for n in (5, *DEPTHS.values())]
    net = NeuralNetClassifier(
        network(),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
        callbacks=[("freezer", Freezer(frozen[0]))],
    )
    grid = {"callbacks__freezer__patterns": frozen}
    search = GridSearchCV(net, grid, cv=StratifiedKFold(FOLDS), refit=False, error_score="raise")
    pixels = (X.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)
    return search.fit(pixels, y.astype(np.int64)).cv_results_["mean_test_score"]


def loop(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same search by hand."""
    pixels = (torch.tensor(X).permute(0, 3, 1, 2) / 255).contiguous(memory_format=torch.channels_last)
    labels, scores = torch.tensor(y), []
    for n_frozen in (5, *DEPTHS.values()):
        rights = [_one_fit(pixels, labels, train, test, n_frozen) for train, test in StratifiedKFold(FOLDS).split(X, y)]
        scores.append(np.mean(rights))
    return np.array(scores)


def _one_fit(pixels, labels, train, test, n_frozen: int) -> float:
    model = network().to(memory_format=torch.channels_last)
    stages = [nn.Sequential(*(getattr(model, name) for name in stage)) for stage in STAGES]
    before, after = nn.Sequential(*stages[:n_frozen]).eval(), nn.Sequential(*stages[n_frozen:]).train()
    optimiser = torch.optim.AdamW([*after.parameters(), *model.fc.parameters()], lr=1e-3, fused=True)

    def outputs(rows: np.ndarray) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                x = before(pixels[rows])
            return model.fc(after(x).mean((2, 3))).float()

    generator = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = generator.permutation(train)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            loss = F.cross_entropy(outputs(rows), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    after.eval()
    with torch.inference_mode():
        return float((outputs(test).argmax(1) == labels[test]).float().mean())


def bound() -> float:
    """What remembering can give a loop that is otherwise as fast, over the depths that train a stage."""
    shares = np.cumsum(
        [stage.cost_share for stage in describe_backbone("torchvision:resnet18", weights="random").stages]
    )
    suffix = np.array([1 - shares[n - 1] for n in DEPTHS.values()])
    return float((1 + 2 * suffix).sum() / (3 * suffix).sum())


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    X, y = photos()
    rows: dict[str, Timing] = {}
    for name, contestant in (("skltransfer", ours), ("loop, bfloat16", loop), ("skorch, float32", with_skorch)):
        rows[name] = timed(lambda contestant=contestant: contestant(X, y), repetitions)
        print(f"{name}: {rows[name]}", flush=True)
    print(f"\nResNet-18, {N} photos of {SIDE} px, depths 1.0, 0.75 and 0.5, {FOLDS} folds, {EPOCHS} epochs\n")
    print(table(rows, "skltransfer"))
    print(f"\nthe most that remembering could give over the loop at 0.75 and 0.5: {bound():.2f}")


if __name__ == "__main__":
    main()
