"""Networks of timm, cut at their own blocks; the only importer of timm.

Weights come from the hub's cache folder, are checked by hash, and are fitted by timm's own code, which knows how its
older files differ from its networks. Preprocessing comes from the weights' own metadata.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from skltransfer._catalogue._timm_families import FAMILIES, Family
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut, matching
from skltransfer.backbones._hub import hub_file
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._weights import State, fit_state, random_seed, read_state
from skltransfer.exceptions import (
    BackboneNotFoundError,
    MissingDependencyError,
    UnsupportedBackboneError,
    WeightsError,
)


def load_timm(name: str, weights: str, options: Mapping[str, object], *, outline: bool = False) -> Backbone:
    """The adapter behind ``timm:<model>`` and ``timm:<model>.<tag>``."""
    timm = _timm()
    family, config = _family_of(timm, name), _published(timm, name)
    if options.get("input_size") and (config.fixed_input_size or family.sized):
        raise UnsupportedBackboneError(f"'timm:{name}' is built for one size of image; leave out input_size.")
    seed, is_own = random_seed(weights), weights == "pretrained"
    overlay = None
    if is_own and not outline:
        overlay = {"file": str(_official_file(name, config, bool(options.get("local_files_only", False))))}
    network = _created(timm, name, family, seed, overlay)
    if seed is None and not is_own:
        heads = _head_names(network, config)
        fit_state(network, _local_state(name, weights), optional=heads, where=f"weights={weights!r}")
    about = {"name": f"timm:{name}", "weights": weights, "licence": config.license if is_own else None}
    return _cut_into_stages(timm, network, family, config, about, options)


def build_timm(
    architecture: str,
    state_for: Callable[[nn.Module], State] | None,
    *,
    seed: int | None,
    options: Mapping[str, object],
    **about: object,
) -> Backbone:
    """A network of timm with weights from elsewhere.

    Parameters
    ----------
    architecture : str
        Name of the network in timm.
    state_for : callable or None
        Function from the network with random weights to a state dict in which every entry except those of the
        classification head must match. None keeps the random weights.
    seed : int or None
        Seed of the random weights.
    options : mapping
        Options of the :class:`Backbone`.
    **about
        Further arguments of :class:`Backbone`: at least ``name`` and ``weights``.
    """
    timm = _timm()
    family, config = _family_of(timm, architecture), timm.get_pretrained_cfg(architecture)
    network = _created(timm, architecture, family, seed, None)
    if state_for is not None:
        heads = _head_names(network, config)
        fit_state(network, state_for(network), optional=heads, where=f"weights={about['weights']!r}")
    return _cut_into_stages(timm, network, family, config, about, options)


def _created(timm, name: str, family: Family, seed: int | None, overlay: Mapping[str, str] | None) -> nn.Module:
    with seeded(seed or 0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own remarks on what it loads
        network = timm.create_model(
            name, pretrained=overlay is not None, pretrained_cfg_overlay=overlay, **family.arguments
        )
    return network.eval()


def _head_names(network: nn.Module, config) -> set[str]:
    classifiers = tuple(f"{path}." for path in _classifiers(config))
    return {key for key in network.state_dict() if key.startswith(classifiers)}


def _cut_into_stages(
    timm, network: nn.Module, family: Family, config, about: Mapping[str, object], options: Mapping[str, object]
) -> Backbone:
    head_names = _head_names(network, config)
    cut, is_pooled = _cut(network, family, _classifiers(config), head_names)
    n_maps = len(cut.stage_names) + (not is_pooled)
    return Backbone(
        cut,
        preprocessing=_preprocessing(timm, network).at(options.get("input_size")),
        pooling="cls" if getattr(network, "global_pool", None) == "token" else "mean",
        head_names=head_names,
        options=options,
        maps_end_in_channels=range(1, n_maps) if family.maps_end_in_channels else (),
        **about,
    )


def _timm():
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError(
            "Backbones named 'timm:...' need the library timm. Install it with: pip install timm"
        ) from error
    return timm


def _family_of(timm, name: str) -> Family:
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise BackboneNotFoundError(f"timm has no model {architecture!r}.")
    module = timm.models.model_entrypoint(architecture).__module__.rsplit(".", 1)[-1]
    if module not in FAMILIES:
        raise UnsupportedBackboneError(
            f"'timm:{name}' is of the family {module!r}, which has no stages here yet. Supported: {sorted(FAMILIES)}."
        )
    return FAMILIES[module]


def _published(timm, name: str):
    """timm's own description of the weights that ``name`` stands for."""
    architecture, _, tag = name.partition(".")
    tags = {
        full.partition(".")[2]
        for full in timm.list_pretrained(f"{architecture}*")
        if full.partition(".")[0] == architecture
    }
    if tag and tag not in tags:
        raise BackboneNotFoundError(f"timm has no weights {tag!r} for {architecture!r}; it has {sorted(tags)}.")
    return timm.get_pretrained_cfg(name)


def _official_file(name: str, config, local_files_only: bool) -> Path:
    if not config.hf_hub_id:
        raise WeightsError(f"timm publishes no weights for 'timm:{name}' on the hub. Pass weights='random' or a file.")
    filename = config.hf_hub_filename or "model.safetensors"
    return hub_file(config.hf_hub_id, filename, name=f"timm:{name}", local_files_only=local_files_only)


def _local_state(name: str, weights: str):
    if not Path(weights).is_file():
        raise WeightsError(
            f"'timm:{name}' has no weights {weights!r}; a tag is part of the name, as in 'timm:resnet18.a1_in1k'. Pass "
            "'pretrained', 'random', 'random:<seed>' or an existing file."
        )
    return read_state(weights)


def _classifiers(config) -> tuple[str, ...]:
    return (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())


def _cut(
    network: nn.Module, family: Family, classifiers: tuple[str, ...], head_names: set[str]
) -> tuple[GraphCut, bool]:
    """The stages, and whether the last one ends after pooling: where weights follow, or only some tokens are pooled."""
    blocks = matching(network, family.block)
    whole = [*blocks, "patch_embed", "stem", "conv_stem"]
    ends = [("stem", f"{blocks[0]}+input"), *((path, path) for path in blocks)]
    ends[-1] = (blocks[-1], family.last or blocks[-1])
    cut = GraphCut(network, ends, whole)
    weights_after = {name for name, _ in cut.piece(len(ends)).named_parameters()}
    pools_all = not getattr(network, "num_prefix_tokens", 0) or network.global_pool == "token"
    if pools_all and weights_after <= head_names:
        return cut, False
    ends[-1] = (blocks[-1], f"{classifiers[0]}+input")
    return GraphCut(network, ends, whole), True


def _preprocessing(timm, network: nn.Module) -> ImagePreprocessing:
    config = timm.data.resolve_model_data_config(network)
    side = config["input_size"][-1]
    if config["crop_mode"] == "border" or config["input_size"][-2] != side:
        raise UnsupportedBackboneError(
            f"The weights' preprocessing is not supported: crop_mode={config['crop_mode']!r}, "
            f"input_size={config['input_size']!r}. Expected a square input, and 'center' or 'squash'."
        )
    return ImagePreprocessing(
        resize=math.floor(side / config["crop_pct"]),
        crop=side,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"].replace("random", "bilinear"),
        squash=config["crop_mode"] == "squash",
    )
