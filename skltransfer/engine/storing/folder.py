"""Activations in a folder: immutable safetensors files of some hundred rows, shared by processes and by later runs.

Promises that what comes back is what was put, bit for bit, or nothing: each row carries a checksum, and each file says
what it holds. A file that is damaged, deleted or put in another's place costs time alone. Never stays larger
than ``max_bytes`` (processes that write at the same moment exceed it by a file each, until the last is done), and never
leaves a half-written file under a name that is read.

    folder/v1/<space>/<boundary>-<pooling>/<name>.safetensors     rows, and in the header their keys and checksums
    folder/v1/<space>/space.json                                  what the space is, for people
    folder/v1/<space>/locks/<part>.lock                           who computes which part; freed when its holder dies
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np
import PIL
import torch
from safetensors.torch import save

from skltransfer._system.files import DRAFT, anyone_may_write, remove, replacing
from skltransfer._system.forks import Lock
from skltransfer.engine.storing.key import Address

LAYOUT = "v1"
NOTES = 10**6  # the boundary of what is no activation: so deep that it is evicted last
SHARD_BYTES, SHARD_ROWS, MAX_HEADER_BYTES = 16 * 2**20, 1024, 2**20
STALE_SECONDS, LEASE_SECONDS = 3600, 600
logger = logging.getLogger("skltransfer")
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "U8": torch.uint8}


class _Shard(NamedTuple):
    """One file, as its header describes it."""

    path: Path
    start: int  # of the rows, in the file
    row_shape: tuple[int, ...]
    dtype: torch.dtype
    checksums: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.row_shape)) * self.dtype.itemsize


class _Partition:
    """The files of one address: where each row is, and the rows that wait to be written."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self.address = folder, address
        self.seen: set[str] = set()
        self.places: dict[bytes, tuple[_Shard, int]] = {}
        self.waiting: dict[bytes, torch.Tensor] = {}
        self.told: set[bytes] = set()
        self.is_fresh = False


class ShardFolder:
    """Rows by address and digest, in a folder. Errors of the disk turn it off, with one warning.

    Parameters
    ----------
    path : Path
        Path of the folder.
    max_bytes : int
        Maximum size of all files together, in bytes.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.root = path / LAYOUT
        self._partitions: dict[Address, _Partition] = {}
        self._lock = Lock()
        self._is_off = self._refuses()

    def _refuses(self) -> bool:
        with self._trouble_turns_it_off():
            self.root.mkdir(parents=True, exist_ok=True)
            if anyone_may_write(self.path):
                self._warn("anyone may write into it; run chmod o-w")
                return True
            self._sweep()
            return False
        return True

    # Reading

    def refresh(self) -> None:
        """Look again at what other processes wrote, when next asked."""
        with self._lock:
            for partition in self._partitions.values():
                partition.is_fresh = False

    def get_many(self, address: Address, digests: Sequence[bytes]) -> tuple[np.ndarray, torch.Tensor | None]:
        """Positions of those samples that are there, and their rows."""
        found: list[np.ndarray] = []
        parts: list[torch.Tensor] = []
        with self._lock, self._trouble_turns_it_off():
            partition = self._partition(address)
            wanted = defaultdict(list)
            for position, digest in enumerate(digests):
                if digest in partition.waiting:
                    found.append(np.array([position]))
                    parts.append(partition.waiting[digest][None])
                elif digest in partition.places:
                    shard, row = partition.places[digest]
                    wanted[shard.path].append((position, row, shard))
            for rows in wanted.values():
                positions, numbers = np.array([(p, r) for p, r, _ in rows]).T
                part = self._read(partition, rows[0][2], numbers)
                if part is not None:
                    found.append(positions)
                    parts.append(part)
        if not found:
            return np.empty(0, dtype=int), None
        return np.concatenate(found), torch.cat(parts)

    def new_keys(self, address: Address) -> list[bytes]:
        """Digests of the rows that are there, each returned once."""
        with self._lock, self._trouble_turns_it_off():
            partition = self._partition(address)
            new = [digest for digest in partition.places if digest not in partition.told]
            partition.told.update(new)
            return new
        return []

    def _partition(self, address: Address) -> _Partition:
        if address not in self._partitions:
            space = hashlib.blake2b(json.dumps(_space(address)).encode(), digest_size=16).hexdigest()
            folder = self.root / space / f"{address.boundary}-{address.pooling}"
            self._partitions[address] = _Partition(folder, address)
        partition = self._partitions[address]
        if not partition.is_fresh and not self._is_off:
            self._index(partition)
            partition.is_fresh = True
        return partition

    def _index(self, partition: _Partition) -> None:
        if not partition.folder.is_dir():
            return
        names = {entry.name for entry in os.scandir(partition.folder) if entry.name.endswith(".safetensors")}
        for name in sorted(names - partition.seen):
            partition.seen.add(name)
            path = partition.folder / name
            described = _described(path, partition.address)
            if described is None:
                self._drop(partition, path)
            else:
                shard, digests = described
                partition.places.update((digest, (shard, row)) for row, digest in enumerate(digests))

    def _read(self, partition: _Partition, shard: _Shard, rows: np.ndarray) -> torch.Tensor | None:
        """Copies of some rows; None, and the file dropped, if any is not what it was."""
        try:
            content = _content(shard, rows)
            _touch(shard.path)
        except FileNotFoundError:  # another process needed the room
            content = None
        if content is None:
            self._drop(partition, shard.path)
            return None
        return torch.from_numpy(content.reshape(-1)).view(shard.dtype).view(len(rows), *shard.row_shape)

    def _drop(self, partition: _Partition, path: Path) -> None:
        logger.info("%s is damaged, not ours, or missing: its content is computed again", path)
        partition.places = {digest: place for digest, place in partition.places.items() if place[0].path != path}
        remove(path)

    # Writing

    def put(self, address: Address, digest: bytes, row: torch.Tensor) -> None:
        """Take a row, to be written with others."""
        with self._lock, self._trouble_turns_it_off():
            if self._is_off:
                return
            partition = self._partition(address)
            if digest not in partition.places:
                partition.waiting[digest] = row
            n_bytes = len(partition.waiting) * row.numel() * row.element_size()
            if n_bytes >= SHARD_BYTES or len(partition.waiting) >= SHARD_ROWS:
                self._write(partition)

    def flush(self) -> None:
        """Write pending rows."""
        with self._lock, self._trouble_turns_it_off():
            for partition in self._partitions.values():
                if partition.waiting:
                    self._write(partition)

    def _write(self, partition: _Partition) -> None:
        waiting, partition.waiting = partition.waiting, {}
        for shape in {row.shape for row in waiting.values()}:
            self._write_shard(partition, {digest: row for digest, row in waiting.items() if row.shape == shape})
        partition.is_fresh = False

    def _write_shard(self, partition: _Partition, waiting: dict[bytes, torch.Tensor]) -> None:
        rows = torch.stack(list(waiting.values())).contiguous()
        content = save({"rows": rows}, _header(partition.address, list(waiting), rows))
        if not self._make_room(len(content), partition.address.boundary):
            return
        partition.folder.mkdir(parents=True, exist_ok=True)
        described = partition.folder.parent / "space.json"
        if not described.exists():
            described.write_text(json.dumps(_space(partition.address), indent=1))
        with replacing(partition.folder / f"{uuid.uuid4().hex}.safetensors") as draft:
            draft.write_bytes(content)
        self._make_room(0, partition.address.boundary)  # another process may have written at the same moment

    def _make_room(self, size: int, boundary: int) -> bool:
        """Delete files, the shallowest and among them the oldest first, until ``size`` bytes fit."""
        if size > self.max_bytes:
            return False
        files = sorted(self._files(), key=lambda file: file[:2])
        excess = sum(n_bytes for _, _, n_bytes, _ in files) + size - self.max_bytes
        for shelf, _, n_bytes, path in files:
            if excess <= 0 or shelf > boundary:
                break
            excess -= n_bytes if remove(path) else 0
            logger.debug("%s made room for newer activations", path)
        return excess <= 0

    def _files(self) -> Iterator[tuple[int, float, int, Path]]:
        """(boundary, time, bytes, path) of each file of rows."""
        for path in self.root.glob("*/*/*.safetensors"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                status = path.stat()
                yield int(path.parent.name.partition("-")[0]), status.st_mtime, status.st_size, path

    def _sweep(self) -> None:
        """Take away what a killed process left half-written."""
        for path in self.root.glob(f"*/*/*{DRAFT}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    remove(path)

    # Sharing

    def lease(self, address: Address, part: str, *, wait: bool) -> contextlib.AbstractContextManager | None:
        """The right to compute one part of a space, to hold while computing; None while another process has it.

        Where locks do not work, or are held for too long, work is done twice, never wrongly.
        """
        with self._trouble_turns_it_off():
            if self._is_off:
                return contextlib.nullcontext()
            folder = self._partition(address).folder.parent / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                return filelock.FileLock(folder / f"{part}.lock").acquire(timeout=LEASE_SECONDS if wait else 0)
            except filelock.Timeout:
                return contextlib.nullcontext() if wait else None
            except NotImplementedError:
                return contextlib.nullcontext()
        return contextlib.nullcontext()

    def clear(self) -> None:
        """Delete everything."""
        with self._lock, self._trouble_turns_it_off():
            shutil.rmtree(self.root, ignore_errors=True)
            self.root.mkdir(parents=True, exist_ok=True)
            self._partitions = {}

    def size(self) -> tuple[int, int]:
        """Activations and bytes that are there."""
        with self._lock, self._trouble_turns_it_off():
            files = list(self._files())
            rows = sum(_n_rows(path) for boundary, _, _, path in files if boundary < NOTES)
            return rows, sum(n_bytes for _, _, n_bytes, _ in files)
        return 0, 0

    @contextlib.contextmanager
    def _trouble_turns_it_off(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._warn(str(error))
            self._is_off = True
            self._partitions = {}

    def _warn(self, cause: str) -> None:
        if not getattr(self, "_is_off", False):
            warnings.warn(
                f"The activation store in {str(self.path)!r} is not used: {cause}. Results are the same, but slower.",
                stacklevel=2,
            )


def _space(address: Address) -> dict:
    """All but the sample that a row depends on."""
    return {
        "space": [str(part) for part in address.space],
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "decoder": f"Pillow {PIL.__version__}",
    }


def _header(address: Address, digests: list[bytes], rows: torch.Tensor) -> dict[str, str]:
    content = rows.view(len(rows), -1).view(torch.uint8).numpy()
    return {
        "address": _signature(address),
        "digests": "".join(digest.hex() for digest in digests),
        "checksums": json.dumps([zlib.crc32(row) for row in content]),
    }


def _signature(address: Address) -> str:
    return json.dumps([_space(address), address.boundary, address.pooling])


def _described(path: Path, address: Address) -> tuple[_Shard, list[bytes]] | None:
    """A file's header, if it is whole and says that it belongs where it lies."""
    try:
        header, start = _read_header(path)
        text, table = header["__metadata__"], header["rows"]
        n, *row_shape = table["shape"]
        checksums = tuple(int(value) for value in json.loads(text["checksums"]))
        width = len(text["digests"]) // n
        digests = [bytes.fromhex(text["digests"][i * width : (i + 1) * width]) for i in range(n)]
        shard = _Shard(path, start, tuple(row_shape), DTYPES[table["dtype"]], checksums)
        is_whole = path.stat().st_size == start + n * shard.row_bytes and len(checksums) == n
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError):
        return None
    return (shard, digests) if is_whole and text["address"] == _signature(address) else None


def _read_header(path: Path) -> tuple[dict, int]:
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        if n_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {n_bytes} bytes")
        return json.loads(file.read(n_bytes)), 8 + n_bytes


def _n_rows(path: Path) -> int:
    try:
        return _read_header(path)[0]["rows"]["shape"][0]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0


def _content(shard: _Shard, rows: np.ndarray) -> np.ndarray | None:
    """The bytes of some rows, (rows, bytes); read, since a file that shrinks under a map would kill the process."""
    n_bytes = shard.row_bytes
    with shard.path.open("rb") as file:
        if 2 * len(rows) >= len(shard.checksums):
            file.seek(shard.start)
            whole = np.frombuffer(file.read(len(shard.checksums) * n_bytes), dtype=np.uint8)
            if len(whole) != len(shard.checksums) * n_bytes:
                return None
            taken = whole.reshape(len(shard.checksums), n_bytes)[rows]
        else:
            taken = np.empty((len(rows), n_bytes), dtype=np.uint8)
            for i, row in enumerate(rows):
                file.seek(shard.start + int(row) * n_bytes)
                if file.readinto(taken[i]) != n_bytes:
                    return None
    if any(zlib.crc32(content) != shard.checksums[row] for content, row in zip(taken, rows, strict=True)):
        return None
    return taken


def _touch(path: Path) -> None:
    """Note that a file is in use, at most once an hour; not where the folder can only be read."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            os.utime(path)
