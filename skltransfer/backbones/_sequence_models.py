"""What follows an encoder in a sequence model of transformers: its decoder, its output layer, its head for answers.

Of a model with a decoder, the library's own code runs, without its encoder: what that would have returned is handed to
the model. Must not know targets, training or the store.
"""

from typing import Any

import torch
from torch import nn

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._generation_options import LISTS, make_reproducible
from skltransfer.backbones._random import seeded
from skltransfer.backbones._target_texts import TargetTexts
from skltransfer.backbones._transformers import quietly
from skltransfer.backbones._weights import fingerprint, random_seed
from skltransfer.backbones._whole_models import base_weights, config_of, once_per_backbone, tokenizer_of, whole_model
from skltransfer.exceptions import UnsupportedBackboneError

CLASSES = {
    "text to text": "AutoModelForSeq2SeqLM",
    "speech to text": "AutoModelForSpeechSeq2Seq",
}
IGNORED = -100  # label of a position without a target, in the whole library
TOY_WRITER = "toy:text-to-text"
TOY_SEED = 20_261_130


class LentEncoder(nn.Module):
    """Stands where a model had its encoder, and looks like it: models read its attributes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.__dict__["lent"] = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["lent"], name)

    def __deepcopy__(self, memo: dict) -> "LentEncoder":
        return self  # it has no weights of its own

    def __reduce__(self) -> Any:
        raise TypeError("A lent encoder is not pickled: the network's state is.")


class DecoderModel(nn.Module):
    """A model of transformers that writes what its encoder read, without its encoder.

    Parameters
    ----------
    model : nn.Module
        Model with an encoder.
    encoder : nn.Module
        Network whose output the decoder will be given.
    texts : TargetTexts
        From texts to token ids, and back.

    Attributes
    ----------
    fingerprint : str
        Hash of the weights.
    name_of_tokens : str or None
        Name of the token vectors, if they are the encoder's, as one tensor.
    """

    def __init__(self, model: nn.Module, encoder: nn.Module, texts: TargetTexts) -> None:
        super().__init__()
        own, tokens = model.get_encoder(), model.get_input_embeddings()
        shared = tokens.weight if isinstance(tokens, nn.Embedding) else None
        (path,) = [name for name, part in model.named_modules() if part is own]
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, LentEncoder(encoder))
        self.model, self.texts = model, texts
        theirs = {id(p) for p in own.parameters()}
        names = [name for name, p in model.named_parameters(remove_duplicate=False) if p is shared and id(p) in theirs]
        self.name_of_tokens = names[0] if names else None
        if self.is_tied:
            self.use_tokens(encoder.get_input_embeddings().weight)
        self.fingerprint = fingerprint(self.state_dict())

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary that is written."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def longest(self) -> int | None:
        """Number of tokens that the decoder has positions for; None where there is no limit."""
        config = self.model.config
        for name in ("max_target_positions", "max_position_embeddings"):
            if getattr(config, name, None):
                return int(getattr(config, name))
        return None

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages among which a network of speech must be told the one to write; empty for others."""
        known = getattr(self.model.generation_config, "lang_to_id", None) or {}
        is_told = getattr(self.model.generation_config, "is_multilingual", bool(known))
        return tuple(sorted(name.strip("<|>") for name in known)) if is_told else ()

    @property
    def never_written(self) -> dict[str, list[int]]:
        """Tokens that ``generate`` writes nowhere, and not at the beginning, by the settings in the folder."""
        config = self.model.generation_config
        return {name: list(getattr(config, name, None) or []) for name in LISTS}

    @property
    def own_language(self) -> str | None:
        """The language that a checkpoint says it writes, of those that it knows."""
        return getattr(self.model.generation_config, "language", None) or self.texts.language

    @property
    def is_tied(self) -> bool:
        """True if the decoder has the encoder's token vectors, as one tensor."""
        return self.name_of_tokens is not None

    @property
    def tokens(self) -> nn.Parameter:
        """Vectors of tokens that encoder and decoder share, (vocabulary, d)."""
        return self.model.get_parameter(self.name_of_tokens)

    def use_tokens(self, tokens: nn.Parameter) -> None:
        """Put a parameter in the place of the token vectors, wherever the model has these."""
        own = self.tokens
        for part in self.model.modules():
            for name, value in list(part._parameters.items()):
                if value is own:
                    part._parameters[name] = tokens

    def logits(self, hidden: torch.Tensor, mask: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
        """Scores of the tokens (n, length, vocabulary) when the right ones come before each (teacher forcing).

        Parameters
        ----------
        hidden : Tensor of shape (n, tokens, d)
            Output of the encoder.
        mask : Tensor of bool, shape (n, tokens), or None
            Tokens that are not padding.
        labels : Tensor of int, shape (n, length)
            Right tokens, ``IGNORED`` after the last one.
        """
        shifted = self._shifted(labels)
        return self.model(**_heard(hidden, mask), decoder_input_ids=shifted, use_cache=False).logits

    def _shifted(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder reads to write the labels: the token that it begins with, and all labels but the last."""
        if hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            return self.model.prepare_decoder_input_ids_from_labels(labels)
        config = self.model.config
        begin = labels.new_full((len(labels), 1), config.decoder_start_token_id)
        return torch.cat([begin, labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, config.pad_token_id)], dim=1)

    def generate(self, hidden: torch.Tensor, mask: torch.Tensor | None, **how: Any) -> torch.Tensor:
        """Token ids that the library's own ``generate`` finds, (n, length), with whatever begins and pads them."""
        with quietly():  # it warns of arguments that it hands to itself
            return self.model.generate(**_heard(hidden, mask), **how)

    @property
    def not_adapted(self) -> tuple[str, ...]:
        """Paths of linear maps that get no adapter: the output layer, as in the library's own adapters."""
        return tuple(
            f"model.{n}" for n, part in self.model.named_modules() if part is self.model.get_output_embeddings()
        )


def _heard(hidden: torch.Tensor, mask: torch.Tensor | None) -> dict[str, Any]:
    from transformers.modeling_outputs import BaseModelOutput

    found = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden)}
    return found if mask is None else {**found, "attention_mask": mask.long()}


@once_per_backbone
def decoder_model(backbone: Backbone, kind: str) -> DecoderModel:
    """What follows a backbone in the model that it is part of: shared, in evaluation mode. It must not be changed.

    Parameters
    ----------
    backbone : Backbone
        An encoder.
    kind : {"text to text", "speech to text"}
        Kind of the model.

    Raises
    ------
    UnsupportedBackboneError
        If the backbone is no encoder of such a model, or its weights come from a file without the decoder's.
    """
    if backbone.name == TOY_WRITER and kind == "text to text":
        model, tokenizer = toy_writer(_toy_seed(backbone))
    else:
        model, tokenizer = _read(backbone, kind)
    make_reproducible(model.generation_config)
    texts = _texts(model, tokenizer, backbone.name)
    return DecoderModel(model.eval(), backbone.library_network, texts).requires_grad_(False)


def _read(backbone: Backbone, kind: str) -> tuple[nn.Module, Any]:
    """A whole model and its tokenizer."""
    import transformers

    weights = base_weights(backbone)
    seed = random_seed(weights) if isinstance(weights, str) else None
    if not backbone.name.startswith("hf:"):
        raise _refusal(backbone, kind, "it has no decoder")
    if seed is None and weights != "pretrained":
        raise _refusal(backbone, kind, f"weights={str(weights)!r} holds no decoder")
    config, auto = config_of(backbone), getattr(transformers, CLASSES[kind])
    if not config.is_encoder_decoder or type(config) not in auto._model_mapping:
        raise _refusal(backbone, kind, f"{type(config).__name__.removesuffix('Config')} has no decoder for it")
    if seed is None:
        model, absent = whole_model(backbone, auto)
    else:
        with seeded(seed), quietly():
            model, absent = auto.from_config(config, dtype=torch.float32), []
    if absent:
        raise _refusal(backbone, kind, f"its files lack {absent[:3]}, weights of the decoder")
    return model, tokenizer_of(backbone)


def _texts(model: nn.Module, tokenizer: Any, name: str) -> TargetTexts:
    config = model.generation_config
    end = config.eos_token_id if config.eos_token_id is not None else model.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    _set_language(model, tokenizer, name)
    begin = config.decoder_start_token_id
    return TargetTexts(tokenizer, end, None if begin == end else begin)


def _set_language(model: nn.Module, tokenizer: Any, name: str) -> None:
    """Let ``generate`` begin in the language that the tokenizer marks targets with, unless the folder says it."""
    config = model.generation_config
    if not hasattr(tokenizer, "tgt_lang"):
        return
    if tokenizer.tgt_lang is None:
        raise UnsupportedBackboneError(
            f"{name!r} writes several languages, and its tokenizer names no target language. Load the tokenizer with "
            "src_lang and tgt_lang, save it and the model to a folder with save_pretrained, and name the folder."
        )
    ids, language = tokenizer(text_target="a")["input_ids"], tokenizer.convert_tokens_to_ids(tokenizer.tgt_lang)
    if ids[0] == language and config.forced_bos_token_id is None:
        config.forced_bos_token_id = language
    elif ids[-1] == language and model.config.decoder_start_token_id is None:
        config.decoder_start_token_id = language


def toy_writer(seed: int) -> tuple[nn.Module, Any]:
    """A tiny T5 with random weights, and a tokenizer of bytes."""
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    tokenizer = ByT5Tokenizer(extra_ids=0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": len(tokenizer)}
    with seeded(seed):
        config = T5Config(**sizes, dropout_rate=0.05, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
        return T5ForConditionalGeneration(config).eval(), tokenizer


def toy_encoder(seed: int) -> tuple[nn.Module, Any]:
    """The encoder of :func:`toy_writer`, as the library's model of it alone; and the tokenizer."""
    from transformers import T5EncoderModel

    model, tokenizer = toy_writer(seed)
    with seeded(0):
        encoder = T5EncoderModel(model.config).eval()
    encoder.load_state_dict(model.state_dict(), strict=False)
    return encoder, tokenizer


def _toy_seed(backbone: Backbone) -> int:
    weights = base_weights(backbone)
    seed = random_seed(weights) if isinstance(weights, str) else None
    return TOY_SEED if seed is None else seed


def _refusal(backbone: Backbone, kind: str, reason: str) -> UnsupportedBackboneError:
    example = {"text to text": "T5, BART or Marian", "speech to text": "Whisper"}[kind]
    return UnsupportedBackboneError(
        f"{backbone.name!r} cannot write texts: {reason}. Choose a whole {kind} model, such as one of {example}: "
        "backbone='hf:<name or folder>'."
    )


@once_per_backbone
def span_head(backbone: Backbone) -> nn.Sequential | None:
    """The head with which a checkpoint finds answers, from tokens (n, tokens, d) to two scores each; None without one.

    Dropout and a linear layer, in evaluation mode and shared: it must not be changed. None also where the library
    computes something else.

    Parameters
    ----------
    backbone : Backbone
        The network whose checkpoint is read.
    """
    import transformers

    if not backbone.name.startswith("hf:") or base_weights(backbone) != "pretrained":
        return None
    config = config_of(backbone)
    kinds = getattr(config, "architectures", None) or ()
    if config.is_encoder_decoder or not any(kind.endswith("ForQuestionAnswering") for kind in kinds):
        return None
    model, absent = whole_model(backbone, transformers.AutoModelForQuestionAnswering)
    last = getattr(model, "qa_outputs", None)
    if absent or not isinstance(last, nn.Linear) or last.out_features != 2:
        return None
    dropout = getattr(model, "dropout", None)  # DistilBERT alone has one
    head = nn.Sequential(nn.Dropout(dropout.p if isinstance(dropout, nn.Dropout) else 0.0), last).eval()
    return head.requires_grad_(False) if _is_whole(head, model.eval()) else None


@torch.inference_mode()
def _is_whole(head: nn.Module, model: nn.Module) -> bool:
    """True if a model computes nothing between its encoder and its head, and tells its encoder nothing but tokens."""
    ids = torch.arange(6)[None] % model.config.vocab_size
    try:
        found, encoded = model(input_ids=ids), getattr(model, model.base_model_prefix)(input_ids=ids)[0]
    except (IndexError, RuntimeError, ValueError):  # Longformer looks for separators
        return False
    scores = getattr(found, "start_logits", None), getattr(found, "end_logits", None)
    ours = head(encoded).unbind(-1)
    return all(a is not None and a.shape == b.shape and torch.allclose(a, b) for a, b in zip(scores, ours, strict=True))
