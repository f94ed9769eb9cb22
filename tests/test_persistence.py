"""Files without code: what save writes, load gives back; what does not belong together is refused by name."""

import json
import os
import pathlib
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import sklearn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from language_models import shared_language_model
from networks import DEFAULT, TINY_PHOTO, small_default, tiny_photo, weights_of
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torchvision.transforms.v2 import Compose, RandomHorizontalFlip

import skltransfer
from skltransfer import (
    ActivationStore,
    AdaptedBackbone,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedDetector,
    FineTunedLanguageModel,
    FineTunedQuestionAnswerer,
    FineTunedRegressor,
    FineTunedSegmenter,
    FineTunedTagger,
    FineTunedTextToText,
    FineTunedTranscriber,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    load,
    load_backbone,
)
from skltransfer.backbones import _registry
from skltransfer.exceptions import SkltransferError, UnsupportedBackboneError, WeightsError
from skltransfer.persistence import ESTIMATORS

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def header_of(path):
    content = path.read_bytes()
    n = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + n])["__metadata__"]["skltransfer"])


def rewritten(path, change):
    """The same file with another header."""
    header = header_of(path)
    change(header)
    save_file(load_file(path), path, metadata={"skltransfer": json.dumps(header)})
    return path


@pytest.mark.parametrize("freeze_depth", [1.0, -1])
def test_the_default_network_comes_back_tuned_or_not(two_kinds, tmp_path, monkeypatch, freeze_depth):
    X, y = two_kinds
    model = FineTunedClassifier(small_default(), freeze_depth=freeze_depth, max_epochs=1, random_state=0).fit(X, y)
    expected = model.predict_proba(X)
    model.save(tmp_path / "model.skl")
    monkeypatch.setattr(_registry, "_loaded", OrderedDict())  # as in another process
    copy = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copy.set_params(cache=None).predict_proba(X), expected)
    assert copy.backbone.preprocessing.crop == 64


@pytest.mark.parametrize("labels", [["yes", "no"], [3, 7], [True, False], [1.0, 2.0]])
@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_a_classifier_comes_back_as_it_was(two_kinds, tmp_path, freeze_depth, labels):
    X, y = two_kinds
    y = np.array(labels)[np.unique(y, return_inverse=True)[1]]
    model = FineTunedClassifier("toy:images", freeze_depth=freeze_depth, max_epochs=1, random_state=0).fit(X, y)
    model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    assert copy.classes_.dtype == model.classes_.dtype
    assert copy.get_params() == model.get_params()
    fitted = {k: v for k, v in vars(model).items() if k.endswith("_") and not k.startswith("_")}
    assert {k: np.asarray(getattr(copy, k), dtype=object).tolist() for k in fitted} == {
        k: np.asarray(v, dtype=object).tolist() for k, v in fitted.items()
    }
    assert clone(copy).fit(X, y).score(X, y) == model.score(X, y)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_regressor_on_a_frame_comes_back_as_it_was(rng, tmp_path, head):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rng.standard_normal((30, 3)), columns=["a", "b", "c"])
    y = 100 + 5 * X.a.to_numpy()
    model = FineTunedRegressor("toy:rows", head=head, freeze_depth=0.5, max_epochs=2, random_state=0).fit(X, y)
    model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    assert copy.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        copy.predict(X.rename(columns={"a": "other"}))


def test_targets_of_several_columns_come_back(two_kinds, rng, tmp_path):
    X = two_kinds[0]
    for estimator, y in (
        (FineTunedClassifier("toy:images", freeze_depth=1.0), rng.integers(0, 2, (40, 3))),
        (FineTunedRegressor("toy:images", freeze_depth=1.0), rng.random((40, 2))),
    ):
        estimator.fit(X, y).save(tmp_path / "model.skl")
        np.testing.assert_array_equal(load(tmp_path / "model.skl").predict(X), estimator.predict(X))


def test_odd_parameters_come_back(two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier(
        load_backbone("toy:images", weights="random:3"),
        freeze_depth="block1",
        class_weight={label: i + 1.0 for i, label in enumerate(np.unique(y).tolist())},
        image_shape=(16, 16),
        cache=ActivationStore(tmp_path / "store", max_bytes=10**6),
        checkpoint=tmp_path / "checkpoints",
        max_epochs=1,
        random_state=np.int64(4),
    ).fit(X, y)
    model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    assert copy.backbone is model.backbone
    assert (copy.class_weight, copy.image_shape, copy.random_state) == (model.class_weight, (16, 16), 4)
    assert (copy.cache, copy.checkpoint) == ("memory", None)  # folders are this machine's


def test_a_file_cannot_ask_for_a_repositorys_code(two_kinds, tmp_path, monkeypatch):
    FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds).save(tmp_path / "model.skl")

    def change(header):
        options = dict(header["origin"]["tuple"][2]["pairs"]) | {"trust_remote_code": True}
        header["origin"]["tuple"][2]["pairs"] = [list(pair) for pair in options.items()]

    asked = []
    true = _registry.load_backbone
    monkeypatch.setattr(_registry, "load_backbone", lambda *a, **k: asked.append(k) or true(*a, **k))
    load(rewritten(tmp_path / "model.skl", change))
    assert asked
    assert not any(options["trust_remote_code"] for options in asked)


def test_what_training_alone_needs_is_not_saved_and_that_is_told(two_kinds, tmp_path):
    model = FineTunedClassifier(
        "toy:images", max_epochs=1, augment=Compose([RandomHorizontalFlip()]), random_state=np.random.RandomState(0)
    ).fit(*two_kinds)
    with pytest.warns(
        UserWarning, match=r"(?s)RandomHorizontalFlip\(p=0.5\).*takes code to be made again, so it is not"
    ):
        model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    assert (copy.random_state, copy.augment) == (None, None)


def test_a_value_that_only_code_could_make_is_refused(two_kinds, tmp_path):
    model = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds)
    model.verbose = object()
    with pytest.raises(TypeError, match="type object cannot be saved without code"):
        model.save(tmp_path / "model.skl")
    assert list(tmp_path.iterdir()) == []


def test_before_fit_there_is_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError):
        FineTunedClassifier().save(tmp_path / "model.skl")


@pytest.mark.parametrize("name", ["toy:images", TINY_PHOTO, DEFAULT, "torchvision:resnet18", "timm:resnet18"])
@pytest.mark.slow
def test_a_file_that_stands_alone_needs_no_other_weights(rng, tmp_path, name):
    X, y = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), np.arange(6) % 2
    weights = "random:5" if weights_of(name) == "random" else weights_of(name)
    model = FineTunedClassifier(name, weights=weights, freeze_depth=1.0, dtype="float32").fit(X, y)
    model.save(tmp_path / "alone.skl", include_backbone=True)
    copy = load(tmp_path / "alone.skl")
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert copy._origin_[1] == str(tmp_path / "alone.skl")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(copy)).predict_proba(X), model.predict_proba(X))


def test_what_takes_more_than_weights_cannot_stand_alone(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    X, y = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), np.arange(6) % 2
    model = FineTunedClassifier(f"hf:{tmp_path / 'vit'}", freeze_depth=1.0).fit(X, y)
    with pytest.raises(UnsupportedBackboneError, match="leave out include_backbone"):
        model.save(tmp_path / "alone.skl", include_backbone=True)
    model.save(tmp_path / "model.skl")
    expected = model.predict_proba(X)
    (tmp_path / "vit").rename(tmp_path / "moved")
    monkeypatch.setattr(_registry, "_loaded", OrderedDict())  # as in another process
    with pytest.raises(SkltransferError, match="vit"):
        load(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl", backbone=f"hf:{tmp_path / 'moved'}")
    assert clone(copy).fit(X, y).predict(X).shape == y.shape
    np.testing.assert_array_equal(copy.predict_proba(X), expected)


def test_another_backbone_is_refused_by_name(two_kinds, tmp_path):
    FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds).save(tmp_path / "model.skl")
    for other in (tiny_photo(), load_backbone("toy:images", weights="random:9")):
        with pytest.raises(WeightsError, match="has fingerprint"):
            load(tmp_path / "model.skl", backbone=other)


def test_it_opens_in_another_process(two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, dtype="float32", random_state=0).fit(X, y)
    model.save(tmp_path / "model.skl")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import numpy as np, os, sys; from skltransfer import load; os.chdir(sys.argv[1]); "
        "np.save('p.npy', load('model.skl').predict_proba(np.load('X.npy')))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), model.predict_proba(X), atol=1e-6)


ROWS = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
LABELS = np.array(["no", "yes"])[np.arange(16) % 2]
TWO_COLUMNS = np.column_stack([np.arange(16) % 2, ROWS[:, 0].astype(float)])
MASKED = np.where(np.arange(16) < 10, np.arange(16) % 2, -1)
WORDS = [[f"w{i}", "and", str(i)] for i in range(16)]
TAGS = [["O", "O", "NUM"]] * 16
SCENES = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
BOXES = [{"boxes": [[1, 1, 9, 9]], "labels": ["a"]}] * 16
QUESTIONS = [("how many?", f"buy {i} figs") for i in range(16)]
ANSWERS = [str(i) for i in range(16)]
CLIPS = [np.random.default_rng(i).normal(0, 0.1, 1000 + i).astype(np.float32) for i in range(16)]
REQUESTED = [("fit", "sample_weight"), ("fit", "sample_domain"), ("partial_fit", "classes"), ("score", "sample_weight")]
PROMPTS = ["a+b=", "c", "1+2="] * 4
SHORT = {"random_state": 0, "dtype": "float32"}
SAVABLE = {
    "AdaptedBackbone": (AdaptedBackbone("toy:rows", **SHORT), None),
    "DomainAdaptedClassifier": (DomainAdaptedClassifier("toy:rows", max_epochs=1, **SHORT), MASKED),
    "FewShotClassifier": (FewShotClassifier("toy:rows", **SHORT), LABELS),
    "FineTunedClassifier": (FineTunedClassifier("toy:rows", freeze_depth=0.5, max_epochs=1, **SHORT), LABELS),
    "FineTunedDetector": (
        FineTunedDetector("toy:images", input_size=None, head_width=32, max_epochs=1, **SHORT),
        BOXES,
    ),
    "FineTunedLanguageModel": (
        FineTunedLanguageModel(shared_language_model(), max_epochs=1, max_new_tokens=2, **SHORT),
        PROMPTS,
    ),
    "FineTunedQuestionAnswerer": (FineTunedQuestionAnswerer("toy:text", max_epochs=1, **SHORT), ANSWERS),
    "FineTunedRegressor": (FineTunedRegressor("toy:rows", freeze_depth=1.0, **SHORT), ROWS[:, 0]),
    "FineTunedSegmenter": (FineTunedSegmenter("toy:images", freeze_depth=1.0, **SHORT), SCENES[..., 0] // 128),
    "FineTunedTagger": (FineTunedTagger("toy:text", freeze_depth=1.0, **SHORT), TAGS),
    "FineTunedTextToText": (
        FineTunedTextToText("toy:text-to-text", max_epochs=1, **SHORT),
        [f"{i}." for i in range(16)],
    ),
    "FineTunedTranscriber": (FineTunedTranscriber("toy:audio", max_epochs=1, sampling_rate=8000, **SHORT), ["ab"] * 16),
    "MultiTaskFineTuner": (MultiTaskFineTuner("toy:rows", freeze_depth=1.0, **SHORT), TWO_COLUMNS),
}


def samples_for(model, *, as_frame=False):
    pandas = pytest.importorskip("pandas")
    if isinstance(model, FineTunedTagger):
        return pandas.DataFrame({"words": WORDS}) if as_frame else WORDS
    if isinstance(model, FineTunedTextToText):
        texts = [" ".join(words) for words in WORDS]
        return pandas.DataFrame({"text": texts}) if as_frame else texts
    if isinstance(model, FineTunedLanguageModel):
        return pandas.DataFrame({"text": PROMPTS}) if as_frame else PROMPTS
    if isinstance(model, FineTunedQuestionAnswerer):
        return pandas.DataFrame(QUESTIONS, columns=["question", "context"]) if as_frame else QUESTIONS
    if isinstance(model, FineTunedTranscriber):
        return pandas.DataFrame({"clip": CLIPS}) if as_frame else CLIPS
    if isinstance(model, FineTunedSegmenter | FineTunedDetector):
        return pandas.DataFrame({"image": list(SCENES)}) if as_frame else SCENES
    return pandas.DataFrame(ROWS, columns=list("abcd")) if as_frame else ROWS


def shown_value(one):
    return {k: v.tolist() for k, v in one.items()} if isinstance(one, dict) else np.asarray(one).tolist()


def seen_by_a_user(model):
    """All that a user can see of a fitted estimator, in values that compare."""
    fitted = {k: v for k, v in vars(model).items() if k.endswith("_") and not k.startswith("_")}
    shown = {k: getattr(v, "fingerprint", v) for k, v in fitted.items()}
    requests = {
        method: dict(getattr(model.get_metadata_routing(), method).requests)
        for method in ("fit", "partial_fit", "predict", "score", "transform")
    }
    X = samples_for(model)
    answers = {verb: getattr(model, verb)(X) for verb in ("predict", "transform") if hasattr(model, verb)}
    containers = {verb: type(answer).__name__ for verb, answer in answers.items()}
    values = {verb: [shown_value(one) for one in np.asarray(answer)] for verb, answer in answers.items()}
    return {
        "parameters": model.get_params(),
        "fitted": {k: repr(v) for k, v in shown.items()},
        "types": {k: (type(v), getattr(v, "dtype", None)) for k, v in fitted.items()},
        "requests": requests,
        "containers": containers,
        "answers": values,
        "names": model.get_feature_names_out().tolist() if hasattr(model, "transform") else None,
        "shown": repr(model),
    }


def test_each_kind_that_can_be_loaded_is_compared_with_its_pickle():
    assert set(SAVABLE) == set(ESTIMATORS)


@pytest.mark.parametrize("name", SAVABLE)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    output=st.sampled_from([None, "default", "pandas"]),
    requests=st.fixed_dictionaries(
        {}, optional={f"{verb}.{key}": st.sampled_from([True, False, None, "weight"]) for verb, key in REQUESTED}
    ),
    as_frame=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_saved_is_the_same_as_pickled(tmp_path_factory, name, output, requests, as_frame):
    model, y = clone(SAVABLE[name][0]), SAVABLE[name][1]
    if hasattr(model, "transform"):
        model.set_output(transform=output)
    with sklearn.config_context(enable_metadata_routing=True):
        for request, alias in requests.items():
            verb, key = request.split(".")
            if key in getattr(model.get_metadata_routing(), verb).requests:
                getattr(model, f"set_{verb}_request")(**{key: alias})
    model.fit(samples_for(model, as_frame=as_frame), y)
    path = tmp_path_factory.mktemp("saved") / "model.skl"
    model.save(path)
    expected = seen_by_a_user(pickle.loads(pickle.dumps(model)))
    assert seen_by_a_user(load(path)) == expected
    load(path).save(path)  # a copy of a copy, too
    assert seen_by_a_user(load(path)) == expected


@pytest.mark.parametrize("labels", [np.array(["2020-01-01", "2021-01-01"], "M8[D]"), np.array([1, 2], "m8[s]")])
def test_labels_that_are_times_come_back(tmp_path, labels):
    model = FineTunedClassifier("toy:rows", freeze_depth=1.0).fit(ROWS, labels[np.arange(16) % 2])
    model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    assert copy.classes_.dtype == labels.dtype
    np.testing.assert_array_equal(copy.predict(ROWS), model.predict(ROWS))


def test_callbacks_are_not_saved_and_that_is_told(tmp_path):
    model = FineTunedClassifier("toy:rows", freeze_depth=1.0).fit(ROWS, LABELS)
    model._skl_callbacks = [print]
    with pytest.warns(UserWarning, match=r"callbacks .*print.* so it is not saved; the copy has none"):
        model.save(tmp_path / "model.skl")
    assert not hasattr(load(tmp_path / "model.skl"), "_skl_callbacks")


BROKEN = {
    "a container that scikit-learn does not know": lambda header: header.update(output={"transform": "os.system"}),
    "an output that is none": lambda header: header.update(output={"__class__": "pandas"}),
    "a request for what fit does not take": lambda header: header.update(requests={"fit": {"shell": True}}),
    "a request of no method": lambda header: header.update(requests={"__init__": {"sample_weight": True}}),
    "a request that is no name": lambda header: header.update(requests={"fit": {"sample_weight": "a b"}}),
    "requests that are none": lambda header: header.update(requests=[1]),
    "not the format": lambda header: header.update(format=99),
    "another class": lambda header: header.update({"class": "Popen"}),
    "a parameter that is not there": lambda header: header["parameters"].update(shell=True),
    "no task": lambda header: header.pop("task"),
    "too deep a boundary": lambda header: header["network"].__setitem__(0, 40),
    "a wider head": lambda header: header["network"].__setitem__(2, 5),
    "an attribute that is not fitted": lambda header: header["fitted"].update(__class__="x"),
    "nonsense": lambda header: header.update(fitted=3),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_does_not_fit_is_refused(two_kinds, tmp_path, kind):
    FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1).fit(*two_kinds).save(tmp_path / "model.skl")
    with pytest.raises(WeightsError, match=r"model\.skl"):
        load(rewritten(tmp_path / "model.skl", BROKEN[kind]))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04.", b"\xff" * 64, b"<html></html>"])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    (tmp_path / "model.skl").write_bytes(content)
    with pytest.raises(WeightsError, match=r"no file that save\(\) wrote"):
        load(tmp_path / "model.skl")


def test_a_path_without_a_file_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"no file 'not-there\.skl'.*Relative paths start at '.*'\.$"):
        load("not-there.skl")
    with pytest.raises(WeightsError, match=r"no file '.*absent\.skl'\. Pass the path that save\(\) was given\.$"):
        load(tmp_path / "absent.skl")
    with pytest.raises(WeightsError, match="is a folder; pass the file"):
        load(tmp_path)
    with pytest.raises(WeightsError, match="cannot be opened"):
        load("a\0b")


def test_a_truncated_file_is_refused_and_a_failed_save_leaves_the_old_one(two_kinds, tmp_path, monkeypatch):
    model, path = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds), tmp_path / "model.skl"
    model.save(path)
    content = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(content[:-10])
    with pytest.raises(WeightsError, match="no file that save"):
        load(path)


def test_the_version_is_stamped(two_kinds, tmp_path):
    FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds).save(tmp_path / "model.skl")
    assert header_of(tmp_path / "model.skl")["version"] == skltransfer.__version__


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.skl")), ids=lambda path: path.name)
def test_files_of_this_and_earlier_versions_are_read(path):
    """Predictions were written beside each file, by the version that wrote it."""
    if "adapted" in path.name:
        pytest.importorskip("peft", reason="the extra lora is not installed")
    expected = np.load(path.with_suffix(".npz"))
    predicted = load(path).predict(expected["X"]).astype(expected["predicted"].dtype)
    if predicted.dtype.kind == "f":
        np.testing.assert_allclose(predicted, expected["predicted"], rtol=1e-4)
    else:
        np.testing.assert_array_equal(predicted, expected["predicted"])


def test_each_kind_of_model_has_a_file_of_this_version():
    names = {
        path.stem.removeprefix(f"{skltransfer.__version__}-")
        for path in FIXTURES.glob(f"{skltransfer.__version__}-*.skl")
    }
    assert names >= {"probe", "tuned", "adapted", "many-labels", "numbers", "alone", "few", "tasks"}


@pytest.mark.parametrize("kind", ["probe", "tuned", "many labels", "numbers", "extractor", "backbone", "adapted"])
def test_skops_need_trust_our_own_classes_alone(two_kinds, kind):
    skops = pytest.importorskip("skops.io")
    X, y = two_kinds
    tuned = {"freeze_depth": 0.5, "max_epochs": 1, "random_state": 0, "dtype": "float32"}
    model, target = {
        "probe": (FineTunedClassifier("toy:images", freeze_depth=1.0, calibrate="temperature"), y),
        "tuned": (FineTunedClassifier("toy:images", **tuned), y),
        "many labels": (
            FineTunedClassifier("toy:images", **tuned),
            np.column_stack([y == "above", X.mean((1, 2)) > 0.5]),
        ),
        "numbers": (FineTunedRegressor("toy:images", adapter="lora", **tuned), X.mean((1, 2))),
        "extractor": (PretrainedFeatureExtractor("toy:images"), None),
        "backbone": (FineTunedClassifier(load_backbone("toy:images", weights="random:3"), **tuned), y),
        "adapted": (AdaptedBackbone("toy:images", objective="norm_statistics"), None),
    }[kind]
    content = skops.dumps(model.fit(X, target))
    untrusted = skops.get_untrusted_types(data=content)
    assert untrusted
    assert all(name.startswith("skltransfer.") for name in untrusted)
    again = skops.loads(content, trusted=untrusted)
    for method in ("transform", "predict", "predict_proba"):
        if hasattr(model, method):
            np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    if kind == "adapted":
        assert again.backbone_.fingerprint == model.backbone_.fingerprint


def test_skops_hold_a_backbone_by_its_name():
    skops = pytest.importorskip("skops.io")
    assert len(skops.dumps(FineTunedClassifier(tiny_photo()))) < 50_000
