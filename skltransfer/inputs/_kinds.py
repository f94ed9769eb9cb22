"""What elements of X look like: those of another kind than the backbone reads are refused once, with what to type.

Promises to judge a few elements by type, shape and the form of strings; no file is looked for. Must not know networks,
but for one of each kind to suggest.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

from skltransfer.inputs._samples import is_missing, shown

NOUNS = {
    "image": "images",
    "text": "texts",
    "audio": "audio clips",
    "rows": "rows of numbers",
    "words": "lists of words",
}
READS = {"audio": "hf:openai/whisper-base", "image": "bundled:efficientnet-lite0", "text": "bundled:minilm"}
LOOKED_AT = 10  # elements
SHOWN = 60  # characters
OF_FILES = {
    "image": re.compile(r"\S+\.(jpe?g?|jfif|png|webp|gif|bmp|tiff?|p[pgb]m|jp2|j2k|avif|hei[cf]|hif)", re.IGNORECASE),
    "audio": re.compile(r"\S+\.(wav|flac|ogg|mp3|aiff?|au|m4a|aac)", re.IGNORECASE),
}
SUFFIX = re.compile(r"\.[a-z]\w{0,4}$", re.IGNORECASE)
PICTURE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|II\*\0|MM\0\*|\0\0\0\x0cjP  |\0\0\0.ftyp(avi[fs]|he[iv][cmsx]|m[is]f1)",
    re.DOTALL,
)


def refuse_other_kind(items: Sequence[Any], modality: str) -> None:
    """Raise where elements are plainly of one other kind.

    Parameters
    ----------
    items : sequence
        Elements of X.
    modality : {"audio", "image", "text"}
        Kind of samples that the backbone reads.

    Raises
    ------
    ValueError
        With a backbone that reads what X holds.
    """
    seen = [item for item in items[:LOOKED_AT] if not is_missing(item)]
    found = _kind_of_all(seen, modality)
    if found is None or found[0] == modality:
        return
    kind, example = found
    otherwise = ""
    if kind == "text":
        otherwise = f", or pass paths of {modality} files"
    elif isinstance(example, str):
        otherwise = ", or leave out the suffixes if these names are the texts" if modality == "text" else ""
    raise ValueError(
        f"The backbone reads {NOUNS[modality]}, but X looks like {NOUNS[kind]}, such as {_short(example)}. Choose a "
        f"backbone that reads {NOUNS[kind]}, such as backbone={READS[kind]!r}{otherwise}."
    )


def refuse_unequal_rows(rows: Sequence[Any], modality: str) -> None:
    """Raise where rows of numbers have different lengths, as audio clips have and no table has."""
    lengths = sorted({len(row) for row in rows if hasattr(row, "__len__")})
    if len(lengths) > 1:
        raise ValueError(
            f"The backbone reads {NOUNS[modality]}, but X holds rows of {lengths[0]} to {lengths[-1]} numbers, as "
            f"audio clips have. Choose a backbone that reads audio clips, such as backbone={READS['audio']!r}, or pass "
            "rows of one length."
        )


def _kind_of_all(seen: Sequence[Any], modality: str) -> tuple[str, Any] | None:
    """The one kind that all elements have, with an element of it; None where that is not plain."""
    if modality != "text" and seen and all(isinstance(item, str) for item in seen):
        prose = [item for item in seen if _is_prose(item)]
        if prose and not any(_is_path(item) for item in seen):
            return "text", prose[0]
    kinds = {_kind(item, modality) for item in seen}
    return (kinds.pop(), seen[0]) if len(kinds) == 1 and None not in kinds else None


def _kind(item: Any, modality: str) -> str | None:
    """``"image"`` or ``"audio"``, if it looks like one."""
    if isinstance(item, str | os.PathLike):
        return next((kind for kind, name in OF_FILES.items() if name.fullmatch(str(item))), None)
    if isinstance(item, bytes | bytearray):
        return "image" if PICTURE.match(item) else None
    dimensions = 2 if modality == "text" else 3  # a sound may have channels
    return "image" if hasattr(item, "getexif") or getattr(item, "ndim", 0) >= dimensions else None


def _is_path(text: str) -> bool:
    return bool(SUFFIX.search(text)) and len(text.split()) <= 4


def _is_prose(text: str) -> bool:
    """True if a string is no path of a file: several words without a suffix, or a sentence."""
    n_words = len(text.split())
    return n_words > 1 and not _is_path(text) and ("/" not in text or n_words > 4)


def _short(item: Any) -> str:
    return shown(item[:SHOWN] if isinstance(item, str) else item)
