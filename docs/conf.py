"""How the site is built: pages as they lie here, and one page per public object, written from its docstring.

Promises that a public name in a text leads to its page, so that pages stay plain markdown. Must not know what they say.
"""

import importlib
import inspect
import json
import pathlib
import re
import sys
import tomllib
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import skltransfer
from skltransfer.testing import check_transfer_estimator

HERE = pathlib.Path(__file__).parent
OBJECTS = HERE / "reference" / "objects"
SEARCH_TERMS = json.loads((HERE / "search_terms.json").read_text(encoding="utf-8"))  # page -> what leads there
ROOMS = ("skltransfer", "skltransfer.model_selection", "skltransfer.exceptions")

PYPROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
SITE = PYPROJECT["project"]["urls"]["Documentation"]  # the one place where the addresses stand is pyproject.toml

project = "skltransfer"
version = release = skltransfer.__version__
copyright = "The skltransfer developers"  # noqa: A001
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxext.opengraph",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"  # numpydoc's Parameters say it in words
add_module_names = False
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = ">>> |... "
copybutton_prompt_is_regexp = True

sys.path.insert(0, str(HERE))  # for tutorial_order
sphinx_gallery_conf = {  # tutorials are run when the site is built
    "examples_dirs": [str(HERE.parent / "examples" / "tutorials")],
    "gallery_dirs": ["tutorials"],
    "filename_pattern": r"\.py",
    "within_subsection_order": "tutorial_order.lesson",
    "abort_on_example_error": True,
    "min_reported_time": 0,
    "write_computation_times": False,
    "show_memory": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "capture_repr": (),
}

ogp_site_url = html_baseurl = SITE
ogp_image = "_static/social_card.png"
ogp_image_alt = "Accuracy against freeze depth: a pretrained network, random weights, and pixels"

html_theme = "pydata_sphinx_theme"
html_favicon = "_static/favicon.svg"
html_title = "skltransfer"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_sidebars = {"index": [], "gallery": []}
html_theme_options = {
    "logo": {"text": "skltransfer", "image_light": "_static/favicon.svg", "image_dark": "_static/favicon.svg"},
    "switcher": {"json_url": "_static/versions.json", "version_match": version},
    "check_switcher": False,
    "header_links_before_dropdown": 4,
    "navbar_end": ["version-switcher", "theme-switcher"],
    "show_prev_next": True,
    "secondary_sidebar_items": {"**": ["page-toc"], "how_to/coming_from": [], "gallery": []},  # room for two columns
    "footer_start": ["copyright"],
    "footer_end": [],
}


def public_objects() -> dict[str, Any]:
    """Full names -> objects, each by the first of the rooms that offers it."""
    found: dict[str, Any] = {}
    for room in map(importlib.import_module, ROOMS):
        known = {name.rsplit(".")[-1] for name in found}
        found |= {f"{room.__name__}.{n}": getattr(room, n) for n in names_of(room) if n not in known}
    found["skltransfer.testing.check_transfer_estimator"] = check_transfer_estimator
    return found


def names_of(room: Any) -> list[str]:
    return getattr(
        room, "__all__", [n for n, thing in vars(room).items() if getattr(thing, "__module__", "") == room.__name__]
    )


def write_objects(app: Sphinx) -> None:
    """One page per public object, left alone where nothing changed so that a second build is quick."""
    OBJECTS.mkdir(exist_ok=True)
    for full_name, thing in public_objects().items():
        room, name = full_name.rsplit(".", 1)
        directive = "autoclass" if inspect.isclass(thing) else "autofunction"
        options = "   :members:\n   :inherited-members: Exception, UserWarning\n" if inspect.isclass(thing) else ""
        text = f"{name}\n{'=' * len(name)}\n\n.. currentmodule:: {room}\n\n.. {directive}:: {name}\n{options}"
        page = OBJECTS / f"{full_name}.rst"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def add_search_terms(app: Sphinx, page: str, source: list[str]) -> None:
    """Add index entries, so that what users type into the search box leads to this page first."""
    entry = "\n\n.. index:: ! {}\n" if app.env.doc2path(page).suffix == ".rst" else "\n\n```{{index}} ! {}\n```\n"
    source[0] += "".join(map(entry.format, SEARCH_TERMS.get(page, [])))


def skip_foreign(app: Sphinx, kind: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """What a class inherits from scikit-learn is described there, in the words of its own site."""
    module = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__module__", None) or ""
    return True if module.startswith("sklearn.") else None


def keep_initials(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A reference that begins with an initial ("A. Kumar") is no list whose first item is A."""
    lines[:] = [re.sub(r"^(\s*(?:\.\. \[[\w-]+\] )?)([A-Z]\. )", r"\1\\\2", line) for line in lines]


def link_names(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """`FineTunedClassifier` in a text leads to its page, but on that page."""
    pages = {name.rsplit(".", 1)[-1]: f"reference/objects/{name}" for name in public_objects()}
    for literal in list(doctree.findall(nodes.literal)):
        target = pages.get(literal.astext())
        if target in (None, page) or isinstance(literal.parent, nodes.reference):
            continue
        uri = app.builder.get_relative_uri(page, target)
        literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=uri, internal=True))


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_objects)
    app.connect("source-read", add_search_terms)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("autodoc-process-docstring", keep_initials, priority=600)  # after numpydoc
    app.connect("doctree-resolved", link_names)
