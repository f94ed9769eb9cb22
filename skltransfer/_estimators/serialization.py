"""One file that holds arrays and JSON, and no code: what ``save`` writes and ``load`` reads.

A safetensors file whose header carries one JSON text. Values that JSON has no word for (arrays of labels, tuples,
dicts by label, backbones) are written as a dict with one key that names their kind. Must not know what estimators do.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.utils._set_output import _get_output_config

from skltransfer._system.files import replacing
from skltransfer._system.version import __version__
from skltransfer.backbones import AdaptedWeights, Backbone
from skltransfer.exceptions import WeightsError

ADAPTED = "adapted."
FORMAT, KEY = 1, "skltransfer"
OUTPUT, REQUESTS = "_sklearn_output_config", "_metadata_request"  # where scikit-learn keeps them
MAX_HEADER_BYTES, MAX_ARRAY_BYTES = 50_000_000, 200_000_000


def write(path: str | os.PathLike, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file whole or not at all."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Pass the path of a file in it, such as 'model.skl'.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into. Make it first.")
    text = json.dumps({"format": FORMAT, **header})
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with replacing(path) as draft:
        draft.write_bytes(save(whole, metadata={KEY: text}))  # with the rights that any new file has here


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of such a file.

    Raises
    ------
    WeightsError
        If it is no such file, is damaged, or comes from a later version.
    """
    path = _readable(Path(path))
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > MAX_HEADER_BYTES:
                raise ValueError("its header is too long")
        with safe_open(path, "np") as file:
            header = json.loads((file.metadata() or {})[KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        form = header["format"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{str(path)!r} is no file that save() wrote, or is damaged ({type(error).__name__}: {error}). Save the "
            "estimator again."
        ) from error
    if form != FORMAT:
        raise WeightsError(
            f"{str(path)!r} has format {form!r}, written by skltransfer {header.get('version')!r}; this version reads "
            f"format {FORMAT}. Install the version that wrote it."
        )
    return header, arrays


def _readable(path: Path) -> Path:
    """A path with a file that can be opened.

    Raises
    ------
    WeightsError
        That says whether the path is wrong, or the rights are.
    """
    if os.path.isdir(path):
        raise WeightsError(f"{str(path)!r} is a folder; pass the file in it that save() wrote.")
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        where = "" if path.is_absolute() else f" Relative paths start at {os.getcwd()!r}."
        raise WeightsError(f"There is no file {str(path)!r}. Pass the path that save() was given.{where}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{str(path)!r} cannot be opened ({error}). Check the path and its permissions.") from error
    return path


def described(estimator: Any) -> dict[str, Any]:
    """A fitted estimator's part of a header: version, class, parameters without folders of this machine, attributes.

    Also what scikit-learn keeps of ``set_output`` and of the requests for metadata, since a copy must do the same.
    """
    parameters = estimator.get_params(deep=False) | _without_folders(estimator)
    fitted = {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}
    _tell_callbacks(estimator)
    return {
        "version": __version__,
        "class": type(estimator).__name__,
        "parameters": {k: encoded(v) for k, v in parameters.items()},
        "fitted": {k: encoded(v) for k, v in fitted.items() if not isinstance(v, Backbone)},
        "output": dict(getattr(estimator, OUTPUT, {})),
        "requests": _requests(estimator),
    }


def _requests(estimator: Any) -> dict[str, dict[str, bool | str | None]]:
    """Requests that ``set_fit_request`` and its like have set, by method and by name."""
    if not hasattr(estimator, REQUESTS):
        return {}
    methods = vars(getattr(estimator, REQUESTS))
    return {name: dict(method.requests) for name, method in methods.items() if getattr(method, "requests", None)}


def _tell_callbacks(estimator: Any) -> None:
    if getattr(estimator, "_skl_callbacks", None):
        _tell_lost(f"callbacks {estimator._skl_callbacks!r}", "the copy has none")


def restored(kind: type, header: Mapping[str, Any], backbone: Backbone, *, has_moved: bool) -> Any:
    """An estimator with the parameters and attributes in a header; its backbone is given, where that was no name."""
    parameters = {key: decoded(value) for key, value in header["parameters"].items()}
    if has_moved or isinstance(header["parameters"]["backbone"], Mapping):
        parameters["backbone"] = backbone
    model = kind(**parameters)
    model.set_params(**_without_folders(model))._validate_params()  # the file names no folder to write to
    for key, value in header["fitted"].items():
        if not re.fullmatch(r"[a-z]\w*_", key):
            raise KeyError(key)
        setattr(model, key, decoded(value))
    _restore_output(model, header.get("output", {}))
    _restore_requests(model, header.get("requests", {}))
    return model


def _restore_output(model: Any, output: Mapping[str, str]) -> None:
    """As ``set_output`` did; a container that scikit-learn does not know is refused."""
    if output:
        model.set_output(**output)
        _get_output_config("transform", model)


def _restore_requests(model: Any, requests: Mapping[str, Mapping[str, bool | str | None]]) -> None:
    """As ``set_fit_request`` and its like did, which only work while metadata routing is switched on."""
    if not requests:
        return
    known = model._get_metadata_request()
    for method, asked in requests.items():
        for name, alias in asked.items():
            if name not in getattr(known, method).requests:
                raise KeyError(f"{method} takes no {name}")
            getattr(known, method).add_request(param=name, alias=alias)
    setattr(model, REQUESTS, known)


def _without_folders(estimator: Any) -> dict[str, Any]:
    """Values of the parameters that may name folders of this machine."""
    here = {"cache": estimator.cache if estimator.cache is None else "memory", "checkpoint": None}
    return {name: value for name, value in here.items() if name in estimator.get_params(deep=False)}


def encoded(value: Any) -> Any:
    """A value in JSON's terms.

    Raises
    ------
    TypeError
        If there is no way to write it without code.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encoded(item) for item in value]
    for kind, in_words in KINDS.items():
        if isinstance(value, kind):
            return in_words(value)
    if isinstance(value, np.random.RandomState) or callable(value):  # what training alone needs
        _tell_lost(repr(value), "the copy has None")
        return None
    raise TypeError(f"A value of type {type(value).__name__} cannot be saved without code: {value!r}. Use pickle.")


def _tell_lost(what: str, instead: str) -> None:
    warnings.warn(f"{what} takes code to be made again, so it is not saved; {instead}.", stacklevel=6)


KINDS = {
    np.ndarray: lambda value: {"array": encoded(_plain(value).tolist()), "dtype": value.dtype.str},
    tuple: lambda value: {"tuple": encoded(list(value))},
    Mapping: lambda value: {"pairs": [[encoded(key), encoded(item)] for key, item in value.items()]},
    os.PathLike: lambda value: {"path": os.fspath(value)},
    Backbone: lambda value: {"backbone": value.name},
    AdaptedWeights: lambda value: {"adapted": value.base},
}


def _plain(array: np.ndarray) -> np.ndarray:
    """Times as whole numbers of their unit."""
    return array.astype(np.int64) if array.dtype.kind in "mM" else array


def _array(items: Any, dtype: np.dtype) -> np.ndarray:
    """An array of no more bytes than a header could hold: a dtype of a few letters can ask for gigabytes."""
    n_bytes = np.array(items, dtype=object).size * dtype.itemsize
    if dtype.kind == "V" or n_bytes > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of dtype {dtype} and {n_bytes:,} bytes")
    return np.array(items, dtype=dtype)


def decoded(value: Any) -> Any:
    """The value that :func:`encoded` was given."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return _array(decoded(value["array"]), np.dtype(value["dtype"]))
    if "tuple" in value:
        return tuple(decoded(value["tuple"]))
    if "pairs" in value:
        return {decoded(key): decoded(item) for key, item in value["pairs"]}
    if "path" in value:
        return Path(value["path"])
    if "adapted" in value:
        return AdaptedWeights(value["adapted"], {})  # what changed are arrays of the file
    return None  # a backbone, which its weights' hash tells better
