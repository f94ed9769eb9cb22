"""Weights: read without unpickling, fitted without silence, named by their content.

Knows files, state dicts and hashes; no architecture. Nothing here executes what a file contains: safetensors, or
``torch.load(weights_only=True)``.
"""

import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from skltransfer.exceptions import WeightsError

State = Mapping[str, torch.Tensor]
MAX_HEADER_BYTES = 1_000_000
UNREADABLE = (EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)
UNREADABLE += (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile)
INSIDE = "skltransfer.backbone."  # of a backbone's weights in the file of a fitted estimator


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedWeights:
    """Weights some of which were changed here; equal if all of them are.

    Attributes
    ----------
    base : str
        Name, for :func:`load_backbone`, of the weights that were changed.
    changed : mapping of str to ndarray
        Entries of the library's state dict, as they are now.
    digest : str
        Hash of these entries, hexadecimal.
    """

    base: str
    changed: Mapping[str, np.ndarray]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", fingerprint(self.tensors()))

    def __repr__(self) -> str:
        return f"{self.base} + {self.digest[:8]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdaptedWeights) and (self.base, self.digest) == (other.base, other.digest)

    def __hash__(self) -> int:
        return hash((self.base, self.digest))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Copies of what changed."""
        return {name: torch.tensor(array) for name, array in self.changed.items()}


def random_seed(weights: str) -> int | None:
    """The seed of ``"random"`` or ``"random:<seed>"``; None for any other way to name weights."""
    match = re.fullmatch(r"random(?::(\d+))?", weights)
    return None if match is None else int(match[1] or 0)


def read_state(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """A state dict from a ``.safetensors`` file, or from one that ``torch.save`` wrote (tensors only).

    Raises
    ------
    WeightsError
        If the file is absent, empty, damaged, or holds anything but tensors by name.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise WeightsError(
            f"weights={str(path)!r} is neither 'pretrained', 'random', 'random:<seed>' nor an existing file."
        )
    try:
        state = _read_torch(path) if _is_of_torch(path) else _read_safetensors(path)
    except UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), "it ends too early")
        raise WeightsError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}). Expected "
            "safetensors, or a state dict written by torch.save with tensors only; nothing else is ever unpickled."
        ) from error
    return state


def _is_of_torch(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2)
    return start in (b"PK", b"\x80\x02") or (path.suffix != ".safetensors" and not start)


def read_metadata(path: str | os.PathLike) -> dict[str, object]:
    """The JSON values in the header of a safetensors file."""
    with safe_open(path, "pt") as file:
        return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {header} bytes, more than {MAX_HEADER_BYTES}")
    state = load_file(path)
    inside = {key.removeprefix(INSIDE): value for key, value in state.items() if key.startswith(INSIDE)}
    return inside or state


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > path.stat().st_size:
            raise ValueError(f"it would unpack to {n_bytes:,} bytes, and torch.save packs nothing")
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError("it does not hold a dict of tensors by name")
    return state


def fit_state(network: nn.Module, state: State, *, optional: Collection[str], where: str) -> None:
    """Copy ``state`` into ``network``; every entry must match, except those of the classification head.

    Parameters
    ----------
    network : nn.Module
        Network that receives the weights.
    state : mapping of str to tensor
        Weights by name.
    optional : collection of str
        Names of entries (of the classification head) that may be missing or have another shape; they stay unchanged.
    where : str
        Origin of the weights, for error messages.
    """
    own = network.state_dict()
    skip = {k for k in optional if k not in state or state[k].shape != own[k].shape}
    skip |= {k for k in own if k.endswith("num_batches_tracked") and k not in state}
    missing = sorted(own.keys() - state.keys() - skip)
    unexpected = sorted(state.keys() - own.keys() - skip)
    misshapen = sorted(k for k in own.keys() & state.keys() - skip if own[k].shape != state[k].shape)
    if missing or unexpected or misshapen:
        raise WeightsError(
            f"{where} does not fit {type(network).__name__}: missing {_few(missing)}, unexpected {_few(unexpected)}, "
            f"of another shape {_few(misshapen)}. Pass weights of the same architecture."
        )
    network.load_state_dict({k: v for k, v in state.items() if k not in skip}, strict=False)


def _few(names: list[str]) -> str:
    return f"{names[:3]}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def fingerprint(state: State, *context: object) -> str:
    """sha256 over names, dtypes, shapes and bytes of ``state`` and over the text of ``context``, in hexadecimal."""
    digest = hashlib.sha256(repr(context).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
