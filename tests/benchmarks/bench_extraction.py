"""Features of 100,000 small pictures on two workers of 2 GB, killed twice, against a run that nothing disturbed.

    python tests/benchmarks/bench_extraction.py [dask] [ray] [--samples 100000]

Minutes; needs the extras ``distributed`` and ``ray``. Pictures are made where they are read. A run is a process of its
own with its workers; SIGKILL takes the process that began it, then what is left of its workers. Times are those of the
machine as it is, and go into no page: what is asserted is that the outputs are equal, by a hash of all features in the
order of ids, that no row comes twice, and that no worker holds more than 2 GB.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import dask
import dask.bag
import numpy as np
import pandas as pd
import psutil
from dask.distributed import Client, LocalCluster

from skltransfer import ActivationStore, BatchExtractor, PretrainedFeatureExtractor, extract_to_parquet

IN_A_PARTITION, WORKERS, MOST_BYTES = 1000, 2, 2 * 10**9


def picture(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def with_dask(folder: pathlib.Path, n: int) -> None:
    rows = dask.bag.range(n, npartitions=n // IN_A_PARTITION).map(lambda i: {"id": i, "photo": picture(i)})
    extractor = PretrainedFeatureExtractor("toy:images", dtype="float32")
    options = {"n_workers": WORKERS, "threads_per_worker": 1, "memory_limit": MOST_BYTES, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster):
        extract_to_parquet(extractor, rows, folder / "features", column="photo")


def with_ray(folder: pathlib.Path, n: int) -> None:
    import ray

    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    extractor = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=str(folder / "store"))
    numbers = ray.data.range(n, override_num_blocks=n // IN_A_PARTITION)
    rows = numbers.map_batches(lambda batch: batch | {"photo": np.stack([picture(i) for i in batch["id"]])})
    features = rows.map_batches(
        BatchExtractor,
        fn_constructor_args=[extractor, "photo"],
        batch_size=IN_A_PARTITION,
        compute=ray.data.ActorPoolStrategy(size=WORKERS),
    )
    features.write_parquet(str(folder / "features"), mode="overwrite")


RUNS = {"dask": with_dask, "ray": with_ray}


def done(engine: str, folder: pathlib.Path) -> int:
    """Samples that need not be computed again."""
    if engine == "dask":
        return IN_A_PARTITION * len(list((folder / "features").glob("part-*.parquet")))
    return ActivationStore(folder / "store").info()["samples"]


def run(engine: str, folder: pathlib.Path, n: int, *, until: int | None = None) -> float:
    """A run to its end, or SIGKILL at so many samples; the largest memory of a process, in bytes."""
    command = [sys.executable, "-W", "ignore", __file__, engine, "--samples", str(n), "--within", str(folder)]
    child = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    family, largest = [], 0
    while child.poll() is None:
        if until is not None and done(engine, folder) >= until:
            child.send_signal(signal.SIGKILL)
            break
        family = psutil.Process(child.pid).children(recursive=True)
        largest = max([largest, *map(own_bytes, family)])
        time.sleep(0.5)
    _, alive = psutil.wait_procs(family, timeout=20)
    for process in alive:
        process.kill()
    if child.wait() != (0 if until is None else -signal.SIGKILL):
        raise SystemExit(f"the run ended with {child.returncode}")
    return largest


def own_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().uss
    except psutil.Error:
        return 0


def told(folder: pathlib.Path, n: int) -> str:
    """A hash of the output, each row there once."""
    found = pd.read_parquet(folder / "features").sort_values("id")
    assert found["id"].tolist() == list(range(n)), "a row is lost, or there twice"
    features = found.drop(columns="id")
    features = np.stack(features["features"]) if "features" in features else features.to_numpy()
    return hashlib.sha256(np.ascontiguousarray(features, dtype=np.float32)).hexdigest()


def contest(engine: str, n: int, folder: pathlib.Path) -> None:
    calm, shaken = folder / "calm", folder / "shaken"
    start = time.perf_counter()
    memory = [run(engine, calm, n)]
    seconds, kept = time.perf_counter() - start, []
    for share in (0.25, 0.6):
        memory.append(run(engine, shaken, n, until=int(share * n)))
        kept.append(done(engine, shaken))
    files = {path: path.stat().st_mtime_ns for path in shaken.rglob("part-*.parquet")}
    memory.append(run(engine, shaken, n))
    assert told(calm, n) == told(shaken, n), "the outputs differ"
    assert done(engine, shaken) == n
    assert engine == "ray" or all(path.stat().st_mtime_ns == when for path, when in files.items()), "written twice"
    assert max(memory) < MOST_BYTES
    print(
        f"{engine}: {n:,} pictures in {seconds:.0f} s undisturbed; killed with {kept[0]:,} and {kept[1]:,} done, then "
        f"ended; outputs equal ({told(calm, n)[:12]}), no row twice; at most {max(memory) / 1e6:.0f} MB in a process.",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engines", nargs="*", help=f"of {list(RUNS)}")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--within", type=pathlib.Path)
    chosen = parser.parse_args()
    if chosen.within is not None:
        return RUNS[chosen.engines[0]](chosen.within, chosen.samples)
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        for engine in chosen.engines or RUNS:
            contest(engine, chosen.samples, folder / engine)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
