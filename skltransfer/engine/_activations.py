"""What the frozen stages said, remembered: one tensor per (backbone, boundary, sample), bounded in bytes.

Promises that recalling equals recomputing, that it never holds more than ``max_bytes``, and that copies of a handle
(clones, deep copies, pickles in the same process) share one memory. Must not know y, heads or epochs.
"""

import functools
import threading
import uuid
import weakref
from collections import OrderedDict
from typing import NamedTuple

import torch

GIB = 2**30


class Address(NamedTuple):
    """Where activations of one kind live.

    ``space`` names everything but the sample that a value depends on: fingerprint, dtype, device, inference batch.
    """

    space: tuple
    boundary: int
    pooling: str | None


class _Memory:
    """Activations by address and digest; the shallowest go first, and among these the ones not asked for longest."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self.lock:
            self.shelves: dict[int, OrderedDict] = {}  # boundary -> {(address, digest): tensor}, oldest first
            self.bytes = self.hits = self.misses = 0

    def get(self, address: Address, digest: bytes) -> torch.Tensor | None:
        with self.lock:
            shelf = self.shelves.get(address.boundary, {})
            value = shelf.get((address, digest))
            if value is not None:
                shelf.move_to_end((address, digest))
            return value

    def put(self, address: Address, digest: bytes, value: torch.Tensor) -> None:
        size = value.numel() * value.element_size()
        with self.lock:
            shelf = self.shelves.setdefault(address.boundary, OrderedDict())
            if (address, digest) in shelf or not self._make_room(size, address.boundary):
                return
            shelf[address, digest] = value
            self.bytes += size

    def _make_room(self, size: int, boundary: int) -> bool:
        """Evict until ``size`` bytes fit; what is deeper than ``boundary`` stays."""
        if size > self.max_bytes:
            return False
        while self.bytes + size > self.max_bytes:
            shallowest = min((b for b, shelf in self.shelves.items() if shelf), default=boundary)
            if shallowest > boundary:
                return False
            _, old = self.shelves[shallowest].popitem(last=False)
            self.bytes -= old.numel() * old.element_size()
        return True


_memories: "weakref.WeakValueDictionary[str, _Memory]" = weakref.WeakValueDictionary()
_memories_lock = threading.Lock()


class ActivationStore:
    """A handle on remembered activations, to pass as ``cache=``; several estimators may share one.

    Parameters
    ----------
    max_bytes : int, default=2**30
        Upper bound of what is held, in bytes, in each process.

    Raises
    ------
    ValueError
        If ``max_bytes`` is negative.

    Examples
    --------
    >>> from skltransfer import ActivationStore, PretrainedFeatureExtractor
    >>> store = ActivationStore(max_bytes=50_000_000)
    >>> extractor = PretrainedFeatureExtractor("toy:rows", cache=store)
    >>> extractor.transform([[0.0, 1.0], [1.0, 0.0]]).shape
    (2, 32)
    >>> store.info()["misses"]
    2
    >>> extractor.transform([[0.0, 1.0], [1.0, 0.0]]).shape
    (2, 32)
    >>> store.info()["hits"]
    2
    """

    def __init__(self, max_bytes: int = GIB) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, got {max_bytes!r}.")
        self._open(uuid.uuid4().hex, int(max_bytes))

    def _open(self, place: str, max_bytes: int) -> None:
        self.max_bytes, self._place = max_bytes, place
        with _memories_lock:
            self._memory = _memories.setdefault(place, _Memory(max_bytes))

    def __reduce__(self):
        return _store_at, (self._place, self.max_bytes)

    def __sklearn_clone__(self) -> "ActivationStore":
        return self

    def __copy__(self) -> "ActivationStore":
        return self

    def __deepcopy__(self, memo: dict) -> "ActivationStore":
        return self

    def __repr__(self) -> str:
        return f"ActivationStore(max_bytes={self.max_bytes})"

    def get(self, address: Address, digest: bytes) -> torch.Tensor | None:
        """The activation of one sample, or None."""
        return self._memory.get(address, digest)

    def put(self, address: Address, digest: bytes, value: torch.Tensor) -> None:
        """Remember the activation of one sample, if there is or can be made room for it."""
        self._memory.put(address, digest, value)

    def count(self, *, hits: int, misses: int) -> None:
        """Take note of how many samples were recalled and how many computed."""
        with self._memory.lock:
            self._memory.hits += hits
            self._memory.misses += misses

    def clear(self) -> None:
        """Forget everything."""
        self._memory.clear()

    def info(self) -> dict[str, int]:
        """``samples`` held (one at two boundaries counts twice), ``bytes``, ``max_bytes``, ``hits`` and ``misses``."""
        memory = self._memory
        with memory.lock:
            held = sum(len(shelf) for shelf in memory.shelves.values())
            return {
                "samples": held,
                "bytes": memory.bytes,
                "max_bytes": memory.max_bytes,
                "hits": memory.hits,
                "misses": memory.misses,
            }


def _store_at(place: str, max_bytes: int) -> ActivationStore:
    store = ActivationStore.__new__(ActivationStore)
    store._open(place, max_bytes)
    return store


@functools.cache
def shared_store() -> ActivationStore:
    """The store behind ``cache="memory"``: one per process."""
    return _store_at("shared", GIB)
