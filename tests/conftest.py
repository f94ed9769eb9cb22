"""Seeds, small real data, and no network."""

import gc
import io
import os
import pathlib
import random
import shutil
import socket
import tarfile
import tempfile

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy is imported: scikit-learn's array-API check runs only then
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or its import asks the network for a newer version

import numpy as np
import pytest
import torch
from PIL import Image

from skltransfer.engine import shared_store
from skltransfer.inputs import forget_digests, forget_what_was_told

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
CACHE = "SKLTRANSFER_CACHE"  # of compiled networks: of this run alone, shared by its processes
os.environ["KERAS_BACKEND"] = "torch"  # of all tests and their processes; Keras reads it once, when it is imported
KERAS = "KERAS_HOME"  # where Keras writes its settings: likewise of this run alone


def pytest_configure(config):
    config._folders_of_this_run = {}
    for variable in (CACHE, KERAS):
        if variable not in os.environ:
            os.environ[variable] = config._folders_of_this_run[variable] = tempfile.mkdtemp()


def pytest_unconfigure(config):
    for variable, folder in config._folders_of_this_run.items():
        shutil.rmtree(folder, ignore_errors=True)
        del os.environ[variable]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Without garbage collection: imports leave no garbage, and looking for it takes each process seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What a test leaves to chance (`random_state=None`) is the same in each run, alone or among others."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Tests run offline: only addresses of this machine answer."""
    connect = socket.socket.connect

    def local_only(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"the network is off in tests: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def _forget_what_earlier_tests_did():
    shared_store().clear()
    forget_digests()
    forget_what_was_told()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def photos(rng):
    """Twelve small photos, all different, (12, 20, 24, 3) of uint8."""
    return rng.integers(0, 256, (12, 20, 24, 3), dtype=np.uint8)


@pytest.fixture
def two_kinds(rng):
    """Forty 16 x 16 grey pictures with labels that a network can tell apart: bright above, or bright below."""
    X = rng.random((40, 16, 16)) * 0.5
    y = np.arange(40) % 2
    X[y == 0, :8] += 0.5
    X[y == 1, 8:] += 0.5
    return X, np.array(["above", "below"])[y]


def png(pixels: np.ndarray) -> bytes:
    """A real PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real data that SKLTRANSFER_DATA names."""
    folder = pathlib.Path(os.environ.get("SKLTRANSFER_DATA", ""))
    if "SKLTRANSFER_DATA" not in os.environ or not (folder / "hymenoptera.tar.gz").exists():
        pytest.skip("SKLTRANSFER_DATA names no folder with hymenoptera.tar.gz")
    return folder


@pytest.fixture(scope="session")
def ants_and_bees(data_folder):
    """JPEG bytes and labels: 244 for training, 153 for testing."""
    with tarfile.open(data_folder / "hymenoptera.tar.gz") as tar:
        rows = [(*m.name.split("/")[:2], tar.extractfile(m).read()) for m in tar if m.isfile()]
    X = np.array([content for *_, content in rows], dtype=object)
    part, y = (np.array([row[i] for row in rows]) for i in (0, 1))
    train = part == "train"
    return X[train], y[train], X[~train], y[~train]
