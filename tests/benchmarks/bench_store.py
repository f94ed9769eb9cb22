"""How fast a folder of activations gives them back, and what a warm ``transform`` costs beside decoding.

    python tests/benchmarks/bench_store.py

Run it alone on the machine. Reading starts from new handles, as in a new process, with files in the page cache.
"""

import pathlib
import shutil
import tempfile

import numpy as np
import torch
from PIL import Image
from timing import table, timed

from skltransfer import ActivationStore, PretrainedFeatureExtractor
from skltransfer.engine import Address
from skltransfer.engine._shards import ShardFolder
from skltransfer.inputs import _images

N, WIDTH = 10_000, 512
HERE = Address(("benchmark", "float32", "cpu", 8), 4, "mean")


def reading(folder: pathlib.Path) -> None:
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
    print(f"\n{N:,} x {WIDTH} float32, {N * WIDTH * 4 / 1e6:.1f} MB, new handle each time\n")
    print(table(rows, "all, in order"))
    for name, timing in rows.items():
        print(f"{name}: {N * WIDTH * 4 / 1e6 / timing.median:.0f} MB/s")


def warm_transform(folder: pathlib.Path) -> None:
    """JPEG files of 64 x 64 px: the smallest, and so the cheapest to decode."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    paths = []
    for i in range(N):
        low = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        paths.append(folder / "photos" / f"{i}.jpg")
        Image.fromarray(low).resize((64, 64)).save(paths[-1], quality=90)
    extractor = PretrainedFeatureExtractor("bundled:tiny-photo", cache=ActivationStore(folder / "store"))
    cold = timed(lambda: extractor.transform(paths), 1, before=extractor.cache.clear)

    def as_in_a_new_process() -> None:
        _images._digests.clear()
        extractor.cache = ActivationStore(folder / "store")
        extractor.cache._memory.clear()
        extractor.cache._shards = ShardFolder(folder / "store", 5 * 2**30)

    def decode() -> None:
        for path in paths:
            np.asarray(Image.open(path).convert("RGB"))

    rows = {
        "warm transform": timed(lambda: extractor.transform(paths), 5, before=as_in_a_new_process),
        "decoding alone": timed(decode, 5),
        "cold transform": cold,
    }
    assert extractor.cache.info()["misses"] == 0
    print(f"\n{N:,} JPEG files of 64 x 64 px, bundled:tiny-photo\n\n{table(rows, 'warm transform')}")


def main() -> None:
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        reading(folder / "rows")
        warm_transform(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
