"""One of several labels for each part of a sample: the words of a text, the pixels of an image.

Must not know what parts are.
"""

import numpy as np
import torch

from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import TunedNetwork
from skltransfer.engine.tasks.classification import ClassificationTask
from skltransfer.engine.tasks.probe import LEAST_SCALE, scales_of
from skltransfer.engine.tasks.task import VECTOR_HEADS, OverSamples, Task


def standardize_tokens(network: TunedNetwork, over_samples: OverSamples, weights: np.ndarray) -> None:
    """Set mean and scale of a readout to those of all tokens that are not padding, (d,) each.

    Parameters
    ----------
    network : TunedNetwork
        The network, whose readout standardizes single tokens.
    over_samples : OverSamples
        Runs functions of batches of activations over the training set.
    weights : ndarray of shape (n,)
        Weights of the samples.
    """
    total = np.zeros((3, len(network.readout.mean)))  # of weights, and of features and their squares
    for members, given in over_samples.in_batches(network.given):
        for member, one in zip(members, given[-1], strict=False):  # other rows fill the batch
            tokens = one[~one[:, 0].isnan()].double().cpu().numpy()
            total += weights[member] * np.stack([tokens**power for power in range(3)]).sum(1)
    mean, square = total[1:] / total[0]
    scale = scales_of(mean, np.maximum(square - mean**2, 0), LEAST_SCALE)
    network.readout.mean.copy_(torch.as_tensor(mean))
    network.readout.scale.copy_(torch.as_tensor(scale))


class PartsTask(Task):
    """Parent of the tasks that label each part of a sample.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least two.
    factors : ndarray of shape (k,)
        Weight of a part in the loss, by its label.
    smoothing : float, default=0.0
        Label smoothing of the loss.
    """

    heads: tuple[str, ...] = VECTOR_HEADS

    def __init__(self, classes: np.ndarray, factors: np.ndarray, smoothing: float = 0.0) -> None:
        self.classes, self.factors, self.smoothing = classes, factors, smoothing
        self.n_outputs = self.of_part.n_outputs

    @property
    def of_part(self) -> ClassificationTask:
        """The same labels for single parts."""
        return ClassificationTask(self.classes, self.smoothing)

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the network has another number of outputs, or labels and their weights do not go together."""
        expected = vars(type(self)(np.arange(2), np.ones(2))).keys()
        if vars(self).keys() != expected or np.ndim(self.classes) != 1 or len(self.classes) < 2:
            raise ValueError(f"a {type(self).__name__} of {sorted(vars(self))}")
        if not spec.taps or spec.head not in self.heads:
            raise ValueError(f"taps={spec.taps!r}, head={spec.head!r}")
        if not {self.n_outputs, self.of_part.n_outputs} == {spec.n_outputs}:
            raise ValueError(f"{len(self.classes)} labels, but {spec.n_outputs} outputs")
        others = [float(vars(self)[name]) for name in expected - {"classes", "factors", "n_outputs", "smoothing"}]
        numbers = np.array([*np.asarray(self.factors, dtype=float), *others, 1 - self.smoothing])
        if len(self.factors) != len(self.classes) or not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            raise ValueError(f"weights {self.factors!r}, smoothing={self.smoothing!r}, others {others}")
