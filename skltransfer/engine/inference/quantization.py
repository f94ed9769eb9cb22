"""How near a network whose matrix products are in 8 bits comes to the same one in float32, on given samples.

Must not know X, labels or scikit-learn.
"""

import weakref
from typing import NamedTuple

import numpy as np
import torch

from skltransfer.backbones import Backbone
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.inference.recall import recall
from skltransfer.exceptions import UnsupportedBackboneError
from skltransfer.inputs import Samples

ENOUGH = 64  # samples
LEAST_COSINE = 0.98
_compared: "weakref.WeakKeyDictionary[Backbone, set[int]]" = weakref.WeakKeyDictionary()


class Agreement(NamedTuple):
    """Least cosine between features in 8 bits and in float32, and share of equal labels where there are labels."""

    cosine: float
    equal_labels: float | None = None


def is_compared(backbone: Backbone, boundary: int) -> bool:
    """True if features of samples at a boundary were near enough, in this process."""
    return boundary in _compared.get(backbone, ())


def in_float32(stages: FrozenStages) -> FrozenStages:
    """The same stages as torch runs them in float32."""
    return FrozenStages(stages.backbone, dtype=torch.float32, device=stages.device, store=stages.store)


def checked_cosine(stages: FrozenStages, boundary: int, samples: Samples, policy: BadSamplePolicy) -> float:
    """Least cosine between pooled features in 8 bits and in float32; 1.0 if no stage is frozen.

    Raises
    ------
    UnsupportedBackboneError
        If it is below 0.98.
    """
    if boundary == 0 or not len(samples):
        return 1.0
    features = []
    for one in (stages, in_float32(stages)):
        address = one.address(boundary, one.backbone.pooling)
        features.append(recall(one, samples, [address], policy).tensors[0].float())
    cosines = torch.nn.functional.cosine_similarity(*features)
    readable = ~torch.isnan(cosines) & (features[1] != 0).any(dim=1)  # others are filled with zeros
    least = float(cosines[readable].min()) if readable.any() else 1.0
    if least < LEAST_COSINE:
        row = int(samples.rows[int(torch.where(readable, cosines, 2.0).argmin())])
        raise UnsupportedBackboneError(
            f"dtype='int8' changes the features of {stages.backbone.name!r} too much: the cosine similarity to float32 "
            f"is {least:.3f} for X[{row}], less than {LEAST_COSINE}. Use dtype='auto'."
        )
    if readable.any():
        _compared.setdefault(stages.backbone, set()).add(boundary)
    return least


def equal_share(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of samples with equal labels."""
    return float(np.mean(np.asarray(ours == theirs).reshape(len(ours), -1).all(axis=1)))
