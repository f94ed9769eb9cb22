"""Activations in a folder: shared, bounded, and never wrong, whatever happens to the disk."""

import errno
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import png
from networks import DEFAULT, small_default
from sklearn.model_selection import GridSearchCV
from stores import reopened

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.engine import Address, FrozenStages, recall
from skltransfer.engine.storing import folder as folder_module
from skltransfer.engine.storing.folder import ShardFolder
from skltransfer.inputs import forget_digests, samples_from_collection
from skltransfer.inputs._images import ImageSamples

SPACE = ("backbone", "float32", "cpu", 8)
HERE = Address(SPACE, 2, None)
SCRIPT = """
import sys
import numpy as np
from skltransfer import ActivationStore, PretrainedFeatureExtractor
store = ActivationStore(sys.argv[1])
photos = np.load(sys.argv[2])
features = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=store).transform(photos)
np.save(sys.argv[3], features)
print(store.info()["misses"])
"""


def digest(i):
    return i.to_bytes(20, "big")


def rows(n, seed=0, width=50):
    return torch.rand(n, width, generator=torch.Generator().manual_seed(seed))


def filled(path, values, address=HERE, **options):
    folder = ShardFolder(path, **{"max_bytes": 10**8, **options})
    for i, value in enumerate(values):
        folder.put(address, digest(i), value)
    folder.flush()
    return folder


def read(path, n, address=HERE):
    """Which of the first n rows another process would find, and what it would find."""
    found, values = ShardFolder(path, 10**8).get_many(address, [digest(i) for i in range(n)])
    order = np.argsort(found)
    return found[order].tolist(), None if values is None else values[order]


def features(X, cache, **parameters):
    return PretrainedFeatureExtractor("toy:images", dtype="float32", cache=cache, **parameters).transform(X)


def files(path):
    return sorted(path.rglob("*.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_what_comes_back_is_what_was_put_bit_for_bit(tmp_path, dtype):
    values = (rows(300) * 200).to(dtype).view(300, 5, 10)
    filled(tmp_path, values)
    found, back = read(tmp_path, 301)
    assert found == list(range(300))
    assert back.dtype == dtype
    assert torch.equal(back, values)
    few, back = ShardFolder(tmp_path, 10**8).get_many(HERE, [digest(7), digest(999), digest(3)])
    assert few.tolist() == [0, 2]
    assert torch.equal(back, values[[7, 3]])


def test_rows_that_wait_to_be_written_are_found_too(tmp_path):
    folder = ShardFolder(tmp_path, 10**8)
    folder.put(HERE, digest(0), rows(1)[0])
    assert torch.equal(folder.get_many(HERE, [digest(0)])[1], rows(1))
    assert not files(tmp_path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


DAMAGE = {
    "bit flip": flip,
    "truncation": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(1000)),
    "bloated header": lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("when", ["before it is indexed", "after"])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path, damage, when):
    whole = filled(tmp_path, rows(20))
    filled(tmp_path, [*rows(20), *rows(10, seed=1)])  # writes the last ten alone
    victim = min(files(tmp_path), key=lambda path: path.stat().st_size)
    folder = ShardFolder(tmp_path, 10**8) if when != "after" else whole
    if when == "after":
        folder.refresh()
        assert len(folder.get_many(HERE, [digest(25)])[0]) == 1
    DAMAGE[damage](victim)
    found, back = folder.get_many(HERE, [digest(i) for i in range(30)])
    assert sorted(found) == list(range(20))
    assert torch.equal(back[np.argsort(found)], rows(20))
    assert not victim.exists()


def test_a_file_in_anothers_place_is_not_believed(tmp_path):
    there = Address(SPACE, 3, None)
    filled(tmp_path, rows(5))
    filled(tmp_path, rows(5, seed=1), address=there)
    first, second = files(tmp_path)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert read(tmp_path, 5) == read(tmp_path, 5, there) == ([], None)


@pytest.mark.parametrize("damage", DAMAGE)
def test_features_are_right_after_any_damage(photos, tmp_path, damage):
    expected = features(photos, None)
    np.testing.assert_array_equal(features(photos, reopened(tmp_path)), expected)
    warm = reopened(tmp_path)
    np.testing.assert_array_equal(features(photos, warm), expected)
    assert warm.info()["misses"] == 0
    for path in files(tmp_path):
        DAMAGE[damage](path)
    again = reopened(tmp_path)
    np.testing.assert_array_equal(features(photos, again), expected)
    assert again.info()["misses"] >= 1
    assert reopened(tmp_path).info()["samples"] == len(photos)


def test_the_size_is_bounded_and_the_shallowest_go_first_then_the_oldest(tmp_path):
    deep, cap = Address(SPACE, 3, None), 30_000
    for i in range(4):
        filled(tmp_path, rows(10, seed=i), Address(("old", i), 2, None), max_bytes=cap)
        time.sleep(0.01)
    sizes = [path.stat().st_size for path in files(tmp_path)]
    filled(tmp_path, rows(100), deep, max_bytes=cap)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= cap
    assert len(read(tmp_path, 100, deep)[0]) == 100
    left = [i for i in range(4) if read(tmp_path, 1, Address(("old", i), 2, None))[0]]
    assert left == list(range(4 - len(left), 4))
    assert 0 < len(left) < 4
    filled(tmp_path, rows(100), Address(SPACE, 1, None), max_bytes=cap)  # shallower than all that is there
    assert read(tmp_path, 100, Address(SPACE, 1, None))[0] == []
    assert len(sizes) == 4


def test_two_that_write_at_the_same_moment_end_within_the_limit(tmp_path, monkeypatch):
    cap, true = 30_000, folder_module.replacing  # a file has 22 kB
    other = ShardFolder(tmp_path, cap)
    for i, row in enumerate(rows(100, seed=1)):
        other.put(Address(("other",), 2, None), digest(i), row)

    def meanwhile(path):  # both have made room, for one file each
        monkeypatch.setattr(folder_module, "replacing", true)
        other.flush()
        return true(path)

    monkeypatch.setattr(folder_module, "replacing", meanwhile)
    filled(tmp_path, rows(100), max_bytes=cap)
    assert read(tmp_path, 100)[0] == list(range(100))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= cap


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_costs_one_warning_and_nothing_else(photos, tmp_path, monkeypatch, trouble):
    def fails(*arguments):
        raise OSError(trouble, os.strerror(trouble))

    monkeypatch.setattr(os, "fsync", fails)
    store = reopened(tmp_path)
    with pytest.warns(UserWarning, match="is not used: .*Results are the same, but slower"):
        first = features(photos, store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = features(photos, store)
    np.testing.assert_array_equal(first, features(photos, None))
    np.testing.assert_array_equal(again, first)
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".safetensors")] == []


def test_a_folder_that_cannot_be_made_costs_one_warning(photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="is not used"):
        store = ActivationStore(tmp_path / "file")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(features(photos, store), features(photos, None))
    assert store.info()["samples"] == 0


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_anyone_may_write_into_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.warns(UserWarning, match="anyone may write into it; run chmod o-w"):
        ShardFolder(tmp_path / "open", 10**6)


def test_a_known_file_is_not_decoded_in_a_later_process(photos, tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.png" for i in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(png(photo))
    expected = features(paths, reopened(tmp_path / "store"))
    forget_digests()
    monkeypatch.setattr(ImageSamples, "_of_image", None)  # whoever decodes fails
    later = reopened(tmp_path / "store")
    np.testing.assert_array_equal(features(paths, later), expected)
    assert later.info()["hits"] == len(photos)


def test_another_process_recalls_what_this_one_computed(photos, tmp_path):
    np.save(tmp_path / "photos.npy", photos)
    expected = features(photos, ActivationStore(tmp_path / "store"))
    assert _elsewhere(tmp_path, "store", "photos.npy", "out.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def _elsewhere(folder, store, X, out):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder / store, folder / X, folder / out],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return int(done.stdout)


@pytest.mark.slow
def test_four_processes_at_once_compute_each_sample_once(tmp_path, rng):
    photos = rng.integers(0, 256, (1500, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "photos.npy", photos)
    with ThreadPoolExecutor(4) as pool:
        computed = list(pool.map(lambda i: _elsewhere(tmp_path, "store", "photos.npy", f"{i}.npy"), range(4)))
    expected = features(photos, None)
    for i in range(4):
        np.testing.assert_array_equal(np.load(tmp_path / f"{i}.npy"), expected)
    assert len(photos) <= sum(computed) <= 1.1 * len(photos), computed


def test_a_writer_that_is_killed_leaves_nothing_that_is_wrong(tmp_path, rng):
    photos = rng.integers(0, 256, (3000, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "photos.npy", photos)
    expected = features(photos, None)
    for delay in (0.0, 0.05, 0.2):
        writer = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, tmp_path / "store", tmp_path / "photos.npy", tmp_path / "out.npy"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not files(tmp_path / "store") and writer.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        np.testing.assert_array_equal(features(photos[::7], reopened(tmp_path / "store")), expected[::7])


def test_what_a_killed_writer_left_half_written_is_swept_away(tmp_path):
    filled(tmp_path, rows(3))
    stale = files(tmp_path)[0].with_suffix(".part")
    stale.write_bytes(b"half")
    ShardFolder(tmp_path, 10**6)
    assert stale.exists(), "its writer may be at work"
    os.utime(stale, (0, 0))
    ShardFolder(tmp_path, 10**6)
    assert not stale.exists()


def test_a_handle_is_its_place(tmp_path):
    store = ActivationStore(tmp_path, max_bytes=12345)
    again = pickle.loads(pickle.dumps(store))
    assert repr(again) == repr(store) == f"ActivationStore({str(tmp_path)!r}, max_bytes=12345)"
    assert ActivationStore(tmp_path).max_bytes == 5 * 2**30
    filled(tmp_path, rows(4))
    assert again.info()["samples"] == 4
    again.clear()
    assert store.info()["samples"] == 0


@pytest.mark.parametrize("network", ["toy:images", pytest.param(DEFAULT, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_search_with_workers_shares_a_folder(two_kinds, tmp_path, network):
    backbone = small_default() if network == DEFAULT else network
    X, y = two_kinds
    grid = {"freeze_depth": [1.0, 0.5], "C": [0.1, 1.0]}

    def searched(cache, n_jobs):
        model = FineTunedClassifier(backbone, cache=cache, max_epochs=2, random_state=0, dtype="float32")
        return GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(X, y).cv_results_["mean_test_score"]

    expected = searched(None, 1)
    np.testing.assert_array_equal(searched(tmp_path, 2), expected)
    np.testing.assert_array_equal(searched(str(tmp_path), 1), expected)
    assert files(tmp_path)


def test_only_what_was_asked_for_is_written(photos, tmp_path):
    store = reopened(tmp_path)
    features(photos, store)
    (folder,) = {path.parent.name for path in files(tmp_path)}
    assert folder == "4-mean"
    stages = FrozenStages(load_backbone("toy:images"), dtype=torch.float32, device=torch.device("cpu"), store=store)
    samples = samples_from_collection(photos, "image", max_pixels=10**6)
    recall(stages, samples, [stages.address(2)])
    assert {path.parent.name for path in files(tmp_path)} == {"4-mean", "2-None"}
    described = next(tmp_path.rglob("space.json")).read_text()
    assert load_backbone("toy:images").fingerprint in described
    assert pathlib.Path(store.folder) == tmp_path
