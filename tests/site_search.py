"""What the search box of the built site finds: the scoring of Sphinx's ``searchtools.js``, in Python.

    python tests/site_search.py docs/_build "class imbalance"

Titles, entries of the index, names of objects and words of the text, with the weights that Sphinx gives them.
"""

import json
import pathlib
import re
import sys
from collections.abc import Iterator

import snowballstemmer

TITLE, PART_OF_TITLE, TERM, PART_OF_TERM = 15, 7, 5, 2
NAME, PART_OF_NAME, PRIORITY = 11, 6, {0: 15, 1: 5, 2: -5}
STEM = snowballstemmer.stemmer("english").stemWord


class SiteSearch:
    """The search of one built site.

    Parameters
    ----------
    site : path
        The folder that holds ``searchindex.js``.
    """

    def __init__(self, site: pathlib.Path) -> None:
        text = (site / "searchindex.js").read_text(encoding="utf-8")
        self.index = json.loads(text.removeprefix("Search.setIndex(").rstrip().rstrip(";").removesuffix(")"))
        self.stopwords = stopwords_of(site)

    def pages(self, query: str) -> list[str]:
        """Pages (without suffix) from the best result to the worst, each once."""
        lower = query.lower().strip()
        found = [*self._titles(lower), *self._entries(lower), *self._objects(lower), *self._terms(lower)]
        best: dict[int, float] = {}
        for file, score in found:
            best[file] = max(score, best.get(file, -100))
        titles = self.index["titles"]
        order = sorted(best, key=lambda file: (-best[file], titles[file].lower()))
        return [self.index["docnames"][file] for file in order]

    def _titles(self, query: str) -> Iterator[tuple[int, float]]:
        for title, places in self.index["alltitles"].items():
            if query in title.lower().strip() and len(query) >= len(title) / 2:
                for file, _ in places:
                    is_page = self.index["titles"][file] == title
                    yield file, round(TITLE * len(query) / len(title)) + is_page

    def _entries(self, query: str) -> Iterator[tuple[int, float]]:
        """Main entries of the index; others come after all other results."""
        for entry, places in self.index["indexentries"].items():
            if query in entry and len(query) >= len(entry) / 2:
                for file, _, is_main in places:
                    if is_main:
                        yield file, round(100 * len(query) / len(entry))

    def _objects(self, query: str) -> Iterator[tuple[int, float]]:
        words = re.findall(r"\w+", query)
        for prefix, objects in self.index["objects"].items():
            for file, kind, priority, _, name in objects:
                full = f"{prefix}.{name}".lower().lstrip(".")
                last = full.rsplit(".", 1)[-1]
                haystack = (
                    f"{prefix} {name} {self.index['objnames'][str(kind)][2]} {self.index['titles'][file]}".lower()
                )
                for word in words:
                    if word in full and all(other in haystack for other in words):
                        score = NAME if word in (full, last) else PART_OF_NAME if word in last else 0
                        yield file, score + PRIORITY.get(priority, 0)

    def _terms(self, query: str) -> Iterator[tuple[int, float]]:
        words = {STEM(word) for word in re.findall(r"\w+", query) if word not in self.stopwords and not word.isdigit()}
        scores: dict[int, dict[str, float]] = {}
        for word in words:
            for where, exact, part in (("terms", TERM, PART_OF_TERM), ("titleterms", TITLE, PART_OF_TITLE)):
                terms = self.index[where]
                alike = [word] if word in terms else [t for t in terms if len(word) > 2 and word in t]
                for term in alike:
                    files = terms[term] if isinstance(terms[term], list) else [terms[term]]
                    for file in files:
                        scores.setdefault(file, {})[word] = exact if word in terms else part
        needed = {len(words), sum(len(word) > 2 for word in words)}
        for file, found in scores.items():
            if len(found) in needed:
                yield file, max(found.values())


def stopwords_of(site: pathlib.Path) -> set[str]:
    """Words that the site's search leaves out."""
    text = (site / "_static" / "language_data.js").read_text(encoding="utf-8")
    listed = re.search(r"stopwords\s*=\s*(?:new Set\()?\[(.*?)\]", text, re.DOTALL)
    return set(re.findall(r'"([^"]+)"', listed[1])) if listed else set()


if __name__ == "__main__":
    search = SiteSearch(pathlib.Path(sys.argv[1]))
    for query in sys.argv[2:]:
        print(f"{query}: {', '.join(search.pages(query)[:5])}")
