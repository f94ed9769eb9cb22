"""Any one-dimensional collection -> a sliceable view of samples.

A sample has a digest of its content, the same wherever it is sliced. Only the container of an element is looked at;
what the element means (a photo, a row) is the backbone's to say. Must not know torch.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from skltransfer.exceptions import BadSampleError, MissingSampleError
from skltransfer.inputs._lazy import DatasetItem
from skltransfer.inputs._remarks import Remarks

DIGEST_BYTES, LONGEST_SHOWN = 20, 200


def digest_of(*parts: bytes) -> bytes:
    """sha256 over parts, each with its length, so that two ways to split one content differ; cut to 160 bits.

    Processors have instructions for it: 1.7 GB/s on one core, where blake2b reaches 0.7.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()[:DIGEST_BYTES]


class Peeked(NamedTuple):
    """Digests of a sample that are known without decoding it.

    ``key`` is the digest of its encoded content, ``digest`` that of its decoded one.
    """

    key: bytes | None = None
    digest: bytes | None = None


class Samples(ABC):
    """A view of X: ``len``, ``take(rows)``, and per sample its digest and its decoded content.

    Parameters
    ----------
    items : sequence
        Elements that the user passed, one per sample.
    rows : ndarray of int, optional
        Which of them this view holds, in which order; they are also the row numbers in errors.
    """

    slow_to_read = True  # so that reading ahead, in threads, pays
    slow_to_peek = False  # so that looking in threads pays
    words_if_cut: str | None = None  # told of samples that are too long, where it is not what the backbone says
    judges: ClassVar[Mapping[str, Callable[[float], str | None]]] = {}  # of levels that rows were found to have

    def __init__(self, items: Sequence[Any], rows: np.ndarray | None = None) -> None:
        self.items = items
        self.rows = np.arange(len(items)) if rows is None else rows
        self.remarks = Remarks()  # one for all views of X
        self.beside: np.ndarray | None = None  # numbers of all items, (n, c)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> "Samples":
        """The samples at these positions of the view."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.rows = self.rows[rows]
        return view

    @property
    def numbers(self) -> np.ndarray | None:
        """Numbers that the head receives beside each sample, (n, c) of float32; None if there are none."""
        return None if self.beside is None else self.beside[self.rows]

    def peek(self, position: int) -> Peeked:
        """Digests of a sample that are known without decoding it; a damaged header is refused.

        Raises
        ------
        BadSampleError
            With the sample's row in the X that the user passed.
        """
        return self._peek(int(self.rows[position]))

    def identify(self, position: int) -> tuple[bytes, np.ndarray | None]:
        """The sample's digest; and its content, if it had to be decoded to know the digest.

        Raises
        ------
        BadSampleError
            With the sample's row in the X that the user passed.
        """
        return self._identify(int(self.rows[position]))

    def read(self, position: int) -> np.ndarray:
        """The sample's decoded content: an RGB photo (h, w, 3) of uint8, or a row (f,) of float32."""
        return self._read(int(self.rows[position]))

    def size(self, position: int) -> tuple[int, int] | None:
        """Width and height of an image, in pixels, as the user sees it; None for samples of other kinds."""
        return self._size(int(self.rows[position]))

    def geometry(self, position: int, preprocessing: Any) -> Any:
        """Position of the sample, or of its parts, in the network's input; None for samples without positions.

        Parameters
        ----------
        position : int
            Position of the sample in the view.
        preprocessing : Preprocessing
            The backbone's, which knows how a sample becomes an input.
        """
        return self._geometry(int(self.rows[position]), preprocessing)

    def tell_remarks(self, digests: Sequence[bytes]) -> None:
        """Warn of what was noticed while samples of this view were read: once per kind of remark.

        Parameters
        ----------
        digests : sequence of bytes, length n
            Digests of this view's samples; empty where one could not be read.
        """
        self.remarks.tell(dict(zip(self.rows.tolist(), digests, strict=True)), self.judges)

    def _item(self, row: int) -> Any:
        """An element, which is read first if it is one of a dataset."""
        item = self.items[row]
        if not isinstance(item, DatasetItem):
            return item
        try:
            return item.read()
        except Exception as error:  # the dataset is the user's
            cause = f"the dataset raised {type(error).__name__}: {error}"
            raise BadSampleError(row, shown(item), cause, "mend the dataset, or drop the row") from error

    def _size(self, row: int) -> tuple[int, int] | None:
        return None

    def _geometry(self, row: int, preprocessing: Any) -> Any:
        size = self._size(row)
        return None if size is None else preprocessing.geometry(*size)

    @abstractmethod
    def _peek(self, row: int) -> Peeked: ...

    @abstractmethod
    def _identify(self, row: int) -> tuple[bytes, np.ndarray | None]: ...

    @abstractmethod
    def _read(self, row: int) -> np.ndarray: ...


class BadMaskError(ValueError):
    """Error that an element of y is no mask of labels; the message names its row."""

    def __init__(self, row: int, shown_mask: str, problem: str, remedy: str, name: str = "y") -> None:
        super().__init__(f"{name}[{row}] ({shown_mask}): {problem}; expected a mask of labels. Fix: {remedy}.")


def is_missing(item: Any) -> bool:
    """None, NaN, NaT and pandas' NA: values that do not equal themselves, or refuse to compare."""
    if item is None:
        return True
    if (
        isinstance(item, bytes | bytearray | memoryview | str | os.PathLike)
        or getattr(item, "ndim", 0) > 0
        or hasattr(item, "getexif")
    ):
        return False  # comparing a PIL image with itself would decode it
    try:
        return bool(item != item)
    except (TypeError, ValueError):
        return type(item).__name__ == "NAType"


def refuse_missing(item: Any, row: int) -> None:
    """Raise if an element is missing."""
    if is_missing(item):
        raise MissingSampleError(
            row,
            repr(item),
            "missing value",
            "drop the row, fill it (SimpleImputer), or set missing='zero' (an extractor) or on_bad_sample='nan' (a "
            "fine-tuner)",
        )


def shown(item: Any) -> str:
    """Name of an element in an error: its path or its kind, never its whole content."""
    if isinstance(item, str | os.PathLike):
        text = repr(str(item))
        return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
    if isinstance(item, bytes | bytearray):
        return f"{len(item)} bytes"
    if isinstance(item, np.ndarray):
        return f"array of shape {item.shape}, {item.dtype}"
    if isinstance(item, tuple):
        return f"tuple of {', '.join(type(part).__name__ for part in item[:4])}"
    return repr(item) if isinstance(item, DatasetItem) else f"{type(item).__name__} object"


def beginning_of(item: Any) -> str:
    """The beginning of an element as code, never its whole content."""
    text = repr(item)
    return text if len(text) <= 40 else f"{text[:37]}..."


def columns_of(X: Any) -> tuple[list[Any], list[Any]]:
    """Names of the columns of a data frame, and the columns."""
    names = list(X.columns)
    return names, [X.iloc[:, i] if hasattr(X, "iloc") else X[name] for i, name in enumerate(names)]


def encoded_content(item: Any) -> bytes | None:
    """The content of an element that is bytes in some form; None for others."""
    return bytes(item) if isinstance(item, bytes | bytearray | memoryview) else None


def as_array(X: Any) -> np.ndarray:
    """Convert to an array: also a tensor that requires gradients, lies on a GPU or is of bfloat16."""
    if hasattr(X, "detach"):
        X = X.detach().cpu()
        X = X.float() if str(X.dtype) == "torch.bfloat16" else X
    return np.asarray(X)


def element_as_array(item: Any, refuse: Callable[[str, str], Exception]) -> np.ndarray:
    """An element of X that turns itself into an array, none of whose values is masked."""
    if np.ma.isMaskedArray(item) and np.ma.getmaskarray(item).any():
        raise refuse("an array some of whose values are masked", "fill it: item.filled(value)")
    try:
        return as_array(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise refuse(f"numpy cannot make an array of it ({error})", "pass a NumPy array") from error
