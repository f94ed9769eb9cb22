"""Measure the prose of README, CONTRIBUTING, CHANGELOG and docs.

    python tests/prose.py [--at COMMIT] [page ...]

A row per page: sentences, their mean length in words, the shares of long and of passive ones, words to avoid, private
words that are neither linked to the glossary nor set in italics where a page first uses them, and headings without a
word of ``prose_words.txt``: a verb, or a noun that users search for. Patterns find these, so each is a place to look.
"""

import argparse
import functools
import pathlib
import re
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, fields

ROOT = pathlib.Path(__file__).parent.parent
LONG = 25  # words
TO_AVOID = (
    r"\b(anew|at hand|by hand|is told|are told|told in|whatever|tells|hereby|thereof|beside them|beside it|lies in|"
    r"leave it where|not the last word|of its own|what is (?:gained|lost|read|seen|asked)|in the way of|makes do|"
    r"all but|landing|trunk|source head|companion)\b"
)
PRIVATE = ("stage", "boundary", "prefix", "suffix", "probe", "readout", "activation store")
PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be|been|being)\s+(?:\w+ly\s+)?"
    r"(?:\w+ed|\w+wn|given|taken|seen|read|kept|held|made|built|found|left|set|put|cut|run|written|chosen|told|sent)\b",
    re.IGNORECASE,
)
TASKS = set((pathlib.Path(__file__).parent / "prose_words.txt").read_text(encoding="utf-8").split())  # of headings


@dataclass(frozen=True)
class Prose:
    """What a page's prose measures."""

    lengths: list[int]  # words per sentence
    n_passive: int
    avoided: list[str]
    undefined: list[str]
    headings: list[str]

    def __add__(self, other: "Prose") -> "Prose":
        return Prose(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __str__(self) -> str:
        return (
            f"{len(self.lengths)} sentences, mean {self.mean:.1f} words, {self.share_long:.1%} above {LONG}, "
            f"{self.share_passive:.1%} passive"
        )

    @property
    def mean(self) -> float:
        return statistics.mean(self.lengths) if self.lengths else 0.0

    @property
    def share_long(self) -> float:
        return sum(n > LONG for n in self.lengths) / max(1, len(self.lengths))

    @property
    def share_passive(self) -> float:
        return self.n_passive / max(1, len(self.lengths))


def without_code(text: str) -> str:
    """Markdown without fences, tables, headings, quotes, comments and directives' options."""
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    text = re.sub(r"^(`{3,}).*?^\1", " ", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^\s*(\||#|!\[|>|\$|:).*$", " ", text, flags=re.MULTILINE)


def sentences(text: str) -> list[str]:
    """Sentences of three words or more; an inline code counts as a word, an item of a list ends a sentence."""
    text = re.sub(r"`[^`]*`", "CODE", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", without_code(text)))
    found = []
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.)\s", text):
        flat = re.sub(r"\s+", " ", paragraph)
        found += [s.strip() for s in re.split(r"(?<=[.!?:])\s+(?=[A-Z*])", flat) if len(s.split()) > 2]
    return found


def undefined(text: str) -> list[str]:
    """Private words whose first use is neither a link to the glossary nor in italics."""
    text = re.sub(r"`[^`]*`", "CODE", without_code(text)).replace("boundaries", "boundary")
    missing = []
    for word in PRIVATE:
        first = re.search(rf"(?<![\w/#-]){word}(?:s|es)?\b", text, re.IGNORECASE)
        if first is not None:
            around = text[max(0, first.start() - 80) : first.end() + 80]
            linked = re.search(rf"\[[^\]]*{word}[^\]]*\]\([^)]*glossary\.md", around, re.IGNORECASE)
            italic = re.search(rf"\*[^*\n]*{word}[^*\n]*\*", around, re.IGNORECASE)
            missing += [] if linked or italic else [word]
    return missing


def without_a_task(text: str) -> list[str]:
    """Headings in which there is neither a verb nor a noun that users search for."""
    text = re.sub(r"^(`{3,}).*?^\1", " ", text, flags=re.DOTALL | re.MULTILINE)
    headings = [h for h in re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE) if "`" not in h]
    return [h for h in headings if not TASKS & set(re.findall(r"[a-z0-9][\w.-]*", h.lower()))]


def measured(text: str) -> Prose:
    """The figures of one page."""
    found = sentences(text)
    return Prose(
        [len(s.split()) for s in found],
        sum(bool(PASSIVE.search(s)) for s in found),
        re.findall(TO_AVOID, " ".join(found), re.IGNORECASE),
        undefined(text),
        without_a_task(text),
    )


def pages(commit: str | None = None) -> dict[str, str]:
    """Name -> text of every page, now or at a commit."""
    wanted = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"]
    if commit is None:
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *wanted]
        names = [name for name in run(listing).splitlines() if (ROOT / name).exists()]
        return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name.endswith(".md")}
    names = run(["git", "ls-tree", "-r", "--name-only", commit, *wanted]).splitlines()
    return {name: run(["git", "show", f"{commit}:{name}"]) for name in names if name.endswith(".md")}


def run(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def total(found: Iterable[Prose]) -> Prose:
    """All pages as one."""
    return functools.reduce(Prose.__add__, found)


def main(commit: str | None, wanted: list[str]) -> None:
    found = {name: measured(text) for name, text in pages(commit).items() if not wanted or name in wanted}
    for name, prose in found.items():
        print(f"{name}: {prose}; avoid {prose.avoided}, undefined {prose.undefined}, headings {prose.headings}")
    every = total(found.values())
    print(
        f"\n{len(found)} pages: {every}, {len(every.avoided)} words to avoid, {len(every.undefined)} private words "
        f"undefined, {len(every.headings)} headings without a task"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", metavar="COMMIT")
    parser.add_argument("pages", nargs="*")
    arguments = parser.parse_args()
    main(arguments.at, arguments.pages)
