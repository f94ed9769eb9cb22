"""Weights come from files without being unpickled, and fit entirely or not at all."""

import hashlib
import os
import pickle
import re

import numpy as np
import pytest
import torch
from networks import WEIGHTS, tiny_photo
from safetensors.torch import save_file
from torchvision import models

from skltransfer import PretrainedFeatureExtractor, describe_backbone, load_backbone
from skltransfer.backbones._torchvision import _preprocessing
from skltransfer.exceptions import WeightsError


def state_of(name, weights="random"):
    network = load_backbone(name, weights=weights).library_network
    return {k: v.clone() for k, v in network.state_dict().items()}


@pytest.fixture
def resnet_state():
    return state_of("torchvision:resnet18", "random:5")


def test_a_local_file_gives_the_weights_it_holds(tmp_path, resnet_state):
    torch.save(resnet_state, tmp_path / "w.pth")
    save_file(resnet_state, tmp_path / "w.safetensors")
    torch.save({"state_dict": resnet_state, "epoch": 3}, tmp_path / "checkpoint.pth")
    prints = {
        load_backbone("torchvision:resnet18", weights=tmp_path / file).fingerprint
        for file in ("w.pth", "w.safetensors", "checkpoint.pth")
    }
    assert prints == {load_backbone("torchvision:resnet18", weights="random:5").fingerprint}


def test_a_source_head_of_another_size_does_not_matter(tmp_path, resnet_state):
    state = resnet_state | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    torch.save(state, tmp_path / "seven.pth")
    del state["fc.weight"], state["fc.bias"]
    torch.save(state, tmp_path / "none.pth")
    for file in ("seven.pth", "none.pth"):
        backbone = load_backbone("torchvision:resnet18", weights=tmp_path / file)
        assert backbone.fingerprint == load_backbone("torchvision:resnet18", weights="random:5").fingerprint


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, resnet_state, fault):
    if fault == "missing":
        del resnet_state["layer3.0.conv1.weight"]
    elif fault == "unexpected":
        resnet_state["layer3.0.conv1.weight2"] = torch.zeros(1)
    else:
        resnet_state["layer3.0.conv1.weight"] = torch.zeros(1)
    torch.save(resnet_state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"does not fit ResNet: .*{fault} \['layer3.0.conv1.weight"):
        load_backbone("torchvision:resnet18", weights=tmp_path / "w.pth")


class Payload:
    ran = False

    def __reduce__(self):
        return exec, ("from test_weights import Payload; Payload.ran = True",)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path, write):
    path = tmp_path / "w.pth"
    if write == "torch":
        torch.save({"stem.0.weight": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps({"stem.0.weight": Payload()}))
    with pytest.raises(WeightsError, match="nothing else is ever unpickled"):
        load_backbone("toy:rows", weights=path)
    assert not Payload.ran


@pytest.mark.parametrize(
    "content", [b"", b"garbage", (10**9).to_bytes(8, "little") + b"{}", b"\x10" + b"\0" * 7 + b"{}"], ids=repr
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_damaged_file_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_backbone("toy:rows", weights=path)


@pytest.mark.parametrize("weights", ["pretrainde", "random:x", "random:-1", "no/such/file.pt"])
def test_other_words_for_weights_are_refused(weights):
    with pytest.raises(WeightsError, match="'pretrained', 'random', 'random:<seed>' or an existing file"):
        load_backbone("toy:rows", weights=weights)


def test_a_file_that_changes_is_loaded_anew(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(state_of("toy:rows", "random:1"), path)
    first = load_backbone("toy:rows", weights=path).fingerprint
    torch.save(state_of("toy:rows", "random:2"), path)
    os.utime(path, ns=(1, 1))
    assert load_backbone("toy:rows", weights=path).fingerprint != first


def test_official_weights_are_found_in_torchs_own_cache_and_their_hash_is_checked(tmp_path, monkeypatch, resnet_state):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    url = models.get_model_weights("resnet18").DEFAULT.url
    path = tmp_path / "checkpoints" / url.rsplit("/", 1)[-1]
    torch.save(resnet_state, path)
    with pytest.raises(WeightsError, match="does not have the hash f37072fd"):
        load_backbone("torchvision:resnet18", max_pixels=101)
    right = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    renamed = path.with_name(path.name.replace("f37072fd", right))
    path.rename(renamed)
    weights = models.get_model_weights("resnet18").DEFAULT
    monkeypatch.setattr(type(weights), "url", f"https://example.invalid/{renamed.name}", raising=False)
    backbone = load_backbone("torchvision:resnet18", max_pixels=102)
    assert backbone.fingerprint == load_backbone("torchvision:resnet18", weights="random:5", max_pixels=102).fingerprint
    assert backbone.classes[0] == "tench"


def test_all_official_weights_carry_a_hash_and_a_preprocessing():
    for name in models.list_models(module=models):
        for entry in models.get_model_weights(name):
            assert re.search(r"-[0-9a-f]{8,}\.pth$", entry.url), entry
            preset = entry.transforms()
            assert _preprocessing(preset, preset.resize_size[0], preset.crop_size[0]).input_shape[-1] >= 192


def test_named_weights_bring_their_own_address_and_preprocessing(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    entry = models.get_model_weights("mobilenet_v3_large").IMAGENET1K_V2
    state = state_of("torchvision:mobilenet_v3_large", "random:5")
    torch.save(state, tmp_path / "state.pth")
    right = hashlib.sha256((tmp_path / "state.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "state.pth").rename(tmp_path / "checkpoints" / f"mobilenet-{right}.pth")
    urls = {"IMAGENET1K_V1": "absent-00000000.pth", "IMAGENET1K_V2": f"mobilenet-{right}.pth"}
    monkeypatch.setattr(type(entry), "url", property(lambda self: f"https://example.invalid/{urls[self.name]}"))
    by_name = load_backbone("torchvision:mobilenet_v3_large:IMAGENET1K_V2")
    by_argument = load_backbone("torchvision:mobilenet_v3_large", weights="IMAGENET1K_V2")
    assert by_name.fingerprint == by_argument.fingerprint
    assert by_name.preprocessing.resize == 232
    assert len(by_name.classes) == 1000
    with pytest.raises(WeightsError, match="not in .*checkpoints"):
        load_backbone("torchvision:mobilenet_v3_large:IMAGENET1K_V1", local_files_only=True)


def test_named_weights_that_do_not_exist_or_contradict_are_refused():
    with pytest.raises(WeightsError, match=r"has no weights 'IMAGENET1K_V9'.*IMAGENET1K_V1"):
        load_backbone("torchvision:resnet18:IMAGENET1K_V9")
    with pytest.raises(WeightsError, match="already names its weights; leave out weights='random'"):
        load_backbone("torchvision:resnet18:IMAGENET1K_V1", weights="random")
    with pytest.raises(WeightsError, match="'pretrained', 'random', 'random:<seed>' nor an existing file"):
        load_backbone("toy:rows:IMAGENET1K_V1")


@pytest.mark.parametrize("local_files_only", [True, False])
def test_without_network_the_error_names_the_model_the_folder_and_the_way_out(tmp_path, monkeypatch, local_files_only):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    remedy = "'torchvision:resnet34' .*checkpoints.*bundled:efficientnet-lite0"
    with pytest.raises(WeightsError, match=remedy) as caught:
        load_backbone("torchvision:resnet34", local_files_only=local_files_only)
    assert str(tmp_path) in str(caught.value)


RELEASED = {
    "file": "9bf4215d0b8880a6c6a22e17dcb278bee31a6e9538914ae3458fc6f963acadef",
    "fingerprint": "24a8816022cfade79ee5524d66744f227fe37f6978370c6916c2b31da6f25823",
    "classes": [62, 62],
    "features": [[3.3666, 0.0973, 1.5099, 0.1728], [0.2023, 0.0, 0.0, 0.0]],
}


def generated_photos():
    """Two pictures that are the same everywhere: a ramp, and a chequered ring."""
    y, x = np.mgrid[:64, :64]
    ramp = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1)
    ring = np.stack([(x // 8 + y // 8) % 2 * 255, np.hypot(x - 32, y - 32) * 5 % 256, 255 - 4 * x], axis=-1)
    return np.stack([ramp, ring]).astype(np.uint8)


def test_the_weights_of_tiny_photo_are_the_ones_that_were_released():
    backbone = tiny_photo()
    assert WEIGHTS.stat().st_size < 6_000_000
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == RELEASED["file"]
    assert backbone.fingerprint == RELEASED["fingerprint"]
    assert len(backbone.classes) == 200
    assert backbone.n_stages == 9
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    assert backbone.source_outputs(x).argmax(1).tolist() == RELEASED["classes"]
    features = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None).transform(generated_photos())
    np.testing.assert_allclose(features[:, :4], RELEASED["features"], rtol=1e-3, atol=1e-3)
    sizes = [stage.n_parameters for stage in describe_backbone(backbone).stages]
    assert max(sizes) < 0.45 * sum(sizes)


def test_tiny_photo_takes_any_size_of_photo(rng):
    backbone = tiny_photo()
    for side in (32, 64, 96, 129):
        assert backbone.prefix(0, 9)(torch.rand(1, 3, side, side)).shape[1] == 256
    sizes = [(20, 20), (64, 64), (300, 180)]
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    assert PretrainedFeatureExtractor(backbone).transform(photos).shape == (3, 256)
