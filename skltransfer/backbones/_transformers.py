"""Networks of transformers, from the hub or from a folder, cut at their layers; the only importer of transformers.

Weights are safetensors, or are read without unpickling; a repository's own code runs only if the user allows it.
Folders of sentence-transformers are recognised: their pooling, normalisation and length are honoured.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._layer_cut import LayerCut
from skltransfer.backbones._random import seeded
from skltransfer.backbones._tokens import TextPreprocessing
from skltransfer.backbones._weights import fit_state, random_seed, read_state
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

LONGEST = 512  # tokens, where neither model nor tokenizer says less
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
POOLINGS |= {"pooling_mode_lasttoken": "last"}


def load_transformer(name: str, weights: str, options: Mapping[str, object]) -> Backbone:
    """The adapter behind ``hf:<name>``, ``hf:<name>@<revision>`` and ``hf:<folder>``."""
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    place, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    shared = {"revision": revision or "main", "trust_remote_code": bool(options.get("trust_remote_code", False))}
    shared["local_files_only"] = bool(options.get("local_files_only", False))
    try:
        config = AutoConfig.from_pretrained(place, **shared)
        tokenizer = AutoTokenizer.from_pretrained(place, **shared)
        seed = random_seed(weights)
        kind = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        with seeded(seed or 0), _no_progress_bars():
            if weights == "pretrained":
                network = kind.from_pretrained(place, config=config, dtype="float32", **shared)
            else:
                network = kind.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise _explained(error, name, place) from error
    network = _without_pooler(network).eval()
    if seed is None and weights != "pretrained":
        fit_state(network, read_state(weights), optional=(), where=f"weights={weights!r}")
    wrapped = _sentence_transformer(Path(place))
    longest = min(
        wrapped.get("max_seq_length") or LONGEST,
        getattr(tokenizer, "model_max_length", LONGEST),
        _positions(config),
        int(options.get("max_length") or LONGEST**2),
    )
    return Backbone(
        LayerCut(network),
        name=f"hf:{name}",
        weights=weights,
        preprocessing=TextPreprocessing.of(tokenizer, longest),
        pooling=wrapped.get("pooling") or _pooling(config),
        unit_length=bool(wrapped.get("unit_length")),
        head_names=(),
        options=options,
    )


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _explained(error: Exception, name: str, place: str) -> Exception:
    from huggingface_hub.constants import HF_HUB_CACHE

    if Path(place).is_dir():
        return BackboneNotFoundError(f"The folder {place!r} holds no model that transformers can load: {error}")
    return WeightsError(
        f"'hf:{name}' could not be loaded ({error}). On a machine with network, run "
        f"skltransfer.load_backbone('hf:{name}') and copy the cache folder {HF_HUB_CACHE}; or name a local folder: "
        "backbone='hf:<folder>'."
    )


def _without_pooler(network):
    """Poolers are trained for what the source head needs; features are pooled from the last layer."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


def _positions(config) -> int:
    """How many tokens the model has positions for."""
    n = getattr(config, "max_position_embeddings", None) or LONGEST**2
    return n - 2 if config.model_type in ("roberta", "mpnet", "xlm-roberta", "camembert", "longformer", "esm") else n


def _pooling(config) -> str:
    """Decoders read from left to right, so that only the last token has seen all; others are averaged."""
    return "last" if getattr(config, "is_decoder", False) or config.model_type in DECODERS else "mean"


DECODERS = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "opt", "bloom")


def _sentence_transformer(folder: Path) -> dict[str, object]:
    """What a sentence-transformers folder says about pooling, normalisation and length."""
    if not (folder / "modules.json").is_file():
        return {}
    found: dict[str, object] = {}
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            settings = json.loads((folder / module["path"] / "config.json").read_text(encoding="utf-8"))
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
