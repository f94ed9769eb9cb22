"""Networks of transformers, from the hub or from a folder, cut at their layers.

Weights are safetensors, or are read without unpickling; a repository's own code runs only if the user allows it.
Folders of sentence-transformers are recognised: their pooling, normalisation and length are honoured.
"""

import contextlib
import inspect
import json
import operator
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._hub import hub_folder
from skltransfer.backbones._image_processors import image_preprocessing
from skltransfer.backbones._layer_cut import DenseEntry, Entry, LayerCut, TokenEntry, WaveformEntry
from skltransfer.backbones._pairs import segment_step
from skltransfer.backbones._preprocessing import ImagePreprocessing, Preprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._tokens import TextPreprocessing, chosen_max_length
from skltransfer.backbones._waveforms import AudioPreprocessing, shortest_input
from skltransfer.backbones._weights import fit_state, random_seed, read_state
from skltransfer.exceptions import (
    BackboneNotFoundError,
    SkltransferError,
    UnsupportedBackboneError,
    WeightsError,
)

OF_THE_NETWORK = (AssertionError, AttributeError, IndexError, NotImplementedError, TypeError, ZeroDivisionError)
NEVER_READ = ("masked_spec_embed",)  # weights that only pretraining needs
LONGEST = 512  # tokens, where neither model nor tokenizer says less
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
POOLINGS |= {"pooling_mode_lasttoken": "last"}


def load_transformer(
    name: str,
    weights: str,
    options: Mapping[str, object],
    *,
    outline: bool = False,
    about: Mapping[str, object] = MappingProxyType({}),
) -> Backbone:
    """The adapter behind ``hf:<name>``, ``hf:<name>@<revision>`` and ``hf:<folder>``; ``:vision`` names a tower.

    An ``outline`` needs the configuration and what prepares samples, but no weights. ``about`` holds arguments of
    :class:`Backbone`: a ``name`` that is not ``hf:<name>``, the weights' licence and source.
    """
    place, tower, shared = located(name, options)
    about = {"name": f"hf:{name}", **about}
    called, seed = str(about["name"]), random_seed(weights)
    with _explaining(called, place):
        with seeded(seed or 0), quietly():
            network = _network(called, place, tower, shared, is_read=weights == "pretrained" and not outline)
        reader = READERS[network.main_input_name](called, place, network, options, shared)
        wrapped = _sentence_transformer(Path(place))
    if options.get("input_size") and reader.modality != "image":
        raise UnsupportedBackboneError(f"{called!r} reads no images; leave out input_size.")
    if seed is None and weights != "pretrained":
        fit_state(network, read_state(weights), optional=(), where=f"weights={weights!r}")
    cut = LayerCut(network, _entry(network, reader))
    backbone = Backbone(
        cut,
        weights=weights,
        preprocessing=reader,
        pooling=wrapped.get("pooling") or _pooling(cut),
        unit_length=bool(wrapped.get("unit_length")),
        head_names=(),
        options=options,
        maps_end_in_channels=[i for i, shape in enumerate(cut.shapes, 1) if _ends_in_channels(shape)],
        **about,
    )
    backbone.verify()
    return backbone


def located(name: str, options: Mapping[str, object]) -> tuple[str, str, dict[str, object]]:
    """A repository or folder, a tower of its network, and how transformers is to load from there."""
    place, tower = name, ""
    if name.endswith((":vision", ":text")):
        place, _, tower = name.rpartition(":")
    place, _, revision = (place, "", "") if os.path.isdir(place) else place.partition("@")
    shared = {"revision": revision or "main", "trust_remote_code": bool(options.get("trust_remote_code", False))}
    return place, tower, shared | {"local_files_only": bool(options.get("local_files_only", False))}


def _kind(name: str, place: str, tower: str, shared: Mapping[str, object]) -> tuple:
    """The class of transformers, and the configuration, of an encoder or of one tower of a network that has two."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(place, **shared)
    if config.model_type == "timm_wrapper":
        raise UnsupportedBackboneError(f"{name!r} is a network of timm: write 'timm:{name.rpartition('/')[2]}'.")
    is_encoder = config.is_encoder_decoder and type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    kind = transformers.AutoModelForTextEncoding if is_encoder else transformers.AutoModel
    if hasattr(config, "vision_config") and hasattr(config, "text_config"):
        if not tower:
            raise UnsupportedBackboneError(
                f"{name!r} has a tower for images and one for texts: name '{name}:vision' or '{name}:text'."
            )
        family = type(config).__name__.removesuffix("Config")
        kind = getattr(transformers, f"{family}{tower.capitalize()}Model", None)
        if kind is None:
            raise UnsupportedBackboneError(f"{name!r} cannot be cut: {family} has no model for its {tower} tower.")
        config = getattr(config, f"{tower}_config")
    return kind, config


def _network(name: str, place: str, tower: str, shared: Mapping[str, object], *, is_read: bool):
    """The encoder, with its own weights if they are to be read, or with random ones."""
    import transformers

    kind, config = _kind(name, place, tower, shared)
    absent: list[str] = []
    if is_read:
        network, told = kind.from_pretrained(place, config=config, dtype="float32", output_loading_info=True, **shared)
        absent = [key for key in told["missing_keys"] if not key.endswith(NEVER_READ) and not is_computed(network, key)]
    else:
        of_auto = hasattr(kind, "from_config")
        network = kind.from_config(config, dtype=torch.float32) if of_auto else kind(config)
    state = network.state_dict(keep_vars=True)
    has_decoder = config.is_encoder_decoder and kind is transformers.AutoModel
    network = _without_pooler(network.get_encoder() if has_decoder else network).eval()
    _refuse_random({id(state[key]): key for key in absent if key in state}, network, name)
    _make_deterministic(network)
    if network.main_input_name not in READERS:
        raise UnsupportedBackboneError(
            f"{name!r} reads {network.main_input_name!r}; networks that read one of {sorted(READERS)} are supported."
        )
    return network


def is_computed(network, key: str) -> bool:
    """True for weights that a library computes, and leaves out of its files: sines of positions."""
    return "Sinusoidal" in type(network.get_submodule(key.rpartition(".")[0])).__name__


def _make_deterministic(network) -> None:
    """Turn off what a configuration may ask for that is no part of a forward pass cut into stages."""
    for part in (network.config, network):
        if getattr(part, "layerdrop", 0):
            part.layerdrop = 0.0  # a suffix whose first layer were dropped would lose what it was handed
    if getattr(network.config, "apply_spec_augment", False):
        network.config.apply_spec_augment = False  # draws from numpy's global generator
    network.config.output_hidden_states, network.config.return_dict = False, True


def _text_preprocessing(name: str, place: str, network, options: Mapping[str, object], shared) -> TextPreprocessing:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place, **shared)
    largest, n_embeddings = max(tokenizer.get_vocab().values()), network.get_input_embeddings().num_embeddings
    if largest >= n_embeddings:
        raise UnsupportedBackboneError(
            f"The tokenizer of {name!r} makes token ids up to {largest}, the network knows {n_embeddings}: they do not "
            "belong together. Save the tokenizer that the network was trained with beside it."
        )
    known = _sentence_transformer(Path(place)).get("max_seq_length") or LONGEST
    most = positions(network.config)
    usual = min(known, getattr(tokenizer, "model_max_length", LONGEST), most)
    longest = chosen_max_length(options, usual, most, name)
    takes_segments = "token_type_ids" in inspect.signature(network.forward).parameters
    n_segments = getattr(network.config, "type_vocab_size", None) or 0
    step = segment_step(tokenizer, n_segments, n_embeddings) if takes_segments else 0
    return TextPreprocessing.of(tokenizer, longest, options.get("long_samples") or "truncate", segment_step=step)


def _image_preprocessing(name: str, place: str, network, options: Mapping[str, object], shared) -> ImagePreprocessing:
    """As the processor says that is stored beside the weights."""
    from transformers import AutoImageProcessor

    reader = image_preprocessing(AutoImageProcessor.from_pretrained(place, **shared), name)
    return reader.at(options.get("input_size"))


def _audio_preprocessing(name: str, place: str, network, options: Mapping[str, object], shared) -> AudioPreprocessing:
    from transformers import AutoFeatureExtractor

    kernels, strides = (getattr(network.config, name, ()) for name in ("conv_kernel", "conv_stride"))
    extractor = AutoFeatureExtractor.from_pretrained(place, **shared)
    long_samples = options.get("long_samples") or "truncate"
    reader = AudioPreprocessing.of(extractor, long_samples, shortest_input(kernels, strides))
    if reader.shape is not None and reader.extracted(np.zeros(2 * reader.rate, np.float32)).shape != reader.shape:
        raise UnsupportedBackboneError(
            f"The preprocessing of {name!r} cannot be reproduced: its spectrograms are as long as their audio clips. "
            "Choose a network that reads waveforms, such as Wav2Vec2, or spectrograms of one length, such as Whisper."
        )
    return reader


READERS = {
    "input_ids": _text_preprocessing,
    "pixel_values": _image_preprocessing,
    "input_values": _audio_preprocessing,
    "input_features": _audio_preprocessing,
}


def _entry(network, reader: Preprocessing) -> Entry:
    if reader.modality == "text":
        return TokenEntry(network, reader.segment_step)
    if reader.is_ragged:
        return WaveformEntry(network.config.conv_kernel, network.config.conv_stride)
    return DenseEntry(network.main_input_name, reader.input_shape)


def _refuse_random(absent: Mapping[int, str], network, name: str) -> None:
    """transformers fills what a file lacks with random numbers; where that is read, it must not go unseen."""
    lacking = sorted(absent[id(value)] for value in network.state_dict(keep_vars=True).values() if id(value) in absent)
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise WeightsError(
            f"{name!r} lacks the weights {lacking[:3]}{more}, which would be random. Get the whole model; or "
            "ask for weights='random'."
        )


@contextlib.contextmanager
def _explaining(name: str, place: str) -> Iterator[None]:
    """Errors of the library about an invalid folder, with the remedy."""
    try:
        yield
    except (ImportError, MemoryError, SkltransferError, *OF_THE_NETWORK):
        raise
    except Exception as error:
        raise _explained(error, name, place) from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the library's progress bars, and its reports of weights that a file has or lacks: those are checked."""
    from transformers.utils import logging

    was_on, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if was_on:
            logging.enable_progress_bar()


def _explained(error: Exception, name: str, place: str) -> Exception:
    reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    if isinstance(error, pickle.UnpicklingError):
        reason = "its weights hold more than tensors, and nothing is ever unpickled; save them as safetensors"
    if "Unrecognized configuration class" in reason:
        return UnsupportedBackboneError(
            f"{name!r} cannot be cut into stages: it is no encoder that transformers knows as one ({reason[:90]}…). "
            "Choose another backbone; list_backbones() names some."
        )
    if os.path.isdir(place):
        return BackboneNotFoundError(f"The folder {place!r} holds no model that transformers can load: {reason}.")
    return WeightsError(
        f"{name!r} could not be loaded ({reason}). On a machine with network, run "
        f"skltransfer.load_backbone({name!r}) and copy the cache folder {hub_folder()}; or name a local folder: "
        "backbone='hf:<folder>'."
    )


class _Output(tuple):
    """Output of an encoder of transformers, read by position or by name."""

    last_hidden_state = property(operator.itemgetter(0))
    hidden_states = attentions = None


class _Given(nn.Module):
    """Stands where the encoder of a language model was, and returns what that would have; looks like it otherwise."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.__dict__["encoder"], self.__dict__["hidden"] = encoder, None

    def __getattr__(self, name: str):
        return getattr(self.__dict__["encoder"], name)

    def forward(self, *args, **kwargs) -> _Output:
        return _Output([self.__dict__["hidden"]])


class LanguageHead(nn.Module):
    """The part of a library's own language model after its encoder: vectors (k, d) -> scores (k, vocabulary).

    Parameters
    ----------
    model : nn.Module
        With its encoder.
    encoder : nn.Module
        Whose token vectors the scores are made with, where the model's own encoder shared them.
    """

    def __init__(self, model: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        tokens, last = encoder.get_input_embeddings(), model.get_output_embeddings()
        if last.weight is model.get_input_embeddings().weight:
            last.weight = tokens.weight
        setattr(model, model.base_model_prefix, _Given(encoder))
        self.model, self.tokens = model, tokens

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        given = getattr(self.model, self.model.base_model_prefix)
        given.__dict__["hidden"] = vectors[None]
        return self.model(input_ids=torch.zeros(1, len(vectors), dtype=torch.long, device=vectors.device)).logits[0]


def own_language_head(name: str, encoder: nn.Module, options: Mapping[str, object]) -> LanguageHead | None:
    """The head with which a checkpoint guesses hidden tokens, if it has one."""
    import transformers

    place, _, shared = located(name, options)
    kinds = getattr(transformers.AutoConfig.from_pretrained(place, **shared), "architectures", None) or ()
    if not any(kind.endswith(("ForMaskedLM", "ForPreTraining")) for kind in kinds):
        return None
    with seeded(0), quietly():
        model, found = transformers.AutoModelForMaskedLM.from_pretrained(
            place, dtype="float32", output_loading_info=True, **shared
        )
    return None if found["missing_keys"] else LanguageHead(model, encoder)


class SharedSpace(NamedTuple):
    """The space in which a network compares images and texts.

    Attributes
    ----------
    projection : nn.Module
        Map from the pooled output of one tower, (n, d), to this space, (n, width): for images a layer norm and a linear
        layer without bias, for texts the linear layer.
    width : int
        Number of dimensions of the space.
    scale : float
        Number by which the network multiplies cosines before a softmax.
    """

    projection: nn.Module
    width: int
    scale: float


def own_shared_space(name: str, options: Mapping[str, object]) -> SharedSpace | None:
    """The space that a tower of CLIP shares with the other one; None for other networks."""
    import transformers

    place, tower, shared = located(name, options)
    if not tower or transformers.AutoConfig.from_pretrained(place, **shared).model_type != "clip":
        return None
    with seeded(0), quietly():
        model, found = transformers.CLIPModel.from_pretrained(
            place, dtype="float32", output_loading_info=True, **shared
        )
    norm = model.vision_model.post_layernorm
    if found["missing_keys"] or norm.eps != nn.LayerNorm(1).eps:  # which a readout's own norm has
        return None
    of_images = nn.Sequential(norm, model.visual_projection)
    projection = of_images if tower == "vision" else model.text_projection
    return SharedSpace(projection.eval(), model.projection_dim, model.logit_scale.exp().item())


def _without_pooler(network):
    """Poolers are trained for the original head; features are pooled from the last layer.

    Those without weights stay: networks of maps call theirs without asking whether there is one.
    """
    pooler = getattr(network, "pooler", None)
    if isinstance(pooler, torch.nn.Module) and any(True for _ in pooler.parameters()):
        network.pooler = None
    return network


def positions(config) -> int:
    """How many tokens the model has positions for."""
    n = getattr(config, "max_position_embeddings", None) or LONGEST**2
    return n - 2 if config.model_type in ("roberta", "mpnet", "xlm-roberta", "camembert", "longformer", "esm") else n


def _pooling(cut: LayerCut) -> str:
    """How tokens become a vector: by the class token, which some networks of images add before their layers; by the
    last token, which alone has seen all, where a network reads from left to right; else by the mean."""
    network, kind = cut.network, cut.network.config.model_type
    if network.main_input_name == "pixel_values":
        has_class_token = any(name.endswith(CLASS_TOKENS) for name in cut.parameter_names(0))
        return "cls" if has_class_token and len(cut.shapes[-1]) == 2 else "mean"
    reads_on = getattr(network.config, "is_decoder", False) or kind in (*DECODERS, "clip_text_model")
    return "last" if reads_on else "mean"


def _ends_in_channels(shape: tuple[int, ...]) -> bool:
    """True if maps of square images are (h, w, c), not (c, h, w)."""
    return len(shape) == 3 and shape[0] == shape[1] != shape[2]


CLASS_TOKENS = ("cls_token", "class_embedding")
DECODERS = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "opt", "bloom")


def _sentence_transformer(folder: Path) -> dict[str, object]:
    """Pooling, normalisation and length as a sentence-transformers folder states them."""
    if not (folder / "modules.json").is_file():
        return {}
    found: dict[str, object] = {}
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            file = folder / module["path"] / "config.json"
            if not file.resolve().is_relative_to(folder.resolve()):
                raise UnsupportedBackboneError(f"{folder} asks for a file outside of it: {module['path']!r}.")
            settings = json.loads(file.read_text(encoding="utf-8"))
            modes = [how for key, how in POOLINGS.items() if settings.get(key)]
            if len(modes) != 1:
                raise UnsupportedBackboneError(f"{folder} pools in a way that is not supported: {settings}.")
            found["pooling"] = modes[0]
        elif kind == "Normalize":
            found["unit_length"] = True
        elif kind != "Transformer":
            raise UnsupportedBackboneError(f"{folder} has a module of kind {kind!r}, which is not supported.")
    settings = folder / "sentence_bert_config.json"
    if settings.is_file():
        found["max_seq_length"] = json.loads(settings.read_text(encoding="utf-8")).get("max_seq_length")
    return found
