"""Where a point of a picture lies in the network's input, and back."""

import io

import numpy as np
import pytest
from PIL import Image

from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.inputs import samples_from_collection

HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("width", "height"), [(200, 120), (90, 300), (64, 64), (20, 900), (30, 30)])
def test_a_bright_spot_is_where_the_geometry_says(width, height, squash):
    preprocessing = ImagePreprocessing(resize=64, crop=56, squash=squash, **HALVES)
    geometry = preprocessing.geometry(width, height)
    for x, y in ((0.5, 0.5), (0.4, 0.6), (0.6, 0.45)):
        left, top = int(x * width), int(y * height)
        photo = np.zeros((height, width, 3), dtype=np.uint8)
        size = max(2, min(width, height) // 12)
        photo[top : top + size, left : left + size] = 255
        place = geometry.to_input(np.array([left + size / 2, top + size / 2]))
        seen = preprocessing.pixels(photo)[..., 0].astype(float)
        if not (2 <= place[0] <= 54 and 2 <= place[1] <= 54):
            continue
        rows, columns = np.indices(seen.shape) + 0.5
        middle = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
        np.testing.assert_allclose(middle, place, atol=0.75)


def test_boxes_come_back_and_are_cut_off_at_the_edges(rng):
    geometry = ImagePreprocessing(resize=64, crop=56, **HALVES).geometry(200, 120)
    boxes = np.sort(rng.uniform(0, 120, (50, 2, 2)), axis=1).reshape(50, 4)
    np.testing.assert_allclose(geometry.to_picture(geometry.to_input(boxes)), boxes)
    assert geometry.to_picture(np.array([-999.0, -999.0, 999.0, 999.0])).tolist() == [0, 0, 200, 120]


def encoded(size, orientation=None, **how):
    image, exif, stream = Image.new("RGB", size, (9, 99, 9)), Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[274] = orientation
    image.save(stream, exif=exif, **how)
    return stream.getvalue()


def test_a_size_is_that_of_the_picture_as_one_sees_it(rng):
    items = [
        encoded((640, 480), format="JPEG"),
        encoded((640, 480), 6, format="JPEG"),
        encoded((640, 480), 3, format="JPEG"),
        encoded((31, 17), format="PNG"),
        Image.new("L", (50, 20)),
        rng.random((40, 70, 3)),
        rng.random((40, 70)),
    ]
    samples = samples_from_collection(items, "image", max_pixels=10**6, draft=64)
    sizes = [samples.size(position) for position in range(len(items))]
    assert sizes == [(640, 480), (480, 640), (640, 480), (31, 17), (50, 20), (70, 40), (70, 40)]
    assert samples_from_collection(["a text"], "text").size(0) is None
