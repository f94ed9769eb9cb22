"""What the frozen stages said, remembered: one tensor per (backbone, boundary, sample), bounded in bytes.

Promises that recalling equals recomputing, that it never holds more than ``max_bytes``, and that copies of a handle
(clones, deep copies, pickles in the same process) share one memory. Must not know y, heads or epochs.
"""

import functools
import hashlib
import multiprocessing
import os
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from skltransfer._system.forks import Lock
from skltransfer._system.values import Value
from skltransfer.engine.storing.backend import Backend
from skltransfer.engine.storing.folder import NOTES, ShardFolder
from skltransfer.engine.storing.key import Address

GIB = 2**30
BYTES_OF_ENTRY = 680  # that a process grows by for each entry, beside the values: the tensor, its storage, its keys
NAMES, ANSWERS = (Address((what,), NOTES, None) for what in ("names of encoded content", "answers about backbones"))


class _Memory:
    """Activations by address and digest; the shallowest go first, and among these the ones not asked for longest."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.lock = Lock()
        self.clear()

    def clear(self) -> None:
        with self.lock:
            self.shelves: dict[int, OrderedDict] = {}  # boundary -> {(address, digest): tensor}, oldest first
            self.passing: set[tuple[Address, bytes]] = set()  # what the last prediction passed on its way
            self.passed_before: set[tuple[Address, bytes]] = set()  # and the one before that
            self.follows_fit = False
            self.bytes = self.hits = self.misses = 0

    def get(self, address: Address, digest: bytes) -> torch.Tensor | None:
        with self.lock:
            shelf = self.shelves.get(address.boundary, {})
            value = shelf.get((address, digest))
            if value is not None:
                shelf.move_to_end((address, digest))
            return value

    def put(self, address: Address, digest: bytes, value: torch.Tensor) -> None:
        size = size_in_memory(value)
        with self.lock:
            shelf = self.shelves.setdefault(address.boundary, OrderedDict())
            if (address, digest) in shelf or not self._make_room(size, address.boundary):
                return
            self.bytes += size  # first, so that an interrupt between the two leaves the bound
            shelf[address, digest] = value

    def put_passing(self, address: Address, digest: bytes, value: torch.Tensor) -> None:
        """Remember until the next samples are predicted, or for good if they are fitted on before that."""
        self.put(address, digest, value)
        with self.lock:
            self.passing.add((address, digest))

    def begin_to_predict(self) -> None:
        """Other samples than before are computed: what was passed before the last time has served."""
        with self.lock:
            self.passed_before, self.passing = self.passing, set()
            if not self.follows_fit:
                self._drop(self.passed_before)
                self.passed_before = set()

    def end_of_pass(self, digests: Sequence[bytes], *, fits: bool) -> None:
        """Take note of a pass that computed or recalled these samples: a fit keeps what led to them."""
        with self.lock:
            if fits:
                fitted = set(digests)
                self.passing = {key for key in self.passing if key[1] not in fitted}
            else:
                self._drop(self.passed_before - self.passing)
                self.passed_before = set()
            self.follows_fit = fits

    def _drop(self, keys: set[tuple[Address, bytes]]) -> None:
        for address, digest in keys:
            old = self.shelves.get(address.boundary, {}).pop((address, digest), None)
            self.bytes -= 0 if old is None else size_in_memory(old)

    def _make_room(self, size: int, boundary: int) -> bool:
        """Evict until ``size`` bytes fit; what is deeper than ``boundary`` stays."""
        if size > self.max_bytes:
            return False
        while self.bytes + size > self.max_bytes:
            shallowest = min((b for b, shelf in self.shelves.items() if shelf), default=boundary)
            if shallowest > boundary:
                return False
            _, old = self.shelves[shallowest].popitem(last=False)
            self.bytes -= size_in_memory(old)
        return True


def size_in_memory(value: torch.Tensor) -> int:
    """Number of bytes by which a process grows when it keeps a value."""
    return value.numel() * value.element_size() + BYTES_OF_ENTRY


_memories: "weakref.WeakValueDictionary[str, _Memory]" = weakref.WeakValueDictionary()
_folders: "weakref.WeakValueDictionary[tuple[str, int], ShardFolder]" = weakref.WeakValueDictionary()
_opening = Lock()


class ActivationStore(Value):
    """Cache of activations that several estimators can share, to be passed as ``cache``.

    Use it to set the size of the cache, to inspect its use, or to clear it; ``cache="memory"`` and ``cache=folder`` are
    enough otherwise. Activations are kept in memory, or also in a folder that other processes and later runs share.
    Only the requested activations are written to disk, and by the worker processes of a search those at the freeze
    depths 0.25, 0.5 and 0.75; other intermediate ones stay in memory. Problems with the folder never change results: a
    damaged file is recomputed, and if the disk fails, the folder is no longer used and a warning is issued.

    Parameters
    ----------
    folder : path-like, default=None
        Folder in which activations are kept for other processes and later runs. It is created if necessary. None keeps
        them only in memory.
    max_bytes : int, default=None
        Maximum size in bytes, not negative: of the folder if there is one (by default 5 GiB), else of the memory in
        each process (by default 1 GiB). If it is exceeded, activations of the earliest stages are removed first, and
        among these the oldest.

    Attributes
    ----------
    folder : Path or None
        Absolute path of the folder.
    max_bytes : int
        Maximum size in bytes.

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

    def __init__(self, folder: str | os.PathLike | None = None, *, max_bytes: int | None = None) -> None:
        if max_bytes is None:
            max_bytes = GIB if folder is None else 5 * GIB
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, got {max_bytes!r}.")
        folder = None if folder is None else Path(folder).expanduser().absolute()
        self._open(uuid.uuid4().hex if folder is None else str(folder), folder, int(max_bytes))

    def _open(self, place: str, folder: Path | None, max_bytes: int, backend: Backend | None = None) -> None:
        self.folder, self.max_bytes, self._place = folder, max_bytes, place
        with _opening:
            self._memory = _memories.setdefault(place, _Memory(max_bytes if folder is None else GIB))
            self._backend = backend
            if folder is not None:
                self._backend = _folders.get((place, max_bytes)) or ShardFolder(folder, max_bytes)
                _folders[place, max_bytes] = self._backend

    def __reduce__(self):
        if self.folder is None and self._backend is not None:
            return store_over, (self._backend, self.max_bytes)
        return _store_at, (self._place, self.folder, self.max_bytes)

    def __repr__(self) -> str:
        folder = "" if self.folder is None else f"{str(self.folder)!r}, "
        return f"ActivationStore({folder}max_bytes={self.max_bytes})"

    @property
    def is_shared(self) -> bool:
        """True if other processes share the cache."""
        return self._backend is not None

    def get(self, address: Address, digest: bytes) -> torch.Tensor | None:
        """Get the activation of one sample.

        Parameters
        ----------
        address : Address
            Kind of activations: backbone, data type, device, stage and pooling.
        digest : bytes
            Digest of the sample's content.

        Returns
        -------
        Tensor or None
            The activation; None if it is not cached.
        """
        value = self._memory.get(address, digest)
        if value is None and self._backend is not None:
            found, rows = self._backend.get_many(address, [digest])
            value = rows[0] if len(found) else None
        return value

    def get_many(self, address: Address, digests: Sequence[bytes]) -> tuple[np.ndarray, torch.Tensor | None]:
        """Get the activations of several samples, from the folder if there is one.

        Parameters
        ----------
        address : Address
            Kind of activations: backbone, data type, device, stage and pooling.
        digests : sequence of bytes
            Digests of the samples' contents.

        Returns
        -------
        positions : ndarray of int, shape (n_found,)
            Positions of the samples that are cached.
        activations : Tensor of shape (n_found, ...) or None
            Their activations; None if none is cached.
        """
        if self._backend is not None:
            return self._backend.get_many(address, digests)
        rows = {i: value for i, d in enumerate(digests) if (value := self._memory.get(address, d)) is not None}
        return np.array(list(rows), dtype=int), torch.stack(list(rows.values())) if rows else None

    def put(self, address: Address, digest: bytes, value: torch.Tensor) -> None:
        """Store the activation of one sample, if there is enough space.

        Parameters
        ----------
        address : Address
            Kind of activations: backbone, data type, device, stage and pooling.
        digest : bytes
            Digest of the sample's content.
        value : Tensor
            The activation.
        """
        self._memory.put(address, digest, value)
        if self._backend is not None:
            self._backend.put(address, digest, value)

    def keeps_passed(self, *, fits: bool) -> bool:
        """Check if a pass should store the activations of all stages, from which other freeze depths can start.

        A fit stores them. A prediction stores them if a fit preceded it, as in a search, and until other samples are
        predicted; a server would otherwise fill its memory.

        Parameters
        ----------
        fits : bool
            True if the samples are used to fit, False if they are predicted.

        Returns
        -------
        bool
            True if intermediate activations should be stored.
        """
        return fits or self._memory.follows_fit

    def put_passed(
        self, address: Address, digest: bytes, value: torch.Tensor, *, fits: bool, is_usual: bool = False
    ) -> None:
        """Store an intermediate activation of one sample in memory.

        A worker process also writes it to the folder if it is that of a usual freeze depth: in a search, other workers
        try other depths on the same samples and start from it.

        Parameters
        ----------
        address : Address
            Kind of activations: backbone, data type, device, stage and pooling.
        digest : bytes
            Digest of the sample's content.
        value : Tensor
            The activation.
        fits : bool
            True if the samples are used to fit, False if they are predicted.
        is_usual : bool, default=False
            True if the activation is that of a usual freeze depth.
        """
        if fits:
            self._memory.put(address, digest, value)
        else:
            self._memory.put_passing(address, digest, value)
        if is_usual and self._backend is not None and _is_worker():
            self._backend.put(address, digest, value)

    def begin_computing(self, *, fits: bool) -> None:
        """Prepare for computing samples that are not cached.

        Parameters
        ----------
        fits : bool
            True if the samples are used to fit, False if they are predicted.
        """
        if not fits:
            self._memory.begin_to_predict()

    def end_of_pass(self, digests: Sequence[bytes], *, fits: bool, n_computed: int) -> None:
        """Finish a pass. A pass that found all samples in the cache changes nothing, unless it is a fit.

        Parameters
        ----------
        digests : sequence of bytes
            Digests of the samples' contents.
        fits : bool
            True if the samples are used to fit, False if they are predicted.
        n_computed : int
            Number of samples that were not cached.
        """
        if fits or n_computed:
            self._memory.end_of_pass(digests, fits=fits)

    def names(self) -> dict[bytes, bytes]:
        """Get digests of decoded content by digests of encoded content, as far as they are new in the folder.

        Returns
        -------
        dict of bytes to bytes
            Pairs of digests; empty without a folder.
        """
        if self._backend is None:
            return {}
        keys = self._backend.new_keys(NAMES)
        found, rows = self._backend.get_many(NAMES, keys)
        return {keys[i]: row.numpy().tobytes() for i, row in zip(found, rows, strict=True)} if len(found) else {}

    def put_name(self, encoded: bytes, decoded: bytes) -> None:
        """Store the digest of the content that an encoded sample decodes to.

        Parameters
        ----------
        encoded, decoded : bytes
            Digests of the encoded and of the decoded content.
        """
        if self._backend is not None:
            self._backend.put(NAMES, encoded, torch.tensor(list(decoded), dtype=torch.uint8))

    def answer(self, question: str) -> bool | None:
        """Get an answer that another process wrote to the folder.

        Parameters
        ----------
        question : str
            Key of the answer.

        Returns
        -------
        bool or None
            The answer; None if there is none.
        """
        if self._backend is None:
            return None
        self._backend.refresh()
        found, rows = self._backend.get_many(ANSWERS, [_key(question)])
        return bool(rows[0, 0]) if len(found) else None

    def put_answer(self, question: str, answer: bool) -> None:
        """Write an answer to the folder for other processes.

        Parameters
        ----------
        question : str
            Key of the answer.
        answer : bool
            The answer.
        """
        if self._backend is not None:
            self._backend.put(ANSWERS, _key(question), torch.tensor([answer], dtype=torch.uint8))
            self._backend.flush()

    def refresh(self) -> None:
        """Read what other processes have written to the folder since."""
        if self._backend is not None:
            self._backend.refresh()

    def flush(self) -> None:
        """Write pending activations to the folder."""
        if self._backend is not None:
            self._backend.flush()

    def lease(self, address: Address, part: str, *, wait: bool) -> AbstractContextManager | None:
        """Reserve the computation of some activations for this process.

        Parameters
        ----------
        address : Address
            Kind of activations: backbone, data type, device, stage and pooling.
        part : str
            Name of the part to compute.
        wait : bool
            If True, wait while another process holds the reservation.

        Returns
        -------
        context manager or None
            Context that holds the reservation; None if another process holds it.
        """
        return nullcontext() if self._backend is None else self._backend.lease(address, part, wait=wait)

    def count(self, *, hits: int, misses: int) -> None:
        """Count samples for :meth:`info`.

        Parameters
        ----------
        hits, misses : int
            Number of samples that were read from the cache, and number that were computed.
        """
        with self._memory.lock:
            self._memory.hits += hits
            self._memory.misses += misses

    def clear(self) -> None:
        """Remove all activations from memory, and from the folder if there is one."""
        self._memory.clear()
        if self._backend is not None:
            self._backend.clear()

    def info(self) -> dict[str, int]:
        """Get the size and use of the cache.

        Returns
        -------
        dict of str to int
            ``samples`` (a sample that is cached at two stages counts twice), ``bytes``, ``max_bytes``, ``hits`` and
            ``misses``. With a folder, samples and bytes are those of the folder; hits and misses are always those of
            this process.
        """
        memory = self._memory
        with memory.lock:
            held, n_bytes = sum(len(shelf) for shelf in memory.shelves.values()), memory.bytes
            counts = {"hits": memory.hits, "misses": memory.misses}
        if self._backend is not None:
            held, n_bytes = self._backend.size()
        return {"samples": held, "bytes": n_bytes, "max_bytes": self.max_bytes, **counts}


def _is_worker() -> bool:
    """True in a process that another one started, as joblib and Dask do for a search."""
    return multiprocessing.current_process().name != "MainProcess"


def _key(question: str) -> bytes:
    return hashlib.blake2b(question.encode(), digest_size=20).digest()


def _store_at(place: str, folder: Path | None, max_bytes: int) -> ActivationStore:
    store = ActivationStore.__new__(ActivationStore)
    store._open(place, folder, max_bytes)
    return store


def store_over(backend: Backend, max_bytes: int = GIB) -> ActivationStore:
    """A store that keeps what is asked for in a backend of another kind, and up to ``max_bytes`` in memory."""
    store = ActivationStore.__new__(ActivationStore)
    store._open(uuid.uuid4().hex, None, max_bytes, backend)
    return store


@functools.lru_cache(maxsize=4)
def folder_store(folder: str) -> ActivationStore:
    """The store behind ``cache=folder``: one per process and folder, for the last few folders."""
    return ActivationStore(folder)


@functools.cache
def shared_store() -> ActivationStore:
    """The store behind ``cache="memory"``: one per process."""
    return _store_at("shared", None, GIB)
