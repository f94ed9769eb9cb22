"""Networks of torchvision.models, cut at their own blocks; the only importer of torchvision.

Weights come from torchvision's own addresses and cache folder, are checked by the hash in their file name on every
load, and are never unpickled. Preprocessing comes from the weights' own metadata.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
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

    ``stem`` is the submodule that ends the first stage, if no block does; ``block`` matches the submodules that end a
    stage each; ``last`` replaces the last of them where a norm of its own follows; ``head`` begins the source head.
    """

    block: str
    head: str
    pooling: str = "mean"
    stem: str | None = None
    last: str | None = None


FAMILIES = {
    "ResNet": Family(block=r"layer\d+", head="fc", stem="maxpool"),
    "MobileNetV3": Family(block=r"features\.\d+", head="classifier"),
    "VisionTransformer": Family(
        block=r"encoder\.layers\.encoder_layer_\d+",
        head="heads",
        pooling="cls",
        stem="encoder.dropout",
        last="encoder.ln",
    ),
}
NAMES = r"(wide_)?resnet\d+\w*|resnext\d+_\w+|mobilenet_v3_\w+|vit_[blh]_\d+"


def torchvision_names() -> list[str]:
    """Names of the networks that this adapter can cut."""
    from torchvision import models

    return [name for name in models.list_models(module=models) if re.fullmatch(NAMES, name)]


def load_torchvision(name: str, weights: str, options: Mapping[str, object]) -> Backbone:
    """The adapter behind ``torchvision:<model>``."""
    from torchvision import models

    if name not in models.list_models(module=models):
        raise BackboneNotFoundError(f"torchvision has no classification model {name!r}.")
    official = models.get_model_weights(name).DEFAULT
    seed = random_seed(weights)
    with seeded(seed or 0):
        network = models.get_model(name, weights=None).eval()
    family = _family_of(network, name)
    head_names = {k for k in network.state_dict() if k.split(".")[0] == family.head}
    if seed is None:
        local = bool(options.get("local_files_only", False))
        state = _official_state(name, official.url, local) if weights == "pretrained" else read_state(weights)
        fit_state(network, state, optional=head_names if weights != "pretrained" else (), where=f"weights={weights!r}")
    return Backbone(
        GraphCut(network, _stage_ends(network, family)),
        name=f"torchvision:{name}",
        weights=weights,
        preprocessing=_preprocessing(official.transforms(), int(options.get("max_pixels", 64e6))),
        pooling=family.pooling,
        head_names=head_names,
        classes=official.meta["categories"] if weights == "pretrained" else None,
        options=options,
    )


def _family_of(network: nn.Module, name: str) -> Family:
    kind = type(network).__name__
    if kind not in FAMILIES:
        raise UnsupportedBackboneError(
            f"'torchvision:{name}' is a {kind}, which has no stages here yet. Supported: {sorted(FAMILIES)}."
        )
    return FAMILIES[kind]


def _stage_ends(network: nn.Module, family: Family) -> list[tuple[str, str]]:
    blocks = [path for path, _ in network.named_modules() if re.fullmatch(family.block, path)]
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
