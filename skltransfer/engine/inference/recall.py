"""Batched inference: samples in, activations out, each frozen stage passed once per sample.

Promises that every call to the network sees exactly the backbone's batch, so that a row's result does not depend on
its neighbours; that a stage's output is the same whether the stages before it were run or recalled; and that equal
samples are computed once. Must not know y, losses or scikit-learn.
"""

import itertools
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from skltransfer._system.forks import after_fork_in_child
from skltransfer._system.progress import ProgressBar, progress_bar
from skltransfer.backbones import mask_of
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.reading import BadSamplePolicy, Complaints, in_threads
from skltransfer.engine.storing.key import Address
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Peeked, Samples, learn_digests

READ_AHEAD, PEEKED_AT_ONCE = 64, 16  # samples
_guard: list[bool] = []


def _guard_forks() -> None:
    """A child forked after a multi-threaded forward pass would wait for threads that it does not have."""
    if not _guard:
        after_fork_in_child(lambda: torch.set_num_threads(1))
        _guard.append(True)


def run_padded(module: nn.Module, batch: torch.Tensor, size: int) -> torch.Tensor:
    """Run ``module`` on exactly ``size`` rows: missing ones are zeros, and are cut off the output."""
    return module(filled(batch, size))[: len(batch)]


def filled(batch: torch.Tensor, size: int) -> torch.Tensor:
    """A batch of ``size`` rows: missing ones are zeros."""
    _guard_forks()
    if len(batch) < size:
        batch = torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


@dataclass
class Recalled:
    """Result of :func:`recall`.

    Attributes
    ----------
    tensors : list of tensor, each (n, ...)
        One per address asked for; a list of n tensors where samples have tokens, or windows, of their own number:
        (tokens, d) or (windows, ...).
    digests : list of bytes
        One per sample; that of a bad sample is empty.
    bad : dict of int to BadSampleError
        By position in the samples.
    """

    tensors: list[torch.Tensor]
    digests: list[bytes]
    bad: dict[int, BadSampleError] = field(default_factory=dict)


def recall(
    stages: FrozenStages, samples: Samples, addresses: Sequence[Address], policy: BadSamplePolicy | None = None
) -> Recalled:
    """Activations of all samples at all addresses, from the store or computed from the deepest boundary that it holds.

    Parameters
    ----------
    stages : FrozenStages
    samples : Samples
    addresses : sequence of Address
    policy : BadSamplePolicy, optional
        By default, a bad sample raises.

    Raises
    ------
    BadSampleError
        For a row that cannot be read, if the policy says so; it names up to ten rows.
    """
    with progress_bar(total=len(samples), desc=stages.backbone.name, unit="sample", shown=stages.verbose) as progress:
        return _Recall(stages, samples, addresses, policy or BadSamplePolicy(), progress).run()


_Window = tuple[int, int]  # (position of a sample, number of its window)


class _Prepared(NamedTuple):
    """A sample, read: what is remembered of it, or where its pass begins, in one part or several windows; or why it
    cannot be read."""

    position: int
    digest: bytes = b""
    recalled: list[torch.Tensor] | None = None
    entry: int = 0
    parts: Sequence[torch.Tensor] = ()
    error: BadSampleError | None = None


class _Recall:
    """One pass over samples: what is known is copied; the rest waits, by where its pass begins, for a full batch."""

    def __init__(
        self,
        stages: FrozenStages,
        samples: Samples,
        addresses: Sequence[Address],
        policy: BadSamplePolicy,
        progress: ProgressBar,
    ) -> None:
        self.stages, self.samples, self.addresses, self.policy = stages, samples, list(addresses), policy
        self.store, self.batch, self.progress = stages.store, stages.batch, progress
        asked = {address.boundary for address in addresses}
        self.keeps_passed = stages.store is not None and stages.store.keeps_passed(fits=stages.fits)
        passed = range(1, max(asked)) if self.keeps_passed else ()
        self.stops = sorted(asked.union(passed))
        self.outputs: list[torch.Tensor | list | None] = [None] * len(addresses)
        self.digests: list[bytes] = [b""] * len(samples)
        self.complaints = Complaints(policy)
        self.peeked: list[Peeked] = [Peeked()] * len(samples)
        self.first: dict[bytes, int] = {}  # where a content was met first
        self.copies: list[tuple[int, int]] = []  # (position, where the same content is)
        self.queues: dict[tuple[int, int], list[tuple[_Window, torch.Tensor]]] = defaultdict(list)  # (entry, length)
        self.n_parts: dict[int, int] = {}  # of samples that are computed, by position
        self.gathered: dict[tuple[Address, int], dict[int, torch.Tensor]] = defaultdict(dict)  # windows, until all are
        self.n_computed = 0

    @torch.inference_mode()
    def run(self) -> Recalled:
        """Look at all samples, copy what is remembered, compute the rest."""
        try:
            self._look()
            self._compute_parts(self._copy_remembered(self._readable()))
            self._finish()
            if self.store is not None:
                self.store.end_of_pass(self.digests, fits=self.stages.fits, n_computed=self.n_computed)
        finally:
            if self.store is not None:
                self.store.flush()
        if self.store is not None:
            n_hits = len(self.samples) - self.n_computed - len(self.complaints.bad)
            self.store.count(hits=n_hits, misses=self.n_computed)
        self.samples.tell_remarks(self.digests)
        return Recalled(self.outputs, self.digests, self.complaints.bad)

    def _look(self) -> None:
        """A first look at all samples: what their headers tell is told before any network runs."""
        if self.store is not None:
            self.store.refresh()
            learn_digests(self.store.names())
        n = len(self.samples)
        chunks = [range(start, min(start + PEEKED_AT_ONCE, n)) for start in range(0, n, PEEKED_AT_ONCE)]
        n_threads = self._n_threads if self.samples.slow_to_peek else 1
        for chunk, found in zip(chunks, in_threads(self._peek, chunks, n_threads, ahead=READ_AHEAD), strict=True):
            for position, peeked in zip(chunk, found, strict=True):
                if isinstance(peeked, BadSampleError):
                    self.complaints.add(position, peeked)
                else:
                    self.peeked[position] = peeked
        self.complaints.raise_if_any()

    @property
    def _n_threads(self) -> int:
        return torch.get_num_threads() if self.samples.slow_to_read else 1

    def _peek(self, chunk: range) -> list[Peeked | BadSampleError]:
        found: list[Peeked | BadSampleError] = []
        for position in chunk:
            try:
                found.append(self.samples.peek(position))
            except BadSampleError as error:
                found.append(error)
        return found

    def _readable(self) -> list[int]:
        return [position for position in range(len(self.samples)) if position not in self.complaints.bad]

    def _copy_remembered(self, positions: list[int]) -> list[int]:
        """Hand out what the store holds of samples whose digest is known; return the others."""
        known = [position for position in positions if self.peeked[position].digest is not None]
        if self.store is None or not known or not all(map(self.stages.has_one_shape, self.addresses)):
            return positions
        digests = [self.peeked[position].digest for position in known]
        found = [self.store.get_many(address, digests) for address in self.addresses]
        complete = sorted(set.intersection(*(set(where.tolist()) for where, _ in found)))
        if not complete:
            return positions
        for i, (where, rows) in enumerate(found):
            row_of = dict(zip(where.tolist(), range(len(where)), strict=True))
            self._hand_out(i, [known[j] for j in complete], rows[[row_of[j] for j in complete]])
        for j in complete:
            self.digests[known[j]] = digests[j]
            self.first.setdefault(digests[j], known[j])
        self.progress.update(len(complete))
        done = {known[j] for j in complete}
        return [position for position in positions if position not in done]

    def _compute_parts(self, positions: list[int]) -> None:
        """Part by part, each under its lease, those that other processes compute last: they will then be remembered."""
        parts = self._parts(positions)
        for wait in (False, True):
            busy = []
            for name, members in parts:
                lease = self._lease(name, wait=wait)
                if lease is None:
                    busy.append((name, members))
                    continue
                with lease:
                    self._compute(members)
            parts = busy

    def _lease(self, part: str | None, *, wait: bool) -> AbstractContextManager | None:
        return nullcontext() if part is None else self.store.lease(self.addresses[0], part, wait=wait)

    def _parts(self, positions: list[int]) -> list[tuple[str | None, list[int]]]:
        """Samples by what processes that read the same can agree on: the first bits of their content's digest."""
        if self.store is None or not self.store.is_shared or not positions:
            return [(None, positions)]
        n = len(self.samples)  # all of them: a process that comes later, and has less to do, must cut alike
        n_parts = 2 ** min(6, int(math.log2(max(1, n / (8 * self.batch)))))
        parts = defaultdict(list)
        for position in positions:
            content = self.peeked[position].key or self.peeked[position].digest
            parts[None if content is None else f"{content[0] % n_parts} of {n_parts}"].append(position)
        begin = os.getpid() % len(parts)  # elsewhere than the next process
        ordered = list(parts.items())
        return ordered[begin:] + ordered[:begin]

    def _compute(self, positions: list[int]) -> None:
        if self.store is not None and self.store.is_shared:
            self.store.refresh()
            positions = self._copy_remembered(positions)
        on_cpu = self.stages.device.type == "cpu"
        for prepared in in_threads(self._prepare, positions, self._n_threads, ahead=READ_AHEAD, overlap=not on_cpu):
            self._visit(prepared)
            self.progress.update()
        if self.store is not None and self.store.is_shared:  # whoever gets the lease next finds all of this part
            self._run_queues()
            self.store.flush()

    def _prepare(self, position: int) -> _Prepared:
        try:
            content = None
            digest = self.peeked[position].digest
            if digest is None:
                digest, content = self.samples.identify(position)
            recalled = None if digest in self.first else self._recalled(digest)
            if digest in self.first or recalled is not None:
                return _Prepared(position, digest, recalled)
            entry, activation = self._deepest_known(digest)
            if activation is not None:
                parts = activation.unbind(0) if self.stages.backbone.is_windowed else [activation]
            else:
                content = self.samples.read(position) if content is None else content
                parts = self.stages.backbone.preprocessing.parts(content)
            return _Prepared(position, digest, None, entry, parts)
        except BadSampleError as error:
            return _Prepared(position, error=error)

    def _visit(self, sample: _Prepared) -> None:
        """Copy what is known; let the rest wait for a full batch. After a complaint that will be raised, look on."""
        if sample.error is not None:
            self.complaints.add(sample.position, sample.error)
        if sample.error is not None or self.complaints.refused:
            self.complaints.look_on()
            return
        self.digests[sample.position] = sample.digest
        if sample.digest in self.first:
            self.copies.append((sample.position, self.first[sample.digest]))
            return
        self.first[sample.digest] = sample.position
        if sample.recalled is not None:
            for i, value in enumerate(sample.recalled):
                self._hand_out(i, [sample.position], [value])
                self.store.put(self.addresses[i], sample.digest, value)  # perhaps it was only passed before
            return
        self._remember_name(sample)
        if self.store is not None and self.n_computed == 0:
            self.store.begin_computing(fits=self.stages.fits)
        self.n_computed += 1
        self.n_parts[sample.position] = len(sample.parts)
        for number, part in enumerate(sample.parts):
            is_ragged = self.stages.backbone.is_ragged
            key = (sample.entry, self.stages.padded_length(len(part)) if is_ragged else 0)
            self.queues[key].append(((sample.position, number), part))
            if len(self.queues[key]) == self.batch:
                self._run(*key)

    def _remember_name(self, sample: _Prepared) -> None:
        """So that a later process knows an encoded picture's digest without decoding it."""
        key = self.peeked[sample.position].key
        if self.store is not None and key is not None:
            self.store.put_name(key, sample.digest)

    def _recalled(self, digest: bytes) -> list[torch.Tensor] | None:
        if self.store is None:
            return None
        values = [self.store.get(address, digest) for address in self.addresses]
        return None if any(value is None for value in values) else values

    def _deepest_known(self, digest: bytes) -> tuple[int, torch.Tensor | None]:
        if self.store is not None:
            for boundary in range(min(address.boundary for address in self.addresses), 0, -1):
                value = self.store.get(self.stages.address(boundary), digest)
                if value is not None:
                    return boundary, value
        return 0, None

    def _run_queues(self) -> None:
        for key in sorted(self.queues):
            self._run(*key)

    def _run(self, entry: int, length: int) -> None:
        queue = self.queues.pop((entry, length))
        places = [place for place, _ in queue]
        batch = self.stages.stacked([activation for _, activation in queue]).to(self.stages.device)
        batch = batch.to(self.stages.dtype) if batch.is_floating_point() else batch
        self._record(entry, places, batch, fresh=entry == 0)
        for start, stop in itertools.pairwise([entry, *(stop for stop in self.stops if stop > entry)]):
            batch = run_padded(self.stages.between(start, stop), batch, self.batch)
            self._record(stop, places, batch, fresh=True)

    def _record(self, boundary: int, places: list[_Window], batch: torch.Tensor, *, fresh: bool) -> None:
        """Hand out and remember what a stage gave; the last stage's output is kept only as it was asked for."""
        for i, address in enumerate(self.addresses):
            if address.boundary == boundary:
                value = self._trimmed(batch) if address.pooling is None else self._pooled(batch.float(), address)
                positions, rows = self._of_samples(address, places, value)
                self._hand_out(i, positions, rows)
                self._remember(address, positions, rows)
        passed = self.stages.address(boundary)
        is_passed = fresh and self.keeps_passed and 0 < boundary < self.stages.backbone.n_stages
        if is_passed and passed not in self.addresses:
            for position, row in zip(*self._of_samples(passed, places, self._trimmed(batch)), strict=True):
                value = row.to("cpu", copy=True)
                self.store.put_passed(passed, self.digests[position], value, fits=self.stages.fits)

    def _of_samples(
        self, address: Address, places: list[_Window], rows: Sequence[torch.Tensor]
    ) -> tuple[list[int], Sequence[torch.Tensor]]:
        """Positions and values of the samples all of whose windows are there: stacked, or averaged if pooled."""
        if not self.stages.backbone.is_windowed:
            return [position for position, _ in places], rows
        whole: dict[int, torch.Tensor] = {}
        for (position, number), row in zip(places, rows, strict=True):
            windows = self.gathered[address, position]
            windows[number] = row
            if len(windows) == self.n_parts[position]:
                stacked = torch.stack([windows[k] for k in range(len(windows))])
                whole[position] = stacked if address.pooling is None else stacked.mean(0)
                del self.gathered[address, position]
        return list(whole), list(whole.values())

    def _pooled(self, batch: torch.Tensor, address: Address) -> torch.Tensor:
        return self.stages.backbone.pooling_at(address.boundary, address.pooling)(batch)

    def _trimmed(self, batch: torch.Tensor) -> Sequence[torch.Tensor]:
        """The rows of a batch, without padding."""
        if not self.stages.backbone.is_ragged:
            return batch
        lengths = mask_of(batch).sum(1).tolist()
        return [row[:length] for row, length in zip(batch, lengths, strict=True)]

    def _hand_out(self, i: int, positions: list[int], rows: Sequence[torch.Tensor]) -> None:
        if not self.stages.has_one_shape(self.addresses[i]):
            self.outputs[i] = self.outputs[i] or [None] * len(self.samples)
            for position, row in zip(positions, rows, strict=True):
                self.outputs[i][position] = row.to("cpu", copy=True)
            return
        if not len(rows):
            return
        if self.outputs[i] is None:
            self.outputs[i] = torch.zeros(len(self.samples), *rows[0].shape, dtype=rows[0].dtype)
        rows = rows if isinstance(rows, torch.Tensor) else torch.stack(list(rows))
        self.outputs[i][positions] = rows.to("cpu")

    def _remember(self, address: Address, positions: list[int], rows: Sequence[torch.Tensor]) -> None:
        if self.store is not None:
            for position, row in zip(positions, rows, strict=True):
                self.store.put(address, self.digests[position], row.to("cpu", copy=True))

    def _finish(self) -> None:
        self.complaints.raise_if_any()
        self._run_queues()
        for i, output in enumerate(self.outputs):
            if output is None:
                self.outputs[i] = self._of_no_sample(self.addresses[i])
            for position, source in self.copies:
                self.outputs[i][position] = self.outputs[i][source]
            for position, error in self.complaints.bad.items():
                self.outputs[i][position] = self._filling(self.addresses[i], self.policy.value_for(error))

    def _filling(self, address: Address, value: float) -> torch.Tensor | float:
        """The value in the place of a bad sample: one token of zeros, in one window, where samples have their own."""
        if self.stages.has_one_shape(address):
            return value
        shape = self.stages.backbone.activation_shapes[address.boundary]
        shape = (1, *shape[1:]) if self.stages.backbone.is_ragged else shape
        filling = torch.zeros(shape, dtype=self.stages.dtype)
        return filling[None] if self.stages.backbone.is_windowed else filling

    def _of_no_sample(self, address: Address) -> torch.Tensor | list[None]:
        """Room for all samples, where none could be computed."""
        n = len(self.samples)
        if not self.stages.has_one_shape(address):
            return [None] * n
        empty = torch.zeros(1, *self.stages.backbone.activation_shapes[address.boundary])
        row = empty.to(self.stages.dtype) if address.pooling is None else self._pooled(empty, address)
        return torch.zeros(n, *row.shape[1:], dtype=row.dtype)
