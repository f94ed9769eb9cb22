"""Text to text: what is learned and written, what a fit holds, what is refused by row."""

import copy
import pathlib
import pickle
import random
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import sacrebleu
import torch
import transformers
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from writers import FAMILIES, save_mbart, save_writer

from skltransfer import (
    ActivationStore,
    FineTunedTextToText,
    TrainingHistoryDisplay,
    answer_exact_match_score,
    answer_f1_score,
    chrf_score,
    export_onnx,
    load,
    load_backbone,
    transfer_report,
    word_error_rate,
)
from skltransfer._estimators import serialization
from skltransfer.backbones import adapted_backbone, decoder_model, fingerprint
from skltransfer.engine.training.checkpoint import Checkpoint
from skltransfer.exceptions import BadSampleError, MissingDependencyError, UnsupportedBackboneError, WeightsError

X = ["one dog", "two dogs", "one cat", "two cats", "a red house", "no"] * 2
Y = ["ein Hund", "zwei Hunde", "eine Katze", "zwei Katzen", "ein rotes Haus", ""] * 2
TOY = "toy:text-to-text"
HOW = {"dtype": "float32", "runtime": "eager", "random_state": 0, "max_epochs": 2, "learning_rate": 1e-2}
HOW |= {"batch_size": 4, "max_new_tokens": 12}


def writer(**parameters):
    return FineTunedTextToText(TOY, **HOW | parameters)


@pytest.fixture(autouse=True)
def _few_epochs_end_no_text():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*were not written to their end")
        yield


def weights_of(model):
    return model._network_.changed


def assert_alike(model, other, atol=0.0):
    ours, theirs = weights_of(model), weights_of(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=atol, err_msg=name)
    assert model.predict(X).tolist() == other.predict(X).tolist()


# what comes out


@pytest.fixture(scope="module")
def learned():
    return writer(max_epochs=120, freeze_depth=0.5, batch_size=32, max_new_tokens=None).fit(X, Y)


def test_texts_are_learned_and_written(learned):
    found = learned.predict(X)
    assert found.dtype == object
    assert found.shape == (len(X),)
    assert all(type(text) is str for text in found)
    assert learned.score(X, Y) > 0.9
    assert learned.history_["loss"][-1] < learned.history_["loss"][0] / 10
    assert learned.n_target_tokens_ == len("ein rotes Haus") + 1
    assert (learned.n_truncated_, learned.n_truncated_targets_) == (0, 0)
    assert learned.__sklearn_tags__().target_tags.required


def test_a_text_does_not_depend_on_its_neighbours(learned):
    whole = learned.predict(X).tolist()
    assert [learned.predict([text])[0] for text in X] == whole
    assert learned.predict(X[::-1]).tolist() == whole[::-1]


def test_threads_may_share_it(learned):
    expected, found = learned.predict(X).tolist(), []
    threads = [threading.Thread(target=lambda: found.append(learned.predict(X).tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_global_generators_stay_unchanged():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    writer(max_epochs=1).fit(X, Y).predict(X[:2])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_the_search_follows_the_parameters_of_the_prediction():
    model = writer(max_new_tokens=5).fit(X, Y)
    short = [len(text) for text in model.predict(X)]
    assert max(short) <= 5
    assert max(len(text) for text in model.set_params(max_new_tokens=9).predict(X)) > max(short)
    model.set_params(generation_options={"suppress_tokens": [ord("e") + 3]})
    assert not any("e" in text for text in model.predict(X))
    with pytest.raises(ValueError, match="Did you mean 'length_penalty'"):
        model.set_params(generation_options={"lenght_penalty": 1.0}).predict(X)


@pytest.mark.slow
def test_beams_find_more_probable_texts():
    model = writer(max_epochs=8).fit(X, Y)
    greedy, beams = model.predict(X), model.set_params(num_beams=4).predict(X)
    assert greedy.tolist() != beams.tolist()


def test_a_prompt_is_put_before_each_text():
    model = writer(prompt="say: ").fit(X, Y)
    plain = writer().fit([f"say: {text}" for text in X], Y)
    assert model.predict(X).tolist() == plain.predict([f"say: {text}" for text in X]).tolist()
    for name, values in weights_of(model).items():
        np.testing.assert_array_equal(values, weights_of(plain)[name])


def test_a_prompt_comes_before_pairs_too(tmp_path):
    folder = save_writer(tmp_path)
    pairs, how = [("a", "b"), ("c", "d")] * 2, {**HOW, "freeze_depth": 1.0}
    model = FineTunedTextToText(folder, prompt="q: ", **how).fit(pairs, ["e", "f"] * 2)
    plain = FineTunedTextToText(folder, **how).fit([(f"q: {a}", b) for a, b in pairs], ["e", "f"] * 2)
    np.testing.assert_array_equal(model.history_["loss"], plain.history_["loss"])


def test_what_is_too_long_is_counted_on_both_sides():
    long, how = ["a" * 40, *X[1:]], {"max_length": 20, "max_target_length": 10, "max_epochs": 1}
    with pytest.warns(UserWarning, match=r"targets are longer than 10 tokens.*first: y\[1\]"):
        model = writer(**how).fit(long, Y)
    assert model.n_truncated_ == 1
    assert model.n_truncated_targets_ == sum(len(text) + 1 > 10 for text in Y)
    assert model.n_target_tokens_ == 10
    with pytest.warns(UserWarning, match="1 of 2 .*longer"):
        model.predict(["b" * 40, "c"])
    weights = [float(len(text) + 1 <= 10) for text in Y]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*targets are longer")
        assert writer(**how).fit(X, Y, weights).n_truncated_targets_ == 0


def test_texts_that_do_not_end_are_told():
    with pytest.warns(UserWarning, match="12 of 12 texts were not written to their end within 3 tokens. Raise max_new"):
        writer(max_new_tokens=3).fit(X, ["abcdefgh"] * 12).predict(X)


# scikit-learn's manners


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_depth": 0.5},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                {"freeze_depth": 1.0},
                {"freeze_depth": 0.0, "label_smoothing": 0.1},
                {"freeze_depth": 0.0, "unfreeze_schedule": "gradual", "max_epochs": 3},
                {"freeze_depth": 0.5, "adapter": "lora"},
                {"freeze_depth": 1.0, "adapter": "lora"},
                {"freeze_depth": 0.0, "adapter": "lora"},
                {"freeze_depth": 0.5, "early_stopping": True, "validation_fraction": 0.3},
            )
        ),
    ],
    ids=str,
)
def test_order_repetition_store_pickles_and_files_change_nothing(options, tmp_path):
    model = writer(**options).fit(X, Y)
    order = np.random.default_rng(1).permutation(len(X))
    assert_alike(clone(model).fit([X[i] for i in order], [Y[i] for i in order]), model)
    assert_alike(clone(model).set_params(cache=None).fit(X, Y), model)
    assert_alike(pickle.loads(pickle.dumps(model)), model)
    model.save(tmp_path / "model.skl")
    restored = load(tmp_path / "model.skl")
    assert_alike(restored, model)
    assert restored.score(X, Y) == model.score(X, Y)
    assert (restored.n_target_tokens_, restored.n_truncated_targets_) == (model.n_target_tokens_, 0)


@pytest.mark.slow
def test_weights_are_repeated_texts():
    weights = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weights)
    weighted = writer().fit(X, Y, sample_weight=weights)
    assert_alike(weighted, writer().fit([X[i] for i in rows], [Y[i] for i in rows]), atol=1e-5)


@pytest.mark.slow
def test_a_second_process_reads_the_file(tmp_path):
    model = writer().fit(X, Y)
    model.save(tmp_path / "model.skl")
    code = f"import skltransfer; print(skltransfer.load({str(tmp_path / 'model.skl')!r}).predict({X!r}).tolist())"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == repr(model.predict(X).tolist())


@pytest.mark.slow
def test_containers_mean_the_same():
    expected = writer().fit(X, Y)
    for texts, y in (
        (np.array(X), np.array(Y)),
        (np.array(X, dtype=object), tuple(Y)),
        (pd.Series(X), pd.Series(Y, index=range(7, 7 + len(Y)))),
        (pd.DataFrame({"x": X}), pd.DataFrame({"y": Y})),
        (pd.Series(X, dtype="string"), pd.Series(Y, dtype="string")),
    ):
        assert_alike(writer().fit(texts, y), expected)


@pytest.mark.slow
def test_scikit_learn_splits_searches_and_scores():
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    search = GridSearchCV(writer(), {"freeze_depth": [1.0, 0.5], "num_beams": [1, 2]}, cv=2, n_jobs=2)
    assert 0 <= search.fit(train, y_train).score(test, y_test) <= 1
    assert len(cross_val_score(writer(), X, Y, cv=3, scoring=make_scorer(chrf_score))) == 3
    assert all(isinstance(text, str) for text in cross_val_predict(writer(), X, Y, cv=3))
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    model = make_pipeline(lower, writer()).fit([text.upper() for text in X], Y)
    assert model.predict(X).tolist() == writer().fit(X, Y).predict(X).tolist()


@pytest.mark.slow
def test_a_report_compares_with_random_weights():
    report = transfer_report(writer(max_epochs=1), X, Y, cv=2, random_state=0)
    assert [row["name"] for row in report.table_] == ["transfer", "scratch", "random"]
    assert report.scoring_name == "score"


def test_a_search_passes_each_frozen_stage_once_for_each_text():
    store = ActivationStore()
    model = writer(cache=store, max_epochs=1)
    GridSearchCV(model, {"freeze_depth": [1.0, 0.67, 0.34]}, cv=3, error_score="raise").fit(X, Y)
    assert store.info()["misses"] == len(set(X))


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "schedule"), [(0.0, None), (0.34, "gradual")])
def test_a_fit_that_goes_on_is_the_uninterrupted_one(tmp_path, monkeypatch, depth, schedule):
    how = {"max_epochs": 4, "freeze_depth": depth, "unfreeze_schedule": schedule}
    whole = writer(**how).fit(X, Y)
    written, original = [], Checkpoint.write

    def write(self, state):
        original(self, state)
        written.append(self.key)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", write)
        with pytest.raises(KeyboardInterrupt):
            writer(checkpoint=tmp_path, **how).fit(X, Y)
    assert_alike(writer(checkpoint=tmp_path, **how).fit(X, Y), whole)


@pytest.mark.slow
def test_validation_samples_stop_the_training():
    model = writer(early_stopping=True, n_iter_no_change=1, max_epochs=20, learning_rate=0.3)
    model.fit(X, Y, X_val=["three dogs", "one mouse"], y_val=["drei Hunde", "eine Maus" * 9])
    assert len(model.history_["validation_loss"]) == model.n_iter_ < 20
    assert model.n_target_tokens_ == len("ein rotes Haus") + 1
    TrainingHistoryDisplay.from_estimator(model)
    with pytest.raises(ValueError, match=r"y\[1\] is None") as refusal:
        clone(model).fit(X, Y, X_val=["a", "b"], y_val=["a", None])
    assert "This is about X_val and y_val." in refusal.value.__notes__


def test_groups_are_held_out_as_a_whole():
    model = writer(early_stopping=True, validation_fraction=0.4, max_epochs=1)
    assert model.fit(X, Y, groups=np.arange(len(X)) % 6).history_["validation_loss"]


def test_copies_are_reported():
    assert writer(max_epochs=1).fit(X, Y).duplicates_ == [[i, i + 6] for i in range(6)]


# what a fit holds


@pytest.mark.slow
def test_a_frozen_network_is_not_in_the_pickle(tmp_path):
    folder = save_writer(tmp_path)
    backbone = load_backbone(folder)
    n_decoder = 0
    for adapter, depth in ((None, 1.0), ("lora", 1.0), ("lora", 0.0), (None, 0.0)):
        how = {**HOW, "adapter": adapter, "freeze_depth": depth, "max_epochs": 1}
        model = FineTunedTextToText(folder, **how).fit(["a", "b"] * 2, ["c", "d"] * 2)
        size = len(pickle.dumps(model))
        names = weights_of(model)
        assert size < 4 * model.n_trainable_params_ + 16_000 + 100 * len(names)
        assert sum(values.size for values in names.values()) == model.n_trainable_params_
        if adapter:
            assert all(".lora_" in name for name in names)
            assert not any("lm_head" in name for name in names)
        if depth == 1.0:
            assert all(name.startswith("readout.") for name in names)
            assert not any("shared" in name or "embed_tokens" in name for name in names)
        n_decoder = n_decoder or model.n_trainable_params_
    whole = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert model.n_trainable_params_ == sum(p.numel() for p in whole.parameters()) > n_decoder
    assert backbone.library_state().keys()


def test_the_shared_backbone_and_decoder_are_left_as_they_were(tmp_path):
    folder = save_writer(tmp_path, "bart")
    backbone = load_backbone(folder)
    decoder = decoder_model(backbone, "text to text")
    before = fingerprint(backbone.library_state()), decoder.fingerprint
    FineTunedTextToText(folder, freeze_depth=0.0, **HOW).fit(["a", "b"] * 2, ["c", "d"] * 2)
    assert (fingerprint(backbone.library_state()), fingerprint(decoder.state_dict())) == before
    assert not any(p.requires_grad for p in decoder.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_learns_from_its_folder(family, tmp_path):
    folder = save_writer(tmp_path, family)
    how = HOW | {"max_epochs": 1}
    model = FineTunedTextToText(folder, freeze_depth=0.0, **how).fit(["a", "b"] * 2, ["c", "d"] * 2)
    assert len(model.predict(["a", "e"])) == 2
    assert np.isfinite(model.history_["loss"]).all()


def test_one_gradient_step_is_the_librarys(tmp_path):
    """The whole path: one step of SGD-like size, from the same weights, in the library's own training."""
    folder = save_writer(tmp_path, "t5", dropout_rate=0.0)
    texts, targets = ["abc", "d e"], ["ef", "g"]
    how = HOW | {"max_epochs": 1, "batch_size": 2, "lr_schedule": "constant", "weight_decay": 0.0}
    model = FineTunedTextToText(folder, freeze_depth=0.0, **how).fit(texts, targets)
    library = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(texts, padding=True, return_tensors="pt")
    labels = tokenizer(text_target=targets, padding=True, return_tensors="pt")["input_ids"]
    loss = library(**ids, labels=labels.masked_fill(labels == 0, -100)).loss
    assert model.history_["loss"][0] == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()
    torch.optim.AdamW(library.parameters(), lr=HOW["learning_rate"], weight_decay=0.0).step()
    expected = dict(library.named_parameters())
    values = weights_of(model)["readout.decoder.model.decoder.block.0.layer.0.SelfAttention.q.weight"]
    found = expected["decoder.block.0.layer.0.SelfAttention.q.weight"].detach().numpy()
    assert np.mean(np.abs(values - found) < 1e-5) > 0.99  # Adam's first step has the sign of a gradient near zero


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"dtype": "bfloat16"}, {"dtype": "auto", "runtime": "auto"}], ids=str)
def test_other_dtypes_and_runtimes_train_and_write(how):
    model = writer(**how, freeze_depth=0.5, max_epochs=3).fit(X, Y)
    assert np.isfinite(model.history_["loss"]).all()
    assert all(values.dtype == np.float32 for values in weights_of(model).values())
    assert len(model.predict(X)) == len(X)


def test_an_adapted_encoder_may_be_fine_tuned(tmp_path):
    backbone = load_backbone(save_writer(tmp_path))
    changed = {"shared.weight": backbone.library_state()["shared.weight"] + 0.1}
    adapted = adapted_backbone(backbone, changed)
    model = FineTunedTextToText(adapted, freeze_depth=1.0, **HOW).fit(["a", "b"] * 2, ["c", "d"] * 2)
    model.save(tmp_path / "model.skl")
    assert load(tmp_path / "model.skl").predict(["a"]).tolist() == model.predict(["a"]).tolist()


def test_random_weights_are_a_baseline(tmp_path):
    folder = save_writer(tmp_path)
    model = FineTunedTextToText(folder, weights="random", freeze_depth=0.0, **HOW).fit(["a", "b"] * 2, ["c", "d"] * 2)
    assert pickle.loads(pickle.dumps(model)).predict(["a"]).tolist() == model.predict(["a"]).tolist()


def test_a_decoder_that_changed_on_disk_is_told(tmp_path):
    folder = save_writer(tmp_path)
    model = FineTunedTextToText(folder, freeze_depth=1.0, **HOW).fit(["a", "b"] * 2, ["c", "d"] * 2)
    content = pickle.dumps(model)
    whole = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    whole.decoder.final_layer_norm.weight.data += 0.5  # the encoder stays
    whole.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="The decoder of .* has other weights than in the fit"):
        pickle.loads(content).predict(["a"])


# what is refused

ROWS = [
    ("None", lambda x, y: (x, [*y[:3], None, *y[4:]]), r"y\[3\] is None, which is missing"),
    ("NaN", lambda x, y: (x, [*y[:3], float("nan"), *y[4:]]), r"y\[3\] is nan, which is missing"),
    ("pandas.NA", lambda x, y: (x, pd.Series([*y[:3], None, *y[4:]], dtype="string")), r"y\[3\] is <NA>, which is mis"),
    ("a number", lambda x, y: (x, [*y[:3], 7, *y[4:]]), r"y\[3\] is 7, which is no string"),
    ("bytes", lambda x, y: (x, [*y[:3], b"a", *y[4:]]), r"y\[3\] is b'a', which is no string"),
    ("a list", lambda x, y: (x, [*y[:3], ["a"], *y[4:]]), r"y\[3\] is \['a'\], which is no string"),
    ("an array", lambda x, y: (x, [*y[:3], np.array(["a", "b"]), *y[4:]]), r"y\[3\] is array.*which is no string"),
    ("half a character", lambda x, y: (x, [*y[:3], "a\ud800", *y[4:]]), r"y\[3\] is no valid Unicode at position 1"),
    ("y too short", lambda x, y: (x, y[:-1]), r"inconsistent numbers of samples: \[12, 11\]"),
    ("y is a string", lambda x, y: (x, "a" * 12), "y must be a list or an array"),
    ("y is a set", lambda x, y: (x, set(y)), "y must be a list or an array"),
    ("y is a table", lambda x, y: (x, pd.DataFrame({"a": y, "b": y})), "y must have one column, got 2"),
    ("no y", lambda x, y: (x, None), "requires y to be passed"),
    ("a missing text", lambda x, y: ([*x[:3], None, *x[4:]], y), r"X\[3\]"),
    ("a number in X", lambda x, y: ([*x[:3], 7, *x[4:]], y), r"X\[3\]"),
    ("half a character in X", lambda x, y: ([*x[:3], "a\ud800", *x[4:]], y), r"X\[3\]"),
    ("X is a string", lambda x, y: ("text", y), "got one"),
    ("no texts", lambda x, y: ([], []), "minimum of 1 is required"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("prompt", ["", "say: "])
def test_what_is_wrong_is_told_with_its_row(change, message, prompt):
    texts, y = change(X, Y)
    with pytest.raises(ValueError, match=message):
        writer(prompt=prompt).fit(texts, y)


def test_rows_that_cannot_be_read_are_left_out_on_request():
    texts, y = [*X, None, 7], [*Y, "a", "b"]
    with pytest.warns(UserWarning, match=r"Rows \[12, 13\] of X could not be read"):
        model = writer(on_bad_sample="nan").fit(texts, y)
    assert model.bad_samples_ == [12, 13]
    assert_alike(model, writer().fit(X, Y))
    found = model.predict(texts)
    assert found[12:].tolist() == [None, None]
    assert found[:12].tolist() == model.predict(X).tolist()
    with pytest.raises(BadSampleError, match=r"X\[12\]"):
        model.score(texts, y)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"max_target_length": 1}, "max_target_length"),
        ({"num_beams": 0}, "num_beams"),
        ({"prompt": None}, "prompt"),
        ({"generation_options": ["length_penalty"]}, "generation_options"),
        ({"generation_options": {"top_k": 5}}, "for sampling"),
        ({"generation_options": {"max_length": 5}}, "which is set by max_new_tokens"),
        ({"freeze_depth": 2.0}, "freeze_depth"),
    ],
    ids=str,
)
def test_parameters_are_checked(how, message):
    with pytest.raises(ValueError, match=message):
        writer(**how).fit(X, Y)


def test_lengths_beyond_the_decoders_positions_are_refused(tmp_path):
    folder = save_writer(tmp_path, "bart")
    for name in ("max_target_length", "max_new_tokens"):
        model = FineTunedTextToText(folder, **HOW | {name: 97})
        with pytest.raises(ValueError, match=f"{name}=97 is more than the 96 tokens .* Set at most 96"):
            model.fit(["a", "b"] * 2, ["c", "d"] * 2)
    model = FineTunedTextToText(folder, **HOW | {"max_new_tokens": 96}).fit(["a", "b"] * 2, ["c", "d" * 200] * 2)
    assert model.n_target_tokens_ == 96
    assert len(model.predict(["a"])) == 1
    with pytest.raises(ValueError, match="max_new_tokens=97"):
        model.set_params(max_new_tokens=97).predict(["a"])


def test_networks_that_cannot_write_are_refused(tmp_path):
    for name, message in (
        ("toy:images", "reads samples of kind 'image'"),
        ("toy:text", "it has no decoder. Choose a whole text to text model"),
        ("bundled:minilm", "it has no decoder"),
        (load_backbone(TOY, long_samples="windows"), "long_samples='truncate'"),
    ):
        with pytest.raises(UnsupportedBackboneError, match=message):
            FineTunedTextToText(name).fit(X, Y)
    (tmp_path / "several").mkdir()
    with pytest.raises(UnsupportedBackboneError, match="names no target language"):
        FineTunedTextToText(save_mbart(tmp_path / "several")).fit(X, Y)
    with pytest.raises(NotFittedError):
        writer().predict(X)


@pytest.mark.parametrize("change", [{"taps": []}, {"taps": [1, 3]}, {"n_outputs": 7}, {"head": "linear"}], ids=str)
def test_a_file_that_claims_what_cannot_be_is_refused(tmp_path, change):
    path = tmp_path / "model.skl"
    writer(max_epochs=1).fit(X, Y).save(path)
    header, arrays = serialization.read(path)
    header["network"] |= change
    serialization.write(path, {k: v for k, v in header.items() if k != "format"}, arrays)
    with pytest.raises(WeightsError):
        load(path)


def test_an_export_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="FineTunedTextToText"):
        export_onnx(writer(max_epochs=1).fit(X, Y), tmp_path / "model.onnx")


# the score


def test_the_score_is_sacrebleus():
    truth, found = ["the house is red", "a dog"], ["the house was red", "the dog"]
    assert chrf_score(truth, found) == pytest.approx(sacrebleu.CHRF().corpus_score(found, [truth]).score / 100)
    assert chrf_score(truth, truth) == 1
    assert chrf_score(["a"], [""]) == 0
    assert chrf_score(pd.Series(truth), np.array(found)) == chrf_score(truth, found)
    with pytest.raises(ValueError, match=r"y_pred\[1\] is None, which is missing"):
        chrf_score(truth, ["a", None])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        chrf_score(truth, ["a"])


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'skltransfer[translation]'")):
        chrf_score(["a"], ["a"])


# the bar


@pytest.mark.slow
def test_dates_are_learned_and_searched(tmp_path, monkeypatch):
    """A smaller version of tests/benchmarks/quality_text_to_text.py."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
    import quality_text_to_text as dates

    monkeypatch.setattr(dates, "USUAL", dates.USUAL[2:4])
    monkeypatch.setattr(dates, "OTHERS", dates.OTHERS[1:2])
    monkeypatch.setattr(dates, "DEPTHS", [1.0, 0.67])
    random, trained = str(tmp_path / "random"), str(tmp_path / "trained")
    dates.save_random_t5(random)
    assert dates.from_scratch(random, trained, n=1500, epochs=14, n_test=200)["exact"] >= 0.9
    found = dates.searched(trained, "pretrained", n=60, epochs=8, n_test=100)
    assert found["passed"] == found["texts"]
    assert found["chrF"] > 0.4


def test_what_is_changed_after_the_fit_is_checked_when_texts_are_written(learned):
    for name, value in (("num_beams", 0), ("max_new_tokens", "x"), ("generation_options", [1])):
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            copy.copy(learned).set_params(**{name: value}).predict(["a"])
    with pytest.raises(ValueError, match="token ids below 259"):
        copy.copy(learned).set_params(generation_options={"bad_words_ids": [[5], [9999]]}).predict(["a"])


def test_texts_that_are_too_long_are_told_without_windows_which_there_are_none_of():
    model = FineTunedTextToText("toy:text-to-text", max_epochs=1, max_length=4)
    with pytest.warns(UserWarning, match="prompt included; part was not read. Raise max_length") as told:
        model.fit(["abcdefghij", "b"], ["a", "b"])
    assert not any("long_samples" in str(one.message) for one in told)


def test_a_score_of_nothing_is_refused_and_of_empty_texts_is_full():
    for score in (chrf_score, word_error_rate, answer_f1_score, answer_exact_match_score):
        with pytest.raises(ValueError, match="y_true holds no text to compare with. Pass at least one"):
            score([], [])
    assert chrf_score(["", ""], ["", ""]) == 1.0


def test_no_onnx_file_is_written_of_what_writes_texts(learned, tmp_path):
    with pytest.raises(TypeError, match="one vector per sample; got a FineTunedTextToText. Keep it with save"):
        export_onnx(learned, tmp_path / "model.onnx")
