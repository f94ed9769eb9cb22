"""How timm's networks are cut, by the name of timm's module; data, without timm or torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Family(NamedTuple):
    """How the networks of one of timm's modules are cut.

    ``block`` matches the submodules that end a stage each; ``last`` is the last submodule before pooling.
    """

    block: str
    last: str | None = None
    maps_end_in_channels: bool = False
    sized: bool = False  # the network is built for one size of picture
    arguments: Mapping[str, bool] = MappingProxyType({})


VIT = Family(r"blocks\.\d+", "norm", sized=True)
FAMILIES = {  # by the name of timm's module
    "cait": VIT,
    "convnext": Family(r"stages\.\d", "norm_pre"),
    "deit": VIT,
    "efficientnet": Family(r"blocks\.\d+", "bn2"),
    "eva": VIT._replace(arguments={"dynamic_img_size": False}),  # its code for other sizes branches on its input
    "maxxvit": Family(r"stages\.\d", "norm"),
    "mlp_mixer": VIT,
    "mobilenetv3": Family(r"blocks\.\d+"),
    "regnet": Family(r"s\d", "final_conv"),
    "resnet": Family(r"layer\d"),
    "swin_transformer": Family(r"layers\.\d", "norm", maps_end_in_channels=True),
    "swin_transformer_v2": Family(r"layers\.\d", "norm", maps_end_in_channels=True),
    "vision_transformer": VIT,
}
