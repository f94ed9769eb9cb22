"""Sounds in every container, and what is wrong with some of them."""

import contextlib
import io
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor
from skltransfer.exceptions import BadSampleError, MissingDependencyError, MissingSampleError
from skltransfer.inputs._audio import AudioSamples

RATE = 8000


def tone(hertz=440, seconds=0.2, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(values, rate=RATE, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format=options.pop("format", "WAV"), **options)
    return buffer.getvalue()


def features(X, **parameters):
    shared = {"dtype": "float32", "cache": None, "sampling_rate": RATE}
    return PretrainedFeatureExtractor("toy:audio", **{**shared, **parameters}).transform(X)


def read(item, **options):
    samples = AudioSamples([item], rate=RATE, **options)
    waveform = samples.read(0)
    samples.tell_remarks([b""])
    return waveform


@pytest.fixture
def tones():
    """Of different lengths, with values that 16 bits hold exactly."""
    return [np.rint(tone(300 + 100 * i, 0.1 + 0.05 * i) * 32768).astype(np.int16) for i in range(4)]


def test_every_container_gives_the_same_features(tones, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(4)]
    for path, values in zip(paths, tones, strict=True):
        path.write_bytes(wav(values))
    objects = np.empty(4, dtype=object)
    objects[:] = tones
    containers = {
        "floats": [values / 32768 for values in tones],
        "object array": objects,
        "array and rate": [(values, RATE) for values in tones],
        "int32": [values.astype(np.int32) * 65536 for values in tones],
        "paths": paths,
        "names": [str(path) for path in paths],
        "bytes": [path.read_bytes() for path in paths],
        "flac": [wav(values, format="FLAC") for values in tones],
        "stereo": [np.stack([values, values], axis=1) for values in tones],
        "channels first": [np.stack([values, values]) for values in tones],
        "stereo file": [wav(np.stack([values, values], axis=1)) for values in tones],
        "Series": pd.Series([str(path) for path in paths]),
    }
    expected = features(tones)
    assert expected.shape == (4, 32)
    for name, X in containers.items():
        np.testing.assert_allclose(features(X), expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF", "AU"])
def test_the_formats_that_people_have_are_read(kind):
    assert np.abs(read(wav(tone(seconds=1), format=kind))[1000:7000] - tone(seconds=1)[1000:7000]).max() < 0.1


def test_an_mp3_behind_a_tag_is_read():
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    assert len(read(tag + wav(tone(), format="MP3"))) > 0


@pytest.mark.parametrize("kind", ["CAF", "MAT5", "VOC", "NIST", "IRCAM", "SVX"])
def test_no_other_format_reaches_its_reader(kind, monkeypatch):
    content = wav(np.rint(tone() * 100).astype(np.int16), format=kind, subtype="PCM_16")
    monkeypatch.setattr(soundfile, "SoundFile", None)
    with pytest.raises(BadSampleError, match=r"X\[0\].*no audio that can be read .starts with.*AIFF, AU, M4A"):
        read(content)


def test_sounds_of_one_length_are_an_array(rng):
    X = rng.uniform(-0.5, 0.5, (3, 800)).astype(np.float32)
    np.testing.assert_array_equal(features(X), features(list(X)))


def test_another_rate_is_resampled():
    slow, fast = read((tone(rate=8000), 8000)), read((tone(rate=44_100), 44_100))
    assert abs(len(slow) - len(fast)) <= 1
    assert np.abs(slow[50:-50] - fast[50 : len(slow) - 50]).max() < 0.01
    assert len(read(wav(tone(rate=16_000), 16_000))) == len(slow)


BAD = {
    "empty file": (b"", "it is empty. Fix: replace it"),
    "not sound": (b"<html>404</html>", "no audio that can be read .starts with '<html>404</"),
    "missing file": ("no/such.wav", "no such file.*relative paths start at"),
    "no samples": (np.zeros(0, np.float32), "no samples. Fix: drop the row"),
    "empty wav": (wav(np.zeros(0, np.int16)), "no samples. Fix: drop the row"),
    "nan": (np.full(100, np.nan, np.float32), "values that are NaN or infinite"),
    "loud floats": (np.full(100, 7.0), r"floats up to 7. Fix: scale them to \[-1, 1\], or pass int16"),
    "number": (3, "not an audio clip. Fix: pass a path, bytes, an array"),
    "three dimensions": (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\) is not that of an audio clip"),
    "words": (np.array(["a"]), "values of type"),
    "no rate": ((tone(), 0), "a rate of 0 Hz"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sound_is_named_with_its_row_the_cause_and_the_remedy(kind, tones):
    item, cause = BAD[kind]
    with pytest.raises(BadSampleError, match=rf"X\[2\] \(.*\): {cause}"):
        features([*tones[:2], item])


def test_a_header_that_claims_gigabytes_is_not_believed():
    content = bytearray(wav(np.rint(tone() * 32768).astype(np.int16)))
    content[4:8] = (2**31 - 1).to_bytes(4, "little")
    content[40:44] = (2**31 - 37).to_bytes(4, "little")
    with pytest.warns(UserWarning, match=r"shorter than its header says.*X\[0\]"):
        assert len(read(bytes(content))) <= 1600


@pytest.mark.parametrize("rate", [1e-300, 0.5, -8000, 1e300, float("inf"), float("nan")])
def test_a_rate_that_no_sound_has_is_refused(rate):
    with pytest.raises(BadSampleError, match=r"X\[0\].*a rate of .* Hz. Fix: pass the number of samples per second"):
        read((tone(), rate))


def test_an_array_of_hours_is_refused():
    with pytest.raises(
        BadSampleError, match=r"X\[0\].*more than 600 seconds. Fix: cut it into pieces, or mend its rate"
    ):
        read((tone(), 2))


def test_hours_of_sound_are_refused_by_their_header():
    with pytest.raises(BadSampleError, match="more than 600 seconds by its header. Fix: cut it into pieces"):
        read(wav(np.zeros(601 * 100, np.int16), rate=100))


def test_an_array_without_a_rate_is_refused(tones):
    with pytest.raises(BadSampleError, match=r"X\[0\].*an array without a rate. Fix: set sampling_rate="):
        features(tones, sampling_rate=None)


def test_a_truncated_file_is_read_as_far_as_it_goes_with_a_warning():
    content = wav(np.rint(tone(seconds=1.0) * 32768).astype(np.int16))
    with pytest.warns(UserWarning, match=r"shorter than its header says.*X\[0\]"):
        assert len(read(content[: len(content) // 2])) < 4100


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_header_may_ask_for_a_place_before_the_first():
    content = bytearray(wav(tone(), format="AIFF"))
    content[36:40] = b"\x7f\xff\xff\xff"
    with contextlib.suppress(BadSampleError):
        read(bytes(content))


@pytest.mark.parametrize("kind", ["float16", ">f4", ">f8", "longdouble", ">i2"])
@pytest.mark.parametrize("rate", [RATE, 16_000])
def test_arrays_of_any_precision_and_byte_order_are_read(kind, rate):
    values = tone(rate=rate) if kind != ">i2" else np.rint(tone(rate=rate) * 32768)
    np.testing.assert_allclose(read((values.astype(kind), rate)), read((tone(rate=rate), rate)), atol=1e-3)


def test_an_array_of_channels_without_samples_is_refused():
    with pytest.raises(BadSampleError, match=r"X\[0\].*shape \(0, 2\) is not that of an audio clip"):
        read((np.zeros((0, 2)), RATE))


def test_a_clipped_sound_is_told():
    with pytest.warns(UserWarning, match=r"Audio is clipped.*X\[0\]"):
        read((np.clip(tone() * 9, -1, 1), RATE))


def test_a_missing_sound_is_named(tones):
    with pytest.raises(MissingSampleError, match=r"X\[1\].*missing value"):
        features([tones[0], None])


def test_what_a_sound_is_given_does_not_depend_on_its_neighbours(tones):
    alone = np.vstack([features([values]) for values in tones])
    np.testing.assert_array_equal(features(tones), alone)


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingDependencyError, match=r"need the library soundfile.*pip install 'skltransfer\[audio\]'"):
        features([b"RIFF"])


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
def test_high_and_low_tones_are_told_apart(freeze_depth):
    X = [tone(hertz, 0.1 + 0.01 * i) for i in range(8) for hertz in (200 + 10 * i, 1500 + 50 * i)]
    model = FineTunedClassifier(
        "toy:audio", freeze_depth=freeze_depth, sampling_rate=RATE, C=1.0, max_epochs=3, random_state=0
    )
    assert model.fit(X, ["low", "high"] * 8).score(X, ["low", "high"] * 8) > 0.9
