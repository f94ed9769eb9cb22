"""Images of any number of bands: arrays, tables, and files, of which TIFF files are read by another library."""

import io
import pickle
import sys

import numpy as np
import pytest
import tifffile
from conftest import png
from PIL import Image

from skltransfer import PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError, MissingDependencyError
from skltransfer.inputs import samples_from_collection
from skltransfer.inputs._images import ImageSamples

FIVE = ("red", "green", "blue", "nir", "swir")
CONTIG = {"photometric": "minisblack", "planarconfig": "contig"}


def read(item, bands, **options):
    samples = ImageSamples([item], **{"max_pixels": 10_000, **options}, bands=bands)
    samples.peek(0)
    pixels = samples.read(0)
    assert samples.size(0) == pixels.shape[1::-1]
    samples.tell_remarks([b""])
    return pixels


def tiff(array, **how):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **CONTIG | how)
    return stream.getvalue()


def features(X, bands=FIVE, **parameters):
    backbone = load_backbone("toy:images", bands=bands)
    return PretrainedFeatureExtractor(backbone, dtype="float32", cache=None, **parameters).transform(X)


@pytest.fixture
def scenes(rng):
    """Four scenes of five bands, (4, 20, 24, 5) of uint16."""
    return rng.integers(0, 65536, (4, 20, 24, 5), dtype=np.uint16)


def test_every_container_of_bands_gives_the_same_features(scenes, tmp_path):
    paths = [tmp_path / f"{i}.tif" for i in range(4)]
    for path, scene in zip(paths, scenes, strict=True):
        path.write_bytes(tiff(scene))
    first = np.moveaxis(scenes, -1, 1)
    containers = {
        "channels last": scenes,
        "channels first": first,
        "list": list(scenes),
        "bytes of 8 bits": np.rint(scenes / 257).astype(np.uint8),
        "floats": scenes / 65535,
        "paths": paths,
        "bytes": [path.read_bytes() for path in paths],
        "floats in files": [tiff((scene / 65535).astype(np.float32)) for scene in scenes],
        "planes": [tiff(scene, planarconfig="separate") for scene in first],
        "pages": [tiff(scene, planarconfig=None) for scene in first],
        "ImageJ": [tiff(scene, planarconfig=None, imagej=True, metadata={"axes": "CYX"}) for scene in first],
        "OME": [tiff(scene, planarconfig=None, ome=True, metadata={"axes": "CYX"}) for scene in first],
        "big": [tiff(scene, bigtiff=True) for scene in scenes],
        "other bytes first": [tiff(scene, byteorder=">") for scene in scenes],
        "deflated tiles": [tiff(scene, compression="zlib", predictor=True, tile=(16, 16)) for scene in scenes],
        "mixed": [paths[0], scenes[1], first[2], scenes[3] / 65535],
    }
    expected = features(scenes)
    for name, X in containers.items():
        np.testing.assert_array_equal(features(X), expected, err_msg=name)
    flat = scenes.reshape(4, -1)
    np.testing.assert_array_equal(features(flat, image_shape=(20, 24, 5)), expected)
    np.testing.assert_array_equal(features(first.reshape(4, -1), image_shape=(5, 20, 24)), expected)


def test_colors_as_bands_are_what_colors_were(photos):
    expected = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=None).transform(photos)
    np.testing.assert_array_equal(features(photos, ("red", "green", "blue")), expected)
    np.testing.assert_array_equal(features([png(photo) for photo in photos], ("red", "green", "blue")), expected)
    swapped = np.ascontiguousarray(photos[..., ::-1])
    np.testing.assert_allclose(features(swapped, ("blue", "green", "red")), expected, atol=1e-5)


@pytest.mark.parametrize(("mode", "n"), [("1", 1), ("L", 1), ("I;16", 1), ("F", 1), ("LA", 2), ("RGB", 3), ("P", 3)])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_pil_image_has_the_bands_of_its_mode(mode, n, bands):
    image = Image.new(mode, (10, 12))
    if n == bands:
        assert read(image, bands).shape == (12, 10, n)
    else:
        with pytest.raises(BadSampleError, match=rf"X\[0\].*{n} channels. Fix: pass images of {bands} bands"):
            read(image, bands)


def test_a_fourth_band_in_a_png_file_is_no_opacity(rng):
    four = rng.integers(0, 256, (12, 10, 4), dtype=np.uint8)
    np.testing.assert_array_equal(read(png(four), 4), four)
    np.testing.assert_array_equal(read(four, 4), four)
    assert read(png(four), None).shape == (12, 10, 3)  # where nothing is said, it is


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (np.zeros((12, 10, 4), np.uint8), r"shape \(12, 10, 4\), which has no axis of 5 bands"),
        (np.zeros((12, 10), np.uint8), "1 channels"),
        (np.zeros((5, 12, 5), np.uint8), "may have its channels first or last"),
        (png(np.zeros((12, 10, 3), np.uint8)), "3 channels"),
        (tiff(np.zeros((12, 10, 4), np.uint8)), "4 channels"),
        (tiff(np.zeros((7, 12, 10), np.uint8), planarconfig=None), "7 channels"),
        (tiff(np.zeros((5, 12, 10), np.uint8), planarconfig=None, imagej=True, metadata={"axes": "TYX"}), "axes 'TYX'"),
        (tiff(np.zeros((5, 12, 10), np.uint8), planarconfig=None, ome=True, metadata={"axes": "ZYX"}), "axes 'ZYX'"),
        (tiff(np.full((12, 10, 5), 3.5, np.float32)), "floats between 3.5 and 3.5"),
        (tiff(np.full((12, 10, 5), np.nan, np.float32)), "values that are NaN or infinite"),
        (tiff(np.full((12, 10, 5), -9999, np.int16)), "integers between -9999 and -9999"),
        (tiff(np.zeros((12, 10, 5), np.complex64)), "values of type complex64"),
        (tiff(np.zeros((200, 100, 5), np.uint8)), "100 x 200 px, more than max_pixels=10,000"),
        (tiff(np.zeros((12, 10, 5), np.uint8))[:300], "damaged image"),
        (tiff(np.zeros((12, 10, 5), np.uint8), compression="zlib")[:-9], "damaged image"),
        (tiff(np.zeros((12, 10, 5), np.uint8))[:6], "damaged image"),
        (b"II*\0" + b"\0" * 60, "a TIFF without an image"),
        (None, "missing value"),
    ],
)
def test_what_has_not_these_bands_is_named_with_its_row(item, problem):
    good = np.zeros((12, 10, 5), np.uint8)
    samples = ImageSamples([good, item], max_pixels=10_000, bands=5)
    with pytest.raises(BadSampleError, match=rf"(?s)X\[1\].*{problem}.*Fix: "):
        samples.identify(1)


def test_other_compressions_name_what_they_need(photos):
    stream = io.BytesIO()
    Image.fromarray(photos[0]).save(stream, "TIFF", compression="tiff_lzw")
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(BadSampleError, match=r"X\[0\].*needs another library.*LZW.*Fix: pip install imagecodecs"):
            read(stream.getvalue(), 3)
    else:
        np.testing.assert_array_equal(read(stream.getvalue(), 3), photos[0])


def test_a_palette_is_no_band(photos):
    stream = io.BytesIO()
    Image.fromarray(photos[0]).convert("P").save(stream, "TIFF")
    with pytest.raises(BadSampleError, match=r"X\[0\].*places in a palette.*Fix: save it as RGB"):
        read(stream.getvalue(), 1)


def test_the_missing_library_is_named_and_needed_for_tiff_files_of_bands_alone(monkeypatch, photos):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingDependencyError, match=r"needs tifffile.*pip install 'skltransfer\[bands\]'"):
        read(tiff(photos[0]), 3)
    assert read(png(photos[0]), 3).shape == photos[0].shape
    stream = io.BytesIO()
    Image.fromarray(photos[0]).save(stream, "TIFF")
    np.testing.assert_array_equal(read(stream.getvalue(), None), photos[0])


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_tiff_file_of_bands_is_turned_as_pillow_turns_it(turn, photos):
    stream = io.BytesIO()
    Image.fromarray(photos[0]).save(stream, "TIFF", tiffinfo={274: turn})
    np.testing.assert_array_equal(read(stream.getvalue(), 3), read(stream.getvalue(), None))


def test_white_may_be_the_smallest_number(scenes):
    inverse = tiff(scenes[0, ..., 0], planarconfig=None, photometric="miniswhite")
    np.testing.assert_array_equal(read(inverse, 1), 255 - read(scenes[0, ..., 0], 1))


def test_the_first_image_of_a_file_is_taken_and_told_but_for_overviews(scenes):
    others, overviews = io.BytesIO(), io.BytesIO()
    with tifffile.TiffWriter(others) as file:
        file.write(scenes[0], **CONTIG)
        file.write(scenes[1, :5, :5, 0], photometric="minisblack")
    with tifffile.TiffWriter(overviews) as file:
        file.write(scenes[0], subifds=1, **CONTIG)
        file.write(scenes[0, ::2, ::2], subfiletype=1, **CONTIG)
    with pytest.warns(UserWarning, match="images of several pages; the first one is taken"):
        found = read(others.getvalue(), 5)
    np.testing.assert_array_equal(found, read(scenes[0], 5))
    np.testing.assert_array_equal(read(overviews.getvalue(), 5), found)


def test_numbers_are_scaled_as_those_of_other_images_and_told_where_white_is_a_guess(rng):
    reflectances = rng.integers(0, 3000, (12, 10, 5), dtype=np.uint16)
    with pytest.warns(UserWarning, match=r"largest number in the 16-bit images of X is 299\d.*white=4095"):
        assert read(tiff(reflectances), 5).max() == 12
    scaled = read(tiff(reflectances), 5, white=3000)
    np.testing.assert_array_equal(scaled, np.rint(reflectances / 3000 * 255))
    np.testing.assert_array_equal(read(tiff(reflectances.astype(np.int16)), 5, white=3000), scaled)
    np.testing.assert_array_equal(read(tiff((reflectances / 3000).astype(np.float32)), 5), scaled)
    with pytest.warns(UserWarning, match="nearly black"):
        read(reflectances / 3e5, 5)


def test_one_file_is_other_content_where_other_bands_are_read(photos):
    """Within one process, which remembers what an encoded file decodes to."""
    four = png(np.concatenate([photos[0], photos[1][..., :1]], axis=-1))
    seen = {n: samples_from_collection([four], "image", max_pixels=10_000, bands=n).identify(0)[0] for n in (None, 4)}
    again = {n: samples_from_collection([four], "image", max_pixels=10_000, bands=n).peek(0).digest for n in (None, 4)}
    assert seen == again
    assert len(set(seen.values())) == 2


def test_one_image_is_told_from_many(scenes):
    with pytest.raises(ValueError, match=r"shape \(20, 24, 5\), which is that of one image"):
        features(scenes[0])
    copy = pickle.loads(pickle.dumps(load_backbone("toy:images", bands=FIVE)))
    assert PretrainedFeatureExtractor(copy).transform(scenes).shape == (4, 32)


def test_without_bands_the_error_says_how_to_read_them(scenes):
    extractor = PretrainedFeatureExtractor("toy:images")
    with pytest.raises(BadSampleError, match=r"X\[0\].*5 channels.*backbone=load_backbone\(name, bands=\.\.\.\)"):
        extractor.transform(list(scenes))
    with pytest.raises(BadSampleError, match=r"X\[0\].*that Pillow does not read.*load_backbone\(name, bands=\.\.\.\)"):
        extractor.transform([tiff(scenes[0])])
    with pytest.warns(
        UserWarning, match=r"read as RGBA.*If they are other bands, say so: load_backbone\(name, bands=4"
    ):
        extractor.transform(scenes[..., :4])
