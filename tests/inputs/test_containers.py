"""Whichever container X comes in, it gives what a list gives, or is refused by name with what to pass instead.

The property is tried on containers × modalities × estimators × methods: nothing is ever shifted, shortened or read by
its keys.
"""

import collections
import io
import pathlib

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import soundfile
import torch
from conftest import png
from PIL import Image

from skltransfer import (
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
)
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import contained

N = 6
Y = [0, 1] * (N // 2)


def wav(i):
    content = io.BytesIO()
    soundfile.write(content, 0.5 * np.sin(np.arange(800) * (0.1 + 0.05 * i)), 8000, format="WAV")
    return content.getvalue()


PHOTOS = list(np.random.default_rng(0).integers(0, 256, (N, 12, 16, 3), dtype=np.uint8))
SAMPLES = {
    "text": [f"a {'good' if i % 2 else 'bad'} film, number {i}" for i in range(N)],
    "image": [png(photo) for photo in PHOTOS],
    "audio": [wav(i) for i in range(N)],
}
BACKBONES = {"text": "toy:text", "image": "toy:images", "audio": "toy:audio"}


class Rows:
    """A map-style data set: a length and rows, and an error of its own past the end."""

    def __init__(self, items):
        self.items = dict(enumerate(items))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def objects(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


READ = {
    "tuple": tuple,
    "deque": collections.deque,
    "UserList": collections.UserList,
    "data set": Rows,
    "array of objects": objects,
    "column of objects": lambda X: objects(X).reshape(-1, 1),
    "Series": pd.Series,
    "Series with an index of its own": lambda X: pd.Series(X, index=range(100, 100 - len(X), -1)),
    "Series of categories": lambda X: pd.Series(X, dtype="category"),
    "Index": pd.Index,
    "DataFrame": lambda X: pd.DataFrame({"sample": X}, index=list("zyxwvu")),
    "DataFrame with a number for a name": lambda X: pd.DataFrame({0: X}),
    "polars Series": lambda X: pl.Series("sample", X),
    "polars DataFrame": lambda X: pl.DataFrame({"sample": X}),
    "pyarrow array": pa.array,
    "pyarrow chunks": lambda X: pa.chunked_array([X[:2], X[2:]]),
    "bytearrays": lambda X: [bytearray(x) if isinstance(x, bytes) else x for x in X],
    "memoryviews": lambda X: [memoryview(x) if isinstance(x, bytes) else x for x in X],
}
REFUSED = {
    "generator": lambda X: (x for x in X),
    "map": lambda X: map(str, range(len(X))),
    "list_iterator": iter,
    "zip": lambda X: zip(X, X, strict=True),
    "enumerate": enumerate,
    "BytesIO": lambda X: io.BytesIO(b"a line\nanother\n"),
    "dict": lambda X: dict(enumerate(X)),
    "Counter": collections.Counter,
    "dict_values": lambda X: dict(enumerate(X)).values(),
    "dict_keys": lambda X: dict.fromkeys(X).keys(),
    "set": set,
    "frozenset": frozenset,
    "DataLoader": lambda X: torch.utils.data.DataLoader(X),
    "LazyFrame": lambda X: pl.LazyFrame({"sample": X}),
    "Table": lambda X: pa.table({"sample": X}),
    "MaskedArray": lambda X: np.ma.masked_array(objects(X), mask=[True] + [False] * (len(X) - 1)),
}


def estimators(modality):
    backbone, few = BACKBONES[modality], {"freeze_depth": 1.0, "dtype": "float32"}
    yield PretrainedFeatureExtractor(backbone, dtype="float32"), Y
    yield FineTunedClassifier(backbone, **few), Y
    yield FineTunedRegressor(backbone, **few), [float(y) for y in Y]
    yield FewShotClassifier(backbone, dtype="float32"), Y
    yield MultiTaskFineTuner(backbone, **few), pd.DataFrame({"a": Y, "b": [f"{y}" for y in Y]})


def methods(estimator):
    return [name for name in ("predict", "predict_proba", "transform") if hasattr(estimator, name)]


def answers(estimator, X):
    return {name: _flat(getattr(estimator, name)(X)) for name in methods(estimator)}


def _flat(answer):
    if isinstance(answer, pd.DataFrame):
        return answer.to_numpy().tolist()
    parts = answer if isinstance(answer, list) else [answer]
    return [None if part is None else np.asarray(part).tolist() for part in parts]


@pytest.mark.parametrize("modality", SAMPLES)
@pytest.mark.parametrize("container", READ)
def test_a_container_gives_what_a_list_gives(modality, container):
    X = SAMPLES[modality]
    for estimator, y in estimators(modality):
        expected = answers(estimator.fit(X, y), X)
        assert answers(estimator, READ[container](X)) == expected
        assert answers(estimator.fit(READ[container](X), y), READ[container](X)) == expected


@pytest.mark.parametrize("modality", SAMPLES)
@pytest.mark.parametrize("container", REFUSED)
def test_what_has_no_order_or_length_is_refused_by_name_with_what_to_pass(modality, container):
    X = SAMPLES[modality]
    for estimator, y in estimators(modality):
        with pytest.raises(ValueError, match=rf"Expected a list, array or column .*{container}.*(Pass|Choose)"):
            estimator.fit(REFUSED[container](X), y)
        estimator.fit(X, y)
        for method in methods(estimator):
            with pytest.raises(ValueError, match=rf"Expected a list, array or column .*{container}.*(Pass|Choose)"):
                getattr(estimator, method)(REFUSED[container](X))


@pytest.mark.parametrize("modality", SAMPLES)
def test_an_iterator_that_is_refused_is_left_as_it_was(modality):
    rows = iter(SAMPLES[modality])
    with pytest.raises(ValueError, match=r"can be read only once. Pass list\(X\)"):
        PretrainedFeatureExtractor(BACKBONES[modality]).transform(rows)
    assert len(list(rows)) == N


@pytest.mark.parametrize("modality", SAMPLES)
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("container", ["tuple", "array of objects", "Series", "DataFrame", "column of objects"])
def test_a_missing_sample_is_missing_in_the_first_row_as_in_any_other(modality, missing, row, container):
    X = list(SAMPLES[modality])
    X[row] = missing
    extractor = PretrainedFeatureExtractor(BACKBONES[modality], missing="zero", dtype="float32")
    expected = extractor.transform(SAMPLES[modality])
    expected[row] = 0
    np.testing.assert_array_equal(extractor.fit(READ[container](X)).transform(READ[container](X)), expected)
    with pytest.raises(BadSampleError, match=rf"X\[{row}\].*missing value"):
        extractor.set_params(missing="raise").transform(READ[container](X))


@pytest.mark.parametrize("modality", SAMPLES)
def test_a_frame_of_missing_samples_alone_is_a_frame_of_samples(modality):
    extractor = PretrainedFeatureExtractor(BACKBONES[modality], missing="zero").fit(
        pd.DataFrame({"a": SAMPLES[modality]})
    )
    for nothing in ([None], [np.nan], [pd.NA]):
        assert not extractor.transform(pd.DataFrame({"a": nothing})).any()


BAD_FIRST = {"image": object(), "text": 3.5j, "audio": object()}


@pytest.mark.parametrize("modality", SAMPLES)
@pytest.mark.parametrize("row", [0, 1])
def test_an_element_that_fails_is_named_by_row_the_first_like_all_others(modality, row):
    X = list(SAMPLES[modality])
    X[row] = BAD_FIRST[modality]
    with pytest.raises(BadSampleError, match=rf"^X\[{row}\].*Fix: "):
        PretrainedFeatureExtractor(BACKBONES[modality]).transform(X)
    filled = PretrainedFeatureExtractor(BACKBONES[modality], on_bad_sample="nan").transform(X)
    assert np.flatnonzero(np.isnan(filled).any(axis=1)).tolist() == [row]


ONE_IMAGE = {
    "colour": np.zeros((64, 48, 3), np.uint8),
    "with opacity": np.full((64, 48, 4), 255, np.uint8),
    "grey": np.zeros((64, 48, 1), np.uint8),
    "tensor": torch.zeros(64, 48, 3, dtype=torch.uint8),
}


@pytest.mark.parametrize("kind", ONE_IMAGE)
def test_one_picture_is_not_a_stack_of_grey_ones(kind):
    extractor = PretrainedFeatureExtractor("toy:images")
    for method in (extractor.transform, extractor.fit, extractor.fit(PHOTOS).transform):
        with pytest.raises(ValueError, match=r"that of one image with its channels. Pass it in a list: \[image\]"):
            method(ONE_IMAGE[kind])
    assert extractor.transform([ONE_IMAGE[kind]]).shape == (1, 32)


def test_what_fit_saw_is_what_predict_must_see():
    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(PHOTOS, Y)
    assert model.input_kind_ == "samples"
    flat = np.stack(PHOTOS).reshape(N, -1) / 255
    with pytest.raises(ValueError, match=r"fit saw a collection of images, but X is a table .*\(6, 576\).*image_shape"):
        model.predict(flat)
    with pytest.raises(ValueError, match=r"fit saw a collection of images, but X is a table .*\(12, 16\)"):
        model.predict(PHOTOS[0][..., 0])
    table = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(flat, Y)
    with pytest.raises(ValueError, match="fit saw a table of 576 columns, but X is a collection of images"):
        table.predict(PHOTOS)
    shaped = FineTunedClassifier("toy:images", freeze_depth=1.0, image_shape=(12, 16, 3)).fit(flat, Y)
    np.testing.assert_array_equal(shaped.predict(PHOTOS), shaped.predict(flat))


def test_several_columns_are_refused_with_their_names():
    mixed = {"a": [1.0], "b": ["y"]}
    for backbone in BACKBONES.values():
        for frame in (pd.DataFrame(mixed), pl.DataFrame(mixed), np.array([[1.0, "y"]], dtype=object)):
            with pytest.raises(ValueError, match=r"alone, got 2: .*, of which \[('a'|0)\] hold numbers. Choose one"):
                PretrainedFeatureExtractor(backbone).transform(frame)
    for frame in (pd.DataFrame({"a": ["x"], "b": ["y"]}), pl.DataFrame({"a": ["x"], "b": ["y"]})):
        for backbone in ("toy:images", "toy:audio"):
            with pytest.raises(ValueError, match=r"Expected one column of samples, got 2: \['a', 'b'\]"):
                FineTunedClassifier(backbone).fit(frame, [0])


def test_columns_of_equal_names_are_counted_not_merged():
    frame = pd.DataFrame([["a", "b", "c"]], columns=["text"] * 3)
    with pytest.raises(ValueError, match=r"got 3: \['text', 'text', 'text'\]"):
        FineTunedClassifier("toy:text").fit(frame, [0])


@pytest.mark.parametrize("X", [["a good film"], ["yes or no", "a long and winding/forking road to nowhere"]])
def test_texts_given_to_a_backbone_of_pictures_or_sounds_are_named_once(X):
    for backbone in ("toy:images", "toy:audio"):
        with pytest.raises(ValueError, match=r"X looks like texts, such as .*backbone='bundled:minilm'") as caught:
            PretrainedFeatureExtractor(backbone).transform(X)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [list, np.array, lambda X: pd.DataFrame({"review": X}), lambda X: pd.Series(X)])
@pytest.mark.parametrize(
    "X", [["I loved it", "bad film"], ["bad film.", "version 1.0"], ["you should really see example.com", "great"]]
)
def test_texts_are_named_in_each_container_with_what_to_type(make, X):
    says = r"reads images, but X looks like texts, such as .*\. Choose .*'bundled:minilm', or pass paths of image files"
    with pytest.raises(ValueError, match=says) as caught:
        FineTunedClassifier("toy:images").fit(make(X * 5), [1, 0] * 5)
    assert "\n" not in str(caught.value)


def test_a_word_that_is_no_file_may_be_a_text():
    says = r"X\[0\] \('good'\): no such file\. Fix: .*; if it is a text, choose a backbone .*'bundled:minilm'"
    with pytest.raises(BadSampleError, match=says):
        FineTunedClassifier("toy:images").fit(["good", "bad"] * 5, [1, 0] * 5)
    with pytest.raises(BadSampleError) as caught:
        FineTunedClassifier("toy:images").fit(["photos/a.png", "photos/b.png"] * 5, [1, 0] * 5)
    assert "minilm" not in str(caught.value)


IMAGES = {
    "paths": ["photos/cats/1.jpg", "photos/dogs/2.JPG"],
    "path objects": [pathlib.Path("a.png"), pathlib.Path("b.png")],
    "bytes": [b"\x89PNG\r\n", b"\xff\xd8\xff\xe0"],
    "arrays": [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8), np.uint8)],
    "one array": np.zeros((2, 8, 8, 3), np.uint8),
    "PIL images": [Image.new("RGB", (8, 8)), Image.new("L", (8, 8))],
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_given_to_a_backbone_of_texts_are_named_once_with_what_to_type(kind):
    says = "reads texts, but X looks like images, such as .*backbone='bundled:efficientnet-lite0'"
    with pytest.raises(ValueError, match=says) as caught:
        FineTunedClassifier("toy:text").fit(IMAGES[kind], [1, 0])
    assert "\n" not in str(caught.value)
    if kind not in ("arrays", "path objects"):
        with pytest.raises(ValueError, match="reads audio clips, but X looks like images"):
            FineTunedClassifier("toy:audio").fit(IMAGES[kind], [1, 0])


def test_sounds_are_named_with_a_backbone_that_hears():
    clips = [np.zeros(800, np.float32), np.zeros(900, np.float32)]
    for backbone in ("toy:images", "toy:text"):
        with pytest.raises(ValueError, match="X holds rows of 800 to 900 numbers, .*'hf:openai/whisper-base'"):
            FineTunedClassifier(backbone).fit(clips, [1, 0])
        with pytest.raises(ValueError, match="X looks like audio clips, such as 'a.wav'.*'hf:openai/whisper-base'"):
            FineTunedClassifier(backbone).fit(["a.wav", "b.mp3"], [1, 0])


def test_texts_that_speak_of_files_are_texts():
    for X in (["see cat.jpg", "dog.png is nice"], ["cat.jpg", "a dog"], ["name.com", "b.pdf"]):
        assert contained(X, "text").items == X


def test_a_folder_is_named_as_what_it_is(tmp_path):
    (tmp_path / "cats").mkdir()
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match="got the folder .*X, y = load_image_folder") as caught:
            PretrainedFeatureExtractor("toy:images").transform(folder)
        assert f"load_image_folder({str(tmp_path)!r})" in str(caught.value)
    for sample in (tmp_path / "cats", f"{tmp_path}/cats", f"{tmp_path}/cats/"):
        with pytest.raises(BadSampleError, match=r"X\[0\] .*: a folder\. Fix: .*load_image_folder") as caught:
            PretrainedFeatureExtractor("toy:images").transform([sample])
        assert f"X, y = load_image_folder({str(tmp_path)!r})" in str(caught.value)


TABLES = {
    "nested list": [[0.0, 1.0], [1.0, 0.0]],
    "list of rows": [np.array([0.0, 1.0]), np.array([1.0, 0.0])],
    "frame": pd.DataFrame({"a": [0.0, 1.0], "b": [1, 0]}),
    "frame of objects": pd.DataFrame({"a": [0.0, 1.0], "b": [1, 0]}, dtype=object),
    "nullable": pd.DataFrame({"a": [0.0, 1.0], "b": [1, 0]}).convert_dtypes(),
    "polars": pl.DataFrame({"a": [0.0, 1.0], "b": [1, 0]}),
    "tensor": torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True),
}


@pytest.mark.parametrize("kind", TABLES)
def test_numbers_in_rows_are_a_table_whichever_way_they_come(kind):
    expected = PretrainedFeatureExtractor("toy:rows").transform(np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(PretrainedFeatureExtractor("toy:rows").transform(TABLES[kind]), expected)
    assert contained(TABLES[kind], "image").kind == "table"
    with pytest.raises(ValueError, match="Expected texts, got a table of numbers"):
        PretrainedFeatureExtractor("toy:text").transform(TABLES[kind])


def test_tensors_of_any_kind_are_pictures():
    whole = np.stack(PHOTOS)
    expected = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(whole)
    for tensor in (torch.tensor(whole), torch.tensor(whole / 255, requires_grad=True)):
        for X in (tensor, list(tensor)):
            found = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(X)
            np.testing.assert_array_equal(found, expected)
    half = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(torch.tensor(whole / 255).bfloat16())
    assert np.abs(half - expected).max() < 0.1


def test_masked_pictures_are_refused_by_row():
    masked = np.ma.masked_array(PHOTOS[1], mask=PHOTOS[1] > 200)
    with pytest.raises(BadSampleError, match=r"X\[1\].*some of whose values are masked. Fix: fill it"):
        PretrainedFeatureExtractor("toy:images").transform([PHOTOS[0], masked])


def test_flat_pictures_are_read_in_their_own_type():
    expected = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(np.stack(PHOTOS))
    flat, shape = np.stack(PHOTOS).reshape(N, -1), (12, 16, 3)
    for X in (flat, pd.DataFrame(flat), flat.astype(np.int64), flat / 255, flat.tolist()):
        found = PretrainedFeatureExtractor("toy:images", dtype="float32", image_shape=shape).transform(X)
        np.testing.assert_array_equal(found, expected)
    first = np.stack(PHOTOS).transpose(0, 3, 1, 2).reshape(N, -1)  # as CIFAR's own files have them
    found = PretrainedFeatureExtractor("toy:images", dtype="float32", image_shape=(3, 12, 16)).transform(first)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("modality", SAMPLES)
def test_missing_samples_alone_are_samples_where_fit_saw_samples(modality):
    extractor = PretrainedFeatureExtractor(BACKBONES[modality], missing="zero").fit(SAMPLES[modality])
    for nothing in (np.array([np.nan]), np.array([[np.nan]]), [np.nan], pd.Series([None])):
        assert not extractor.transform(nothing).any()


@pytest.mark.parametrize("X", [np.array(5.0), np.array("a"), 5.0, None, object()])
@pytest.mark.parametrize("backbone", [*BACKBONES.values(), "toy:rows"])
def test_what_is_no_collection_at_all_is_refused(X, backbone):
    with pytest.raises((ValueError, TypeError), match="Expected|argument must be a string or a"):
        PretrainedFeatureExtractor(backbone).transform(X)
