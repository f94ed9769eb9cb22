"""Matrix products in 8 bits: near to float32, the same promises, and refused by name where they would not help."""

import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, FineTunedTagger, PretrainedFeatureExtractor, load, load_backbone
from skltransfer.distributed import BatchExtractor, _with_choices_made
from skltransfer.engine.inference import compiled, int8, quantization
from skltransfer.exceptions import MissingDependencyError, UnsupportedBackboneError

needs_int8 = pytest.mark.skipif(
    not (compiled.is_installed() and int8.is_native()), reason="needs the extra fast and a processor with VNNI"
)
TEXTS = ["a good film", "bad", "such a long and quiet story that I fell asleep", "loud", "a light, short film", "dull"]
LABELS = [1, 0, 0, 0, 1, 0]


def pictures(n, side=224):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@needs_int8
@pytest.mark.parametrize(
    ("backbone", "X"),
    [
        pytest.param("bundled:minilm", TEXTS, id="MiniLM"),
        pytest.param("timm:vit_tiny_patch16_224", pictures(3), marks=pytest.mark.slow, id="ViT"),
    ],
)
def test_embeddings_are_near_to_float32_and_no_row_depends_on_another(backbone, X):
    backbone = load_backbone(backbone, weights="random" if backbone.startswith("timm") else "pretrained")
    exact = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None).transform(X)
    extractor = PretrainedFeatureExtractor(backbone, dtype="int8", cache=None).fit(X)
    found = extractor.transform(X)
    cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0.98 <= cosines.min() < 0.99999
    assert extractor.int8_agreement_["cosine"] == pytest.approx(cosines.min(), abs=1e-4)
    np.testing.assert_array_equal(np.vstack([extractor.transform(X[i : i + 1]) for i in range(len(X))]), found)
    np.testing.assert_array_equal(PretrainedFeatureExtractor(backbone, dtype="int8", cache=None).transform(X), found)


@needs_int8
def test_each_layer_is_compared_once_without_a_fit(monkeypatch):
    monkeypatch.setattr(quantization, "_compared", weakref.WeakKeyDictionary())
    compared = []

    def counted(stages, boundary, *rest):
        compared.append(boundary)
        return quantization.checked_cosine(stages, boundary, *rest)

    monkeypatch.setattr("skltransfer.feature_extraction.checked_cosine", counted)
    extractor = PretrainedFeatureExtractor("bundled:minilm", dtype="int8", cache=None)
    for layer in ("penultimate", "penultimate", 0.5, 0.5):
        extractor.set_params(layer=layer).transform(TEXTS)
    assert len(compared) == len(set(compared)) == 2


@needs_int8
def test_missing_samples_are_not_compared():
    for missing in ("zero", "nan"):
        extractor = PretrainedFeatureExtractor("bundled:minilm", dtype="int8", missing=missing).fit([None, *TEXTS])
        assert 0.98 <= extractor.int8_agreement_["cosine"] < 1
    assert extractor.fit([None]).int8_agreement_ == {"cosine": 1.0}


@needs_int8
@pytest.mark.parametrize("depth", [1.0, 0.5])
def test_a_classifier_says_how_near_it_is_and_comes_back(depth, tmp_path):
    options = {"freeze_depth": depth, "dtype": "int8", "max_epochs": 2, "random_state": 0}
    model = FineTunedClassifier("bundled:minilm", **options).fit(TEXTS, LABELS)
    assert (model.dtype_, model.runtime_) == ("int8", "compiled")
    assert 0.98 <= model.int8_agreement_["cosine"] < 1
    assert 0 <= model.int8_agreement_["equal_labels"] <= 1
    expected = model.predict_proba(TEXTS)
    model.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict_proba(TEXTS), expected)
        assert other.int8_agreement_ == model.int8_agreement_
    model.set_params(dtype="float32").fit(TEXTS, LABELS)
    assert not hasattr(model, "int8_agreement_")


@needs_int8
def test_another_dtype_after_a_warm_start():
    options = {"freeze_depth": 0.5, "max_epochs": 1, "random_state": 0, "warm_start": True}
    model = FineTunedClassifier("bundled:minilm", dtype="float32", runtime="eager", **options).fit(TEXTS, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(dtype="int8", runtime="auto").fit(TEXTS, LABELS)
        assert (model.dtype_, model.runtime_) == ("int8", "compiled")
        model.set_params(dtype="float32").fit(TEXTS, LABELS)
    assert not hasattr(model, "int8_agreement_")


@needs_int8
def test_workers_compute_in_8_bits_too(monkeypatch):
    extractor = PretrainedFeatureExtractor("bundled:minilm", dtype="int8", cache=None)
    chosen = _with_choices_made(extractor)
    assert (chosen.dtype, chosen.runtime) == ("int8", "compiled")
    expected = chosen.transform(TEXTS)
    compared = []
    monkeypatch.setattr("skltransfer.feature_extraction.checked_cosine", lambda *a: compared.append(a) or 1.0)
    batches = BatchExtractor(extractor, column="text")
    for _ in range(2):
        found = batches({"text": np.array(TEXTS, dtype=object)})["features"]
        np.testing.assert_array_equal(np.stack(found), expected)
    assert not compared  # once in a process is enough


@needs_int8
def test_tags_have_no_labels_to_compare_and_nothing_frozen_is_exact():
    words, tags = [text.split() for text in TEXTS], [["O"] * (len(text.split()) - 1) + ["B-X"] for text in TEXTS]
    model = FineTunedTagger(dtype="int8", freeze_depth=1.0, random_state=0).fit(words, tags)
    assert list(model.int8_agreement_) == ["cosine"]
    model = FineTunedClassifier("bundled:minilm", dtype="int8", freeze_depth=0.0, max_epochs=1).fit(TEXTS, LABELS)
    assert model.int8_agreement_ == {"cosine": 1.0, "equal_labels": 1.0}


@needs_int8
def test_it_is_searched_like_any_parameter(tmp_path):
    model = make_pipeline(FineTunedClassifier("bundled:minilm", freeze_depth=1.0, cache=str(tmp_path)))
    grid = {"finetunedclassifier__dtype": ["float32", "int8"]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@needs_int8
def test_a_network_that_it_changes_too_much_is_refused_by_row(monkeypatch):
    monkeypatch.setattr(quantization, "LEAST_COSINE", 0.99999)
    for model in (
        FineTunedClassifier("bundled:minilm", freeze_depth=1.0, dtype="int8"),
        PretrainedFeatureExtractor("bundled:minilm", dtype="int8"),
    ):
        with pytest.raises(UnsupportedBackboneError, match=r"the cosine similarity to float32 is 0\.99\d for X\[\d\]"):
            model.fit(TEXTS, LABELS)
    monkeypatch.setattr(quantization, "_compared", weakref.WeakKeyDictionary())
    with pytest.raises(UnsupportedBackboneError, match="too much"):
        PretrainedFeatureExtractor("bundled:minilm", dtype="int8").transform(TEXTS)


def test_what_cannot_be_faster_is_refused_by_name(monkeypatch):
    def fitted(backbone="bundled:minilm", **options):
        return PretrainedFeatureExtractor(backbone, dtype="int8", **options).fit(TEXTS)

    monkeypatch.setattr(int8, "is_native", lambda: True)
    with pytest.raises(ValueError, match="computed by OpenVINO, but runtime='eager'"):
        fitted(runtime="eager")
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "is_installed", lambda: False)
        with pytest.raises(MissingDependencyError, match=r"pip install 'skltransfer\[fast\]'"):
            fitted()
    with monkeypatch.context() as patch:
        patch.setattr("skltransfer._estimators.base.resolve_device", lambda _: torch.device("meta"))
        with pytest.raises(ValueError, match="is not possible: it is for the CPU, and device is 'meta'"):
            fitted()
    if compiled.is_installed():
        resnet = load_backbone("torchvision:resnet18", weights="random")
        with pytest.raises(UnsupportedBackboneError, match=r"of 'torchvision:resnet18', 9\d% are in convolutions"):
            PretrainedFeatureExtractor(resnet, dtype="int8").fit(pictures(1, 32))
        monkeypatch.setattr(int8, "is_native", lambda: False)
        with pytest.raises(ValueError, match="would not be faster on this processor"):
            fitted()


@needs_int8
def test_where_openvino_is_missing_a_fitted_one_predicts_in_float32(monkeypatch):
    model = FineTunedClassifier("bundled:minilm", freeze_depth=1.0, dtype="int8", cache=None).fit(TEXTS, LABELS)
    expected = model.predict_proba(TEXTS)
    monkeypatch.setattr(compiled, "is_installed", lambda: False)
    with pytest.warns(UserWarning, match="Fitted with dtype='int8', but dtype='int8' needs OpenVINO"):
        found = model.predict_proba(TEXTS)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert (found != expected).any()


@pytest.mark.skipif(not compiled.is_installed(), reason="the extra fast is not installed")
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_rounded_to_the_nearest_of_255_values_for_each_output(transposed):
    from openvino import Core, Model
    from openvino import opset13 as ops

    weights = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    weights[:, 2] = 0
    data = ops.parameter([-1, 8], np.float32)
    product = ops.matmul(data, ops.constant(weights.T.copy() if transposed else weights), False, transposed)
    model = Model([product], [data])
    int8.round_weights(model)
    kinds = [node.get_element_type().get_type_name() for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert "i8" in kinds
    settings = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_PRECISION_HINT": "f32"}  # inputs are not rounded
    exact = Core().compile_model(model, "CPU", settings)
    restored = exact(np.eye(8, dtype=np.float32))[0]
    step = np.abs(weights).max(0) / 127
    assert (np.abs(restored - weights) <= step / 2 + 1e-6).all()
    assert np.abs(restored - weights).max() > 0
