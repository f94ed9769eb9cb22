"""The content of a file, or what is wrong with its path; and what kind of MP4 it says that it is."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from skltransfer.exceptions import BadSampleError

MAX_FILE_BYTES = 2**30
NO_PATH = ("no path, and it looks like base64", "decode it: base64.b64decode(text)")


def _local(path: str | os.PathLike) -> str | os.PathLike:
    """The path that an address of a file on this machine names."""
    if isinstance(path, str) and path.startswith("file://"):
        return url2pathname(urlsplit(path).path)
    return path


def _is_base64(path: str | os.PathLike) -> bool:
    return bool(re.match(r"data:|[A-Za-z0-9+/=\s]{200,}$", str(path)))


def file_content(path: str | os.PathLike, refuse: Callable[[str, str], BadSampleError]) -> bytes:
    """Content of a regular file; ``refuse(cause, remedy)`` makes the complaint otherwise."""
    path = _local(path)
    try:
        status = os.stat(path)  # a pipe would be waited for, and a huge file fill the memory: so look before reading
        is_regular, is_huge = stat.S_ISREG(status.st_mode), status.st_size > MAX_FILE_BYTES
        is_folder = stat.S_ISDIR(status.st_mode)
        content = Path(path).read_bytes() if is_regular and not is_huge else b""
    except FileNotFoundError:
        if re.match(r"\w+://", str(path)):
            raise refuse("an address, and nothing is fetched", "download it, and pass the path of the file") from None
        if _is_base64(path):
            raise refuse(*NO_PATH) from None
        hint = "" if os.path.isabs(path) else f"; relative paths start at {os.getcwd()!r}"
        is_word = not os.path.splitext(path)[1] and not os.path.dirname(path)
        hint += "; if it is a text, choose a backbone that reads texts, such as 'bundled:minilm'" if is_word else ""
        raise refuse("no such file", f"check the path{hint}") from None
    except (OSError, ValueError) as error:
        if _is_base64(path):
            raise refuse(*NO_PATH) from None
        reason = getattr(error, "strerror", None) or error  # without the path, which may be long
        raise refuse(f"unreadable ({reason})", "check the path and its permissions") from None
    if is_folder:
        parent = os.path.dirname(str(path).rstrip("/\\")) or "."
        remedy = f"pass the paths of the files in it; for images, X, y = load_image_folder({parent!r}) lists them"
        raise refuse("a folder", remedy)
    if not is_regular:
        raise refuse("not a regular file", "pass the path of a file")
    if is_huge:
        raise refuse(f"{status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}", "cut it into pieces, or compress it")
    return content


def brands(content: bytes) -> set[bytes]:
    """What a file says in its first box that it is, if it is of the family of MP4; empty otherwise."""
    if content[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(content[:4], "big"), len(content))
    return {content[8:12], *(content[start : start + 4] for start in range(16, end - 3, 4))}
