"""Errors of other libraries about a network, as an error that names the network; the lowest module of the package."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from skltransfer.exceptions import SkltransferError, UnsupportedBackboneError

NOT_OF_THE_NETWORK = (ImportError, MemoryError, OSError)
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@contextlib.contextmanager
def refusing(name: str) -> Iterator[None]:
    """Refuse a network by name where building or running it fails; the library's own error is the cause.

    Parameters
    ----------
    name : str
        ``"source:model"``.

    Raises
    ------
    UnsupportedBackboneError
        Instead of any error of a library; absent libraries, files and memory are no fault of the network.
    """
    try:
        yield
    except NOT_OF_THE_NETWORK:
        raise
    except UnsupportedBackboneError as error:
        if name.partition(":")[2] in str(error):
            raise
        raise _refusal(name, str(error).rstrip(".")) from error
    except SkltransferError:
        raise
    except Exception as error:
        if any(words in str(error) for words in NO_MEMORY):
            raise
        raise _refusal(name, f"its library raises {summary(error)}") from error


def runs(forward: Callable, x: torch.Tensor) -> bool:
    """True if a forward pass ends, in numbers."""
    try:
        with torch.inference_mode():
            return bool(forward(x).isfinite().all())
    except Exception:
        return False


def summary(error: BaseException) -> str:
    """An error's kind and its first line."""
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _refusal(name: str, reason: str) -> UnsupportedBackboneError:
    return UnsupportedBackboneError(
        f"{name!r} cannot be cut into stages: {reason}. Choose another backbone; list_backbones() names some."
    )
