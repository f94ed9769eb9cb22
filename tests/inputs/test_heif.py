"""Photos as phones write them: HEIC and HEIF."""

import io
import sys

import numpy as np
import pytest
from phones import heic
from PIL import Image
from pillow_heif import HeifFile, HeifImageFile, encode, from_pillow
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load, load_image_folder, read_coco
from skltransfer.exceptions import BadSampleError, MissingDependencyError
from skltransfer.inputs import read_mask, samples_from_collection
from skltransfer.inputs._images import ImageSamples

UPRIGHT = np.zeros((30, 40, 3), np.uint8)
UPRIGHT[:, :20] = 200
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)


def read(item, **options):
    samples = ImageSamples([item], **{"max_pixels": 10_000, **options})
    pixels = samples.read(0)
    samples.tell_remarks([b""])
    return pixels


def features(X, **parameters):
    return PretrainedFeatureExtractor("toy:images", dtype="float32", cache=None, **parameters).transform(X)


@pytest.mark.filterwarnings("error")
def test_paths_and_bytes_are_read_as_the_pixels_that_they_hold(tmp_path):
    content = heic(PIXELS[0])
    (tmp_path / "IMG_0001.HEIC").write_bytes(content)
    assert np.abs(read(content).astype(int) - PIXELS[0]).max() <= 1
    np.testing.assert_array_equal(features([content]), features([read(content)]))
    np.testing.assert_array_equal(features([tmp_path / "IMG_0001.HEIC"]), features([content]))


def test_a_photo_is_turned_once_by_the_file_itself():
    """A phone says in two places of a file that the photo is turned."""
    turned = heic(np.rot90(UPRIGHT).copy(), orientation=6)
    assert b"irot" in turned
    assert HeifFile(io.BytesIO(turned))[0].info["exif"]
    assert np.abs(read(turned).astype(int) - UPRIGHT).max() <= 1
    assert samples_from_collection([turned], "image", max_pixels=10_000).size(0) == (40, 30)


def test_what_is_transparent_becomes_white_and_grey_stays_grey():
    clear = np.zeros((16, 16, 4), np.uint8)
    assert (read(heic(clear)) == 255).all()
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(read(heic(grey)), np.stack([grey] * 3, axis=-1))


def test_ten_bits_are_scaled_to_eight():
    deep = PIXELS[0].astype(np.uint16) * 257
    buffer = io.BytesIO()
    encode("RGB;16", (24, 20), deep.tobytes(), buffer, quality=-1, chroma=444)
    assert np.abs(read(buffer.getvalue()).astype(int) - PIXELS[0]).max() <= 2


def test_a_large_photo_is_decoded_itself_and_not_its_thumbnail():
    large = np.kron(UPRIGHT, np.ones((8, 8, 1), np.uint8))
    content = heic(large, thumbnails=[64])
    assert HeifImageFile(io.BytesIO(content)).info["thumbnails"]
    np.testing.assert_array_equal(read(content, draft=32, max_pixels=10**6), read(content, max_pixels=10**6))


@pytest.mark.filterwarnings("error")
def test_of_several_images_the_main_one_is_read():
    file = from_pillow(Image.fromarray(PIXELS[0]))
    file.add_from_pillow(Image.fromarray(PIXELS[1]))
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, chroma=444, primary_index=1)
    assert np.abs(read(buffer.getvalue()).astype(int) - PIXELS[1]).max() <= 1


def _with_sizes(content, width, height):
    """Each size in the header, replaced."""
    changed = bytearray(content)
    at = changed.find(b"ispe")
    while at > 0:
        changed[at + 8 : at + 16] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        at = changed.find(b"ispe", at + 1)
    return bytes(changed)


WHOLE = heic(PIXELS[0])
BAD = {
    "the first third": (WHOLE[: len(WHOLE) // 3], "damaged image"),
    "all but the end": (WHOLE[:-20], r"damaged image \(.*[^\n]\)\. Fix: replace it"),
    "the first box": (WHOLE[:28], "damaged image"),
    "an unknown codec": (WHOLE.replace(b"hvc1", b"zzz1"), "damaged image"),
    "more pixels by its header": (_with_sizes(WHOLE, 20_000, 20_000), "20000 x 20000 px, more than max_pixels"),
    "fewer pixels by its header": (_with_sizes(heic(np.zeros((300, 300, 3), np.uint8)), 8, 8), "damaged image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_whole_is_named_by_its_row(kind):
    item, cause = BAD[kind]
    with pytest.raises(BadSampleError, match=rf"(?s)X\[1\] \(.*\): .*{cause}"):
        features([PIXELS[0], item])
    found = features([PIXELS[0], item], on_bad_sample="nan")
    assert np.isnan(found).all(axis=1).tolist() == [False, True]


def test_a_photo_of_more_pixels_than_allowed_is_refused():
    content = heic(np.zeros((90, 80), np.uint8))
    assert read(content, max_pixels=7200).shape == (90, 80, 3)
    with pytest.raises(ValueError, match=r"80 x 90 px, more than max_pixels=7,199"):
        read(content, max_pixels=7199)


def test_the_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingDependencyError, match=r"need the library pillow-heif.*'skltransfer\[heic\]'"):
        features([WHOLE], on_bad_sample="nan")
    assert features([PIXELS[0]]).shape == (1, 32)


def test_pillow_is_left_as_it_was():
    read(WHOLE)
    with pytest.raises(OSError, match="cannot identify image file"):
        Image.open(io.BytesIO(WHOLE))


def test_avif_in_the_same_container_stays_with_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "AVIF", quality=100)
    assert read(buffer.getvalue()).shape == (20, 24, 3)


def test_a_mask_in_a_format_that_changes_labels_is_refused():
    with pytest.raises(ValueError, match=r"y\[3\].*a HEIF file, whose compression changes labels.*save masks as PNG"):
        read_mask(WHOLE, 3)


def test_other_estimators_are_told_that_these_are_images():
    for X in (["a.heic", "b.HEIC"], [WHOLE]):
        with pytest.raises(ValueError, match="The backbone reads audio clips, but X looks like images"):
            features_of_audio(X)


def features_of_audio(X):
    return PretrainedFeatureExtractor("toy:audio", cache=None).transform(X)


def test_boxes_on_photos_of_phones_are_read_from_annotations(tmp_path):
    (tmp_path / "1.heic").write_bytes(heic(np.rot90(UPRIGHT).copy(), orientation=6))
    (tmp_path / "boxes.json").write_text(
        '{"images": [{"id": 1, "file_name": "1.heic", "width": 40, "height": 30}], "categories": [{"id": 1, "name": "a"'
        '}], "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 35, 20]}]}'
    )
    paths, targets = read_coco(tmp_path / "boxes.json", tmp_path)
    assert targets[0]["boxes"].tolist() == [[1, 2, 36, 22]]
    (tmp_path / "1.heic").write_bytes(WHOLE[:30])
    with pytest.raises(ValueError, match=r"1\.heic' is no image that can be read"):
        read_coco(tmp_path / "boxes.json", tmp_path)


def test_a_folder_of_photos_is_searched_saved_and_loaded(tmp_path):
    for i, pixels in enumerate(PIXELS):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.heic").write_bytes(heic(pixels))
    paths, y = load_image_folder(tmp_path)
    X = [(tmp_path / path).read_bytes() for path in paths]
    model = make_pipeline(FineTunedClassifier("toy:images", max_epochs=1, dtype="float32", random_state=0))
    search = GridSearchCV(model, {"finetunedclassifier__freeze_depth": [1.0, 0.5]}, cv=3, error_score="raise")
    found = search.fit(X, y).predict(X)
    search.best_estimator_[-1].save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(paths), found)
