"""Records as lines of aligned text, and as a pandas DataFrame where there is pandas. Must not know what they are of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skltransfer.exceptions import MissingDependencyError


def aligned(rows: Sequence[Sequence[str]], *, n_left: int | None = None) -> list[str]:
    """A line per row, in columns that are two blanks apart.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of one length.
    n_left : int, optional
        Columns that are aligned on the left, the first ones; the others are aligned on the right. None aligns all on
        the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    n_left = len(widths) if n_left is None else n_left
    return ["  ".join(_padded(row, widths, n_left)).rstrip() for row in rows]


def _padded(row: Sequence[str], widths: Sequence[int], n_left: int) -> Iterable[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if column < n_left else cell.rjust(width)


def frame(records: Iterable[Mapping[str, Any]], *, index: str | None = None) -> Any:
    """A pandas DataFrame with a row per record.

    Raises
    ------
    MissingDependencyError
        Without pandas.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError("to_frame needs pandas: pip install pandas.") from error
    made = pd.DataFrame(list(records))
    return made if index is None else made.set_index(index)
