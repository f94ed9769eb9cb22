"""Labels with an order: where it comes from, what is answered, and all that a classifier can be asked for."""

import numpy as np
import pytest
from conftest import png
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline

from skltransfer import FineTunedClassifier, MultiTaskFineTuner, load, transfer_report
from skltransfer.engine import ClassificationTask, OrdinalTask

NAMES = ["poor", "fair", "good", "superb"]  # sorted, "fair" comes first


@pytest.fixture
def graded(rng):
    """Rows of numbers and grades from 1 to 4, with an error."""
    X = rng.standard_normal((120, 3)).astype(np.float32)
    return X, 1 + np.digitize(2 * X[:, 0] + 0.5 * rng.standard_normal(120), [-2, 0, 1])


def frozen(**options):
    return FineTunedClassifier("toy:rows", freeze_depth=1.0, random_state=0, **options)


def test_photos_with_stars_through_pipeline_search_and_file(rng, tmp_path):
    """Real bytes of pictures that are the brighter the more stars they have."""
    stars = np.tile([1, 2, 3, 4, 5], 8)
    pictures = (20 * stars[:, None, None] + rng.integers(0, 60, (40, 16, 16))).astype(np.uint8)
    X = [png(picture) for picture in pictures]
    model = Pipeline(
        [("network", FineTunedClassifier("toy:images", class_order="sorted", max_epochs=3, random_state=0))]
    )
    grid = {"network__freeze_depth": [1.0, 0.5], "network__C": [0.1, "auto"]}
    search = GridSearchCV(model, grid, cv=3, scoring="neg_mean_absolute_error", error_score="raise").fit(X, stars)
    assert search.best_score_ > -0.8
    found = search.best_estimator_["network"]
    assert isinstance(found._task_, OrdinalTask)
    found.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copy.predict_proba(X), found.predict_proba(X))
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))
    assert copy.class_order_.tolist() == [1, 2, 3, 4, 5]
    assert clone(copy).get_params() == found.get_params()


def test_an_order_lowers_the_absolute_error_of_plain_classes(rng):
    X = rng.standard_normal((300, 6)).astype(np.float32)
    y = np.digitize(2 * X[:, 0] + X[:, 1] + 0.7 * rng.logistic(size=300), [-2, -0.5, 1, 2.5])
    errors = [
        mean_absolute_error(y, cross_val_predict(frozen(class_order=order), X, y, cv=3)) for order in ("sorted", None)
    ]
    assert errors[0] < 0.9 * errors[1]


def test_predictions_are_medians_of_the_probabilities(graded):
    X, y = graded
    model = frozen(class_order="sorted").fit(X[:30], y[:30])
    below = model.predict_proba(X).cumsum(1)
    np.testing.assert_array_equal(model.predict(X), model.classes_[(below < 0.5).sum(1)])
    np.testing.assert_array_equal(model.decision_function(X).argmax(1), model.predict(X) - 1)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_words_take_their_order_from_a_list_or_from_categories(graded, freeze_depth):
    pandas = pytest.importorskip("pandas")
    X, y = graded
    words = np.array(NAMES)[y - 1]
    options = {"freeze_depth": freeze_depth, "max_epochs": 2}
    numbers = frozen(class_order="sorted").set_params(**options).fit(X, y)
    listed = frozen(class_order=NAMES).set_params(**options).fit(X, words)
    ordered = pandas.Series(pandas.Categorical(words, categories=NAMES, ordered=True))
    of_categories = frozen(class_order="sorted").set_params(**options).fit(X, ordered)
    for model in (listed, of_categories):
        assert model.classes_.tolist() == sorted(NAMES)
        assert model.class_order_.tolist() == NAMES
        expected = numbers.predict_proba(X)[:, [NAMES.index(name) for name in model.classes_]]
        np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-4)
        assert (model.predict(X) == np.array(NAMES)[numbers.predict(X) - 1]).mean() > 0.98


def test_a_search_over_ordered_categories_is_scored_by_ranks(graded):
    pandas = pytest.importorskip("pandas")
    X, y = graded
    ordered = pandas.Series(pandas.Categorical(np.array(NAMES)[y - 1], categories=NAMES, ordered=True))

    def error_in_ranks(true, predicted):
        return mean_absolute_error(*([NAMES.index(name) for name in names] for names in (true, predicted)))

    scoring = make_scorer(error_in_ranks, greater_is_better=False)
    search = GridSearchCV(frozen(class_order="sorted"), {"C": [0.01, 1.0]}, cv=3, scoring=scoring, error_score="raise")
    expected = GridSearchCV(frozen(class_order="sorted"), {"C": [0.01, 1.0]}, cv=3, scoring="neg_mean_absolute_error")
    scores = search.fit(X, ordered).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, expected.fit(X, y).cv_results_["mean_test_score"], atol=0.02)


@pytest.mark.parametrize(
    ("order", "labels", "message"),
    [
        ("sorted", NAMES, "class_order='sorted' sorts numbers, but y holds 'fair'.*ordered pandas Categorical"),
        (NAMES[:3], NAMES, r"y holds the labels \['superb'\], which class_order=\['poor', 'fair', 'good'\]"),
        ([*NAMES, "poor"], NAMES, "class_order must list each label once.*got 'poor'"),
        ([1, 2, [3], 4], [1, 2, 3, 4], r"class_order must list each label once.*got \[3\]"),
        (["1", "2", "3", "4"], [1, 2, 3, 4], r"y holds the labels \[1, 2, 3, 4\]"),
        ("ascending", [1, 2, 3, 4], "'class_order' parameter of FineTunedClassifier"),
        ({"poor": 0}, NAMES, "'class_order' parameter of FineTunedClassifier"),
    ],
)
def test_an_order_that_is_not_known_is_refused(graded, order, labels, message):
    X, y = graded
    with pytest.raises(ValueError, match=message):
        frozen(class_order=order).fit(X, np.array(labels)[y - 1])


def test_columns_of_labels_have_no_order(graded):
    X, y = graded
    with pytest.raises(ValueError, match="class_order='sorted' is for labels that exclude each other, but y has 4 col"):
        frozen(class_order="sorted").fit(X, np.eye(4, dtype=int)[y - 1])


def test_labels_that_the_validation_set_alone_has_are_told(graded):
    X, y = graded
    model = frozen(class_order="sorted", early_stopping=True)
    with pytest.raises(ValueError, match=r"y_val has the labels \[9\]"):
        model.fit(X, y, X_val=X[:4], y_val=[1, 2, 3, 9])
    with pytest.raises(ValueError, match=r"labels \[9\], which class_order=") as caught:
        model.set_params(class_order=[1, 2, 3, 4]).fit(X, y, X_val=X[:4], y_val=[1, 2, 3, 9])
    assert caught.value.__notes__ == ["This is about y_val."]


def test_two_classes_have_no_order_to_learn(graded):
    X, y = graded
    names = np.where(y > 2, "high", "low")
    plain, ordered = frozen().fit(X, names), frozen(class_order=["low", "high"]).fit(X, names)
    assert isinstance(ordered._task_, ClassificationTask)
    np.testing.assert_array_equal(ordered.predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ValueError, match="needs samples of at least 2 classes"):
        frozen(class_order="sorted").fit(X, np.ones(120, dtype=int))


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_weights_are_repeated_rows_in_any_order(graded, freeze_depth, rng):
    X, y = graded
    weights = rng.integers(0, 3, len(X))
    model = FineTunedClassifier(
        "toy:rows", class_order="sorted", freeze_depth=freeze_depth, max_epochs=2, random_state=0
    )
    weighted = model.fit(X, y, sample_weight=weights).predict_proba(X)
    rows = rng.permutation(np.repeat(np.arange(len(X)), weights))
    np.testing.assert_array_equal(model.fit(X[rows], y[rows]).predict_proba(X), weighted)


def test_class_weights_move_predictions(graded):
    X, y = graded
    plain = frozen(class_order="sorted").fit(X, y)
    tilted = frozen(class_order="sorted", class_weight={1: 1.0, 2: 1.0, 3: 1.0, 4: 5.0}).fit(X, y)
    assert tilted.predict(X).mean() > plain.predict(X).mean()
    without = frozen(class_order="sorted", class_weight={1: 1.0, 2: 1.0, 3: 0.0, 4: 1.0}).fit(X, y)
    assert np.isfinite(without.predict_proba(X)).all()
    assert without.predict_proba(X)[:, 2].max() < 0.01
    frozen(class_order="sorted", class_weight="balanced").fit(X, y)


def test_a_fold_without_a_class_goes_without_it(graded):
    X, y = graded
    model = frozen(class_order=[0, 1, 2, 3, 4, 5]).fit(X[y != 2], y[y != 2])
    assert model.classes_.tolist() == model.class_order_.tolist() == [1, 3, 4]
    assert set(model.predict(X)) <= {1, 3, 4}


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("head_init", ["probe", "random"])
def test_it_is_trained_like_other_labels(graded, head, head_init):
    X, y = graded
    options = {"head": head, "head_init": head_init, "early_stopping": True, "calibrate": "temperature"}
    model = FineTunedClassifier(
        "toy:rows",
        class_order="sorted",
        freeze_depth=0.5,
        max_epochs=15,
        label_smoothing=0.05,
        random_state=0,
        **options,
    ).fit(X, y)
    assert mean_absolute_error(y, model.predict(X)) < 0.7
    assert model._task_.temperature != 1
    assert len(model.history_["validation_loss"]) == model.n_iter_
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def test_an_automatic_depth_is_compared(graded):
    X, y = graded
    model = FineTunedClassifier("toy:rows", class_order="sorted", max_epochs=1, random_state=0).fit(X, y)
    assert {"accuracy", "neg_log_loss"} == model.freeze_depth_scores_[1.0].keys()


def test_batches_and_second_fits_go_on_in_the_same_order(graded):
    X, y = graded
    model = FineTunedClassifier("toy:rows", class_order="sorted", freeze_depth=0.5, learning_rate=0.02, random_state=0)
    for _ in range(5):
        model.partial_fit(X[:60], y[:60], classes=[1, 2, 3, 4])
    assert mean_absolute_error(y, model.predict(X)) < 0.6
    for order in (None, [4, 3, 2, 1]):
        with pytest.raises(ValueError, match="go on with the same class_order"):
            clone(model).fit(X, y).set_params(class_order=order, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="go on with the same class_order"):
        frozen(warm_start=True).fit(X, y).set_params(class_order="sorted").fit(X, y)
    again = frozen(class_order="sorted", warm_start=True).fit(X, y)
    assert again.fit(X, y).score(X, y) > 0.5


def test_long_samples_are_answered_by_the_mean_of_their_windows():
    texts = [" ".join(["good" if i < stars * 4 else "bad" for i in range(20)]) for stars in (0, 1, 2, 3, 4, 5)] * 4
    stars = np.tile(np.arange(6), 4)
    model = FineTunedClassifier(
        "toy:text", class_order="sorted", freeze_depth=0.5, max_length=8, long_samples="windows", random_state=0
    )
    p = model.fit(texts, stars).predict_proba(texts)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(model.predict(texts), (p.cumsum(1) < 0.5).sum(1))


@pytest.mark.slow
def test_an_exported_network_answers_alike(graded, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from skltransfer import export_onnx

    X, y = graded
    names = np.array(NAMES)[y - 1]
    model = FineTunedClassifier(
        "toy:rows",
        class_order=NAMES,
        freeze_depth=0.5,
        calibrate="temperature",
        max_epochs=2,
        dtype="float32",
        random_state=0,
    ).fit(X, names)
    description = export_onnx(model, tmp_path / "model.onnx", X[:5])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    p, label = session.run(["probabilities", "label"], {"rows": X})
    np.testing.assert_allclose(p, model.predict_proba(X), atol=1e-4)
    assert np.array(description["outputs"]["label"]["classes"])[label].tolist() == model.predict(X).tolist()


def test_transfer_is_compared_by_absolute_error(graded):
    X, y = graded
    report = transfer_report(
        frozen(class_order="sorted"),
        X,
        y,
        baselines=["random", "linear"],
        scoring="neg_mean_absolute_error",
        cv=3,
        random_state=0,
    )
    assert report.scoring == "neg_mean_absolute_error"
    assert report.table_[0]["score"] > -1


def test_meta_estimators_of_scikit_learn_take_it(graded):
    X, y = graded
    calibrated = CalibratedClassifierCV(frozen(class_order="sorted"), cv=3).fit(X, y)
    assert calibrated.predict_proba(X).shape == (120, 4)
    assert cross_val_score(frozen(class_order="sorted"), X, y, cv=3, scoring="neg_log_loss").mean() > -1.3


def test_several_tasks_have_no_order(graded):
    with pytest.raises(TypeError, match="class_order"):
        MultiTaskFineTuner("toy:rows", class_order="sorted")


def test_the_order_is_that_of_y_in_reports_files_and_validation(graded, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y = graded
    words = np.array(NAMES)[y - 1]
    ordered = pandas.Series(pandas.Categorical(words, categories=NAMES, ordered=True))
    other = pandas.Series(pandas.Categorical(words[:8], categories=NAMES[::-1], ordered=True))
    model = frozen(class_order="sorted", calibrate="temperature")
    model.fit(X, ordered, X_val=X[:8], y_val=other)
    assert model.class_order_.tolist() == NAMES
    report = transfer_report(frozen(class_order="sorted"), X, ordered, cv=2, baselines=["random"], random_state=0)
    listed = transfer_report(frozen(class_order=NAMES), X, words, cv=2, baselines=["random"], random_state=0)
    np.testing.assert_array_equal(report.fold_scores_["transfer"], listed.fold_scores_["transfer"])
    model = frozen(class_order="sorted").fit(X, ordered)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").partial_fit(X, words)
    assert again.class_order_.tolist() == NAMES
