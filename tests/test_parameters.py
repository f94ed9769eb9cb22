"""A parameter that is not what it should be is complained about by its own name."""

import contextlib
import inspect
import warnings

import language_models
import numpy as np
import parameter_docs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

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
    PretrainedFeatureExtractor,
    score_transferability,
)

X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
Y = np.array([0, 1] * 4)
ALL = (
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
    PretrainedFeatureExtractor,
)
WORDS, TAGS = [["a", "1"], ["bc", "d", "2"]] * 4, [["O", "N"], ["O", "O", "N"]] * 4
SCENES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
BACKBONES = {
    FineTunedDetector: "toy:images",
    FineTunedQuestionAnswerer: "toy:text",
    FineTunedSegmenter: "toy:images",
    FineTunedTagger: "toy:text",
    FineTunedTextToText: "toy:text-to-text",
    FineTunedTranscriber: "toy:audio",
}
BOXES = [{"boxes": [[1, 1, 9, 9]], "labels": ["a"]}] * 8
DATA = {
    FineTunedLanguageModel: (["a+b=", "c"] * 4, ["ab", "cc"] * 4),
    FineTunedQuestionAnswerer: ([("what ?", "buy a fig"), ("how ?", "sell 2 plums")] * 4, ["fig", "2"] * 4),
    FineTunedDetector: (SCENES, BOXES),
    FineTunedSegmenter: (SCENES, SCENES[..., 0] // 128),
    MultiTaskFineTuner: (X, np.column_stack([Y, Y])),
    FineTunedTagger: (WORDS, TAGS),
    FineTunedTextToText: (list("abcdefgh"), list("stuvwxyz")),
    FineTunedTranscriber: ([(np.ones(800, np.float32) / 2, 8000)] * 8, ["ab"] * 8),
}
PARAMETERS = [(kind, name) for kind in ALL for name in inspect.signature(kind).parameters]
TAKE_ANY_WORD = {"cache", "checkpoint"}  # folders
BAD = st.sampled_from(["nonsens", -3.5, ["nonsens"], [], {"a": "b"}, object()])


@pytest.fixture(autouse=True, scope="module")
def elsewhere(tmp_path_factory):
    """A word that is taken for a folder makes one there."""
    with contextlib.chdir(tmp_path_factory.mktemp("parameters")):
        yield


@settings(max_examples=250, deadline=None)
@given(parameter=st.sampled_from(PARAMETERS), value=BAD)
def test_a_bad_parameter_is_told_by_its_own_name(parameter, value):
    kind, name = parameter
    if name in TAKE_ANY_WORD:
        return
    own = {"backbone": BACKBONES.get(kind, "toy:rows")} if "backbone" in inspect.signature(kind).parameters else {}
    own |= {"input_size": None, "max_epochs": 1} if kind is FineTunedDetector else {}
    if kind is FineTunedLanguageModel:
        own = {"backbone": language_models.shared_language_model(), "max_epochs": 1}
    model = kind(**own | {name: value})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(*DATA.get(kind, (X, Y)))
    except (TypeError, ValueError, OSError) as error:
        assert name in str(error), f"{kind.__name__}({name}={value!r}): {error}"  # noqa: PT017


@pytest.mark.parametrize("layers", [["penultimat"], ["stem", 1.5], [-9]])
def test_a_layer_that_a_ranking_does_not_know_is_told_as_layers(layers):
    with pytest.raises(ValueError, match="layers takes names of stages") as caught:
        score_transferability("toy:rows", np.vstack([X, X]), np.hstack([Y, Y]), layers=layers)
    assert "freeze_depth" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", [kind for kind in ALL if "alpha" in inspect.signature(kind).parameters], ids=lambda kind: kind.__name__
)
def test_a_ridge_penalty_is_positive_everywhere(kind):
    """scikit-learn's Ridge takes 0 and falls back to another solver; a closed form has no such way out."""
    y = np.column_stack([X[:, 0], X[:, 1]]) if kind is not ELMClassifier else Y
    own = {} if "backbone" not in inspect.signature(kind).parameters else {"backbone": "toy:rows", "freeze_depth": 1.0}
    for alpha in (0, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            kind(alpha=alpha, **own).fit(X, y)
    kind(alpha=1e-12, **own).fit(X, y)
    assert Ridge(alpha=0.0).fit(X, y).coef_.size


def test_only_the_first_parameter_may_be_passed_by_position():
    for kind in ALL:
        kinds = [p.kind for p in inspect.signature(kind).parameters.values()]
        assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 1
        assert set(kinds[1:]) <= {inspect.Parameter.KEYWORD_ONLY}


def test_each_parameter_is_documented_as_it_was_declared_or_with_a_reason(capsys):
    assert parameter_docs.main([]) == 0, capsys.readouterr().err
