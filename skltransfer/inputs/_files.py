"""The content of a file, or what is wrong with its path."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from skltransfer.exceptions import BadSampleError


def file_content(path: str | Path, refuse: Callable[[str, str], BadSampleError]) -> bytes:
    """What a regular file holds; ``refuse(cause, remedy)`` makes the complaint otherwise."""
    try:
        is_regular = stat.S_ISREG(os.stat(path).st_mode)  # a pipe would be waited for, so look before reading
        content = Path(path).read_bytes() if is_regular else b""
    except FileNotFoundError:
        hint = "" if os.path.isabs(path) else f"; relative paths start at {os.getcwd()!r}"
        raise refuse("no such file", f"check the path{hint}") from None
    except (OSError, ValueError) as error:
        raise refuse(f"unreadable ({error})", "check the path and its permissions") from None
    if not is_regular:
        raise refuse("not a regular file", "pass the path of a file")
    return content
