"""Several processes that train one network: real ones, on the CPU, through accelerate and gloo."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from networks import TINY_PHOTO, tiny_photo_weights

from skltransfer.engine import processes
from skltransfer.exceptions import MissingDependencyError

SCRIPT = """
import json, os, sys
import numpy as np, torch
from skltransfer import FineTunedClassifier
torch.set_num_threads(1)
rank = int(os.environ.get("RANK", 0))
if "RANK" in os.environ:
    from accelerate import PartialState
    PartialState(cpu=True)
X = np.random.default_rng(0).random((41, 16, 16)) * 0.5
y = np.arange(41) % 2
X[y == 0, :8] += 0.5
for place, options in json.loads(sys.argv[1]).items():
    if options.pop("other", False):
        X[rank] *= 0.9
    model = FineTunedClassifier(**{"dtype": "float32", "max_epochs": 3, "batch_size": 8, "cache": None} | options)
    try:
        model.fit(X, y)
    except ValueError as error:
        found = {"error": str(error)}
    else:
        found = {"p": model.predict_proba(X), "loss": model.history_["loss"], **model._network_.changed}
    np.savez(f"{place}-{rank}.npz", **found)
"""
SEEDED = {"backbone": TINY_PHOTO, "random_state": 0}
FITS = {
    "one stage": SEEDED | {"freeze_depth": -1},
    "two stages, stopped early": SEEDED | {"freeze_depth": -2, "early_stopping": True, "max_grad_norm": 0.5},
    "depth chosen by the data": SEEDED | {"max_epochs": 1},
    "with dropout": {"backbone": "toy:images", "freeze_depth": 0.0},
    "statistics": {"backbone": "toy:images", "freeze_depth": 0.0, "norm_policy": "train"},
    "other data, depth chosen": {"backbone": "toy:images", "random_state": 0, "other": True},
    "other data": {"backbone": "toy:images", "freeze_depth": 0.0, "random_state": 0, "other": True},
}


def run_together(count, fits, folder):
    """``count`` real processes; what fit k gave in process r is found as ``results[k, r]``."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    places = json.dumps({str(folder / name): options for name, options in fits.items()})
    running = []
    for rank in map(str, range(count)):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if count > 1:
            environment |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        running.append(subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT, places], env=environment))
    for process in running:
        process.wait(timeout=250)
    found = {}
    for path in folder.glob("*.npz"):
        name, rank = path.stem.rsplit("-", 1)
        found[name, int(rank)] = dict(np.load(path))
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    pytest.importorskip("accelerate")
    weights = {"weights": tiny_photo_weights()}
    fits = {name: options | (weights if options["backbone"] == TINY_PHOTO else {}) for name, options in FITS.items()}
    alone = run_together(1, dict(list(fits.items())[:3]), tmp_path_factory.mktemp("one"))
    return alone, run_together(2, fits, tmp_path_factory.mktemp("two"))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FITS)[:3])
def test_two_processes_train_the_network_that_one_trains(results, name):
    alone, together = (result[name, 0] for result in results)
    assert alone.keys() == together.keys()
    assert len(alone["loss"]) == (3 if "stage" in name else 1)
    for key in alone:
        np.testing.assert_allclose(together[key], alone[key], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FITS)[:4])
def test_all_processes_end_with_the_same_network(results, name):
    """Without a seed too: the first process's seed is everybody's."""
    first, second = (results[1][name, rank] for rank in (0, 1))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.slow
def test_what_processes_cannot_do_together_is_refused(results):
    for rank in (0, 1):
        assert "2 processes see a share of each" in str(results[1]["statistics", rank]["error"])
    for name in ("other data", "other data, depth chosen"):
        assert "Each process must call fit with the same data" in str(results[1][name, 1]["error"])
        assert (name, 0) not in results[1] or "error" in results[1][name, 0]


def test_shares_of_a_batch_cover_it_once():
    class Third:
        count = 3

    for n in (0, 1, 2, 3, 10):
        parts = []
        for Third.rank in range(3):
            parts.append(processes.shard(np.arange(n), Third))
        np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_exchanged():
    found = processes.processes()
    assert (found.rank, found.count, found.device, found.broadcast(3)) == (0, 1, None, 3)


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(MissingDependencyError, match=r"pip install 'skltransfer\[distributed\]'"):
        processes.processes()
