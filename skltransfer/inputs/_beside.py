"""A table of which one column holds the samples and the others numbers, which the head receives beside them.

Promises that a number is what was passed, in float32, and that one that is missing or infinite is refused with its row
and column. Must not know what the samples are, nor what the numbers mean.
"""

import difflib
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skltransfer.inputs._containers import refuse_what_is_no_collection
from skltransfer.inputs._samples import beginning_of, columns_of, is_missing

MOST_SHOWN = 10  # columns
LARGEST = float(np.finfo(np.float32).max)


class Split(NamedTuple):
    """A table, split: ``items`` are the elements of the column with the samples, ``numbers`` the others, (n, c).

    ``merged`` are the names of columns with different numbers that are the same in float32.
    """

    items: Sequence[Any]
    numbers: np.ndarray
    merged: list[Any]


def split_columns(X: Any, column: str | int) -> Split:
    """Split the column with the samples from those with numbers.

    Parameters
    ----------
    X : data frame, or ndarray of shape (n, c + 1)
        Table with a column of samples and c columns of numbers.
    column : str or int
        Name of the column with the samples, or its position.

    Raises
    ------
    ValueError
        If X is no such table, has no such column, or another column holds something else than finite numbers.
    """
    refuse_what_is_no_collection(X, "rows")
    if hasattr(X, "columns"):
        names, columns = columns_of(X)
        parts = [one.to_list() if hasattr(one, "to_list") else list(one) for one in columns]
    elif isinstance(X, np.ndarray) and X.ndim == 2:
        names, parts = list(range(X.shape[1])), [X[:, i].tolist() for i in range(X.shape[1])]
    else:
        shape = getattr(X, "shape", None)
        raise ValueError(
            f"sample_column={column!r} needs a data frame or a two-dimensional array, got a {type(X).__name__}"
            f"{'' if shape is None else f' of shape {tuple(shape)}'}. Pass a frame, or set sample_column=None."
        )
    place = _place(column, names, is_frame=hasattr(X, "columns"))
    others = {i: _as_numbers(values, names[i]) for i, values in enumerate(parts) if i != place}
    table = np.column_stack([*others.values()]) if others else np.empty((len(parts[place]), 0))
    merged = [names[i] for i, column in others.items() if _n_distinct(column.astype(np.float32)) < _n_distinct(column)]
    return Split(parts[place], table.astype(np.float32), merged)


def _place(column: str | int, names: Sequence[Any], *, is_frame: bool) -> int:
    """Position of a column: an integer is one, as in a ColumnTransformer, a string is a name."""
    if isinstance(column, numbers.Integral):
        if -len(names) <= column < len(names):
            return int(column) % len(names)
        raise ValueError(f"sample_column={column!r} is out of range; X has {len(names)} columns.")
    if not is_frame:
        raise ValueError(
            f"sample_column={column!r} names a column, but X is an array, whose columns have no names. Pass the "
            "column's position, or a data frame."
        )
    found = [i for i, name in enumerate(names) if name == column]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"X has {len(found)} columns called {column!r}. Give each column a name of its own.")
    near = difflib.get_close_matches(column, [str(name) for name in names], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"sample_column={column!r} is no column of X, which has {names[:MOST_SHOWN]}.{hint}")


def _as_numbers(values: Sequence[Any], name: Any) -> np.ndarray:
    """A column of numbers in float64.

    Raises
    ------
    ValueError
        With the first row that holds no finite number.
    """
    try:
        column = np.asarray(values, dtype=np.float64)
        are_numbers = not any(isinstance(value, str | bytes) for value in values)
    except (TypeError, ValueError):
        column, are_numbers = np.empty(0), False
    if are_numbers and column.ndim == 1 and (np.abs(column) <= LARGEST).all():
        return column
    row = next((i for i, value in enumerate(values) if not _is_usable(value)), 0)
    if is_missing(values[row]):
        problem, remedy = "a missing value", "Fill it, for example with SimpleImputer"
    elif isinstance(values[row], numbers.Number):
        problem, remedy = "a number that float32 cannot hold", "Correct it, or leave the column out"
    else:
        problem, remedy = "no number", "Encode the column first, for example with OneHotEncoder, or leave it out"
    raise ValueError(
        f"Column {name!r} has in row {row} {beginning_of(values[row])}, {problem}. Columns beside sample_column must "
        f"hold numbers. {remedy}."
    )


def _n_distinct(column: np.ndarray) -> int:
    return len(np.unique(column))


def _is_usable(value: Any) -> bool:
    if isinstance(value, str | bytes) or is_missing(value):
        return False
    try:
        return abs(float(value)) <= LARGEST
    except (TypeError, ValueError):
        return False
