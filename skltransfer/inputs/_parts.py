"""Pairs of unlike things: the first parts, the second parts, and what is distinct among either.

Promises one order, that of first appearance, and to compare content alone. Must not know what the parts mean.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._containers import refuse_what_is_no_collection
from skltransfer.inputs._lazy import DatasetItem
from skltransfer.inputs._samples import as_array, columns_of, is_missing, shown

NOUN, HOW = "pairs", "Pass a frame or an array of two columns, or a list of tuples of two values"


class Distinct(NamedTuple):
    """Values that differ, the row of X at which each appears first, and for each row of X the number of its value."""

    values: list[Any]
    rows: np.ndarray
    inverse: np.ndarray


def parts_of(X: Any) -> tuple[list[Any], list[Any]]:
    """The first and the second part of each pair.

    Parameters
    ----------
    X : frame or array of two columns, or sequence of tuples of two values
        Pairs; a missing pair has two missing parts.

    Raises
    ------
    ValueError
        If X has another number of columns, is empty, or has no order or no length.
    BadSampleError
        If an element is no tuple of two values.
    """
    columns = _columns(X)
    if columns is None:
        items = X.to_list() if hasattr(X, "to_list") else list(X)
        columns = [list(part) for part in zip(*map(_pair, items, range(len(items))), strict=True)] or [[], []]
    if not columns[0]:
        raise ValueError(
            "Found array with 0 sample(s) (shape=(0, 2)) while a minimum of 1 is required; X holds no pair."
        )
    return columns[0], columns[1]


def _columns(X: Any) -> list[list[Any]] | None:
    """Two columns of a frame or an array; None for a sequence of pairs."""
    if hasattr(X, "toarray") or not hasattr(X, "__len__"):
        raise ValueError(f"Expected {NOUN}, got {shown(X)}. {HOW}.")
    refuse_what_is_no_collection(X, NOUN)
    if hasattr(X, "columns"):
        names, found = columns_of(X)
    elif hasattr(X, "__array__") and as_array(X).ndim != 1:
        array = as_array(X)
        if array.ndim != 2:
            raise ValueError(f"Expected {NOUN}, got an array of shape {array.shape}. {HOW}.")
        names = list(range(array.shape[1]))
        found = list(array.T)
    else:
        return None
    if len(names) != 2:
        raise ValueError(f"Expected {NOUN}, got {len(names)} columns: {names[:10]}. {HOW}.")
    return [column.to_list() if hasattr(column, "to_list") else column.tolist() for column in found]


def _pair(item: Any, row: int) -> tuple[Any, Any]:
    if isinstance(item, tuple) and len(item) == 2:
        return item
    if is_missing(item):
        return None, None
    raise BadSampleError(row, shown(item), "no pair", "pass a tuple of two values")


def distinct(values: Sequence[Any]) -> Distinct:
    """What is distinct among values, in the order of first appearance.

    Parameters
    ----------
    values : sequence
        Strings, numbers, arrays, images or any other objects.
    """
    numbers: dict[Hashable, int] = {}
    keys: dict[int, Hashable] = {}  # by identity: a grid holds each object many times
    rows, inverse = [], np.empty(len(values), dtype=int)
    for row, value in enumerate(values):
        if id(value) not in keys:
            keys[id(value)] = _key(value)
        number = numbers.setdefault(keys[id(value)], len(numbers))
        if number == len(rows):
            rows.append(row)
        inverse[row] = number
    return Distinct([values[row] for row in rows], np.array(rows, dtype=int), inverse)


def _key(value: Any) -> Hashable:
    if is_missing(value):
        return None
    if isinstance(value, DatasetItem):
        return (DatasetItem, id(value.dataset), value.index, value.is_pair)  # its dataset may be large
    value = value.item() if isinstance(value, np.generic) else value
    return (type(value), value) if isinstance(value, str | bytes | int | float) else joblib.hash(value)
