"""Several columns of samples: pairs of texts, or samples that are embedded side by side.

Promises to refuse columns of numbers among them by name. Must not know networks.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from skltransfer.inputs._hugging_face import content_of
from skltransfer.inputs._kinds import NOUNS, refuse_other_kind
from skltransfer.inputs._samples import is_missing

ONE, PAIR, SEPARATE = "one", "pair", "separate"  # how an estimator reads columns
LOOKED_AT = 10  # columns


def refuse_unreadable_columns(names: Sequence[Any], numeric: Sequence[Any], modality: str, how: str) -> None:
    """Raise where several columns cannot be read together.

    Parameters
    ----------
    names : sequence
        Names of all columns.
    numeric : sequence
        Names of those that hold numbers.
    modality : {"audio", "image", "text"}
        Kind of samples that are read.
    how : {"one", "pair", "separate"}
        How several columns are read.

    Raises
    ------
    ValueError
        With the names.
    """
    takes_pairs = how == PAIR and modality == "text"
    if not numeric and (how == SEPARATE or takes_pairs and len(names) == 2):
        return
    expected = {SEPARATE: f"columns of {NOUNS[modality]} alone"}.get(how, "one column of samples")
    if takes_pairs:
        expected = "one column of texts, or two that are read as pairs"
    found = f", of which {list(numeric)[:LOOKED_AT]} hold numbers" if numeric else ""
    raise ValueError(
        f"Expected {expected}, got {len(names)}: {list(names)[:LOOKED_AT]}{found}. Choose one, or use a "
        "ColumnTransformer with one extractor per column."
    )


def contents_of_columns(columns: Sequence[Sequence[Any]], modality: str, how: str) -> list[Any]:
    """Pairs of texts, or for each column the list of its samples."""
    if how == PAIR:
        return list(zip(*columns, strict=True))
    return [[content_of(value, modality) for value in column] for column in columns]


def are_pairs(items: Sequence[Any], modality: str) -> bool:
    """True if an element is a tuple of anything but numbers, for a network of texts."""
    return modality == "text" and any(isinstance(item, tuple) and not _are_numbers(item) for item in items)


def refuse_other_pairs(pairs: Iterable[Any]) -> None:
    """Raise where the parts of pairs are plainly no texts, but paths of images, say."""
    whole = [pair for pair in pairs if isinstance(pair, tuple) and len(pair) == 2]
    for part in zip(*whole, strict=True):
        refuse_other_kind(part, "text")


def _are_numbers(values: tuple) -> bool:
    return any(not is_missing(value) for value in values) and all(
        isinstance(value, int | float) or is_missing(value) for value in values
    )
