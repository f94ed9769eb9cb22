"""Networks of torchvision.models, cut at their own blocks; the only importer of torchvision.

Weights come from torchvision's own addresses and cache folder, are checked by the hash in their file name on every
load, and are never unpickled. Preprocessing comes from the weights' own metadata.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch import nn

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._weights import State, fit_state, random_seed, read_state
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError


class Family(NamedTuple):
    """How the networks of one class are cut.

    ``stem`` is the submodule that ends the first stage, where no block does; ``block`` matches the submodules that end
    a stage each (only those of class ``kind``, where one is named); ``last`` replaces the last of them where more
    follows before pooling; ``head`` names the modules of the source head, auxiliary ones included.
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


INCEPTION = {"transform_input": True, "init_weights": True}  # the official weights expect inputs of their own range
FAMILIES = {  # by the name of the model
    r"alexnet": Family(r"features\.(2|5|7|9|12)"),
    r"convnext_\w+": Family(r"features\.[1357]", stem="features.0"),
    r"densenet\d+": Family(r"features\.(transition\d|denseblock4)", stem="features.pool0", last="features.norm5+relu"),
    r"efficientnet_\w+|mobilenet_v[23]\w*": Family(r"features\.\d+"),
    r"googlenet": Family(r"maxpool2|inception\w+", ("fc", "aux1", "aux2"), stem="maxpool1", arguments=INCEPTION),
    r"inception_v3": Family(r"maxpool2|Mixed_\w+", ("fc", "AuxLogits"), stem="maxpool1", arguments=INCEPTION),
    r"maxvit_\w+": Family(r"blocks\.\d", stem="stem"),
    r"mnasnet\w+": Family(r"layers\.(8|9|10|11|12|13|16)", stem="layers.7"),
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
    """Names of torchvision's classification networks: this adapter cuts all of them."""
    from torchvision import models

    return models.list_models(module=models)


def load_torchvision(name: str, weights: str, options: Mapping[str, object]) -> Backbone:
    """The adapter behind ``torchvision:<model>``."""
    from torchvision import models

    if name not in models.list_models(module=models):
        raise BackboneNotFoundError(f"torchvision has no classification model {name!r}.")
    family, official = _family_of(name), models.get_model_weights(name)
    seed, is_named = random_seed(weights), weights == "pretrained" or weights in official.__members__
    entry = official[weights] if weights in official.__members__ else official.DEFAULT
    with seeded(seed or 0):
        size = {"image_size": entry.transforms().crop_size[0]} if family.sized else {}
        network = models.get_model(name, weights=None, **family.arguments, **size).eval()
    head_names = {k for k in network.state_dict() if k.split(".")[0] in family.head}
    if seed is None:
        local = bool(options.get("local_files_only", False))
        state = _official_state(name, entry.url, local) if is_named else _local_state(name, weights, official)
        fit_state(network, state, optional=() if is_named else head_names, where=f"weights={weights!r}")
    ends = _stage_ends(network, family)
    return Backbone(
        GraphCut(network, ends),
        name=f"torchvision:{name}",
        weights=weights,
        preprocessing=_preprocessing(entry.transforms(), int(options.get("max_pixels", 64e6))),
        pooling=family.pooling,
        head_names=head_names,
        classes=entry.meta["categories"] if is_named else None,
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


def _stage_ends(network: nn.Module, family: Family) -> list[tuple[str, str]]:
    blocks = [
        path
        for path, module in network.named_modules()
        if re.fullmatch(family.block, path) and family.kind in (None, type(module).__name__)
    ]
    ends = [(path, path) for path in blocks]
    if family.last is not None:
        ends[-1] = (blocks[-1], family.last)
    return ends if family.stem is None else [("stem", family.stem), *ends]


def _preprocessing(preset, max_pixels: int) -> ImagePreprocessing:
    return ImagePreprocessing(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
        max_pixels=max_pixels,
    )


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
        f"{path.parent}; or use weights='random', weights=<file>, or backbone='bundled:tiny-photo'."
    )
    if local_files_only:
        raise WeightsError(f"The weights of 'torchvision:{name}' are not in {path.parent}. {remedy}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(f"The weights of 'torchvision:{name}' could not be fetched ({error}). {remedy}") from error
