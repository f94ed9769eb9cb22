"""Tags for words: what the network is, what comes out, what is refused by row, and how tags are read and compared."""

import gzip
import json
import os
import pathlib
import pickle
import re
import tempfile
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split

from skltransfer import (
    ActivationStore,
    FineTunedClassifier,
    FineTunedTagger,
    entity_f1_score,
    load,
    load_backbone,
    read_conll,
    transfer_report,
)
from skltransfer.backbones import seeded
from skltransfer.backbones._tokens import TextPreprocessing
from skltransfer.engine import NetworkSpec, RecordTargets, TaggingTask, new_network
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError, WeightsError
from skltransfer.inputs import samples_from_words
from skltransfer.tagging import SCHEMES, scheme_of

X = [["buy", "2", "apples"], ["10", "pears"], ["sell", "33", "plums", "now"], ["nothing"], ["7"], ["a", "b", "c"]] * 3
Y = [["NUM" if word.isdigit() else "O" for word in words] for words in X]
OPTIONS = {"dtype": "float32", "random_state": 0}
FROZEN = {"freeze_depth": 1.0, "layer": 0.25, **OPTIONS}


def tagger(**parameters):
    return FineTunedTagger("toy:text", **FROZEN | parameters)


def alike(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# what the network is


@pytest.mark.parametrize("boundary", range(8))
def test_loss_and_gradients_are_the_librarys_at_every_boundary(boundary):
    """Against ``BertForTokenClassification``, where words after their first token have the label -100."""
    from transformers import BertForTokenClassification

    backbone = load_backbone("bundled:minilm")
    texts = [["Ada", "Lovelace", "visited", "Llanfairpwllgwyngyll", "."], ["Hello"], ["un", "believable", "!"]]
    samples = samples_from_words(texts, backbone.preprocessing)
    ids = [backbone.preprocessing(samples.read(row)) for row in range(len(texts))]
    places = [samples.geometry(row, backbone.preprocessing) for row in range(len(texts))]
    task = TaggingTask(np.array(["A", "B", "C"]), np.ones(3), mean_words=3.0)
    records = [{"tags": np.arange(len(words)) % 3, "places": place} for words, place in zip(texts, places, strict=True)]
    batch = RecordTargets(records).take(np.arange(3))

    library = BertForTokenClassification(backbone.text_model().config)
    library.bert.load_state_dict(backbone.text_model().state_dict(), strict=False)
    library.config.num_labels = library.num_labels = 3
    with seeded(0):
        library.classifier = torch.nn.Linear(backbone.activation_shapes[-1][-1], 3)
    library.eval()
    longest = max(map(len, ids))
    inputs, mask, labels = (torch.full((3, longest), fill) for fill in (0, 0, -100))
    for row, one in enumerate(ids):
        inputs[row, : len(one)], mask[row, : len(one)] = one, 1
        labels[row, torch.as_tensor(places[row])] = batch[row]["tags"]
    theirs = library(input_ids=inputs, attention_mask=mask, labels=labels).loss
    theirs.backward()

    spec = NetworkSpec(boundary, None, n_outputs=3, taps=(backbone.n_stages,))
    network = new_network(backbone, spec, task.readout, seed=0).eval()
    network.readout.head[0].load_state_dict(library.classifier.state_dict())
    padded = torch.full((3, longest), -1)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = one
    with torch.no_grad():
        activation = backbone.prefix(0, boundary)(padded) if boundary else padded
    ours = task.loss(network(activation.clone(), batch), batch).sum() * 3.0 / sum(map(len, texts))
    ours.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    own = {name.removeprefix("suffix."): p.grad for name, p in network.named_parameters() if p.grad is not None}
    compared = 0
    for name, p in library.bert.named_parameters():
        found = next((grad for key, grad in own.items() if key.endswith(name)), None)
        if found is not None and p.grad is not None:
            torch.testing.assert_close(found, p.grad, rtol=1e-3, atol=1e-6)
            compared += 1
    assert compared > 0 or boundary == backbone.n_stages
    torch.testing.assert_close(own["readout.head.0.weight"], library.classifier.weight.grad, rtol=1e-3, atol=1e-6)


def test_a_word_is_read_at_its_first_token():
    reader = load_backbone("bundled:minilm").preprocessing
    words = ["Hello", "unbelievable", "日本", "naïve", "e\u0301", "\u200b", "!?", "😀", "New York", "end"]
    places, n_tokens = reader.places_of_words(words)
    read = reader.tokenizer(" ".join(words), return_offsets_mapping=True)
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    for word, place, start in zip(words, places, starts, strict=False):
        first, last = read["offset_mapping"][place]
        if word != "\u200b":  # it has no token of its own, and takes the next one
            assert first == start, word
            assert last > start, word
    assert places[5] == places[6]
    assert n_tokens == len(read["input_ids"]) == len(reader(" ".join(words)))


@pytest.mark.parametrize("scheme", ["always", "first", "split"])
def test_a_mark_that_begins_a_word_is_none_of_it(scheme):
    """As vocabularies of SentencePiece have it, where a word that is not merged begins with the mark alone."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "\u2581", "\u2581New", "York", "\u2581", "日", "本", "(", ")", "\u2581a"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 - (len(piece) == 1)) for piece in vocabulary], unk_id=0))
    mark = pre_tokenizers.Metaspace(prepend_scheme="always" if scheme == "split" else scheme)
    split = [pre_tokenizers.WhitespaceSplit()] if scheme == "split" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, mark])
    reader = TextPreprocessing.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"), 64)
    words = ["日本", "New", "日", "(a", "本", "NewYork"]
    places, _ = reader.places_of_words(words)
    read = reader.tokenizer(reader.text_of(words))["input_ids"]
    found = [reader.tokenizer.convert_ids_to_tokens(read[place]) for place in places]
    assert found == ["日", "\u2581New", "日", "(", "本", "\u2581New"]


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda word: bool(word.strip())), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_places_rise_and_lie_in_the_text_whatever_the_words(words):
    try:
        [word.encode() for word in words]
    except UnicodeEncodeError:
        return
    for name in ("toy:text", "bundled:minilm"):
        places, n_tokens = load_backbone(name).preprocessing.places_of_words(words)
        assert len(places) == len(words)
        assert (np.diff(places) >= 0).all()
        assert (places >= 0).all()
        assert (places < max(1, n_tokens)).all()


def test_all_words_count_alike_however_long_their_text_is():
    """A text of four words weighs as four texts of one word, each with its word in the same place."""
    task = TaggingTask(np.array(["A", "B"]), np.array([1.0, 3.0]), mean_words=2.5)
    outputs = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    tags, places = torch.tensor([0, 1, 1, 0, 1]), torch.arange(5)
    whole = task.loss(outputs, [{"tags": tags[:4], "places": places[:4]}, {"tags": tags[4:], "places": places[4:]}])
    single = task.loss(outputs, [{"tags": tags[i : i + 1], "places": places[i : i + 1]} for i in range(5)])
    torch.testing.assert_close(whole, torch.stack([single[:4].sum(), single[4]]))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], tags.float(), reduction="none")
    torch.testing.assert_close(single, plain * torch.tensor([1.0, 3.0])[tags] / 2.5)


# what comes out


def test_tags_come_back_one_for_each_word():
    model = tagger().fit(X, Y)
    assert model.score(X, Y) == 1
    found = model.predict([["take", "5", "plums"], [], ["12"]])
    assert found.dtype == object
    assert found.tolist() == [["O", "NUM", "O"], [], ["NUM"]]
    probabilities = model.predict_proba(X)
    for words, one, tags in zip(X, probabilities, model.predict(X), strict=True):
        assert one.shape == (len(words), 2)
        np.testing.assert_allclose(one.sum(1), 1)
        assert model.classes_[one.argmax(1)].tolist() == tags
    assert not is_classifier(model)
    assert model.classes_.tolist() == ["NUM", "O"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"freeze_depth": 0.5, "layer": "penultimate", "max_epochs": 2},
        {"freeze_depth": 0.0, "layer": 0.5, "max_epochs": 2},
        {"layer": ["stem", "encoder.layers.1"]},
        {"freeze_depth": 0.5, "layer": ["stem", "penultimate"], "max_epochs": 2},
        {"head": "mlp", "max_epochs": 2},
        {"head_init": "random", "freeze_depth": 0.5, "layer": "penultimate", "max_epochs": 2},
        {"freeze_depth": 0.25, "layer": "penultimate", "unfreeze_schedule": "gradual", "max_epochs": 3},
        {"freeze_depth": 0.25, "layer": 0.5, "adapter": "lora", "max_epochs": 1},
        {"freeze_depth": 0.5, "layer": "penultimate", "early_stopping": True, "max_epochs": 3},
        {"class_weight": "balanced"},
        {"class_weight": {"NUM": 5.0}, "freeze_depth": 0.5, "layer": "penultimate", "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_order_repetition_store_pickles_and_files_change_nothing(options, tmp_path):
    model = tagger(**options).fit(X, Y)
    expected = model.predict_proba(X)
    order = np.random.default_rng(1).permutation(len(X))
    mixed = clone(model).fit([X[i] for i in order], [Y[i] for i in order])
    alike(mixed.predict_proba(X), expected)
    alike(clone(model).set_params(cache=None).fit(X, Y).predict_proba(X), expected)
    alike(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)
    model.save(tmp_path / "model.skl")
    restored = load(tmp_path / "model.skl")
    alike(restored.predict_proba(X), expected)
    assert restored.score(X, Y) == model.score(X, Y)
    assert restored.scheme_ == "plain IO"


@pytest.mark.parametrize("options", [{}, {"freeze_depth": 0.5, "layer": "penultimate", "max_epochs": 2}], ids=str)
def test_weights_are_repeated_texts(options):
    weights = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weights)
    weighted = tagger(**options).fit(X, Y, sample_weight=weights)
    repeated = tagger(**options).fit([X[i] for i in rows], [Y[i] for i in rows])
    for one, other in zip(weighted.predict_proba(X), repeated.predict_proba(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert weighted.score(X, Y, weights) == pytest.approx(weighted.score([X[i] for i in rows], [Y[i] for i in rows]))


def test_a_text_does_not_depend_on_its_neighbours():
    model = FineTunedTagger("toy:text", freeze_depth=0.5, max_epochs=1, **OPTIONS).fit(X, Y)
    whole = model.predict_proba(X)
    alike([model.predict_proba([words])[0] for words in X], whole)
    alike(model.predict_proba(X[::-1])[::-1], whole)


def test_containers_mean_the_same():
    expected = tagger().fit(X, Y).predict_proba(X)
    objects = np.empty(len(X), dtype=object)
    objects[:] = X
    tags = np.empty(len(Y), dtype=object)
    tags[:] = Y
    for words, y in (
        (objects, tags),
        (pd.Series(X), pd.Series(Y, index=range(7, 7 + len(Y)))),
        ([tuple(one) for one in X], [np.array(one) for one in Y]),
        ([np.array(one) for one in X], tuple(Y)),
        (pd.DataFrame({"words": X}), pd.DataFrame({"tags": Y})),
    ):
        alike(tagger().fit(words, y).predict_proba(words), expected)


def test_texts_of_equal_length_are_no_table():
    words, tags = [["a", "1"], ["b", "2"]] * 6, [["O", "N"], ["O", "N"]] * 6
    model = tagger().fit(words, tags)
    assert model.predict(words).tolist() == tags
    table = np.array(words)  # of strings, (12, 2)
    assert model.predict(table).tolist() == tagger().fit(table, np.array(tags)).predict(table).tolist() == tags
    assert [len(one) for one in model.predict([[], np.array([]), ()])] == [0, 0, 0]


def test_numbers_are_tags_too():
    model = tagger().fit(X, [[int(tag == "NUM") for tag in tags] for tags in Y])
    assert model.classes_.tolist() == [0, 1]
    assert model.scheme_ == "words"
    assert model.predict([["x", "9"]])[0] == [0, 1]


def test_texts_without_words_do_not_count():
    some = tagger(early_stopping=True, freeze_depth=0.5, layer="penultimate", max_epochs=2).fit(X, Y)
    more = clone(some).fit([*X, *[[]] * 9], [*Y, *[[]] * 9])
    alike(more.predict_proba(X), some.predict_proba(X))
    model = tagger(on_bad_sample="nan")
    with pytest.raises(ValueError, match="X holds no word that can be read"):
        model.fit([None, None, []], [["A"], ["B"], []])


@pytest.mark.parametrize("weights", [{"NUM": 0, "O": 0}, {"NUM": -1.0}])
def test_class_weights_that_leave_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="class_weight must be positive for a label of y"):
        tagger(class_weight=weights).fit(X, Y)


def test_a_large_set_begins_with_a_part_of_its_words(monkeypatch):
    monkeypatch.setattr("skltransfer.engine.tasks.tagging.ENOUGH_WORDS", 12)
    options = {"freeze_depth": 0.5, "layer": "penultimate", "max_epochs": 2}
    model = tagger(**options).fit(X, Y)
    alike(tagger(**options).fit(X[::-1], Y[::-1]).predict_proba(X), model.predict_proba(X))
    assert np.mean([a == b for a, b in zip(model.predict(X), Y, strict=True)]) > 0.5


def test_a_class_weight_moves_tags_towards_it():
    rare = [["O" if i % 2 else tag for i, tag in enumerate(tags)] for tags in Y]
    shares = [
        np.concatenate(tagger(C=1e-3, class_weight=weight).fit(X, rare).predict_proba(X))[:, 0].mean()
        for weight in (None, "balanced", {"NUM": 50.0})
    ]
    assert shares[0] < shares[1] < shares[2]
    with pytest.raises(ValueError, match="class_weight"):
        tagger(class_weight={"PER": 2.0}).fit(X, Y)


@pytest.mark.slow
def test_scikit_learn_splits_searches_and_scores():
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    search = GridSearchCV(tagger(), {"layer": [0.25, "penultimate"], "freeze_depth": [1.0, 0.5]}, cv=2, n_jobs=2)
    search.fit(train, y_train)
    assert 0 < search.score(test, y_test) <= 1
    scores = cross_val_score(tagger(), X, Y, cv=3, scoring=make_scorer(entity_f1_score))
    assert (scores == 1).all()
    assert [len(tags) for tags in cross_val_predict(tagger(), X, Y, cv=3)] == [len(words) for words in X]


def test_a_search_passes_each_stage_once_for_each_text():
    store = ActivationStore()
    grid = {"freeze_depth": [1.0, 0.75, 0.5], "layer": ["penultimate"]}
    GridSearchCV(tagger(cache=store, max_epochs=1), grid, cv=3, error_score="raise").fit(X, Y)
    assert store.info()["misses"] == len({tuple(words) for words in X})


def test_a_report_compares_with_random_weights():
    report = transfer_report(tagger(max_epochs=1), X, Y, cv=3, random_state=0)
    assert [row["name"] for row in report.table_] == ["transfer", "scratch", "random"]
    assert report.scoring_name == "score"
    with pytest.raises(ValueError, match="The baseline 'linear' predicts labels or numbers"):
        transfer_report(tagger(), X, Y, baselines=["linear"])


def test_copies_are_reported():
    assert tagger().fit(X, Y).duplicates_[0] == [0, 6, 12]


def test_the_same_letters_in_other_words_are_another_text():
    model = tagger().fit([*X, ["ab", "c"], ["a", "bc"]], [*Y, ["O", "NUM"], ["O", "NUM"]])
    assert [17 + 1, 17 + 2] not in model.duplicates_
    assert [len(tags) for tags in model.predict([["a b", "c"], ["a", "b", "c"]])] == [2, 3]


# what is refused

ROWS = [
    ("words too few", lambda x, y: (x, [*y[:3], ["O", "O"], *y[4:]]), r"X\[3\] has 1 words, but y\[3\] has 2 tags"),
    ("tags as a string", lambda x, y: (x, [*y[:3], "O", *y[4:]]), r"y\[3\] is 'O'; expected a list with a tag"),
    ("no tags", lambda x, y: (x, [*y[:3], None, *y[4:]]), r"y\[3\] is None; expected a list"),
    ("a missing tag", lambda x, y: (x, [*y[:3], [None], *y[4:]]), r"y\[3\]\[0\] is None; expected a tag"),
    ("NaN as a tag", lambda x, y: (x, [*y[:3], [float("nan")], *y[4:]]), r"y\[3\]\[0\] is nan"),
    ("a list as a tag", lambda x, y: (x, [*y[:3], [["O"]], *y[4:]]), r"y\[3\]\[0\] is \['O'\]"),
    ("a fraction as a tag", lambda x, y: (x, [*y[:3], [0.5], *y[4:]]), r"y\[3\]\[0\] is 0.5"),
    ("mixed tags", lambda x, y: (x, [*y[:3], [7], *y[4:]]), r"y\[0\] holds 'O' and y\[3\] holds 7"),
    ("y too short", lambda x, y: (x, y[:-1]), r"inconsistent numbers of samples: \[18, 17\]"),
    ("y is a string", lambda x, y: (x, "O" * 18), "y must be a list or an array"),
    ("y is a set", lambda x, y: (x, {1, 2}), "y must be a list or an array"),
    ("y is a table", lambda x, y: (x, pd.DataFrame({"a": [1], "b": [2]})), "y must have one column, got 2"),
    ("no y", lambda x, y: (x, None), "requires y to be passed"),
    ("one tag alone", lambda x, y: (x, [["O"] * len(one) for one in y]), r"at least 2 different tags .* \['O'\]"),
    ("a string for words", lambda x, y: ([*x[:3], "buy 2", *x[4:]], y), r"X\[3\] .*a string, not a list of words"),
    ("a mapping for words", lambda x, y: ([*x[:3], {"a": 1}, *x[4:]], y), r"X\[3\] .*no list of words"),
    ("a missing text", lambda x, y: ([*x[:3], None, *x[4:]], y), r"X\[3\] \(None\): missing value"),
    ("a missing word", lambda x, y: ([*x[:3], [None], *x[4:]], y), r"X\[3\] \(word 0\): None, a missing value"),
    ("a number for a word", lambda x, y: ([*x[:3], [7], *x[4:]], y), r"X\[3\] \(word 0\): .*not a string"),
    ("an empty word", lambda x, y: ([*x[:3], [" "], *x[4:]], y), r"X\[3\] \(word 0\): ' ', an empty word"),
    ("half a character", lambda x, y: ([*x[:3], ["a\ud800"], *x[4:]], y), r"X\[3\] \(word 0\): no valid Unicode at"),
    ("a text too long", lambda x, y: ([*x[:3], ["ab"] * 150, *x[4:]], [*y[:3], ["O"] * 150, *y[4:]]), r"X\[3\] \(150"),
    ("no texts", lambda x, y: ([], []), "minimum of 1 is required; X holds no list of words"),
    ("an empty tag", lambda x, y: (x, [*y[:3], [""], *y[4:]]), r"y\[3\]\[0\] is ''"),
    ("a table of numbers", lambda x, y: (np.ones((18, 2)), y), r"X\[0\] \(word 0\): .*not a string"),
    ("a table of words", lambda x, y: (pd.DataFrame({"a": x, "b": x}), y), r"got 2: \['a', 'b'\]"),
    ("a number", lambda x, y: (7, y), "Expected lists of words"),
    (
        "a missing word alone",
        lambda x, y: ([[None], ["a", "b"]], [["O"], ["A", "B"]]),
        r"X\[0\] \(word 0\): None, a missing value",
    ),
    ("one text alone", lambda x, y: (x[0], y[0]), r"y\[0\] is 'O'; expected a list with a tag for each"),
    ("a text that is no list", lambda x, y: ("buy 2", y), "Expected a collection of samples, got one"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_is_told_with_its_row(change, message):
    words, tags = change(X, Y)
    with pytest.raises(ValueError, match=message):
        tagger().fit(words, tags)


def test_a_text_that_is_too_long_says_by_how_much():
    model = tagger(max_length=12).fit([words[:2] for words in X[:6]], [tags[:2] for tags in Y[:6]])
    with pytest.raises(BadSampleError, match="has 14 tokens, more than max_length=12.*split it into sentences"):
        model.predict([["abc", "defg", "hijkl"]])


def test_rows_that_cannot_be_read_are_left_out_on_request():
    words, tags = [*X, None, ["a"] * 200, "text"], [*Y, ["O"], ["O"] * 200, ["O"]]
    with pytest.warns(UserWarning, match=r"Rows \[18, 19, 20\] of X could not be read"):
        model = tagger(on_bad_sample="nan").fit(words, tags)
    assert model.bad_samples_ == [18, 19, 20]
    alike(model.predict_proba(X), tagger().fit(X, Y).predict_proba(X))
    assert model.predict_proba(words)[18:].tolist() == [None] * 3
    with pytest.raises(BadSampleError, match=r"X\[18\]"):
        model.predict(words)


def test_networks_that_cannot_tag_are_refused():
    with pytest.raises(UnsupportedBackboneError, match="reads samples of kind 'image'"):
        FineTunedTagger("toy:images").fit(X, Y)
    windowed = load_backbone("toy:text", long_samples="windows")
    with pytest.raises(UnsupportedBackboneError, match="long_samples='truncate'"):
        FineTunedTagger(windowed).fit(X, Y)
    with pytest.raises(ValueError, match=r"layer takes names of stages.*got 'steam'. Pass one of \['stem'"):
        tagger(layer="steam").fit(X, Y)
    with pytest.raises(ValueError, match="layer must name at least one stage"):
        tagger(layer=[]).fit(X, Y)
    with pytest.raises(ValueError, match="adapter='lora' goes into unfrozen stages"):
        tagger(adapter="lora").fit(X, Y)
    with pytest.raises(NotFittedError):
        tagger().predict(X)


def test_a_tokenizer_that_does_not_tell_where_tokens_come_from_is_refused(monkeypatch):
    backbone = load_backbone("toy:text")

    def slow(self, text, *, verbose=True, return_offsets_mapping=False):
        if return_offsets_mapping:
            raise NotImplementedError
        return {"input_ids": list(text.encode())}

    monkeypatch.setattr(type(backbone.preprocessing.tokenizer), "__call__", slow)
    with pytest.raises(UnsupportedBackboneError, match="is written in Python.*Choose a backbone with a fast tokenizer"):
        FineTunedTagger(backbone).fit(X, Y)


def test_a_tokenizer_written_in_python_is_refused():
    with pytest.raises(UnsupportedBackboneError, match="Tags of words need .* ByT5Tokenizer, is written in Python"):
        FineTunedTagger("toy:text-to-text").fit(X, Y)


@pytest.mark.parametrize(
    "change",
    [
        {"taps": [9]},
        {"taps": [0]},
        {"taps": [2, 1]},
        {"taps": []},
        {"boundary": 3, "taps": [2]},
        {"n_outputs": 7},
        {"head": "other"},
        {"pooling": "mean"},
        {"taps": [True]},
        {"taps": ["1"]},
    ],
    ids=str,
)
def test_a_file_that_claims_what_cannot_be_is_refused(tmp_path, change):
    from skltransfer._estimators import serialization

    path = tmp_path / "model.skl"
    tagger().fit(X, Y).save(path)
    header, arrays = serialization.read(path)
    header["network"] |= change
    serialization.write(path, {k: v for k, v in header.items() if k != "format"}, arrays)
    with pytest.raises(WeightsError):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"factors": np.ones(3)},
        {"factors": np.array([1.0, np.nan])},
        {"mean_words": -1.0},
        {"smoothing": "much"},
        {"classes": np.array(["O"])},
        {"classes": np.array([["O", "NUM"]])},
        {"classes": "ab"},
        {"n_outputs": 9},
        {"more": 1},
    ],
    ids=str,
)
def test_a_file_whose_task_cannot_be_is_refused(tmp_path, change):
    from skltransfer._estimators import serialization

    path = tmp_path / "model.skl"
    model = tagger().fit(X, Y)
    vars(model._task_).update(change)
    model.save(path)
    with pytest.raises(WeightsError):
        load(path)
    assert serialization.read(path)[0]["class"] == "FineTunedTagger"


def test_a_classifier_of_tokens_is_refused(tmp_path):
    from skltransfer._estimators import serialization

    path = tmp_path / "model.skl"
    FineTunedClassifier("toy:text", freeze_depth=1.0).fit(["a", "b"] * 3, [0, 1] * 3).save(path)
    header, arrays = serialization.read(path)
    header["network"] |= {"pooling": None, "taps": [4]}
    serialization.write(path, {k: v for k, v in header.items() if k != "format"}, arrays)
    with pytest.raises(WeightsError):
        load(path)


def test_it_names_no_features_and_needs_tags():
    assert not hasattr(tagger(), "get_feature_names_out")
    assert not hasattr(tagger(), "transform")
    assert tagger().__sklearn_tags__().target_tags.required


def test_an_export_is_refused_by_name(tmp_path):
    from skltransfer import export_onnx

    with pytest.raises(TypeError, match="FineTunedTagger"):
        export_onnx(tagger().fit(X, Y), tmp_path / "model.onnx")


WORD = st.one_of(st.text(max_size=5), st.none(), st.integers(), st.floats(), st.lists(st.text(), max_size=1))
CELL = st.one_of(WORD, st.booleans(), st.binary(max_size=3))
ROW = st.one_of(st.lists(CELL, max_size=4), st.text(max_size=3), st.none(), st.integers(), st.just({"a": "b"}))


@pytest.mark.slow
@settings(max_examples=320, deadline=None)
@given(st.lists(st.tuples(ROW, ROW), min_size=16, max_size=16), st.booleans())
def test_fuzzed_targets_are_fitted_or_refused_by_name(rows, are_left_out):
    """5,120 targets: refused with what is wrong, or answered with as many tags as there are words."""
    words, tags = [*X, *(row for row, _ in rows)], [*Y, *(row for _, row in rows)]
    model = tagger(on_bad_sample="nan" if are_left_out else "raise")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows that were left out
            found = model.fit(words, tags).predict_proba(words)
    except ValueError as error:
        message = str(error)
    else:
        sizes = [None if one is None else len(one) for one in found]
        assert all(size is None or size == len(row) for size, row in zip(sizes, words, strict=True))
        return
    assert re.search(r"X\[\d+\]|y\[\d+\]", message)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["O", "B-A", "I-A", "E-A", "S-B", "L-B", "U-A", "A", "-"])), min_size=1))
@pytest.mark.slow
def test_fuzzed_tags_of_good_texts_are_fitted(tags):
    """Any tags will do, in any order; predictions are scored between 0 and 1."""
    words = [[f"w{i}" for i in range(len(one))] for one in tags]
    model = tagger().fit([*X, *words], [*Y, *tags])
    assert 0 <= model.score([*X, *words], [*Y, *tags]) <= 1
    assert [len(one) for one in model.predict(words)] == [len(one) for one in words]


# how tags are read


@pytest.mark.parametrize(
    ("scheme", "tags", "found"),
    [
        ("IO", "I-A I-A O I-B I-A", {(0, 2, "A"), (3, 4, "B"), (4, 5, "A")}),
        ("plain IO", "A A O B B-C", {(0, 2, "A"), (3, 4, "B"), (4, 5, "B-C")}),
        ("BIO", "B-A I-A B-A O I-B I-A B-A", {(0, 2, "A"), (2, 3, "A"), (4, 5, "B"), (5, 6, "A"), (6, 7, "A")}),
        ("BIOES", "B-A I-A E-A S-A O S-B E-B", {(0, 3, "A"), (3, 4, "A"), (5, 6, "B"), (6, 7, "B")}),
        ("BILOU", "B-A I-A L-A U-A O U-B B-B", {(0, 3, "A"), (3, 4, "A"), (5, 6, "B"), (6, 7, "B")}),
        ("words", "A B", {(0, 1, "A"), (1, 2, "B")}),
        ("BIO", "B I I O B B", {(0, 3, ""), (4, 5, ""), (5, 6, "")}),
        ("BIO", "B-A X X O I-B", {(0, 1, "A"), (1, 3, "X"), (4, 5, "B")}),
        ("BIO", "", set()),
    ],
)
def test_entities_are_read_as_their_scheme_says(scheme, tags, found):
    from skltransfer.tagging import _marked

    assert _marked(tags.split(), scheme) == found


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O B-A I-A", "BIO"),
        ("O I-A", "IO"),
        ("O B-A I-A E-A S-A", "BIOES"),
        ("O B-A I-A L-A U-A", "BILOU"),
        ("O PER", "plain IO"),
        ("NOUN VERB", "words"),
        ("O", "plain IO"),
        ("B-A I-A", "BIO"),
        ("B I O", "BIO"),
        ("B I O B-A", "BIO"),
        ("I O", "IO"),
        ("B-PER I-PER O X", "BIO"),
        ("S E", "words"),
        ("O S-A", "BIOES"),
        ("O U-A", "BILOU"),
        ("S-NP N-NP", "words"),
        ("S E O", "plain IO"),
        ("", "words"),
    ],
)
def test_the_scheme_is_found_in_the_tags(tags, scheme):
    assert scheme_of(tags.split()) == scheme
    assert scheme in SCHEMES


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=8))
def test_all_schemes_with_borders_mark_the_same_entities(spans):
    """Entities with nothing between them, written in BIO, BIOES and BILOU."""
    from skltransfer.tagging import _marked

    written = {"BIO": [], "BIOES": [], "BILOU": []}
    expected, at = set(), 0
    for kind, length in spans:
        expected.add((at, at + length, str(kind)))
        at += length
        written["BIO"] += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        for scheme, (last, single) in {"BIOES": "ES", "BILOU": "LU"}.items():
            long = [f"B-{kind}", *[f"I-{kind}"] * (length - 2), f"{last}-{kind}"]
            written[scheme] += long if length > 1 else [f"{single}-{kind}"]
    for scheme, tags in written.items():
        assert _marked(tags, scheme) == expected


def test_the_score_is_that_of_conll():
    truth = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["O", "B-ORG", "I-ORG"], ["O"]]
    found = [["B-PER", "I-PER", "O", "B-ORG", "O"], ["B-ORG", "I-ORG", "I-ORG"], ["O"]]
    assert entity_f1_score(truth, found) == pytest.approx(2 * 1 / (3 + 3))
    assert entity_f1_score(truth, truth) == 1
    assert entity_f1_score([["O"]], [["O"]]) == 0
    assert entity_f1_score(truth, found, sample_weight=[1, 0, 5]) == pytest.approx(2 * 1 / (2 + 2))
    assert entity_f1_score([["A", "B"]], [["A", "C"]]) == 0.5  # words
    assert entity_f1_score(truth, found, scheme="words") == pytest.approx(6 / 9)
    assert entity_f1_score([["B", "I", "I", "O"]], [["B", "I", "O", "O"]]) == 0
    assert entity_f1_score([[0, 1]], [[False, np.True_]]) == entity_f1_score([[0, 1]], np.array([[0, 1]])) == 1
    frame = pd.DataFrame({"tags": truth})
    assert entity_f1_score(frame, found) == entity_f1_score(truth, found)
    with pytest.raises(ValueError, match=r"y_true\[1\] has 2 tags, and y_pred\[1\] has 1"):
        entity_f1_score([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="scheme must be 'auto' or one of"):
        entity_f1_score(truth, found, scheme="BIEO")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0.0, 1.0]], r"y_true\[0\]\[0\] is 0.0"),
        ([[None, None]], r"y_true\[0\]\[0\] is None"),
        (["OO"], r"y_true\[0\] is 'OO'; expected a list"),
        ([None], r"y_true\[0\] is None; expected a list"),
        ("OO", "y_true must be a list or an array"),
        ([["O", ""]], r"y_true\[0\]\[1\] is ''"),
    ],
)
def test_a_score_takes_no_tags_that_a_fit_refuses(y, message):
    with pytest.raises(ValueError, match=message):
        entity_f1_score(y, [["O", "O"]])
    with pytest.raises(ValueError, match=message.replace("y_true", "y_pred")):
        entity_f1_score([["O", "O"]], y)
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="sample_weight"):
            entity_f1_score([["O", "O"]], [["O", "O"]], sample_weight=[weight])


def write(tmp_path, text, **how):
    path = tmp_path / "tags.conll"
    path.write_bytes(text.encode(**how))
    return path


def test_files_of_the_shared_tasks_are_read(tmp_path):
    ner = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n\n# DT O O\n1-2 CD O O\n0.5 CD O O\n"
    assert read_conll(write(tmp_path, ner)) == ([["EU", "rejects"], ["#", "1-2", "0.5"]], [["B-ORG", "O"], ["O"] * 3])
    words, tags = read_conll(write(tmp_path, "\ufeffEU B-ORG\r\nrejects\t O\r\n\r\n10\u00a0000 \t B-PER"))
    assert words == [["EU", "rejects"], ["10\u00a0000 "]]
    assert tags == [["B-ORG", " O"], [" B-PER"]]
    treebank = (
        "# sent_id = 1\n# text = It's New\n1-2\tIt's\t_\t_\n1\tIt\tit\tPRON\n2\t's\tbe\tAUX\n3\tNew York\tx\tPROPN\n"
        "3.1\t_\t_\t_\n\n# sent_id = 2\n\n1\tYes\tyes\tINTJ\n\n"
    )
    words, tags = read_conll(write(tmp_path, treebank), word_column=1, tag_column=3)
    assert words == [["It", "'s", "New York"], ["Yes"]]
    assert tags == [["PRON", "AUX", "PROPN"], ["INTJ"]]
    latin = write(tmp_path, "Müller B-PER\n", encoding="latin-1")
    assert read_conll(latin, encoding="latin-1")[0] == [["Müller"]]


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), min_size=1), min_size=1)))
def test_what_is_written_with_tabs_is_read_again(sentences):
    words = [[word for word in sentence if word.strip() and word != "-DOCSTART-"] for sentence in sentences]
    words = [sentence for sentence in words if sentence]
    text = "\n\n".join("\n".join(f"{word}\tT{i}" for i, word in enumerate(sentence)) for sentence in words)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "x")
        path.write_bytes(text.encode())
        if words and not words[0][0].startswith("\ufeff"):
            assert read_conll(path) == (words, [[f"T{i}" for i in range(len(one))] for one in words])


def test_files_that_hold_something_else_are_told_by_line(tmp_path):
    with pytest.raises(ValueError, match=r"Line 2 of .* holds \['rejects'\]; expected at least 2 columns"):
        read_conll(write(tmp_path, "EU B-ORG\nrejects\n"))
    with pytest.raises(ValueError, match="expected at least 4 columns.*a tag in column 3. Name other columns"):
        read_conll(write(tmp_path, "EU B-ORG\n"), tag_column=3)
    with pytest.raises(ValueError, match=r"Line 1 of .* holds \['EU', ''\]"):
        read_conll(write(tmp_path, "EU\t\n"))
    with pytest.raises(ValueError, match="holds no sentence"):
        read_conll(write(tmp_path, "\n\n"))
    with pytest.raises(FileNotFoundError):
        read_conll(tmp_path / "absent")


# real texts


@pytest.mark.slow
def test_entities_of_wikipedia_are_found():
    """Half of the bar of the benchmark, which takes minutes: tests/benchmarks/quality_tags.py."""
    folder = os.environ.get("SKLTRANSFER_DATA")
    if not folder:
        pytest.skip("the environment variable SKLTRANSFER_DATA names no folder")
    with gzip.open(pathlib.Path(folder) / "entities_wikigold.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    order = np.random.default_rng(0).permutation(len(rows))[:400]  # neighbours are of one article
    words, tags = [rows[i]["words"] for i in order], [rows[i]["tags"] for i in order]
    model = FineTunedTagger(freeze_depth=0.25, backbone_lr_factor=0.3, max_epochs=5, random_state=0)
    model.fit(words[:250], tags[:250])
    assert model.scheme_ == "IO"
    assert model.score(words[250:], tags[250:]) > 0.45
