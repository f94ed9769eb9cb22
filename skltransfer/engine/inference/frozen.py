"""A backbone's frozen stages, where and in which dtype they run, and the memory that they fill.

Must not know samples, y, losses or scikit-learn.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from skltransfer.backbones import PADDING_ID, Backbone
from skltransfer.engine.inference.beside import Batch, WithNumbers, apart
from skltransfer.engine.inference.dtypes import INT8
from skltransfer.engine.inference.rows import filled, run_padded
from skltransfer.engine.inference.runtime import EAGER, Function, Runtime, rows_of_tokens, usual_boundaries
from skltransfer.engine.storing.key import OF_WINDOWS, Address
from skltransfer.engine.storing.memory import ActivationStore

NOMINAL_TOKENS, NOMINAL_WINDOWS = 128, 4
TOKENS_AFTER = 512  # of a batch for what comes after the frozen stages


class FrozenStages:
    """A backbone's shared stages on one device, in one dtype, with a memory.

    Parameters
    ----------
    backbone : Backbone
        The backbone.
    dtype : torch.dtype
        Dtype of weights and activations.
    device : torch.device
        Device of weights and activations.
    store : ActivationStore or None
        Cache of activations.
    verbose : int
        If positive, show progress.
    fits : bool, default=False
        True if samples are passed to fit on them; the cache then keeps what others may start from.
    runtime : Runtime
        Runtime of the stages.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        dtype: torch.dtype,
        device: torch.device,
        store: ActivationStore | None,
        verbose: int = 0,
        fits: bool = False,
        runtime: Runtime = EAGER,
    ) -> None:
        self.backbone, self.dtype, self.device, self.store, self.verbose = backbone, dtype, device, store, verbose
        self.fits, self.runtime = fits, runtime
        self.batch = runtime.rows(backbone, 0, dtype, device)
        rows = (self.batch, *((self.rows(NOMINAL_TOKENS),) if backbone.is_ragged else ()))
        self.space = (backbone.fingerprint, str(dtype), device.type, *rows)
        self.space += ("folded",) if dtype != torch.float32 and backbone.is_foldable else ()
        self.space += () if runtime is EAGER else (runtime.key,)
        self.usual = usual_boundaries(backbone)
        self._entries = runtime.entries(backbone, dtype)

    @property
    def dtype_name(self) -> str:
        """Name of the dtype in which the stages compute."""
        return INT8 if self.runtime.is_quantized else str(self.dtype).removeprefix("torch.")

    def between(self, start: int, stop: int) -> Function:
        """The function that computes the stages between two boundaries, for a full batch."""
        return self.runtime.between(self.backbone, start, stop, self.dtype, self.device)

    def run(self, start: int, stop: int, batch: torch.Tensor) -> torch.Tensor:
        """The stages between two boundaries on up to a full batch of rows, each as in a full batch."""
        key = (*self.space, start, stop) if self.runtime.has_equal_rows else None
        return run_padded(self.between(start, stop), batch, self.rows(self._length(batch)), key).to(self.dtype)

    def rows(self, length: int) -> int:
        """Rows of a full batch of samples with this padded length, which is 0 where samples have one shape."""
        return self.runtime.rows(self.backbone, length, self.dtype, self.device)

    def rows_after(self, length: int) -> int:
        """The same for what comes after the frozen stages, which torch runs."""
        return rows_of_tokens(self.backbone, length, self.dtype, self.device, TOKENS_AFTER)

    def filled_after(self, batch: Batch) -> Batch:
        """A full batch for what comes after the frozen stages: missing rows are zeros."""
        activation, numbers = apart(batch)
        n_rows = self.rows_after(self._length(activation))
        full = filled(activation, n_rows)
        return full if numbers is None else WithNumbers(full, filled(numbers, n_rows))

    def _length(self, batch: torch.Tensor) -> int:
        has_tokens = self.backbone.is_ragged and (batch.ndim > 2 or not batch.is_floating_point())
        return batch.shape[1] if has_tokens else 0

    def entries_before(self, boundary: int) -> list[int]:
        """Boundaries, the deepest first, from which one at or after ``boundary`` may be computed; not the input."""
        found = {entry for entry in self._entries.boundaries if entry <= boundary} | {boundary}
        return sorted(found - {0}, reverse=True)

    def passing(
        self, batch: torch.Tensor, entry: int, asked: Collection[int], *, all_between: bool = False
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Boundaries and activations of a batch at them: its own, then those that are asked for and some on the way.

        With ``all_between``, all from which others may start are among them.
        """
        values = {entry: batch}
        yield entry, batch
        for start, stop in self._spans(entry, asked, all_between):
            values[stop] = self.run(start, stop, values[start])
            yield stop, values[stop]

    def _spans(self, entry: int, asked: Collection[int], all_between: bool) -> list[tuple[int, int]]:
        """Pairs of boundaries by which those that are asked for are computed from an entry, in order."""
        boundaries, composes = self._entries
        passed = {stop for stop in boundaries if entry < stop < max(asked)}
        later = {stop for stop in asked if stop > entry}
        joined = later & {*boundaries, self.backbone.n_stages} if composes else set()
        origins = {stop: max({entry, *(b for b in passed if b < stop)}) for stop in later - joined}
        stops = {entry, *joined, *origins.values(), *(passed if all_between or not composes else ())}
        return sorted([*itertools.pairwise(sorted(stops)), *((start, stop) for stop, start in origins.items())])

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype in which what follows these stages computes; None where that is its own, float32."""
        return None if self.dtype == torch.float32 else self.dtype

    def address(self, boundary: int, pooling: str | None = None, window_pooling: str = "mean") -> Address:
        """Address of the activations of ``boundary``, unpooled or pooled, also over the windows of a sample."""
        is_usual = pooling is None or window_pooling == "mean" or not self.backbone.is_windowed
        return Address(self.space if is_usual else (*self.space, OF_WINDOWS + window_pooling), boundary, pooling)

    def pooled(self, batch: torch.Tensor, address: Address) -> torch.Tensor:
        """A batch of activations at an address's boundary, as vectors."""
        return self.backbone.pooling_at(address.boundary, address.pooling)(batch)

    def has_one_shape(self, address: Address) -> bool:
        """True if the activations of all samples are alike in shape, so that one tensor holds them."""
        if address.pooling is not None:
            return address.window_pooling != "vote"
        return not (self.backbone.is_ragged or self.backbone.is_windowed)

    def row_bytes(self, address: Address) -> int:
        """Size of one sample's activation; of a text, as if it had 128 tokens, or four windows."""
        shape = self.backbone.activation_shapes[address.boundary]
        if self.backbone.is_windowed:
            length = (self.backbone.preprocessing.max_length,) if self.backbone.is_ragged else shape[:1]
            shape = (NOMINAL_WINDOWS, *length, *shape[1:])
        elif self.backbone.is_ragged:
            shape = (NOMINAL_TOKENS, *shape[1:])
        if address.pooling is not None:
            n_vectors = 1 if self.has_one_shape(address) else NOMINAL_WINDOWS
            shape = (n_vectors, self.backbone.pooled_width(address.boundary, address.pooling))
        return int(np.prod(shape)) * (4 if address.pooling is not None else self.dtype.itemsize)

    def padded_length(self, n_tokens: int) -> int:
        """Tokens in the batch that a sample of ``n_tokens`` runs in: set by the sample alone, not by its neighbours."""
        step = max(4, 2 ** (n_tokens.bit_length() - 4))  # an eighth of it is padding, at most
        return min(-(-n_tokens // step) * step, self.backbone.preprocessing.max_length)

    def packed(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """One batch of several samples, each of its own number of windows: (n, windows, ...), absent ones padding.

        Where a sample is one input, that is :meth:`stacked`.
        """
        if not self.backbone.is_windowed:
            return self.stacked(rows)
        windows = self.stacked([window for row in rows for window in row])
        most = max(len(row) for row in rows)
        padding = torch.nan if windows.is_floating_point() else PADDING_ID
        batch = windows.new_full((len(rows), most, *windows.shape[1:]), padding)
        batch[window_mask([len(row) for row in rows], most)] = windows
        return batch

    def stacked(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """One batch of several samples, those with fewer tokens padded."""
        is_vector = rows[0].ndim == 1 and rows[0].is_floating_point()  # pooled, or a waveform
        longest = max(len(row) for row in rows)
        if not self.backbone.is_ragged or (is_vector and longest == min(len(row) for row in rows)):
            return torch.stack(list(rows))
        length = longest if is_vector else self.padded_length(longest)
        padding = torch.nan if rows[0].is_floating_point() else PADDING_ID
        batch = rows[0].new_full((len(rows), length, *rows[0].shape[1:]), padding)
        for i, row in enumerate(rows):
            batch[i, : len(row)] = row
        return batch


def window_mask(counts: Sequence[int], most: int) -> torch.Tensor:
    """Mask of the windows that exist, (n, most), given each sample's number of windows."""
    return torch.arange(most) < torch.tensor(counts)[:, None]
