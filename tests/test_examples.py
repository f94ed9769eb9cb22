"""The examples that a newcomer runs, run."""

import importlib.util
import io
import json
import os
import pathlib
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
def test_the_demo_ends_in_a_table_and_a_picture(monkeypatch):
    environment = {k: v for k, v in os.environ.items() if k != "SKLTRANSFER_DATA"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / "01_search_freeze_depth.py"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.count("<- chosen by cross-validation") == 2
    assert "logistic regression on pixels" in done.stdout
    assert "Ants and bees are left out" in done.stdout
    picture = pathlib.Path(done.stdout.split("Picture: ")[1].splitlines()[0])
    with Image.open(picture) as image:
        assert image.size[0] > 500


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
