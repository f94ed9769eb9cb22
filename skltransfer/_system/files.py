"""Files that are written whole or not at all, and deleted where the system lets them.

Promises that a reader finds the old file or the new one, and that a failure leaves the old one and no draft. Must not
know what is in them.
"""

import contextlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

DRAFT = ".part"
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)  # seconds; Windows does not replace a file while another process reads it


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft to write to, which takes the place of ``path`` when the block ends well, and is deleted otherwise."""
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}{DRAFT}")
    try:
        yield draft
        _to_disk(draft, os.O_RDWR)
        _replace(draft, path)
    except BaseException:
        remove(draft)
        raise
    if os.name == "posix":
        _to_disk(path.parent, os.O_RDONLY)


def anyone_may_write(folder: Path) -> bool:
    """True if every user of the machine may replace what is in a folder."""
    mode = folder.stat().st_mode
    return os.name == "posix" and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def remove(path: Path) -> bool:
    """Delete a file; False where it stays, because another process reads it (Windows) or the folder is read-only."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def _replace(draft: Path, path: Path) -> None:
    for pause in PAUSES:
        try:
            os.replace(draft, path)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    os.replace(draft, path)


def _to_disk(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
