"""Features with which the head begins: kept while the stages after the boundary are the backbone's, and only then."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from skltransfer import (
    ActivationStore,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    load_backbone,
)
from skltransfer.engine import samplewise


@pytest.fixture
def computed(monkeypatch):
    """Numbers of samples of which features were computed before training."""
    counts, features_of = [], samplewise.features_of
    monkeypatch.setattr(
        samplewise, "features_of", lambda *given: (counts.append(len(given[2])), features_of(*given))[1]
    )
    return counts


def photos(rng, n=24):
    return rng.integers(0, 256, (n, 20, 20, 3), dtype=np.uint8), np.arange(n) % 2


def model(**how):
    how = {"dtype": "float32", "freeze_depth": 0.5, "max_epochs": 1, "random_state": 0} | how
    return FineTunedClassifier(how.pop("backbone", "toy:images"), **how)


def test_candidates_that_train_otherwise_begin_with_the_same_features(rng, computed):
    X, y = photos(rng)
    store = ActivationStore()
    expected = [model(cache=None, learning_rate=rate).fit(X, y).predict_proba(X) for rate in (1e-3, 1e-2)]
    computed.clear()
    for rate, values in zip((1e-3, 1e-2), expected, strict=True):
        found = model(cache=store, learning_rate=rate).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(found, values)
    assert computed == [len(X)]


def test_a_search_computes_them_once_for_each_depth_and_fold(rng, computed):
    X, y = photos(rng)
    grid = {"freeze_depth": [0.5, 0.25], "learning_rate": [1e-3, 1e-2]}
    alone = GridSearchCV(model(cache=None), grid, cv=3).fit(X, y)
    assert computed == 12 * [16] + [24]
    computed.clear()
    search = GridSearchCV(model(cache=ActivationStore()), grid, cv=3).fit(X, y)
    assert computed == 6 * [16] + [24]
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.predict_proba(X), alone.predict_proba(X))


def test_a_folder_keeps_them_for_other_processes(rng, computed, tmp_path):
    X, y = photos(rng)
    for part in (slice(12, 24), slice(24), slice(12, 24), slice(None, None, -1)):
        found = model(cache=ActivationStore(tmp_path)).fit(X[part], y[part])
    assert computed == [12, 24]
    np.testing.assert_array_equal(found.predict_proba(X), model(cache=None).fit(X, y).predict_proba(X))


def test_windows_of_texts_and_numbers_beside_them_are_kept(rng, computed):
    texts = [" ".join(["a", "good", "film"] * int(n)) for n in rng.integers(1, 12, 20)]
    X = pd.DataFrame({"text": texts, "size": rng.normal(size=20), "year": 2000.0 + np.arange(20)})
    y, store = np.arange(20) % 2, ActivationStore()
    network = load_backbone("toy:text", max_length=20, long_samples="windows")
    how = {"backbone": network, "sample_column": "text"}
    for pooling, n_fits in (("mean", 2), ("max", 2), ("mean", 1)):  # without a cache, and with one
        computed.clear()
        fits = [model(cache=cache, window_pooling=pooling, **how).fit(X, y) for cache in (None, store)]
        assert computed == [20] * n_fits
        np.testing.assert_array_equal(*(fitted.predict_proba(X) for fitted in fits))
    computed.clear()
    model(cache=store, **how).fit(X.assign(size=X["size"] + 1), y)
    assert computed == [20]


@pytest.mark.parametrize(
    "how",
    [
        {"freeze_depth": 0.25},
        {"pooling": "flatten"},
        {"dtype": "bfloat16"},
        {"backbone": load_backbone("toy:images", weights="random")},
    ],
)
def test_other_features_are_not_taken_for_these(rng, how):
    X, y = photos(rng)
    store = ActivationStore()
    model(cache=store).fit(X, y)
    found = model(cache=store, **how).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found, model(cache=None, **how).fit(X, y).predict_proba(X))


OTHER_WEIGHTS = {
    "live statistics": lambda cache, X, y: model(cache=cache, norm_policy="train").fit(X, y),
    "adapters": lambda cache, X, y: model(cache=cache, adapter="lora").fit(X, y),
    "another domain": lambda cache, X, y: DomainAdaptedClassifier(
        "toy:images", method="norm_statistics", freeze_depth=0.5, dtype="float32", random_state=0, cache=cache
    ).fit(np.concatenate([X, X // 2]), np.concatenate([y, y]), sample_domain=np.repeat([1, -1], len(X))),
    "prototypes after training": lambda cache, X, y: FewShotClassifier(
        "toy:images", method="contrastive", freeze_depth=0.5, dtype="float32", random_state=0, cache=cache
    ).fit(X, y),
}


@pytest.mark.parametrize("name", OTHER_WEIGHTS)
def test_stages_that_were_changed_are_asked_again(name, rng):
    X, y = photos(rng)
    expected = OTHER_WEIGHTS[name](None, X, y).predict_proba(X)
    store = ActivationStore()
    model(cache=store).fit(X, y)
    for _ in range(2):
        np.testing.assert_array_equal(OTHER_WEIGHTS[name](store, X, y).predict_proba(X), expected)
