"""What X is: a table of numbers, or a collection of samples. Judged once, before any element is read.

Promises to judge by type and shape alone and to consume nothing: whatever has no order, no length or several columns
that are not read together is refused by name, with what to pass instead. Must not know what the elements mean.
"""

import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np

from skltransfer.inputs._columns import (
    ONE,
    PAIR,
    are_pairs,
    contents_of_columns,
    refuse_other_pairs,
    refuse_unreadable_columns,
)
from skltransfer.inputs._hugging_face import content_of
from skltransfer.inputs._kinds import NOUNS, refuse_other_kind, refuse_unequal_rows
from skltransfer.inputs._lazy import DatasetItem, refusal_of_torch
from skltransfer.inputs._pixels import CHANNELS
from skltransfer.inputs._samples import as_array, columns_of, is_missing, shown

TABLE, SAMPLES, PAIRS, COLUMNS = "table", "samples", "pairs", "columns"


class Container(NamedTuple):
    """X, judged: ``kind`` is ``"table"``, ``"samples"``, ``"pairs"`` of texts, or ``"columns"`` of samples.

    ``items`` are X itself, a sequence of its elements, of tuples, or of columns.
    """

    kind: str
    items: Any


def contained(
    X: Any,
    modality: str,
    *,
    channels: str = "auto",
    bands: int | None = None,
    expected: str | None = None,
    columns: str = ONE,
) -> Container:
    """Determine whether X is a table or a collection of samples.

    Parameters
    ----------
    X : object
        Argument of an estimator's method.
    modality : {"audio", "image", "rows", "text", "words"}
        Kind of samples that are read; ``"words"`` are texts that are split into words.
    channels : {"auto", "first", "last"}, default="auto"
        Position of the channels in image arrays.
    bands : int, optional
        Number of channels of images, if these are not gray or colors.
    expected : {"table", "samples", "pairs", "columns"}, optional
        Kind of container that ``fit`` saw.
    columns : {"one", "pair", "separate"}, default="one"
        How several columns are read: not at all, two of texts as pairs, or each on its own.

    Raises
    ------
    ValueError
        If X is a single sample, has no order or no length, has several columns, or was not what ``fit`` saw.
    """
    noun = NOUNS[modality]
    is_sparse = hasattr(X, "toarray")
    if not is_sparse:
        refuse_what_is_no_collection(X, noun)
    if modality == "words":
        return Container(SAMPLES, _texts_of_words(X))
    if is_sparse:
        found = Container(TABLE, X)
    elif hasattr(X, "columns"):
        found = _of_frame(X, modality, expected, columns)
    elif hasattr(X, "to_list") or hasattr(X, "to_pylist"):  # a column of pandas, polars or pyarrow
        found = _of_items(X.to_list() if hasattr(X, "to_list") else X.to_pylist(), modality)
    elif hasattr(X, "__array__"):
        array = as_array(X)
        is_column = array.ndim in (1, 2) and array.size == len(array) > 0
        if is_column and expected == SAMPLES and all(map(is_missing, array.reshape(-1).tolist())):
            found = Container(SAMPLES, array.reshape(-1).tolist())
        else:
            given = array if hasattr(X, "detach") else X
            found = _of_array(array, given, modality, channels, bands, expected, columns)
    elif hasattr(X, "__len__"):
        found = _of_items(list(X) if hasattr(X, "__iter__") else _of_dataset(X, modality), modality)
    else:
        found = Container(TABLE, X)  # a number, say: scikit-learn has words for it
    if found.kind == SAMPLES and expected == PAIRS and all(map(is_missing, found.items)):
        found = Container(PAIRS, found.items)
    _refuse_other_content(found, X, modality, columns)
    return found


def _of_dataset(X: Any, modality: str) -> list[Any]:
    """Elements of what has positions but cannot be iterated over, as datasets of PyTorch; images are read later."""
    first = X[0] if len(X) else None
    if isinstance(first, tuple) and not _is_row(first) and modality != "audio":  # of which pairs may have a rate
        raise ValueError(
            f"Expected {NOUNS[modality]}, got the dataset {type(X).__name__}, whose items are tuples of {len(first)}. "
            "Split pairs of samples and labels: X, y = from_torch_dataset(dataset)."
        )
    is_image = hasattr(first, "getexif") or getattr(first, "ndim", 0) > 1
    if modality == "image" and is_image and getattr(X, "transform", None) is None:
        return [DatasetItem(X, i, is_pair=False) for i in range(len(X))]
    return [X[i] for i in range(len(X))]


def _texts_of_words(X: Any) -> list[Any]:
    """The texts, whatever they hold; the rows of a table of strings are texts of equally many words."""
    if hasattr(X, "columns"):
        names = list(X.columns)
        if len(names) != 1:
            refuse_unreadable_columns(names, [], "words", ONE)
        X = X.iloc[:, 0] if hasattr(X, "iloc") else X[names[0]]
    if hasattr(X, "to_list") or hasattr(X, "to_pylist"):
        return X.to_list() if hasattr(X, "to_list") else X.to_pylist()
    if not hasattr(X, "__len__") or getattr(X, "ndim", 1) not in (1, 2) or hasattr(X, "toarray"):
        raise ValueError(f"Expected {NOUNS['words']}, got {shown(X)}. Pass a list of lists of strings.")
    return list(X)


def _refuse_other_content(found: Container, X: Any, modality: str, columns: str) -> None:
    if found.kind == PAIRS:
        if columns == ONE:
            raise ValueError(
                "This estimator reads single texts, but X holds pairs of them (tuples). Pass each text of a pair as an "
                "element of its own."
            )
        refuse_other_pairs(found.items)
        return
    if found.kind in (SAMPLES, COLUMNS):
        for items in found.items if found.kind == COLUMNS else [found.items]:
            refuse_other_kind(items, modality)
        return
    if modality in ("image", "text") and isinstance(found.items, list):
        refuse_unequal_rows(found.items, modality)
    if modality in ("audio", "text"):
        noun = NOUNS[modality]
        raise ValueError(f"Expected {noun}, got a table of numbers{_size(X)}. Pass a list or a column of {noun}.")


def refuse_what_is_no_collection(X: Any, noun: str) -> None:
    """Raise if X is one sample, or has no order or no length.

    Parameters
    ----------
    X : object
        Argument of an estimator's method.
    noun : str
        Name of the elements that are expected, for the message.

    Raises
    ------
    ValueError
        With what to pass instead.
    """
    _refuse_one(X, noun)
    _refuse_lazy_or_unordered(X, noun)


def _refuse_one(X: Any, noun: str) -> None:
    if isinstance(X, os.PathLike) and os.path.isdir(X) or isinstance(X, str) and _is_folder(X):
        raise ValueError(
            f"Expected a collection of {noun}, got the folder {str(X)!r}. Pass the paths of its files; "
            f"for images in one folder per class, X, y = load_image_folder({str(X)!r}) lists them."
        )
    if isinstance(X, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(X, "getexif"):
        raise ValueError(f"Expected a collection of samples, got one: {shown(X)}. Pass it in a list: [sample].")


def _is_folder(text: str) -> bool:
    try:
        return len(text) < 4096 and os.path.isdir(text)
    except ValueError:  # a null character
        return False


def _refuse_lazy_or_unordered(X: Any, noun: str) -> None:
    """Refuse what cannot be read twice, in one order, row by row."""
    kind, remedy = type(X).__name__, None
    if (refusal := refusal_of_torch(X)) is not None:
        kind, remedy = f"{kind}, {refusal[0]}", refusal[1]
    elif hasattr(X, "column_names"):
        remedy = f"Choose one column: X[{next(iter(X.column_names), 'name')!r}], as a list"
        kind += f" with the columns {list(X.column_names)}"
    elif callable(getattr(X, "collect", None)) or (hasattr(X, "columns") and callable(getattr(X, "compute", None))):
        kind += ", which is not computed yet"
        remedy = f"Pass X.{'collect' if hasattr(X, 'collect') else 'compute'}()"
    elif hasattr(X, "__next__"):
        kind += ", which can be read only once"
        remedy = "Pass list(X)"
    elif isinstance(X, Mapping):
        kind += ", whose rows have no order of their own"
        remedy = "Pass a list, such as list(X.values()), or a DataFrame"
    elif isinstance(X, AbstractSet):
        kind += ", which has no order"
        remedy = "Pass a list in the order of y, such as sorted(X)"
    elif hasattr(X, "__iter__") and not hasattr(X, "__array__") and not _is_sequence(X):
        kind += ", which has no length or no order"
        remedy = "Pass list(X)"
    elif np.ma.isMaskedArray(X) and np.ma.getmaskarray(X).any():
        kind += ", some of whose values are masked"
        remedy = "Pass X.filled(value), or leave out what is masked"
    if remedy is not None:
        raise ValueError(f"Expected a list, array or column of {noun}, got a {kind}. {remedy}.")


def _is_sequence(X: Any) -> bool:
    return isinstance(X, Sequence) or (hasattr(X, "__len__") and hasattr(X, "__getitem__"))


def _of_frame(X: Any, modality: str, expected: str | None, how: str) -> Container:
    names, columns = columns_of(X)
    if modality == "rows":
        return Container(TABLE, X)
    values = [column.to_list() if hasattr(column, "to_list") else list(column) for column in columns]
    if len(columns) == 1:
        is_empty_column = all(map(is_missing, values[0])) and (modality != "image" or expected == SAMPLES)
        if is_empty_column or not _are_numbers(columns[0]):
            return _of_samples([content_of(value, modality) for value in values[0]], modality)
        return Container(TABLE, X)
    numeric = [_are_numbers(column) for column in columns]
    if all(numeric) and modality != "audio" and not (expected in (PAIRS, COLUMNS) and _are_missing(values)):
        return Container(TABLE, X)
    return _of_columns(names, values, numeric, modality, how)


def _of_columns(
    names: Sequence[Any], columns: Sequence[list[Any]], numeric: Sequence[bool], modality: str, how: str
) -> Container:
    """Several columns of samples; one without any sample is none of numbers."""
    full = (all(map(is_missing, column)) for column in columns)
    of_numbers = [name for name, one, is_empty in zip(names, numeric, full, strict=True) if one and not is_empty]
    refuse_unreadable_columns(names, of_numbers, modality, how)
    return Container(PAIRS if how == PAIR else COLUMNS, contents_of_columns(columns, modality, how))


def _are_missing(columns: Sequence[list[Any]]) -> bool:
    return all(is_missing(value) for column in columns for value in column)


def _of_samples(items: list[Any], modality: str) -> Container:
    return Container(PAIRS if are_pairs(items, modality) else SAMPLES, items)


def _are_numbers(column: Any) -> bool:
    """True if a column holds numbers: by its type, or where that is any object by all of its values."""
    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if values.dtype.kind != "O":
        return values.dtype.kind in "biufc"
    return _hold_numbers(values)


def _hold_numbers(values: Iterable[Any]) -> bool:
    present = [value for value in values if not is_missing(value)]
    return bool(present) and all(map(_is_number, present))


def _of_array(
    array: np.ndarray, X: Any, modality: str, channels: str, bands: int | None, expected: str | None, columns: str
) -> Container:
    if array.dtype.kind in "mM" or array.dtype.names is not None:
        raise ValueError(f"Expected {NOUNS[modality]}, got an array of {array.dtype}. Pass one column of samples.")
    if array.ndim == 0 and array.dtype.kind in "OUST":
        raise ValueError(f"Expected a collection of samples, got one: {array.item()!r}. Pass it in a list: [sample].")
    if array.dtype.kind in "OUSVT" and modality != "rows":
        return _of_objects(array, X, modality, expected, columns)
    if modality == "image" and array.ndim == 3:
        _refuse_one_image(array.shape, channels, CHANNELS if bands is None else (bands,))
    if modality == "audio" and array.ndim == 1 and len(array):
        raise ValueError(f"Expected a collection of audio clips, got one: {shown(array)}. Pass it in a list: [clip].")
    are_samples = array.ndim >= {"image": 3, "audio": 1, "text": 3, "rows": 99}[modality]
    return Container(SAMPLES, array) if are_samples else Container(TABLE, X)


def _of_objects(array: np.ndarray, X: Any, modality: str, expected: str | None, how: str) -> Container:
    """An array of strings or of any objects."""
    if array.ndim == 1 or array.ndim == 2 and array.shape[1] == 1:
        return _of_items(array.astype(object).reshape(-1).tolist(), modality, table=X)
    if array.ndim == 2:
        columns = [column.tolist() for column in array.astype(object).T]
        hold_samples = any(_is_plainly_a_sample(value) for column in columns for value in column)
        are_expected = expected in (PAIRS, COLUMNS) and _are_missing(columns)
        if modality != "audio" and array.dtype.kind == "O" and not hold_samples and not are_expected:
            return Container(TABLE, X)  # scikit-learn has words for what is no number
        numeric = list(map(_hold_numbers, columns))
        return _of_columns(range(len(columns)), columns, numeric, modality, how)
    return Container(SAMPLES, array)


def _is_plainly_a_sample(value: Any) -> bool:
    return isinstance(value, str | bytes | os.PathLike | np.ndarray) or hasattr(value, "getexif")


def _refuse_one_image(shape: tuple[int, ...], channels: str, counts: tuple[int, ...]) -> None:
    """A stack of grey images is hardly ever three pixels wide; one image with its channels is a common slip."""
    is_one = shape[-1] in counts if channels != "first" else shape[0] in counts
    if is_one and 0 not in shape:
        raise ValueError(
            f"Expected a collection of images, got an array of shape {shape}, which is that of one image with its "
            "channels. Pass it in a list: [image]; or give grey images a last axis of one channel: X[..., None]."
        )


def _of_items(items: list[Any], modality: str, table: Any = None) -> Container:
    """A list: a table if all that is not missing are numbers or rows of numbers, else samples."""
    if modality == "rows":
        return Container(TABLE, items if table is None else table)
    items = [content_of(item, modality) for item in items]
    if are_pairs(items, modality):
        return Container(PAIRS, items)
    present = [item for item in items if not is_missing(item)]
    if modality == "audio":
        if present and all(map(_is_number, present)):
            raise ValueError(f"Expected audio clips, got {len(items)} numbers. Pass each clip as an array, in a list.")
        return Container(SAMPLES, items)
    are_rows = bool(present) and all(_is_number(item) or _is_row(item) for item in present)
    if are_rows or (not items and modality == "image"):
        return Container(TABLE, items if table is None else table)
    return Container(SAMPLES, items)


def _is_row(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return bool(item) and all(_is_number(value) or is_missing(value) for value in item)
    return isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype.kind in "biufc"


def _is_number(item: Any) -> bool:
    return isinstance(item, numbers.Number | np.bool_)


def _size(X: Any) -> str:
    try:
        shape = getattr(X, "shape", None) or (np.shape(X) if isinstance(X, list | tuple) else ())
    except ValueError:  # rows of different lengths
        shape = ()
    return f" of shape {tuple(shape)}" if shape else ""
