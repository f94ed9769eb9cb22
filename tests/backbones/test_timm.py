"""timm's networks: features, preprocessing, and the real way of published weights through the hub's cache."""

import hashlib

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from skltransfer import PretrainedFeatureExtractor, list_backbones, load_backbone
from skltransfer.backbones._timm import _preprocessing
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

COMMIT = "0123456789" * 4
LARGE = ["swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3"]
SMALL = ["resnet18", "convnext_atto", "mobilenetv4_conv_small", "deit_tiny_patch16_224"]


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
@pytest.mark.slow
def test_features_are_timms_own_before_its_classifier(name, rng):
    photos = rng.integers(0, 256, (2, 300, 340, 3), dtype=np.uint8)
    network = load_backbone(f"timm:{name}", weights="random").library_network
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    x = torch.stack([transform(Image.fromarray(photo)) for photo in photos])
    with torch.inference_mode():
        theirs = network.forward_head(network.forward_features(x), pre_logits=True).numpy()
    extractor = PretrainedFeatureExtractor(f"timm:{name}", weights="random", dtype="float32", cache=None)
    np.testing.assert_allclose(extractor.transform(photos), theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def test_a_picture_is_squashed_where_the_weights_saw_it_so(rng):
    photo = Image.fromarray(rng.integers(0, 256, (100, 300, 3), dtype=np.uint8))
    network = timm.create_model("resnet18", pretrained_cfg_overlay={"crop_mode": "squash"})
    preprocessing = _preprocessing(timm, network)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    torch.testing.assert_close(preprocessing(np.asarray(photo)), transform(photo))


def test_a_preprocessing_that_is_not_reproduced_is_refused():
    network = timm.create_model("resnet18", pretrained_cfg_overlay={"crop_mode": "border"})
    with pytest.raises(UnsupportedBackboneError, match="crop_mode='border'"):
        _preprocessing(timm, network)


def other(state):
    """Weights that differ from those that timm draws."""
    return {k: v * 1.01 if v.is_floating_point() else v for k, v in state.items()}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The hub's cache folder, with weights in it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    for part in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    state = other(timm.create_model("resnet18").state_dict())
    save_file(state, tmp_path / "weights")
    blob = folder / "blobs" / hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()
    (tmp_path / "weights").rename(blob)
    (folder / "snapshots" / COMMIT / "model.safetensors").symlink_to(blob)
    return blob, state


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:resnet18.a1_in1k"])
def test_published_weights_are_found_in_the_hubs_cache(published, name):
    backbone = load_backbone(name, local_files_only=True)
    ours = backbone.suffix(0).state_dict()
    assert all(torch.equal(published[1][key], value) for key, value in ours.items())
    assert backbone.weights == "pretrained"


def test_weights_that_are_not_what_their_hash_says_are_refused(published):
    blob = published[0]
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"has the hash .*, not {blob.name[:12]}.*Delete "):
        load_backbone("timm:resnet18", local_files_only=True, max_pixels=1_000_003)


def test_absent_weights_name_the_model_the_cache_folder_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    expected = rf"timm/resnet34.a1_in1k.* is not in {tmp_path}.*load_backbone\('timm:resnet34'\) and copy the cache"
    with pytest.raises(WeightsError, match=expected):
        load_backbone("timm:resnet34", local_files_only=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="timm/resnet34.a1_in1k.* could not be fetched .*On a machine with network"):
        load_backbone("timm:resnet34")


def test_a_local_file_of_weights_fits_without_its_classifier(tmp_path):
    state = other(timm.create_model("resnet18", num_classes=3).state_dict())
    save_file(state, tmp_path / "mine.safetensors")
    ours = load_backbone("timm:resnet18", weights=str(tmp_path / "mine.safetensors")).suffix(0).state_dict()
    assert all(torch.equal(state[key], value) for key, value in ours.items())


def test_an_unknown_tag_is_answered_with_those_there_are():
    with pytest.raises(BackboneNotFoundError, match=r"no weights 'b7' for 'resnet18'; it has \['a1_in1k'"):
        load_backbone("timm:resnet18.b7")
    with pytest.raises(WeightsError, match="a tag is part of the name, as in 'timm:resnet18.a1_in1k'"):
        load_backbone("timm:resnet18", weights="A1_IN1K")


def test_timms_networks_are_listed():
    assert {"timm:resnet18", "timm:vit_small_patch14_dinov2", "timm:mixer_s32_224"} <= set(list_backbones("image"))
    assert "timm:vgg11" not in list_backbones()
