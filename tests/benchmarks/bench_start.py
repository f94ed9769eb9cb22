"""What it costs to begin: importing the package, loading the default network, and predicting one picture.

    python tests/benchmarks/bench_start.py

Run it alone on the machine.
"""

import subprocess
import sys
import tempfile

import numpy as np
import torch
from report import Ratio, record
from timing import Timing, table, timed

from skltransfer import FineTunedClassifier, load_backbone
from skltransfer.backbones._registry import _loaded

DEFAULT = "bundled:efficientnet-lite0"
IMPORT = "import time, sklearn.base; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds_of(code: str, repetitions: int = 7, *arguments: str) -> Timing:
    command = [sys.executable, "-c", code, *arguments]
    runs = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(repetitions)
    ]
    return Timing(tuple(runs))


def one_picture(name: str) -> tuple[str, float]:
    """``predict`` of one picture against the library's own forward of one tensor, in float32 and in bfloat16."""
    backbone = load_backbone(name, weights="random")
    photos = np.random.default_rng(0).integers(0, 256, (8, 200, 240, 3), dtype=np.uint8)
    model = FineTunedClassifier(backbone, freeze_depth=1.0, cache=None).fit(photos, np.arange(8) % 2)
    network, x = backbone.library_network, torch.randn(1, *backbone.preprocessing.input_shape)
    in_bfloat16 = torch.nn.Module.to(backbone.suffix(0).eval(), torch.bfloat16)

    def bare(module, value):
        with torch.inference_mode():
            module(value)

    rows = {
        "predict, one picture": timed(lambda: model.predict(photos[:1]), 15),
        "bare forward, float32": timed(lambda: bare(network, x), 15),
        "bare forward, bfloat16": timed(lambda: bare(in_bfloat16, x.bfloat16()), 15),
    }
    ratio = rows["bare forward, float32"].median / rows["predict, one picture"].median
    return f"**{name}**\n\n{table(rows, 'bare forward, float32')}", ratio


SAVED = """
import sys, time, numpy as np, skltransfer, torch, timm
photo = np.random.default_rng(0).integers(0, 256, (1, 200, 240, 3), dtype=np.uint8)
start = time.perf_counter()
skltransfer.load(sys.argv[1]).predict(photo)
print(time.perf_counter() - start)
"""


def first_prediction() -> Timing:
    """Loading a saved model and predicting, in new processes that have imported the libraries."""
    photos = np.random.default_rng(0).integers(0, 256, (8, 200, 240, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model"
        FineTunedClassifier(DEFAULT, freeze_depth=1.0).fit(photos, np.arange(8) % 2).save(path)
        return seconds_of(SAVED, 5, path)


def main() -> None:
    imports = seconds_of(IMPORT.format("import skltransfer"))
    weights = timed(lambda: load_backbone(DEFAULT), 7, before=_loaded.clear)
    parts = [
        f"`import skltransfer` after `import sklearn.base` adds {imports}; "
        f'`load_backbone("{DEFAULT}")` takes {weights}.'
    ]
    ratios = [Ratio("import, of 0.1 s", 0.1 / imports.median, is_speed_up=False)]
    first = first_prediction()
    parts.append(
        f"Loading a saved model with all stages frozen and predicting one photo, in a new process after "
        f"`import skltransfer, torch, timm`: {first}."
    )
    ratios.append(Ratio("first prediction, of 2 s", 2 / first.median, is_speed_up=False))
    for name, short in ((DEFAULT, "default network"), ("torchvision:resnet18", "ResNet-18")):
        text, ratio = one_picture(name)
        parts.append(text)
        ratios.append(Ratio(f"one prediction, {short}, of the bare forward pass", ratio, 1, is_speed_up=False))
    record("start", "Import time and the first prediction", "\n\n".join(parts), ratios)


if __name__ == "__main__":
    main()
