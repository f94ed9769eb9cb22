"""The conformance suite passes on our estimators, and catches what it is there to catch."""

import numpy as np
import pytest
import torch
from networks import small_default
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from torch import nn

from skltransfer import (
    AdaptedBackbone,
    FineTunedClassifier,
    FineTunedDetector,
    FineTunedQuestionAnswerer,
    FineTunedRegressor,
    FineTunedSegmenter,
    FineTunedTagger,
    FineTunedTextToText,
    FineTunedTranscriber,
    PretrainedFeatureExtractor,
)
from skltransfer.testing import _checks, check_transfer_estimator, transfer_checks

TOYS = {"image": "toy:images", "text": "toy:text", "audio": "toy:audio"}
OPTIONS = {"max_epochs": 2, "dtype": "float32", "random_state": 0}
OURS = [
    (kind(TOYS[modality], freeze_depth=depth, **OPTIONS | more), modality)
    for modality in TOYS
    for kind, more in ((FineTunedClassifier, {"C": 1.0}), (FineTunedRegressor, {}))
    for depth in (1.0, 0.5)
]
OURS += [(PretrainedFeatureExtractor(TOYS[modality], dtype="float32"), modality) for modality in TOYS]
OURS += [(AdaptedBackbone("toy:text", objective="masked_lm", **OPTIONS | {"max_epochs": 1}), "text")]
OURS += [(AdaptedBackbone("toy:images", dtype="float32"), "image")]
OURS += [
    (FineTunedTagger("toy:text", freeze_depth=depth, layer=layer, C=1.0, **OPTIONS | {"max_epochs": 12}), "words")
    for depth, layer in ((1.0, 0.5), (0.5, "penultimate"))
]
BOXES = {"input_size": None, "head": "retinanet", "head_width": 32, "max_epochs": 20, "freeze_depth": 1.0}
OURS += [(FineTunedDetector("toy:images", **OPTIONS | BOXES), "boxes")]
OURS += [(FineTunedSegmenter("toy:images", freeze_depth=depth, C=1.0, **OPTIONS), "masks") for depth in (1.0, 0.5)]
FAST = OPTIONS | {"batch_size": 4, "learning_rate": 0.01, "max_epochs": 20, "runtime": "eager"}
LETTERS = FAST | {"batch_size": 2, "learning_rate": 0.05, "max_epochs": 40}
OURS += [(FineTunedTextToText("toy:text-to-text", freeze_depth=0.5, max_new_tokens=6, **FAST), "translations")]
OURS += [(FineTunedQuestionAnswerer("toy:text", freeze_depth=0.25, **FAST), "answers")]
OURS += [(FineTunedTranscriber("toy:audio", freeze_depth=1.0, **LETTERS), "transcripts")]
AT_LENGTH = ("boxes", "translations", "answers", "transcripts")
OF_ANSWERS = {
    "check_answers_have_the_shape_of_their_samples",
    "check_bad_samples_are_named_with_their_row",
    "check_targets_fit_their_samples",
}


def case(estimator, modality, check):
    """Fits of detectors and writers take seconds, so that most of their checks are slow tests; and those of stages."""
    name = f"{type(estimator).__name__}-{modality}-{getattr(estimator, 'freeze_depth', '')}-{check.__name__}"
    is_slow = modality in AT_LENGTH and check.__name__ not in OF_ANSWERS
    is_slow |= modality in ("audio", "masks") and getattr(estimator, "freeze_depth", None) == 0.5
    return pytest.param(estimator, modality, check, marks=[pytest.mark.slow] if is_slow else [], id=name)


@pytest.mark.parametrize(
    ("estimator", "modality", "check"), [case(*one, check) for one in OURS for check in transfer_checks(*one)]
)
def test_ours_pass(estimator, modality, check):
    check(estimator, modality)


ON_THE_DEFAULT = {
    "extractor": PretrainedFeatureExtractor(dtype="float32"),
    "probe": FineTunedClassifier(freeze_depth=1.0, **OPTIONS),
    "tuned": FineTunedClassifier(freeze_depth=0.75, C=1.0, **OPTIONS),
    "regressor": FineTunedRegressor(freeze_depth=0.75, **OPTIONS),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "check"),
    [(kind, check) for kind, estimator in ON_THE_DEFAULT.items() for check in transfer_checks(estimator)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_default_network_passes(kind, check):
    check(clone(ON_THE_DEFAULT[kind]).set_params(backbone=small_default()), "image")


def test_as_many_checks_as_there_are():
    written = {name for name in vars(_checks) if name.startswith("check_")} - {
        "check_transfer_estimator",
        "check_is_fitted",
    }
    found = {*transfer_checks(FineTunedClassifier()), *transfer_checks(FineTunedTagger(), "words")}
    assert {check.__name__ for check in found} == written
    assert len(list(transfer_checks(FineTunedClassifier()))) == 17
    assert len(list(transfer_checks(FineTunedRegressor()))) == 15
    assert len(list(transfer_checks(PretrainedFeatureExtractor()))) == 11


class BuildsEarly(TransformerMixin, BaseEstimator):
    """In the style of embetter: the network is made in __init__, and never put into eval mode."""

    def __init__(self, width=8):
        self.width = width
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        batch = torch.stack([torch.as_tensor(x, dtype=torch.float32).permute(2, 0, 1) / 255 for x in X])
        return self.network(batch).flatten(1).detach().numpy()


class TrainsInBatches(ClassifierMixin, BaseEstimator):
    """In the style of a wrapper around a training loop: the global seed, batch statistics, labels as they come."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        torch.manual_seed(self.random_state)
        self.network_ = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
        pixels, labels = self._tensor(X), torch.as_tensor(np.asarray(y, dtype=np.int64))
        optimiser = None
        for _ in range(3):
            loss = nn.functional.cross_entropy(self.network_(pixels), labels)
            optimiser = optimiser or torch.optim.SGD(self.network_.parameters(), 0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.classes_ = np.array([0, 1])
        return self

    def _tensor(self, X):
        return torch.as_tensor(np.stack([np.asarray(x, dtype=np.float32) for x in X])) / 255

    def predict_proba(self, X):
        return self.network_(self._tensor(X)).softmax(1).detach().numpy()

    def predict(self, X):
        return self.predict_proba(X).argmax(1)


class Echoes(BaseEstimator):
    """Takes any target for a text, and answers a text that it has not seen with nothing."""

    def fit(self, X, y):
        self.answers_ = dict(zip(X, map(str, y), strict=False))
        return self

    def predict(self, X):
        answers = np.empty(len(X), dtype=object)
        answers[:] = [self.answers_.get(x) if number % 2 else None for number, x in enumerate(X)]
        return answers

    def score(self, X, y):
        return float(np.mean(self.predict(X) == y))


CAUGHT = {
    BuildsEarly: {
        "check_parameters_are_taken_as_they_are",
        "check_a_sample_does_not_depend_on_its_neighbours",
        "check_bad_samples_are_named_with_their_row",
        "check_no_samples_and_one_bare_sample_are_refused",
    },
    TrainsInBatches: {
        "check_asking_changes_nothing",
        "check_a_sample_does_not_depend_on_its_neighbours",
        "check_the_same_seed_gives_the_same",
        "check_bad_samples_are_named_with_their_row",
        "check_predicting_needs_a_fit",
        "check_any_labels_will_do",
        "check_repeated_samples_equal_weights",
    },
    Echoes: {
        "check_a_sample_does_not_depend_on_its_neighbours",
        "check_predicting_needs_a_fit",
        "check_lengths_of_x_and_y_are_compared",
        "check_answers_have_the_shape_of_their_samples",
        "check_targets_fit_their_samples",
    },
}


@pytest.mark.parametrize("kind", CAUGHT)
def test_what_goes_wrong_elsewhere_is_caught(kind):
    modality = "translations" if kind is Echoes else "image"
    results = check_transfer_estimator(kind(), modality, on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed >= CAUGHT[kind], CAUGHT[kind] - failed
    assert all((result["exception"] is None) == (result["status"] == "passed") for result in results)
    with pytest.raises(AssertionError, match="^check_"):
        check_transfer_estimator(kind(), modality)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="modality must be one of"):
        check_transfer_estimator(LogisticRegression(), "video")
    with pytest.raises(ValueError, match="on_fail must be"):
        check_transfer_estimator(LogisticRegression(), "image", on_fail="skip")
