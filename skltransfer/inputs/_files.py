"""The content of a file, or what is wrong with its path."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from skltransfer.exceptions import BadSampleError

MAX_FILE_BYTES = 2**30


def file_content(path: str | Path, refuse: Callable[[str, str], BadSampleError]) -> bytes:
    """What a regular file holds; ``refuse(cause, remedy)`` makes the complaint otherwise."""
    try:
        status = os.stat(path)  # a pipe would be waited for, and a huge file fill the memory: so look before reading
        is_regular, is_huge = stat.S_ISREG(status.st_mode), status.st_size > MAX_FILE_BYTES
        content = Path(path).read_bytes() if is_regular and not is_huge else b""
    except FileNotFoundError:
        if re.match(r"\w+://", str(path)):
            raise refuse("an address, and nothing is fetched", "download it, and pass the path of the file") from None
        hint = "" if os.path.isabs(path) else f"; relative paths start at {os.getcwd()!r}"
        raise refuse("no such file", f"check the path{hint}") from None
    except (OSError, ValueError) as error:
        raise refuse(f"unreadable ({error})", "check the path and its permissions") from None
    if not is_regular:
        raise refuse("not a regular file", "pass the path of a file")
    if is_huge:
        raise refuse(f"{status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}", "cut it into pieces, or compress it")
    return content
