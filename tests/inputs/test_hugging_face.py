"""Rows as Hugging Face data sets keep them are the samples that they hold."""

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor, load
from skltransfer.exceptions import BadSampleError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)


def encoded(pixels, form="PNG", **how):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **how)
    return buffer.getvalue()


def features(X, backbone="toy:images", **how):
    return PretrainedFeatureExtractor(backbone, dtype="float32", cache=None, **how).transform(X)


def test_images_in_dicts_are_those_images(tmp_path):
    path = tmp_path / "0.png"
    path.write_bytes(encoded(PIXELS[0]))
    expected = features(list(PIXELS[:2]))
    rows = [{"bytes": None, "path": str(path)}, {"bytes": encoded(PIXELS[1]), "path": "elsewhere.png"}]
    for X in (rows, pd.Series(rows), pd.DataFrame({"image": rows}), [rows[0], PIXELS[1]]):
        np.testing.assert_array_equal(features(X), expected)


def test_audio_in_dicts_is_that_audio():
    tone = np.sin(np.arange(4000) / 9).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, 8000, format="WAV", subtype="FLOAT")
    expected = features([(tone, 8000)], "toy:audio")
    for row in ({"array": tone, "sampling_rate": 8000, "path": None}, {"bytes": buffer.getvalue(), "path": "a.wav"}):
        np.testing.assert_array_equal(features([row], "toy:audio"), expected)


@pytest.mark.parametrize(
    "row", [{"bytes": None, "path": None}, {"array": [0.0], "sampling_rate": 8000}, {"image": PIXELS[0]}]
)
def test_other_dicts_are_refused_by_row(row):
    with pytest.raises(BadSampleError, match=r"X\[1\] .*a dict with the keys"):
        features([PIXELS[0], row])


def test_they_are_searched_saved_and_loaded(tmp_path):
    X, y = [{"bytes": encoded(one), "path": f"{i}.png"} for i, one in enumerate(PIXELS)], [0, 1] * 3
    model = make_pipeline(FineTunedClassifier("toy:images", max_epochs=1, dtype="float32", random_state=0))
    search = GridSearchCV(model, {"finetunedclassifier__freeze_depth": [1.0, 0.5]}, cv=3, error_score="raise")
    found = search.fit(X, y).predict(X)
    search.best_estimator_[-1].save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(list(PIXELS)), found)


@pytest.mark.parametrize(("form", "how"), [("PPM", {}), ("JPEG2000", {}), ("AVIF", {"quality": 100})])
def test_further_formats_are_read(form, how, tmp_path):
    content = encoded(PIXELS[0], form, **how)
    decoded = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    if form != "AVIF":
        np.testing.assert_array_equal(decoded, PIXELS[0])
    np.testing.assert_array_equal(features([content]), features([decoded]))
    with pytest.raises(BadSampleError, match=r"X\[0\]"):
        features([content[: len(content) // 3]])


def test_grey_and_deep_maps_are_read():
    grey = np.arange(480, dtype=np.uint8).reshape(20, 24)
    np.testing.assert_array_equal(features([encoded(grey, "PPM")]), features([np.stack([grey] * 3, axis=-1)]))
    deep = (np.arange(480, dtype=np.uint16) * 130).reshape(20, 24)
    np.testing.assert_array_equal(features([encoded(deep, "PPM")]), features([encoded(deep, "PNG")]))
