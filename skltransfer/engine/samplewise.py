"""What a network gives for samples, one row for each: activations, features and outputs, also where they have windows.

Promises that a row depends on its own windows alone. Must not know how networks are trained, X, labels or scikit-learn.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from skltransfer._system.autocast import autocast
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.inference.rows import filled
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork, mean_of_windows
from skltransfer.engine.storing.key import Address
from skltransfer.engine.tasks.task import VectorTask
from skltransfer.inputs import Samples, digest_of


def activations_of(stages: FrozenStages, spec: NetworkSpec, samples: Samples, policy: BadSamplePolicy) -> Activations:
    """Activations at a network's boundary, and at taps before it: pooled where the readout takes a vector of them."""
    return Activations(stages, samples, addresses_of(stages, spec), policy)


def addresses_of(stages: FrozenStages, spec: NetworkSpec) -> list[Address]:
    """Where these activations are stored."""
    if spec.taps and stages.backbone.is_windowed:
        raise ValueError(
            f"Windows of a long sample are averaged, which needs one vector of outputs per sample; taps={spec.taps!r} "
            "give maps or tokens. Set long_samples='truncate'."
        )
    is_pooled = spec.boundary == stages.backbone.n_stages and not spec.taps
    pooling = spec.pooling if is_pooled else None
    return [stages.address(boundary, pooling, spec.window_pooling) for boundary in spec.held]


def features_of(network: TunedNetwork, activations: Activations, rows: np.ndarray, stages: FrozenStages) -> np.ndarray:
    """Pooled features of each row, (n, d)."""
    of_windows = _maximum if network.takes_maximum else _mean
    return in_batches(network.features, activations, rows, stages, of_windows)


def features_before_training(
    network: TunedNetwork, activations: Activations, rows: np.ndarray, stages: FrozenStages
) -> np.ndarray:
    """Pooled features of each row, (n, d), of a network whose unfrozen stages still have the backbone's weights.

    They are cached, so that candidates that differ in how they train compute them once. The cache holds all rows as one
    entry, because on some processors torch rounds a row differently at another position in a batch.
    """
    spec, store = network.spec, stages.store
    if store is None or network.suffix is None or spec.taps or spec.adapter:
        return features_of(network, activations, rows, stages)
    how = f"after {spec.boundary}, windows {spec.window_pooling}, projected to {spec.projected}"
    address = Address((*stages.space, how), stages.backbone.n_stages, spec.pooling)
    digest = digest_of(*(activations.digests[row] for row in rows))
    known = store.get(address, digest)
    if known is None:
        known = torch.from_numpy(features_of(network, activations, rows, stages))
        store.put(address, digest, known)
        store.flush()
    return known.numpy().copy()


def outputs_of(
    task: VectorTask, network: TunedNetwork, activations: Activations, rows: np.ndarray, stages: FrozenStages
) -> np.ndarray:
    """Outputs for each row, (n, n_outputs)."""
    if not network.takes_maximum:
        return in_batches(network, activations, rows, stages, task.of_windows)
    features, size = features_of(network, activations, rows, stages), stages.rows_after(0)
    found = []
    for start in range(0, len(features), size):
        part = torch.tensor(features[start : start + size], dtype=torch.float32, device=stages.device)
        with torch.inference_mode():
            outputs = network.readout.outputs(filled(part, size))[: len(part)]
        found.append(outputs.double().cpu().numpy())
    return np.concatenate(found)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(0)


def _maximum(values: np.ndarray) -> np.ndarray:
    return values.max(0)


def in_batches(
    module: Callable,
    activations: Activations,
    rows: np.ndarray,
    stages: FrozenStages,
    of_windows: Callable[[np.ndarray], np.ndarray] = _mean,
) -> np.ndarray:
    """Outputs of a module for each row, (n, d); ``of_windows`` makes one row of those of a sample's windows."""
    value, owner = of_inputs(module, activations, rows, stages)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    if len(starts) == len(owner):
        return value
    return np.stack([part[0] if len(part) == 1 else of_windows(part) for part in np.split(value, starts[1:])])


def of_inputs(
    module: Callable, activations: Activations, rows: np.ndarray, stages: FrozenStages
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of a module for each input, (k, d), sample by sample, and the positions in ``rows`` of these, (k,)."""
    owners, values = [], []
    for members, outputs in each_batch(module, activations, rows, stages):
        owners.append(members)
        values.append(outputs[: len(members)].double().cpu().numpy())
    owner, value = np.concatenate(owners), np.concatenate(values)
    order = np.argsort(owner, kind="stable")
    return value[order], owner[order]


def each_batch(
    module: Callable, activations: Activations, rows: np.ndarray, stages: FrozenStages
) -> Iterator[tuple[np.ndarray, Any]]:
    """Positions in ``rows`` of the samples of each batch, and what a module gives for the full batch."""
    for members, batch in activations.exact_batches(rows):
        with torch.inference_mode(), autocast(stages.device, stages.autocast):
            outputs = module(stages.filled_after(batch))
        yield members, outputs


def loss_of_votes(task: VectorTask, outputs: tuple[torch.Tensor, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """The loss of each sample, (n,): the mean of its windows', each of which has the sample's target."""
    of_windows, mask = outputs  # (k, n_outputs), (n, windows)
    losses = task.loss(of_windows, batch[mask.nonzero()[:, 0]])
    return mean_of_windows(losses[:, None], mask)[:, 0]
