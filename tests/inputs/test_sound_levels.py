"""Audio as people have it: loud, integer, short, in stereo; decoded once, and told once."""

import io
import warnings

import numpy as np
import pytest
import soundfile
import torch
import transformers
from sklearn.model_selection import GridSearchCV

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor
from skltransfer.exceptions import BadSampleError

RATE = 8000


def features(X, **options):
    return PretrainedFeatureExtractor(
        "toy:audio", sampling_rate=RATE, dtype="float32", cache=None, **options
    ).transform(X)


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


def tone(hertz, n=1600):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)


def encoded(values, rate=RATE, **options):
    content = io.BytesIO()
    soundfile.write(content, values, rate, **options)
    return content.getvalue()


CODECS = [("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("WAV", "PCM_16"), ("FLAC", "PCM_16")]


@pytest.mark.parametrize("form", CODECS)
def test_loud_sounds_of_every_codec_are_read(form):
    n = np.arange(48_000) / 48_000
    loud = 0.99 * np.sign(np.sin(2 * np.pi * 220 * n)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * n))
    content = encoded(loud, 48_000, format=form[0], subtype=form[1])
    decoded = soundfile.read(io.BytesIO(content))[0]
    messages = told(lambda: features([content]))
    assert len(messages) == (np.abs(decoded).max() > 1)
    assert all("what is beyond was clipped. (1 of 1 samples: X[0])" in message for message in messages)


@pytest.mark.parametrize("scale", [2.0, 32768.0])
def test_floats_of_another_scale_are_refused_in_arrays_and_files(scale):
    for item in (scale * 2 * tone(300), encoded(scale * 2 * tone(300), format="WAV", subtype="FLOAT")):
        with pytest.raises(BadSampleError, match=r"X\[0\].*floats up to .*scale them to \[-1, 1\]"):
            features([item])


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_sixteen_bits_in_wider_integers_are_told_once(kind):
    X = [np.int16(32767 * tone(hertz)).astype(kind) for hertz in (300, 900, 1500)]
    (message,) = told(lambda: features(X))
    assert "holds no value beyond 16 bits" in message
    assert "X.astype('int16')" in message
    full = [(np.int64(x) * 2 ** (16 if kind is np.int32 else 48)).astype(kind) for x in X]
    assert not told(lambda: features(full))
    np.testing.assert_allclose(features(full), features([x.astype(np.int16) for x in X]), atol=1e-5)


def wav2vec2(folder):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    small |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "conv_dim": (16,) * 7}
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**small)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return f"hf:{folder}"


@pytest.mark.parametrize("n", [1, 399, 400])
def test_a_clip_shorter_than_the_first_window_is_refused_by_row(tmp_path, n):
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    extractor = PretrainedFeatureExtractor(wav2vec2(tmp_path), sampling_rate=16_000, cache=None)
    if n == 400:
        assert extractor.transform([noise, noise[:n]]).shape == (2, 32)
        return
    with pytest.raises(BadSampleError, match=rf"X\[1\].*{n} samples at 16000 Hz, and the network needs 400 or more"):
        extractor.transform([noise, noise[:n]])
    filled = extractor.set_params(on_bad_sample="nan").transform([noise, noise[:n]])
    assert np.isnan(filled).any(axis=1).tolist() == [False, True]


def test_a_clip_shorter_than_a_spectrograms_frame_is_refused_by_row(tmp_path):
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    small |= {"max_length": 32, "num_mel_bins": 16}
    transformers.ASTModel(transformers.ASTConfig(**small)).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=32, num_mel_bins=16).save_pretrained(tmp_path)
    extractor = PretrainedFeatureExtractor(f"hf:{tmp_path}", sampling_rate=16_000, cache=None)
    with pytest.raises(BadSampleError, match=r"X\[1\].*9 samples at 16000 Hz, and the network needs \d+ or more"):
        extractor.transform([np.zeros(4000), np.zeros(9)])


def test_channels_that_cancel_are_told():
    stereo = np.column_stack([tone(300), -tone(300)])
    for item in (stereo, encoded(stereo, format="WAV")):
        assert "channels that cancel each other" in told(lambda item=item: features([item]))[0]
    assert not told(lambda: features([np.column_stack([tone(300), tone(500)])]))
    assert not told(lambda: features([np.column_stack([tone(300), 0 * tone(300)])]))
    assert not told(lambda: features([np.zeros((900, 2))]))


def test_a_rate_in_kilohertz_is_refused():
    extractor = PretrainedFeatureExtractor("toy:audio", sampling_rate=16)
    with pytest.raises(BadSampleError, match=r"a rate of 16 Hz. Fix: .*in Hz and not in kHz"):
        extractor.transform([tone(300)])


@pytest.mark.parametrize(
    ("item", "cause"),
    [
        ((RATE, tone(300)), r"a rate before an array. Fix: pass \(array, rate\), in this order"),
        ({"array": tone(300), "rate": RATE}, r"a dict with the keys .*pass \(item\['array'\]"),
        (io.BytesIO(b"RIFF"), "an open file. Fix: pass its path, or its bytes"),
    ],
)
def test_what_comes_near_a_sound_is_told_what_to_pass(item, cause):
    with pytest.raises(BadSampleError, match=rf"X\[1\].*{cause}"):
        features([tone(300), item])


def test_hundreds_of_clipped_sounds_give_one_warning_and_a_search_no_more():
    sounds = [np.clip(3 * np.sin(np.arange(800) * (0.1 + 0.001 * i)), -1, 1) for i in range(60)]
    (message,) = told(lambda: features(sounds))
    assert "60 of 60 samples: X[0], X[1], X[2] and 57 more" in message
    model = FineTunedClassifier("toy:audio", sampling_rate=RATE, freeze_depth=1.0)
    others = [sound[:700] for sound in sounds]
    search = GridSearchCV(model, {"C": [0.01, 0.1]}, cv=3)
    messages = told(lambda: search.fit(others, [0, 1] * 30))
    assert len([message for message in messages if "clipped" in message]) <= 2  # of the first fold, and of the rest


def test_a_file_of_sound_is_decoded_once_in_a_search(tmp_path, monkeypatch):
    paths = []
    for i in range(12):
        paths.append(str(tmp_path / f"{i}.ogg"))
        soundfile.write(paths[-1], tone(300 + 50 * i, 4000), RATE)
    read, n_decoded = soundfile.SoundFile.read, [0]

    def counted(self, *args, **kwargs):
        n_decoded[0] += 1
        return read(self, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    model = FineTunedClassifier("toy:audio", freeze_depth=1.0, cache=ActivationStore())
    GridSearchCV(model, {"C": [0.01, 0.1, 1.0]}, cv=3).fit(paths, [0, 1] * 6)
    assert n_decoded == [12]


def test_twenty_four_bits_in_wider_integers_are_told():
    X = [np.int32(2**23 * 0.9 * tone(hertz)) for hertz in (300, 900)]
    (message,) = told(lambda: features(X))
    assert "no value beyond 24 bits" in message
    assert "X / 2**23" in message


def test_sounds_in_lists_of_numbers_are_read():
    X = [tone(300), tone(900)]
    np.testing.assert_array_equal(features([x.tolist() for x in X]), features(X))
