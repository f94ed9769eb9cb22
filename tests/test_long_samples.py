"""Texts and audio that are longer than a network's input: cut and told, or read whole in windows."""

import numpy as np
import pytest
import soundfile
import torch
import transformers
from scipy.special import expit
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import (
    ActivationStore,
    AdaptedBackbone,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    export_onnx,
    load,
    load_backbone,
)
from skltransfer.backbones._tokens import TextPreprocessing
from skltransfer.backbones._waveforms import AudioPreprocessing
from skltransfer.backbones._windows import LONG_SAMPLES, both_ends, window_starts
from skltransfer.engine import FrozenStages, NetworkSpec, VectorReadout, new_network
from skltransfer.engine.inference.activations import Activations
from skltransfer.exceptions import UnsupportedBackboneError
from skltransfer.inputs import samples_from_collection

TEXTS = ["short", "a text of " + "many words and " * 6, "b" * 33, "", "word " * 40, "a short one", "c" * 32, "last"]
Y = np.array([0, 1, 0, 1, 1, 0, 0, 1])
LENGTH = 32

pytestmark = pytest.mark.filterwarnings("ignore:X holds empty texts")


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    """A tiny Whisper that hears one second."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    small = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    small |= {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 50, "max_source_positions": 50}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    transformers.WhisperModel(transformers.WhisperConfig(**small, **ids)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    return f"hf:{folder}"


def clips():
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, n).astype(np.float32) for n in (8_000, 16_000, 16_001, 28_000, 40_000, 5_000)]


KEPT = ("keep_start", "keep_end", "keep_both_ends")


def sentences(tokenizer, max_length=8, long_samples="truncate"):
    """Words that are read of w0 ... w19."""
    ids = TextPreprocessing.of(tokenizer, max_length, long_samples)(" ".join(f"w{i}" for i in range(20)))
    assert len(ids) == max_length
    return tokenizer.decode(ids)


def test_the_beginning_the_end_or_both_ends_of_a_text_are_kept_between_special_tokens():
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_words(), cls_token="[CLS]", sep_token="[SEP]")
    start, end = "[CLS] w0 w1 w2 w3 w4 w5 [SEP]", "[CLS] w14 w15 w16 w17 w18 w19 [SEP]"
    both = "[CLS] w0 w1 w16 w17 w18 w19 [SEP]"
    assert [sentences(tokenizer, 8, how) for how in ("truncate", *KEPT)] == [start, start, end, both]
    assert sentences(tokenizer, 3, "keep_both_ends") == "[CLS] w0 [SEP]"
    assert sentences(tokenizer, 4, "keep_both_ends") == "[CLS] w0 w19 [SEP]"
    assert sentences(tokenizer, 2, "keep_both_ends") == "[CLS] [SEP]"
    tokenizer.truncation_side = "left"
    assert [sentences(tokenizer, 8, how) for how in ("truncate", *KEPT)] == [end, start, end, both]
    reader = TextPreprocessing.of(tokenizer, 22, "keep_both_ends")
    text = " ".join(f"w{i}" for i in range(20))
    assert reader(text).tolist() == tokenizer(text)["input_ids"]
    assert not reader.cuts(text)


def test_as_many_tokens_of_both_ends_are_kept_as_in_the_literature():
    assert both_ends(510) == (128, 382)
    assert [sum(both_ends(n)) for n in range(1, 600)] == list(range(1, 600))


def test_ways_to_read_long_texts_share_a_fingerprint_only_if_they_read_alike():
    prints = {how: load_backbone("toy:text", max_length=8, long_samples=how).fingerprint for how in LONG_SAMPLES}
    assert prints.pop("keep_start") == prints["truncate"]
    assert len(set(prints.values())) == len(prints) == 4
    heard = {load_backbone("toy:audio", long_samples=how).fingerprint for how in LONG_SAMPLES}
    assert len(heard) == 1  # it hears clips of any length


@pytest.mark.parametrize(
    ("how", "part"),
    [("keep_start", "what comes after"), ("keep_end", "their beginning"), ("keep_both_ends", "their middle")],
)
def test_the_part_that_was_not_read_is_told(how, part, listener):
    X = ["a" * 100, "short", "b" * 33, "c" * 32]
    extractor = PretrainedFeatureExtractor("toy:text", max_length=LENGTH, long_samples=how)
    with pytest.warns(UserWarning, match=rf"2 of 4 texts are longer than max_length=32 tokens; {part} was not read"):
        extractor.transform(X)
    assert extractor.n_truncated_ == 2
    heard = PretrainedFeatureExtractor(listener, sampling_rate=16_000, long_samples=how)
    with pytest.warns(UserWarning, match=f"reads; {'the rest' if how == 'keep_start' else part} was ignored"):
        heard.transform(clips())
    assert heard.n_truncated_ == 3


def documents(place, seed):
    """Texts of five pages, one of which tells the label."""
    rng, texts = np.random.default_rng(seed), []
    for i in range(24):
        pages = ["".join(rng.choice(list("mnopqr "), LENGTH)) for _ in range(5)]
        pages[{"start": 0, "middle": 1 + i % 3, "end": 4}[place]] = "".join(
            rng.choice(list(("!#$%", "&()*")[i % 2]), LENGTH)
        )
        texts.append("".join(pages))
    return texts, np.arange(24) % 2


@pytest.mark.filterwarnings("ignore:24 of 24 texts are longer")
@pytest.mark.parametrize(
    ("how", "seen"),
    [
        ({"long_samples": "keep_start"}, {"start"}),
        ({"long_samples": "keep_end"}, {"end"}),
        ({"long_samples": "keep_both_ends"}, {"start", "end"}),
        ({"long_samples": "windows", "window_pooling": "max"}, {"start", "middle", "end"}),
    ],
)
def test_labels_are_learnt_from_pages_that_are_read_and_from_no_others(how, seen):
    for place in ("start", "middle", "end"):
        model = FineTunedClassifier("toy:text", freeze_depth=1.0, max_length=LENGTH, random_state=0, **how)
        model.fit(*documents(place, 0))
        score = model.score(*documents(place, 1))
        assert score > 0.9 if place in seen else score < 0.75


@pytest.mark.filterwarnings("ignore:.* longer than")
def test_a_search_chooses_how_recordings_and_texts_are_read_and_a_file_keeps_it(listener, tmp_path):
    texts, y = documents("end", 0)
    read = FunctionTransformer(lambda files: [file.read_text() for file in files])
    sounds = []
    for i, label in enumerate(y[:12]):
        t = np.arange(40_000) / 16_000
        sounds.append(tmp_path / f"{i}.wav")
        soundfile.write(sounds[-1], np.where(t < 1.5, 0.0, 0.3 * np.sin(2 * np.pi * (300, 3000)[label] * t)), 16_000)
    files = [tmp_path / f"{i}.txt" for i in range(24)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    grid = [
        {"model__long_samples": ["truncate", "keep_end"]},
        {"model__long_samples": ["windows"], "model__window_pooling": ["mean", "max", "vote"]},
    ]
    for name, X, labels, first in (("toy:text", files, y, read), (listener, sounds, y[:12], "passthrough")):
        model = FineTunedClassifier(name, freeze_depth=1.0, max_length=LENGTH, random_state=0)
        search = GridSearchCV(Pipeline([("read", first), ("model", model)]), grid, cv=2, error_score="raise")
        search.fit(X, labels)
        scores = dict(zip(map(str, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True))
        assert scores[str({"model__long_samples": "truncate"})] < 0.8
        assert search.best_score_ > 0.9
        assert search.best_params_["model__long_samples"] != "truncate"
        for params in search.cv_results_["params"]:
            best = clone(search.estimator).set_params(**params).fit(X, labels)
            best[-1].save(tmp_path / "model.skl")
            loaded = load(tmp_path / "model.skl")
            assert loaded.get_params()["long_samples"] == params["model__long_samples"]
            np.testing.assert_array_equal(loaded.predict_proba(best[:-1].transform(X)), best.predict_proba(X))


@pytest.mark.filterwarnings("ignore:1 of 3 audio clips are longer")
def test_clips_to_validate_on_are_not_counted(listener):
    sounds = [(clip, 16_000) for clip in clips()]
    model = FineTunedClassifier(listener, freeze_depth=0.5, early_stopping=True, max_epochs=1, random_state=0)
    model.fit(sounds[:3], [0, 1, 0], X_val=sounds[3:], y_val=[1, 0, 1])
    assert model.n_truncated_ == 1


@pytest.mark.parametrize("length", [*range(1, 60), 1000, 4097])
@pytest.mark.parametrize("width", [1, 2, 7, 30])
def test_windows_cover_all_of_a_sample_evenly_and_overlap_by_a_quarter(length, width):
    starts = window_starts(length, width)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - width)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(1, width - width // 4)).all()
    assert len(starts) == 1 or steps.max() - steps.min() <= 1


def test_windows_of_a_text_hold_its_tokens_between_special_ones(tmp_path):
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_words(), cls_token="[CLS]", sep_token="[SEP]")
    reader = load_backbone("toy:text", long_samples="windows", max_length=LENGTH).preprocessing
    reader = type(reader).of(tokenizer, 8, "windows")
    text = " ".join(f"w{i}" for i in range(20))
    whole = tokenizer(text)["input_ids"]
    parts = [part.tolist() for part in reader.parts(text)]
    assert all(len(part) == 8 and part[0] == whole[0] and part[-1] == whole[-1] for part in parts)
    assert sorted({token for part in parts for token in part[1:-1]}) == sorted(set(whole[1:-1]))
    assert [part.tolist() for part in reader.parts("w1 w2")] == [tokenizer("w1 w2")["input_ids"]]


def _words():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2} | {f"w{i}": 3 + i for i in range(20)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    tokenizer.enable_truncation(5)  # what a file may say; the network's own length counts
    tokenizer.enable_padding(length=16)
    return tokenizer


@pytest.mark.parametrize("cache", [None, "memory"])
def test_features_of_a_long_text_are_the_mean_of_its_windows(cache):
    extractor = PretrainedFeatureExtractor(
        "toy:text",
        layer=["encoder.layers.0", "penultimate"],
        long_samples="windows",
        max_length=LENGTH,
        dtype="float32",
        cache=cache,
    )
    found = extractor.transform(TEXTS)
    alone = clone(extractor).set_params(long_samples="truncate", cache=None)
    for row, text in enumerate(TEXTS):
        windows = [text.encode()[start : start + LENGTH].decode() for start in window_starts(len(text), LENGTH)]
        np.testing.assert_allclose(found[row], alone.transform(windows).mean(0), atol=1e-6)
    assert extractor.n_truncated_ == 0
    np.testing.assert_array_equal(extractor.transform(TEXTS[::-1]), found[::-1])
    np.testing.assert_array_equal(np.vstack([extractor.transform([text]) for text in TEXTS]), found)


def test_a_sample_of_many_windows_counts_once_in_the_store():
    store = ActivationStore()
    extractor = PretrainedFeatureExtractor("toy:text", long_samples="windows", max_length=LENGTH, cache=store)
    extractor.transform(TEXTS)
    assert (store.info()["misses"], store.info()["samples"]) == (len(TEXTS), len(TEXTS))
    extractor.transform(TEXTS)
    assert store.info()["hits"] == len(TEXTS)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
def test_probabilities_are_the_mean_of_those_of_the_windows(freeze_depth):
    options = {"max_length": LENGTH, "dtype": "float32", "random_state": 0, "max_epochs": 1}
    model = FineTunedClassifier("toy:text", freeze_depth=freeze_depth, long_samples="windows", **options).fit(TEXTS, Y)
    found = model.predict_proba(TEXTS)
    for row, text in enumerate(TEXTS):
        windows = [text[start : start + LENGTH] for start in window_starts(len(text), LENGTH)]
        expected = model.predict_proba(windows).mean(0)
        if freeze_depth == 1.0 and len(windows) > 1:  # there the features are averaged
            logit = model.decision_function(windows).mean()
            expected = np.array([1 - expit(logit), expit(logit)])
        np.testing.assert_allclose(found[row], expected, atol=1e-6)
    np.testing.assert_array_equal(model.predict(TEXTS), model.classes_[found.argmax(1)])
    np.testing.assert_allclose(expit(model.decision_function(TEXTS)), found[:, 1], atol=1e-9)
    assert model.n_truncated_ == 0


@pytest.mark.parametrize("boundary", [0, 2])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_training_averages_the_outputs_of_a_samples_windows_before_the_loss(boundary, head):
    backbone = load_backbone("toy:text", long_samples="windows", max_length=LENGTH)
    stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None)
    samples = samples_from_collection(TEXTS, "text")
    activations = Activations(stages, samples, stages.address(boundary))
    network = new_network(backbone, NetworkSpec(boundary, "mean", head, n_outputs=3), VectorReadout.of, seed=0).eval()
    rows = np.array([4, 0, 2, 3])
    together = network(activations.take(rows))
    for row, output in zip(rows, together, strict=True):
        parts = backbone.preprocessing.parts(TEXTS[row])
        windows = [backbone.prefix(0, boundary)(part[None]) for part in parts]
        alone = torch.cat([network.readout.outputs(network.features(window)) for window in windows])
        torch.testing.assert_close(output, alone.mean(0), atol=1e-6, rtol=1e-5)
    together.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def _fits(kind, **options):
    options = {"long_samples": "windows", "max_length": LENGTH, "random_state": 0, **options}
    if kind is MultiTaskFineTuner:
        return kind("toy:text", freeze_depth=0.5, max_epochs=1, **options), np.column_stack([Y, Y[::-1]])
    if kind is FewShotClassifier:
        return kind("toy:text", **options), Y
    if kind is FineTunedRegressor:
        return kind("toy:text", freeze_depth=0.5, max_epochs=1, **options), Y.astype(float)
    return kind("toy:text", freeze_depth=0.5, max_epochs=1, **options), Y


@pytest.mark.parametrize("kind", [FineTunedClassifier, FineTunedRegressor, FewShotClassifier, MultiTaskFineTuner])
def test_every_estimator_reads_windows_with_and_without_store_and_from_a_file(kind, tmp_path):
    found = []
    for cache in (None, "memory", tmp_path / "store", tmp_path / "store"):
        model, y = _fits(kind, cache=cache, dtype="float32")
        found.append(np.asarray(model.fit(TEXTS, y).predict(TEXTS), dtype=float))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)
    model.save(tmp_path / "model.skl")
    np.testing.assert_array_equal(np.asarray(load(tmp_path / "model.skl").predict(TEXTS), dtype=float), found[-1])


def test_a_domain_is_adapted_to_over_windows():
    y = np.array([0, 1, 0, 1, -1, -1, -1, -1])
    model = DomainAdaptedClassifier(
        "toy:text", long_samples="windows", max_length=LENGTH, max_epochs=1, random_state=0, freeze_depth=0.5
    )
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        assert set(model.fit(TEXTS, y).predict(TEXTS)) <= {0, 1}


def test_what_becomes_of_long_samples_can_be_searched():
    model = FineTunedClassifier("toy:text", freeze_depth=1.0, max_length=LENGTH)
    grid = {"long_samples": ["truncate", "windows"]}
    with pytest.warns(UserWarning, match="texts are longer than max_length=32"):
        search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(TEXTS * 2, np.r_[Y, Y])
    assert len(search.cv_results_["mean_test_score"]) == 2


def test_sounds_beyond_the_input_are_told_and_windows_hear_them(listener):
    X = clips()
    extractor = PretrainedFeatureExtractor(listener, sampling_rate=16_000, dtype="float32")
    with pytest.warns(UserWarning, match=r"3 of 6 audio clips are longer than the 1 s that .*long_samples='windows'"):
        cut = extractor.transform(X)
    assert extractor.n_truncated_ == 3
    heard = clone(extractor).set_params(long_samples="windows")
    found = heard.transform(X)
    assert heard.n_truncated_ == 0
    np.testing.assert_array_equal(found[[0, 1, 5]], cut[[0, 1, 5]])
    for row in (2, 3, 4):
        windows = [X[row][start : start + 16_000] for start in window_starts(len(X[row]), 16_000)]
        np.testing.assert_allclose(found[row], extractor.transform(windows).mean(0), atol=1e-5)
    for how, parts in {"keep_end": [(24_000, 40_000)], "keep_both_ends": [(0, 4_000), (28_000, 40_000)]}.items():
        with pytest.warns(UserWarning, match="3 of 6 audio clips"):
            kept = clone(extractor).set_params(long_samples=how).transform(X)
        np.testing.assert_array_equal(kept[[0, 1, 5]], cut[[0, 1, 5]])
        part = np.concatenate([X[4][start:stop] for start, stop in parts])
        np.testing.assert_array_equal(kept[4], extractor.transform([part])[0])
    end = [*X[:4], np.concatenate([X[4][:16_000], 0 * X[4][16_000:]])]
    np.testing.assert_array_equal(extractor.fit(end).transform([end[4]]), cut[[4]])
    assert not np.array_equal(heard.transform([end[4]]), found[[4]])


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_a_classifier_of_sounds_learns_from_windows(listener, freeze_depth):
    X, y = clips(), [0, 1, 0, 1, 0, 1]
    model = FineTunedClassifier(
        listener, sampling_rate=16_000, long_samples="windows", freeze_depth=freeze_depth, max_epochs=1, random_state=0
    ).fit(X, y)
    assert model.n_truncated_ == 0
    np.testing.assert_array_equal(np.vstack([model.predict_proba([x]) for x in X]), model.predict_proba(X))
    with pytest.warns(UserWarning, match="3 of 6 audio clips"):
        cut = clone(model).set_params(long_samples="truncate").fit(X, y)
    assert cut.n_truncated_ == 3


def test_what_an_extractor_hears_at_most_is_found_by_listening():
    whisper = AudioPreprocessing.of(transformers.WhisperFeatureExtractor())
    assert whisper.longest == 30 * 16_000
    spectrogram = AudioPreprocessing.of(transformers.ASTFeatureExtractor(max_length=100))
    assert spectrogram.longest == 400 + 160 * 99
    noise = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    assert torch.equal(spectrogram(noise[: spectrogram.longest]), spectrogram(noise))
    assert not torch.equal(spectrogram(noise[: spectrogram.longest - 1]), spectrogram(noise))
    assert AudioPreprocessing.of(transformers.Wav2Vec2FeatureExtractor()).longest is None


def test_what_cannot_read_windows_says_so(tmp_path):
    model = FineTunedClassifier("toy:text", freeze_depth=1.0, long_samples="windows", max_length=LENGTH).fit(TEXTS, Y)
    with pytest.raises(UnsupportedBackboneError, match="long_samples='windows' cannot be exported"):
        export_onnx(model, tmp_path / "model.onnx")
    windowed = load_backbone("toy:text", long_samples="windows", max_length=LENGTH)
    with pytest.raises(UnsupportedBackboneError, match="AdaptedBackbone learns from the beginning of each text"):
        AdaptedBackbone(windowed, objective="masked_lm").fit(TEXTS)
    with pytest.raises(ValueError, match=r"long_samples must be one of \('truncate', .*'windows'\), got 'drop'"):
        load_backbone("toy:text", long_samples="drop")


def test_windows_without_room_for_a_text_are_refused():
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_words(), cls_token="[CLS]", sep_token="[SEP]")
    with pytest.raises(UnsupportedBackboneError, match="max_length=2 leaves no room for a text beside the 2 tokens"):
        TextPreprocessing.of(tokenizer, 2, "windows")
    assert TextPreprocessing.of(tokenizer, 2)("w1 w2").tolist() == [0, 1]


def test_tokens_that_are_added_are_found_in_any_alphabet_and_the_side_that_is_cut_is_part_of_the_network():
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_words(), cls_token="[CLS]", sep_token="[SEP]")
    right = TextPreprocessing.of(tokenizer, 8)
    assert right.n_special == (1, 1)
    tokenizer.truncation_side = "left"
    assert TextPreprocessing.of(tokenizer, 8).tokenizer_hash != right.tokenizer_hash


@pytest.mark.parametrize("calibrate", [None, "temperature"])
def test_calibration_sees_what_predictions_see_and_leaves_the_labels(calibrate):
    X = [f"{'good' if i % 2 else 'bad'} text {i} of many words " * (1 + i % 4) for i in range(40)]
    model = FineTunedClassifier(
        "toy:text",
        freeze_depth=0.5,
        max_epochs=1,
        calibrate=calibrate,
        random_state=0,
        long_samples="windows",
        max_length=LENGTH,
        dtype="float32",
    ).fit(X, np.arange(40) % 2)
    probabilities = model.predict_proba(X)
    np.testing.assert_array_equal(model.predict(X), probabilities.argmax(1))
    if calibrate:
        model._task_.temperature, before = 8.0, model.predict(X)
        np.testing.assert_array_equal(model.predict(X), before)


def test_a_backbone_says_how_it_reads_unless_the_estimator_says_otherwise():
    windowed = load_backbone("toy:text", long_samples="windows", max_length=LENGTH)
    by_value = PretrainedFeatureExtractor(windowed, dtype="float32", cache=None)
    by_name = PretrainedFeatureExtractor("toy:text", max_length=LENGTH, dtype="float32", cache=None)
    np.testing.assert_array_equal(
        by_value.transform(TEXTS), clone(by_name).set_params(long_samples="windows").transform(TEXTS)
    )
    with pytest.warns(UserWarning, match="longer than max_length=32"):
        cut = by_value.set_params(long_samples="truncate").transform(TEXTS)
    np.testing.assert_array_equal(cut, by_name.set_params(long_samples="truncate").transform(TEXTS))


def test_a_file_of_sound_is_decoded_once_though_its_length_is_asked_for(listener, tmp_path, monkeypatch):
    paths = []
    for i, clip in enumerate(clips()):
        paths.append(str(tmp_path / f"{i}.wav"))
        soundfile.write(paths[-1], clip, 16_000)
    read, n_decoded = soundfile.SoundFile.read, [0]

    def counted(self, *args, **kwargs):
        n_decoded[0] += 1
        return read(self, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    with pytest.warns(UserWarning, match="3 of 6 audio clips"):
        model = FineTunedClassifier(listener, freeze_depth=1.0).fit(paths, [0, 1] * 3)
    with pytest.warns(UserWarning, match="3 of 6 audio clips"):
        model.predict(paths)
    assert n_decoded == [6]
