"""Inside scikit-learn's machinery, and across processes."""

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from networks import DEFAULT, TINY_PHOTO, small_default, tiny_photo, tiny_photo_weights, weights_of
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer import FineTunedClassifier, FineTunedRegressor, PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError


@pytest.fixture
def classifier():
    return FineTunedClassifier("toy:images", max_epochs=2, random_state=0)


def test_two_processes_score_as_one(two_kinds, classifier):
    grid = {"freeze_depth": [1.0, 0.75, 0.5, 0.0]}
    scores = [
        GridSearchCV(classifier, grid, cv=2, scoring="neg_log_loss", n_jobs=n, error_score="raise")
        .fit(*two_kinds)
        .cv_results_["mean_test_score"]
        for n in (1, 2)
    ]
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_a_backbone_value_travels_to_other_processes(two_kinds):
    model = FineTunedClassifier(load_backbone("toy:images", weights="random:3"), freeze_depth=1.0)
    one, two = (cross_validate(model, *two_kinds, cv=2, n_jobs=n, error_score="raise")["test_score"] for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_a_grid_over_two_backbones_scores_two_backbones(two_kinds, classifier):
    pretrained = {"toy:images": "pretrained", TINY_PHOTO: tiny_photo_weights()}
    grid = [{"backbone": [name], "weights": [weights, "random"]} for name, weights in pretrained.items()]
    search = GridSearchCV(classifier.set_params(freeze_depth=1.0), grid, cv=2, scoring="neg_log_loss").fit(*two_kinds)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    models = [clone(classifier).set_params(backbone=name, weights=weights) for name, weights in pretrained.items()]
    shapes = {model.backbone: model.fit(*two_kinds).transform(two_kinds[0]).shape[1] for model in models}
    assert shapes == {"toy:images": 32, TINY_PHOTO: 256}


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_pickle_and_joblib_give_the_model_back(two_kinds, classifier, freeze_depth, tmp_path):
    X, y = two_kinds
    model = classifier.set_params(freeze_depth=freeze_depth).fit(X, y)
    expected = model.predict_proba(X)
    joblib.dump(model, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(X), expected)


@pytest.mark.parametrize("name", [TINY_PHOTO, DEFAULT, pytest.param("torchvision:resnet18", marks=pytest.mark.slow)])
def test_a_pickle_holds_no_unchanged_weights(name, rng):
    X, y = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8) % 2
    weights = weights_of(name)
    frozen = FineTunedClassifier(name, weights=weights, freeze_depth=1.0).fit(X, y)
    frozen.predict(X)
    assert len(pickle.dumps(frozen)) < 300_000
    assert len(pickle.dumps(PretrainedFeatureExtractor(name, weights=weights).fit(X))) < 10_000
    tuned = FineTunedClassifier(name, weights=weights, freeze_depth=-1, max_epochs=1).fit(X, y)
    statistics = 2 * tuned.transform(X).shape[1]  # the head standardises its features
    assert len(pickle.dumps(tuned)) < 4 * (tuned.n_trainable_params_ + statistics) + 5_000


@pytest.mark.parametrize("network", ["toy:images", pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_a_pickle_opens_in_another_process(two_kinds, classifier, tmp_path, network):
    X, y = two_kinds
    backbone, depth = (small_default(), -1) if network == DEFAULT else (network, 0.5)
    model = classifier.set_params(backbone=backbone, freeze_depth=depth, dtype="float32").fit(X, y)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps((model, X)))
    code = (
        f"import pickle, numpy as np; m, X = pickle.load(open({str(tmp_path / 'model.pkl')!r}, 'rb'));"
        f"np.save({str(tmp_path / 'p.npy')!r}, m.predict_proba(X))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), model.predict_proba(X), atol=1e-6)


def test_cross_validate_returns_fitted_estimators(two_kinds, classifier):
    found = cross_validate(classifier, *two_kinds, cv=3, return_estimator=True, error_score="raise")
    assert all(model.predict(two_kinds[0]).shape == (40,) for model in found["estimator"])


def test_deep_features_beside_numbers_in_a_column_transformer(two_kinds, rng):
    X, y = two_kinds
    frame = pd.DataFrame({"photo": list(X), "age": rng.random(40), "height": rng.random(40)})
    columns = ColumnTransformer(
        [
            ("photo", PretrainedFeatureExtractor("toy:images", pooling="flatten"), "photo"),
            ("same", PretrainedFeatureExtractor("toy:images", layer="stem"), ["photo"]),
            ("numbers", StandardScaler(), ["age", "height"]),
        ]
    ).set_output(transform="pandas")
    model = make_pipeline(columns, StandardScaler(), LogisticRegression()).fit(frame, y)
    assert model.score(frame, y) == 1
    names = columns.fit_transform(frame).columns
    assert {"same__photo_0", "numbers__age"} <= set(names)
    assert len(names) == 512 + 8 + 2


def test_a_search_names_the_sample_that_cannot_be_read_if_told_to_raise(two_kinds, classifier):
    X, y = two_kinds
    X = [*X[:-1], b"<html>404"]
    search = GridSearchCV(classifier, {"C": [0.1, 1.0]}, cv=2, error_score="raise")
    with pytest.raises(BadSampleError, match=r"X\[19\] .*<html>"):  # the last of its fold
        search.fit(X, y)
    with pytest.warns(FitFailedWarning), pytest.raises(BadSampleError):  # the refit
        search.set_params(error_score=np.nan).fit(X, y)


def test_stacking_and_calibration(two_kinds, classifier):
    X, y = two_kinds
    flat = X.reshape(40, -1)
    photos = clone(classifier).set_params(image_shape=(16, 16))
    stacked = StackingClassifier([("tuned", photos), ("linear", LogisticRegression())], cv=2).fit(flat, y)
    assert stacked.score(flat, y) > 0.9
    calibrated = CalibratedClassifierCV(clone(classifier), cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(1), 1)


@pytest.mark.parametrize("search", [HalvingGridSearchCV, HalvingRandomSearchCV, RandomizedSearchCV])
def test_other_searches_find_a_depth(two_kinds, classifier, search):
    """The resource may be the epochs, as for any iterative estimator."""
    options = {"cv": 2, "random_state": 0, "error_score": "raise"}
    if search is not RandomizedSearchCV:
        options |= {"resource": "max_epochs", "min_resources": 1, "max_resources": 3, "factor": 3}
    if search is not HalvingGridSearchCV:
        options |= {"n_candidates" if search is HalvingRandomSearchCV else "n_iter": 3}
    depths = {"freeze_depth": [1.0, "block1", -1], "C": [0.01, 1.0]}
    found = search(classifier, depths, **options).fit(*two_kinds)
    assert found.best_params_["freeze_depth"] in depths["freeze_depth"]
    assert found.score(*two_kinds) > 0.9
    if search is not RandomizedSearchCV:
        assert found.best_estimator_.max_epochs == 3


def test_samples_as_the_resource_of_a_halving_search(two_kinds, classifier):
    found = HalvingGridSearchCV(classifier, {"freeze_depth": [1.0, 0.5]}, cv=2, factor=2, random_state=0)
    assert found.fit(*two_kinds).n_resources_[-1] > found.n_resources_[0]


def test_a_threshold_is_tuned_for_a_metric(two_kinds, rng):
    X, y = two_kinds
    labels = np.where((y == "above") & (rng.random(40) < 0.7), "sunny", "dull")
    model = FineTunedClassifier("toy:images", freeze_depth=1.0)
    tuned = TunedThresholdClassifierCV(model, scoring="balanced_accuracy", cv=2, store_cv_results=True).fit(X, labels)
    assert set(tuned.predict(X)) == {"dull", "sunny"}
    above = tuned.estimator_.predict_proba(X)[:, 1] >= tuned.best_threshold_
    np.testing.assert_array_equal(tuned.predict(X), tuned.classes_[above.astype(int)])


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_networks_vote(two_kinds, classifier, voting):
    members = [(f"depth {depth}", clone(classifier).set_params(freeze_depth=depth)) for depth in (1.0, 0.5)]
    model = VotingClassifier([*members, ("other seed", clone(classifier).set_params(random_state=1))], voting=voting)
    assert model.fit(*two_kinds).score(*two_kinds) > 0.9


def test_importance_of_the_columns_of_a_mixed_table(two_kinds, rng):
    X, y = two_kinds
    words = [f"a thing {label}" for label in rng.permutation(y)]
    frame = pd.DataFrame({"photo": list(X), "title": words, "noise": rng.random(40)})
    columns = ColumnTransformer(
        [
            ("photo", PretrainedFeatureExtractor("toy:images"), "photo"),
            ("title", PretrainedFeatureExtractor("toy:text"), "title"),
            ("noise", StandardScaler(), ["noise"]),
        ]
    )
    model = make_pipeline(columns, StandardScaler(), LogisticRegression(C=0.1)).fit(frame, y)
    found = permutation_importance(model, frame, y, n_repeats=5, random_state=0)["importances_mean"]
    assert found[0] > 0.2
    assert found[0] > 3 * np.abs(found[1:]).max()


def test_curves_and_their_pictures(two_kinds, classifier):
    pytest.importorskip("matplotlib").use("Agg")
    sizes, train, test = learning_curve(classifier, *two_kinds, cv=2, train_sizes=[0.5, 1.0], error_score="raise")
    assert sizes.tolist() == [10, 20]
    assert test.shape == train.shape == (2, 2)
    options = {"cv": 2, "n_jobs": 2}
    drawn = LearningCurveDisplay.from_estimator(classifier, *two_kinds, train_sizes=[0.5, 1.0], **options)
    assert np.isfinite(drawn.test_scores).all()
    depths = {"param_name": "freeze_depth", "param_range": [0.0, 0.5, 1.0]}
    drawn = ValidationCurveDisplay.from_estimator(classifier, *two_kinds, **depths, **options)
    assert drawn.test_scores.shape == (3, 2)
    assert np.isfinite(drawn.test_scores).all()


def test_stacking_a_regressor_on_rows(rng):
    X = rng.standard_normal((60, 5))
    model = make_pipeline(StandardScaler(), FineTunedRegressor("toy:rows", random_state=0))
    assert cross_validate(model, X, X[:, 0], cv=3, error_score="raise")["test_score"].mean() > 0.3


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_predicts_after_its_parent_did(two_kinds, classifier):
    code = """
import os, sys, numpy as np, torch
torch.set_num_threads(2)
from skltransfer import FineTunedClassifier
X, y, network = np.random.default_rng(0).random((64, 16, 16)), np.arange(64) % 2, "bundled:tiny-photo"
model = FineTunedClassifier(network, weights="random", max_epochs=1, random_state=0, dtype="float32").fit(X, y)
model.set_params(cache=None)
expected = model.predict_proba(X)
child = os.fork()
if child == 0:
    os._exit(0 if np.allclose(model.predict_proba(X), expected, atol=1e-5) else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120).returncode == 0


@pytest.mark.slow
def test_ants_and_bees_with_real_weights(ants_and_bees):
    X, y, X_test, y_test = ants_and_bees
    pretrained = FineTunedClassifier(freeze_depth=1.0).fit(X, y).score(X_test, y_test)
    random = FineTunedClassifier(weights="random", freeze_depth=1.0).fit(X, y).score(X_test, y_test)
    assert pretrained > 0.7
    assert pretrained > random + 0.05


@pytest.mark.slow
def test_tiny_photo_knows_what_cifar_shows(data_folder):
    """A linear probe with 3,000 labels; size and stages were chosen by cross-validation on them (docs: model card)."""
    archive = np.load(data_folder / "cifar10_jpeg.npz")
    parts = {}
    for part in ("train", "test"):
        content, offset = archive[f"{part}_jpeg"], archive[f"{part}_offset"]
        photos = [content[a:b].tobytes() for a, b in zip(offset[:-1], offset[1:], strict=True)]
        parts[part] = (np.array(photos, dtype=object), archive[f"{part}_label"])
    X, y = (values[:3000] for values in parts["train"])
    backbone = tiny_photo(input_size=40)
    extractor = PretrainedFeatureExtractor(backbone, layer=["block6", "block7", "penultimate"])
    probe = make_pipeline(extractor, StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(X, y)
    assert probe.score(*parts["test"]) >= 0.68
