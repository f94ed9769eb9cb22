"""A look inside a backbone: what each stage holds, gives and costs."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from skltransfer._system.tables import aligned, frame
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._registry import outlined_backbone


@dataclass(frozen=True)
class StageDescription:
    """One stage of a backbone.

    Attributes
    ----------
    name : str
    n_parameters : int
        Number of weights of this stage alone; embeddings that a network of texts begins with are the first stage's.
    activation_shape : tuple of int
        Shape of one sample's activation at the end of the stage.
    activation_kib : float
        Its size in float32, in KiB.
    cost_share : float
        Share of the multiplications of one forward pass, in [0, 1].
    """

    name: str
    n_parameters: int
    activation_shape: tuple[int, ...]
    activation_kib: float
    cost_share: float


@dataclass(frozen=True)
class BackboneDescription:
    """Result of :func:`describe_backbone`; its text is a table.

    Attributes
    ----------
    name, weights, modality : str
    n_features : int
    input_shape : tuple of int
    stages : tuple of StageDescription
    licence : str or None
        Licence of the weights, where their source states one: bundled networks and timm's.
    source : str or None
        Who published the weights and what they were trained on, of bundled networks.
    """

    name: str
    weights: str
    modality: str
    n_features: int
    input_shape: tuple[int, ...]
    stages: tuple[StageDescription, ...]
    licence: str | None = None
    source: str | None = None

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all stages, which is the network without its source head."""
        return sum(stage.n_parameters for stage in self.stages)

    def __str__(self) -> str:
        head = [
            f"{self.name} (weights={self.weights!r}): {self.modality} {self.input_shape} -> "
            f"{self.n_features} features, {self.n_parameters:,} parameters"
        ]
        head += [f"{what}: {said}" for what, said in (("licence", self.licence), ("source", self.source)) if said]
        rows = [("stage", "parameters", "activation", "KiB", "cost")]
        rows += [
            (
                s.name,
                f"{s.n_parameters:,}",
                "x".join(map(str, s.activation_shape)),
                f"{s.activation_kib:.1f}",
                f"{s.cost_share:.0%}",
            )
            for s in self.stages
        ]
        return "\n".join([*head, *aligned(rows, n_left=1)])

    __repr__ = __str__

    def to_frame(self):
        """One row per stage, as a pandas DataFrame.

        Raises
        ------
        MissingDependencyError
            Without pandas.
        """
        names = [field.name for field in fields(StageDescription)]
        return frame({name: getattr(stage, name) for name in names} for stage in self.stages)


def describe_backbone(backbone: str | Backbone, *, weights: str = "pretrained") -> BackboneDescription:
    """Describe the stages of a backbone: their names are what ``freeze_depth`` and ``layer`` accept.

    Given a name, no weights are fetched or read: the architecture is built with random weights, and the input is that
    of the weights named. A name of the hub, ``"hf:org/name"``, needs the configuration of the network and its tokenizer
    or processor, which are small files; they are fetched if they are not in the cache.

    Parameters
    ----------
    backbone : str or Backbone
    weights : str, default="pretrained"
        As in :func:`load_backbone`; only for a name. A file is read.

    Returns
    -------
    BackboneDescription

    Raises
    ------
    BackboneNotFoundError, WeightsError, UnsupportedBackboneError
        As :func:`load_backbone`.

    Examples
    --------
    >>> from skltransfer import describe_backbone
    >>> print(describe_backbone("toy:images"))
    toy:images (weights='pretrained'): image (3, 16, 16) -> 32 features, 15,456 parameters
    stage   parameters  activation  KiB  cost
    stem           240     8x16x16  8.0   16%
    block1       1,200      16x8x8  4.0   21%
    block2       4,704      32x4x4  2.0   21%
    block3       9,312      32x4x4  2.0   42%
    """
    if isinstance(backbone, str):
        backbone = outlined_backbone(backbone, weights)
    costs = _multiplications(backbone)
    stages = tuple(
        StageDescription(
            name=name,
            n_parameters=backbone.stage_size(i),
            activation_shape=backbone.activation_shapes[i + 1],
            activation_kib=float(np.prod(backbone.activation_shapes[i + 1])) * 4 / 1024,
            cost_share=float(costs[i] / costs.sum()),
        )
        for i, name in enumerate(backbone.stage_names)
    )
    return BackboneDescription(
        backbone.name,
        backbone.weights,
        backbone.modality,
        backbone.n_features,
        backbone.preprocessing.input_shape,
        stages,
        backbone.licence,
        backbone.source,
    )


def _multiplications(backbone: Backbone) -> np.ndarray:
    """Per stage, for one sample; attention's fused inference path is not counted, so it is stepped around."""
    x, costs = backbone.example(1), []
    for start in range(backbone.n_stages):
        stage = backbone.prefix(start, start + 1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = stage(x)
        costs.append(counter.get_total_flops())
    return np.array(costs, dtype=float)
