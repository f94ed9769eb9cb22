"""Sound as phones record it: AAC and ALAC in M4A, MP4 and alone."""

import io
import sys

import av
import numpy as np
import pytest
from phones import TABLES, boxes, changed, m4a, with_header_first
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load
from skltransfer.exceptions import BadSampleError, MissingDependencyError
from skltransfer.inputs import _audio
from skltransfer.inputs._audio import AudioSamples
from skltransfer.inputs._mp4 import MAX_PACKETS, Mp4Audio

RATE = 8000


def chirp(seconds=1.0, rate=RATE, start=200):
    time = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (start + 300 * time) * time)).astype(np.float32)


def read(item, rate=RATE):
    samples = AudioSamples([item], rate=rate)
    waveform = samples.read(0)
    samples.tell_remarks([b""])
    return waveform


def features(X, **parameters):
    return PretrainedFeatureExtractor("toy:audio", dtype="float32", cache=None, **parameters).transform(X)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [8000, 7683, 8192, 700])
@pytest.mark.parametrize("form", ["mp4", "ipod", "mov"])
def test_aac_is_read_without_what_the_encoder_puts_before_and_after_it(form, n):
    expected = chirp(2)[:n]
    found = read(m4a(expected, form=form))
    assert n <= len(found) <= n + RATE / 1000  # a millisecond, to which these files say how long they are
    assert np.corrcoef(found[:n], expected)[0, 1] > 0.99


@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_sound_is_exact(channels):
    values = np.stack([chirp(), chirp(start=300)][:channels], axis=1)
    found = read(m4a(values[:, 0] if channels == 1 else values, codec="alac"))
    np.testing.assert_allclose(found, values.mean(axis=1), atol=1e-6)


def test_the_channels_are_averaged():
    pair = np.stack([chirp(), chirp(start=300)], axis=1)
    assert np.corrcoef(read(m4a(pair)), pair.mean(axis=1))[0, 1] > 0.99
    with pytest.warns(UserWarning, match="channels that cancel each other"):
        read(m4a(np.stack([chirp(), -chirp()], axis=1)))


def test_aac_without_a_container_begins_with_what_the_encoder_puts_first():
    found = read(m4a(chirp(), form="adts"))
    assert np.corrcoef(found[1024 : 1024 + RATE], chirp())[0, 1] > 0.99


def test_another_rate_is_resampled():
    found = read(m4a(chirp(rate=44_100), rate=44_100))
    assert len(found) == RATE
    assert np.corrcoef(found, chirp())[0, 1] > 0.99


def test_a_film_is_heard(tmp_path):
    with av.open(str(tmp_path / "film.mp4"), "w") as file:
        frames, sound = file.add_stream("mpeg4", rate=10), file.add_stream("aac", rate=RATE, layout="mono")
        frames.width = frames.height = 16
        for _ in range(10):
            file.mux(frames.encode(av.VideoFrame(16, 16, "yuv420p")))
        file.mux(frames.encode(None))
        part = av.AudioFrame.from_ndarray(chirp()[None, :1024], format="fltp", layout="mono")
        part.sample_rate, part.pts = RATE, 0
        file.mux([*sound.encode(part), *sound.encode(None)])
    assert len(read(tmp_path / "film.mp4")) == 1024


def test_of_several_tracks_the_main_one_is_read():
    with pytest.warns(UserWarning, match=r"several audio tracks; the main one is read.*X\[0\]"):
        assert np.corrcoef(read(m4a(chirp(), chirp(start=900))), chirp())[0, 1] > 0.99


def test_a_recording_that_breaks_off_is_read_as_far_as_it_goes():
    content = with_header_first(m4a(chirp()))
    assert len(read(content)) == RATE
    with pytest.warns(UserWarning, match=r"shorter than its header says.*X\[0\]"):
        found = read(content[: len(content) // 2])
    assert 1024 < len(found) < 6000
    assert np.corrcoef(found, chirp()[: len(found)])[0, 1] > 0.99


def _silent_film():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        file.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def _damaged(content):
    """An MP4 file with another content of some packets."""
    start, end = boxes(content, b"mdat")
    middle = (start + end) // 2
    return content[:middle] + bytes(500) + content[middle + 500 :]


def _with_a_fragment(content, n_packets):
    """An MP4 file that goes on in a second box of headers."""
    fragment = b""
    for name, rest in ((b"trun", n_packets.to_bytes(4, "big")), (b"traf", b""), (b"moof", b"")):
        inner = bytes(4) + rest if name == b"trun" else fragment
        if name == b"traf":
            inner = (16).to_bytes(4, "big") + b"tfhd" + bytes(4) + (1).to_bytes(4, "big") + fragment
        fragment = (8 + len(inner)).to_bytes(4, "big") + name + inner
    return content + fragment


def _of_hours(content):
    """An MP4 file whose header claims a thousand times as much time."""
    content = changed(content, (*TABLES, b"stts"), 12, 1024 * 1000).replace(b"edts", b"free")
    return changed(content, (*TABLES[:3], b"mdhd"), 16, 10**7)


WHOLE = m4a(chirp())
BAD = {
    "no header": (WHOLE[: len(WHOLE) // 2], "no audio that can be read .*Invalid data found"),
    "the first box": (WHOLE[:28], "no audio that can be read"),
    "zeros in the middle": (_damaged(WHOLE), "damaged audio .*Invalid data found.*replace it or drop the row"),
    "a frame of AAC and a page": (m4a(chirp(), form="adts")[:20] + b"<html>" * 99, "no audio that can be read"),
    "no sound": (_silent_film(), "no audio that can be read .*no audio track"),
    "another codec": (m4a(chirp(rate=48_000), rate=48_000, codec="ac3"), "encoded as ac3, not as aac or alac"),
    "hours": (_of_hours(WHOLE), "more than 600 seconds by its header"),
    "millions of packets": (changed(WHOLE, (*TABLES, b"stsz"), 4, 1, 10**7), "its header claims 10,000,000 packets"),
    "millions in fragments": (_with_a_fragment(WHOLE, 10**7), "its header claims 10,000,000 packets"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_named_by_its_row(kind):
    item, cause = BAD[kind]
    with pytest.raises(BadSampleError, match=rf"^X\[1\] \(.*\): .*{cause}"):
        features([WHOLE, item])
    found = features([WHOLE, item], on_bad_sample="nan")
    assert np.isnan(found).all(axis=1).tolist() == [False, True]


def test_sound_that_does_not_say_how_long_it_is_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(_audio, "MAX_SECONDS", 1)
    with pytest.raises(BadSampleError, match="more than 1 seconds. Fix: cut it into pieces"):
        read(m4a(chirp(3), form="adts"))
    monkeypatch.setattr(_audio, "MAX_VALUES", 3000)
    with pytest.raises(BadSampleError, match="more than 3,000 values. Fix: cut it into pieces"):
        read(m4a(chirp(0.6), form="adts"))


def test_no_recording_of_ten_minutes_has_too_many_packets():
    assert MAX_PACKETS > 600 * (96_000 / 1024 + 240)


def test_a_recording_is_decoded_once_per_process(monkeypatch):
    read_file, n_reads = Mp4Audio.read, []
    monkeypatch.setattr(Mp4Audio, "read", lambda *args: n_reads.append(1) or read_file(*args))
    X = [m4a(chirp(start=start)) for start in (200, 400, 600)]
    extractor = PretrainedFeatureExtractor("toy:audio")
    first = extractor.transform(X)
    n_first = len(n_reads)
    np.testing.assert_array_equal(extractor.transform(X), first)
    assert len(n_reads) == n_first


def test_the_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"need the library av.*'skltransfer\[m4a\]'"):
        features([WHOLE], on_bad_sample="nan")


def test_the_library_of_other_formats_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert len(read(WHOLE)) == RATE


@pytest.mark.parametrize("brand", [b"avif", b"heic"])
def test_an_image_in_the_same_container_is_no_sound(brand, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadSampleError, match=r"X\[1\] .*no audio that can be read"):
        features([(chirp(), RATE), WHOLE.replace(b"isom", brand)])


def test_other_estimators_are_told_that_this_is_sound():
    with pytest.raises(ValueError, match="The backbone reads images, but X looks like audio clips"):
        PretrainedFeatureExtractor("toy:images").transform(["memo.m4a", "b.M4A"])


def test_voice_memos_are_searched_saved_and_loaded(tmp_path):
    X, y = [m4a(chirp(0.3, start=start)) for start in (200, 1500, 250, 1600, 220, 1550)], ["low", "high"] * 3
    model = make_pipeline(FineTunedClassifier("toy:audio", max_epochs=1, dtype="float32", random_state=0))
    search = GridSearchCV(model, {"finetunedclassifier__freeze_depth": [1.0, 0.5]}, cv=3, error_score="raise")
    found = search.fit(X, y).predict(X)
    search.best_estimator_[-1].save(tmp_path / "model")
    paths = [tmp_path / f"{i}.m4a" for i in range(6)]
    for path, content in zip(paths, X, strict=True):
        path.write_bytes(content)
    np.testing.assert_array_equal(load(tmp_path / "model").predict(paths), found)
