"""Batched inference: samples in, activations out, each frozen stage passed once per sample.

Promises that every call to the network sees exactly the backbone's batch, so that a row's result does not depend on
its neighbours; that a stage's output is the same whether the stages before it were run or recalled; and that equal
samples are computed once. Must not know y, losses or scikit-learn.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from skltransfer._system.progress import ProgressBar, progress_bar
from skltransfer.engine.inference.climb import Arrival, Climb
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.outputs import Outputs
from skltransfer.engine.inference.reading import BadSamplePolicy, Complaints, in_threads
from skltransfer.engine.storing.key import Address
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Peeked, Samples, learn_digests

READ_AHEAD, PEEKED_AT_ONCE = 64, 16  # samples


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
        Frozen stages that compute activations.
    samples : Samples
        Samples.
    addresses : sequence of Address
        Stages and poolings whose activations are requested.
    policy : BadSamplePolicy, optional
        Treatment of samples that cannot be read. By default, an error is raised.

    Raises
    ------
    BadSampleError
        For a row that cannot be read, if the policy says so; it names up to ten rows.
    """
    with progress_bar(total=len(samples), desc=stages.backbone.name, unit="sample", shown=stages.verbose) as progress:
        return _Recall(stages, samples, addresses, policy or BadSamplePolicy(), progress).run()


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
    """One pass over samples: look at all, hand out what is remembered, let the rest climb, hand that out too."""

    def __init__(
        self,
        stages: FrozenStages,
        samples: Samples,
        addresses: Sequence[Address],
        policy: BadSamplePolicy,
        progress: ProgressBar,
    ) -> None:
        self.stages, self.samples, self.addresses, self.policy = stages, samples, list(addresses), policy
        self.store, self.progress, self.complaints = stages.store, progress, Complaints(policy)
        keeps_passed = stages.store is not None and stages.store.keeps_passed(fits=stages.fits)
        self.outputs = Outputs(stages, self.addresses, len(samples))
        self.climb = Climb(stages, self.addresses, keeps_passed=keeps_passed)
        self.digests: list[bytes] = [b""] * len(samples)
        self.peeked: list[Peeked] = [Peeked()] * len(samples)
        self.first: dict[bytes, int] = {}  # where a content was met first
        self.copies: list[tuple[int, int]] = []  # (position, where the same content is)
        self.n_computed = 0

    @torch.inference_mode()
    def run(self) -> Recalled:
        """Look at all samples, copy what is remembered, compute the rest."""
        try:
            readable = self._look()
            unknown = self._copy_remembered(readable)
            self._compute_parts(unknown)
            self.complaints.raise_if_any()
            self._take(self.climb.finish())
            filling = {position: self.policy.value_for(error) for position, error in self.complaints.bad.items()}
            tensors = self.outputs.finished(self.copies, filling)
            if self.store is not None:
                self.store.end_of_pass(self.digests, fits=self.stages.fits, n_computed=self.n_computed)
        finally:
            if self.store is not None:
                self.store.flush()
        if self.store is not None:
            n_hits = len(self.samples) - self.n_computed - len(self.complaints.bad)
            self.store.count(hits=n_hits, misses=self.n_computed)
        self.samples.tell_remarks(self.digests)
        return Recalled(tensors, self.digests, self.complaints.bad)

    def _look(self) -> list[int]:
        """A first look at all samples: errors in their headers are reported before any network runs. Readable ones."""
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
        return [position for position in range(n) if position not in self.complaints.bad]

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
            self.outputs.put(i, [known[j] for j in complete], rows[[row_of[j] for j in complete]])
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
        n_parts = 2 ** min(6, int(math.log2(max(1, n / (8 * self.stages.batch)))))
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
            self._take(self.climb.finish())
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
                self.outputs.put(i, [sample.position], [value])
                self.store.put(self.addresses[i], sample.digest, value)  # perhaps it was only passed before
            return
        self._remember_name(sample)
        if self.store is not None and self.n_computed == 0:
            self.store.begin_computing(fits=self.stages.fits)
        self.n_computed += 1
        self._take(self.climb.add(sample.position, sample.entry, sample.parts))

    def _remember_name(self, sample: _Prepared) -> None:
        """So that a later process knows an encoded image's digest without decoding it."""
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
            for boundary in self.stages.entries_before(min(address.boundary for address in self.addresses)):
                value = self.store.get(self.stages.address(boundary), digest)
                if value is not None:
                    return boundary, value
        return 0, None

    def _take(self, arrivals: Iterable[Arrival]) -> None:
        """Hand out activations that were computed, and remember them."""
        for address, number, positions, rows in arrivals:
            if number is not None:
                self.outputs.put(number, positions, rows)
            if self.store is None:
                continue
            for position, row in zip(positions, rows, strict=True):
                value, digest = row.to("cpu", copy=True), self.digests[position]
                if number is not None:
                    self.store.put(address, digest, value)
                else:
                    is_usual = address.boundary in self.stages.usual
                    self.store.put_passed(address, digest, value, fits=self.stages.fits, is_usual=is_usual)
