"""What users have -> samples: a sliceable view of X whose elements have a digest. Must not know torch models."""

from pathlib import Path
from typing import Any

import numpy as np

from skltransfer.inputs._audio import AudioSamples
from skltransfer.inputs._images import ImageSamples, learn_digests, load_image_folder
from skltransfer.inputs._rows import RowSamples
from skltransfer.inputs._samples import Peeked, Samples, is_missing, items_of
from skltransfer.inputs._text import TextSamples

__all__ = [
    "Peeked",
    "Samples",
    "is_table",
    "learn_digests",
    "load_image_folder",
    "samples_from_collection",
    "samples_from_table",
]


def is_table(X: Any, modality: str) -> bool:
    """Whether X is a 2-D array of numbers (or was meant as one), rather than a collection of samples.

    Only the container is looked at: a sparse matrix, a frame of numbers, a nested list of numbers are tables.
    """
    if modality == "rows" or hasattr(X, "toarray"):
        return True
    if modality == "audio":
        return False
    if modality == "text" and isinstance(X, list | tuple):
        return bool(X) and all(_is_number(value) for row in X[:1] for value in (row if np.ndim(row) else [None]))
    if isinstance(X, str | bytes | Path) or hasattr(X, "getexif"):
        return False
    if hasattr(X, "columns"):
        return X.shape[1] == 0 or _is_number(next(iter(X[X.columns[0]]), 0))
    if hasattr(X, "__array__") and not hasattr(X, "to_list"):
        array = np.asarray(X)
        return array.ndim < 3 and not (_is_one_column(array) and array.dtype.kind in "OUSV" and _holds_samples(array))
    try:
        first = next((item for item in X if not is_missing(item)), None)
    except TypeError:
        return True
    return first is None and len(X) == 0 or _is_number(first) or np.ndim(first) == 1


def _is_one_column(array: np.ndarray) -> bool:
    return array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)


def _holds_samples(array: np.ndarray) -> bool:
    first = next((item for item in array.reshape(-1) if not is_missing(item)), None)
    return not _is_number(first) and not isinstance(first, dict)


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float | complex | np.number | np.bool_)


def samples_from_table(
    X: np.ndarray, modality: str, *, image_shape: tuple[int, ...] | None, **reading: object
) -> Samples:
    """The rows of a validated 2-D array: flattened pictures if ``image_shape`` is given, else rows of numbers.

    Raises
    ------
    ValueError
        If ``image_shape`` does not fit the number of columns.
    """
    if modality == "text":
        raise ValueError(f"Expected texts, got a table of numbers of shape {X.shape}. Pass a list of str, or a column.")
    if image_shape is None or modality != "image":
        return RowSamples(X)
    if int(np.prod(image_shape)) != X.shape[1]:
        raise ValueError(
            f"image_shape={image_shape!r} needs {int(np.prod(image_shape))} features per row, but X has {X.shape[1]}."
        )
    return ImageSamples(X.reshape(len(X), *image_shape), **{**reading, "channels": "last"})


def samples_from_collection(X: Any, modality: str, **reading: Any) -> Samples:
    """The elements of a one-dimensional collection of pictures, texts or sounds, in whichever container each comes.

    Parameters
    ----------
    X : collection
    modality : {"image", "text", "audio"}
    **reading
        How they are read: parameters of the samples' class.

    Raises
    ------
    ValueError
        If X is a single sample, is empty, or has several columns.
    """
    items = items_of(X)
    if len(items) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required; X holds no {modality}."
        )
    return {"image": ImageSamples, "text": TextSamples, "audio": AudioSamples}[modality](items, **reading)
