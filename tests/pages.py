"""Run the Python blocks of a page as a reader would paste them, and compare what they print with what the page shows.

    python tests/pages.py docs/paths/classify_images.md

Needs the standard library alone, beside what the page itself tells its readers to install.
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import re
import sys
import tempfile

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\s*(?:^```output\n(?P<output>.*?)^```)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")


def run_page(page: pathlib.Path) -> None:
    """Run all blocks in one namespace, in the current folder.

    Raises
    ------
    AssertionError
        With the output, if a block prints something else than its page shows.
    """
    namespace = {"__name__": "__docs__"}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if "sklearn.callback" in block["code"] and importlib.util.find_spec("sklearn.callback") is None:
            continue  # scikit-learn before 1.9
        with contextlib.redirect_stdout(printed := io.StringIO()):
            exec(compile(block["code"], page.name, "exec"), namespace)
        text = printed.getvalue()
        assert same_output(text, block["output"] or ""), f"{block['code']}\nprinted:\n{text}"


def same_output(printed: str, shown: str) -> bool:
    """Whether the words agree, and numbers do within 5 % or 0.03: processors differ."""
    if NUMBER.sub("#", " ".join(printed.split())) != NUMBER.sub("#", " ".join(shown.split())):
        return False
    pairs = zip(numbers_in(printed), numbers_in(shown), strict=True)
    return all(abs(a - b) <= max(0.03, 0.05 * abs(b)) for a, b in pairs)


def numbers_in(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    given = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run_page(given)
        os.chdir(given.parent)
    print(f"{given.name}: every block ran, and printed what the page shows")
