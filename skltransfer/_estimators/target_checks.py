"""What is wrong with y or with groups, in words that name the row and say what to pass.

Must not know estimators or networks.

Promises to look at y as the user passed it, before NumPy makes strings of missing labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

MOST_SHOWN = 5
LISTS = (list, tuple, set, frozenset, dict, np.ndarray)
FEW_LABELS = 5  # to a class, below which whole numbers look like amounts
FEWEST_CELLS = 20  # as in scikit-learn, which says nothing of fewer


def refuse_odd_targets(y: Any, *, are_numbers: bool) -> None:
    """Refuse a y that is no collection, or whose cells are missing, lists, or words where numbers are expected.

    Raises
    ------
    ValueError
        That names the rows and what they hold.
    """
    if hasattr(y, "toarray"):
        return
    cells = cells_of(y)
    refuse_lists(cells, are_numbers=are_numbers)
    _refuse_missing(cells)
    if are_numbers:
        _refuse_words(cells)


def plain(y: Any) -> Any:
    """y, of strings that scikit-learn knows: it does not take NumPy's of variable length."""
    is_new = getattr(getattr(y, "dtype", None), "kind", None) == "T"
    return np.asarray(y).astype(object) if is_new else y


def cells_of(y: Any) -> np.ndarray:
    """y as an array: of objects where NumPy would make strings of missing cells, or fail at lists of several lengths.

    Raises
    ------
    ValueError
        If y has no rows.
    """
    if isinstance(y, list | tuple):
        return _objects(y)
    cells = np.array(None) if isinstance(y, dict | set | frozenset) else np.asarray(y)  # what has no order has no rows
    if cells.ndim == 0:
        raise ValueError(
            f"y must be a list or an array with a target for each sample; got {_short(y)} of type {type(y).__name__}."
        )
    return cells


def rows_of(y: Any, name: str = "y") -> np.ndarray:
    """y as an array of objects, (n,), one per sample, whatever they hold.

    Raises
    ------
    ValueError
        If y has no rows in an order, or several columns.
    """
    if hasattr(y, "columns"):
        if len(y.columns) != 1:
            columns = list(y.columns)
            raise ValueError(f"{name} must have one column, got {len(columns)}: {columns[:MOST_SHOWN]}. Choose one.")
        y = y.iloc[:, 0] if hasattr(y, "iloc") else y[next(iter(y.columns))]
    y = y.to_list() if hasattr(y, "to_list") else y.to_pylist() if hasattr(y, "to_pylist") else y
    if isinstance(y, str | bytes | dict | set | frozenset) or not (hasattr(y, "__len__") and hasattr(y, "__getitem__")):
        raise ValueError(
            f"{name} must be a list or an array with a target for each sample; got {_short(y)} of type "
            f"{type(y).__name__}."
        )
    return object_array([y[i] for i in range(len(y))])


def texts_of(rows: np.ndarray, name: str = "y") -> np.ndarray:
    """Targets that are texts, as strings of Python.

    Raises
    ------
    ValueError
        If one is no string, or no valid Unicode.
    """
    for row, text in enumerate(rows):
        if not isinstance(text, str):
            what = "missing" if missing([text]).any() else "no string"
            raise ValueError(
                f"{name}[{row}] is {_short(text)}, which is {what}; each sample needs a text to learn. Pass strings, "
                "or drop the row of X and y."
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name}[{row}] is no valid Unicode at position {error.start}. Clean it: "
                "text.encode('utf-8', 'replace').decode()."
            ) from None
    return object_array([str(text) for text in rows])


def compared_texts(y_true: Any, y_pred: Any) -> tuple[list[str], list[str]]:
    """Right and written texts, of one number, at least one.

    Raises
    ------
    ValueError
        If their numbers differ, there is none, or one is no string.
    """
    truth, found = (texts_of(rows_of(y, name), name) for y, name in ((y_true, "y_true"), (y_pred, "y_pred")))
    check_consistent_length(truth, found)
    refuse_nothing_to_compare(truth)
    return truth.tolist(), found.tolist()


def refuse_nothing_to_compare(truth: Sequence[Any]) -> None:
    """Raise if there is no true answer: no score is that of nothing."""
    if not len(truth):
        raise ValueError("y_true holds no text to compare with. Pass at least one.")


def object_array(values: Sequence[Any]) -> np.ndarray:
    """An array of objects, (n,), also where all of them have one length."""
    found = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        found[i] = value
    return found


def _objects(y: Sequence[Any]) -> np.ndarray:
    cells = np.empty(len(y), dtype=object)
    cells[:] = [list(row) if isinstance(row, np.ndarray) and row.ndim else row for row in y]
    lengths = {len(cell) if isinstance(cell, list | tuple) else None for cell in cells}
    if len(lengths) != 1 or None in lengths:
        return cells
    table = np.empty((len(cells), *lengths), dtype=object)
    for row, cell in enumerate(cells):
        table[row, :] = cell
    return table


def refuse_lists(cells: np.ndarray, *, are_numbers: bool = False) -> None:
    """Cells must be single labels or numbers."""
    if cells.dtype != object or cells.ndim > 2:
        return
    rows = cells.reshape(len(cells), -1) if cells.size else cells[:0]
    found = next(((i, cell) for i, row in enumerate(rows) for cell in row if isinstance(cell, LISTS)), None)
    if found is None:
        return
    what = f"y[{found[0]}] is {_short(found[1])}, and y has no columns of one length"
    if are_numbers:
        raise ValueError(f"{what}. Pass a number for each sample, or rows of one length.")
    raise ValueError(
        f"{what}. Pass one label for each sample, or a column of 0 and 1 for each label, which "
        "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y) makes of lists of labels."
    )


def _refuse_missing(cells: np.ndarray) -> None:
    rows = np.flatnonzero(missing(cells.reshape(-1)).reshape(len(cells), -1).any(axis=1)) if cells.size else ()
    if len(rows):
        first = np.atleast_1d(cells[rows[0]])
        more = f" and {len(rows) - MOST_SHOWN} more" if len(rows) > MOST_SHOWN else ""
        raise ValueError(
            f"Input y contains {_word(first[missing(first)][0])} in rows {rows[:MOST_SHOWN].tolist()}{more}, but each "
            "sample needs a target. Drop these rows of X and y, or use MultiTaskFineTuner, which takes missing cells."
        )


def _word(cell: Any) -> str:
    return "NaN" if isinstance(cell, float | np.floating) else str(cell)


def _refuse_words(cells: np.ndarray) -> None:
    if cells.dtype.kind not in "OUS":
        return
    for row, value in enumerate(cells.reshape(len(cells), -1)[:, 0] if cells.size else ()):
        try:
            float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"y[{row}] is {_short(value)}, which is no number. Pass numbers, or use a classifier for labels."
            ) from None


def refuse_odd_labels(y: np.ndarray) -> None:
    """An array of objects is taken for labels only if they are strings, as in scikit-learn.

    Raises
    ------
    ValueError
        That names the types of the others.
    """
    kinds = sorted({type(cell).__name__ for cell in y.reshape(-1) if not isinstance(cell, str)})
    if y.dtype == object and kinds:
        raise ValueError(
            f"Unknown label type: y is an array of objects that holds {', '.join(kinds)}. Convert it to strings, whole "
            "numbers or bool, for example with y.astype(str) or y.astype(int)."
        )


def refuse_mixed_labels(rows: Sequence[Sequence[Any]], noun: str = "Labels") -> None:
    """Labels of parts of samples must be all strings or all whole numbers, which sort together.

    Raises
    ------
    ValueError
        That names a row of each kind.
    """
    first: dict[bool, tuple[int, Any]] = {}
    for row, labels in enumerate(rows):
        for label in labels:
            first.setdefault(isinstance(label, str), (row, label))
    if len(first) == 2:
        (row, word), (other, number) = first[True], first[False]
        raise ValueError(
            f"{noun} must be all strings or all whole numbers, but y[{row}] holds {word!r} and y[{other}] holds "
            f"{number!r}. Convert them with str(...)."
        )


def ordered_categories(y: Any) -> list[Any] | None:
    """Categories of an ordered pandas ``Categorical``, from lowest to highest; None for any other y."""
    dtype = getattr(y, "dtype", None)
    is_ordered = getattr(dtype, "ordered", False) is True and hasattr(dtype, "categories")
    return list(dtype.categories) if is_ordered else None


def ordered_classes(classes: np.ndarray, order: Any, categories: list[Any] | None) -> np.ndarray:
    """Classes from lowest to highest, (k,).

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels.
    order : "sorted" or sequence
        The parameter ``class_order``.
    categories : list or None
        Categories of an ordered y.

    Raises
    ------
    ValueError
        If the order of a class is not known.
    """
    if isinstance(order, str):
        if categories is None and classes.dtype.kind not in "biuf":
            raise ValueError(
                f"class_order='sorted' sorts numbers, but y holds {classes.tolist()[0]!r}, and alphabetical order is "
                "seldom the order of words. List the labels from lowest to highest in class_order, or pass y as an "
                "ordered pandas Categorical."
            )
        order = classes if categories is None else categories
    order, ranks = order.tolist() if isinstance(order, np.ndarray) else list(order), {}
    for label in order:
        if isinstance(label, LISTS) or label in ranks:
            raise ValueError(
                f"class_order must list each label once, from lowest to highest; got {label!r} in {order!r}."
            )
        ranks[label] = len(ranks)
    unknown = [label for label in classes.tolist() if label not in ranks]
    if unknown:
        raise ValueError(
            f"y holds the labels {unknown[:MOST_SHOWN]!r}, which class_order={list(ranks)!r} does not list."
        )
    return classes[np.argsort([ranks[label] for label in classes.tolist()])]


def missing(cells: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Mark the cells that are None, NaN or a library's missing value, (n,) of bool."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind != "O":
        return cells != cells if cells.dtype.kind in "fcmM" else np.zeros(len(cells), dtype=bool)

    def is_missing(cell: Any) -> bool:
        try:
            return cell is None or bool(cell != cell)
        except (TypeError, ValueError):  # pandas.NA is neither equal nor unequal; an array is both
            return not isinstance(cell, np.ndarray)

    return np.array([is_missing(cell) for cell in cells], dtype=bool)


def looks_like_amounts(labels: np.ndarray, classes: np.ndarray) -> bool:
    """True if numbers that are all whole have too many values for classes."""
    is_long = len(labels) > FEWEST_CELLS and len(classes) > 2
    return is_long and classes.dtype.kind in "iuf" and len(labels) < FEW_LABELS * len(classes)


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}..."


def checked_groups(groups: Any, n: int) -> np.ndarray:
    """Numbers of the groups of n samples, (n,).

    Raises
    ------
    ValueError
        If there are more or fewer of them, or one is missing.
    """
    rows = rows_of(groups, "groups")
    if len(rows) != n:
        raise ValueError(f"groups has {len(rows)} entries, but X has {n} samples. Pass one group for each sample.")
    numbers: dict[Any, int] = {}
    try:
        absent = [row for row, one in enumerate(rows) if one is None or one != one]
        found = np.array([numbers.setdefault(one, len(numbers)) for one in rows])
    except TypeError as error:
        raise ValueError(f"groups must hold strings or numbers, one for each sample ({error}).") from error
    if absent:
        raise ValueError(f"groups[{absent[0]}] is missing ({rows[absent[0]]!r}). Name a group for each sample.")
    return found
