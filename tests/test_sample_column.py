"""Tables of which one column holds the samples and the others numbers, in one network."""

import io
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torchvision.transforms import v2

from skltransfer import (
    ActivationStore,
    FineTunedClassifier,
    FineTunedRegressor,
    LayerProbeDisplay,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    export_onnx,
    load,
    load_backbone,
    transfer_report,
)
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError

WORDS = ("sun", "rain")
HOW = {"backbone": "toy:text", "sample_column": "text", "dtype": "float32", "random_state": 0, "max_epochs": 2}


def reports(n=48, seed=0):
    """A table of a text and two numbers, and a label that only both together tell."""
    random = np.random.default_rng(seed)
    word, number = random.integers(0, 2, n), random.normal(size=n)
    X = pd.DataFrame({"text": [f"{WORDS[w]} today" for w in word], "size": number, "year": 2000.0 + np.arange(n) % 7})
    return X, np.where(1.5 * word + number > 0.75, "yes", "no")


@pytest.fixture(scope="module")
def table():
    return reports()


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_text_and_numbers_together_tell_what_neither_tells_alone(table, freeze_depth):
    X, y = table
    how = HOW | {"freeze_depth": freeze_depth, "C": 10.0}
    together = FineTunedClassifier(**how).fit(X, y).score(X, y)
    text = FineTunedClassifier(**how | {"sample_column": None}).fit(X["text"], y).score(X["text"], y)
    blind = X.assign(text="sun today")
    assert together > max(text, FineTunedClassifier(**how).fit(blind, y).score(blind, y)) + 0.05


def test_the_embedding_is_that_of_the_sample_and_then_the_numbers(table):
    X, y = table
    model = FineTunedClassifier(**HOW | {"freeze_depth": 1.0}).fit(X, y)
    features = PretrainedFeatureExtractor("toy:text", dtype="float32").fit_transform(X["text"])
    np.testing.assert_array_equal(model.transform(X), np.hstack([features, X[["size", "year"]].to_numpy(np.float32)]))
    assert model.n_features_in_ == 3
    assert list(model.feature_names_in_) == list(X.columns)
    assert len(model.get_feature_names_out()) == features.shape[1] + 2


def test_equal_texts_with_other_numbers_are_other_samples_and_computed_once(table):
    X, y = table
    store = ActivationStore()
    model = FineTunedClassifier(**HOW | {"cache": store}).fit(X, y)
    assert model.duplicates_ == []
    alone = ActivationStore()
    FineTunedClassifier(**HOW | {"cache": alone, "sample_column": None}).fit(X["text"], y)
    assert store.info()["misses"] == alone.info()["misses"]
    twice = pd.concat([X, X[:1]], ignore_index=True)
    assert FineTunedClassifier(**HOW).fit(twice, [*y, y[0]]).duplicates_ == [[0, len(X)]]


def test_neither_the_order_of_rows_nor_their_neighbours_matter(table):
    X, y = table
    order = np.random.default_rng(1).permutation(len(X))
    one, other = (FineTunedClassifier(**HOW).fit(X.iloc[rows], y[rows]) for rows in (np.arange(len(X)), order))
    expected = one.predict_proba(X)
    np.testing.assert_array_equal(other.predict_proba(X), expected)
    np.testing.assert_array_equal(one.predict_proba(X[5:6]), expected[5:6])


def test_frames_arrays_and_positions_give_the_same(table):
    X, y = table
    expected = FineTunedClassifier(**HOW).fit(X, y).predict_proba(X)
    for other, column in ((X.to_numpy(object), 0), (X, 0), (pl.DataFrame(X.to_dict("list")), "text"), (X, -3)):
        model = FineTunedClassifier(**HOW | {"sample_column": column}).fit(other, y)
        np.testing.assert_array_equal(model.predict_proba(other), expected)


def test_a_table_without_other_columns_is_the_column_alone(table):
    X, y = table
    model = FineTunedClassifier(**HOW).fit(X[["text"]], y)
    alone = FineTunedClassifier(**HOW | {"sample_column": None}).fit(X["text"], y)
    np.testing.assert_array_equal(model.predict_proba(X[["text"]]), alone.predict_proba(X["text"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X.assign(size=X["size"].where(X.index != 3)), r"'size' has in row 3 nan, a missing value.*Imputer"),
        (lambda X: X.assign(year=["1999"] * len(X)), r"'year' has in row 0 '1999', no number.*OneHotEncoder"),
        (lambda X: X.assign(year=pd.Timestamp("2020-01-01")), r"'year' has in row 0 Timestamp.*no number"),
        (lambda X: X.assign(size=np.where(X.index == 2, np.inf, 0)), r"'size' has in row 2 inf, a number that float32"),
        (lambda X: X.assign(size=1e300), r"'size' has in row 0 1e\+300"),
        (lambda X: X.rename(columns={"text": "texts"}), r"'text' is no column of X.*Did you mean 'texts'"),
        (lambda X: pd.concat([X, X[["text"]]], axis=1), r"X has 2 columns called 'text'"),
        (lambda X: X["text"], r"needs a data frame or a two-dimensional array, got a Series of shape \(48,\)"),
        (lambda X: X.to_numpy(object), r"an array, whose columns have no names"),
        (lambda X: X.assign(text=1.0), r"'text' holds numbers|Expected texts"),
        (lambda X: pl.DataFrame(X.to_dict("list")).lazy(), r"LazyFrame, which is not computed yet. Pass X.collect\(\)"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_row_and_column(table, change, message):
    X, y = table
    with pytest.raises(ValueError, match=message):
        FineTunedClassifier(**HOW).fit(change(X), y)


def test_a_position_out_of_range_and_a_bad_sample_are_named(table):
    X, y = table
    with pytest.raises(ValueError, match=r"sample_column=3 is out of range; X has 3 columns"):
        FineTunedClassifier(**HOW | {"sample_column": 3}).fit(X, y)
    with pytest.raises(BadSampleError, match=r"X\[4\]"):
        FineTunedClassifier(**HOW).fit(X.assign(text=X["text"].where(X.index != 4)), y)


def test_other_columns_in_predict_are_refused(table):
    X, y = table
    model = FineTunedClassifier(**HOW).fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[["text", "year", "size"]])
    model = FineTunedClassifier(**HOW | {"sample_column": 0}).fit(X.to_numpy(object), y)
    with pytest.raises(ValueError, match="X has 2 features, but FineTunedClassifier is expecting 3"):
        model.predict(X.to_numpy(object)[:, :2])


def test_a_fit_that_goes_on_needs_the_same_columns(table):
    X, y = table
    model = FineTunedClassifier(**HOW).partial_fit(X, y, classes=["no", "yes"]).partial_fit(X, y)
    assert len(model.history_["loss"]) == 2
    with pytest.raises(ValueError, match="feature names|columns beside"):
        model.partial_fit(X[["text", "size"]], y)


def test_long_texts_in_windows_have_the_numbers_in_each(table):
    X, y = table
    long = X.assign(text=X["text"] * 12)
    how = HOW | {"max_length": 16, "long_samples": "windows"}
    for freeze_depth in (0.5, 1.0):
        model = FineTunedClassifier(**how | {"freeze_depth": freeze_depth, "C": 10.0}).fit(long, y)
        changed = model.predict_proba(long.assign(size=-long["size"]))
        assert np.abs(changed - model.predict_proba(long)).max() > 0.1
        np.testing.assert_array_equal(model.transform(long)[:, -2:], X[["size", "year"]].to_numpy(np.float32))


def test_given_validation_data_automatic_depth_numbers_and_several_tasks(table):
    X, y = table
    model = FineTunedClassifier(**HOW | {"early_stopping": True, "freeze_depth": 0.5, "max_epochs": 3})
    model.fit(X, y, X_val=X[:9].assign(year=1990.0), y_val=y[:9])
    assert len(model.history_["validation_loss"]) > 0
    assert FineTunedClassifier(**HOW | {"freeze_depth": "auto"}).fit(X, y).freeze_depth_scores_
    number = X["size"] * 2 + X["year"]
    regressor = FineTunedRegressor(**HOW | {"freeze_depth": 1.0}).fit(X, number)
    assert regressor.score(X, number) > 0.99
    tasks = MultiTaskFineTuner(**HOW | {"freeze_depth": 1.0}).fit(X, pd.DataFrame({"label": y, "number": number}))
    assert tasks.score_tasks(X, pd.DataFrame({"label": y, "number": number}))["number"] > 0.99


def test_images_that_are_augmented_have_numbers(table):
    _, y = table
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(12)]
    X = pd.DataFrame({"image": images, "size": np.arange(12.0)})
    model = FineTunedClassifier("toy:images", sample_column="image", augment=v2.Compose([v2.RandomHorizontalFlip()]))
    model.set_params(max_epochs=1, random_state=0, dtype="float32").fit(X, [0, 1] * 6)
    assert model.predict_proba(X).shape == (12, 2)


def test_a_column_transformer_a_search_and_a_file(tmp_path):
    random = np.random.default_rng(0)
    content = []
    for label in (0, 1) * 12:
        buffer = io.BytesIO()
        pixels = random.integers(100 * label, 100 * label + 100, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG")
        content.append(buffer.getvalue())
    X = pd.DataFrame({"photo": content, "price": random.normal(size=24), "country": ["FR", "JP", "US"] * 8})
    y = np.array([0, 1] * 12)
    encode = make_column_transformer(
        (StandardScaler(), ["price"]),
        (OneHotEncoder(sparse_output=False), ["country"]),
        ("passthrough", ["photo"]),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(encode, FineTunedClassifier("toy:images", sample_column="photo", dtype="float32"))
    grid = {"finetunedclassifier__freeze_depth": [1.0, 0.5], "finetunedclassifier__max_epochs": [1]}
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    best = search.best_estimator_
    assert search.score(X, y) > 0.9
    best[-1].save(tmp_path / "model.skl")
    encoded = best[:-1].transform(X)
    np.testing.assert_array_equal(load(tmp_path / "model.skl").predict_proba(encoded), search.predict_proba(X))
    with pytest.raises(UnsupportedBackboneError, match="sample_column='photo' cannot be exported"):
        export_onnx(best[-1], tmp_path / "model.onnx")


def test_the_report_gives_the_baselines_the_numbers_too(table):
    X, y = table
    model = FineTunedClassifier(load_backbone("toy:text"), sample_column="text", freeze_depth=1.0, dtype="float32")
    y = (X["size"] > 0).astype(int)
    report = transfer_report(model, X, y, cv=2, baselines=["linear", "random"], random_state=0)
    assert report.fold_scores_["linear"].mean() > 0.8


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_the_unit_of_a_number_does_not_matter(table, factor):
    X, y = table
    how = HOW | {"freeze_depth": 1.0}
    expected = FineTunedClassifier(**how).fit(X, y).predict_proba(X)
    scaled = X.assign(size=X["size"] * factor)
    np.testing.assert_allclose(FineTunedClassifier(**how).fit(scaled, y).predict_proba(scaled), expected, atol=1e-5)


def test_numbers_that_float32_merges_are_told_once_in_fit(table):
    X, y = table
    X = X.assign(time=1.7e9 + np.arange(len(X)))
    with pytest.warns(UserWarning, match=r"\['time'\] hold numbers that float32 cannot tell apart"):
        model = FineTunedClassifier(**HOW).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X)


def test_flattened_images_in_a_column_have_their_shape():
    random = np.random.default_rng(0)
    rows = random.integers(0, 255, (12, 8 * 8 * 3), dtype=np.uint8)
    X = pd.DataFrame({"image": list(rows), "size": np.arange(12.0)})
    model = FineTunedClassifier("toy:images", sample_column="image", image_shape=(8, 8, 3), freeze_depth=1.0)
    model.set_params(dtype="float32").fit(X, [0, 1] * 6)
    images = X.assign(image=list(rows.reshape(12, 8, 8, 3)))
    plain = FineTunedClassifier("toy:images", sample_column="image", freeze_depth=1.0, dtype="float32")
    expected = plain.fit(images, [0, 1] * 6).predict_proba(images)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)


def test_a_column_of_pairs_and_numbers(table):
    X, y = table
    pairs = X.assign(text=[(text, "really?") for text in X["text"]])
    model = FineTunedClassifier(**HOW).fit(pairs, y)
    features = PretrainedFeatureExtractor("toy:text", dtype="float32")
    expected = np.hstack([features.fit_transform(list(pairs["text"])), X[["size", "year"]].to_numpy(np.float32)])
    frozen = model.set_params(freeze_depth=1.0).fit(pairs, y)
    np.testing.assert_array_equal(frozen.transform(pairs), expected)


def test_layers_are_probed_on_the_column_of_samples(table):
    X, y = table
    display = LayerProbeDisplay.from_estimator(FineTunedClassifier(**HOW), X, y, cv=2, random_state=0)
    alone = FineTunedClassifier(**HOW | {"sample_column": None})
    expected = LayerProbeDisplay.from_estimator(alone, X["text"], y, cv=2, random_state=0)
    np.testing.assert_array_equal(display.scores, expected.scores)
