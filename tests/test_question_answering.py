"""Answers in a text: what is learned and answered, what is refused by row, and how answers are compared."""

import os
import pickle
import re
import string
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import saved
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

from skltransfer import (
    ActivationStore,
    FineTunedQuestionAnswerer,
    answer_exact_match_score,
    answer_f1_score,
    load,
    load_backbone,
    transfer_report,
)
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError, WeightsError
from skltransfer.testing._samples import objects

THINGS = ["figs", "ripe plums", "nuts"]
X = [("How many?", f"Buy {n} {thing}.") for n, thing in zip(range(2, 98, 8), THINGS * 4, strict=True)]
X += [("How many?", f"Buy {thing}.") for thing in THINGS]
Y = [re.sub(r"\D", "", context) for _, context in X]
OPTIONS = {"dtype": "float32", "random_state": 0, "learning_rate": 0.01, "batch_size": 4, "max_epochs": 3}


def answerer(**parameters):
    return FineTunedQuestionAnswerer("toy:text", **OPTIONS | parameters)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder of a tiny BertForQuestionAnswering."""
    return saved("BERT", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def fitted():
    return answerer(freeze_depth=0.25, max_epochs=25).fit(X, Y)


# what is learned and answered


def test_numbers_are_found_in_texts_that_were_not_seen(fitted):
    found = fitted.predict([("How many?", "Buy 35 nuts."), ("How many?", "Buy nuts.")])
    assert found.dtype == object
    assert found.tolist() == ["35", ""]
    assert fitted.score(X, Y) == 1
    assert fitted.head_ == "linear"
    assert fitted.input_kind_ == "pairs"


def test_spans_say_where_and_how_probable_an_answer_is(fitted):
    spans = fitted.predict_spans(X)
    assert spans.shape == (len(X),)
    for span, (_, context), answer in zip(spans, X, fitted.predict(X), strict=True):
        assert span["text"] == answer
        assert 0 < span["score"] <= 1
        if answer:
            assert context[span["start"] : span["end"]] == answer
        else:
            assert (span["start"], span["end"]) == (-1, -1)
    assert fitted.score(X, fitted.predict_spans(X).tolist()) == 1  # they are targets, too


def test_answers_keep_case_and_spaces(bert):
    pair = ("who was born ?", "In Lima\t ANNA,  Boris\u00a0and\nClara moved.")
    model = FineTunedQuestionAnswerer(bert, freeze_depth=0.0, **OPTIONS | {"max_epochs": 40})
    answer = "ANNA,  Boris\u00a0and\nClara"
    model.fit([pair] * 3 + [("where ?", "Anna was in Oslo .")], [answer] * 3 + ["Oslo"])
    assert model.head_ == "own"
    assert model.predict([pair])[0] == answer


def test_a_checkpoints_own_head_answers_as_the_library_does(bert):
    """Frozen, with a learning rate of nothing: the library's logits, of the context and of the first token."""
    pairs = [("who moved to Oslo ?", "In 1984 , Boris moved to Oslo , and Clara moved to Rome ."), ("when ?", "Anna .")]
    model = FineTunedQuestionAnswerer(bert, freeze_depth=1.0, **OPTIONS | {"learning_rate": 1e-30})
    model.fit(pairs, ["Boris", ""])
    folder = bert.removeprefix("hf:")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    library = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    for pair, found in zip(pairs, model.predict_spans(pairs), strict=True):
        read = tokenizer([pair[0]], [pair[1]], return_tensors="pt")
        offsets = tokenizer([pair[0]], [pair[1]], return_offsets_mapping=True)
        with torch.no_grad():
            scores = library(**read)
        allowed = [0, *(i for i, of in enumerate(offsets.sequence_ids(0)) if of == 1)]
        starts, ends = (one[0, allowed].softmax(0) for one in (scores.start_logits, scores.end_logits))
        table = torch.triu(starts[1:, None] * ends[None, 1:])
        best = float(max(table.max(), starts[0] * ends[0]))
        assert found["score"] == pytest.approx(best, rel=1e-5)
        if found["text"]:
            first, last = divmod(int(table.argmax()), len(allowed) - 1)
            spans = offsets["offset_mapping"][0]
            assert found["text"] == pair[1][spans[allowed[1 + first]][0] : spans[allowed[1 + last]][1]]


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_depth": 1.0},
        {"freeze_depth": 0.5},
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (
                {"freeze_depth": 0.0, "head": "mlp"},
                {"freeze_depth": 0.25, "unfreeze_schedule": "gradual"},
                {"freeze_depth": 0.5, "early_stopping": True, "validation_fraction": 0.3},
                {"freeze_depth": 0.25, "adapter": "lora", "max_epochs": 1},
            )
        ),
    ],
    ids=str,
)
def test_order_store_pickles_and_files_change_nothing(options, tmp_path):
    model = answerer(**options).fit(X, Y)
    expected = model.predict_spans(X).tolist()
    order = np.random.default_rng(1).permutation(len(X))
    mixed = clone(model).fit([X[i] for i in order], [Y[i] for i in order])
    assert mixed.predict_spans(X).tolist() == expected
    assert clone(model).set_params(cache=None).fit(X, Y).predict_spans(X).tolist() == expected
    assert pickle.loads(pickle.dumps(model)).predict_spans(X).tolist() == expected
    model.save(tmp_path / "model.skl")
    restored = load(tmp_path / "model.skl")
    assert restored.predict_spans(X).tolist() == expected
    assert restored.score(X, Y) == model.score(X, Y)


def test_weights_are_repeated_pairs():
    weights = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weights)
    weighted = answerer(freeze_depth=0.5).fit(X, Y, sample_weight=weights)
    repeated = answerer(freeze_depth=0.5).fit([X[i] for i in rows], [Y[i] for i in rows])
    for one, other in zip(weighted.predict_spans(X), repeated.predict_spans(X), strict=True):
        assert one["text"] == other["text"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)
    assert weighted.score(X, Y, weights) == pytest.approx(weighted.score([X[i] for i in rows], [Y[i] for i in rows]))


def test_an_answer_does_not_depend_on_its_neighbours(fitted):
    whole = fitted.predict_spans(X).tolist()
    assert [fitted.predict_spans([pair])[0] for pair in X] == whole
    assert fitted.predict_spans(X[::-1]).tolist()[::-1] == whole


def test_all_forms_of_pairs_and_answers_mean_the_same():
    model = answerer(max_epochs=1, freeze_depth=1.0)
    expected = model.fit(X, Y).predict_spans(X).tolist()
    frame = pd.DataFrame(X, columns=["question", "context"], index=range(7, 7 + len(X)))
    starts = [context.find(answer) for (_, context), answer in zip(X, Y, strict=True)]
    placed = [{"text": answer, "start": start} for answer, start in zip(Y, starts, strict=True)]
    squad = [
        {"text": [answer] * bool(answer), "answer_start": [start] * bool(answer)}
        for answer, start in zip(Y, starts, strict=True)
    ]
    arrays = [{key: np.array(value, dtype=object) for key, value in one.items()} for one in squad]
    several = [{key: value * 2 for key, value in one.items()} for one in squad]
    as_strings = np.array(X, dtype=object)
    for pairs, answers in (
        (frame, pd.Series(Y)),
        (as_strings, np.array(Y)),
        (objects(X), objects(placed)),
        (pd.Series(X), squad),
        (X, arrays),
        (X, several),
        (X, pd.DataFrame({"answer": Y})),
    ):
        assert clone(model).fit(pairs, answers).predict_spans(pairs).tolist() == expected


def test_the_same_pairs_are_read_in_a_pipeline_and_split_by_scikit_learn():
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    model = make_pipeline(answerer(freeze_depth=0.25, max_epochs=15)).fit(train, y_train)
    assert 0 <= model.score(test, y_test) <= 1
    scores = cross_val_score(answerer(freeze_depth=1.0), X, Y, cv=3, scoring=make_scorer(answer_f1_score))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(cross_val_predict(answerer(freeze_depth=1.0), X, Y, cv=3)) == len(X)


def test_a_search_passes_each_stage_once_for_each_pair():
    store = ActivationStore()
    grid = {"freeze_depth": [1.0, 0.75, 0.5], "max_answer_length": [1, 30]}
    GridSearchCV(answerer(cache=store, max_epochs=1), grid, cv=3, error_score="raise").fit(X, Y)
    assert store.info()["misses"] == len(set(X))


@pytest.mark.slow
def test_a_file_is_read_in_another_process(fitted, tmp_path):
    fitted.save(tmp_path / "model.skl")
    code = "import sys, skltransfer; print(skltransfer.load(sys.argv[1]).predict([('How many?', 'Buy 35 nuts.')])[0])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.skl")], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "35", done.stderr


def test_pickles_hold_no_frozen_weights(bert):
    frozen = FineTunedQuestionAnswerer(bert, freeze_depth=1.0, **OPTIONS).fit([("who ?", "Anna .")] * 4, ["Anna"] * 4)
    trained = clone(frozen).set_params(freeze_depth=0.0).fit([("who ?", "Anna .")] * 4, ["Anna"] * 4)
    assert frozen.n_trainable_params_ == 2 * 32 + 2
    assert len(pickle.dumps(frozen)) < 12_000 < 100_000 < len(pickle.dumps(trained))


def test_validation_checkpoints_and_callbacks(tmp_path):
    options = {"freeze_depth": 0.5, "early_stopping": True, "max_epochs": 4}
    held_out = {"X_val": [("How many?", "Buy 36 figs.")], "y_val": ["36"], "groups": range(len(X))}
    model = answerer(**options, checkpoint=tmp_path).fit(X, Y, **held_out)
    assert len(model.history_["validation_loss"]) == model.n_iter_
    again = answerer(**options, checkpoint=tmp_path).fit(X, Y, **held_out)
    assert again.history_["loss"] == model.history_["loss"]
    assert again.predict_spans(X).tolist() == model.predict_spans(X).tolist()
    with pytest.raises(ValueError, match=r"y\[0\], 'seven', does not occur") as caught:
        answerer(**options).fit(X, Y, X_val=X[:1], y_val=["seven"])
    assert "This is about X_val and y_val." in caught.value.__notes__


def test_a_report_compares_with_random_weights():
    report = transfer_report(answerer(freeze_depth=1.0, max_epochs=1), X, Y, cv=2, random_state=0)
    assert [row["name"] for row in report.table_] == ["transfer", "scratch", "random"]


def test_the_longest_answer_is_no_part_of_a_fit(fitted):
    short = pickle.loads(pickle.dumps(fitted)).set_params(max_answer_length=1)
    assert all(len(answer) <= 1 for answer in short.predict(X))
    assert max(map(len, fitted.predict(X))) == 2


def test_copies_are_reported():
    assert answerer(max_epochs=1).fit([*X, X[0]], [*Y, Y[0]]).duplicates_ == [[0, len(X)]]


# what is refused

CONTEXT = "Anna met Ann in Lima; Lima is in Peru, and Annabel is not."
ROWS = [
    ("no part of the context", "Paris", r"y\[1\], 'Paris', does not occur in the context of X\[1\]"),
    ("another case", "lima", r"y\[1\], 'lima', does not occur"),
    ("several places", "Lima", r"occurs 2 times .* at the characters \[16, 22\].*\{'text': 'Lima', 'start': 16\}"),
    ("several words in words", "nn", r"'nn', occurs 3 times"),
    ("missing", None, r"y\[1\] is None, which is missing; expected a string of the context"),
    ("NaN", float("nan"), r"y\[1\] is nan, which is missing"),
    ("pandas.NA", pd.NA, r"y\[1\] is <NA>, which is missing"),
    ("a number", 7, r"y\[1\] is 7, which is no answer"),
    ("spaces", "  ", r"y\[1\] is '  ', which is no answer"),
    ("bytes", b"Lima", r"y\[1\] is b'Lima', which is no answer"),
    ("a list", ["Lima"], r"y\[1\] is \['Lima'\], which is no answer"),
    ("another place", {"text": "Lima", "start": 17}, r"begins at character 17, but the context has 'ima;' there"),
    ("beyond the end", {"text": "Lima", "start": 999}, r"at character 999, but the context has '' there"),
    ("before the beginning", {"text": "Lima", "start": -4}, r"y\[1\] begins at -4; expected the number"),
    ("a fraction", {"text": "Lima", "start": 1.5}, r"y\[1\] begins at 1.5"),
    ("a truth value", {"text": "Lima", "start": True}, r"y\[1\] begins at True"),
    ("no text", {"start": 3}, r"y\[1\] has the keys \['start'\]"),
    ("odd keys", {"text": "Lima", "place": 3}, r"y\[1\] has the keys \['place', 'text'\]"),
    ("a missing text", {"text": None, "start": 3}, r"y\[1\] is .*expected as many texts as starts"),
    ("nothing at all as text", {"text": None}, r"y\[1\] is .*expected as many texts as starts"),
    ("lists of two lengths", {"text": ["Lima"], "answer_start": [1, 2]}, "expected as many texts as starts"),
    ("a list of none", {"text": [None], "answer_start": [3]}, r"y\[1\] is None, which is missing"),
    ("one place for a list", {"text": ["Lima"], "answer_start": 16}, "expected as many texts as starts"),
]


@pytest.mark.parametrize(("answer", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_with_an_answer_is_told_with_its_row(answer, message):
    with pytest.raises(ValueError, match=message):
        answerer().fit([("Where?", CONTEXT)] * 3, ["Peru", answer, "Peru"])


@pytest.mark.parametrize(
    ("answer", "letters"),
    [
        ("Ann", (9, 12)),
        ("Anna", (0, 4)),
        ("Annabel", (43, 50)),
        ("Pe", (33, 35)),
        (" met ", (5, 8)),
        ({"text": "Lima", "start": 22}, (22, 26)),
        ({"text": ["Lima", "Peru"], "answer_start": [16, 33]}, (16, 20)),
        ({"text": "Peru"}, (33, 37)),
        ({"text": "Peru", "start": np.int64(33)}, (33, 37)),
        ({"text": [], "answer_start": []}, None),
        ({"text": "", "start": 0}, None),
        ("", None),
    ],
    ids=str,
)
def test_an_answer_is_learned_at_its_place(answer, letters):
    """The toy's tokens are bytes: after a question of six comes one that separates."""
    model, backbone = answerer(), load_backbone("toy:text")
    samples = model._samples([("Where?", CONTEXT)], backbone, reset=True)
    (found,) = model._checked_target([answer], samples)
    assert found == ((0, 0) if letters is None else (7 + letters[0], 7 + letters[1] - 1))


PAIR_ROWS = [
    ("single texts", [pair[1] for pair in X], "reads pairs of a question and a context, but X holds single texts"),
    ("a text among pairs", [*X[:3], "Buy 7 figs.", *X[4:]], r"X\[3\] .*a str among pairs of texts"),
    ("three texts", [*X[:3], ("a", "b", "c"), *X[4:]], r"X\[3\] .*a tuple of 3, not a pair"),
    ("a missing pair", [*X[:3], None, *X[4:]], r"X\[3\] \(None\): missing value"),
    ("a missing context", [*X[:3], ("How many?", None), *X[4:]], r"X\[3\] \(None\): missing value"),
    ("half a character", [*X[:3], ("How?", "\ud800"), *X[4:]], r"X\[3\].*the second text is no valid Unicode"),
    ("a table of numbers", np.ones((15, 2)), "Expected texts, got a table of numbers"),
    ("three columns", pd.DataFrame([(*pair, "c") for pair in X]), "one column of texts, or two"),
    ("no pairs", [], "minimum of 1 is required"),
    ("one pair alone", X[0], "pairs of a question and a context, but X holds single texts"),
]


@pytest.mark.parametrize(("pairs", "message"), [row[1:] for row in PAIR_ROWS], ids=[row[0] for row in PAIR_ROWS])
def test_what_is_wrong_with_pairs_is_told(pairs, message):
    with pytest.raises(ValueError, match=message):
        answerer().fit(pairs, Y)


@pytest.mark.parametrize(
    ("y", "message"),
    [(None, "requires y to be passed"), (Y[:-1], "inconsistent numbers of samples"), ("12", "y must be a list or an")],
)
def test_what_is_wrong_with_y_as_a_whole_is_told(y, message):
    with pytest.raises(ValueError, match=message):
        answerer().fit(X, y)


def test_pairs_that_cannot_be_read_are_left_out_on_request(fitted):
    pairs, answers = [*X, None, ("How many?", None)], [*Y, "", "7"]
    with pytest.warns(UserWarning, match=r"Rows \[15, 16\] of X could not be read"):
        model = answerer(on_bad_sample="nan").fit(pairs, answers)
    assert model.bad_samples_ == [15, 16]
    assert model.predict_spans(X).tolist() == answerer().fit(X, Y).predict_spans(X).tolist()
    assert model.predict(pairs)[15:].tolist() == [None, None]
    assert model.predict_spans(pairs)[15:].tolist() == [None, None]
    with pytest.raises(BadSampleError, match=r"X\[15\]"):
        fitted.predict(pairs)
    with pytest.raises(BadSampleError, match=r"X\[15\]"):
        model.score(pairs, answers)


def test_an_answer_that_may_be_meant_twice_is_no_fault_in_a_row_of_weight_zero():
    twice = ("How many?", "Buy 7 or 7.")
    model = answerer().fit([*X, twice], [*Y, "7"], sample_weight=[1] * len(X) + [0])
    assert model.predict_spans(X).tolist() == answerer().fit(X, Y).predict_spans(X).tolist()
    with pytest.raises(ValueError, match=r"y\[15\], '7', occurs 2 times"):
        answerer().fit([*X, twice], [*Y, "7"], sample_weight=[0] * len(X) + [1])
    with pytest.raises(ValueError, match=r"y\[0\], '7', occurs 2 times") as caught:
        answerer(early_stopping=True).fit(X, Y, X_val=[twice], y_val=["7"])
    assert "This is about X_val and y_val." in caught.value.__notes__


@pytest.mark.filterwarnings("ignore:.*pairs of a question and a context are longer")
def test_answers_to_validate_on_that_are_cut_off_are_told():
    cut, whole = ("How many?", "Buy a lot of figs, or 7."), ("How many?", "Buy 35.")
    model = answerer(max_length=20, max_epochs=1, early_stopping=True)
    with pytest.warns(UserWarning, match=r"1 of 2 answers lie beyond .*\(first: y_val\[1\]\)"):
        model.fit(X, Y, X_val=[whole, cut], y_val=["35", "7"])
    assert model.n_truncated_answers_ == 0
    with (
        pytest.warns(UserWarning, match="1 of 1 answers lie beyond"),
        pytest.raises(ValueError, match="max_length cuts off the answers of all pairs of X_val"),
    ):
        model.fit(X, Y, X_val=[cut], y_val=["7"])


def test_answers_that_are_cut_off_are_counted_and_left_out():
    """max_length=20: a question of nine, the separator, and ten letters of the context."""
    pairs = [*X, ("How many?", "Buy a lot of figs, or 7."), ("How many?", "Buy 7, or more if there are some.")]
    answers = [*Y, "7", "7"]
    n_cut = sum(len(question) + 1 + len(context) > 20 for question, context in pairs)
    with (
        pytest.warns(UserWarning, match=f"{n_cut} of 17 pairs of a question and a context .* max_length=20 tokens"),
        pytest.warns(UserWarning, match=r"1 of 17 answers lie beyond .*\(first: y\[15\]\)"),
    ):
        model = answerer(max_length=20, max_epochs=1).fit(pairs, answers)
    assert (model.n_truncated_, model.n_truncated_answers_) == (n_cut, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = answerer(max_length=20, max_epochs=1).fit([*X, pairs[-1]], [*Y, "7"])
        np.testing.assert_equal(same.history_, model.history_)
        assert same.n_truncated_answers_ == 0
        assert same.predict_spans(X).tolist() == model.predict_spans(X).tolist()
        with pytest.raises(ValueError, match="max_length cuts off the answers of all pairs"):
            answerer(max_length=20).fit(pairs[15:16], ["7"])


def test_an_answer_half_of_which_is_cut_off_is_not_learned():
    pairs, answers = [("Many?", "Buy 1234567."), *[("Many?", "Buy 7.")] * 3], ["1234567", "7", "7", "7"]
    with (
        pytest.warns(UserWarning, match="1 of 4 pairs of a question and a context"),
        pytest.warns(UserWarning, match="1 of 4 answers lie beyond"),
    ):
        answerer(max_length=16, max_epochs=1).fit(pairs, answers)


def test_networks_that_cannot_answer_are_refused(monkeypatch):
    with pytest.raises(UnsupportedBackboneError, match="reads samples of kind 'image'"):
        FineTunedQuestionAnswerer("toy:images").fit(X, Y)
    with pytest.raises(UnsupportedBackboneError, match="split long texts into sentences or paragraphs"):
        FineTunedQuestionAnswerer(load_backbone("toy:text", long_samples="windows")).fit(X, Y)
    with pytest.raises(UnsupportedBackboneError, match="head='own' needs a checkpoint that answers questions"):
        answerer(head="own").fit(X, Y)
    with pytest.raises(ValueError, match="adapter='lora' goes into unfrozen stages"):
        answerer(adapter="lora", freeze_depth=1.0).fit(X, Y)
    with pytest.raises(NotFittedError):
        answerer().predict(X)


def test_a_tokenizer_that_does_not_tell_where_tokens_come_from_is_refused(monkeypatch):
    backbone = load_backbone("toy:text")
    kind = type(backbone.preprocessing.tokenizer)
    original = kind.__call__

    def slow(self, *texts, return_offsets_mapping=False, **how):
        if return_offsets_mapping:
            raise NotImplementedError
        return original(self, *texts, **how)

    monkeypatch.setattr(kind, "__call__", slow)
    with pytest.raises(UnsupportedBackboneError, match="Answers in a text need .*ToyTokenizer, is written in Python"):
        FineTunedQuestionAnswerer(backbone).fit(X, Y)


def test_a_tokenizer_written_in_python_is_refused():
    with pytest.raises(UnsupportedBackboneError, match="Answers in a text need .* ByT5Tokenizer, is written in Python"):
        FineTunedQuestionAnswerer("toy:text-to-text", **OPTIONS).fit(X, Y)


@pytest.mark.parametrize("change", [{"taps": [9]}, {"n_outputs": 3}, {"head": "linear"}, {"head": "other"}], ids=str)
def test_a_file_that_claims_what_cannot_be_is_refused(fitted, tmp_path, change):
    from skltransfer._estimators import serialization

    path = tmp_path / "model.skl"
    fitted.save(path)
    header, arrays = serialization.read(path)
    header["network"] |= change
    serialization.write(path, {k: v for k, v in header.items() if k != "format"}, arrays)
    with pytest.raises(WeightsError):
        load(path)


@pytest.mark.slow
def test_an_export_is_refused_by_name(fitted, tmp_path):
    from skltransfer import export_onnx

    with pytest.raises(TypeError, match="FineTunedQuestionAnswerer"):
        export_onnx(fitted, tmp_path / "model.onnx")


# where tokens lie in a context


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    names = ["toy:text", "bundled:minilm", saved("RoBERTa", tmp_path_factory.mktemp("roberta"))]
    return {name.partition(":")[0]: load_backbone(name).preprocessing for name in names}


@pytest.mark.parametrize("source", ["toy", "bundled", "hf"])
@settings(max_examples=60, deadline=None)
@given(
    question=st.text(st.characters(codec="utf-8"), max_size=6),
    context=st.text(st.characters(codec="utf-8"), max_size=90),
)
def test_tokens_lie_at_their_places_whatever_the_texts(readers, source, question, context):
    """Positions rise in the ids that the network is given; no token begins or ends with a space of the context."""
    reader = readers[source]
    tokens, ids = reader.pairs.context((question, context)), reader((question, context))
    kept = tokens[tokens[:, 0] >= 0]
    assert (np.diff(kept[:, 0]) == 1).all()
    assert (tokens[:, 0] < len(ids)).all()
    assert (tokens[:, 1] <= tokens[:, 2]).all()
    assert len(kept) == 0 or kept[-1, 0] == len(ids) - 1 - reader.special_of_pairs[2]
    for _, start, stop in tokens:
        assert context[start:stop] == context[start:stop].strip()
    if len(tokens) and not reader.pairs.cuts((question, context)):
        whole = reader.pairs._whole((question, context))
        assert whole == ids.tolist()


def test_bytes_have_the_letters_of_their_words(readers):
    """RoBERTa's tokens begin with the space before a word, which is no part of an answer."""
    pair = ("Li", "In Lima, 1970.")
    tokens = readers["hf"].pairs.context(pair)
    found = [pair[1][start:stop] for _, start, stop in tokens]
    assert "Lima" in found or "Li" in found
    assert not any(word.startswith(" ") for word in found)


def test_pieces_that_only_begin_a_word_have_no_letters():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from skltransfer.backbones._tokens import TextPreprocessing

    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "</s>", "\u2581", "\u2581in", "日", "本", "a"])}
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 - (len(piece) == 1)) for piece in vocabulary], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    reader = TextPreprocessing.of(
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"), 64
    )
    context = "日本 in 日"
    tokens = reader.pairs.context(("a", context))
    assert [context[start:stop] for _, start, stop in tokens if stop > start] == ["日", "本", "in", "日"]
    assert (tokens[:, 2] == tokens[:, 1]).sum() == 2


# how answers are compared


def official(text):
    """Words of an answer as the evaluation script of SQuAD 2 has them."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", text).split()).split()


def official_f1(golds, answer):
    golds = [gold for gold in golds if official(gold)] or [""]

    def one(gold):
        truth, found = official(gold), official(answer)
        same = sum((Counter(truth) & Counter(found)).values())
        if not truth or not found:
            return float(truth == found)
        if not same:
            return 0.0
        precision, recall = same / len(found), same / len(truth)
        return 2 * precision * recall / (precision + recall)

    return max(map(one, golds)), max(float(official(gold) == official(answer)) for gold in golds)


SPELT = ["The", "the", "a", "an", "Rhine", "river", "U.S.", "1970,", "'of", "x-y", "É", ",", ".", "!", "ß"]
PHRASE = st.lists(st.sampled_from(SPELT), max_size=5).map(" ".join)


@given(st.lists(st.tuples(st.lists(PHRASE, max_size=3), PHRASE), min_size=1, max_size=4))
def test_scores_are_those_of_squad(rows):
    truth = [{"text": golds, "answer_start": [0] * len(golds)} for golds, _ in rows]
    answers = [answer for _, answer in rows]
    expected = np.array([official_f1(golds, answer) for golds, answer in rows])
    assert answer_f1_score(truth, answers) == pytest.approx(expected[:, 0].mean())
    assert answer_exact_match_score(truth, answers) == pytest.approx(expected[:, 1].mean())
    weights = np.arange(1.0, len(rows) + 1)
    weighted = answer_f1_score(truth, answers, sample_weight=weights)
    assert weighted == pytest.approx(np.average(expected[:, 0], weights=weights))


def test_scores_refuse_what_is_no_answer():
    assert answer_f1_score(["", "Lima"], ["", ""]) == 0.5
    assert answer_exact_match_score([{"text": "Lima", "start": 4}], ["lima."]) == 1
    with pytest.raises(ValueError, match=r"y_true\[1\] is None, which is missing"):
        answer_f1_score(["a", None], ["a", "b"])
    with pytest.raises(ValueError, match=r"y_pred\[0\] is 7, which is no answer"):
        answer_exact_match_score(["a"], [7])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        answer_f1_score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="sample_weight"):
        answer_f1_score(["a"], ["a"], sample_weight=[-1])
    with pytest.raises(ValueError, match="y_true must be a list or an array"):
        answer_f1_score("a", ["a"])


CELL = st.one_of(st.text(max_size=4), st.none(), st.integers(), st.floats(), st.booleans(), st.binary(max_size=2))
TARGET = st.one_of(
    CELL,
    st.lists(CELL, max_size=2),
    st.dictionaries(
        st.sampled_from(["text", "start", "answer_start", "x"]), st.one_of(CELL, st.lists(CELL, max_size=2))
    ),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.one_of(CELL, st.tuples(CELL, CELL)), TARGET), min_size=1, max_size=6), st.booleans())
def test_fuzzed_pairs_and_answers_are_fitted_or_refused_by_row(rows, are_left_out):
    pairs, answers = [*X, *(pair for pair, _ in rows)], [*Y, *(target for _, target in rows)]
    model = answerer(freeze_depth=1.0, max_epochs=1, on_bad_sample="nan" if are_left_out else "raise")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = model.fit(pairs, answers).predict(pairs)
    except ValueError as error:
        message = str(error)
    else:
        assert all(answer is None or answer in pair[1] for pair, answer in zip(pairs, found, strict=True))
        return
    assert re.search(r"X\[\d+\]|y\[\d+\]", message)
