"""Statistics of BatchNorm: left alone in training, averaged before it, refreshed for other samples, and compared.

Must not know domains, losses or targets.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import nn

from skltransfer.engine.networks.tuned import TunedNetwork

NORMS = (nn.modules.batchnorm._BatchNorm,)


def train_mode(module: nn.Module, norm_policy: str) -> None:
    """Training mode, in which BatchNorm uses its running statistics all the same if these are to stay."""
    module.train()
    if norm_policy == "frozen":
        for part in module.modules():
            if isinstance(part, NORMS):
                part.eval()


@torch.no_grad()
def average_norms(module: nn.Module, inputs: Iterable[torch.Tensor]) -> None:
    """Give BatchNorm the mean of its statistics over batches, so that evaluation is what training is about to see.

    Parameters
    ----------
    module : nn.Module
        Changed in place, and left in eval mode.
    inputs : iterable of Tensor
        Batches as training will cut them.
    """
    module.eval()
    momenta = {part: part.momentum for part in module.modules() if isinstance(part, NORMS)}
    for part in momenta:
        part.reset_running_stats()
        part.momentum = None  # torch's word for a plain mean
        part.train()
    for batch in inputs:
        module(batch)
    for part, momentum in momenta.items():
        part.momentum = momentum
    module.eval()


@torch.inference_mode()
def refresh_norms(network: TunedNetwork, batches: Callable[[], Iterable[torch.Tensor]], prior: float) -> int:
    """Give each BatchNorm the mean and variance of what reaches it, layer by layer, each behind refreshed ones.

    Sums run over all samples, so that nothing depends on how these are cut into batches.

    Parameters
    ----------
    network : TunedNetwork
        Changed in place.
    batches : callable
        All samples' activations, computed again for each layer.
    prior : float
        Samples that the old statistics are worth.

    Returns
    -------
    int
        Layers that were refreshed.
    """
    network.eval()
    met = Counter(_in_order(network, next(iter(batches()))))
    for layer, times in met.items():
        _refresh(layer, times, network, batches, prior)
    return len(met)


def _in_order(network: TunedNetwork, batch: torch.Tensor) -> list[nn.Module]:
    """BatchNorm layers as a forward pass meets them."""
    met: list[nn.Module] = []
    handles = [
        m.register_forward_pre_hook(lambda m, _: met.append(m)) for m in network.modules() if isinstance(m, NORMS)
    ]
    network.features(batch)
    for handle in handles:
        handle.remove()
    return met


class _FarEnough(Exception):  # noqa: N818 - nothing went wrong
    """Ends a pass: layers behind this one need not be computed for its statistics."""


def _refresh(layer: nn.Module, times: int, network: TunedNetwork, batches: Callable, prior: float) -> None:
    """A layer that a pass meets so many times."""
    sums, left = [torch.zeros(2, layer.num_features, dtype=torch.float64), 0, 0], 0

    def add(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal left
        x = inputs[0].double().cpu().transpose(0, 1).flatten(1)  # (channels, n * places)
        sums[0] += torch.stack([x.sum(1), (x**2).sum(1)])
        sums[1] += x.shape[1]
        sums[2] += len(inputs[0])
        left -= 1
        if left == 0:
            raise _FarEnough

    handle = layer.register_forward_pre_hook(add)
    for batch in batches():
        left = times
        with contextlib.suppress(_FarEnough):
            network.features(batch)
    handle.remove()
    mean, square = sums[0] / sums[1]
    share = sums[2] / (sums[2] + prior)
    for old, new in ((layer.running_mean, mean), (layer.running_var, (square - mean**2).clamp(min=0))):
        old.copy_((1 - share) * old.double().cpu() + share * new)


def norm_shift(now: nn.Module, before: nn.Module) -> dict[str, float]:
    """Shift of the means of each BatchNorm: root mean square over channels, in standard deviations of before."""
    shift, adapted = {}, dict(now.named_modules())
    for name, old in before.named_modules():
        if isinstance(old, NORMS):
            distance = adapted[name].running_mean.cpu() - old.running_mean
            shift[name] = (distance**2 / (old.running_var + old.eps)).mean().sqrt().item()
    return shift
