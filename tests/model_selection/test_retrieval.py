"""Recall at k: definition, ties, classes of one sample, bad input; and a search from JPEG files to a saved network."""

import io
import warnings
from functools import partial
from math import comb

import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import FewShotClassifier, PretrainedFeatureExtractor, load
from skltransfer.model_selection import recall_at_k_score, recall_at_k_scorer


@pytest.fixture
def clouds(rng):
    """Fifty embeddings around four directions that overlap, and their labels."""
    y = rng.integers(4, size=50)
    return rng.normal(size=(50, 6)) + np.eye(6)[y], np.array(list("abcd"))[y]


@pytest.mark.parametrize("k", [1, 3, 10, 49])
def test_it_is_the_share_of_queries_with_one_of_their_class_among_the_nearest(clouds, k):
    X, y = clouds
    _, nearest = NearestNeighbors(n_neighbors=k, metric="cosine").fit(X).kneighbors()
    assert recall_at_k_score(X, y, k=k) == pytest.approx((y[nearest] == y[:, None]).any(axis=1).mean())


@pytest.mark.parametrize("k", [1, 5])
def test_another_set_may_be_searched(clouds, k):
    X, y = clouds
    _, nearest = NearestNeighbors(n_neighbors=k, metric="cosine").fit(X[:30]).kneighbors(X[30:])
    expected = (y[nearest] == y[30:, None]).any(axis=1).mean()
    assert recall_at_k_score(X[30:], y[30:], k=k, gallery=X[:30], y_gallery=y[:30]) == pytest.approx(expected)
    assert recall_at_k_score(X, y, gallery=X, y_gallery=y) == 1  # here each query is found


def test_neither_scale_nor_order_nor_working_memory_counts(clouds, rng):
    X, y = clouds
    order = rng.permutation(50)
    expected = recall_at_k_score(X, y, k=2)
    assert recall_at_k_score(X * rng.uniform(1, 9, (50, 1)), y, k=2) == expected
    assert recall_at_k_score(X[order], y[order], k=2) == expected
    with sklearn.config_context(working_memory=0.001):
        assert recall_at_k_score(X, y, k=2) == expected


@pytest.mark.parametrize("k", [1, 2, 7])
def test_equal_embeddings_score_as_chance_does(k):
    y = np.repeat([0, 1, 2], [10, 6, 4])
    chances = [1 - comb(20 - n, k) / comb(19, k) for n in (10, 6, 4)]
    assert recall_at_k_score(np.ones((20, 3)), y, k=k) == pytest.approx(np.dot(chances, [10, 6, 4]) / 20)
    assert recall_at_k_score(np.zeros((20, 3)), y, k=k) == pytest.approx(np.dot(chances, [10, 6, 4]) / 20)


def test_a_tie_of_which_one_matches_counts_by_half():
    features = [[1, 0], [1, 1], [1, -1], [-1, 0], [-1, 0.1]]
    y = [0, 0, 1, 1, 1]
    first = recall_at_k_score(features[:1], y[:1], gallery=features[1:], y_gallery=y[1:])
    assert first == pytest.approx(0.5)
    assert recall_at_k_score(features[:1], y[:1], k=2, gallery=features[1:], y_gallery=y[1:]) == 1


def test_a_copy_of_a_sample_is_found_and_the_sample_itself_is_not():
    features, y = np.eye(4)[[0, 0, 1, 1, 2, 3]], [0, 1, 2, 2, 0, 1]
    assert recall_at_k_score(features, y) == pytest.approx((2 + 2 / 5) / 6, abs=0.1)
    assert recall_at_k_score(features[:4], [0, 0, 1, 1]) == 1
    assert recall_at_k_score(features[:4], [0, 1, 0, 1]) == 0


def test_classes_of_one_sample_are_named_and_left_out(clouds):
    X, y = clouds
    y = y.astype(object)
    y[:2] = ["owl", "yak"]
    _, nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(X).kneighbors()
    with pytest.warns(UserWarning, match=r"is of class owl, yak\. Queries .* left out of recall at k: 2 of 50"):
        score = recall_at_k_score(X, y)
    assert score == pytest.approx((y[nearest[:, 0]] == y)[2:].mean())
    with pytest.raises(ValueError, match="so that no query can be answered"):
        recall_at_k_score(X[:3], ["owl", "yak", "emu"])
    with pytest.warns(UserWarning, match="is of class owl. .*: 1 of 2"):
        assert recall_at_k_score(X[:2], ["owl", "b"], gallery=X[1:3], y_gallery=["b", "c"]) == 1


def test_sparse_frames_and_many_small_classes_are_taken_without_a_warning(rng):
    texts = ["red car", "red bike", "a car in red", "blue sea", "deep blue sea", "a sea of blue"]
    words = TfidfVectorizer().fit_transform(texts)
    assert recall_at_k_score(words, [0, 0, 0, 1, 1, 1]) == 1
    frame = pd.DataFrame(words.toarray())
    assert recall_at_k_score(frame, pd.Series([0, 0, 0, 1, 1, 1], index=range(6, 0, -1))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recall_at_k_score(rng.normal(size=(60, 3)), np.repeat(np.arange(30), 2))


def nan_at(X, *rows):
    X = X.copy()
    X[list(rows), 0] = np.nan
    return X


BAD = {
    "k beyond the others": (lambda X, y: {"k": 50}, r"k must be at most the number of samples.*, 49; got k=50"),
    "k of zero": (lambda X, y: {"k": 0}, r"'k' parameter of recall_at_k_score must be an int in the range \[1, inf\)"),
    "NaN": (lambda X, y: {"features": nan_at(X, 3, 17)}, r"features holds NaN or infinity in rows \[3, 17\]"),
    "one class": (lambda X, y: {"y": ["a"] * 50}, "have the label 'a', so that any embedding would score 1"),
    "numbers": (lambda X, y: {"y": X[:, 0]}, "y must hold labels, got numbers such as"),
    "a missing label": (lambda X, y: {"y": [None, *y[1:]]}, r"y has no label in rows \[0\]"),
    "two columns of labels": (lambda X, y: {"y": X[:, :2] > 0}, "1d array"),
    "mixed labels": (
        lambda X, y: {"y": [1, *y[1:]]},
        r"must be all strings or all whole numbers, but y\[1\] holds .* and y\[0\] holds 1",
    ),
    "fewer labels": (lambda X, y: {"y": y[:-1]}, "inconsistent numbers of samples"),
    "a gallery without labels": (lambda X, y: {"gallery": X}, "gallery and y_gallery must be passed together"),
    "NaN in the gallery": (
        lambda X, y: {"gallery": nan_at(X, 2), "y_gallery": y},
        r"gallery holds NaN or infinity in rows \[2\]",
    ),
    "another width": (lambda X, y: {"gallery": X[:, :3], "y_gallery": y}, "features has 6 columns, and gallery has 3"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named(clouds, kind):
    change, message = BAD[kind]
    options = {"features": clouds[0], "y": clouds[1]} | change(*clouds)
    with pytest.raises(ValueError, match=message):
        recall_at_k_score(options.pop("features"), options.pop("y"), **options)


def test_a_scorer_chooses_the_layer_of_an_extractor(two_kinds):
    X, y = two_kinds
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    model = make_pipeline(FunctionTransformer(), PretrainedFeatureExtractor("toy:images"))
    grid = {"pretrainedfeatureextractor__layer": [0.25, 1.0]}
    scoring = {"one": recall_at_k_scorer, "five": partial(recall_at_k_scorer, k=5)}
    search = GridSearchCV(model, grid, cv=folds, scoring=scoring, refit="one").fit(X, y)
    features = search.best_estimator_.transform(X)
    expected = np.mean([recall_at_k_score(features[test], y[test]) for _, test in folds.split(X, y)])
    assert search.best_score_ == pytest.approx(expected)
    assert (search.cv_results_["mean_test_five"] >= search.cv_results_["mean_test_one"]).all()
    assert recall_at_k_scorer(search, X, y) == recall_at_k_score(features, y)


def test_what_gives_no_embeddings_is_refused(clouds):
    with pytest.raises(ValueError, match="'estimator' parameter of recall_at_k_scorer must be an object implementing"):
        recall_at_k_scorer(LogisticRegression(), *clouds)


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_a_network_is_tuned_for_search_saved_and_searched_with(two_kinds, tmp_path):
    """From JPEG files to the nearest pictures, through Pipeline, GridSearchCV, save and load."""
    X, y = two_kinds
    files = np.array([jpeg((255 * image).astype(np.uint8)) for image in X], dtype=object)
    training = {"method": "contrastive", "max_epochs": 4, "learning_rate": 3e-3, "random_state": 0}
    network = FewShotClassifier("toy:images", runtime="eager", **training)
    model = Pipeline([("bytes", FunctionTransformer()), ("network", network)])
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    grid = {"network__freeze_depth": [0.5, 0.75]}
    search = GridSearchCV(model, grid, cv=folds, scoring=recall_at_k_scorer, error_score="raise")
    search.fit(files[:30], y[:30])
    tuned = recall_at_k_scorer(search, files[30:], y[30:])
    frozen = recall_at_k_scorer(PretrainedFeatureExtractor("toy:images", runtime="eager"), files[30:], y[30:])
    assert tuned == 1 >= frozen

    search.best_estimator_["network"].save(tmp_path / "network.skl")
    again = load(tmp_path / "network.skl")
    embeddings = again.transform(list(files))
    np.testing.assert_array_equal(embeddings, search.transform(files))
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(embeddings[:30])
    _, nearest = index.kneighbors(embeddings[30:])
    assert (y[nearest[:, 0]] == y[30:]).all()


def test_classes_that_were_not_trained_on_can_be_scored(rng):
    y = np.repeat(np.arange(6), 6)
    X = rng.normal(size=(36, 8)) + 3 * rng.normal(size=(6, 8))[y]
    model = FewShotClassifier("toy:rows", method="contrastive", max_epochs=1, random_state=0)
    scores = cross_val_score(model, X, y, groups=y, cv=GroupKFold(3), scoring=recall_at_k_scorer, error_score="raise")
    assert scores.min() > 0.5  # chance: 5 of 11
