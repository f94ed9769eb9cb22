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
        Name of the stage.
    n_parameters : int
        Number of weights of this stage alone. The token embeddings of a text network belong to its first stage.
    activation_shape : tuple of int
        Shape of one sample's activation at the end of the stage.
    activation_kib : float
        Size of this activation in float32, in KiB.
    cost_share : float
        Fraction of the multiplications of one forward pass, in [0, 1].
    """

    name: str
    n_parameters: int
    activation_shape: tuple[int, ...]
    activation_kib: float
    cost_share: float


@dataclass(frozen=True)
class BackboneDescription:
    """Description of a backbone and its stages, which :func:`describe_backbone` returns; printing it shows a table.

    Attributes
    ----------
    name, weights, modality : str
        Name of the backbone, its weights, and the kind of samples that it reads.
    n_features : int
        Number of features of the pooled output of the last stage.
    input_shape : tuple of int
        Shape of one preprocessed sample.
    stages : tuple of StageDescription
        Descriptions of the stages, from the input to the output.
    licence : str or None
        License of the weights, if their source states it (bundled networks and timm).
    source : str or None
        Publisher and training data of the weights, for bundled networks.
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
        """Number of parameters of all stages, without the original classification head."""
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
        """Convert the description to a DataFrame with one row per stage.

        Returns
        -------
        pandas.DataFrame
            One column per attribute of :class:`StageDescription`.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        names = [field.name for field in fields(StageDescription)]
        return frame({name: getattr(stage, name) for name in names} for stage in self.stages)


def describe_backbone(backbone: str | Backbone, *, weights: str = "pretrained") -> BackboneDescription:
    """Describe the stages of a backbone: their names, shapes, sizes and costs.

    Use it to choose ``freeze_depth`` of a fine-tuning estimator or ``layer`` of :class:`PretrainedFeatureExtractor`,
    which accept the names of stages. Given a name, no weights are downloaded or read: the network is built with random
    weights. A name of the Hugging Face hub requires the configuration and the tokenizer or processor, which are small
    files and are downloaded if they are not in the cache.

    Parameters
    ----------
    backbone : str or Backbone
        Name of the backbone, or a loaded one. Networks of images, texts, audio and rows of numbers can be described.
    weights : str, default="pretrained"
        Weights of the network, as in :func:`load_backbone`; used only if ``backbone`` is a name. Only weights in a
        local file are read.

    Returns
    -------
    BackboneDescription
        Description that prints as a table.

    Raises
    ------
    BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
        As :func:`load_backbone` raises them.

    See Also
    --------
    freeze_depth_grid : Freeze depths worth searching.
    list_backbones : List the names of backbones.

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
