"""README, docs and docstrings do what they say: each example is run, each link leads somewhere."""

import doctest
import importlib
import pathlib
import re
import runpy

import matplotlib
import pytest
from pages import run_page, same_output

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "skltransfer").rglob("*.py"))
]


def page_name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    failures, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failures == 0


LONG = {"docs/index.md"}  # runs what README.md runs
LONG |= {f"docs/paths/{name}.md" for name in ("classify_images", "classify_text", "serve", "tables")}
LONG |= {f"docs/how_to/{name}.md" for name in ("choose_a_backbone", "continue_pretraining", "does_transfer_help")}
LONG |= {f"docs/how_to/{name}.md" for name in ("deploy", "detect_objects", "domain_adaptation", "fine_tune")}
LONG |= {"docs/how_to/segment_images.md", "docs/explanation/transferability.md", "docs/how_to/tag_words.md"}
LONG |= {"docs/how_to/retrieval.md", "docs/how_to/question_answering.md"}


def slow_if_long(page):
    return pytest.param(page, marks=[pytest.mark.slow] if page_name(page) in LONG else [], id=page_name(page))


@pytest.mark.parametrize("page", [*map(slow_if_long, PAGES)])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    run_page(page)


def test_an_output_that_differs_from_its_page_is_noticed():
    assert same_output("accuracy  0.91 of 1,000", "accuracy 0.93 of 1,000\n")
    assert not same_output("accuracy 0.85", "accuracy 0.93")
    assert not same_output("precision 0.93", "accuracy 0.93")
    assert not same_output("", "accuracy 0.93")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            path = (page.parent / target).resolve()
            if path.suffix == ".rst":  # made with the site
                source = "GALLERY_HEADER.rst" if path.stem == "index" else f"{path.stem}.py"
                path = ROOT / "examples" / "tutorials" / source
            assert path.exists(), f"{page_name(page)}: {target}"


def test_the_readme_shows_the_two_commands_and_where_a_cpu_only_torch_comes_from():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:60])
    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert "https://pytorch.org/get-started/locally/" in first_screen


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "examples" / "tutorials").glob("*.py")), ids=lambda path: path.stem)
def test_tutorials_run(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
