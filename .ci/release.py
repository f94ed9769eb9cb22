#!/usr/bin/env python3
"""Check a release before it is uploaded: the files, their metadata, and the guides in fresh environments.

Usage: python .ci/release.py [page ...]   (standard library only; needs pip, and half an hour)

1. Builds wheel and source distribution, in a clean copy of what git tracks, and runs ``twine check --strict``.
2. The version is a release, and CHANGELOG.md has a section of that name. Placeholders among the addresses in
   pyproject.toml are listed as left to do before the upload; they are no failure.
3. For each page of docs/paths (or those named): a new environment that has only what the page tells its readers to
   install, in which its blocks are pasted one after the other; what they print agrees with the page.

Prints a line per check, and ends with status 1 if one failed.
"""

import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLS = re.compile(r"pip install [\"']?skltransfer(\[[\w,-]+\])?[\"']?((?: [\w\[\].=<>-]+)*)")
Check = tuple[str, bool | None, str]  # None: left to do before the upload


def environment(folder: pathlib.Path, *wanted: str) -> pathlib.Path:
    """The Python of a new environment."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def built(folder: pathlib.Path) -> list[pathlib.Path]:
    """Wheel and source distribution of what git tracks."""
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    python = environment(folder / "builder", "build", "twine")
    subprocess.run([python, "-m", "build", "--outdir", folder / "dist", source], check=True, stdout=subprocess.DEVNULL)
    return sorted((folder / "dist").iterdir())


def metadata_checks(folder: pathlib.Path, files: list[pathlib.Path]) -> Iterator[Check]:
    """The files' metadata, the version, the changelog and the addresses."""
    twine = [folder / "builder" / "bin" / "python", "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(twine, capture_output=True, text=True)
    yield "twine check --strict", done.returncode == 0, done.stdout.strip()
    version = files[0].name.split("-")[1]
    yield "version is a release", re.fullmatch(r"\d+\.\d+\.\d+", version) is not None, version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield (
        "the changelog has the version",
        re.search(rf"^## {re.escape(version)}\b", changelog, re.M) is not None,
        version,
    )
    unsettled = [url for url in PROJECT["urls"].values() if "example.org" in url]
    yield "addresses are settled", None if unsettled else True, ", ".join(unsettled)


def pasted(pages: list[pathlib.Path], wheel: pathlib.Path, folder: pathlib.Path) -> Iterator[Check]:
    """The blocks of each page, pasted where nothing is installed but what it says; alike pages share an environment."""
    made: dict[str, pathlib.Path] = {}
    for page in pages:
        said = INSTALLS.search(page.read_text(encoding="utf-8"))
        if said is None:
            yield page.name, False, "the page does not say what to install"
            continue
        if said[0] not in made:
            wanted = (f"{wheel}{said[1] or ''}", *said[2].split())
            made[said[0]] = environment(folder / f"reader-{len(made)}", *wanted)
        home = {"HOME": str(folder), "PATH": os.environ["PATH"]}
        command = [made[said[0]], ROOT / "tests" / "pages.py", page]
        done = subprocess.run(command, env=home, capture_output=True, text=True)
        yield f"{page.name} after {said[0]}", done.returncode == 0, done.stderr[-2000:]


def main(names: list[str]) -> None:
    pages = [pathlib.Path(name).resolve() for name in names] or sorted((ROOT / "docs" / "paths").glob("*.md"))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        files = built(folder)
        wheel = next(file for file in files if file.suffix == ".whl")
        guides = [page for page in pages if page.name != "index.md"]
        checks = itertools.chain(metadata_checks(folder, files), pasted(guides, wheel, folder))
        passed = [report(*check) for check in checks]
    raise SystemExit(not all(passed))


def report(name: str, passed: bool | None, detail: str) -> bool:
    """Print a line; True unless the check failed."""
    verdict = {True: "passed", False: "FAILED", None: "TO DO before the upload"}[passed]
    print(f"{verdict}: {name}{'' if passed else f': {detail}'}", flush=True)
    return passed is not False


if __name__ == "__main__":
    main(sys.argv[1:])
