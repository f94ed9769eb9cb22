"""Pickles from before version 0.1 name modules that have moved: they still open, and a warning says so."""

import importlib
import pathlib
import pickle

import numpy as np
import pytest

import skltransfer
from skltransfer import ELMRegressor, FeatureAdaptedClassifier, FineTunedClassifier

PACKAGE = pathlib.Path(skltransfer.__file__).parent
OLD = {  # (old place, old name): (new place, new name)
    ("_alignment", "Affine"): ("domain_adaptation._alignment", "Affine"),
    ("_alignment", "Alignment"): ("domain_adaptation._alignment", "Alignment"),
    ("_ridge", "Moments"): ("elm._ridge", "Moments"),
    ("elm", "_HiddenLayer"): ("elm._elm", "_HiddenLayer"),
    ("elm", "ELMRegressor"): ("elm._elm", "ELMRegressor"),
    ("domain_adaptation", "FeatureAdaptedClassifier"): ("domain_adaptation._features", "FeatureAdaptedClassifier"),
    ("network_adaptation", "DomainAdaptedClassifier"): ("domain_adaptation._network", "DomainAdaptedClassifier"),
    ("engine._activations", "ActivationStore"): ("engine.storing.memory", "ActivationStore"),
    ("engine._heads", "ClassificationHead"): ("engine.tasks.classification", "ClassificationTask"),
    ("engine._heads", "MultilabelHead"): ("engine.tasks.multilabel", "MultilabelTask"),
    ("engine._heads", "RegressionHead"): ("engine.tasks.regression", "RegressionTask"),
    ("engine._multi_task", "MultiTaskHead"): ("engine.tasks.multi_task", "MultiTask"),
    ("engine._networks", "SleepingNetwork"): ("engine.networks.state", "NetworkState"),
    ("engine._prototypes", "PrototypeHead"): ("engine.tasks.prototypes", "PrototypeTask"),
    ("engine._spec", "NetworkSpec"): ("engine.networks.spec", "NetworkSpec"),
}
STAYED = {("elm", "ELMRegressor"), ("domain_adaptation", "FeatureAdaptedClassifier")}  # under the same public name


@pytest.mark.parametrize("old", sorted(OLD.keys() - STAYED), ids=".".join)
def test_what_moved_is_found_in_its_old_place_with_a_warning(old):
    place, name = old
    module = importlib.import_module(f"skltransfer.{place}")
    with pytest.warns(FutureWarning, match=f"{place}.{name} is now .*; the old name ends with version 0.2"):
        found = getattr(module, name)
    new, now = OLD[old]
    assert found is getattr(importlib.import_module(f"skltransfer.{new}"), now)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_every_old_place_is_tried_above():
    places = {path.relative_to(PACKAGE / "_moved") for path in (PACKAGE / "_moved").rglob("*.py")}
    names = {".".join(path.with_suffix("").parts) for path in places} - {"__init__"}
    assert names == {place for place, _ in OLD} - {"elm", "domain_adaptation"}


def as_before(content: bytes) -> bytes:
    """A pickle of protocol 2 with the names that it would have had."""
    for (place, name), (new, now) in OLD.items():
        content = content.replace(f"cskltransfer.{new}\n{now}\n".encode(), f"cskltransfer.{place}\n{name}\n".encode())
    return content


def test_an_old_pickle_opens_and_predicts_the_same(rng):
    X, y = rng.random((20, 16, 16)), np.arange(20) % 2
    rows, domains = rng.standard_normal((20, 4)), np.where(np.arange(20) < 14, 1, -1)
    models = [
        (FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, random_state=0).fit(X, y), X),
        (ELMRegressor(random_state=0).fit(rows, y), rows),
        (FeatureAdaptedClassifier().fit(rows, y, sample_domain=domains), rows),
    ]
    for model, data in models:
        content = pickle.dumps(model, protocol=2)
        before = as_before(content)
        assert before != content
        with pytest.warns(FutureWarning, match="is now skltransfer"):
            opened = pickle.loads(before)
        np.testing.assert_array_equal(opened.predict(data), model.predict(data))
