"""What docstrings state is so, as far as a tool can check: parameters, attributes, references, weights, versions."""

import inspect
import pickle
import re
import tempfile
import warnings

import language_models
import numpy as np
import pytest
from speech_networks import save_whisper

import skltransfer
from skltransfer import (
    AdaptedBackbone,
    DomainAdaptedClassifier,
    ELMClassifier,
    ELMRegressor,
    FeatureAdaptedClassifier,
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
    PairedFeatureExtractor,
    PretrainedFeatureExtractor,
    model_selection,
)

DOORS = [skltransfer, model_selection]
PUBLIC = sorted({name: getattr(door, name) for door in DOORS for name in door.__all__}.items())


def documented_callables():
    for name, thing in PUBLIC:
        yield name, thing
        for method, member in inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else ():
            if not method.startswith("_") and member.__module__.startswith("skltransfer"):
                yield f"{name}.{method}", member


CALLABLES = dict(documented_callables())


def section(thing, title):
    """Names in a numpydoc section: of ``a, b : type`` lines, each."""
    doc = inspect.getdoc(thing) or ""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^(\*{0,2}\w[\w*, ]*?) *(?::.*)?$", found[1], re.MULTILINE) if found else []
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


@pytest.mark.parametrize("name", CALLABLES)
def test_references_are_cited_and_citations_are_defined(name):
    doc = inspect.getdoc(CALLABLES[name]) or ""
    defined, cited = re.findall(r"^\.\. \[(\w+)\]", doc, re.MULTILINE), re.findall(r"\[(\w+)\]_", doc)
    assert set(defined) == set(cited), f"never cited or never defined: {set(defined) ^ set(cited)}"
    assert len(defined) == len(set(defined))


@pytest.mark.parametrize("name", CALLABLES)
def test_documented_parameters_are_those_that_are_taken(name):
    thing = CALLABLES[name]
    documented = set(section(thing, "Parameters"))
    taken = {p for p in inspect.signature(thing).parameters if p not in ("self", "cls")}
    assert documented in (set(), taken)


ROWS = np.random.default_rng(0).standard_normal((24, 4))
Y = np.arange(24) % 2
TEXTS = [f"{'good' if label else 'bad'} film number {i} " * (40 if i == 3 else 1) for i, label in enumerate(Y)]
TARGETS = {
    FineTunedRegressor: ROWS[:, 0],
    ELMRegressor: ROWS[:, 0],
    MultiTaskFineTuner: np.column_stack([Y, ROWS[:, 0]]),
    DomainAdaptedClassifier: np.where(np.arange(24) < 16, Y, -1),
    FeatureAdaptedClassifier: np.where(np.arange(24) < 16, Y, -1),
    PretrainedFeatureExtractor: None,
    AdaptedBackbone: None,
}
ESTIMATORS = [thing for _, thing in PUBLIC if hasattr(thing, "fit")]


def new(kind):
    """An estimator with default parameters; of parts, with a transformer of texts for each."""
    if kind is not PairedFeatureExtractor:
        return kind()
    return kind(PretrainedFeatureExtractor("toy:text"), PretrainedFeatureExtractor("toy:text"))


OF_SEQUENCES = (FineTunedLanguageModel, FineTunedQuestionAnswerer, FineTunedTextToText, FineTunedTranscriber)


def fitted_on_sequences(kind, pandas):
    """The same for estimators whose targets are texts, or parts of texts."""
    if kind is FineTunedTextToText:
        how = {"max_epochs": 1, "on_bad_sample": "nan", "dtype": "float32"}
        return [kind("toy:text-to-text", **how).fit([*TEXTS, None], [text.upper() for text in [*TEXTS, "a"]])]
    if kind is FineTunedLanguageModel:
        model = kind(language_models.shared_language_model(), max_epochs=1, on_bad_sample="nan")
        return [model.fit([*TEXTS, None], [*TEXTS, ""])]
    if kind is FineTunedQuestionAnswerer:
        X, y = [("how many?", f"buy {i} figs") for i in range(16)], [str(i) for i in range(16)]
        frame = pandas.DataFrame(X, columns=["question", "context"])
        model = kind("toy:text", max_epochs=1, on_bad_sample="nan").fit([*X, None], [*y, ""])
        return [model, kind("toy:text", max_epochs=1).fit(frame, y)]
    X = [(np.random.default_rng(i).normal(0, 0.1, 2000).astype(np.float32), 8000) for i in range(16)]
    of_letters = kind("toy:audio", max_epochs=1, on_bad_sample="nan").fit([*X, None], ["ab"] * 17)
    with tempfile.TemporaryDirectory() as folder:
        network = save_whisper(folder, rate=8000)
        return [of_letters, kind(f"hf:{network}", max_epochs=1).fit(X[:2], ["one two", "three"])]


def fitted(kind):
    """Fits of a frame, and of texts of which one is long and one cannot be read: between them, all attributes."""
    pandas = pytest.importorskip("pandas")
    y, frame = TARGETS.get(kind, Y), pandas.DataFrame(ROWS, columns=list("abcd"))
    if kind is FineTunedSegmenter:
        X = list(np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8))
        masks = [x[..., 0] // 128 for x in X]
        return [kind("toy:images", max_epochs=1, on_bad_sample="nan").fit([*X, None], [*masks, masks[0]])]
    if kind is FineTunedDetector:
        X = list(np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8))
        boxes = [{"boxes": [[1, 1, 9, 9]], "labels": ["a"]}] * 17
        return [kind("toy:images", input_size=None, max_epochs=1, on_bad_sample="nan").fit([*X, None], boxes)]
    if kind is FineTunedTagger:
        words = [text.split() for text in TEXTS]
        tags = [[len(word) % 2 for word in text] for text in words]
        return [kind("toy:text", max_epochs=1, on_bad_sample="nan").fit([*words, None], [*tags, [0]])]
    if kind in OF_SEQUENCES:
        return fitted_on_sequences(kind, pandas)
    if kind is PairedFeatureExtractor:
        return [new(kind).fit(pandas.DataFrame({"a": TEXTS, "b": TEXTS}))]
    if "backbone" not in inspect.signature(kind).parameters:
        return [kind().fit(frame, y)]
    short = {"max_epochs": 1} if "max_epochs" in inspect.signature(kind).parameters else {}
    ordered = {"class_order": "sorted"} if kind is FineTunedClassifier else {}
    of_texts = {"objective": "masked_lm"} if kind is AdaptedBackbone else {}
    models = [
        kind("toy:rows", **short, **ordered).fit(frame, y),
        kind("toy:text", on_bad_sample="nan", max_length=20, **short, **of_texts).fit(
            [*TEXTS[:9], b"", *TEXTS[10:]], y
        ),
    ]
    if kind is PretrainedFeatureExtractor:
        models[1].set_params(missing="nan").transform([*TEXTS, b""])
    return models


@pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore")
def test_documented_attributes_are_those_that_a_fit_leaves(kind):
    models = fitted(kind)
    found = {name for model in models for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    has_dtype = "dtype" in inspect.signature(kind).parameters and kind is not AdaptedBackbone
    only_in_int8 = {"int8_agreement_"} if has_dtype else set()  # see tests/engine/inference/test_int8.py
    assert set(section(kind, "Attributes")) == found | only_in_int8


@pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)
def test_each_estimator_says_which_version_pickled_it(kind):
    content = pickle.dumps(new(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(content)
    old = content.replace(skltransfer.__version__.encode(), b"0.0.9" + b"x" * (len(skltransfer.__version__) - 5))
    with pytest.warns(UserWarning, match=f"This {kind.__name__} was pickled by skltransfer 0.0.9"):
        pickle.loads(old)


OF_IMAGES = (AdaptedBackbone, FineTunedDetector, FineTunedSegmenter)


@pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)
def test_what_reads_every_kind_of_sample_names_them_all(kind):
    if "backbone" not in inspect.signature(kind).parameters or kind in OF_IMAGES:
        return
    first = inspect.getdoc(kind).split("\n")[0].lower()
    assert ("text" in first and "audio" in first) or not re.search("photo|picture|image", first)


SINGLE = [DomainAdaptedClassifier, ELMClassifier, FeatureAdaptedClassifier]


@pytest.mark.parametrize("kind", SINGLE, ids=lambda kind: kind.__name__)
def test_what_takes_one_label_per_sample_documents_no_multilabel_target(kind):
    assert "multilabel" not in inspect.getdoc(kind)


@pytest.mark.parametrize(
    ("method", "is_solved"), [(None, True), ("mcc", False), ("deep_coral", False)], ids=["none", "mcc", "coral"]
)
def test_adaptation_of_a_frozen_network_trains_for_the_epochs_that_it_documents(method, is_solved):
    model = DomainAdaptedClassifier("toy:rows", method=method, freeze_depth=1.0, max_epochs=3, random_state=0)
    model.fit(ROWS, TARGETS[DomainAdaptedClassifier])
    assert (len(model.history_["loss"]) == 1) == is_solved
    assert (model.n_iter_ == 3) != is_solved


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
@pytest.mark.parametrize("kind", [FineTunedClassifier, FineTunedRegressor, FewShotClassifier], ids=lambda k: k.__name__)
def test_a_weight_of_k_is_a_row_that_comes_k_times_and_order_has_no_effect(kind, freeze_depth):
    y = TARGETS.get(kind, Y)
    model = kind("toy:rows", freeze_depth=freeze_depth, max_epochs=2, random_state=0, dtype="float32")
    weights = np.arange(24) % 3 + 1
    weighted = model.fit(ROWS, y, weights).transform(ROWS)
    repeated = np.random.default_rng(1).permutation(np.repeat(np.arange(24), weights))
    np.testing.assert_allclose(model.fit(ROWS[repeated], y[repeated]).transform(ROWS), weighted, rtol=1e-4, atol=1e-5)
