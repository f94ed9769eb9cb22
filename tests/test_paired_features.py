"""Pairs of unlike things: a transformer for each part, and each distinct part passed once."""

import gzip
import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

from skltransfer import ActivationStore, PairedFeatureExtractor, PretrainedFeatureExtractor
from skltransfer.exceptions import BadSampleError, MissingSampleError
from skltransfer.inputs import distinct
from skltransfer.inputs._lazy import DatasetItem

PAIRS = [("CCO", "MKTA"), ("CCO", "GIGK"), ("c1ccccc1", "MKTA"), ("CN", "AAA"), ("CCO", "MKTA")]
LETTERS = CountVectorizer(analyzer="char", lowercase=False)
NETWORK = PretrainedFeatureExtractor("toy:text", dtype="float32")


class Counting(TransformerMixin, BaseEstimator):
    """Lengths of texts, and all that it was passed."""

    def __init__(self, log=None):
        self.log = log

    def __sklearn_clone__(self):
        return self  # so that the log stays

    def fit(self, X, y=None):
        self.log.append(("fit", list(X), y))
        return self

    def transform(self, X):
        self.log.append(("transform", list(X), None))
        return np.array([[len(x), 1] for x in X], dtype=float)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def test_features_of_parts_are_put_side_by_side():
    found = PairedFeatureExtractor(LETTERS, NETWORK).fit_transform(PAIRS)
    drugs, proteins = zip(*PAIRS, strict=True)
    expected = np.hstack([LETTERS.fit_transform(drugs).toarray(), NETWORK.fit_transform(list(proteins))])
    assert sparse.issparse(found)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-6)


@pytest.mark.parametrize("make", [pd.DataFrame, lambda X: pl.DataFrame(X, orient="row"), np.array, pd.Series, tuple])
def test_every_container_of_pairs_gives_the_same_features(make):
    extractor = PairedFeatureExtractor(NETWORK, NETWORK)
    X = make(PAIRS)
    np.testing.assert_array_equal(extractor.fit(X).transform(X), clone(extractor).fit_transform(PAIRS))
    assert extractor.n_features_in_ == 2
    np.testing.assert_array_equal(extractor.transform(PAIRS), extractor.transform(X))


def test_each_distinct_part_is_passed_once_in_the_order_of_its_first_appearance():
    logs = [], []
    extractor = PairedFeatureExtractor(*map(Counting, logs))
    assert extractor.fit(PAIRS, [0] * 5).transform(PAIRS[::-1]).tolist()[0] == [3, 1, 4, 1]
    assert logs[0] == [("fit", ["CCO", "c1ccccc1", "CN"], None), ("transform", ["CCO", "CN", "c1ccccc1"], None)]
    assert logs[1] == [("fit", ["MKTA", "GIGK", "AAA"], None), ("transform", ["MKTA", "AAA", "GIGK"], None)]


@pytest.mark.parametrize("cache", [True, False])
def test_a_grid_of_pairs_costs_as_many_passes_as_it_has_parts(cache, monkeypatch):
    drugs, proteins = [f"drug {i}" for i in range(7)], [f"protein {i}" for i in range(11)]
    grid = [(drug, protein) for drug in drugs for protein in proteins]
    passed = []
    backbone_reads = type(NETWORK._loaded_backbone().preprocessing).parts
    monkeypatch.setattr(
        type(NETWORK._loaded_backbone().preprocessing),
        "parts",
        lambda reader, text: passed.append(text) or backbone_reads(reader, text),
    )
    store = ActivationStore() if cache else None
    network = clone(NETWORK).set_params(cache=store)
    extractor = PairedFeatureExtractor(network, network)
    features = extractor.fit_transform(grid)
    assert features.shape == (77, 64)
    assert sorted(passed) == sorted(drugs + proteins)
    if cache:
        assert store.info()["misses"] == 18
        np.testing.assert_array_equal(extractor.transform(grid), features)
        assert len(passed) == 18


def test_parts_are_equal_by_content():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(2)]
    values = [images[0], images[1], images[0].copy(), None, np.nan, "1", 1, b"1", 1.0, np.str_("1")]
    found = distinct(values)
    assert found.inverse.tolist() == [0, 1, 0, 2, 2, 3, 4, 5, 6, 3]
    assert found.rows.tolist() == [0, 1, 3, 5, 6, 7, 8]
    extractor = PairedFeatureExtractor(PretrainedFeatureExtractor("toy:images"), LETTERS)
    pairs = [(images[0], "a"), (images[1], "b"), (images[0].copy(), "b")]
    features = extractor.fit_transform(pairs).toarray()
    np.testing.assert_array_equal(features[0, :32], features[2, :32])
    assert features.shape == (3, 34)


def test_products_and_differences_are_those_of_the_parts():
    first, second = (NETWORK.fit_transform(list(part)) for part in zip(*PAIRS, strict=True))
    ways = {"product": first * second, "difference": np.abs(first - second)}
    for how, expected in ways.items():
        extractor = PairedFeatureExtractor(NETWORK, NETWORK, combine=how)
        np.testing.assert_array_equal(extractor.fit_transform(PAIRS), expected)
        assert list(extractor.get_feature_names_out()[[0, -1]]) == [f"{how}_00", f"{how}_31"]
    both = PairedFeatureExtractor(NETWORK, NETWORK, combine=["difference", "concatenate", "product"])
    expected = np.hstack([ways["difference"], first, second, ways["product"]])
    np.testing.assert_array_equal(both.fit_transform(PAIRS), expected)
    assert both.get_feature_names_out()[32] == "first__pretrainedfeatureextractor00"
    assert len(both.get_feature_names_out()) == 128


def test_sparse_features_stay_sparse_and_say_the_same():
    same = CountVectorizer(analyzer="char", lowercase=False, vocabulary=list("ACGIKMNOT"))
    for how in ("product", "difference"):
        found = PairedFeatureExtractor(same, same, combine=how).fit_transform(PAIRS)
        first, second = (same.transform(part).toarray() for part in zip(*PAIRS, strict=True))
        assert sparse.issparse(found)
        expected = first * second if how == "product" else np.abs(first - second)
        np.testing.assert_array_equal(found.toarray(), expected)
        mixed = PairedFeatureExtractor(same, PretrainedFeatureExtractor("toy:text", cache=None), combine=how)
        with pytest.raises(ValueError, match=f"combine='{how}' needs as many features.* but there are 9 and 32. Set"):
            mixed.fit_transform(PAIRS)
    assert isinstance(PairedFeatureExtractor(same, same, combine="product").fit(PAIRS).transform(PAIRS), type(found))


@pytest.mark.parametrize("combine", ["sum", [], ["product", "product"], ["product", 3], 3])
def test_an_unknown_combination_is_named(combine):
    with pytest.raises(ValueError, match="combine.*concatenate"):
        PairedFeatureExtractor(LETTERS, LETTERS, combine=combine).fit(PAIRS)


def test_what_is_no_transformer_is_named():
    with pytest.raises(ValueError, match="The 'second' parameter of PairedFeatureExtractor"):
        PairedFeatureExtractor(LETTERS, Ridge()).fit(PAIRS)


def test_transformers_of_columns_get_a_column_and_those_of_texts_a_list():
    frame = pd.DataFrame({"kind": ["x", "y", "x"], "size": [1.0, 2.0, 4.0]})
    extractor = PairedFeatureExtractor(OneHotEncoder(), StandardScaler()).fit(frame)
    assert extractor.transform(frame).shape == (3, 3)
    assert list(extractor.get_feature_names_out()) == ["first__x0_x", "first__x0_y", "second__x0"]
    union = make_union(LETTERS, NETWORK)
    assert PairedFeatureExtractor(union, make_pipeline(LETTERS, TruncatedSVD(2))).fit_transform(PAIRS).shape[0] == 5
    inner = PairedFeatureExtractor(LETTERS, LETTERS)
    nested = PairedFeatureExtractor(inner, LETTERS).fit_transform([(pair, "a") for pair in PAIRS])
    np.testing.assert_array_equal(nested.toarray()[:, :-1], inner.fit_transform(PAIRS).toarray())


def test_a_transformer_that_requires_y_is_fitted_on_all_rows():
    y = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    encoder = TargetEncoder(target_type="continuous", smooth=1.0, cv=KFold(2))
    extractor = PairedFeatureExtractor(encoder, LETTERS)
    drugs = np.array([[drug] for drug, _ in PAIRS], dtype=object)
    np.testing.assert_allclose(extractor.fit_transform(PAIRS, y).toarray()[:, [0]], encoder.fit_transform(drugs, y))
    np.testing.assert_allclose(extractor.transform(PAIRS).toarray()[:, [0]], encoder.fit(drugs, y).transform(drugs))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        extractor.fit(PAIRS, y[:3])


BAD = {
    "a list": ([["a", "b"]], r"X\[0\] \(list object\): no pair. Fix: pass a tuple of two values"),
    "three": ([("a", "b"), ("a", "b", "c")], r"X\[1\] .*: no pair"),
    "columns": (
        pd.DataFrame({"a": ["x"], "b": ["y"], "c": ["z"]}),
        r"Expected pairs, got 3 columns: \['a', 'b', 'c'\]",
    ),
    "array": (np.zeros((2, 2, 2)), r"Expected pairs, got an array of shape \(2, 2, 2\)"),
    "nothing": ([], "X holds no pair"),
    "one": ("ab", "Expected a collection of samples, got one: 'ab'"),
    "mapping": ({"a": "b"}, "whose rows have no order"),
    "sparse": (sparse.eye(2, format="csr"), "Expected pairs, got csr_matrix object|Expected pairs, got .* object"),
    "iterator": (iter(PAIRS), "Expected pairs, got tuple_iterator|Expected pairs, got list_iterator object"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_holds_no_pairs_is_refused(kind):
    X, message = BAD[kind]
    with pytest.raises(ValueError, match=message):
        PairedFeatureExtractor(LETTERS, LETTERS).fit(X)


def test_bad_parts_are_named_with_the_row_of_x():
    X = [*PAIRS, ("CCO", b"no text"), ("CCO", 3)]
    extractor = PairedFeatureExtractor(NETWORK, NETWORK)
    message = r"^second part of X\[5\] .*bytes, not text.*\nsecond part of X\[6\] \(3\): int"
    with pytest.raises(BadSampleError, match=message) as caught:
        extractor.fit_transform(X)
    assert [caught.value.row, *(other.row for other in caught.value.others)] == [5, 6]
    frame = pd.DataFrame([*PAIRS, (None, "M"), (None, "K")], columns=["drug", "protein"])
    with pytest.raises(MissingSampleError, match=r"^X\['drug'\]\[5\] \(nan|None\): missing value"):
        extractor.fit_transform(frame)
    found = PairedFeatureExtractor(clone(NETWORK).set_params(missing="nan"), NETWORK).fit(frame).transform(frame)
    assert np.isnan(found[5:, :32]).all()
    assert np.isfinite(found[5:, 32:]).all()


def test_a_failed_fit_leaves_all_as_it_was():
    extractor = PairedFeatureExtractor(NETWORK, NETWORK).fit(pd.DataFrame(PAIRS, columns=["a", "b"]))
    before = dict(vars(extractor))
    with pytest.raises(ValueError, match="got a table of numbers") as caught:
        extractor.fit([("a", 3)])
    assert caught.value.__notes__ == ["This is about the second part of X."]
    with pytest.raises(BadSampleError, match="no pair"):
        extractor.fit_transform([("a", "b", "c")])
    assert vars(extractor) == before


def test_it_is_a_transformer_of_scikit_learn():
    frame = pd.DataFrame(PAIRS, columns=["drug", "protein"], index=range(3, 8))
    extractor = PairedFeatureExtractor(NETWORK, clone(NETWORK))
    with pytest.raises(NotFittedError):
        extractor.transform(PAIRS)
    extractor.set_params(first__layer="stem", second__pooling="max")
    assert clone(extractor).get_params()["first__layer"] == "stem"
    found = extractor.set_output(transform="pandas").fit(frame).transform(frame)
    assert extractor.first_ is not extractor.first
    assert list(found.index) == list(frame.index)
    assert list(found.columns) == list(extractor.get_feature_names_out(["drug", "protein"]))
    with pytest.raises(ValueError, match="must be in the same order"):
        extractor.transform(frame[["protein", "drug"]])
    with pytest.raises(ValueError, match="input_features"):
        extractor.get_feature_names_out(["a", "b"])
    copy = pickle.loads(pickle.dumps(extractor))
    pd.testing.assert_frame_equal(copy.transform(frame), found)


def test_it_is_searched_in_a_pipeline_and_pickled_to_another_process(tmp_path):
    frame = pd.DataFrame([(f"drug {i % 4}", f"protein {i % 5}") for i in range(20)], columns=["a", "b"])
    y = np.arange(20) % 4 // 2
    model = Pipeline(
        [("pairs", PairedFeatureExtractor(LETTERS, NETWORK)), ("model", LogisticRegression(max_iter=1000))],
        memory=str(tmp_path / "memory"),
    )
    grid = {"pairs__second__layer": ["stem", "penultimate"], "model__C": [0.1, 1.0]}
    search = GridSearchCV(model, grid, cv=2).fit(frame, y)
    assert search.best_score_ > 0.9
    assert cross_val_score(search.best_estimator_, [*frame.itertuples(index=False, name=None)], y, cv=2).mean() > 0.9
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(search.best_estimator_))
    code = (
        "import pickle, sys, pandas as pd; folder = sys.argv[1]; "
        "model = pickle.load(open(folder + '/model.pkl', 'rb')); "
        "print(model.predict(pd.read_csv(folder + '/pairs.csv')).tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout) == search.predict(frame).tolist()


@pytest.mark.slow
def test_drugs_and_targets_cost_one_pass_for_each_distinct_part(data_folder):
    with gzip.open(data_folder / "binding_davis.json.gz", "rt") as file:
        davis = json.load(file)
    pairs = [(ligand, protein) for ligand in davis["ligands"] for protein in davis["proteins"]]
    assert len(pairs) == 30_056
    store = ActivationStore()
    network = PretrainedFeatureExtractor("toy:text", max_length=64, cache=store)
    with pytest.warns(UserWarning, match="texts are longer"):
        features = PairedFeatureExtractor(network, network).fit_transform(pairs)
    assert features.shape == (30_056, 64)
    n_parts = len(set(davis["ligands"])) + len(set(davis["proteins"]))
    assert store.info()["misses"] == n_parts
    assert n_parts == 68 + 379


def test_items_of_a_dataset_are_told_apart_without_hashing_it():
    class Unhashable:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return ["CCO", "CN", "C"][index]

        def __reduce__(self):
            raise AssertionError("the whole dataset was pickled")

    dataset = Unhashable()
    found = distinct([DatasetItem(dataset, index, False) for index in (0, 1, 0, 2)])
    assert found.rows.tolist() == [0, 1, 3]
