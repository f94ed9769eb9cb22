"""Transcripts of speech: what the networks are, long audio, what is refused by row, and how texts are compared."""

import copy
import io
import json
import pickle
import subprocess
import sys
import warnings
import wave

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from speech_networks import save_ctc, save_whisper

from skltransfer import ActivationStore, FineTunedTranscriber, load, load_backbone, word_error_rate
from skltransfer.backbones import decoder_model
from skltransfer.engine import OWN_HEAD, GenerationTask, NetworkSpec, new_network
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError
from skltransfer.inputs import windows_between_words
from skltransfer.transcription import normalized

RATE = 8000
PITCHES = {"a": 250, "b": 1000, "c": 2500}
Y = ["ab", "ba", "ca", "bca", "abc", "cb a", "ac", "c b"] * 2
HOW = {"random_state": 0, "dtype": "float32", "device": "cpu"}
CTC = {"freeze_depth": 1.0, "learning_rate": 0.05, "max_epochs": 30, "batch_size": 2, **HOW}
SHORT = {"max_epochs": 2, "batch_size": 8}


def sound(text, *, seconds=0.08, seed=0):
    """Tones for letters, silence for spaces."""
    t, rng = np.arange(int(seconds * RATE)) / RATE, np.random.default_rng([seed, *text.encode()])
    parts = [np.sin(2 * np.pi * PITCHES[letter] * t) * 0.5 if letter != " " else 0 * t for letter in text]
    whole = np.concatenate(parts) if parts else np.zeros(RATE // 2)
    return (whole + rng.normal(0, 0.01, len(whole))).astype(np.float32)


X = [(sound(text, seed=i), RATE) for i, text in enumerate(Y)]


def wav_bytes(waveform, rate=RATE):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def letters(**parameters):
    return FineTunedTranscriber("toy:audio", **CTC | parameters)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    texts = [f"{a} {b}" for a in Y for b in Y]
    return save_whisper(tmp_path_factory.mktemp("english"), texts=texts, seconds=2, rate=RATE, dropout=0.1)


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory):
    texts = [f"{a} {b}" for a in Y for b in Y]
    folder = tmp_path_factory.mktemp("multilingual")
    return save_whisper(folder, texts=texts, seconds=2, rate=RATE, multilingual=True, seed=1)


def whisper(folder, **parameters):
    how = {"freeze_depth": 0.5, "learning_rate": 1e-3, "max_epochs": 10, "batch_size": 4, **HOW}
    return FineTunedTranscriber(f"hf:{folder}", **how | parameters)


@pytest.fixture(scope="module")
def fitted(english):
    return whisper(english).fit(X, Y)


@pytest.fixture(scope="module")
def fitted_letters():
    return letters().fit(X, Y)


def with_parameters(model, **parameters):
    """A fitted model with other parameters."""
    return copy.copy(model).set_params(**parameters)


@pytest.fixture(params=["decoder", "letters"])
def either(request):
    return request.getfixturevalue({"decoder": "fitted", "letters": "fitted_letters"}[request.param])


# Whisper: labels, loss, gradients and generation are the library's


def features_and_labels(folder, texts, **prefix):
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.WhisperTokenizer.from_pretrained(folder, **prefix)
    features = extractor([one for one, _ in X[: len(texts)]], sampling_rate=RATE, return_tensors="pt").input_features
    ids = [torch.tensor(tokenizer(text).input_ids[1:]) for text in texts]  # as the library's examples cut the first
    return features, ids, torch.nn.utils.rnn.pad_sequence(ids, True, -100), tokenizer


def library_s_name(key):
    """Name of a trained weight in the library's own model."""
    key = key.removeprefix("readout.decoder.model.")
    return f"model.encoder.{key.removeprefix('suffix.')}" if key.startswith("suffix.") else key


def library_s_whisper(folder, boundary, activation, backbone, *, trains):
    """The library's own model, whose first unfrozen layer is given what was remembered."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).train(trains)
    encoder = model.get_encoder()
    if boundary == backbone.n_stages:
        encoder.eval()
        encoder.register_forward_hook(lambda *_: transformers.modeling_outputs.BaseModelOutput(activation))
    elif boundary:
        for layer in encoder.layers[: boundary - 1]:
            layer.eval()
        encoder.layers[boundary - 1].register_forward_pre_hook(lambda _, given: (activation, *given[1:]))
    return model


@pytest.mark.parametrize("trains", [False, True])
def test_loss_and_gradients_equal_the_library_s_at_every_boundary(english, trains):
    backbone = load_backbone(f"hf:{english}")
    features, ids, labels, _ = features_and_labels(english, Y[:4])
    decoder = decoder_model(backbone, "speech to text")
    batch = [{"ids": one} for one in ids]
    for boundary in range(backbone.n_stages + 1):
        task = GenerationTask("speech to text", decoder.n_tokens, decoder.fingerprint, sum(map(len, ids)) / len(ids))
        spec = NetworkSpec(boundary, None, OWN_HEAD, None, n_outputs=decoder.n_tokens, taps=(backbone.n_stages,))
        network = new_network(backbone, spec, task.readout, seed=0).train(trains)
        with torch.no_grad():
            activation = backbone.prefix(0, boundary)(features).clone() if boundary else features
        model = library_s_whisper(english, boundary, activation, backbone, trains=trains)
        torch.manual_seed(0)
        loss = task.loss(network(activation, batch), batch).mean()
        loss.backward()
        torch.manual_seed(0)
        expected = model(input_features=features, labels=labels).loss
        expected.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        theirs, compared = dict(model.named_parameters()), 0
        for name, value in network.named_parameters():
            if value.grad is not None:
                torch.testing.assert_close(value.grad, theirs[library_s_name(name)].grad, rtol=1e-5, atol=1e-5)
                compared += 1
        assert compared >= len(list(network.readout.decoder.model.model.decoder.parameters()))


def test_labels_are_those_of_the_library_s_recipe(english, multilingual):
    for folder, language, prefix in (
        (english, None, {}),
        (multilingual, "de", {"language": "german", "task": "transcribe"}),
    ):
        model, backbone = whisper(folder, language=language), load_backbone(f"hf:{folder}")
        _, ids, _, tokenizer = features_and_labels(folder, Y[:3], **prefix)
        found = [model._texts(backbone).ids(text) for text in Y[:3]]
        assert found == [one.tolist() for one in ids]
        begins = tokenizer.convert_ids_to_tokens(found[0])[: 3 if language else 1]
        assert begins == (["<|de|>", "<|transcribe|>", "<|notimestamps|>"] if language else ["<|notimestamps|>"])


@pytest.mark.parametrize("num_beams", [1, 3])
def test_transcripts_are_the_library_s_token_for_token(english, multilingual, num_beams):
    for folder, language in ((english, None), (multilingual, "German")):
        model = whisper(folder, language=language, max_epochs=2, num_beams=num_beams, max_new_tokens=9).fit(X, Y)
        features, _, _, tokenizer = features_and_labels(folder, Y[:5])
        library = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
        state = {library_s_name(key): torch.tensor(value) for key, value in model._network_.changed.items()}
        assert not library.load_state_dict(state, strict=False).unexpected_keys
        spoken = {} if language is None else {"language": language, "task": "transcribe"}
        ids = library.generate(input_features=features, max_new_tokens=9, num_beams=num_beams, **spoken)
        expected = [tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "5 of 5 texts|[1-4] of 5 texts")
            assert model.predict(X[:5]).tolist() == expected


def test_a_text_that_is_cut_is_told(fitted):
    short = with_parameters(fitted, max_new_tokens=1)
    with pytest.warns(UserWarning, match=r"of 4 texts .* 1 tokens. Raise max_new_tokens"):
        short.predict(X[2:6])
    texts = fitted._texts(load_backbone(fitted.backbone))
    most = fitted._task_to_answer.how["max_new_tokens"]
    assert fitted._is_cut([5] * most, texts)
    assert not fitted._is_cut([5] * (most - 1), texts)
    assert not fitted._is_cut([5, texts.end, *[texts.end] * most], texts)


@pytest.fixture(scope="module")
def reticent(tmp_path_factory):
    """A checkpoint with the settings of published ones: no empty transcripts, and no punctuation that nobody speaks."""
    folder = save_whisper(tmp_path_factory.mktemp("reticent"), texts=Y, seconds=2, rate=RATE)
    tokenizer, path = transformers.WhisperTokenizer.from_pretrained(folder), folder / "generation_config.json"
    space, opens, closes = tokenizer.convert_tokens_to_ids(["Ġ", "(", ")"])
    lists = {"suppress_tokens": [opens, closes], "begin_suppress_tokens": [space, tokenizer.eos_token_id]}
    path.write_text(json.dumps(json.loads(path.read_text()) | lists))
    return folder, lists


def test_what_the_folder_never_writes_is_written_once_it_is_learnt(reticent, tmp_path):
    folder, lists = reticent
    opens, closes = lists["suppress_tokens"]
    clips, y = [X[0], (np.zeros(RATE, np.float32), RATE)], ["a(b", ""]
    how = {"learning_rate": 3e-3, "lr_schedule": "constant", "max_epochs": 110, "batch_size": 2, "freeze_depth": 0.0}
    model = whisper(folder, **how).fit(clips, y)
    assert model.predict(clips).tolist() == y
    model.save(tmp_path / "model.skl")
    assert load(tmp_path / "model.skl").predict(clips).tolist() == y
    assert pickle.loads(pickle.dumps(model)).predict(clips).tolist() == y
    told = model._task_to_answer.how
    assert (told["suppress_tokens"], told["begin_suppress_tokens"]) == ([closes], lists["begin_suppress_tokens"][:1])
    by_user = with_parameters(model, generation_options=lists).predict(clips)
    assert by_user[0] != y[0]
    assert by_user[1] != y[1]


def test_what_was_not_learnt_stays_unwritten(reticent):
    folder, lists = reticent
    plain = whisper(folder, **SHORT).fit(X[:4], [*Y[:3], "a(b"], sample_weight=[1, 1, 1, 0])
    assert not plain._task_to_answer.how.keys() & lists.keys()


# languages


def test_a_network_of_several_languages_must_be_told_one(multilingual, english, tmp_path):
    with pytest.raises(ValueError, match="writes 2 languages.*language='en'"):
        whisper(multilingual).fit(X, Y)
    with pytest.raises(ValueError, match="language='french' is none that .* writes: de, en"):
        whisper(multilingual, language="french").fit(X, Y)
    with pytest.raises(ValueError, match="language='en' has no meaning.*writes one language.*Set language=None"):
        whisper(english, language="en").fit(X, Y)
    with pytest.raises(ValueError, match="language='en' has no meaning"):
        letters(language="en").fit(X, Y)


def test_the_language_that_a_checkpoint_was_saved_with_is_used(tmp_path):
    folder = save_whisper(tmp_path, seconds=2, rate=RATE, multilingual=True, language="de")
    model, backbone = whisper(folder), load_backbone(f"hf:{folder}")
    assert model._texts(backbone).ids("one") == whisper(folder, language="de")._texts(backbone).ids("one")


# CTC: heads and letters


def test_an_encoder_without_a_head_gets_one_for_the_characters_of_y(fitted_letters):
    assert fitted_letters.vocabulary_ == ["", " ", "a", "b", "c"]
    assert fitted_letters.predict(X[:8]).tolist() == Y[:8]
    assert fitted_letters.score(X, Y) == 1.0


@pytest.fixture(scope="module")
def own_head(tmp_path_factory):
    return save_ctc(tmp_path_factory.mktemp("own"), head=True, letters="abc", rate=RATE)


def test_a_checkpoint_that_transcribes_keeps_its_head_and_its_letters(own_head, tmp_path):
    folder = own_head
    model = FineTunedTranscriber(f"hf:{folder}", freeze_depth=1.0, learning_rate=1e-9, **HOW | SHORT).fit(X, Y)
    assert model.vocabulary_ == ["<pad>", "<unk>", "|", "a", "b", "c"]
    library = transformers.AutoModelForCTC.from_pretrained(folder)
    weight = model._network_.changed["readout.head.weight"]
    np.testing.assert_allclose(weight, library.lm_head.weight.detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match=r"y\[1\] holds \['D'\].*cannot write; its letters are 'abc\|'"):
        clone(model).fit(X, [Y[0], "D", *Y[2:]])
    path = tmp_path / "model.skl"
    model.save(path)
    assert load(path).predict(X[:4]).tolist() == model.predict(X[:4]).tolist()


def test_a_target_that_needs_more_frames_than_its_clip_has_is_named():
    clips = [*X[:3], (X[3][0][:256], RATE)]  # 4 frames
    assert letters(**SHORT).fit(clips, [*Y[:3], "aab"]).vocabulary_
    with pytest.raises(ValueError, match=r"y\[3\] needs 5 frames.*the clip has 4"):
        letters().fit(clips, [*Y[:3], "aabc"])


def test_a_target_of_no_weight_may_need_more_frames():
    clips, y = [*X[:3], (X[3][0][:256], RATE)], [*Y[:3], "aabc"]
    assert letters(**SHORT).fit(clips, y, sample_weight=[1, 1, 1, 0]).vocabulary_
    with pytest.raises(ValueError, match=r"y\[0\] needs 5 frames") as told:
        letters(early_stopping=True, **SHORT).fit(X[:3], Y[:3], X_val=clips[3:], y_val=y[3:])
    assert told.value.__notes__ == ["This is about X_val and y_val."]


def test_an_unknown_letter_of_y_val_is_told_by_its_row_there(own_head):
    model = FineTunedTranscriber(f"hf:{own_head}", early_stopping=True, **HOW | SHORT)
    with pytest.raises(ValueError, match=r"y\[1\] holds \['D'\]") as told:
        model.fit(X[:4], Y[:4], X_val=X[:2], y_val=["ab", "D"])
    assert told.value.__notes__ == ["This is about X_val and y_val."]


def test_a_weight_file_brings_no_head_and_this_is_told(own_head, tmp_path):
    path = str(tmp_path / "encoder.safetensors")
    save_file(load_backbone(f"hf:{own_head}").library_state(), path)
    with pytest.warns(UserWarning, match=r"Only the encoder is read from weights=.*encoder.safetensors") as told:
        model = FineTunedTranscriber(f"hf:{own_head}", weights=path, **HOW | SHORT).fit(X, Y)
    assert len([one for one in told if "Only the encoder" in str(one.message)]) == 1
    assert {one.filename for one in told} == {__file__}
    assert model.vocabulary_ == ["", " ", "a", "b", "c"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FineTunedTranscriber(f"hf:{own_head}", weights="random", **HOW | SHORT).fit(X, Y)


@pytest.mark.parametrize("option", [{"generation_options": {"length_penalty": 2.0}}, {"num_beams": 2}])
def test_letters_refuse_options_of_a_decoder(fitted_letters, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}=.* has no meaning: 'toy:audio' has no decoder"):
        letters(**option).fit(X, Y)
    with pytest.raises(ValueError, match=f"{name}=.* has no meaning"):
        with_parameters(fitted_letters, **option).predict(X[:1])


# long audio


def test_windows_end_where_it_is_quiet_and_lose_nothing():
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.2, 70 * 100).astype(np.float32)
    for second in (25.5, 52.0):
        waveform[int(second * 100) : int(second * 100) + 40] = 0
    parts = windows_between_words(waveform, 100, 3000)
    np.testing.assert_array_equal(np.concatenate(parts), waveform)
    assert all(len(part) <= 3000 for part in parts)
    assert 2550 <= len(parts[0]) <= 2590
    assert 5200 <= len(parts[0]) + len(parts[1]) <= 5240
    assert len(windows_between_words(waveform[:3000], 100, 3000)) == 1
    noise = rng.normal(0, 0.2, 3001)
    assert min(map(len, windows_between_words(noise, 100, 3000))) >= 900  # no rest too short to be heard


def test_seventy_seconds_of_a_file_are_transcribed_in_windows(either):
    said, pause = [Y[i % 8] for i in range(70)], np.zeros(RATE, np.float32)
    clip = np.concatenate([np.concatenate([sound(text, seed=i), pause])[:RATE] for i, text in enumerate(said)])
    content = wav_bytes(clip)
    assert len(clip) == 70 * RATE
    model = with_parameters(either, window_seconds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = model.predict([X[0], content, X[1]])
        windows = windows_between_words(np.float32(np.int16(clip * 32767)) / 32768, RATE, 2 * RATE)
        expected = either.predict([(window, RATE) for window in windows])
        assert whole[[0, 2]].tolist() == either.predict(X[:2]).tolist()
    assert len(windows) >= 35
    assert whole[1] == " ".join(text for text in expected if text)


def test_letters_hear_whole_clips_unless_windows_are_asked_for(fitted_letters):
    waveform = np.concatenate([sound("abc", seed=i) for i in range(30)])
    cut, backbone = with_parameters(fitted_letters, window_seconds=2.0), load_backbone("toy:audio")
    assert fitted_letters._window(backbone) is None
    windows = windows_between_words(waveform, RATE, 2 * RATE)
    assert len(windows) > 3
    parts = fitted_letters.predict([(window, RATE) for window in windows])
    assert cut.predict([(waveform, RATE)])[0] == " ".join(parts)
    with pytest.raises(ValueError, match="window_seconds"):
        letters(window_seconds=0.5).fit(X, Y)


def test_texts_that_are_cut_are_counted_by_clip_not_by_window(fitted):
    long = np.concatenate([one for one, _ in X])
    short = with_parameters(fitted, max_new_tokens=1)
    with pytest.warns(UserWarning, match=r"^(3|2|1) of 3 texts .*first: rows \[[012](, [12]){0,2}\]"):
        short.predict([(long, RATE), X[4], (long[::-1], RATE)])


def test_a_long_clip_that_cannot_be_read_is_none(fitted):
    long = np.concatenate([*(one for one, _ in X), [np.nan]]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = with_parameters(fitted, on_bad_sample="nan").predict([X[0], (long, RATE)])
    assert [text is None for text in found] == [False, True]
    with pytest.raises(BadSampleError, match=r"X\[1\]"):
        fitted.predict([X[0], (long, RATE)])


def test_windows_longer_than_the_input_are_refused(fitted):
    with pytest.raises(ValueError, match="window_seconds=3 is more than the 2 s that"):
        with_parameters(fitted, window_seconds=3).predict(X[:1])


def test_fit_refuses_clips_that_it_cannot_hear_whole(english, tmp_path):
    long = np.concatenate([one for one, _ in X])[: 2 * RATE + 1]
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.tile(long, 2)))
    for clip in ((np.tile(long, 2), RATE), str(path), wav_bytes(np.tile(long, 2))):
        with pytest.raises(BadSampleError, match=r"X\[1\].*the network hears 2 s at once. Fix: cut it, and its target"):
            whisper(english, **SHORT).fit([X[0], clip, X[2]], Y[:3])
    with pytest.warns(UserWarning, match=r"Rows \[1\] of X"):
        model = whisper(english, on_bad_sample="nan", **SHORT).fit([X[0], str(path), X[2]], Y[:3])
    assert model.bad_samples_ == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(model.predict([str(path)])[0], str)


# what is wrong is told with its row


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", None, "c"], r"y\[1\] is None, which is missing"),
        (["a", float("nan"), "c"], r"y\[1\] is nan, which is missing"),
        (["a", "b", 3], r"y\[2\] is 3, which is no string"),
        (["a", ["b"], "c"], r"y\[1\] is \['b'\], which is no string"),
        (["a", "b"], "inconsistent numbers of samples"),
        ("abc", "y must be a list"),
        (None, "requires y to be passed"),
    ],
)
def test_targets_that_are_no_strings_are_told_by_row(english, y, message):
    for model in (letters(), whisper(english)):
        with pytest.raises(ValueError, match=message):
            model.fit(X[:3], y)


def test_transcripts_that_are_all_empty_leave_letters_nothing_to_learn():
    with pytest.raises(ValueError, match="All strings of y .* are empty"):
        letters().fit(X[:3], ["", " ", ""])


def test_silence_and_empty_transcripts_are_learnt(english):
    clips, y = [*X[:4], (np.zeros(RATE, np.float32), RATE)], [*Y[:4], ""]
    for model in (letters(**SHORT), whisper(english, **SHORT)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert all(isinstance(text, str) for text in model.fit(clips, y).predict(clips))


def test_clips_that_cannot_be_read_are_told_or_left_out(english):
    clips = [X[0], b"no sound", X[2], None, (np.full(800, np.nan), RATE)]
    for model in (letters(**SHORT), whisper(english, **SHORT)):
        with pytest.raises(BadSampleError, match=r"X\[1\].*no audio"):
            model.fit(clips, Y[:5])
        with pytest.warns(UserWarning, match=r"Rows \[1, 3, 4\]"):
            model.set_params(on_bad_sample="nan").fit(clips, Y[:5])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = model.predict(clips)
        assert [text is None for text in found] == [False, True, False, True, True]
        with pytest.raises(BadSampleError, match=r"X\[1\].*no audio"):
            model.score(clips, Y[:5])


def test_no_clips_are_told(either):
    with pytest.raises(ValueError, match="minimum of 1 is required; X holds no audio"):
        either.predict([])
    with pytest.raises(ValueError, match="minimum of 1 is required; X holds no audio"):
        clone(either).fit([], [])


def test_networks_that_cannot_transcribe_are_refused_by_name(tmp_path):
    with pytest.raises(UnsupportedBackboneError, match="'toy:images' reads samples of kind 'image'"):
        FineTunedTranscriber("toy:images").fit([np.zeros((16, 16, 3), np.uint8)] * 2, ["a", "b"])
    with pytest.raises(UnsupportedBackboneError, match="'toy:text' reads samples of kind 'text'"):
        FineTunedTranscriber("toy:text").fit(["a", "b"], ["a", "b"])
    configuration = transformers.ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=64, num_mel_bins=32
    )
    transformers.ASTModel(configuration).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match="cannot transcribe: it has no decoder, and no frame"):
        FineTunedTranscriber(f"hf:{tmp_path}").fit([(np.zeros(16000, np.float32), 16000)] * 2, ["a", "b"])


def test_weights_from_a_file_have_no_decoder(english, tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_file(load_backbone(f"hf:{english}").library_state(), path)
    with pytest.raises(UnsupportedBackboneError, match="holds no decoder"):
        whisper(english, weights=str(path)).fit(X, Y)


# scikit-learn


def test_scikit_learn_splits_scores_and_searches():
    trained, tested, y_train, y_test = train_test_split(X, Y, random_state=0)
    model = letters().fit(trained, y_train)
    found = model.predict(tested)
    assert found.shape == (len(tested),)
    assert found.dtype == object
    assert model.score(tested, y_test) == 1 - word_error_rate(y_test, found)
    assert len(cross_val_score(letters(**SHORT), X, Y, cv=2)) == 2
    assert make_pipeline(letters(**SHORT)).fit(X, Y).predict(X[:2]).shape == (2,)


def test_a_search_passes_the_encoder_once_for_each_clip(english):
    for model in (whisper(english, **SHORT), letters(**SHORT)):
        store = ActivationStore()
        search = GridSearchCV(model.set_params(cache=store), {"freeze_depth": [1.0, 0.5]}, cv=2, error_score="raise")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(X, Y)
        assert store.info()["misses"] == len(X)


def test_order_weights_and_neighbours_change_nothing(either):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        order = np.random.default_rng(0).permutation(len(X))
        other = clone(either).fit([X[i] for i in order], [Y[i] for i in order])
        assert other.predict(X).tolist() == either.predict(X).tolist()
        assert either.predict(X[3:4])[0] == either.predict(X)[3]
        weighted = clone(either).set_params(**SHORT).fit(X[:4], Y[:4], sample_weight=[2, 1, 0, 1])
        repeated = clone(either).set_params(**SHORT).fit([X[i] for i in (0, 0, 1, 3)], [Y[i] for i in (0, 0, 1, 3)])
    for name, value in weighted._network_.changed.items():
        np.testing.assert_allclose(value, repeated._network_.changed[name], atol=1e-5)


def test_pickles_and_files_predict_alike(either, tmp_path):
    content = pickle.dumps(either)
    assert pickle.loads(content).predict(X[:4]).tolist() == either.predict(X[:4]).tolist()
    path, clip = tmp_path / "model.skl", tmp_path / "clip.wav"
    either.save(path)
    clip.write_bytes(wav_bytes(X[3][0]))
    assert load(path).predict([clip]).tolist() == either.predict([clip]).tolist()


@pytest.mark.slow
def test_a_file_is_read_in_another_process(either, tmp_path):
    path, clip = tmp_path / "model.skl", tmp_path / "clip.wav"
    either.save(path)
    clip.write_bytes(wav_bytes(X[3][0]))
    code = f"import skltransfer; print(skltransfer.load({str(path)!r}).predict([{str(clip)!r}])[0])"
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == either.predict([clip])[0]


def test_early_stopping_checkpoints_and_named_clips_to_validate_on(either, tmp_path):
    model = clone(either).set_params(early_stopping=True, checkpoint=tmp_path, **SHORT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = model.fit(X[:8], Y[:8], X_val=X[8:], y_val=Y[8:]).predict(X)
        assert "validation_loss" in model.history_
        assert clone(model).fit(X[:8], Y[:8], X_val=X[8:], y_val=Y[8:]).predict(X).tolist() == first.tolist()
    if hasattr(either, "vocabulary_"):
        with pytest.raises(ValueError, match=r"y_val has the characters \['d'\]"):
            model.fit(X[:8], Y[:8], X_val=X[8:9], y_val=["d"])


def test_adapters_are_trained_in_place_of_weights(english):
    pytest.importorskip("peft")
    plain, adapted = whisper(english, **SHORT), whisper(english, adapter="lora", **SHORT)
    assert adapted.fit(X, Y).n_trainable_params_ < plain.fit(X, Y).n_trainable_params_


def test_adapters_of_a_head_of_letters_alone_are_refused():
    with pytest.raises(ValueError, match="adapter='lora' goes into unfrozen stages, but freeze_depth=1.0 leaves none"):
        letters(adapter="lora").fit(X, Y)


# the score


@pytest.mark.parametrize(
    ("truth", "found", "rate"),
    [
        (["Don't stop, now!"], ["dont stop now"], 0.0),
        (["a b c d"], ["a x c"], 0.5),
        (["a b", "c"], ["a b", "d e"], 2 / 3),
        (["a", ""], ["a", "b c"], 2.0),
        ([""], [""], 0.0),
        ([""], ["a"], 1.0),
    ],
)
def test_the_word_error_rate_counts_words_of_all_transcripts_together(truth, found, rate):
    assert word_error_rate(truth, found) == pytest.approx(rate)


def test_texts_are_compared_as_they_are_without_a_normalizer():
    assert word_error_rate(["A b."], ["a b"], normalizer=None) == 1.0
    assert normalized("  Zwölf-Uhr: ‘It's’ ½ $5 ") == "zwölf uhr its 1⁄2 5".replace("⁄", " ")
    with pytest.raises(ValueError, match="normalizer"):
        word_error_rate(["a"], ["a"], normalizer="english")
    with pytest.raises(ValueError, match=r"y_true\[0\] is 1"):
        word_error_rate([1], ["a"])


def test_a_missing_jiwer_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r"pip install 'skltransfer\[transcription\]'"):
        word_error_rate(["a"], ["a"])
