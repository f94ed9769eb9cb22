"""What can be asked of training besides a depth: gradual unfreezing, calibration."""

import inspect
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import TINY_PHOTO
from sklearn.metrics import log_loss
from torchvision.transforms import v2

from skltransfer import ActivationStore, FineTunedClassifier, FineTunedRegressor, load, load_backbone
from skltransfer.engine import train, tuning
from skltransfer.engine.training import loop
from skltransfer.exceptions import MissingDependencyError


@pytest.fixture
def noisy(rng):
    """Pictures whose brightness tells the class in three cases of four."""
    y = rng.integers(0, 2, 160)
    seen = np.where(rng.random(160) < 0.75, y, 1 - y)
    return rng.uniform(0, 0.5, (160, 16, 16)) + 0.4 * seen[:, None, None], y


def changed_stages(model):
    return {name.split(".")[1] for name in model._network_.changed if name.startswith("suffix.")}


def test_gradual_unfreezing_trains_the_last_stage_first(two_kinds):
    X, y = two_kinds
    model = FineTunedClassifier(
        "toy:images", freeze_depth=0.0, unfreeze_schedule="gradual", max_epochs=2, random_state=0
    ).fit(X, y)
    assert changed_stages(model) == {"block2", "block3"}  # two epochs are enough for two phases
    assert model.n_iter_ == 2
    model.set_params(max_epochs=6).fit(X, y)
    assert changed_stages(model) == {"stem", "block1", "block2", "block3"}
    assert model.n_iter_ == len(model.history_["loss"]) == len(model.history_["learning_rate"]) == 6
    assert model.score(X, y) > 0.9


def test_gradual_unfreezing_with_one_stage_is_plain_training(two_kinds):
    X, y = two_kinds
    models = [
        FineTunedClassifier("toy:images", freeze_depth=-1, unfreeze_schedule=u, max_epochs=2, random_state=0).fit(X, y)
        for u in (None, "gradual")
    ]
    np.testing.assert_array_equal(*(model.predict_proba(X) for model in models))


@pytest.mark.parametrize("cache", [None, "store"])
def test_gradual_unfreezing_is_the_same_with_and_without_store(two_kinds, cache):
    X, y = two_kinds
    model = FineTunedRegressor(
        "toy:images",
        freeze_depth=0.0,
        unfreeze_schedule="gradual",
        max_epochs=4,
        dtype="float32",
        cache=cache and ActivationStore(),
        random_state=0,
    )
    y = X.mean((1, 2, 3)) if X.ndim == 4 else X.mean((1, 2))
    expected = FineTunedRegressor(**model.get_params() | {"cache": "memory"}).fit(X, y).predict(X)
    np.testing.assert_allclose(model.fit(X, y).predict(X), expected, atol=1e-6)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_a_temperature_makes_probabilities_more_honest_and_leaves_labels(noisy, freeze_depth, tmp_path):
    X, y = noisy
    model = FineTunedClassifier(
        "toy:images",
        pooling="flatten",
        freeze_depth=freeze_depth,
        C=1e4,
        max_epochs=20,
        validation_fraction=0.3,
        calibrate="temperature",
        random_state=0,
    ).fit(X[:80], y[:80])
    honest = log_loss(y[80:], model.predict_proba(X[80:]))
    assert model._task_.temperature > 1.2  # a model that knows its samples by heart is too sure of itself
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
    np.testing.assert_array_equal(model.predict(X), model.classes_[(model.decision_function(X) > 0).astype(int)])
    model.save(tmp_path / "model.skl")
    np.testing.assert_array_equal(load(tmp_path / "model.skl").predict_proba(X), model.predict_proba(X))
    labels = model.predict(X)
    model._task_.temperature = 1.0
    assert honest < log_loss(y[80:], model.predict_proba(X[80:]))
    np.testing.assert_array_equal(model.predict(X), labels)


def test_the_probe_does_not_see_what_calibration_holds_out(noisy, monkeypatch):
    X, y = noisy
    parts = []
    true = tuning.split
    monkeypatch.setattr(tuning, "split", lambda *arguments: parts.append(true(*arguments)) or parts[-1])
    model = FineTunedClassifier("toy:images", freeze_depth=1.0, calibrate="temperature", random_state=0).fit(X, y)
    ((seen, held_out),) = parts
    assert 0 < len(held_out) < len(seen)
    alone = FineTunedClassifier("toy:images", freeze_depth=1.0).fit(X[seen.rows], y[seen.rows])
    np.testing.assert_array_equal(*(m._network_.changed["readout.head.0.weight"] for m in (model, alone)))


@pytest.mark.parametrize("labels", [3, "many"])
def test_calibration_of_several_classes_and_of_many_labels(rng, labels):
    X = rng.uniform(0, 1, (60, 16, 16))
    y = rng.integers(0, 2, (60, 3)) if labels == "many" else rng.integers(0, 3, 60)
    model = FineTunedClassifier("toy:images", freeze_depth=1.0, C=1e3, calibrate="temperature", random_state=0)
    plain = FineTunedClassifier("toy:images", freeze_depth=1.0, C=1e3).fit(X, y).predict_proba(X)
    calibrated = model.fit(X, y).predict_proba(X)
    assert calibrated.shape == plain.shape
    assert calibrated.max(1).mean() < plain.max(1).mean()  # the labels are noise


@pytest.fixture
def sided(rng):
    """Pictures that are lit on one side; a flip hides which."""
    y = np.arange(40) % 2
    X = rng.uniform(0, 0.3, (40, 16, 16))
    X[y == 0, :, :8] += 0.5
    X[y == 1, :, 8:] += 0.5
    return X, y


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
def test_training_pictures_are_changed_and_those_to_predict_are_not(sided, freeze_depth):
    X, y = sided
    options = {"pooling": "flatten", "freeze_depth": freeze_depth, "head_init": "random", "random_state": 0}
    options |= {"max_epochs": 20, "learning_rate": 0.01}
    changes = {
        "none": None,
        "shifted": v2.Compose([v2.RandomCrop(16, padding=1)]),
        "flipped": v2.Compose([v2.RandomHorizontalFlip(0.5)]),
    }
    models = {
        name: FineTunedClassifier("toy:images", augment=a, **options).fit(X[:20], y[:20]) for name, a in changes.items()
    }
    scores = {name: model.score(X[20:], y[20:]) for name, model in models.items()}
    assert scores["none"] > 0.9
    assert scores["shifted"] > 0.9
    sure = {name: np.abs(model.predict_proba(X[20:])[:, 1] - 0.5).mean() for name, model in models.items()}
    assert sure["flipped"] < 0.7 * sure["none"]  # it cannot know which side was lit
    assert len(models["shifted"].history_["loss"]) == 20


def test_augmented_fits_are_repeatable_whatever_the_order_of_rows(sided, rng):
    X, y = sided
    order = rng.permutation(len(X))
    model = FineTunedClassifier(
        "toy:images", augment=v2.Compose([v2.RandomCrop(16, padding=2)]), max_epochs=2, random_state=0
    )
    expected = model.fit(X, y).predict_proba(X)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(model.fit(X[order], y[order]).predict_proba(X), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(model.set_params(random_state=1).fit(X, y).predict_proba(X), expected)


def test_augmentation_fills_no_store_but_for_the_pictures_as_they_are(sided):
    X, y = sided
    store = ActivationStore()
    model = FineTunedClassifier(
        "toy:images", augment=v2.Compose([v2.RandomHorizontalFlip()]), max_epochs=3, cache=store, random_state=0
    ).fit(X, y)
    assert store.info()["misses"] == len(X)
    assert model.predict(X).shape == y.shape
    assert store.info()["misses"] == len(X)


def test_what_augment_cannot_be_is_refused(sided):
    X, y = sided
    with pytest.raises(ValueError, match=r"augment must turn a uint8 tensor .* got torch.float32"):
        FineTunedClassifier("toy:images", augment=v2.Compose([v2.ToDtype(torch.float32, scale=True)])).fit(X, y)
    with pytest.raises(ValueError, match=r"has a get_params of its own.*Wrap it: torchvision.transforms.v2.Compose"):
        FineTunedClassifier("toy:images", augment=v2.RandomCrop(16)).fit(X, y)
    with pytest.raises(ValueError, match="augment is for images in fit; rows backbones cannot use it"):
        FineTunedClassifier("toy:rows", augment=v2.Compose([v2.RandomHorizontalFlip()])).fit(X.reshape(40, -1), y)
    with pytest.raises(ValueError, match="partial_fit cannot use it"):
        FineTunedClassifier("toy:images", augment=v2.Compose([v2.RandomHorizontalFlip()])).partial_fit(
            X, y, classes=[0, 1]
        )


@pytest.fixture
def lora():
    pytest.importorskip("peft", reason="the extra lora is not installed")


@pytest.mark.usefixtures("lora")
@pytest.mark.parametrize("name", ["toy:images", "toy:text", "toy:audio", "toy:rows"])
def test_adapters_are_all_that_moves_and_nothing_else_is_saved(two_kinds, rng, tmp_path, name):
    y = np.arange(24) % 2
    X = {
        "toy:images": rng.uniform(0, 0.5, (24, 16, 16)) + 0.4 * y[:, None, None],
        "toy:text": [f"{'good' if k else 'bad'} {i}" for i, k in enumerate(y)],
        "toy:audio": [(rng.uniform(-0.1, 0.1, 800 + 40 * i) * (1 + 5 * k), 16_000) for i, k in enumerate(y)],
        "toy:rows": rng.standard_normal((24, 5)) + y[:, None],
    }[name]
    model = FineTunedClassifier(name, freeze_depth=0.5, adapter="lora", max_epochs=3, random_state=0).fit(X, y)
    changed = {key for key in model._network_.changed if key.startswith("suffix.")}
    assert changed
    assert all(".lora_A." in key or ".lora_B." in key for key in changed)
    n_adapter = sum(model._network_.changed[key].size for key in changed)
    n_head = sum(value.size for key, value in model._network_.changed.items() if key.startswith("readout.head."))
    assert model.n_trainable_params_ == n_adapter + n_head
    assert any(np.abs(model._network_.changed[key]).max() > 0 for key in changed if ".lora_B." in key)
    model.save(tmp_path / "model.skl")
    for copy in (load(tmp_path / "model.skl"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    again = FineTunedClassifier(name, freeze_depth=0.5, adapter="lora", max_epochs=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.usefixtures("lora")
def test_adapters_go_with_gradual_unfreezing_and_checkpoints(two_kinds, tmp_path):
    X, y = two_kinds
    options = {"freeze_depth": 0.0, "adapter": "lora", "unfreeze_schedule": "gradual", "max_epochs": 4}
    whole = FineTunedClassifier("toy:images", random_state=0, **options).fit(X, y)
    for _ in range(2):
        kept = FineTunedClassifier("toy:images", checkpoint=tmp_path, random_state=0, **options).fit(X, y)
        np.testing.assert_array_equal(kept.predict_proba(X), whole.predict_proba(X))


@pytest.mark.usefixtures("lora")
def test_adapters_need_unfrozen_stages(two_kinds):
    with pytest.raises(ValueError, match="adapter='lora' goes into unfrozen stages, but freeze_depth=1.0 leaves none"):
        FineTunedClassifier("toy:images", freeze_depth=1.0, adapter="lora").fit(*two_kinds)
    model = FineTunedClassifier("toy:images", warm_start=True, max_epochs=1, random_state=0).fit(*two_kinds)
    with pytest.raises(ValueError, match="go on with the same backbone"):
        model.set_params(adapter="lora").fit(*two_kinds)


def test_the_missing_library_is_named(two_kinds, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'skltransfer\[lora\]'"):
        FineTunedClassifier("toy:images", adapter="lora").fit(*two_kinds)


KILLED = """
import os, signal, sys
import numpy as np
from skltransfer import FineTunedClassifier
from skltransfer.engine.training import loop
X = np.random.default_rng(0).uniform(0, 1, (40, 16, 16)); y = np.arange(40) % 2
steps = [0]
true = loop._Run._take_step
def step(self, *arguments):
    steps[0] += 1
    if steps[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return true(self, *arguments)
loop._Run._take_step = step
model = FineTunedClassifier("toy:images", checkpoint=sys.argv[1], **eval(sys.argv[3])).fit(X, y)
"""
HARD = {"freeze_depth": 0.0, "batch_size": 8, "max_epochs": 5, "norm_policy": "train", "random_state": 3}


@pytest.mark.parametrize(
    "options",
    [
        HARD,
        HARD | {"early_stopping": True, "n_iter_no_change": 2, "validation_fraction": 0.2, "learning_rate": 0.1},
        HARD | {"unfreeze_schedule": "gradual", "calibrate": "temperature"},
    ],
    ids=["plain", "early stopping", "gradual and calibrated"],
)
@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 10])
@pytest.mark.slow
def test_a_killed_fit_goes_on_and_ends_bitwise_as_if_nothing_had_been(tmp_path, options, step):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(step), repr(options)]
    assert subprocess.run(command, env=environment, timeout=120).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.pt"))) == (1 if step > 5 else 0)
    X, y = np.random.default_rng(0).uniform(0, 1, (40, 16, 16)), np.arange(40) % 2
    steps, true = [], loop._Run._take_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_take_step", lambda *arguments: steps.append(1) or true(*arguments))
        whole = FineTunedClassifier("toy:images", **options).fit(X, y)
        n_steps = len(steps)
        resumed = FineTunedClassifier("toy:images", checkpoint=tmp_path, **options).fit(X, y)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert resumed.history_ == whole.history_
    assert (len(steps) - n_steps < n_steps) == (step > 5)
    again = FineTunedClassifier("toy:images", checkpoint=tmp_path, **options).fit(X, y)  # all of it is there now
    np.testing.assert_array_equal(again.predict_proba(X), whole.predict_proba(X))


def test_another_fit_has_a_checkpoint_of_its_own(two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, checkpoint=tmp_path, random_state=0)
    for n, change in enumerate(
        ({}, {"learning_rate": 0.1}, {"random_state": 1}, {"freeze_depth": 0.25}, {"label_smoothing": 0.2}), 1
    ):
        model.set_params(**change).fit(X, y)
        assert len(list(tmp_path.iterdir())) == n
    model.fit(X[:-4], y[:-4])
    assert len(list(tmp_path.iterdir())) == 6


def test_a_damaged_checkpoint_or_a_full_disk_costs_time_alone(two_kinds, tmp_path, monkeypatch):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=2, checkpoint=tmp_path, random_state=0)
    expected = model.fit(X, y).predict_proba(X)
    (file,) = tmp_path.iterdir()
    for content in (b"", b"nonsense", file.read_bytes()[:-100]):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged, so training starts over"):
            np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), expected)
    file.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(UserWarning, match="No checkpoint could be written"):
        np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), expected)


def test_a_checkpoint_needs_a_seed(two_kinds, tmp_path):
    with pytest.raises(ValueError, match="needs random_state to be an int"):
        FineTunedClassifier("toy:images", checkpoint=tmp_path).fit(*two_kinds)


def test_long_gradients_are_cut(two_kinds, monkeypatch):
    X, y = two_kinds
    lengths = []
    step = torch.optim.AdamW.step

    def measured(self, *args, **kwargs):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        lengths.append(float(torch.linalg.vector_norm(torch.cat([g.ravel() for g in grads]))))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", measured)
    options = {"freeze_depth": 0.5, "max_epochs": 3, "head_init": "random", "random_state": 0, "dtype": "float32"}
    free = FineTunedClassifier("toy:images", **options).fit(X, y)
    longest = max(lengths)
    lengths.clear()
    FineTunedClassifier("toy:images", max_grad_norm=longest / 3, **options).fit(X, y)
    assert longest / 3 * 0.99 < max(lengths) < longest / 3 * 1.01
    loose = FineTunedClassifier("toy:images", max_grad_norm=longest * 2, **options).fit(X, y)
    np.testing.assert_array_equal(loose.predict_proba(X), free.predict_proba(X))


class Interrupt:
    """A profiler that presses Ctrl-C when the package's code is entered for the n-th time.

    Generators do not count: Python ignores what is raised while it closes one.
    """

    def __init__(self, n=None):
        self.n, self.count = n, 0

    def __call__(self, frame, event, argument):
        is_ours = f"{os.sep}skltransfer{os.sep}" in frame.f_code.co_filename
        if event == "call" and is_ours and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            self.count += 1
            if self.count == self.n:
                raise KeyboardInterrupt

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *exception):
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({"freeze_depth": 1.0}, "fit"),
        ({"freeze_depth": 0.5, "early_stopping": True}, "fit"),
        ({"freeze_depth": 0.5, "warm_start": True}, "fit"),
        ({"freeze_depth": 0.5}, "partial_fit"),
    ],
    ids=str,
)
def test_an_interrupt_at_any_step_leaves_the_old_model_whole(two_kinds, options, method):
    X, y = two_kinds
    options = {"max_epochs": 2, "random_state": 0, "dtype": "float32"} | options

    def old():
        return FineTunedClassifier("toy:images", cache=ActivationStore(), **options).fit(X, y)

    others = (X[::-1][:30], y[:30])
    model = old()
    expected, known = model.predict_proba(X), set(vars(model))
    with Interrupt() as uninterrupted:
        getattr(model, method)(*others)
    finished = model.predict_proba(X)
    assert not np.array_equal(finished, expected)
    assert uninterrupted.count > 100
    for n in np.linspace(1, uninterrupted.count, 24).astype(int):
        model = old()
        with pytest.raises(KeyboardInterrupt), Interrupt(n):
            getattr(model, method)(*others)
        assert set(vars(model)) == known
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        getattr(model, method)(*others)
        np.testing.assert_array_equal(model.predict_proba(X), finished)


@pytest.mark.parametrize(
    ("name", "computes_in"), [("torchvision:mobilenet_v3_small", None), (TINY_PHOTO, torch.bfloat16)]
)
def test_grouped_convolutions_train_in_float32_on_a_processor(photos, monkeypatch, name, computes_in):
    seen = []

    def watched(*arguments, **more):
        seen.append(arguments[5].autocast)
        return train(*arguments, **more)

    monkeypatch.setattr(tuning, "train", watched)
    backbone = load_backbone(name, weights="random", input_size=32)
    model = FineTunedClassifier(backbone, freeze_depth=-2, max_epochs=1, dtype="bfloat16", random_state=0)
    model.fit(photos, np.arange(12) % 2)
    assert seen == [computes_in]
    assert model.dtype_ == "bfloat16"
    assert np.isfinite(model.predict_proba(photos)).all()
