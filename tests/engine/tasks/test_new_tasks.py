"""A task is one file: a detector, a tagger and a generator that the package does not know, each written beside it."""

import pathlib

import numpy as np
import pytest
import torch
from toy_detector import ToyDetection
from toy_generator import ToyGeneration
from toy_tagger import ToyTagging

from skltransfer import ActivationStore, FineTunedClassifier, load_backbone
from skltransfer.engine import (
    BadSamplePolicy,
    FrozenStages,
    NetworkSpec,
    RecordTargets,
    TrainingPlan,
    TuningJob,
    answers_of,
    geometries_of,
    tune,
)
from skltransfer.inputs import samples_from_collection

MOST_LINES = 80


class Fit:
    """A task fitted on samples: what an estimator does."""

    def __init__(self, name, task, X, targets, taps, boundary, store=None, **plan):
        self.backbone = load_backbone(name) if isinstance(name, str) else name
        self.task, self.policy = task, BadSamplePolicy()
        self.stages = FrozenStages(self.backbone, dtype=torch.float32, device=torch.device("cpu"), store=store)
        self.X = samples_from_collection(X, self.backbone.modality, **self.backbone.reading)
        if callable(targets):
            geometries = geometries_of(self.X, self.backbone, np.arange(len(self.X)))
            targets = targets(list(geometries.values()))
        job = TuningJob(
            stages=self.stages,
            spec=NetworkSpec(boundary, None, head="own", taps=taps),
            policy=self.policy,
            to_task=lambda data: (task, data),
            plan=TrainingPlan(**{"max_epochs": 40, "batch_size": 16, "learning_rate": 1e-2, "seed": 0} | plan),
            penalty=None,
        )
        self.result = tune(job, self.X, targets, np.ones(len(self.X)))

    def predict(self, X):
        samples = samples_from_collection(X, self.backbone.modality, **self.backbone.reading)
        answers, bad = answers_of(self.result.network, self.stages, samples, self.policy, self.task)
        assert not bad
        return answers


def squares(rng, n):
    """Dark pictures of two shapes with up to two bright squares, and their boxes."""
    X, y = [], []
    for i in range(n):
        picture, boxes = rng.integers(0, 60, (60, 60 if i % 2 else 40, 3), dtype=np.uint8), []
        for corner in ((4, 12), (24, 36))[: i % 3]:
            left, top = rng.integers(2, 8), corner[0] + rng.integers(0, 8)
            picture[top : top + 16, left : left + 16] = 250
            boxes.append([left, top, left + 16, top + 16])
        X.append(picture)
        y.append(np.array(boxes, dtype=float).reshape(-1, 4))
    return X, y


@pytest.mark.parametrize("boundary", [0, 2, 4])
def test_a_detector_finds_boxes_in_pixels_of_the_picture(rng, boundary):
    X, y = squares(rng, 48)
    task = ToyDetection(16)
    fit = Fit("toy:images", task, X, lambda geometries: task.targets(y, geometries), taps=(2, 3, 4), boundary=boundary)
    found = fit.predict(X)
    right = sum(len(ours) == len(theirs) for ours, theirs in zip(found, y, strict=True))
    assert right >= 40
    errors = [
        np.abs(np.sort(a, 0) - np.sort(b, 0)).max() for a, b in zip(found, y, strict=True) if len(a) == len(b) > 0
    ]
    assert np.median(errors) < 8  # a pixel of the input is four of the picture
    assert fit.result.history["loss"][-1] < fit.result.history["loss"][0] / 2


TEXTS = ["a1b22", "333", "zz9", "q", "17ab", "x8y7z6", "hello5", "0"] * 4
KINDS = [["digit" if letter.isdigit() else "letter" for letter in text] for text in TEXTS]


@pytest.mark.parametrize("boundary", [0, 4])
def test_a_tagger_answers_as_many_tags_as_a_text_has_letters(boundary):
    task = ToyTagging(["letter", "digit"])
    fit = Fit("toy:text", task, TEXTS, task.targets(KINDS), taps=(1, 4), boundary=boundary)
    found = fit.predict(["ab12", "7", "c0ffee"])
    assert [len(tags) for tags in found] == [4, 1, 6]
    known = fit.predict(TEXTS)
    assert (
        np.mean([a == b for ours, theirs in zip(known, KINDS, strict=True) for a, b in zip(ours, theirs, strict=True)])
        > 0.95
    )


@pytest.mark.parametrize("boundary", [1, 4])
def test_a_generator_answers_one_letter_at_a_time(boundary):
    X = [f"{a}{b}" for a in "abc" for b in "abc"] * 3
    y = [text[::-1] * (1 + (text[0] == "a")) for text in X]  # of unequal length
    task = ToyGeneration("abc")
    fit = Fit("toy:text", task, X, task.targets(y), taps=(4,), boundary=boundary, max_epochs=120)
    assert np.mean([ours == theirs for ours, theirs in zip(fit.predict(X), y, strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("name", "X"), [("toy:images", squares(np.random.default_rng(0), 6)[0]), ("toy:text", TEXTS[:6])]
)
def test_with_a_store_is_without_it_and_each_tap_is_remembered_once(name, X):
    task = ToyDetection(16) if name == "toy:images" else ToyTagging(["letter", "digit"])
    y = [np.zeros((0, 4))] * 6 if name == "toy:images" else None
    targets = task.targets(KINDS[:6]) if y is None else (lambda geometries: task.targets(y, geometries))
    store = ActivationStore()
    answers = [
        Fit(name, task, X, targets, taps=(2, 4), boundary=3, store=kept, max_epochs=2).predict(X)
        for kept in (None, store, store)
    ]
    for found in answers[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found, answers[0], strict=True))
    assert store.info()["misses"] == 6


def test_the_order_of_rows_does_not_matter(rng):
    X, y = squares(rng, 12)
    task, order = ToyDetection(16), rng.permutation(12)
    plain = Fit("toy:images", task, X, lambda g: task.targets(y, g), taps=(2, 4), boundary=3, max_epochs=2)
    mixed = [X[i] for i in order], [y[i] for i in order]
    other = Fit(
        "toy:images", task, mixed[0], lambda g: task.targets(mixed[1], g), taps=(2, 4), boundary=3, max_epochs=2
    )
    for key, value in plain.result.network.changed.items():
        np.testing.assert_array_equal(value, other.result.network.changed[key])


def test_windows_are_refused_where_outputs_are_no_vector():
    backbone, task = load_backbone("toy:text", long_samples="windows", max_length=8), ToyTagging(["letter", "digit"])
    with pytest.raises(ValueError, match="long_samples='truncate'"):
        Fit(backbone, task, TEXTS, task.targets(KINDS), taps=(4,), boundary=2)


def test_the_input_is_no_tap():
    task = ToyTagging(["letter", "digit"])
    with pytest.raises(ValueError, match="from 1 to 4; got the input, boundary 0"):
        Fit("toy:text", task, TEXTS, task.targets(KINDS), taps=(0, 4), boundary=2)


def test_records_of_other_dtypes_differ():
    zeros = [{"tags": np.zeros(2, dtype)} for dtype in (np.int64, np.float64)]
    targets = RecordTargets([*zeros, zeros[0]])
    assert targets.key(0) != targets.key(1)
    assert targets.key(0) == targets.key(2)


def test_answers_of_a_task_with_vectors_are_the_estimators(rng):
    X, y = rng.random((20, 16, 16)), np.arange(20) % 2
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, dtype="float32", random_state=0).fit(X, y)
    stages = FrozenStages(load_backbone("toy:images"), dtype=torch.float32, device=torch.device("cpu"), store=None)
    samples = samples_from_collection(list(X), "image", **stages.backbone.reading)
    found, _ = answers_of(model._network_, stages, samples, BadSamplePolicy(), model._task_)
    assert found == model.predict(X).tolist()


def test_each_is_one_short_file():
    for path in pathlib.Path(__file__).parent.glob("toy_*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
