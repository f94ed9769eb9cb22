"""The whole network as one module: from what a client can send to what it wants to know.

Promises one forward without a branch on values, so that it can be written down as a graph; and beside it, what the
stages and the head say when they are run as an estimator runs them. Must not know the format of that graph, files or
scikit-learn.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from skltransfer.backbones import Backbone
from skltransfer.engine.networks.adapters import merged
from skltransfer.engine.networks.state import NetworkState
from skltransfer.engine.tasks.task import VectorTask
from skltransfer.export._client_inputs import ClientInput

CPU = torch.device("cpu")


class WholeNetwork(nn.Module):
    """A client's inputs, stages, readout and answers in one forward.

    Parameters
    ----------
    client_input : ClientInput
        Arrays that a client passes.
    body : nn.Module
        Private network from the stages' inputs to the inputs of ``answer``.
    answer : callable
        Function from the body's outputs to named tensors.
    """

    def __init__(self, client_input: ClientInput, body: nn.Module, answer: Callable[[torch.Tensor], dict]) -> None:
        super().__init__()
        self.client_input, self.body, self.answer = client_input, body, answer
        for entry in (module.entry for module in body.modules() if hasattr(module, "entry")):
            entry.pads = False  # of sounds; texts say themselves where they end
        self.eval().requires_grad_(False)

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.answer(self.body(self.client_input.batch(*inputs)))


def tuned_whole(network: NetworkState, backbone: Backbone, task: VectorTask, client_input: ClientInput) -> WholeNetwork:
    """A tuned network with its head's answers; adapters are added to the weights beside them."""
    spec = replace(network.spec, boundary=0)  # names are the library's, whatever the boundary
    body = replace(network, spec=spec).trainable(backbone, task.readout, CPU)
    if spec.adapter is not None:
        body = merged(body)
    return WholeNetwork(client_input, body, task.exported)


def tuned_reference(network: NetworkState, backbone: Backbone, task: VectorTask, batch: torch.Tensor) -> dict:
    """Probabilities and predictions as the estimator makes them in float32: frozen stages, the rest, the head."""
    with torch.inference_mode():
        activation = backbone.prefix(0, network.spec.boundary)(batch)
        if network.spec.boundary == backbone.n_stages:
            activation = backbone.pooling_at(backbone.n_stages, network.spec.pooling)(activation)
        outputs = network.for_inference(backbone, task.readout, CPU)(activation)
    return task.expected(outputs.double().numpy())


class _Features(nn.Module):
    """Pooled features at one boundary or several, side by side in the order asked for."""

    def __init__(self, backbone: Backbone, boundaries: Sequence[int], pooling: str) -> None:
        super().__init__()
        steps = sorted({0, *boundaries})
        self.order, self.at = tuple(boundaries), steps[1:]
        self.pieces = nn.ModuleList(copy.deepcopy(backbone.prefix(*ends)) for ends in itertools.pairwise(steps))
        self.poolings = [backbone.pooling_at(boundary, pooling) for boundary in self.at]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = {}
        for boundary, piece, pooling in zip(self.at, self.pieces, self.poolings, strict=True):
            x = piece(x)
            found[boundary] = pooling(x)
        return torch.cat([found[boundary] for boundary in self.order], dim=1)


def frozen_whole(
    backbone: Backbone, boundaries: Sequence[int], pooling: str, client_input: ClientInput
) -> WholeNetwork:
    """A frozen network's features."""
    return WholeNetwork(client_input, _Features(backbone, boundaries, pooling), lambda features: {"features": features})


def frozen_reference(backbone: Backbone, boundaries: Sequence[int], pooling: str, batch: torch.Tensor) -> dict:
    """The same features, each from the backbone's shared stages."""
    with torch.inference_mode():
        columns = [backbone.pooling_at(at, pooling)(backbone.prefix(0, at)(batch)) for at in boundaries]
    return {"features": torch.cat(columns, dim=1).double().numpy()}
