"""Causal language models of a domain: what is learned, what is written, what is refused by row."""

import importlib.util
import os
import pathlib
import pickle
import subprocess
import sys
import warnings

import language_models
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

from skltransfer import ActivationStore, FineTunedLanguageModel, export_onnx, load, load_backbone
from skltransfer.backbones import causal_head
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError, WeightsError
from skltransfer.inputs import samples_from_prompts

X = ["1+1=", "2+1=", "1+3=", "2+3=", "4+1=", "4+2=", "2+2=", "3+5="] * 2
Y = ["2", "3", "4", "5", "5", "6", "4", "8"] * 2
SHORT = {"dtype": "float32", "runtime": "eager", "random_state": 0, "max_epochs": 2, "max_new_tokens": 4}
LEARNS = {"freeze_depth": 0.0, "adapter": None, "learning_rate": 1e-2, "max_epochs": 80}
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*texts were not written to their end")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return language_models.save_language_model(tmp_path_factory.mktemp("gpt2"), "gpt2", scale=3.0)


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    """A Llama whose tokenizer begins each text with a token of its own, as Llama's does."""
    return language_models.save_language_model(tmp_path_factory.mktemp("llama"), "llama", begins=True, scale=3.0)


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """A network that drops nothing in training, so that it learns in few steps."""
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    name = language_models.save_language_model(tmp_path_factory.mktemp("steady"), "gpt2", scale=3.0, **still)
    return FineTunedLanguageModel(name, **SHORT | LEARNS)


@pytest.fixture
def new(folder):
    return lambda **parameters: FineTunedLanguageModel(folder, **SHORT | parameters)


def quiet(method, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return method(*arguments)


# what is learned


def test_it_learns_what_follows_each_prompt_and_stops_there(steady):
    model = clone(steady).fit(X, Y)
    found = model.predict(X)
    assert found.dtype == object
    assert found.tolist() == Y
    assert model.perplexity(X, Y) < 1.5
    assert model.score(X, Y) == -model.perplexity(X, Y)
    assert model.has_continuations_
    assert model.n_counted_tokens_ == 2 * len(X)  # a digit and the end, each
    assert model.n_truncated_ == 0
    assert not is_classifier(model)
    assert not is_regressor(model)


def test_whole_texts_are_learned_without_an_end(steady):
    texts = ["abcabcabc", "bcabcabca", "cabcabcab"] * 3
    model = clone(steady).fit(texts)
    assert not model.has_continuations_
    assert model.n_counted_tokens_ == 9 * 8  # all but the first of each
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody expects an end
        assert model.predict(["abcab", "bca"]).tolist() == ["cabc", "bcab"]
    assert model.perplexity(texts) < 1.3
    assert model.score_samples(["a"]).tolist() == [0.0]


def test_scores_are_the_librarys(folder, new):
    model = new(freeze_depth=0.6, adapter=None, max_epochs=1, learning_rate=1e-12).fit(X, Y)
    library = transformers.AutoModelForCausalLM.from_pretrained(folder.removeprefix("hf:"), dtype="float32").eval()
    letters = language_models.LETTERS.index
    expected, n_tokens = [], 0
    for prompt, text in zip(X, Y, strict=True):
        ids = torch.tensor([[*map(letters, prompt + text), 1]])
        labels = ids.clone()
        labels[0, : len(prompt)] = -100
        with torch.no_grad():
            expected.append(-float(library(input_ids=ids, labels=labels).loss) * (len(text) + 1))
        n_tokens += len(text) + 1
    np.testing.assert_allclose(model.score_samples(X, Y), expected, rtol=1e-4)
    assert model.perplexity(X, Y) == pytest.approx(np.exp(-sum(expected) / n_tokens), rel=1e-4)
    weights = np.arange(len(X))
    assert model.perplexity(X, Y, weights) == pytest.approx(np.exp(-weights @ expected / (2 * weights.sum())), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"freeze_depth": 1.0},
        {"freeze_depth": 0.0},
        {"freeze_depth": 0.5, "adapter": None},
        {"freeze_depth": 0.0, "adapter": None},
        {"freeze_depth": 1.0, "adapter": None, "early_stopping": True},
        {"freeze_depth": 0.3, "adapter": None, "unfreeze_schedule": "gradual", "max_epochs": 3},
    ],
    ids=str,
)
def test_order_store_pickles_and_files_change_nothing(new, options, tmp_path):
    model = new(**options).fit(X, Y)
    expected, texts = model.score_samples(X, Y), quiet(model.predict, X).tolist()
    order = np.random.default_rng(1).permutation(len(X))
    mixed = clone(model).fit([X[i] for i in order], [Y[i] for i in order])
    np.testing.assert_array_equal(mixed.score_samples(X, Y), expected)
    np.testing.assert_array_equal(clone(model).set_params(cache=None).fit(X, Y).score_samples(X, Y), expected)
    content = pickle.dumps(model)
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.score_samples(X, Y), expected)
    assert quiet(again.predict, X).tolist() == texts
    model.save(tmp_path / "model.skl")
    restored = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(restored.score_samples(X, Y), expected)
    assert quiet(restored.predict, X).tolist() == texts
    assert restored.has_continuations_


def test_weights_are_repeated_samples(new):
    weights = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weights)
    for options in ({}, {"freeze_depth": 0.5, "adapter": None}):
        weighted = new(**options).fit(X, Y, sample_weight=weights)
        repeated = new(**options).fit([X[i] for i in rows], [Y[i] for i in rows])
        np.testing.assert_allclose(weighted.score_samples(X, Y), repeated.score_samples(X, Y), rtol=1e-5)


def test_a_sample_does_not_depend_on_its_neighbours(new):
    prompts = ["1+1=", "a", "12345+12345=", "", "(1+2)*3="]
    model = new(freeze_depth=0.5, adapter=None).fit(X, Y)
    for options in ({}, {"num_beams": 3}, {"do_sample": True, "top_p": 0.9, "temperature": 1.5}):
        model.set_params(**options)
        whole = quiet(model.predict, prompts).tolist()
        assert [quiet(model.predict, [prompt])[0] for prompt in prompts] == whole
        assert quiet(model.predict, prompts[::-1])[::-1].tolist() == whole
        assert len(set(whole)) > 1
        model.set_params(num_beams=1, do_sample=False)
    scores = model.score_samples(X, Y)
    np.testing.assert_array_equal([model.score_samples([x], [y])[0] for x, y in zip(X, Y, strict=True)], scores)


def test_texts_are_drawn_as_random_state_says(new):
    model, prompts = new(freeze_depth=1.0, do_sample=True, max_new_tokens=6).fit(X, Y), ["1+1=", "a", "1+1="]
    drawn = [quiet(model.set_params(random_state=seed).predict, prompts).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] == drawn[0][2]  # equal prompts
    certain = quiet(model.set_params(temperature=1e-4).predict, prompts).tolist()
    assert certain == quiet(model.set_params(do_sample=False).predict, prompts).tolist()
    state = torch.get_rng_state()
    quiet(model.set_params(do_sample=True).predict, prompts[:1])
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="do_sample=True draws one text, so that num_beams=2"):
        model.set_params(num_beams=2).predict(X)


def test_adapters_are_trained_at_every_depth(new):
    """With all stages frozen there is one beside the output head; else the head stays as it was."""
    sizes = []
    for depth in (1.0, 0.75, 0.5, 0.0):
        model = new(freeze_depth=depth, learning_rate=1e-2).fit(X, Y)
        assert model.history_["loss"][-1] < model.history_["loss"][0]
        sizes.append(model.n_trainable_params_)
        names = set(model._network_.changed)
        assert all("lora_" in name for name in names)
        assert any(name.startswith("readout.") for name in names) == (depth == 1.0)
    assert sizes[0] == 8 * (32 + 48)
    assert sizes == sorted(sizes)
    assert len(pickle.dumps(model)) < 150_000


def test_a_begin_token_comes_once(beginning):
    """It begins prompts, is none of a continuation, and is not counted."""
    texts = causal_head(load_backbone(beginning)).texts
    samples = samples_from_prompts(["1+1=", ""], texts)
    samples.continue_with(["2", "a"])
    letters = language_models.LETTERS.index
    assert samples.ids(0) == (*map(letters, "(1+1=2"), 1)
    assert samples.ids(1) == (*map(letters, "(a"), 1)
    assert samples.counted(1)["counted"].tolist() == [letters("a"), 1]
    assert texts.prompt("1+1=", 64).ids == tuple(map(letters, "(1+1="))
    model = FineTunedLanguageModel(beginning, **SHORT | LEARNS).fit(X, Y)
    assert model.predict(X).tolist() == Y


def test_an_empty_prompt_is_a_token_to_begin_with(new):
    model = new(freeze_depth=0.5).fit([*X, ""], [*Y, "7"])
    assert np.isfinite(model.score_samples([""], ["7"])).all()
    assert isinstance(quiet(model.predict, [""])[0], str)


# what is too long


def test_what_is_too_long_is_cut_where_the_documentation_says(folder):
    texts = causal_head(load_backbone(folder, max_length=8)).texts
    letters = [*map(language_models.LETTERS.index, "123456789")]
    for prompt, continuation, expected, n_prompt in (
        ("123", "4567", [*letters[:7], 1], 3),  # as long as can be
        ("12345", "678", [*letters[1:8], 1], 4),  # the prompt loses its beginning
        ("1234", "123456", [letters[3], *letters[:6], 1], 1),  # but for one token
        ("1234", "12345678", [letters[3], *letters[:7]], 1),  # and then the continuation its end
    ):
        found = texts.joined(prompt, continuation)
        assert list(found.ids) == expected
        assert found.n_prompt == n_prompt
        assert found.is_cut == (prompt != "123")
    assert list(texts.whole("123456789").ids) == letters[:8]
    assert texts.prompt("123456789", 3).ids == tuple(letters[6:])


def test_longer_samples_are_counted_and_told(new):
    with pytest.warns(UserWarning, match=r"1 of 17 prompts and their continuations are longer than max_length=12"):
        model = new(max_length=12).fit([*X, "1+2+3+4+5+6="], [*Y, "21"])
    assert model.n_truncated_ == 1
    with pytest.warns(UserWarning, match=r"1 of 2 prompts are longer than 12 tokens; their beginning was not read"):
        model.predict(["1+1=", "1+2+3+4+5+6+7="])
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than max_length=12 tokens"):
        model.score_samples(["1+1=", "1+2+3+4+5+6+7="])


def test_texts_without_an_end_are_told(new):
    model = new(freeze_depth=1.0, max_new_tokens=1).fit(X, Y)
    with pytest.warns(UserWarning, match=r"of 16 texts were not written to their end within max_new_tokens=1"):
        model.predict(X)


def test_new_tokens_need_positions(new):
    model = new(freeze_depth=1.0).fit(X, Y)
    with pytest.raises(ValueError, match=r"max_new_tokens=64 leaves no position for a prompt: .* has 64"):
        model.set_params(max_new_tokens=64).predict(X)
    with pytest.warns(UserWarning, match="prompts are longer than 4 tokens"):
        assert len(model.set_params(max_new_tokens=60).predict(["1+1+1="])) == 1


# scikit-learn


def test_the_target_is_optional(new):
    assert not new().__sklearn_tags__().target_tags.required
    texts = [f"{x}{y}" for x, y in zip(X, Y, strict=True)]
    scores = cross_val_score(new(freeze_depth=1.0), texts, cv=2)
    assert (scores <= -1).all()
    assert (cross_val_score(new(freeze_depth=1.0), X, Y, cv=2) <= -1).all()


class Upper(TransformerMixin, BaseEstimator):
    """Removes spaces."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [text.replace(" ", "") for text in X]

    def __sklearn_is_fitted__(self):
        return True


def test_it_stands_at_the_end_of_a_pipeline(new):
    spaced = [text.replace("+", " + ") for text in X]
    pipeline = make_pipeline(Upper(), new()).fit(spaced, Y)
    plain = new().fit(X, Y)
    assert quiet(pipeline.predict, spaced).tolist() == quiet(plain.predict, X).tolist()
    assert pipeline.score(spaced, Y) == plain.score(X, Y)
    assert make_pipeline(Upper(), new()).fit(spaced).score(spaced) <= -1


def test_a_search_with_the_default_adapter_passes_each_text_once(folder):
    store, grid = ActivationStore(), {"freeze_depth": [1.0, 0.75, 0.5]}
    model = FineTunedLanguageModel(folder, **SHORT | {"max_epochs": 1}, cache=store)
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y)
    assert store.info()["misses"] == len(set(zip(X, Y, strict=True)))
    assert search.best_score_ <= -1
    assert search.best_estimator_.adapter == "lora"


@pytest.mark.slow
def test_scikit_learn_splits_searches_and_predicts(new):
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    search = GridSearchCV(new(), {"freeze_depth": [1.0, 0.5]}, cv=2, n_jobs=2).fit(train, y_train)
    assert search.score(test, y_test) <= -1
    assert len(quiet(lambda: cross_val_predict(new(), X, Y, cv=2))) == len(X)


@pytest.mark.slow
def test_a_file_is_read_in_another_process(new, tmp_path):
    model = new().fit(X, Y)
    model.save(tmp_path / "model.skl")
    expected = quiet(model.predict, X[:3]).tolist()
    code = (
        "import sys, warnings; warnings.simplefilter('ignore'); from skltransfer import load; "
        f"print(load(sys.argv[1]).predict({X[:3]!r}).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.skl")], capture_output=True, text=True, env=os.environ
    )
    assert out.stdout.strip() == str(expected), out.stderr


def test_early_stopping_validates_on_named_texts(new):
    model = new(freeze_depth=0.5, early_stopping=True).fit(X, Y, X_val=["3+3=", "5+1="], y_val=["6", "6"])
    assert np.isfinite(model.history_["validation_loss"]).all()
    texts = ["abcabc", "bcabca"] * 4
    assert "validation_loss" in new(early_stopping=True).fit(texts, X_val=["cabcab"]).history_
    assert "validation_loss" in new(early_stopping=True).fit(X, Y, groups=X).history_
    with pytest.raises(ValueError, match="y and y_val belong together, but y is None and y_val is not"):
        new(early_stopping=True).fit(X, X_val=["a="], y_val=["b"])
    with pytest.raises(ValueError, match="y and y_val belong together, but y_val is None and y is not"):
        new(early_stopping=True).fit(X, Y, X_val=["a="])
    with pytest.raises(ValueError, match=r"y_val\[0\] is 3|y\[0\] is 3"):
        new(early_stopping=True).fit(X, Y, X_val=["a="], y_val=[3])


def test_an_interrupted_fit_goes_on(new, tmp_path):
    class Interrupted(Exception):  # noqa: N818
        pass

    class Stops:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context, **told): ...

        def on_fit_task_end(self, estimator, context, **told):
            if context.task_name == "epoch" and context.task_id == 1:
                raise Interrupted

    model = new(max_epochs=4, checkpoint=tmp_path)
    expected = new(max_epochs=4).fit(X, Y).score_samples(X, Y)
    if hasattr(model, "set_callbacks"):
        with pytest.raises(Interrupted):
            clone(model).set_callbacks(Stops()).fit(X, Y)
    np.testing.assert_array_equal(model.fit(X, Y).score_samples(X, Y), expected)


def test_containers_mean_the_same(new):
    expected = new().fit(X, Y).score_samples(X, Y)
    for texts, y in (
        (np.array(X), np.array(Y)),
        (np.array(X, dtype=object), tuple(Y)),
        (pd.Series(X, index=range(3, 3 + len(X))), pd.Series(Y)),
        (pd.DataFrame({"prompt": X}), pd.DataFrame({"call": Y})),
    ):
        np.testing.assert_array_equal(new().fit(texts, y).score_samples(texts, y), expected)


def test_copies_are_reported(new):
    model = new().fit(["a=", "a=", "a=", "b="], ["1", "2", "1", "1"])
    assert model.duplicates_ == [[0, 2]]


# what is refused

ROWS = [
    ("a number for a text", lambda x, y: ([*x[:3], 7, *x[4:]], y), r"X\[3\]"),
    ("a missing text", lambda x, y: ([*x[:3], None, *x[4:]], y), r"X\[3\] \(None\): missing value"),
    ("bytes", lambda x, y: ([*x[:3], b"1+1", *x[4:]], y), r"X\[3\] .*bytes, not text"),
    ("half a character", lambda x, y: ([*x[:3], "a\ud800", *x[4:]], y), r"X\[3\] .*no valid Unicode"),
    ("pairs", lambda x, y: (list(zip(x, y, strict=True)), y), "holds pairs of them"),
    ("two columns", lambda x, y: (pd.DataFrame({"a": x, "b": x}), y), r"Expected one column of"),
    ("numbers", lambda x, y: (np.ones((16, 2)), y), "table of numbers|not text|Expected texts"),
    ("no texts", lambda x, y: ([], []), "minimum of 1 is required"),
    ("one text", lambda x, y: ("1+1=", y), "Expected a collection of samples, got one"),
    ("a number for a continuation", lambda x, y: (x, [*y[:3], 7, *y[4:]]), r"y\[3\] is 7, which is no string"),
    ("a missing continuation", lambda x, y: (x, [*y[:3], None, *y[4:]]), r"y\[3\] is None, which is missing"),
    ("NaN", lambda x, y: (x, [*y[:3], float("nan"), *y[4:]]), r"y\[3\] is nan, which is missing"),
    ("half a character in y", lambda x, y: (x, [*y[:3], "\ud800", *y[4:]]), r"y\[3\] is no valid Unicode"),
    ("y too short", lambda x, y: (x, y[:-1]), r"inconsistent numbers of samples: \[16, 15\]"),
    ("y is a string", lambda x, y: (x, "2" * 16), "y must be a list or an array"),
    ("y is a table", lambda x, y: (x, pd.DataFrame({"a": y, "b": y})), "y must have one column, got 2"),
    ("nothing to predict", lambda x, y: (["a", "b"], None), "X holds no token to predict"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_is_told_with_its_row(new, change, message):
    texts, y = change(X, Y)
    with pytest.raises(ValueError, match=message):
        new().fit(texts, y)


def test_rows_that_cannot_be_read_are_left_out_on_request(new):
    with pytest.warns(UserWarning, match=r"Rows \[16, 17\] of X could not be read"):
        model = new(on_bad_sample="nan").fit([*X, None, b"a"], [*Y, "1", "2"])
    assert model.bad_samples_ == [16, 17]
    np.testing.assert_array_equal(model.score_samples(X, Y), new().fit(X, Y).score_samples(X, Y))
    assert np.isnan(model.score_samples([None, "1+1="], ["1", "2"])).tolist() == [True, False]
    found = quiet(model.predict, [None, "1+1="])
    assert found[0] is None
    assert isinstance(found[1], str)
    with pytest.raises(BadSampleError, match=r"X\[0\]"):
        model.perplexity([None, "1+1="], ["1", "2"])
    with pytest.raises(BadSampleError, match=r"X\[1\]"):
        model.set_params(on_bad_sample="raise").predict(["1", None])
    with pytest.raises(BadSampleError) as caught:
        model.predict(["1", None, 3])
    assert [caught.value.row, *(other.row for other in caught.value.others)] == [1, 2]


def test_scores_name_what_is_wrong(new):
    model = new(freeze_depth=1.0).fit(X, Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.score(X, Y[:-1])
    with pytest.raises(ValueError, match=r"y\[1\] is 3, which is no string"):
        model.score_samples(["1", "2"], ["2", 3])
    with pytest.raises(ValueError, match="X holds no token to predict"):
        model.perplexity(["a"])
    with pytest.raises(NotFittedError):
        new().predict(X)


def test_networks_that_cannot_continue_texts_are_refused(folder, tmp_path):
    with pytest.raises(UnsupportedBackboneError, match="reads texts, and 'toy:images' reads samples of kind 'image'"):
        FineTunedLanguageModel("toy:images").fit(X, Y)
    with pytest.raises(UnsupportedBackboneError, match="'toy:text' cannot continue texts"):
        FineTunedLanguageModel("toy:text").fit(X, Y)
    with pytest.raises(UnsupportedBackboneError, match="long_samples='truncate', and split long texts"):
        FineTunedLanguageModel(load_backbone(folder, long_samples="windows")).fit(X, Y)
    language_models.save_language_model(tmp_path, "gpt2", eos_token_id=None)
    language_models.save_letters(tmp_path, ends=False)
    endless = FineTunedLanguageModel(f"hf:{tmp_path}", **SHORT)
    with pytest.raises(UnsupportedBackboneError, match="has no token that ends a text"):
        endless.fit(X, Y)
    assert len(endless.fit(X).predict(["1+1="])[0]) == 4


@pytest.mark.parametrize(
    "change", [{"mean_tokens": -1.0}, {"mean_tokens": "much"}, {"head_hash": 3}, {"more": 1}], ids=str
)
def test_a_file_whose_task_cannot_be_is_refused(new, tmp_path, change):
    model = new(freeze_depth=1.0).fit(X, Y)
    vars(model._task_).update(change)
    model.save(tmp_path / "model.skl")
    with pytest.raises(WeightsError):
        load(tmp_path / "model.skl")


def test_an_export_is_refused_by_name(new, tmp_path):
    with pytest.raises(TypeError, match="FineTunedLanguageModel"):
        export_onnx(new(freeze_depth=1.0).fit(X, Y), tmp_path / "model.onnx")


@pytest.mark.slow
def test_a_tiny_network_learns_a_small_language_and_then_calls_of_another_form(tmp_path):
    """The benchmark in small: exact calls on held-out commands, then a search with adapters on the saved folder."""
    path = pathlib.Path(__file__).parent.parent / "benchmarks" / "quality_language_model.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    empty, saved, store = str(tmp_path / "empty"), str(tmp_path / "saved"), ActivationStore()
    bench.save_empty_network(empty)
    prompts, calls, held_out, truth = bench.parts(False, 600, 0)
    model = bench.from_scratch(empty, 0, max_epochs=25).fit(prompts, calls)
    assert bench.exact(model, held_out[:100], truth[:100]) >= 0.9
    assert model.perplexity(held_out, truth) < 1.1 < 10 < bench.unigram_perplexity(empty, calls, truth)
    bench.save_whole(model, saved)
    prompts, calls, held_out, truth = bench.parts(True, 30, 0)
    tuned = bench.new(saved, cache=store, learning_rate=1e-2, max_epochs=15, batch_size=8, random_state=0)
    search = GridSearchCV(tuned, {"freeze_depth": [1.0, 0.2]}, cv=2, error_score="raise").fit(prompts, calls)
    assert store.info()["misses"] == 30
    assert (
        search.best_estimator_.perplexity(held_out, truth)
        < 2
        < 10
        < -clone(tuned)
        .set_params(learning_rate=1e-12, max_epochs=1, freeze_depth=1.0)
        .fit(prompts, calls)
        .score(held_out, truth)
    )


def test_tied_vectors_stay_as_they_are_until_the_first_stage_is_trained_with_them(new, folder):
    how = {"adapter": None, "max_epochs": 3, "learning_rate": 0.1, "lr_schedule": "constant", "runtime": "eager"}
    gradual = new(freeze_depth=0.0, unfreeze_schedule="gradual", **how).fit(X, Y)  # ends before the first stage's turn
    assert [name for name in gradual._network_.changed if "wte" in name or "lm_head" in name] == []
    whole = new(freeze_depth=0.0, unfreeze_schedule="gradual", **how | {"max_epochs": 4}).fit(X, Y)
    assert whole.history_["loss"][:3] == gradual.history_["loss"]
    backbone = load_backbone(folder)
    network = whole._network_.for_inference(backbone, whole._task_.readout, torch.device("cpu"))
    read, written = network.suffix.model.get_input_embeddings(), network.readout.head.model.get_output_embeddings()
    assert torch.equal(read.weight, written.weight)
    assert not torch.equal(read.weight, backbone.library_network.get_input_embeddings().weight)
