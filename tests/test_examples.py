"""The examples that a newcomer runs, run."""

import importlib.util
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_in_a_table_and_two_pictures():
    """Without a data folder: its photographs come with pip."""
    environment = {k: v for k, v in os.environ.items() if k != "SKLTRANSFER_DATA"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / "01_search_freeze_depth.py"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    said = done.stdout
    assert "200 squares of photographs for training, 300 for testing" in said
    assert said.index("logistic regression on pixels") < said.index("pretrained network")  # the first numbers are quick
    assert "pretrained network: 100%" in done.stderr
    assert said.count("<- chosen by cross-validation") == 2
    names = ("pretrained network", "same network, random weights", "logistic regression on pixels")
    pretrained, random, pixels = (float(re.search(rf"^{name} +(\d\.\d+)", said, re.M)[1]) for name in names)
    assert pretrained > 0.85
    assert max(random, pixels) < 0.4
    pictures = re.findall(r"^Picture: (.+)$", said, re.M)
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size[0] > 500


@pytest.fixture
def surfaces():
    return load("surfaces")


def test_surfaces_are_grey_squares_that_differ_neither_in_brightness_nor_in_contrast(surfaces):
    X_train, X_test, y_train, y_test = surfaces.load_surfaces()
    assert (X_train.shape, X_test.shape) == ((200, 64, 64), (300, 64, 64))
    assert dict(zip(*np.unique(y_train, return_counts=True), strict=True)) == dict.fromkeys(surfaces.PHOTOS, 20)
    assert dict(zip(*np.unique(y_test, return_counts=True), strict=True)) == dict.fromkeys(surfaces.PHOTOS, 30)
    for X in (X_train, X_test):
        assert X.min() >= 0
        assert X.max() <= 1
        np.testing.assert_allclose(X.mean((1, 2)), 0.5, atol=0.05)  # clipping a few pixels moves it a little
        np.testing.assert_allclose(np.median(X.std((1, 2))), 0.2, atol=0.02)


def test_training_squares_come_from_the_left_half_of_a_photo_and_test_squares_from_its_right_half(surfaces):
    photo = np.zeros((512, 512, 3), np.uint8)
    photo[:, 256:] = 255
    left, right = surfaces.cut(photo)
    assert (left.shape, left.max()) == ((32, 64, 64), 0)
    assert (right.shape, right.min()) == ((32, 64, 64), 255)


def test_the_surfaces_come_without_a_download(surfaces, monkeypatch):
    """scikit-image fetches what its wheel does not carry; what is used here, it carries."""
    monkeypatch.setattr(socket, "socket", None)
    assert len(surfaces.load_surfaces()) == 4


FIRST_TUTORIAL = EXAMPLES / "tutorials" / "first_transfer.py"


def test_the_licence_of_each_photo_is_named(surfaces):
    page = FIRST_TUTORIAL.read_text(encoding="utf-8")
    rows = re.sub(r"\n#      - ", " | ", page).splitlines()  # of the list-table
    for lines in (surfaces.__doc__.splitlines(), rows):
        for name in surfaces.PHOTOS:
            row = rf"(#    \* -)? *`?{name}\b.*(CC|public domain|copyright)"
            assert len([line for line in lines if re.match(row, line)]) == 1


def test_the_first_tutorial_cuts_the_same_squares(surfaces):
    namespace = {}
    exec(FIRST_TUTORIAL.read_text(encoding="utf-8").partition("\n# %%")[0], namespace)
    for name, expected in zip(("X_train", "X_test", "y_train", "y_test"), surfaces.load_surfaces(), strict=True):
        np.testing.assert_array_equal(namespace[name], expected)


@pytest.fixture
def archives(tmp_path, rng):
    """A training and a validation archive in the layout of Tiny-ImageNet: two kinds of 64 x 64 pictures."""
    for part, name, n in (("train", "tiny_imagenet_64_train_a", 192), ("val", "tiny_imagenet_64_val", 8)):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar:
            for i in range(n):
                pixels = rng.integers(0, 128, (64, 64, 3), dtype=np.uint8) + np.uint8(127 * (i % 2))
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"{part}/n{i % 2}/{i}.JPEG")
                member.size = len(buffer.getvalue())
                tar.addfile(member, io.BytesIO(buffer.getvalue()))
    return tmp_path


def test_pretraining_goes_on_after_an_interrupt_as_if_there_had_been_none(archives, tmp_path, monkeypatch):
    recipe = load("pretrain_bundled_backbone")
    monkeypatch.setenv("SKLTRANSFER_DATA", str(archives))

    def pretrain(folder):
        monkeypatch.setattr(
            sys, "argv", ["x", "--checkpoint", str(tmp_path / folder), "--archives", "a", "--epochs", "2"]
        )
        recipe.main()

    pretrain("whole")
    true = recipe.train_epoch

    def interrupted(network, optimiser, photos, labels, epoch, n_epochs):
        if epoch == 1:
            raise KeyboardInterrupt
        return true(network, optimiser, photos, labels, epoch, n_epochs)

    monkeypatch.setattr(recipe, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain("resumed")
    monkeypatch.setattr(recipe, "train_epoch", true)
    pretrain("resumed")
    states = []
    for folder in ("whole", "resumed"):
        with safe_open(tmp_path / folder / "tiny-photo.safetensors", "pt") as file:
            states.append({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
            assert len(json.loads(file.metadata()["learning_curve"])) == 2
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
