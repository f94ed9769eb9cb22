"""A private suffix can hand out what passes several boundaries, as a pyramid over maps needs it."""

import copy

import pytest
import torch

from skltransfer import load_backbone

NETWORKS = ["toy:images", "toy:rows", "toy:text", "toy:audio", "torchvision:resnet18", "timm:vit_tiny_patch16_224"]


def backbone_of(name):
    return load_backbone(name, weights="pretrained" if name.startswith("toy:") else "random")


def inputs_of(backbone):
    x = backbone.example(2)
    if backbone.modality == "text":
        x = x.clone()
        x[1, 2:] = -1  # padding
    return x


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_give_what_the_frozen_stages_give(name):
    backbone = backbone_of(name)
    x, n = inputs_of(backbone), backbone.n_stages
    for boundary, taps in ((0, [1, n]), (0, list(range(1, n + 1))), (1, [2, n - 1]), (n - 1, [n])):
        start = backbone.prefix(0, boundary)(x)
        found = backbone.suffix(boundary, taps).eval()(start)
        assert len(found) == len(taps)
        for tap, value in zip(taps, found, strict=True):
            expected = backbone.prefix(0, tap)(x)
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ["toy:images", "toy:text"])
def test_a_loss_at_a_tap_trains_what_comes_before_it_alone(name):
    backbone = backbone_of(name)
    suffix = backbone.suffix(1, [2, 4])
    first, _ = suffix(backbone.prefix(0, 1)(backbone.example(2)).clone())
    first.nan_to_num().square().sum().backward()
    moved = {key for key, p in suffix.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved
    assert moved <= set(backbone.stage_parameters(1))


@pytest.mark.parametrize("name", ["toy:images", "toy:text"])
def test_names_are_the_librarys_and_copies_are_private(name):
    backbone = backbone_of(name)
    suffix = backbone.suffix(2, [3, 4])
    assert suffix.state_dict().keys() == backbone.suffix(2).state_dict().keys()
    with torch.no_grad():
        for p in suffix.parameters():
            p.zero_()
    again = backbone.suffix(2, [3, 4])
    assert any(p.abs().sum() > 0 for p in again.parameters())
    twin = copy.deepcopy(again).eval()
    x = backbone.prefix(0, 2)(backbone.example(2))
    for a, b in zip(twin(x), again.eval()(x), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
