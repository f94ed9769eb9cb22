"""Networks of torchvision.models, cut at their own blocks; the only importer of torchvision.

Classification networks are cut whole; of detection and segmentation networks, the trunk that their pyramids and heads
stand on. Weights come from torchvision's own addresses and cache folder, are checked by the hash in their file name
on every load, and are never unpickled. Preprocessing comes from the weights' own metadata.
"""

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch import nn

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut, matching
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._weights import State, fit_state, random_seed, read_state
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

logger = logging.getLogger("skltransfer")


class Family(NamedTuple):
    """How the networks of one class are cut.

    ``stem`` is the submodule that ends the first stage, where no block does; ``block`` matches the submodules that end
    a stage each (only those of class ``kind``, where one is named); ``last`` replaces the last of them where more
    follows before the classifier; ``head`` names the modules of the source head, auxiliary ones included. ``trunk``
    is the part of a detection or segmentation network that is a backbone, and ``norm_eps`` what its official weights
    set in BatchNorm.
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
    norm_eps: float | None = None


INCEPTION = {"transform_input": True, "init_weights": True}  # the official weights expect inputs of their own range
RESNET_TRUNK = Family(r"layer\d", (), stem="maxpool", trunk="backbone.body")
MOBILENET_TRUNK = Family(r"\d+", (), trunk="backbone.body")
FAMILIES = {  # by the name of the model
    r"alexnet": Family(r"features\.(2|5|7|9|12)"),
    r"convnext_\w+": Family(r"features\.[1357]", ("classifier.2",), stem="features.0", last="classifier.2+input"),
    r"(deeplabv3|fcn)_resnet\d+": RESNET_TRUNK._replace(trunk="backbone"),
    r"(deeplabv3|lraspp)_mobilenet_v3_large": MOBILENET_TRUNK._replace(trunk="backbone"),
    r"densenet\d+": Family(r"features\.(transition\d|denseblock4)", stem="features.pool0", last="features.norm5+relu"),
    r"efficientnet_\w+|mobilenet_v2": Family(r"features\.\d+"),
    r"fasterrcnn_mobilenet_v3_large(_320)?_fpn": MOBILENET_TRUNK,
    r"(fasterrcnn|keypointrcnn|maskrcnn|retinanet)_resnet50_fpn": RESNET_TRUNK._replace(norm_eps=0.0),
    r"(fasterrcnn|maskrcnn|retinanet)_resnet50_fpn_v2|fcos_resnet50_fpn": RESNET_TRUNK,
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


def torchvision_names() -> list[str]:
    """Names of torchvision's networks that this adapter cuts."""
    return [name for name in _photo_networks() if any(re.fullmatch(pattern, name) for pattern in FAMILIES)]


def _photo_networks() -> list[str]:
    from torchvision import models

    return [name for module in (models, models.detection, models.segmentation) for name in models.list_models(module)]


def imagenet_classes() -> list[str]:
    """Names of ImageNet's 1,000 classes, in the order of every network's outputs."""
    from torchvision import models

    return models.ResNet18_Weights.DEFAULT.meta["categories"]


def load_torchvision(name: str, weights: str, options: Mapping[str, object]) -> Backbone:
    """The adapter behind ``torchvision:<model>``."""
    from torchvision import models

    if name not in _photo_networks():
        raise BackboneNotFoundError(f"torchvision has no network for photos {name!r}.")
    if _family_of(name).sized and options.get("input_size"):
        raise UnsupportedBackboneError(f"'torchvision:{name}' is built for one size of picture; leave out input_size.")
    family, official = _family_of(name), models.get_model_weights(name)
    seed, is_named = random_seed(weights), weights == "pretrained" or weights in official.__members__
    entry = official[weights] if weights in official.__members__ else official.DEFAULT
    with seeded(seed or 0):
        network, preprocessing = _built(name, family, entry)
    head_names = {k for k in network.state_dict() if k.startswith(tuple(f"{path}." for path in family.head))}
    if seed is None:
        local = bool(options.get("local_files_only", False))
        state = _official_state(name, entry.url, local) if is_named else _local_state(name, weights, official)
        optional = () if is_named else head_names
        fit_state(network, _of_trunk(state, family.trunk), optional=optional, where=f"weights={weights!r}")
        if is_named and family.norm_eps is not None:
            _set_norm_eps(network, family.norm_eps)
    ends = _stage_ends(network, family)
    return Backbone(
        GraphCut(network, ends),
        name=f"torchvision:{name}",
        weights=weights,
        preprocessing=preprocessing.at(options.get("input_size")),
        pooling=family.pooling,
        head_names=head_names,
        classes=entry.meta["categories"] if is_named and family.trunk is None else None,
        source_accuracy=_accuracy_of(entry) if is_named and family.trunk is None else None,
        options=options,
        maps_end_in_channels=range(1, len(ends)) if family.maps_end_in_channels else (),
    )


def _family_of(name: str) -> Family:
    for pattern, family in FAMILIES.items():
        if re.fullmatch(pattern, name):
            return family
    raise UnsupportedBackboneError(
        f"'torchvision:{name}' is of a family that has no stages here yet. Supported: {sorted(FAMILIES)}."
    )


def _built(name: str, family: Family, entry) -> tuple[nn.Module, ImagePreprocessing]:
    """The network with random weights, and how its official weights see a photo."""
    from torchvision import models

    preset = entry.transforms()
    if family.trunk is None:
        size = {"image_size": preset.crop_size[0]} if family.sized else {}
        network = models.get_model(name, weights=None, **family.arguments, **size)
        return network.eval(), _preprocessing(preset, preset.resize_size[0], preset.crop_size[0])
    whole = models.get_model(name, weights=None, weights_backbone=None)
    trunk = nn.Sequential(OrderedDict(whole.get_submodule(family.trunk).items())).eval()
    if not hasattr(whole, "transform"):  # segmentation
        return trunk, _preprocessing(preset, preset.resize_size[0], preset.resize_size[0])
    side = whole.transform.min_size[0]
    return trunk, ImagePreprocessing(side, side, tuple(whole.transform.image_mean), tuple(whole.transform.image_std))


def _accuracy_of(entry) -> tuple[str, float] | None:
    """As torchvision's own metadata tell it, of the first data set that has a top-1 accuracy."""
    known = [(name, m["acc@1"] / 100) for name, m in entry.meta["_metrics"].items() if "acc@1" in m]
    return known[0] if known else None


def _stage_ends(network: nn.Module, family: Family) -> list[tuple[str, str]]:
    blocks = matching(network, family.block, family.kind)
    ends = [(path, path) for path in blocks]
    if family.last is not None:
        ends[-1] = (blocks[-1], family.last)
    return ends if family.stem is None else [("stem", family.stem), *ends]


def _preprocessing(preset, resize: int, crop: int) -> ImagePreprocessing:
    return ImagePreprocessing(
        resize=resize,
        crop=crop,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )


def _of_trunk(state: State, trunk: str | None) -> State:
    """The trunk's part of a whole network's weights; or weights that are the trunk's alone, as they are."""
    of_trunk = {k.removeprefix(f"{trunk}."): v for k, v in state.items() if k.startswith(f"{trunk}.")}
    return of_trunk or state


def _set_norm_eps(network: nn.Module, eps: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def _local_state(name: str, weights: str, official) -> State:
    if not Path(weights).is_file():
        raise WeightsError(
            f"'torchvision:{name}' has no weights {weights!r}. Pass 'pretrained' ({official.DEFAULT.name}), one of "
            f"{list(official.__members__)}, 'random', 'random:<seed>' or an existing file."
        )
    return read_state(weights)


def _official_state(name: str, url: str, local_files_only: bool) -> State:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)[1]
    if not path.exists():
        _download(name, url, path, prefix, local_files_only)
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix):
        raise WeightsError(
            f"{path} does not have the hash {prefix}… in its name. Delete it, so that it is fetched anew."
        )
    return read_state(path)


def _download(name: str, url: str, path: Path, prefix: str, local_files_only: bool) -> None:
    remedy = (
        f"On a machine with network, run skltransfer.load_backbone('torchvision:{name}') and copy {path.name} into "
        f"{path.parent}; or use weights='random', weights=<file>, or backbone='bundled:efficientnet-lite0'."
    )
    if local_files_only:
        raise WeightsError(f"The weights of 'torchvision:{name}' are not in {path.parent}. {remedy}")
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s", url)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(f"The weights of 'torchvision:{name}' could not be fetched ({error}). {remedy}") from error
