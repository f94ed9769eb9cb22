"""What the frozen stages said is remembered, within bounds, and never wrong."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch
from networks import DEFAULT, small_default, tiny_photo
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.engine import Activations, Address, FrozenStages, recall, shared_store
from skltransfer.engine.inference.rows import filled
from skltransfer.engine.storing.memory import BYTES_OF_ENTRY
from skltransfer.inputs import samples_from_collection

SPACE = ("backbone", "float32", "cpu", 8)


def row(n_bytes):
    return torch.zeros(n_bytes // 4)


def digest(i):
    return i.to_bytes(20, "big")


class RowCounter:
    """Counts the rows that pass a module, padding (all zeros) left out."""

    def __init__(self, module):
        self.rows = 0
        self.handle = module.register_forward_pre_hook(self.count)

    def count(self, module, arguments):
        self.rows += int(arguments[0].flatten(1).any(1).sum())

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.handle.remove()


def test_it_never_holds_more_than_its_bytes_and_the_shallowest_go_first():
    most = 5 * (200 + BYTES_OF_ENTRY)
    store = ActivationStore(max_bytes=most)
    shallow, deep = Address(SPACE, 1, None), Address(SPACE, 3, None)
    for i in range(10):
        store.put(shallow, digest(i), row(200))
        assert store.info()["bytes"] <= most
    assert [store.get(shallow, digest(i)) is not None for i in (0, 4, 5, 9)] == [False, False, True, True]
    for i in range(3):
        store.put(deep, digest(i), row(200))
    assert all(store.get(deep, digest(i)) is not None for i in range(3))
    assert sum(store.get(shallow, digest(i)) is not None for i in range(10)) == 2
    for i in range(3, 10):
        store.put(deep, digest(i), row(200))
    store.put(shallow, digest(0), row(200))
    assert store.get(shallow, digest(0)) is None
    store.put(deep, digest(99), row(2 * most))
    assert store.info()["samples"] == 5
    store.clear()
    assert store.info() == {"samples": 0, "bytes": 0, "max_bytes": most, "hits": 0, "misses": 0}


def test_handles_share_one_memory():
    store = ActivationStore()
    for handle in (copy.copy(store), copy.deepcopy(store), clone(store), pickle.loads(pickle.dumps(store))):
        assert handle._memory is store._memory
    assert ActivationStore()._memory is not store._memory
    assert pickle.loads(pickle.dumps(shared_store()))._memory is shared_store()._memory


def test_many_threads_leave_it_whole():
    store = ActivationStore(max_bytes=50 * (200 + BYTES_OF_ENTRY))

    def work(seed):
        generator = np.random.default_rng(seed)
        for i in generator.integers(0, 100, 500):
            address = Address(SPACE, int(i) % 4, None)
            value = store.get(address, digest(int(i)))
            assert value is None or len(value) == 50
            store.put(address, digest(int(i)), row(200))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shelves = store._memory.shelves.values()
    held = sum(len(v) * 4 + BYTES_OF_ENTRY for shelf in shelves for v in shelf.values())
    assert held == store.info()["bytes"] <= store.max_bytes


DEPTHS = {"deepest first": [1.0, 0.75, 0.5], "shallowest first": [0.5, 0.75, 1.0]}


@pytest.mark.parametrize("order", [pytest.param("deepest first", marks=pytest.mark.slow), "shallowest first"])
@pytest.mark.slow
def test_each_sample_passes_the_stem_of_resnet18_once_in_a_whole_search(order, rng):
    X = rng.integers(0, 256, (18, 40, 40, 3), dtype=np.uint8)
    y = np.arange(18) % 2
    stem = load_backbone("torchvision:resnet18", weights="random").library_network.conv1
    load_backbone("torchvision:resnet18", weights="random").verify()
    classifier = FineTunedClassifier(
        "torchvision:resnet18", weights="random", dtype="float32", max_epochs=1, cache=ActivationStore(), random_state=0
    ).set_params(runtime="eager")  # whose modules can be watched
    search = GridSearchCV(classifier, {"freeze_depth": DEPTHS[order]}, cv=3, error_score="raise")
    with RowCounter(stem) as counter:
        search.fit(X, y)
    assert counter.rows == 18


@pytest.mark.parametrize("network", ["toy:images", pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_a_search_with_the_store_scores_as_one_without(two_kinds, network):
    X, y = two_kinds
    backbone, budget = (small_default(), 2_000_000) if network == DEFAULT else (network, 20_000)
    grid = {"freeze_depth": [1.0, 0.75, 0.5, 0.0], "learning_rate": [1e-3, 1e-2]}
    probabilities, scores = [], []
    for cache in (None, "memory", ActivationStore(max_bytes=budget)):
        classifier = FineTunedClassifier(backbone, dtype="float32", max_epochs=2, cache=cache, random_state=0)
        search = GridSearchCV(classifier, grid, cv=3, scoring="neg_log_loss", error_score="raise").fit(X, y)
        scores.append(search.cv_results_["mean_test_score"])
        probabilities.append(search.predict_proba(X))
    for other in (1, 2):
        np.testing.assert_allclose(scores[other], scores[0], atol=1e-6)
        np.testing.assert_allclose(probabilities[other], probabilities[0], atol=1e-6)


def test_candidates_of_another_rate_cost_no_pass_at_all(two_kinds):
    store = ActivationStore()
    classifier = FineTunedClassifier("toy:images", freeze_depth=0.5, cache=store, max_epochs=1, random_state=0)
    cross_val_score(classifier, *two_kinds, cv=4)
    assert store.info()["misses"] == 40
    cross_val_score(clone(classifier).set_params(learning_rate=1e-2), *two_kinds, cv=5)
    assert store.info()["misses"] == 40


def test_a_deeper_boundary_climbs_from_the_landing_below(photos):
    store, backbone = ActivationStore(), load_backbone("toy:images")
    stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=store, fits=True)
    samples = samples_from_collection(photos, "image", max_pixels=10_000)
    recall(stages, samples, [stages.address(2)])
    network = backbone.library_network
    with RowCounter(network.stem[0]) as stem, RowCounter(network.block3[0]) as block3:
        climbed = recall(stages, samples, [stages.address(4, "mean")]).tensors[0]
    assert (stem.rows, block3.rows) == (0, 12)
    fresh = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None)
    assert torch.equal(climbed, recall(fresh, samples, [fresh.address(4, "mean")]).tensors[0])


def test_two_backbones_two_dtypes_and_two_weights_do_not_mix(photos):
    store = ActivationStore()
    parameters = [
        {"backbone": "toy:images"},
        {"backbone": "toy:images", "weights": "random"},
        {"backbone": "toy:images", "dtype": "bfloat16"},
        {"backbone": tiny_photo()},
        {"backbone": small_default()},
    ]
    parameters = [{"dtype": "float32", "runtime": "eager", **p} for p in parameters]
    found = [PretrainedFeatureExtractor(cache=store, **p).transform(photos) for p in parameters]
    alone = [PretrainedFeatureExtractor(cache=None, **p).transform(photos) for p in parameters]
    for ours, theirs in zip(found, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert store.info()["misses"] == 5 * 12


def test_activations_too_large_to_hold_are_recalled_batch_by_batch(photos):
    stages = FrozenStages(load_backbone("toy:images"), dtype=torch.float32, device=torch.device("cpu"), store=None)
    samples = samples_from_collection(photos, "image", max_pixels=10_000)
    held = Activations(stages, samples, stages.address(2))
    streamed = Activations(stages, samples, stages.address(2), limit=0)
    rows = np.array([7, 0, 3])
    assert streamed._held is None
    assert torch.equal(held.take(rows), streamed.take(rows))
    assert held.digests == streamed.digests


def test_training_on_streamed_activations_gives_the_same_model(two_kinds, monkeypatch):
    X, y = two_kinds
    classifier = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=2, cache=None, random_state=0)
    held = classifier.fit(X, y).predict_proba(X)
    true = Activations.__init__
    monkeypatch.setattr(Activations, "__init__", lambda self, *a, **k: true(self, *a, **{**k, "limit": 0}))
    np.testing.assert_array_equal(clone(classifier).fit(X, y).predict_proba(X), held)


def test_predictions_leave_what_they_read_and_no_stage_on_the_way(rng):
    store = ActivationStore()
    y, texts = [0, 1] * 6, [f"text {i} of a few words" for i in range(12)]
    model = FineTunedClassifier("toy:text", freeze_depth=0.75, max_epochs=1, cache=store, random_state=0).fit(texts, y)
    model.predict(["the first request after a fit"])  # what led to it is kept for a search, until the next one
    held = store.info()["samples"]
    for i in range(1, 6):
        model.predict([f"request {i}, text {k}" for k in range(4)])
        assert store.info()["samples"] <= held + 4 * i
    extractor = PretrainedFeatureExtractor("toy:text", cache=ActivationStore())
    extractor.transform(texts)
    assert extractor.cache.info()["samples"] == 12
    fitted = PretrainedFeatureExtractor("toy:text", cache=ActivationStore())
    fitted.fit_transform(texts)
    assert fitted.cache.info()["samples"] == 12 * 4


def test_inputs_of_one_length_run_together(monkeypatch):
    """As many rows in a call as have one length, up to 512 tokens, however they are mixed."""
    calls = []
    texts = ["x" * (5 + 40 * (i % 4)) + f"{i:03d}" for i in range(128)]  # four lengths, 32 texts each
    model = FineTunedClassifier("toy:text", freeze_depth=0.5, max_epochs=1, random_state=0, dtype="float32")
    model.fit(texts, np.arange(128) % 2)
    monkeypatch.setattr(
        "skltransfer.engine.inference.frozen.filled",
        lambda batch, size: calls.append((len(batch), size)) or filled(batch, size),
    )
    model.predict(texts)
    per_call = [min(16, 512 // length) for length in (8, 48, 88, 128)]
    assert [size for _, size in calls] == [size for size in per_call for _ in range(-(-32 // size))]
    assert sum(n for n, _ in calls) == 128


@pytest.mark.parametrize("size", [1, 3, 16, 1000])
def test_batches_for_inference_hold_every_row_once(size):
    texts = ["x" * n for n in np.random.default_rng(0).integers(1, 200, 57)]
    backbone = load_backbone("toy:text")
    stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None)
    samples = samples_from_collection(texts, "text")
    for limit in (2**30, 0):
        activations = Activations(stages, samples, stages.address(1), limit=limit)
        rows = np.random.default_rng(1).permutation(57)[:40]
        met = np.concatenate([members for members, _ in activations.exact_batches(rows, size)])
        assert sorted(met.tolist()) == list(range(40))
        for members, batch in activations.exact_batches(rows, size):
            for member, row in zip(members, batch, strict=True):
                alone = activations.take(rows[[member]])[0]
                assert torch.equal(row[: len(texts[rows[member]])], alone[: len(texts[rows[member]])])


def test_a_server_that_learns_between_requests_keeps_no_more_than_the_last_of_them():
    store = ActivationStore()
    model = FineTunedClassifier("toy:text", freeze_depth=0.75, cache=store, random_state=0)
    held = []
    for i in range(6):
        model.partial_fit([f"lesson {i}, {k}" for k in range(4)], [0, 1] * 2, classes=[0, 1])
        model.predict([f"request {i}, {k}" for k in range(4)])
        held.append(store.info()["samples"])
    growth = np.diff(held)[1:]
    assert (growth == growth[0]).all()  # what is fitted on, and of each request what was read
    assert growth[0] <= 4 * 4 + 4


def test_a_pass_leaves_no_cycle_that_would_hold_its_activations(rng):
    backbone = load_backbone("toy:images")
    stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None)
    samples = samples_from_collection(list(rng.random((5, 16, 16))), "image", **backbone.reading)
    gc.collect()
    gc.disable()
    try:
        found = weakref.ref(recall(stages, samples, [stages.address(4, "mean")]).tensors[0])
        assert found() is None
    finally:
        gc.enable()
