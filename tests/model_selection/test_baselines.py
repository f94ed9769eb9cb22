"""Baselines keep what surrounds the network, and read X as it does."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import FineTunedClassifier, FineTunedRegressor, load_backbone
from skltransfer._estimators.nested import network_of, place_of_network
from skltransfer.model_selection._baselines import built, checked_baselines
from skltransfer.model_selection._plain import plain_samples


def in_pipeline(network):
    return Pipeline([("scaled", FunctionTransformer(np.tanh)), ("network", network)])


def baseline(name, estimator, y=(0, 1)):
    return built(name, estimator, y=np.asarray(y), seed=3, scoring=None)


@pytest.mark.parametrize(("name", "depth"), [("scratch", 0.0), ("random", 1.0)], ids=["scratch", "random"])
def test_networks_of_random_weights_keep_all_but_weights_and_what_is_trained(name, depth):
    network = FineTunedClassifier("toy:rows", max_epochs=7, adapter="lora", learning_rate=0.02, random_state=5)
    found = baseline(name, in_pipeline(network))
    assert found.steps[0][0] == "scaled"
    changed = found.steps[1][1].get_params()
    assert (changed["weights"], changed["freeze_depth"]) == ("random:3", depth)
    assert changed["adapter"] is None
    assert (changed["max_epochs"], changed["learning_rate"], changed["random_state"]) == (7, 0.02, 5)
    assert (network.weights, network.adapter) == ("pretrained", "lora")


def test_a_regressor_has_the_same_baselines():
    found = baseline("scratch", FineTunedRegressor("toy:rows"), y=[0.5, 1.5])
    assert (found.weights, found.freeze_depth) == ("random:3", 0.0)


def test_a_backbone_that_was_passed_as_a_value_is_loaded_again_with_its_options():
    backbone = load_backbone("toy:text", max_length=9)
    found = baseline("random", FineTunedClassifier(backbone)).backbone
    assert (found.weights, found.options["max_length"]) == ("random:3", 9)
    assert found.fingerprint != backbone.fingerprint


def test_weights_that_a_name_holds_are_left_out_of_it():
    found = baseline("random", FineTunedClassifier("torchvision:resnet50:IMAGENET1K_V2"))
    assert (found.backbone, found.weights) == ("torchvision:resnet50", "random:3")


@pytest.mark.parametrize(
    ("search", "attribute"),
    [(GridSearchCV, "param_grid"), (HalvingGridSearchCV, "param_grid"), (RandomizedSearchCV, "param_distributions")],
)
def test_a_search_goes_on_over_what_is_left_to_choose(search, attribute):
    grid = {"network__freeze_depth": [1.0, 0.5], "network__C": np.array([0.1, 1.0])}
    found = baseline("scratch", search(in_pipeline(FineTunedClassifier("toy:rows")), grid))
    assert isinstance(found, search)
    assert [list(one) for one in getattr(found, attribute)] == [["network__C"]]
    assert network_of(found).freeze_depth == 0.0


def test_a_search_over_depth_alone_is_no_search_from_random_weights():
    search = GridSearchCV(FineTunedClassifier("toy:rows"), {"freeze_depth": [1.0, 0.5]})
    assert isinstance(baseline("random", search), FineTunedClassifier)
    assert baseline("random", search).freeze_depth == 1.0


@pytest.mark.parametrize("name", ["linear", "elm"])
def test_models_without_a_network_take_its_place(name):
    found = baseline(name, GridSearchCV(in_pipeline(FineTunedClassifier("toy:rows")), {"network__C": [1, 2]}))
    assert [step for step, _ in found.steps] == ["scaled", "network"]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    assert found.fit(X[:60], X[:60, 0] > 0).score(X[60:], X[60:, 0] > 0) > 0.8


@pytest.mark.parametrize("wrong", ["linaer", ["scratch", "none"], {"mine": 3}, {"transfer": "linear"}])
def test_a_baseline_that_is_none_is_refused_by_name(wrong):
    with pytest.raises(
        ValueError, match=r"baselines must be names out of .*'scratch', 'random', 'linear', 'elm'.*; got"
    ):
        checked_baselines(wrong, {})


def test_a_report_without_baselines_is_refused():
    with pytest.raises(ValueError, match="baselines is empty"):
        checked_baselines([], {})


@pytest.mark.parametrize("estimator", [LogisticRegression(), KMeans(), Pipeline([("a", KMeans())])])
def test_an_estimator_without_a_network_is_refused(estimator):
    with pytest.raises(ValueError, match=r"a Pipeline that ends in one, or a search around either; got"):
        place_of_network(estimator)


def test_the_place_of_a_network_leads_there():
    search = GridSearchCV(in_pipeline(FineTunedClassifier("toy:rows")), {})
    place = place_of_network(search)
    assert place == "estimator__network__"
    assert network_of(search.set_params(**{f"{place}C": 7})).C == 7


def texts(rng, y):
    words = (("bright", "warm", "lovely"), ("dull", "cold", "awful"))
    return [f"a {rng.choice(words[k])} {rng.choice(words[k])} day, number {rng.integers(1000)}" for k in y]


def sounds(rng, y):
    time = np.arange(4000) / 8000
    pitch = (200 + 900 * y) * rng.uniform(0.9, 1.1, len(y))
    return [(0.5 * np.sin(2 * np.pi * hz * time).astype(np.float32), 8000) for hz in pitch]


def pictures(rng, y):
    return [rng.integers(0, 128, (20, 24, 3), dtype=np.uint8) + np.uint8(90 * k) for k in y]


def rows(rng, y):
    return rng.normal(size=(len(y), 5)) + y[:, None]


MAKERS = {"text": texts, "audio": sounds, "images": pictures, "rows": rows}


@pytest.mark.parametrize("name", ["linear", "elm"])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.filterwarnings("ignore:The number of components is higher")  # few words in few texts
def test_models_without_a_network_learn_from_all_kinds_of_samples(rng, kind, name):
    y = np.arange(60) % 2
    X = MAKERS[kind](rng, y)
    model = baseline(name, FineTunedClassifier(f"toy:{kind}"))
    assert model.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.8
    numbers = baseline(name, FineTunedRegressor(f"toy:{kind}"), y=[0.5])
    assert numbers.fit(X[:40], y[:40] + 0.5).score(X[40:], y[40:] + 0.5) > 0.3


@pytest.mark.parametrize("name", ["linear", "elm"])
def test_models_without_a_network_tell_several_labels_at_once(rng, name):
    X = rng.normal(size=(60, 3))
    y = (X > 0).astype(int)
    model = baseline(name, FineTunedClassifier("toy:rows"), y=y).fit(X[:40], y[:40])
    assert (model.predict(X[40:]) == y[40:]).mean() > 0.7


def test_pictures_of_any_container_and_size_become_thumbnails(photos):
    from conftest import png

    reader = FineTunedClassifier("toy:images")
    table = plain_samples(list(photos), reader=reader)
    assert table.shape == (12, 768)
    assert (plain_samples([png(photo) for photo in photos], reader=reader) == table).all()
    assert 0 <= table.min() < table.max() <= 1


def test_a_bad_sample_is_named_by_a_model_without_a_network_too(photos):
    with pytest.raises(ValueError, match=r"X\[1\] .*missing value"):
        plain_samples([photos[0], None], reader=FineTunedClassifier("toy:images"))


def test_a_table_given_to_a_network_of_pictures_stays_a_table(rng):
    X = rng.random((6, 48)).astype(np.float32)
    assert (plain_samples(X, reader=FineTunedClassifier("toy:images")) == X).all()
    assert plain_samples(X, reader=FineTunedClassifier("toy:images", image_shape=(4, 4, 3))).shape == (6, 768)
