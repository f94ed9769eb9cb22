"""How torchvision's networks are cut, by their name; data, without torchvision or torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class OwnHead(NamedTuple):
    """The head of a detection or segmentation network: what it finds, and the names of the stages that it reads."""

    finds: str  # "boxes" or "masks"
    reads: tuple[str, ...]


class Family(NamedTuple):
    """How the networks of one class are cut.

    ``stem`` is the submodule that ends the first stage, where no block does; ``block`` matches the submodules that end
    a stage each (only those of class ``kind``, where one is named); ``last`` replaces the last of them where more
    follows before the classifier; ``head`` names the modules of the original head, auxiliary ones included. ``trunk``
    is the part of a detection or segmentation network that is a backbone, ``own`` the head that may be kept with it,
    and ``norm_eps`` what its official weights set in BatchNorm.
    """

    block: str
    head: tuple[str, ...] = ("classifier",)
    pooling: str = "mean"
    stem: str | None = None
    kind: str | None = None
    last: str | None = None
    maps_end_in_channels: bool = False  # (n, h, w, c) between stages
    sized: bool = False  # the network is built for one size of picture
    arguments: Mapping[str, bool] = MappingProxyType({})
    trunk: str | None = None
    own: OwnHead | None = None
    norm_eps: float | None = None


INCEPTION = {"transform_input": True, "init_weights": True}  # the official weights expect inputs of their own range
RESNET_TRUNK = Family(r"layer\d", (), stem="maxpool", trunk="backbone.body")
MOBILENET_TRUNK = Family(r"\d+", (), trunk="backbone.body")
ONE_STAGE = RESNET_TRUNK._replace(own=OwnHead("boxes", ("layer2", "layer3", "layer4")))
TWO_STAGES = RESNET_TRUNK._replace(own=OwnHead("boxes", ("layer1", "layer2", "layer3", "layer4")))
FAMILIES = {  # by the name of the model
    r"alexnet": Family(r"features\.(2|5|7|9|12)"),
    r"convnext_\w+": Family(r"features\.[1357]", ("classifier.2",), stem="features.0", last="classifier.2+input"),
    r"(deeplabv3|fcn)_resnet\d+": RESNET_TRUNK._replace(trunk="backbone", own=OwnHead("masks", ("layer4",))),
    r"deeplabv3_mobilenet_v3_large": MOBILENET_TRUNK._replace(trunk="backbone", own=OwnHead("masks", ("16",))),
    r"lraspp_mobilenet_v3_large": MOBILENET_TRUNK._replace(trunk="backbone", own=OwnHead("masks", ("4", "16"))),
    r"densenet\d+": Family(r"features\.(transition\d|denseblock4)", stem="features.pool0", last="features.norm5+relu"),
    r"efficientnet_\w+|mobilenet_v2": Family(r"features\.\d+"),
    r"fasterrcnn_mobilenet_v3_large(_320)?_fpn": MOBILENET_TRUNK._replace(own=OwnHead("boxes", ("13", "16"))),
    r"(fasterrcnn|keypointrcnn|maskrcnn)_resnet50_fpn": TWO_STAGES._replace(norm_eps=0.0),
    r"(fasterrcnn|maskrcnn)_resnet50_fpn_v2": TWO_STAGES,
    r"retinanet_resnet50_fpn": ONE_STAGE._replace(norm_eps=0.0),
    r"retinanet_resnet50_fpn_v2|fcos_resnet50_fpn": ONE_STAGE,
    r"googlenet": Family(r"maxpool2|inception\w+", ("fc", "aux1", "aux2"), stem="maxpool1", arguments=INCEPTION),
    r"inception_v3": Family(r"maxpool2|Mixed_\w+", ("fc", "AuxLogits"), stem="maxpool1", arguments=INCEPTION),
    r"maxvit_\w+": Family(r"blocks\.\d", ("classifier.5",), stem="stem", last="classifier.5+input"),
    r"mnasnet\w+": Family(r"layers\.(8|9|10|11|12|13|16)", stem="layers.7"),
    r"mobilenet_v3_\w+": Family(r"features\.\d+", ("classifier.3",), last="classifier.1"),
    r"regnet_\w+": Family(r"trunk_output\.block\d", ("fc",), stem="stem"),
    r"(wide_)?resnet\w+|resnext\w+": Family(r"layer\d", ("fc",), stem="maxpool"),
    r"shufflenet_\w+": Family(r"stage\d|conv5", ("fc",), stem="maxpool"),
    r"squeezenet\w+": Family(r"features\.\d+", stem="features.2", kind="Fire"),
    r"swin_\w+": Family(r"features\.[1357]", ("head",), stem="features.0", last="permute", maps_end_in_channels=True),
    r"vgg\w+": Family(r"features\.\d+", kind="MaxPool2d"),
    r"vit_\w+": Family(
        r"encoder\.layers\.encoder_layer_\d+",
        ("heads",),
        pooling="cls",
        stem="encoder.dropout",
        last="encoder.ln",
        sized=True,
    ),
}
