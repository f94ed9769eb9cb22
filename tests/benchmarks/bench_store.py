"""How fast a folder of activations gives them back, and what a warm ``transform`` costs beside decoding.

    python tests/benchmarks/bench_store.py

Run it alone on the machine. Reading starts from new handles, as in a new process, with files in the page cache.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from report import Ratio, record
from timing import Timing, table, timed

from skltransfer import ActivationStore, PretrainedFeatureExtractor, load_backbone
from skltransfer.engine import Address
from skltransfer.engine.storing.folder import ShardFolder
from skltransfer.inputs import forget_digests

N, WIDTH = 10_000, 512
HERE = Address(("benchmark", "float32", "cpu", 8), 4, "mean")
SEARCH = """
import sys, time
import numpy as np
from sklearn.model_selection import GridSearchCV
from skltransfer import FineTunedClassifier, load_backbone
X = np.random.default_rng(0).integers(0, 256, (200, 224, 224, 3), dtype=np.uint8)
backbone = load_backbone("torchvision:resnet18", weights="random")
model = FineTunedClassifier(backbone, freeze_depth=1.0, cache=sys.argv[1])
start = time.perf_counter()
GridSearchCV(model, {"C": [0.1, 1.0]}, cv=5, refit=False, error_score="raise").fit(X, np.arange(200) % 2)
print(time.perf_counter() - start)
"""


def reading(folder: pathlib.Path) -> tuple[str, float]:
    values = torch.rand(N, WIDTH)
    digests = [i.to_bytes(20, "big") for i in range(N)]
    writer = ShardFolder(folder, 10**9)
    for digest, value in zip(digests, values, strict=True):
        writer.put(HERE, digest, value)
    writer.flush()
    found, back = ShardFolder(folder, 10**9).get_many(HERE, digests)
    assert torch.equal(back[np.argsort(found)], values)
    rows = {}
    for name, order in (("all, in order", np.arange(N)), ("all, shuffled", np.random.default_rng(0).permutation(N))):
        wanted = [digests[i] for i in order]
        rows[name] = timed(lambda wanted=wanted: ShardFolder(folder, 10**9).get_many(HERE, wanted), 7)
    rates = {name: N * WIDTH * 4 / 1e6 / timing.median for name, timing in rows.items()}
    told = ", ".join(f"{name} {rate:.0f} MB/s" for name, rate in rates.items())
    text = f"**Reading** {N:,} x {WIDTH} float32 ({N * WIDTH * 4 / 1e6:.1f} MB), a new handle each time: {told}."
    return f"{text}\n\n{table(rows, 'all, in order')}", min(rates.values())


def warm_transform(folder: pathlib.Path) -> tuple[str, float]:
    """JPEG files of 64 x 64 px: the smallest, and so the cheapest to decode."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    paths = []
    for i in range(N):
        low = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        paths.append(folder / "photos" / f"{i}.jpg")
        Image.fromarray(low).resize((64, 64)).save(paths[-1], quality=90)
    backbone = load_backbone("bundled:efficientnet-lite0", input_size=64)
    extractor = PretrainedFeatureExtractor(backbone, cache=ActivationStore(folder / "store"))
    cold = timed(lambda: extractor.transform(paths), 1, before=extractor.cache.clear)

    def as_in_a_new_process() -> None:
        forget_digests()
        extractor.cache = ActivationStore(folder / "store")
        extractor.cache._memory.clear()
        extractor.cache._backend = ShardFolder(folder / "store", 5 * 2**30)

    def decode() -> None:
        for path in paths:
            np.asarray(Image.open(path).convert("RGB"))

    rows = {
        "warm transform": timed(lambda: extractor.transform(paths), 5, before=as_in_a_new_process),
        "decoding alone": timed(decode, 5),
        "cold transform": cold,
    }
    assert extractor.cache.info()["misses"] == 0
    text = f"**A warm transform** of {N:,} JPEG files, bundled:efficientnet-lite0, all at 64 px, as in a new process."
    return f"{text}\n\n{table(rows, 'warm transform')}", rows["decoding alone"].median / rows["warm transform"].median


def warm_search(folder: pathlib.Path) -> tuple[str, float]:
    """A search in a new process, cold and then warm, five times over."""
    seconds = []
    for i in range(5):
        command = [sys.executable, "-c", SEARCH, str(folder / str(i))]
        seconds.append([float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(2)])
    cold, warm = (Timing(times) for times in zip(*seconds, strict=True))
    text = "**A search at freeze_depth=1.0 in a new process**: ResNet-18, 200 photos of 224 px, 2 values of C, 5 folds."
    return f"{text}\n\n{table({'warm': warm, 'cold': cold}, 'warm')}", cold.median / warm.median


def main() -> None:
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        read, rate = reading(folder / "rows")
        transformed, to_decoding = warm_transform(folder)
        searched, to_cold = warm_search(folder)
    finally:
        shutil.rmtree(folder)
    ratios = [
        Ratio("reading a cache folder, of 400 MB/s", rate / 400, is_speed_up=False),
        Ratio("features from a warm cache, over decoding the images", to_decoding),
        Ratio("search with a warm cache, over the first search", to_cold),
    ]
    record("store", "The activation store in a folder", "\n\n".join([read, transformed, searched]), ratios)


if __name__ == "__main__":
    main()
