"""The log named skltransfer: what went on behind the scenes, for those who ask."""

import logging

import huggingface_hub
import numpy as np
import pytest
import torch
from stores import forget

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.engine.inference import dtypes
from skltransfer.exceptions import WeightsError


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, "skltransfer")
    return caplog


def features(X, **parameters):
    return PretrainedFeatureExtractor("toy:rows", **{"dtype": "float32", **parameters}).transform(X)


def test_a_damaged_file_of_a_store_is_told(log, tmp_path, rng):
    X = rng.normal(size=(9, 3))
    store = ActivationStore(tmp_path)
    features(X, cache=store)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"")
    forget(store)
    features(X, cache=ActivationStore(tmp_path, max_bytes=10**6))
    assert f"{file} is damaged, not ours, or missing: its content is computed again" in log.messages


def test_eviction_is_told(log, tmp_path, rng):
    store = ActivationStore(tmp_path, max_bytes=3000)
    for _ in range(2):
        features(rng.normal(size=(9, 3)), cache=store)
    assert [r for r in log.records if r.levelno == logging.DEBUG and "made room for newer activations" in r.message]


def test_a_fit_that_goes_on_is_told(log, tmp_path, rng):
    X, y = rng.normal(size=(8, 3)), np.arange(8) % 2
    model = FineTunedClassifier("toy:rows", freeze_depth=0.5, max_epochs=1, checkpoint=tmp_path, random_state=0)
    model.fit(X, y)
    assert log.messages == []
    model.fit(X, y)
    assert log.messages == [f"training goes on from {next(tmp_path.glob('*.pt'))}"]


def test_features_that_do_not_survive_bfloat16_are_told(log, monkeypatch):
    monkeypatch.setattr(dtypes, "is_native", lambda *_: True)
    monkeypatch.setattr(dtypes, "_least_cosine", lambda _: 0.9)
    backbone = load_backbone("toy:rows", weights="random:77")
    PretrainedFeatureExtractor(backbone, dtype="auto", cache=None).transform(np.eye(3))
    assert log.messages == ["the features of toy:rows do not survive bfloat16: dtype='auto' is float32"]


def test_what_is_fetched_is_told(log, monkeypatch, tmp_path):
    def absent(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("timm:resnet18", "torchvision:resnet34"):
        with pytest.raises(WeightsError):
            load_backbone(name, max_pixels=12_345)
    first, second = log.messages
    assert first.startswith("fetching model.safetensors of timm/resnet18")
    assert second.startswith("fetching https://download.pytorch.org/models/resnet34-")
