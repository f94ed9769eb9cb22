"""How the windows of a long sample become one answer: their mean, their maximum, or a vote."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.base import clone

from skltransfer import (
    ActivationStore,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    extract_to_parquet,
    load,
    load_backbone,
)
from skltransfer.backbones._windows import window_starts
from skltransfer.engine import ClassificationTask, FrozenStages, NetworkSpec, VectorReadout, new_network
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.samplewise import loss_of_votes
from skltransfer.exceptions import WeightsError
from skltransfer.inputs import samples_from_collection
from skltransfer.inspection import LayerProbeDisplay

LENGTH = 32
TEXTS = [
    "short",
    "a text of " + "many words and " * 6,
    "b" * 33,
    "word " * 40,
    "a short one",
    "c" * 32,
    "last",
    "d" * 90,
]
Y = np.array([0, 1, 0, 1, 1, 0, 0, 1])
OPTIONS = {"max_length": LENGTH, "long_samples": "windows", "dtype": "float32", "random_state": 0}


def windows_of(text):
    return [text[start : start + LENGTH] for start in window_starts(len(text), LENGTH)]


def classifier(window_pooling, **options):
    return FineTunedClassifier("toy:text", window_pooling=window_pooling, **OPTIONS | {"max_epochs": 1} | options)


@pytest.mark.parametrize("cache", [None, "memory", "folder"])
def test_the_maximum_is_taken_of_each_feature_of_the_windows(cache, tmp_path):
    cache = tmp_path if cache == "folder" else cache
    extractor = PretrainedFeatureExtractor(
        "toy:text",
        layer=["encoder.layers.0", "penultimate"],
        long_samples="windows",
        window_pooling="max",
        max_length=LENGTH,
        dtype="float32",
        cache=cache,
    )
    found = extractor.transform(TEXTS)
    alone = clone(extractor).set_params(long_samples="truncate", cache=None)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(found[row], alone.transform(windows_of(text)).max(0), atol=1e-6)
    np.testing.assert_array_equal(np.vstack([extractor.transform([text]) for text in TEXTS]), found)
    assert not np.allclose(clone(extractor).set_params(window_pooling="mean").transform(TEXTS), found)
    np.testing.assert_array_equal(clone(extractor).transform(TEXTS[::-1]), found[::-1])


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_sees_the_maximum_over_windows_in_fit_and_predict(freeze_depth, head):
    model = classifier("max", freeze_depth=freeze_depth, head=head).fit(TEXTS, Y)
    features, single = model.transform(TEXTS), clone(model)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(features[row], model.transform(windows_of(text)).max(0), atol=1e-6)
    readout = model._network_.trainable(load_backbone("toy:text"), model._task_.readout, torch.device("cpu")).readout
    outputs = readout.eval().outputs(torch.tensor(features)).detach().numpy()
    np.testing.assert_allclose(model.decision_function(TEXTS), outputs[:, 0], atol=1e-4)
    np.testing.assert_array_equal(
        np.vstack([model.predict_proba([text]) for text in TEXTS]), model.predict_proba(TEXTS)
    )
    assert not np.allclose(single.set_params(window_pooling="mean").fit(TEXTS, Y).transform(TEXTS), features)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_votes_are_averaged_probabilities_of_the_windows(freeze_depth, head):
    model = classifier("vote", freeze_depth=freeze_depth, head=head).fit(TEXTS, Y)
    found = model.predict_proba(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(found[row], model.predict_proba(windows_of(text)).mean(0), atol=1e-6)
        np.testing.assert_array_equal(model.predict_proba([text])[0], found[row])
    np.testing.assert_array_equal(model.predict(TEXTS), found.argmax(1))
    np.testing.assert_allclose(expit(model.decision_function(TEXTS)), found[:, 1], atol=1e-9)
    alone = [model.transform(windows_of(text)).mean(0) for text in TEXTS]
    np.testing.assert_allclose(model.transform(TEXTS), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "penalty"), [(FineTunedClassifier, {"C": 1.0}), (FineTunedClassifier, {}), (FineTunedRegressor, {})]
)
def test_a_probe_of_votes_is_that_of_windows_each_of_a_share_of_its_samples_weight(kind, penalty):
    sample_weight = np.array([1.0, 2, 1, 3, 1, 0, 1, 0.5])
    windows = [windows_of(text) for text in TEXTS]
    flat, shares = sum(windows, []), np.concatenate([np.full(len(one), 1 / len(one)) for one in windows])
    owner = np.repeat(np.arange(len(TEXTS)), [len(one) for one in windows])
    options = OPTIONS | {"freeze_depth": 1.0} | penalty
    voting = kind("toy:text", window_pooling="vote", **options).fit(TEXTS, Y, sample_weight)
    plain = kind("toy:text", **options).fit(flat, Y[owner], shares * sample_weight[owner])
    for name in ("predict_proba", "predict"):
        if hasattr(voting, name):
            np.testing.assert_allclose(getattr(voting, name)(flat), getattr(plain, name)(flat), atol=1e-4)
    assert kind is FineTunedRegressor or voting.history_["loss"][0] == pytest.approx(
        plain.history_["loss"][0], abs=1e-4
    )


@pytest.mark.parametrize("boundary", [0, 2, 4])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_loss_of_a_sample_that_votes_is_the_mean_of_its_windows_losses(boundary, head):
    backbone = load_backbone("toy:text", long_samples="windows", max_length=LENGTH)
    stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None)
    spec = NetworkSpec(boundary, "mean", head, n_outputs=3, window_pooling="vote")
    address = stages.address(boundary, "mean" if boundary == backbone.n_stages else None, "vote")
    activations = Activations(stages, samples_from_collection(TEXTS, "text"), address)
    network, task = new_network(backbone, spec, VectorReadout.of, seed=0).eval(), ClassificationTask(np.arange(3))
    rows, targets = np.array([3, 0, 1, 2]), torch.tensor([2, 0, 1, 1])
    losses = loss_of_votes(task, network(activations.take(rows)), targets)
    alone = load_backbone("toy:text", max_length=LENGTH)
    for row, target, loss in zip(rows, targets, losses, strict=True):
        inputs = backbone.preprocessing.parts(TEXTS[row])
        features = [backbone.pooling_at(4, "mean")(alone.prefix(0, 4)(one[None])) for one in inputs]
        outputs = network.readout.outputs(torch.cat(features))
        expected = task.loss(outputs, target.expand(len(outputs))).mean()
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    losses.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("window_pooling", ["max", "vote"])
@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_weights_repeat_rows_and_equal_windows_count_once(window_pooling, freeze_depth):
    model = classifier(window_pooling, freeze_depth=freeze_depth, batch_size=100)
    weighted = clone(model).fit(TEXTS, Y, sample_weight=[1, 2, 1, 1, 3, 1, 1, 1])
    repeated = clone(model).fit([*TEXTS, TEXTS[1], TEXTS[4], TEXTS[4]], [*Y, 1, 1, 1])
    np.testing.assert_allclose(weighted.predict_proba(TEXTS), repeated.predict_proba(TEXTS), atol=1e-6)
    if freeze_depth == 1.0:
        same = [*TEXTS[:7], "d" * 500]  # more windows, all of them alike
        np.testing.assert_allclose(
            model.fit(same, Y).predict_proba(TEXTS), clone(model).fit(TEXTS, Y).predict_proba(TEXTS), atol=1e-4
        )


def test_numbers_and_several_labels_are_voted_on():
    y = np.column_stack([Y, Y[::-1]])
    for depth in (1.0, 0.5):
        numbers = FineTunedRegressor("toy:text", freeze_depth=depth, max_epochs=1, window_pooling="vote", **OPTIONS)
        labels = classifier("vote", freeze_depth=depth).fit(TEXTS, y)
        numbers.fit(TEXTS, y.astype(float))
        for row in (1, 3):
            windows = windows_of(TEXTS[row])
            np.testing.assert_allclose(numbers.predict(TEXTS)[row], numbers.predict(windows).mean(0), atol=1e-5)
            np.testing.assert_allclose(
                labels.predict_proba(TEXTS)[row], labels.predict_proba(windows).mean(0), atol=1e-6
            )


@pytest.mark.parametrize("loss_weights", ["uncertainty", "equal"])
def test_tasks_are_voted_on(loss_weights):
    y = np.column_stack([Y.astype(float), np.where(np.arange(8) == 3, np.nan, Y[::-1] + 0.5)])
    kinds = ["classification", "regression"]
    options = OPTIONS | {"freeze_depth": 0.5, "max_epochs": 2, "loss_weights": loss_weights, "tasks": kinds}
    model, windows = (
        MultiTaskFineTuner("toy:text", window_pooling="vote", **options).fit(TEXTS, y),
        windows_of(TEXTS[1]),
    )
    np.testing.assert_allclose(model.predict(TEXTS)[1, 1], model.predict(windows)[:, 1].mean(), atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(TEXTS)[0][1], model.predict_proba(windows)[0].mean(0), atol=1e-6)


@pytest.mark.parametrize(
    "kind", [PretrainedFeatureExtractor, FewShotClassifier, DomainAdaptedClassifier], ids=lambda kind: kind.__name__
)
def test_windows_vote_only_where_a_loss_is_of_single_samples(kind):
    with pytest.raises(ValueError, match=rf"'window_pooling' parameter of {kind.__name__} .*'mean'.*Got 'vote'"):
        kind("toy:text", window_pooling="vote").fit(TEXTS, Y)


@pytest.mark.parametrize("method", ["prototype", "contrastive"])
def test_prototypes_are_made_of_maxima(method):
    options = OPTIONS | {"method": method, "freeze_depth": 0.5, "max_epochs": 1, "window_pooling": "max"}
    model = FewShotClassifier("toy:text", **options).fit(TEXTS, Y)
    features = [model.transform(windows_of(text)).max(0) for text in TEXTS]
    np.testing.assert_allclose(model.transform(TEXTS), features, atol=1e-6)
    np.testing.assert_array_equal(
        np.vstack([model.predict_proba([text]) for text in TEXTS]), model.predict_proba(TEXTS)
    )


@pytest.mark.parametrize("method", ["mcc", "deep_coral", None])
def test_a_domain_is_adapted_to_over_maxima(method):
    y = np.array([0, 1, 0, 1, -1, -1, -1, -1])
    options = OPTIONS | {"method": method, "freeze_depth": 0.5, "max_epochs": 1}
    model = DomainAdaptedClassifier("toy:text", window_pooling="max", **options).fit(TEXTS, y)
    features = [model.transform(windows_of(text)).max(0) for text in TEXTS]
    np.testing.assert_allclose(model.transform(TEXTS), features, atol=1e-6)


@pytest.mark.parametrize("window_pooling", ["max", "vote"])
def test_calibration_and_early_stopping_see_what_predictions_see(window_pooling):
    X = [f"{'good' if i % 2 else 'bad'} text {i} of many words " * (1 + i % 4) for i in range(40)]
    how = {"calibrate": "temperature", "early_stopping": True, "max_epochs": 3}
    model = classifier(window_pooling, freeze_depth=0.5, **how).fit(X, np.arange(40) % 2)
    assert np.isfinite(model.history_["validation_loss"]).all()
    assert model._task_.temperature != 1.0
    found = model.predict_proba(X)
    np.testing.assert_array_equal(model.predict(X), found.argmax(1))
    model._task_.temperature = 8.0
    np.testing.assert_array_equal(model.predict(X), found.argmax(1))


@pytest.mark.parametrize("window_pooling", ["max", "vote"])
@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_results_are_the_same_with_and_without_store_and_from_a_file(window_pooling, freeze_depth, tmp_path):
    found = []
    for cache in (None, ActivationStore(), tmp_path / "store", tmp_path / "store"):
        model = classifier(window_pooling, freeze_depth=freeze_depth, cache=cache).fit(TEXTS, Y)
        found.append(model.predict_proba(TEXTS))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)
    model.save(tmp_path / "model.skl")
    loaded = load(tmp_path / "model.skl")
    assert loaded.window_pooling == window_pooling
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), found[-1])


def test_ways_to_pool_windows_share_a_store_and_nothing_else():
    store = ActivationStore()
    found = {}
    for window_pooling in ("mean", "max", "vote"):
        for cache in (None, store):
            model = classifier(window_pooling, freeze_depth=1.0, cache=cache).fit(TEXTS, Y)
            found.setdefault(window_pooling, []).append(model.predict_proba(TEXTS))
    for with_store, without in found.values():
        np.testing.assert_allclose(with_store, without, atol=1e-6)
    assert not np.allclose(found["mean"][0], found["vote"][0])
    assert not np.allclose(found["max"][0], found["vote"][0])


@pytest.mark.parametrize("window_pooling", ["max", "vote"])
def test_windows_of_unreadable_samples_are_left_out(window_pooling):
    X = [*TEXTS[:3], None, *TEXTS[3:]]
    y = np.insert(Y, 3, 1)
    model = classifier(window_pooling, freeze_depth=1.0, on_bad_sample="nan")
    with pytest.warns(UserWarning, match=r"Rows \[3\] of X could not be read"):
        model.fit(X, y)
    found = model.predict_proba(X)
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, axis=0), clone(model).fit(TEXTS, Y).predict_proba(TEXTS))
    extractor = PretrainedFeatureExtractor(
        "toy:text", long_samples="windows", max_length=LENGTH, window_pooling="max", missing="zero"
    )
    assert (extractor.transform(X)[3] == 0).all()


def test_pooling_of_windows_has_no_effect_where_there_are_none():
    X = np.random.default_rng(0).random((8, 16, 16))
    for freeze_depth in (1.0, 0.5):
        models = [
            FineTunedClassifier(
                "toy:images", freeze_depth=freeze_depth, window_pooling=how, max_epochs=1, random_state=0
            ).fit(X, Y)
            for how in ("mean", "max", "vote")
        ]
        for other in models[1:]:
            np.testing.assert_array_equal(other.predict_proba(X), models[0].predict_proba(X))
            assert other._network_.spec == models[0]._network_.spec


def test_a_fit_goes_on_only_with_the_same_pooling_of_windows(tmp_path):
    model = classifier("vote", freeze_depth=0.5, warm_start=True).fit(TEXTS, Y)
    model.fit(TEXTS, Y).partial_fit(TEXTS, Y)
    with pytest.raises(ValueError, match=r"reading alike \(.*window_pooling\)"):
        model.set_params(window_pooling="max").fit(TEXTS, Y)
    for how in ("mean", "max", "vote"):
        resumed = classifier(how, freeze_depth=0.5, checkpoint=tmp_path).fit(TEXTS, Y)
        plain = classifier(how, freeze_depth=0.5).fit(TEXTS, Y)
        np.testing.assert_array_equal(resumed.predict_proba(TEXTS), plain.predict_proba(TEXTS))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_cannot_pool_windows_in_another_way(tmp_path):
    model = classifier("vote", freeze_depth=1.0).fit(TEXTS, Y)
    object.__setattr__(model._network_.spec, "window_pooling", "median")
    model.save(tmp_path / "model.skl")
    with pytest.raises(WeightsError, match="window_pooling='median'; expected one of"):
        load(tmp_path / "model.skl")


def test_an_extraction_into_files_goes_on_only_with_the_same_pooling_of_windows(tmp_path):
    dask = pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")
    table = dask.from_pandas(pandas.DataFrame({"text": TEXTS}), npartitions=1)
    extractor = PretrainedFeatureExtractor("toy:text", long_samples="windows", max_length=LENGTH, dtype="float32")
    (file,) = extract_to_parquet(extractor, table, tmp_path, column="text")
    before = file.read_bytes()
    with pytest.raises(ValueError, match="begun with window_pooling=None; this call has window_pooling='max'"):
        extract_to_parquet(extractor.set_params(window_pooling="max"), table, tmp_path, column="text")
    assert file.read_bytes() == before


def test_layers_are_probed_of_estimators_whose_windows_vote():
    found = [
        LayerProbeDisplay.from_estimator(classifier(how), TEXTS * 2, np.r_[Y, Y], cv=2, random_state=0).scores
        for how in ("mean", "vote")
    ]
    np.testing.assert_array_equal(*found)
