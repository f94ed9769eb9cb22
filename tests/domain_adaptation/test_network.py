"""A network drawn towards a domain without labels: losses, statistics, masks, warnings."""

import warnings

import numpy as np
import pytest
import torch
from conftest import png
from sklearn.model_selection import GridSearchCV

from skltransfer import DomainAdaptedClassifier, FineTunedClassifier, load, load_backbone
from skltransfer.engine import NetworkSpec, VectorReadout, new_network
from skltransfer.engine.training.batch_norm import refresh_norms
from skltransfer.engine.training.domain_losses import class_confusion, covariance_distance
from skltransfer.exceptions import AdaptationWarning

pytestmark = pytest.mark.filterwarnings("ignore::skltransfer.exceptions.AdaptationWarning")
OPTIONS = {"random_state": 0, "dtype": "float32", "max_epochs": 3}


@pytest.fixture
def cameras(rng):
    """Pictures that are bright above or below, the second half by a darker camera; labels; the mask."""
    X = rng.random((80, 16, 16)) * 0.5
    kinds = np.arange(80) % 2
    X[kinds == 0, :8] += 0.4
    X[40:] *= 0.7
    return X, kinds, np.where(np.arange(80) < 40, 3 + kinds, -1)


@pytest.mark.parametrize("k", [1, 4])
def test_class_confusion_is_its_defining_formula(rng, k):
    outputs = rng.standard_normal((7, k))
    logits = np.column_stack([np.zeros(7), outputs]) if k == 1 else outputs
    p = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum(1, keepdims=True)
    w = 1 + np.exp((p * np.log(p)).sum(1))
    w = 7 * w / w.sum()
    c = sum(w[i] * np.outer(p[i], p[i]) for i in range(7))
    c /= c.sum(1, keepdims=True)
    expected = (c.sum() - np.trace(c)) / len(c)
    assert class_confusion(torch.tensor(outputs)).item() == pytest.approx(expected, rel=1e-6)


def test_covariance_distance_is_its_defining_formula(rng):
    a, b = rng.standard_normal((9, 3)), 2 * rng.standard_normal((6, 3))
    expected = ((np.cov(a.T) - np.cov(b.T)) ** 2).sum() / (4 * 9)
    assert covariance_distance(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected)
    assert covariance_distance(torch.tensor(a), torch.tensor(a + 5)).item() == pytest.approx(0, abs=1e-12)


def fresh():
    backbone = load_backbone("toy:images")
    return new_network(backbone, NetworkSpec(0, "mean", n_outputs=2), VectorReadout.of, seed=0)


def norms(network):
    return [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_statistics_are_those_of_the_population_however_it_is_cut(rng):
    X = torch.tensor(rng.random((22, 3, 16, 16)), dtype=torch.float32)
    networks = [fresh() for _ in range(3)]
    orders = [np.arange(22), rng.permutation(22), np.arange(22)]
    for network, order, size in zip(networks, orders, (22, 5, 1), strict=True):
        n = refresh_norms(network, lambda order=order, size=size: X[order].split(size), prior=0.0)
        assert n == len(norms(network)) > 1
    for layers in zip(*map(norms, networks), strict=True):
        for other in layers[1:]:
            torch.testing.assert_close(layers[0].running_mean, other.running_mean, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(layers[0].running_var, other.running_var, rtol=1e-5, atol=1e-6)
    outputs = []
    last = norms(networks[0])[-1]
    last.register_forward_hook(lambda m, i, o: outputs.append((o - m.bias[:, None, None]) / m.weight[:, None, None]))
    networks[0].eval().features(X)
    flat = outputs[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(len(flat)), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.var(1, correction=0), torch.ones(len(flat)), atol=2e-3, rtol=0)


def test_a_prior_keeps_part_of_the_old_statistics(rng):
    X = torch.tensor(rng.random((10, 3, 16, 16)), dtype=torch.float32)
    old, whole, half = fresh(), fresh(), fresh()
    refresh_norms(whole, lambda: [X], prior=0.0)
    refresh_norms(half, lambda: [X], prior=10.0)
    first = [norms(network)[0].running_mean for network in (old, whole, half)]
    torch.testing.assert_close(first[2], (first[0] + first[1]) / 2)


def test_the_targets_statistics_undo_another_camera(cameras):
    X, kinds, y = cameras
    options = {"freeze_depth": 0.0, **OPTIONS, "max_epochs": 5}
    scores = {
        method: (
            DomainAdaptedClassifier("toy:images", method=method, **options).fit(X, y).predict(X[40:]) == 3 + kinds[40:]
        ).mean()
        for method in (None, "norm_statistics")
    }
    assert scores["norm_statistics"] > scores[None] + 0.2


def test_training_sees_the_sources_own_statistics(cameras):
    """So that a target that is like the source changes nothing, whatever pretraining's statistics were."""
    X, _, y = cameras
    options = {"freeze_depth": 0.0, "learning_rate": 1e-12, **OPTIONS}
    model = DomainAdaptedClassifier("toy:images", method="norm_statistics", **options)
    model.fit(np.concatenate([X[:40], X[:40]]), y)
    np.testing.assert_allclose(
        model._run(X[:40], features=True)[0].mean(axis=0), model._network_.changed["readout.mean"], atol=1e-5
    )


@pytest.mark.parametrize("method", [None, "mcc", "norm_statistics"])
def test_adapting_does_not_hide_other_shares_of_classes(cameras, method):
    """What a network says after it was drawn towards a target is no witness of the target's classes."""
    X, kinds, y = cameras
    one_kind = np.concatenate([X[:40], X[:40][kinds[:40] == 0], X[:40][kinds[:40] == 0] + 0.001])
    model = DomainAdaptedClassifier("toy:images", method=method, freeze_depth=0.0, **OPTIONS)
    with pytest.warns(AdaptationWarning, match="Before adapting, classes are predicted in other shares"):
        assert model.fit(one_kind, y).domain_report_["label_shift"] > 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error", AdaptationWarning)
        model.fit(np.concatenate([X[:40], X[:40] + 0.001]), y)


def test_without_a_method_it_is_a_fit_to_the_source(cameras):
    X, kinds, y = cameras
    ours = DomainAdaptedClassifier("toy:images", method=None, freeze_depth=0.5, **OPTIONS).fit(X, y)
    theirs = FineTunedClassifier("toy:images", freeze_depth=0.5, **OPTIONS).fit(X[:40], 3 + kinds[:40])
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


@pytest.mark.parametrize("method", ["mcc", "deep_coral", "norm_statistics"])
def test_the_order_of_rows_and_labels_of_the_target_do_not_matter(cameras, rng, method):
    X, kinds, y = cameras
    options = {"method": method, "freeze_depth": 0.5, **OPTIONS}
    model = DomainAdaptedClassifier("toy:images", **options).fit(X, y)
    order = rng.permutation(80)
    shuffled = DomainAdaptedClassifier("toy:images", **options).fit(X[order], y[order])
    np.testing.assert_array_equal(model.predict_proba(X), shuffled.predict_proba(X))
    np.testing.assert_array_equal(model.predict_proba(X)[order], model.predict_proba(X[order]))
    domain = np.where(y == -1, -2, 1)
    told = DomainAdaptedClassifier("toy:images", **options).fit(X, np.where(y == -1, 4, y), sample_domain=domain)
    np.testing.assert_array_equal(model.predict_proba(X), told.predict_proba(X))


@pytest.mark.parametrize(("method", "weight"), [("mcc", 1.0), ("deep_coral", 1e7)])
def test_the_target_leads_what_is_trained(cameras, method, weight):
    """The toy network's features are small, and their covariances' distance is smaller yet: hence the weight."""
    X, _, y = cameras
    options = {"freeze_depth": 0.5, **OPTIONS, "max_epochs": 20, "learning_rate": 0.01, "C": 10.0}
    models = [
        DomainAdaptedClassifier("toy:images", method=m, adaptation_weight=w, **options).fit(X, y)
        for m, w in ((None, 1.0), (method, weight))
    ]
    if method == "mcc":
        found = [class_confusion(torch.tensor(m.decision_function(X[40:]))[:, None]).item() for m in models]
    else:
        features = [model.transform(X) for model in models]
        found = [covariance_distance(*map(torch.tensor, (f[:40], f[40:]))).item() for f in features]
    assert found[1] < 0.8 * found[0]


@pytest.mark.parametrize(
    ("labels", "gap"), [(["a", "b"], None), ([0.0, 1.0], np.nan), ([True, False], None), ([5, 7], -1)], ids=str
)
def test_masks_of_each_kind_of_label(cameras, labels, gap):
    X, kinds, _ = cameras
    y = np.array(labels, dtype=object if gap is None else None)[kinds]
    y[40:] = gap
    before = y.copy()
    model = DomainAdaptedClassifier("toy:images", freeze_depth=1.0, **OPTIONS).fit(X, y)
    assert set(model.predict(X).tolist()) <= set(labels)
    assert model.domain_report_["n_target"] == 40
    np.testing.assert_array_equal(y, before)


def test_labels_of_minus_and_plus_one_need_domains(cameras):
    X, kinds, _ = cameras
    y, domain = 2 * kinds - 1, np.repeat([1, -1], 40)
    model = DomainAdaptedClassifier("toy:images", freeze_depth=0.5, **OPTIONS).fit(X, y, sample_domain=domain)
    assert model.classes_.tolist() == [-1, 1]
    assert model.domain_report_["n_source"] == 40


def test_the_report_and_its_warnings(cameras, rng):
    X, kinds, y = cameras
    model = DomainAdaptedClassifier("toy:images", method=None, freeze_depth=1.0, C=1.0, **OPTIONS)
    fair = np.concatenate([X[:40], X[:40] + 0.01 * rng.random((40, 16, 16))])
    with warnings.catch_warnings():
        warnings.simplefilter("error", AdaptationWarning)
        report = model.fit(fair, y).domain_report_
    np.testing.assert_allclose(report["source_mix"], [0.5, 0.5], atol=0.1)
    assert report["proxy_a_distance"] < 1
    one_kind = np.concatenate([X[:40], fair[40:][kinds[:40] == 0], fair[40:][kinds[:40] == 0] + 0.001])
    with pytest.warns(AdaptationWarning, match="in other shares for target samples"):
        assert model.fit(one_kind, y).domain_report_["label_shift"] > 0.3
    with pytest.warns(AdaptationWarning, match="No row is a target row"):
        model.fit(X[:40], kinds[:40])


def test_what_cannot_be_adapted_is_refused(cameras):
    X, kinds, y = cameras
    with pytest.raises(ValueError, match=r"finds no BatchNorm in 'toy:images' after 4 frozen stages. Freeze less"):
        DomainAdaptedClassifier("toy:images", method="norm_statistics", freeze_depth=1.0).fit(X, y)
    with pytest.raises(ValueError, match="all of them target rows"):
        DomainAdaptedClassifier("toy:images").fit(X, kinds, sample_domain=np.full(80, -1))
    with pytest.raises(ValueError, match="source rows of at least 2 classes"):
        DomainAdaptedClassifier("toy:images").fit(X, np.full(80, 3), sample_domain=np.repeat([0, -1], 40))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        DomainAdaptedClassifier("toy:images").fit(X[:60], y)


def test_it_is_searched_and_saved_like_the_others(cameras, tmp_path):
    X, _, y = cameras
    model = DomainAdaptedClassifier("toy:images", **OPTIONS | {"max_epochs": 1})
    search = GridSearchCV(model, {"method": ["mcc", None], "freeze_depth": [0.5]}, cv=2, error_score="raise")
    best = search.fit(X, y).best_estimator_
    best.save(tmp_path / "model.skl")
    np.testing.assert_array_equal(load(tmp_path / "model.skl").predict_proba(X), best.predict_proba(X))


def test_masked_samples_do_not_count_in_a_score(cameras):
    X, kinds, y = cameras
    model = DomainAdaptedClassifier("toy:images", freeze_depth=1.0, method=None, **OPTIONS).fit(X, y)
    on_source, on_target = (np.mean(model.predict(X[part]) == 3 + kinds[part]) for part in (slice(40), slice(40, 80)))
    assert model.score(X, y) == on_source
    assert model.score(X[40:], 3 + kinds[40:]) == on_target
    assert model.score(X, 3 + kinds, sample_domain=np.repeat([0, -1], 40)) == on_source
    assert model.score(X[40:], 3 + kinds[40:], sample_domain=np.full(40, -1)) == on_target


def test_a_sample_that_cannot_be_read_is_left_out_of_the_report(cameras):
    X, _, y = cameras
    pictures = [png((255 * picture).astype(np.uint8)) for picture in X]
    pictures[3], pictures[50] = b"no picture", b"no picture"
    model = DomainAdaptedClassifier("toy:images", freeze_depth=0.5, on_bad_sample="nan", **OPTIONS)
    with pytest.warns(UserWarning, match="could not be read"):
        report = model.fit(pictures, y).domain_report_
    assert (report["n_source"], report["n_target"]) == (39, 39)
    assert np.isfinite(report["target_mix"]).all()


def test_callbacks_are_told_of_its_epochs(cameras):
    callback = pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    X, _, y = cameras
    monitor = callback.ScoringMonitor(scoring="accuracy")
    DomainAdaptedClassifier("toy:images", freeze_depth=0.5, **OPTIONS).set_callbacks(monitor).fit(X, y)
    assert len([row for row in monitor.get_logs().data if row["task_name"] == "epoch"]) == OPTIONS["max_epochs"]
