"""The site holds together: it is built without a warning, and leads to every public name and every page."""

import html
import importlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from site_search import SiteSearch

import skltransfer

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
pytest.importorskip("sphinx")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All pages, built in a folder of their own, each warning an error; tutorials are shown but not run."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("_build", "objects", "tutorials"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name in ("pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"):
        shutil.copy(ROOT / name, folder)
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    command = [sys.executable, "-m", "sphinx", *options, folder / "docs", folder / "site"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def public_names():
    for room in ("skltransfer", "skltransfer.model_selection", "skltransfer.inspection"):
        yield from importlib.import_module(room).__all__
    exceptions = importlib.import_module("skltransfer.exceptions")
    yield from (
        name for name, thing in vars(exceptions).items() if getattr(thing, "__module__", "") == exceptions.__name__
    )
    yield "check_transfer_estimator"


def links(page):
    """Links of a page within the site: files, and the ids meant there."""
    for target in re.findall(r'(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:", "data:", "javascript:")):
            file, _, anchor = html.unescape(target).partition("#")
            yield (page.parent / file.partition("?")[0] if file else page), anchor


@pytest.mark.slow
def test_each_public_name_has_a_page_with_its_docstring(site):
    for name in public_names():
        (page,) = (site / "reference" / "objects").glob(f"*.{name}.html")
        text = page.read_text(encoding="utf-8")
        assert 'id="skltransfer.' in text, f"{name}: nothing was documented"
        assert "upperalpha" not in text, f"{name}: the initial of an author became a list"


@pytest.mark.slow
def test_a_public_name_in_a_text_leads_to_its_page(site):
    page = (site / "how_to" / "few_shot.html").read_text(encoding="utf-8")
    assert 'href="../reference/objects/skltransfer.FewShotClassifier.html"' in page


@pytest.mark.slow
def test_each_markdown_page_can_be_reached_from_home(site):
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        page = waiting.pop().resolve()
        if page not in reached and page.suffix == ".html":
            reached.add(page)
            waiting += [file for file, _ in links(page) if file.exists()]
    tutorials = [DOCS / "tutorials" / path.name for path in (ROOT / "examples" / "tutorials").glob("*.py")]
    for page in [*DOCS.rglob("*.md"), *tutorials]:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").resolve() in reached, page


@pytest.mark.slow
def test_links_within_the_site_lead_somewhere(site):
    ids = {}
    for page in (p for p in site.rglob("*.html") if "_static" not in p.parts):
        for file, anchor in links(page):
            assert file.exists(), f"{page.relative_to(site)}: {file}"
            if anchor and file.suffix == ".html":
                known = ids.setdefault(
                    file.resolve(), set(re.findall(r'\bid="([^"]+)"', file.read_text(encoding="utf-8")))
                )
                if "_modules" in page.parts:  # viewcode links to one module's name of an object that two modules offer
                    known, anchor = {one.rsplit(".", 1)[-1] for one in known}, anchor.rsplit(".", 1)[-1]
                assert anchor in known, f"{page.relative_to(site)}: {file.name}#{anchor}"


@pytest.mark.slow
def test_a_newcomer_gets_from_home_to_the_first_tutorial_and_its_code_runs(site, tmp_path):
    """What a browser shows is pasted into a fresh interpreter, not what the source of the page holds."""
    (first,) = {file.resolve() for file, _ in links(site / "index.html") if file.name == "first_transfer.html"}
    blocks = re.findall(
        r'<div class="highlight-Python.*?<pre>(.*?)</pre>', first.read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) == 6
    (tmp_path / "pasted.py").write_text(
        "\n".join(html.unescape(re.sub(r"<[^>]+>", "", b)) for b in blocks), encoding="utf-8"
    )
    done = subprocess.run([sys.executable, "pasted.py"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert re.search(r"features of the pretrained network: 0\.\d\d", done.stdout)
    assert "same network, random weights: 0." in done.stdout
    assert "logistic regression on pixels: 0." in done.stdout


@pytest.mark.slow
def test_what_users_type_into_the_search_box_leads_to_the_right_page_first(site):
    search = SiteSearch(site)
    wrong = {
        term: search.pages(term)[:3]
        for page, terms in json.loads((DOCS / "search_terms.json").read_text(encoding="utf-8")).items()
        for term in terms
        if search.pages(term)[:1] != [page]
    }
    assert not wrong


def test_the_version_switcher_offers_this_version():
    versions = json.loads((DOCS / "_static" / "versions.json").read_text(encoding="utf-8"))
    assert skltransfer.__version__ in [one["version"] for one in versions]
