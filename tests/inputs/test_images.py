"""Pictures in every container, and what is wrong with some of them."""

import io
import os
import pathlib
import pickle
import struct

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import png
from networks import tiny_photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torchvision.datasets import ImageFolder

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError, MissingSampleError
from skltransfer.inputs import samples_from_collection
from skltransfer.inputs._images import ImageSamples


def read(item, **options):
    samples = ImageSamples([item], **{"max_pixels": 10_000, **options})
    pixels = samples.read(0)
    samples.tell_remarks([b""])
    return pixels


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def features(X, **parameters):
    return PretrainedFeatureExtractor("toy:images", dtype="float32", cache=None, **parameters).transform(X)


@pytest.fixture
def files(photos, tmp_path):
    paths = [tmp_path / f"{i:02d}.png" for i in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(png(photo))
    return paths


def test_every_container_gives_the_same_features(photos, files):
    names = [str(path) for path in files]
    content = [path.read_bytes() for path in files]
    objects = np.empty(len(photos), dtype=object)
    objects[:] = list(photos)
    containers = {
        "array": photos,
        "list of arrays": list(photos),
        "object array": objects,
        "floats": photos / 255,
        "paths": files,
        "names": names,
        "array of names": np.array(names),
        "column of names": np.array(names, dtype=object).reshape(-1, 1),
        "bytes": content,
        "tuple": tuple(content),
        "PIL": [Image.fromarray(photo) for photo in photos],
        "pandas Series": pd.Series(names, index=range(5, 17)),
        "categorical": pd.Series(names, dtype="category"),
        "pandas frame": pd.DataFrame({"photo": names}),
        "polars Series": pl.Series(names),
        "polars frame": pl.DataFrame({"photo": names}),
        "bytes in polars": pl.Series(content),
        "mixed": [names[0], *content[1:6], *photos[6:]],
    }
    expected = features(photos)
    for name, X in containers.items():
        np.testing.assert_array_equal(features(X), expected, err_msg=name)


def test_flattened_pictures_are_the_pictures(photos):
    flat = photos.reshape(len(photos), -1)
    np.testing.assert_array_equal(features(flat / 255, image_shape=(20, 24, 3)), features(photos))
    with pytest.raises(ValueError, match=r"image_shape=\(20, 20\) needs 400 features per row, but X has 1440"):
        features(flat, image_shape=(20, 20))


def test_a_table_without_image_shape_is_laid_out_as_strips(rng):
    table = rng.standard_normal((5, 7))
    assert features(table).shape == (5, 32)
    assert len(np.unique(features(table), axis=0)) == 5
    np.testing.assert_array_equal(features(pd.DataFrame(table)), features(table))


def test_grey_pictures_are_grey_in_all_channels(rng):
    grey = rng.integers(0, 256, (3, 20, 20), dtype=np.uint8)
    np.testing.assert_array_equal(features(grey), features(np.repeat(grey[..., None], 3, axis=-1)))
    np.testing.assert_array_equal(features(grey), features(grey[..., None]))


def test_channels_may_come_first_as_in_torch(photos):
    first = np.moveaxis(photos, -1, 1)
    expected = features(photos)
    for X in (first, list(first), torch.tensor(first), [torch.tensor(photo) for photo in first], first / 255):
        np.testing.assert_array_equal(features(X), expected)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_channels_that_may_be_first_or_last_are_told(channels, rng):
    array = rng.integers(0, 256, (3, 30, 3), dtype=np.uint8)
    told = ImageSamples([array], max_pixels=10_000, channels=channels).read(0)
    np.testing.assert_array_equal(told, np.moveaxis(array, 0, -1) if channels == "first" else array)
    backbone = load_backbone("toy:images", channels=channels)
    assert PretrainedFeatureExtractor(backbone).transform([array]).shape == (1, 32)
    with pytest.raises(BadSampleError, match=r"X\[0\].*4 channels|X\[0\].*30 channels"):
        ImageSamples(
            [np.zeros((5, 9, 30), np.uint8)[:4] if channels == "last" else np.zeros((30, 9, 4), np.uint8)],
            max_pixels=10_000,
            channels=channels,
        ).read(0)


def test_channels_are_first_last_or_auto():
    with pytest.raises(ValueError, match=r"channels must be one of \('auto', 'first', 'last'\), got 'middle'"):
        load_backbone("toy:images", channels="middle")


def test_exif_rotation_is_applied():
    upright = np.zeros((10, 20, 3), np.uint8)
    upright[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rightly after a quarter turn clockwise
    turned = Image.fromarray(np.rot90(upright).copy())
    assert read(encoded(turned, "PNG", exif=exif)).shape == (10, 20, 3)
    np.testing.assert_array_equal(read(encoded(turned, "PNG", exif=exif)), upright)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0)).convert(mode)
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.info["transparency"] = 0
    assert (read(encoded(image, "PNG")) == 255).all()


def test_an_rgba_array_is_composited_too():
    half = np.zeros((8, 8, 4), np.uint8)
    half[..., 3] = 128
    assert np.unique(read(half)).tolist() == [127]


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for item in (ramp, encoded(Image.fromarray(ramp), "PNG"), encoded(Image.fromarray(ramp), "TIFF")):
        np.testing.assert_array_equal(read(item)[..., 0].ravel(), np.arange(256))


def test_float_tiffs_in_zero_to_one_keep_their_information():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_array_equal(read(encoded(Image.fromarray(ramp), "TIFF"))[..., 0].ravel(), np.arange(256))


def test_one_bit_and_cmyk_become_rgb():
    assert set(np.unique(read(np.eye(8, dtype=bool)))) == {0, 255}
    assert read(encoded(Image.new("1", (8, 8), 1), "PNG")).max() == 255
    assert read(encoded(Image.new("CMYK", (8, 8)), "JPEG")).shape == (8, 8, 3)


def test_the_first_frame_of_an_animation_is_taken_with_a_warning():
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    with pytest.warns(UserWarning, match="animations or images of several pages; the first one is taken"):
        assert read(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])).max() == 10


BAD = {
    "empty": (b"", "it is empty"),
    "html": (b"<html><body>404</body></html>", "not an image .starts with '<html>"),
    "truncated": (png(np.zeros((60, 60, 3), np.uint8) + 7)[:-60], "damaged image"),
    "missing file": ("no/such/photo.jpg", "no such file.*relative paths start at "),
    "folder": (str(pathlib.Path(__file__).parent), "a folder. Fix: pass the paths of the files in it"),
    "nul": ("a\0b.jpg", "unreadable"),
    "url": ("https://example.com/a.jpg", "an address, and nothing is fetched. Fix: download it"),
    "number": (object(), "not an image"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), "2 channels"),
    "five channels": (np.zeros((8, 8, 5), np.uint8), "5 channels"),
    "first or last": (np.zeros((3, 8, 3), np.uint8), r"may have its channels first or last.*channels='first'\) or"),
    "one dimension": (np.zeros(8, np.uint8), r"shape \(8,\) is not that of an image"),
    "no pixels": (np.zeros((0, 8), np.uint8), "is not that of an image"),
    "floats to 255": (np.full((8, 8), 254.0), "floats between 254 and 254.*pass uint8"),
    "negative ints": (np.full((8, 8), -1), "integers between -1 and -1"),
    "large ints": (np.full((8, 8), 256), "integers between 256 and 256"),
    "nan": (np.full((8, 8), np.nan), "NaN or infinite"),
    "words": (np.full((8, 8), "a"), "values of type"),
    "too large": (png(np.zeros((101, 100), np.uint8)), "100 x 101 px, more than max_pixels=10,000.*load_backbone"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sample_is_named_with_its_row_the_cause_and_the_remedy(kind, photos):
    item, cause = BAD[kind]
    samples = samples_from_collection([*photos[:3], item], "image", max_pixels=10_000)
    with pytest.raises(BadSampleError, match=rf"^X\[3\] \(.*\): .*{cause}") as caught:
        samples.take(np.array([3, 1])).read(0)
    assert caught.value.remedy in str(caught.value)
    assert str(caught.value).count("Fix: ") == 1
    with pytest.raises(ValueError, match="Fix: "):
        samples.identify(3)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_missing_sample_is_named(missing, photos):
    with pytest.raises(MissingSampleError, match=r"X\[2\].*missing value.*missing='zero'"):
        features([photos[0], photos[1], missing])


def test_a_pil_image_that_breaks_off_is_named():
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)), "JPEG")
    with pytest.raises(BadSampleError, match=r"X\[0\] .*damaged image .*truncated"):
        read(Image.open(io.BytesIO(whole[: len(whole) // 2])))


def test_a_bomb_of_text_is_refused():
    text = PngInfo()
    text.add_text("comment", "x" * 100_000_000, zip=True)
    with pytest.raises(BadSampleError, match="damaged image .*too large"):
        read(encoded(Image.new("L", (20, 20)), "PNG", pnginfo=text))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_corrupt_exif_does_not_spoil_the_picture():
    assert read(encoded(Image.new("L", (20, 20), 9), "JPEG", exif=b"Exif\0\0II*\0garbage-garbage")).mean() == 9


@pytest.mark.parametrize(
    ("shape", "message"), [((4, 9), "less than 8 px"), ((9, 200), "more than 20 times as long as wide")]
)
@pytest.mark.parametrize("container", [png, np.asarray, Image.fromarray])
def test_odd_shapes_are_accepted_with_a_warning(shape, message, container):
    with pytest.warns(UserWarning, match=message):
        assert read(container(np.zeros(shape, np.uint8))).shape == (*shape, 3)


def test_a_bomb_is_refused_by_its_header():
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(BadSampleError, match="more than max_pixels"):
        read(bomb.getvalue(), max_pixels=64_000_000)


@pytest.mark.parametrize("X", ["photo.png", b"\x89PNG", pathlib.Path("photo.png"), Image.new("RGB", (4, 4))])
def test_one_sample_is_not_a_collection(X):
    with pytest.raises(ValueError, match=r"Expected a collection of samples, got one.*Pass it in a list"):
        features(X)


def test_a_fine_tuner_refuses_two_columns_of_pictures():
    X = pd.DataFrame({"a": ["x.png", "x.png"], "b": ["y.png", "y.png"]})
    with pytest.raises(ValueError, match=r"Expected one column of samples, got 2: \['a', 'b'\].*ColumnTransformer"):
        FineTunedClassifier("toy:images").fit(X, [0, 1])


@pytest.mark.parametrize(
    "X", [[], np.array([], dtype=object), pd.Series([], dtype=object), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_no_samples_are_refused(X):
    with pytest.raises(ValueError, match="0 sample|Expected 2D array|Expected a 2-dimensional container"):
        features(X)


def test_equal_content_has_one_digest_in_whichever_container(photos, files):
    items = [photos[0], files[0], files[0].read_bytes(), Image.fromarray(photos[0]), photos[0] / 255]
    samples = samples_from_collection(items, "image", max_pixels=10_000)
    assert len({samples.identify(i)[0] for i in range(5)}) == 1
    assert samples.take(np.array([4])).identify(0)[0] == samples.identify(0)[0]


def test_a_known_file_is_not_decoded_to_be_identified(files):
    samples = samples_from_collection(files, "image", max_pixels=10_000)
    samples.identify(0)
    assert samples.identify(0)[1] is None


def test_a_file_that_changes_on_disk_is_another_sample(photos, files):
    before = features(files[:1])
    files[0].write_bytes(png(photos[1]))
    assert not np.array_equal(features(files[:1]), before)


@pytest.mark.filterwarnings("ignore:X holds images")
def test_extreme_sizes_do_not_exhaust_memory():
    assert features(
        [np.zeros((1, 9000, 3), np.uint8), np.zeros((9000, 1, 3), np.uint8), np.zeros((1, 1), np.uint8)]
    ).shape


def test_up_to_ten_bad_rows_are_told_at_once_before_any_network_runs(photos, files, monkeypatch):
    X = [str(path) for path in files]
    for row in (1, 4, 7):
        X[row] = f"no/such/{row}.jpg"
    files[9].write_bytes(b"")
    monkeypatch.setattr("skltransfer.engine.inference.frozen.run_padded", None)  # whoever calls it fails otherwise
    with pytest.raises(BadSampleError) as caught:
        features(X)
    lines = str(caught.value).splitlines()
    assert [line[:4] for line in lines] == ["X[1]", "X[4]", "X[7]", "X[9]"]
    assert all("Fix: " in line for line in lines)
    assert [error.row for error in caught.value.others] == [4, 7, 9]
    with pytest.raises(BadSampleError) as caught:
        features([None] * 30)
    assert len(caught.value.others) == 9
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_pictures_that_break_off_are_told_together_too(photos, files):
    for row in (2, 5):
        files[row].write_bytes(files[row].read_bytes()[:-60])
    with pytest.raises(BadSampleError, match=r"^X\[2\].*damaged") as caught:
        features(files)
    assert [error.row for error in caught.value.others] == [5]
    extractor = PretrainedFeatureExtractor("toy:images", cache=None, on_bad_sample="nan")
    assert np.isnan(extractor.transform(files)).all(axis=1).nonzero()[0].tolist() == [2, 5]
    assert extractor.bad_samples_ == [2, 5]


def test_the_number_of_threads_that_read_does_not_matter(files, photos):
    expected, n_threads = features(photos), torch.get_num_threads()
    try:
        for n in (1, 4):
            torch.set_num_threads(n)
            np.testing.assert_array_equal(features(files * 9), np.tile(expected, (9, 1)))
    finally:
        torch.set_num_threads(n_threads)


def test_a_large_jpeg_is_decoded_small_but_never_below_the_draft_side(rng):
    photo = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((1600, 1200))
    content = encoded(photo, "JPEG")
    for draft, shape in ((100, (150, 200, 3)), (150, (150, 200, 3)), (151, (300, 400, 3)), (2000, (1200, 1600, 3))):
        assert ImageSamples([content], max_pixels=10**7, draft=draft).read(0).shape == shape
    small, full = (ImageSamples([content], max_pixels=10**7, draft=draft) for draft in (100, None))
    assert small.identify(0)[0] != full.identify(0)[0]
    assert small.identify(0)[0] == small.identify(0)[0]
    assert load_backbone("toy:images").reading["draft"] == 32
    ours = PretrainedFeatureExtractor(tiny_photo(), dtype="float32", cache=None).transform([content])
    theirs = PretrainedFeatureExtractor(tiny_photo(), dtype="float32", cache=None).transform([photo])
    assert np.corrcoef(ours[0], theirs[0])[0, 1] > 0.99


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for_and_a_device_is_not_read(tmp_path, photos):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", pathlib.Path("/dev/zero")):
        with pytest.raises(BadSampleError, match=r"X\[1\] .*not a regular file. Fix: pass the path of a file"):
            features([photos[0], path])


def test_pictures_of_mixed_sizes_and_modes_are_each_resized(rng):
    shapes = [(20, 30), (64, 17, 3), (9, 9, 4), (300, 200, 1)]
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    ragged = np.empty(len(pictures), dtype=object)
    ragged[:] = pictures
    alone = np.vstack([features([picture]) for picture in pictures])
    np.testing.assert_array_equal(features(ragged), alone)
    np.testing.assert_array_equal(features(pictures), alone)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF"])
def test_one_frame_of_each_kind_of_animation(form):
    frames = [Image.new("RGB", (8, 8), (value, value, value)) for value in (8, 200)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(UserWarning, match="animations or images of several pages; the first one is taken"):
        assert abs(int(read(content).max()) - 8) <= 1


def _tiff(array, photometric):
    """The plainest TIFF of (h, w, bands), as programs for maps write it; Pillow writes none of five bands."""
    (height, width, bands), data = array.shape, array.tobytes()
    kind = {"u": 1, "f": 3}[array.dtype.kind]
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [8 * array.itemsize] * bands), (259, 3, [1])]
    tags += [(262, 3, [photometric]), (273, 4, [8]), (277, 3, [bands]), (278, 4, [height]), (279, 4, [len(data)])]
    tags += [(338, 3, [0] * (bands - 1))] * (bands > 3) + [(339, 3, [kind] * bands)]
    at, entries, extra = 8 + len(data), b"", b""
    for tag, form, values in tags:
        raw = struct.pack("<" + "HI"[form - 3] * len(values), *values)
        if len(raw) > 4:
            extra, raw = extra + raw, struct.pack("<I", at + 6 + 12 * len(tags) + len(extra))
        entries += struct.pack("<HHI", tag, form, len(values)) + raw.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", at) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


@pytest.mark.parametrize("kind", ["five bands", "floats in colour"])
def test_a_tiff_that_pillow_does_not_read_is_not_answered_with_tiff(kind, rng):
    array, photometric = {
        "five bands": (rng.integers(0, 256, (12, 12, 5), dtype=np.uint8), 1),
        "floats in colour": (rng.random((12, 12, 3), dtype=np.float32), 2),
    }[kind]
    with pytest.raises(
        BadSampleError, match=r"X\[0\].*a TIFF of a kind that Pillow does not read.*Fix: say how many channels"
    ):
        features([_tiff(array, photometric)])
    plain = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(features([_tiff(plain, 2)]), features([plain]))


def test_a_data_set_of_pictures_and_labels_is_told_what_to_pass(tmp_path, photos):
    for i, photo in enumerate(photos[:4]):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(photo))
    pairs = ImageFolder(tmp_path)
    with pytest.raises(ValueError, match=r"the dataset ImageFolder, whose items are tuples of 2.*from_torch_dataset"):
        features(pairs)
    with pytest.raises(BadSampleError, match=r"^X\[1\] .*a pair, not an image. Fix: pass the images alone"):
        features([pairs[0][0], pairs[1]])
    assert features([picture for picture, _ in pairs]).shape == (4, 32)


@pytest.mark.parametrize("address", ["data:image/png;base64," + "iVBOR" * 500, "iVBOR" * 500])
def test_base64_is_told_to_be_decoded_in_few_words(address):
    with pytest.raises(BadSampleError, match="looks like base64. Fix: decode it: base64.b64decode") as caught:
        features([address])
    assert len(str(caught.value)) < 400


def test_an_address_of_a_file_on_this_machine_is_its_path(tmp_path, photos):
    path = tmp_path / "a photo, 100%.png"
    path.write_bytes(png(photos[0]))
    np.testing.assert_array_equal(features([path.as_uri()]), features([path]))


@pytest.mark.parametrize("kind", ["plain", "exif", "xmp"])
def test_the_size_of_a_png_is_known_without_decoding_it(kind, monkeypatch):
    """Unless something in it may say that it is turned."""
    stream = io.BytesIO()
    exif, info = Image.Exif(), PngInfo()
    exif[274] = 6
    if kind == "xmp":
        info.add_itxt("XML:com.adobe.xmp", '<x xmlns:tiff="t" tiff:Orientation="6"/>')
    Image.new("RGB", (30, 20)).save(stream, "PNG", pnginfo=info, **({"exif": exif} if kind == "exif" else {}))
    samples = samples_from_collection([stream.getvalue()], "image", max_pixels=10**6)
    assert samples.size(0) == samples.read(0).shape[1::-1]
    if kind == "plain":
        monkeypatch.setattr(Image.Image, "load", None)
        assert samples_from_collection([stream.getvalue()], "image", max_pixels=10**6).size(0) == (30, 20)
