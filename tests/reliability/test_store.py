"""The store under fire: whatever happens to its folder, results are exact, and nothing but time is lost."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from children import ended, run, started
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from networks import tiny_photo
from stores import reopened

from skltransfer import PretrainedFeatureExtractor
from skltransfer.engine import Address
from skltransfer.engine.storing import folder as folder_module
from skltransfer.engine.storing.memory import size_in_memory


def features(X, cache, backbone="toy:images"):
    return PretrainedFeatureExtractor(backbone, dtype="float32", cache=cache).transform(X)


def shards(folder):
    return sorted(folder.rglob("*.safetensors"))


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system of its own: ``mounted(size)`` is a folder; the right to mount is root's."""
    places = []

    def mount(size):
        place = tmp_path / f"disk {len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", place]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here; test_a_limit_on_the_size_of_files runs instead")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_files_that_change_places_are_not_believed(photos, tmp_path):
    """Of two networks whose activations have the same shape."""
    networks = ("toy:images", tiny_photo())
    expected = [features(photos, None, network) for network in networks]
    for network in networks:
        features(photos, reopened(tmp_path), network)
    first, second = shards(tmp_path)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for network, whole in zip(networks, expected, strict=True):
        store = reopened(tmp_path)
        np.testing.assert_array_equal(features(photos, store, network), whole)
        assert store.info()["misses"] == len(photos)


def test_a_folder_of_another_version_is_left_alone(photos, tmp_path, monkeypatch):
    expected = features(photos, None)
    with monkeypatch.context() as later:
        later.setattr(torch, "__version__", "99.0")
        later.setattr(folder_module, "LAYOUT", "v99")
        features(photos * 0, reopened(tmp_path))
        later.setattr(folder_module, "LAYOUT", "v1")
        features(photos, reopened(tmp_path))
    theirs = {path: path.read_bytes() for path in shards(tmp_path)}
    assert {path.relative_to(tmp_path).parts[0] for path in theirs} == {"v1", "v99"}
    store = reopened(tmp_path)
    np.testing.assert_array_equal(features(photos, store), expected)
    assert store.info()["misses"] == len(photos)
    assert {path: path.read_bytes() for path in theirs} == theirs


def test_a_full_disk_costs_one_warning(mounted, rng):
    folder = mounted("48k")
    photos = rng.integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)  # 75 kB of features
    expected, store = features(photos, None), reopened(folder)
    with pytest.warns(UserWarning, match="No space left on device.*Results are the same, but slower"):
        np.testing.assert_array_equal(features(photos, store), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(features(photos, store), expected)
    assert not list(folder.rglob("*.part"))
    store = reopened(folder, max_bytes=1000)  # which no file fits into, so that none is written or evicted
    np.testing.assert_array_equal(features(photos, store), expected)
    assert 0 < store.info()["hits"] == store.info()["samples"] < len(photos)


LIMITED = """
import resource, sys, warnings
import numpy as np
from skltransfer import PretrainedFeatureExtractor
photos, expected = np.load(sys.argv[1]), np.load(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=sys.argv[3]).transform(photos)
np.testing.assert_array_equal(found, expected)
print([str(w.message) for w in caught if "is not used" in str(w.message)])
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_limit_on_the_size_of_files_costs_one_warning(photos, tmp_path):
    photos = np.concatenate([photos + i for i in range(12)], dtype=np.uint8)  # 18 kB of features
    np.save(tmp_path / "photos.npy", photos)
    np.save(tmp_path / "expected.npy", features(photos, None))
    shown = run(LIMITED, tmp_path / "photos.npy", tmp_path / "expected.npy", tmp_path / "store")
    assert shown.count("File too large") == shown.count("is not used") == 1
    assert not [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".part", ".safetensors")]


def made_read_only(folder, mounted):
    """A copy of a folder that nobody can write into: on a mount, where permissions do not bind us."""
    place = mounted("5m") if os.geteuid() == 0 else folder.parent / "read-only"
    shutil.copytree(folder, place, dirs_exist_ok=True, copy_function=shutil.copy2)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    else:
        for path in [place, *place.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    return place


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_read_only_folder_is_read_and_never_written(photos, tmp_path, mounted):
    known, expected = photos[:7], features(photos, None)
    features(known, reopened(tmp_path / "store"))
    for path in shards(tmp_path):
        os.utime(path, (0, 0))  # so old that reading it would be noted
    place = made_read_only(tmp_path / "store", mounted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = reopened(place)
        np.testing.assert_array_equal(features(known, store), expected[:7])
        assert store.info()["hits"] == 7
    with pytest.warns(UserWarning, match="Results are the same, but slower"):
        np.testing.assert_array_equal(features(photos, store), expected)


# Other processes

TESTS = pathlib.Path(__file__).parent.parent
WRITER = """
import sys
import numpy as np
from skltransfer import ActivationStore, PretrainedFeatureExtractor
sys.path.insert(0, sys.argv[6])
from stores import forget
photos = np.load(sys.argv[1])
print("begins", flush=True)
for turn in range(int(sys.argv[4])):
    store = ActivationStore(sys.argv[2], max_bytes=int(sys.argv[3]))
    forget(store)
    extractor = PretrainedFeatureExtractor("toy:images", weights=f"random:{turn}", dtype="float32", cache=store)
    found = extractor.transform(photos)
np.save(sys.argv[5], found)
"""
TURNS, FOREVER = 3, 10**6


def writing(tmp_path, name, *, max_bytes, turns):
    return started(WRITER, tmp_path / "photos.npy", tmp_path / "store", max_bytes, turns, tmp_path / name, TESTS)


@pytest.fixture
def many_photos(tmp_path, rng):
    photos = rng.integers(0, 256, (500, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "photos.npy", photos)
    return photos


@pytest.mark.slow
def test_writers_that_evict_each_other_and_are_killed_do_no_harm(tmp_path, many_photos):
    """Four at once, in a folder that holds what one of them needs; two of them are killed, one after the other."""
    one = 100_000  # bytes of features
    killed = [writing(tmp_path, "never.npy", max_bytes=one, turns=FOREVER) for _ in range(2)]
    others = [writing(tmp_path, f"{i}.npy", max_bytes=one, turns=TURNS) for i in range(2)]
    for child in killed + others:
        assert child.stdout.readline() == "begins\n", ended(child)
    for child in killed:
        time.sleep(0.3)
        child.send_signal(signal.SIGKILL)
    assert [ended(child)[0] for child in killed + others] == [-signal.SIGKILL] * 2 + [0] * 2
    last = PretrainedFeatureExtractor("toy:images", weights=f"random:{TURNS - 1}", dtype="float32", cache=None)
    expected = last.transform(many_photos)
    for i in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{i}.npy"), expected)
    again = last.set_params(cache=reopened(tmp_path / "store", max_bytes=one))
    np.testing.assert_array_equal(again.transform(many_photos), expected)
    assert 0 < again.cache.info()["bytes"] <= one


def test_what_is_evicted_while_it_is_read_is_computed(tmp_path, many_photos):
    budget, n_misses = 70_000, []
    photos = many_photos[::3]
    expected = features(photos, None)
    child = writing(tmp_path, "never.npy", max_bytes=budget, turns=FOREVER)
    assert child.stdout.readline() == "begins\n", ended(child)
    for _ in range(100):
        store = reopened(tmp_path / "store", max_bytes=budget)
        np.testing.assert_array_equal(features(photos, store), expected)
        n_misses.append(store.info()["misses"])
        if sum(n > 0 for n in n_misses[1:]) == 3:
            break
    child.send_signal(signal.SIGKILL)
    ended(child)
    assert sum(n > 0 for n in n_misses[1:]) == 3  # so often was some of it evicted


def test_a_file_that_goes_between_the_index_and_the_reading_is_computed(photos, tmp_path, monkeypatch):
    expected = features(photos, reopened(tmp_path))
    true = folder_module._content

    def evicted(shard, rows):
        shard.path.unlink(missing_ok=True)
        return true(shard, rows)

    monkeypatch.setattr(folder_module, "_content", evicted)
    store = reopened(tmp_path)
    np.testing.assert_array_equal(features(photos, store), expected)
    assert store.info()["misses"] == len(photos)


# Any order of operations

KEYS = [bytes([i]) * 20 for i in range(6)]
ADDRESSES = [Address(("a network", "float32", "cpu", 8), boundary, None) for boundary in (1, 3)]
FOREIGN = Address(("another network", "float32", "cpu", 8), 3, None)
WIDTH = 100
PLENTY, LITTLE = 10**6, 3000


def row(address, key):
    """What is remembered is a function of where it is."""
    return torch.full((WIDTH,), 100.0 * address.boundary + key[0])


def flip(path, number):
    content = bytearray(path.read_bytes())
    if content:
        content[-1 - number % len(content)] ^= 64
        path.write_bytes(content)


DAMAGE = {
    "flip": flip,
    "truncate": lambda path, number: os.truncate(path, number % (path.stat().st_size + 1)),
    "empty": lambda path, _: path.write_bytes(b""),
    "garbage": lambda path, number: path.write_bytes(number.to_bytes(8, "little") + path.read_bytes()[8:]),
    "delete": lambda path, _: path.unlink(),
}


class AnyOrder(RuleBasedStateMachine):
    """Two handles on one folder, as of two processes, against a dict of what was put. The second has no memory."""

    which, numbers = st.integers(0, 1), st.integers(0, 5000)
    some_keys = st.lists(st.sampled_from(KEYS), min_size=1, unique=True)

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.handles = [self._opened(0, PLENTY), self._opened(1, PLENTY)]
        self.put = {}
        self.surely = set()  # written, and nothing that could take it away happened since

    def teardown(self):
        shutil.rmtree(self.folder)

    def _opened(self, which, max_bytes):
        store = reopened(self.folder, max_bytes=max_bytes)
        store._memory = type(store._memory)(0 if which else max_bytes)
        return store

    def _n_bytes(self):
        return sum(path.stat().st_size for path in shards(self.folder))

    @rule(which=which, address=st.sampled_from(ADDRESSES), keys=some_keys)
    def recall_or_put(self, which, address, keys):
        store = self.handles[which]
        store.refresh()
        for key in keys:
            if store.get(address, key) is None:
                store.put(address, key, row(address, key))
                self.put[address, key] = row(address, key)

    @rule(which=which)
    def flush(self, which):
        store, before = self.handles[which], self._n_bytes()
        waiting = {(address, key) for address, d in store._backend._partitions.items() for key in d.waiting}
        store.flush()
        assert self._n_bytes() <= max(before, store.max_bytes)
        if store.max_bytes == PLENTY:
            self.surely |= waiting
        elif waiting:
            self.surely = set()  # it may have made room

    @rule(which=which)
    def recall(self, which):
        store = self.handles[which]
        store.refresh()
        for address in ADDRESSES:
            found, rows = store.get_many(address, KEYS)
            assert len(set(found.tolist())) == len(found)
            assert {(address, KEYS[i]) for i in found} >= {place for place in self.surely if place[0] == address}
            for position, value in zip(found, () if rows is None else rows, strict=True):
                assert torch.equal(value, self.put[address, KEYS[position]])
            for key in KEYS:
                value = store.get(address, key)
                assert value is None or torch.equal(value, self.put[address, key])

    @rule(which=which)
    def clear(self, which):
        self.handles[which].clear()
        assert shards(self.folder) == []
        self.surely = set()

    @rule(which=which, max_bytes=st.sampled_from([LITTLE, PLENTY, PLENTY]))
    def reopen(self, which, max_bytes):
        self.handles[which] = self._opened(which, max_bytes)

    @rule(how=st.sampled_from(sorted(DAMAGE)), number=numbers)
    def damage(self, how, number):
        if files := shards(self.folder):  # not a precondition: names of shards, and so which is damaged, are random
            DAMAGE[how](files[number % len(files)], number)
            self.surely = set()

    @rule(number=numbers)
    def swap(self, number):
        if len(files := shards(self.folder)) > 1:
            first, *_, second = np.roll(files, number)
            content = first.read_bytes()
            first.write_bytes(second.read_bytes())
            second.write_bytes(content)
            self.surely = set()

    @precondition(lambda self: self.handles[1].max_bytes == LITTLE)
    @rule()
    def evict(self):
        """Another network needs the little room that there is."""
        for key in KEYS:
            self.handles[1].put(FOREIGN, key, row(FOREIGN, key))
        self.flush(1)

    @invariant()
    def memory_is_bounded(self):
        for memory in (store._memory for store in self.handles):
            held = sum(size_in_memory(v) for shelf in memory.shelves.values() for v in shelf.values())
            assert held == memory.bytes <= memory.max_bytes


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None, derandomize=True)
