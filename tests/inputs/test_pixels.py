"""Numbers whose meaning is a guess: scaled as documented, and told where the whole of X makes the guess unlikely."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import GridSearchCV
from torch.nn.functional import interpolate

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._images import ImageSamples


def features(X, **options):
    backbone = load_backbone("toy:images", **options)
    return PretrainedFeatureExtractor(backbone, dtype="float32", cache=None).transform(X)


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


@pytest.fixture
def grey(rng):
    return list(rng.integers(0, 256, (6, 16, 16), dtype=np.uint8))


def encoded(pixels, form):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


WAYS = {
    "array": lambda pixels: pixels,
    "channel": lambda pixels: pixels[..., None],
    "PNG": lambda pixels: encoded(pixels, "PNG"),
    "TIFF": lambda pixels: encoded(pixels, "TIFF"),
    "PIL": Image.fromarray,
}


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("way", WAYS)
def test_few_bits_in_many_are_told_once_with_the_parameter_that_says_otherwise(bits, way, grey):
    white = 2**bits - 1
    X, same = ([WAYS[way](np.rint(x / 255 * white).astype(np.uint16)) for x in grey] for _ in range(2))
    messages = told(lambda: features(X))
    assert len(messages) == 1
    assert f"white={white})" in messages[0]
    assert "6 of 6 samples: X[0], X[1], X[2] and 3 more" in messages[0]
    assert not told(lambda: features(X))  # once is enough
    assert not told(lambda: features(same, white=white))
    np.testing.assert_allclose(features(X, white=white), features(grey), atol=0.05)


def test_sixteen_bits_are_sixteen_bits(grey):
    X = [pixels.astype(np.uint16) * 257 for pixels in grey]
    assert not told(lambda: features(X))
    np.testing.assert_array_equal(features(X), features(grey))


def test_one_bright_picture_says_what_white_is_for_all(grey):
    X = [pixels.astype(np.uint16) for pixels in grey]
    X[5] = X[5] * np.uint16(257)
    assert not told(lambda: features(X))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.int32])
@pytest.mark.parametrize("largest", [1, 16])
def test_masks_and_digits_in_integers_are_told(kind, largest, rng):
    X = rng.integers(0, largest + 1, (5, 12, 12)).astype(kind)
    messages = told(lambda: features(X))
    assert len(messages) == 1
    assert f"nearly black. If white is another level, say so: load_backbone(name, white={largest})" in messages[0]
    np.testing.assert_allclose(features(X, white=largest), features(X / largest), atol=1e-5)
    files = [encoded(x.astype(np.uint8), "PNG") for x in X]
    np.testing.assert_array_equal(features(files, white=largest), features(X, white=largest))


def test_true_and_false_are_white_and_black(rng):
    X = rng.random((5, 12, 12)) > 0.5
    assert not told(lambda: features(X))
    np.testing.assert_array_equal(features(X), features(X.astype(float)))


def test_black_pictures_are_no_guess():
    assert not told(lambda: features(np.zeros((3, 12, 12), np.uint8)))


def test_white_is_zero_where_a_tiff_says_so(grey):
    wide = grey[0].astype(np.uint16) * 257
    content = io.BytesIO()
    Image.fromarray(65535 - wide).save(content, "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(content.getvalue())).tag_v2[262] == 0
    np.testing.assert_array_equal(features([content.getvalue()]), features([wide]))


def test_white_must_be_a_positive_number():
    for white in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="white must be a positive number or None"):
            load_backbone("toy:images", white=white)


def test_what_a_fourth_channel_is_taken_for_is_told(rng):
    X = rng.integers(0, 256, (4, 12, 12, 4), dtype=np.uint8)
    (message,) = told(lambda: features(X))
    assert "read as RGBA, the fourth as opacity" in message
    X[..., 3] = 255
    assert not told(lambda: features(X))


def test_floats_a_hair_beyond_one_are_what_rounding_made_of_one():
    white = interpolate(torch.ones(1, 3, 64, 64), size=(224, 224), mode="bicubic", antialias=True)
    assert white.max() > 1
    assert not told(lambda: features(white))
    assert not told(lambda: features(np.full((1, 8, 8), -1e-9)))
    np.testing.assert_array_equal(features(white), features(np.full((1, 9, 9, 3), 255, np.uint8)))


def test_what_resizing_shoots_beyond_is_clipped_and_told():
    torch.manual_seed(0)
    sharp = interpolate(torch.rand(1, 3, 64, 64).round(), size=(100, 100), mode="bicubic", antialias=True)
    (message,) = told(lambda: features(sharp))
    assert "what is beyond was clipped" in message
    np.testing.assert_array_equal(features(sharp), features(sharp.clamp(0, 1)))


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 255), (0, 2), (-0.5, 0.5)])
def test_another_scale_is_refused_with_its_ends(low, high):
    X = np.linspace(low, high, 64).reshape(1, 8, 8)
    with pytest.raises(BadSampleError, match=rf"floats between {low:g} and {high:g}. Fix: scale them to \[0, 1\]"):
        features(X)


def closed(path):
    with Image.open(path) as image:
        pass
    return image


def test_a_picture_whose_file_was_closed_is_opened_again(tmp_path, photos):
    path = tmp_path / "photo.png"
    Image.fromarray(photos[0]).save(path)
    np.testing.assert_array_equal(features([photos[1], closed(path)]), features(photos[[1, 0]]))


@pytest.mark.parametrize("row", [0, 1])
def test_a_picture_that_cannot_be_opened_again_is_named(row, photos, tmp_path):
    image = closed(io.BytesIO(encoded(photos[0], "PNG")))
    X = [photos[1], photos[2]]
    X[row] = image
    with pytest.raises(BadSampleError, match=rf"X\[{row}\].*closed before its pixels were read. Fix: call image.load"):
        features(X)
    filled = PretrainedFeatureExtractor("toy:images", on_bad_sample="nan").transform(X)
    assert np.isnan(filled).any(axis=1).tolist() == [row == 0, row == 1]


def test_a_frame_that_was_chosen_is_read_and_stays_chosen(photos):
    frames = [Image.fromarray(photo) for photo in photos[:3]]
    content = io.BytesIO()
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])
    animation = Image.open(io.BytesIO(content.getvalue()))
    animation.seek(2)
    assert not told(lambda: features([animation]))
    np.testing.assert_array_equal(features([animation]), features(photos[[2]]))
    assert animation.tell() == 2
    assert "first one is taken" in told(lambda: features([content.getvalue()]))[0]


def test_two_hundred_odd_pictures_give_one_warning_and_a_search_no_more_than_that():
    frames = [[Image.new("L", (20, 20), v) for v in (i, i + 5)] for i in range(60)]
    X = []
    for first, second in frames:
        content = io.BytesIO()
        first.save(content, "GIF", save_all=True, append_images=[second])
        X.append(content.getvalue())
    (message,) = told(lambda: PretrainedFeatureExtractor("toy:images").transform(X))
    assert "60 of 60 samples: X[0], X[1], X[2] and 57 more" in message
    model = FineTunedClassifier("toy:images", freeze_depth=1.0)
    assert not told(lambda: model.fit(X, [0, 1] * 30).predict(X))


def test_levels_are_judged_only_where_all_of_x_was_looked_at(grey):
    dark = [encoded((pixels // 16).astype(np.uint8), "PNG") for pixels in grey]
    samples = ImageSamples([*dark, encoded(grey[0], "PNG")], max_pixels=10_000)
    digests = [samples.identify(i)[0] for i in range(len(samples))]
    assert not told(lambda: samples.tell_remarks(digests))
    assert not told(lambda: features([*dark[:3], encoded(grey[0], "PNG"), encoded(255 - dark_one(grey), "PNG")]))


def dark_one(grey):
    return (grey[1] // 16).astype(np.uint8)


def test_a_search_over_dark_pictures_says_so_once(grey):
    X = np.stack([pixels.astype(np.uint16) * 16 for pixels in grey] * 2) + np.arange(12, dtype=np.uint16)[:, None, None]
    model = FineTunedClassifier("toy:images", freeze_depth=1.0)
    search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=3)
    assert len(told(lambda: search.fit(X, [0, 1] * 6))) <= 2  # of the first fold's training part, and of its test part


@pytest.mark.parametrize("spoilt", ["a copy", "a missing row", "a bad row"])
def test_a_copy_or_a_row_that_cannot_be_read_does_not_keep_a_guess_from_being_told(grey, spoilt):
    X = [encoded(pixels.astype(np.uint16) * 16, "PNG") for pixels in grey]
    X.append({"a copy": X[0], "a missing row": None, "a bad row": b"no picture"}[spoilt])
    extractor = PretrainedFeatureExtractor("toy:images", missing="nan", on_bad_sample="nan", cache=None)
    assert "white=4095" in told(lambda: extractor.transform(X))[0]


def test_white_means_the_same_in_arrays_files_and_images_and_spares_opacity(rng):
    pixels = rng.integers(0, 129, (12, 12, 3), dtype=np.uint8)
    ways = [pixels, encoded(pixels, "PNG"), Image.fromarray(pixels), pixels / 1.0]
    for found in features(ways, white=128)[1:]:
        np.testing.assert_array_equal(found, features(ways, white=128)[0])
    clear = np.dstack([pixels, np.full((12, 12), 80, np.uint8)])
    by_hand = np.rint(pixels / 128 * 255 * (80 / 255) + 255 * (1 - 80 / 255)).astype(np.uint8)
    for item in (clear, encoded(clear, "PNG")):
        np.testing.assert_allclose(features([item], white=128), features([by_hand]), atol=0.02)
    mask = rng.integers(0, 2, (12, 12), dtype=np.uint8)
    np.testing.assert_array_equal(features([Image.fromarray(mask).convert("LA")], white=1), features([mask * 255]))


def test_digits_of_sixteen_levels_in_floats_are_read_with_their_level():
    from sklearn.datasets import load_digits

    digits = load_digits().images[:4]
    np.testing.assert_array_equal(features(digits, white=16), features(digits / 16))


def test_pictures_that_were_scaled_twice_are_told(rng):
    (message,) = told(lambda: features(rng.random((3, 12, 12)) / 255))
    assert "nearly black. Scale them to [0, 1] once" in message


def test_thirty_two_bit_images_of_pillow_that_hold_sixteen_are_read(grey):
    wide = grey[0].astype(np.uint16) * 257
    np.testing.assert_array_equal(features([Image.fromarray(wide.astype(np.int32))]), features([wide]))


def test_warnings_that_a_filter_makes_errors_of_are_told_again(grey):
    X = np.stack(grey).astype(np.uint16) * 16
    model = FineTunedClassifier("toy:images", freeze_depth=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="white=4095"):
            model.fit(X, [0, 1] * 3)
    assert not vars(model).keys() & {"classes_", "_network_"}
    assert "white=4095" in told(lambda: model.fit(X, [0, 1] * 3))[0]


@pytest.mark.parametrize("white", ["255", True])
def test_a_level_of_white_is_a_number(white):
    with pytest.raises(ValueError, match=f"white must be a positive number or None, got {white!r}"):
        load_backbone("toy:images", white=white)


def test_pictures_in_nested_lists_are_pictures(rng):
    X = rng.integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(features(X.tolist()), features(X))
