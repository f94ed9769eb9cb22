"""Layers of Keras as modules of torch, which own the weights that a layer computes with.

The layer's own code runs, in a scope of Keras in which its variables have the values of the module's parameters and
buffers. Must not know graphs.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from skltransfer.exceptions import UnsupportedBackboneError


class Kept:
    """Something of Keras that all copies of a network share.

    Parameters
    ----------
    value : object
        Layer, or call of one.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict) -> "Kept":
        return self


def _named_variables(layer: Any) -> list[tuple[str, Any]]:
    """Variables of a layer with names that are unique in it."""
    found: dict[str, Any] = {}
    for variable in layer.variables:
        name = variable.path.split(f"{layer.name}/", 1)[-1].replace(".", "_")
        name = name if name not in found else f"{name}_{len(found)}"
        found[name] = variable
    return list(found.items())


class LayerPart(nn.Module):
    """A layer of Keras, run by its own code with the parameters and buffers of this module.

    Parameters
    ----------
    layer : keras.Layer
        The layer, built.
    """

    axis = None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = Kept(layer)
        self._of_keras = Kept(_named_variables(layer))
        trained = set(map(id, layer.trainable_variables))
        for name, variable in self._of_keras.value:
            value = variable.value.detach()
            if id(variable) in trained:
                self.register_parameter(name, nn.Parameter(value))
            elif not is_seed(variable):
                self.register_buffer(name, value)

    def state_of_keras(self) -> list[tuple[Any, torch.Tensor]]:
        """Variables of the layer, each with the tensor that replaces its value."""
        return [
            (variable, self._seed(variable) if is_seed(variable) else getattr(self, name))
            for name, variable in self._of_keras.value
        ]

    def _seed(self, variable: Any) -> torch.Tensor:
        """A seed of torch's generator, for what draws in training."""
        seed = torch.zeros_like(variable.value)  # (2,), of which Keras adds up the numbers
        if self.training:
            seed[0] = torch.randint(2**31 - 1, ())
        return seed

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        import keras

        kwargs["training"] = self.training  # over what the call in the graph says, as Keras has it
        with keras.StatelessScope(state_mapping=self.state_of_keras()) as scope:
            output = self.layer.value(*args, **kwargs)
        if self.training:
            self._take_over(scope)
        return output

    @torch.no_grad()
    def _take_over(self, scope: Any) -> None:
        """Keep what the layer has learnt otherwise than by gradients."""
        for name, variable in self._of_keras.value:
            if name in self._buffers:
                self._buffers[name].copy_(scope.get_current_value(variable))


class BatchNormPart(nn.modules.batchnorm._BatchNorm):
    """BatchNormalization of Keras as one of torch's: its maps have channels first, and statistics are Keras' own.

    Parameters
    ----------
    layer : keras.layers.BatchNormalization
        The layer, built.
    """

    def __init__(self, layer: Any) -> None:
        nn.Module.__init__(self)
        self.layer, self.axis = Kept(layer), layer.axis
        self.eps, self.momentum = layer.epsilon, 1 - layer.momentum
        self.affine, self.track_running_stats = layer.scale or layer.center, True
        self.num_features = layer.moving_mean.shape[0]
        for name in ("gamma", "beta"):
            variable = getattr(layer, name)
            self.register_parameter(name, None if variable is None else nn.Parameter(variable.value.detach()))
        self.register_buffer("moving_mean", layer.moving_mean.value.detach())
        self.register_buffer("moving_variance", layer.moving_variance.value.detach())
        self.register_buffer("num_batches_tracked", torch.tensor(0), persistent=False)

    weight = property(lambda self: self.gamma)
    bias = property(lambda self: self.beta)
    running_mean = property(lambda self: self.moving_mean)
    running_var = property(lambda self: self.moving_variance)

    def state_of_keras(self) -> list[tuple[Any, torch.Tensor]]:
        """Variables of the layer, each with the tensor that replaces its value."""
        names = [
            name for name in ("gamma", "beta", "moving_mean", "moving_variance") if getattr(self, name) is not None
        ]
        return [(getattr(self.layer.value, name), getattr(self, name)) for name in names]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return F.batch_norm(x, self.moving_mean, self.moving_variance, self.gamma, self.beta, eps=self.eps)
        self._update(x.detach().float())
        return F.batch_norm(x, None, None, self.gamma, self.beta, training=True, eps=self.eps)

    @torch.no_grad()
    def _update(self, x: torch.Tensor) -> None:
        """Keras' moving averages, whose variance is that of the batch itself; without a momentum, plain means."""
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        variance, mean = torch.var_mean(x.transpose(0, 1).flatten(1), dim=1, correction=0)
        self.moving_mean.lerp_(mean, share)
        self.moving_variance.lerp_(variance, share)

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)


def is_seed(variable: Any) -> bool:
    """True for the state of a generator, which Keras keeps as a variable of a layer."""
    return variable.path.endswith("seed_generator_state")


def part_of(layer: Any, name: str) -> LayerPart | BatchNormPart:
    """The module that owns a layer's weights.

    Parameters
    ----------
    layer : keras.Layer
        The layer, built.
    name : str
        Its name, for the error message.

    Raises
    ------
    UnsupportedBackboneError
        If it has statistics of a kind that training could not leave alone.
    """
    import keras

    norms = [part for part in layer._flatten_layers() if isinstance(part, keras.layers.BatchNormalization)]
    if not norms:
        return LayerPart(layer)
    if norms != [layer] or getattr(layer, "renorm", False):
        raise UnsupportedBackboneError(
            f"its layer {name!r} is BatchNormalization with renorm=True, or holds BatchNormalization inside, whose "
            "statistics cannot be frozen"
        )
    return BatchNormPart(layer)
