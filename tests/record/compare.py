"""Does the package behave as it did at another commit? Bitwise, on one processor, in one run.

    python tests/record/compare.py COMMIT [name that may differ ...]

Runs ``behaviour.py`` of the working tree against the package as it is and as it was at the commit (a git worktree in a
temporary folder) and lists what differs. Names that begin with one of those given are listed, but are no failure.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve()
ROOT = HERE.parent.parent.parent


def behaviour_of(tree: pathlib.Path, place: pathlib.Path) -> dict[str, np.ndarray]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, HERE.parent / "behaviour.py", place], env=environment, cwd=place.parent, check=True)
    with np.load(place) as found:
        return dict(found)


def differences(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> dict[str, str]:
    """What is not the same bit by bit, and how far apart it is."""
    found = dict.fromkeys(old.keys() - new.keys(), "is gone") | dict.fromkeys(new.keys() - old.keys(), "is new")
    for key in old.keys() & new.keys():
        a, b = old[key], new[key]
        if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes():
            continue
        if a.shape == b.shape and a.dtype.kind == b.dtype.kind == "f":
            found[key] = f"differs by up to {np.nanmax(np.abs(a - b)):.3g}"
        else:
            found[key] = f"was {a!s:.300}, is {b!s:.300}"
    return found


def main(commit: str, allowed: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True, capture_output=True)
        try:
            old = behaviour_of(tree, pathlib.Path(folder) / "old.npz")
            new = behaviour_of(ROOT, pathlib.Path(folder) / "new.npz")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    found = differences(old, new)
    for key in sorted(found):
        print(f"{key}: {found[key]}")
    refused = [key for key in found if not key.startswith(tuple(allowed) or ("\0",))]
    print(f"{len(new)} values, {len(found)} differ, {len(refused)} of them unexpectedly")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
