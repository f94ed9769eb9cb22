#!/usr/bin/env python3
"""Run the tests with the oldest libraries that pyproject.toml allows, and with the newest that there are.

Usage: python .ci/compat.py [oldest] [newest]   (standard library only)

Makes ``.venv-oldest`` and ``.venv-newest``, or re-uses them while pyproject.toml is unchanged; the oldest of
``name>=1.7`` is the last of 1.7.*. What came of it is written into README.md, between the two comments named compat.
"""

import os
import pathlib
import re
import subprocess
import sys
import tomllib
import venv
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).parents[1]
SHOWN = ("scikit-learn", "torch", "torchvision", "transformers", "numpy", "scipy", "Pillow")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


def floors() -> list[str]:
    """``name==1.7.*`` for each ``name>=1.7``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + [line for name in extras if name != "bench" for line in extras[name]]
    return sorted({f"{name}=={version}.*" for name, version in re.findall(r"([\w.-]+)>=([\d.]+)", "\n".join(needed))})


def environment(which: str) -> pathlib.Path:
    """The Python of an environment that holds the package and what its tests need."""
    folder = ROOT / f".venv-{which}"
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists() or made.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        venv.create(folder, with_pip=True)
        limits = folder / "limits.txt"
        limits.write_text("\n".join(floors() if which == "oldest" else []))
        command = [python, "-m", "pip", "install", "--quiet", "--upgrade", "--constraint", limits]
        subprocess.run([*command, "--editable", f"{ROOT}[test,plot]"], check=True)
        made.touch()
    return python


def tested(python: pathlib.Path, report: pathlib.Path) -> tuple[int, int, int]:
    """How many tests passed, failed and were skipped."""
    command = [python, "-m", "pytest", "-n", "2", "-q", "-m", "not slow", f"--junit-xml={report}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | ONE_THREAD | {"SCIPY_ARRAY_API": "1"}, check=False)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, failures, errors, skipped = (int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped"))
    return total - failures - errors - skipped, failures + errors, skipped


def versions(python: pathlib.Path) -> list[str]:
    """Of the libraries that are shown."""
    code = f"import importlib.metadata as m; print(*(m.version(name) for name in {SHOWN}))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def write(rows: dict[str, list]) -> None:
    """Replace the rows of the table in README.md that have new counts."""
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    for which, cells in rows.items():
        row = f"| {which} | " + " | ".join(map(str, cells)) + " |"
        text, n = re.subn(rf"(?<=\n)\| {which} \|.*\|(?=\n(?:.*\n)*?<!-- /compat -->)", row, text)
        if n != 1:
            raise SystemExit(f"README.md has {n} rows for {which!r} before the comment /compat; expected 1.")
    page.write_text(text, encoding="utf-8")


def main(names: list[str]) -> None:
    rows = {}
    for which in names or ["oldest", "newest"]:
        python = environment(which)
        counts = tested(python, ROOT / f".venv-{which}" / "report.xml")
        rows[which] = [*versions(python), *counts]
    write(rows)
    raise SystemExit(any(row[-2] for row in rows.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
