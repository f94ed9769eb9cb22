"""A store backend, a runtime and a source that the package does not know plug in without a change to it."""

import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.backbones._registry import ADAPTERS
from skltransfer.backbones._toy import load_toy
from skltransfer.engine import EAGER, FrozenStages, recall, store_over
from skltransfer.engine.inference.runtime import Entries
from skltransfer.inputs import samples_from_collection


class Dictionary:
    """A backend that keeps rows in a dict."""

    def __init__(self):
        self.rows, self.waiting = {}, {}

    def get_many(self, address, digests):
        found = [i for i, digest in enumerate(digests) if (address, digest) in self.rows]
        values = [self.rows[address, digests[i]] for i in found]
        return np.array(found, dtype=int), torch.stack(values) if values else None

    def put(self, address, digest, row):
        self.waiting[address, digest] = row.clone()

    def flush(self):
        self.rows |= self.waiting
        self.waiting = {}

    def refresh(self):
        pass

    def new_keys(self, address):
        return []

    def lease(self, address, part, *, wait):
        return nullcontext()

    def clear(self):
        self.rows, self.waiting = {}, {}

    def size(self):
        return len(self.rows), sum(row.nbytes for row in self.rows.values())


def test_a_backend_remembers_for_an_extractor(rng):
    X = rng.random((10, 16, 16))
    expected = PretrainedFeatureExtractor("toy:images", cache=None).transform(X)
    backend = Dictionary()
    for _ in range(2):  # a second handle finds what the first one left
        store = store_over(backend)
        extractor = PretrainedFeatureExtractor("toy:images", cache=store)
        np.testing.assert_array_equal(extractor.transform(X), expected)
    assert store.info() == {"samples": 10, "bytes": 10 * 32 * 4, "max_bytes": 2**30, "hits": 10, "misses": 0}
    assert pickle.loads(pickle.dumps(store)).info()["samples"] == 10
    store.clear()
    assert backend.size() == (0, 0)


class Counting:
    """A runtime that runs what torch exported, and counts the calls."""

    name = key = "counting"
    has_equal_rows = False

    def __init__(self):
        self.made, self.calls = {}, 0

    def entries(self, backbone, dtype):
        return Entries((2,), compose=False)

    def rows(self, backbone, length, dtype, device):
        return 8

    def between(self, backbone, start, stop, dtype, device):
        stages = backbone.prefix(start, stop, dtype, device)

        def run(batch):
            self.calls += 1
            return self.made.setdefault(id(stages), torch.export.export(stages, (batch,)).module())(batch)

        return run


def test_a_runtime_runs_the_frozen_stages_under_a_key_of_its_own(rng):
    backbone = load_backbone("toy:images")
    samples = samples_from_collection(list(rng.random((10, 16, 16))), "image", **backbone.reading)
    runtime, found = Counting(), []
    with torch.inference_mode():
        for chosen in (EAGER, runtime):
            stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None, runtime=chosen)
            found.append(recall(stages, samples, [stages.address(4, "mean")]).tensors[0])
    torch.testing.assert_close(*found)
    assert runtime.calls == 2 * 2  # batches of eight, in two spans
    assert stages.space[-1] == "counting"


def test_a_source_gives_backbones_by_name(rng, monkeypatch):
    def load_mine(name, weights, options, **how):
        assert name == "network"
        made = load_toy("images", weights, options, **how)
        vars(made)["name"] = "mine:network"
        return made

    monkeypatch.setitem(ADAPTERS, "mine", load_mine)
    X, y = rng.random((12, 16, 16)), np.arange(12) % 2
    model = FineTunedClassifier("mine:network", freeze_depth=0.5, max_epochs=1, random_state=0).fit(X, y)
    plain = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ValueError, match="source one of .*'mine'"):
        load_backbone("nobodys:network")
