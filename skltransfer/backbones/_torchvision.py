"""Networks of torchvision.models, cut at their own blocks; the only importer of torchvision.

Classification networks are cut whole; of detection and segmentation networks, the feature extractor is cut. Weights
come from torchvision's own addresses and cache folder, are checked on every load by the hash in their file name, and
are never unpickled. Preprocessing comes from the weights' own metadata.
"""

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn

from skltransfer._catalogue._torchvision_families import FAMILIES, Family, OwnHead
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut, matching
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._weights import State, fit_state, random_seed, read_state
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

logger = logging.getLogger("skltransfer")
LABEL_LAYERS = (
    r"(head\.classification_head\.cls_logits|roi_heads\.box_predictor|classifier\.(4|low_classifier|high_classifier))\."
)
OTHER_HEADS = r"aux_classifier\.|roi_heads\.(mask|keypoint)_"


def _photo_networks() -> list[str]:
    from torchvision import models

    return [name for module in (models, models.detection, models.segmentation) for name in models.list_models(module)]


def imagenet_classes() -> list[str]:
    """Names of ImageNet's 1,000 classes, in the order of every network's outputs."""
    from torchvision import models

    return models.ResNet18_Weights.DEFAULT.meta["categories"]


def load_torchvision(name: str, weights: str, options: Mapping[str, object], *, outline: bool = False) -> Backbone:
    """The adapter behind ``torchvision:<model>``."""
    from torchvision import models

    if name not in _photo_networks():
        raise BackboneNotFoundError(f"torchvision has no network for photos {name!r}.")
    if _family_of(name).sized and options.get("input_size"):
        raise UnsupportedBackboneError(f"'torchvision:{name}' is built for one size of image; leave out input_size.")
    family, official = _family_of(name), models.get_model_weights(name)
    seed, is_named = random_seed(weights), weights == "pretrained" or weights in official.__members__
    entry = _entry_of(official, weights)
    with seeded(seed or 0):
        network, preprocessing = _built(name, family, entry)
    head_names = {k for k in network.state_dict() if k.startswith(tuple(f"{path}." for path in family.head))}
    if seed is None and not (outline and is_named):
        state = _state_of(name, weights, options)
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


def own_head_of(name: str) -> OwnHead | None:
    """The head that :func:`own_network` gives: of segmentation networks, and of detectors with a pyramid."""
    return _family_of(name).own if name in _photo_networks() else None


def own_network(name: str, weights: str, options: Mapping[str, object]) -> nn.Module:
    """A detection or segmentation network of torchvision, without weights for its trunk and its layer of labels.

    Raises
    ------
    WeightsError
        If the weights hold no head.
    """
    from torchvision import models

    seed = random_seed(weights)
    with seeded(seed or 0):
        whole = models.get_model(name, weights=None, weights_backbone=None)
    if seed is None:
        others = re.compile(rf"{_family_of(name).trunk}\.|{OTHER_HEADS}|{LABEL_LAYERS}")
        state = _state_of(name, weights, options)
        try:
            found = whole.load_state_dict({k: v for k, v in state.items() if not others.match(k)}, strict=False)
            wrong = [key for keys in found for key in keys if not others.match(key)]
        except RuntimeError as error:  # of another shape
            wrong = [str(error).splitlines()[-1].strip()]
        if wrong:
            raise WeightsError(
                f"weights={weights!r} are not of a whole 'torchvision:{name}': {wrong[:3]} are missing or unknown, or "
                "have another shape. Choose a new head with the parameter head, or pass the weights of a whole network."
            )
    return whole


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
    """Accuracy from torchvision's own metadata, on the first data set that has a top-1 accuracy."""
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
    """The feature extractor's part of a whole network's weights; or weights of the extractor alone, unchanged."""
    of_trunk = {k.removeprefix(f"{trunk}."): v for k, v in state.items() if k.startswith(f"{trunk}.")}
    return of_trunk or state


def _set_norm_eps(network: nn.Module, eps: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def _entry_of(official, weights: str):
    """The named weights in torchvision's own metadata, or else its default ones."""
    return official[weights] if weights in official.__members__ else official.DEFAULT


def _state_of(name: str, weights: str, options: Mapping[str, object]) -> State:
    """Official weights by name, or those of a local file."""
    from torchvision import models

    official = models.get_model_weights(name)
    if weights != "pretrained" and weights not in official.__members__:
        return _local_state(name, weights, official)
    return _official_state(name, _entry_of(official, weights).url, bool(options.get("local_files_only", False)))


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
            f"{path} does not have the hash {prefix}… in its name. Delete it, so that it is fetched again."
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
