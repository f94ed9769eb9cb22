"""What follows an encoder in a sequence model of transformers: its decoder, and its output layer.

The library's own model runs, without its encoder: what that would have returned is handed to the model. Must not know
targets, training or the store.
"""

import weakref
from typing import Any

import torch
from torch import nn

from skltransfer._system.forks import Lock
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._random import seeded
from skltransfer.backbones._target_texts import TargetTexts
from skltransfer.backbones._transformers import located, quietly
from skltransfer.backbones._weights import fingerprint, random_seed
from skltransfer.exceptions import UnsupportedBackboneError

CLASSES = {
    "text to text": "AutoModelForSeq2SeqLM",
    "speech to text": "AutoModelForSpeechSeq2Seq",
}
IGNORED = -100  # label of a position without a target, in the whole library


class _LentEncoder(nn.Module):
    """Stands where a model had its encoder, and looks like it: models read its attributes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.__dict__["lent"] = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["lent"], name)

    def __deepcopy__(self, memo: dict) -> "_LentEncoder":
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
    is_tied : bool
        True if the decoder has the encoder's token vectors, as one tensor.
    """

    def __init__(self, model: nn.Module, encoder: nn.Module, texts: TargetTexts) -> None:
        super().__init__()
        own = model.get_encoder()
        theirs, tokens = {id(p) for p in own.parameters()}, model.get_input_embeddings()
        self.is_tied = isinstance(tokens, nn.Embedding) and id(tokens.weight) in theirs
        (path,) = [name for name, part in model.named_modules() if part is own]
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, _LentEncoder(encoder))
        self.model, self.texts = model, texts
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
    def own_language(self) -> str | None:
        """The language that a checkpoint says it writes, of those that it knows."""
        return getattr(self.model.generation_config, "language", None) or self.texts.language

    @property
    def tokens(self) -> nn.Parameter:
        """Vectors of the decoder's tokens, (vocabulary, d)."""
        return self.model.get_input_embeddings().weight

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


def _heard(hidden: torch.Tensor, mask: torch.Tensor | None) -> dict[str, Any]:
    from transformers.modeling_outputs import BaseModelOutput

    found = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden)}
    return found if mask is None else {**found, "attention_mask": mask.long()}


def decoder_model(backbone: Backbone, kind: str) -> DecoderModel:
    """What follows a backbone in the model that it is part of: shared, in evaluation mode. It must not be changed.

    Parameters
    ----------
    backbone : Backbone
        An encoder.
    kind : {"text to text", "speech to text"}
        What the model does.

    Raises
    ------
    UnsupportedBackboneError
        If the backbone is no encoder of such a model, or its weights come from a file without the decoder's.
    """
    with _lock:
        known = _models.get(backbone, {}).get(kind)
    if known is not None:
        return known
    made = _loaded(backbone, kind)  # outside of the lock: others are taken in it
    with _lock:
        return _models.setdefault(backbone, {}).setdefault(kind, made)


def _loaded(backbone: Backbone, kind: str) -> DecoderModel:
    import transformers

    weights = getattr(backbone.weights, "base", backbone.weights)
    seed = random_seed(weights) if isinstance(weights, str) else None
    if not backbone.name.startswith("hf:"):
        raise _refusal(backbone, kind, "it is not a network of transformers")
    if seed is None and weights != "pretrained":
        raise _refusal(backbone, kind, f"weights={weights!r} holds no decoder")
    place, tower, shared = located(backbone.name.removeprefix("hf:"), backbone.options)
    config = transformers.AutoConfig.from_pretrained(place, **shared)
    auto = getattr(transformers, CLASSES[kind])
    if tower or not config.is_encoder_decoder or type(config) not in auto._model_mapping:
        raise _refusal(backbone, kind, f"{type(config).__name__.removesuffix('Config')} has no decoder for it")
    with seeded(seed or 0), quietly():
        if seed is not None:
            model, absent = auto.from_config(config, dtype=torch.float32), []
        else:
            model, told = auto.from_pretrained(place, dtype="float32", output_loading_info=True, **shared)
            absent = sorted(told["missing_keys"])
    if absent:
        raise _refusal(backbone, kind, f"its files lack {absent[:3]}, weights of the decoder")
    made = DecoderModel(model.eval(), backbone.library_network, _texts(model, place, shared))
    return made.requires_grad_(False)


def _texts(model: nn.Module, place: str, shared: dict[str, object]) -> TargetTexts:
    from transformers import AutoTokenizer

    tokenizer, config = AutoTokenizer.from_pretrained(place, **shared), model.generation_config
    end = config.eos_token_id if config.eos_token_id is not None else model.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    begin = config.decoder_start_token_id if config.decoder_start_token_id is not None else None
    return TargetTexts(tokenizer, end, None if begin == end else begin)


def _refusal(backbone: Backbone, kind: str, reason: str) -> UnsupportedBackboneError:
    example = {"text to text": "T5, BART or Marian", "speech to text": "Whisper"}[kind]
    return UnsupportedBackboneError(
        f"{backbone.name!r} cannot write: {reason}. Choose a whole {kind} model, such as one of {example}: "
        "backbone='hf:<name or folder>'."
    )


_models: "weakref.WeakKeyDictionary[Backbone, dict[str, DecoderModel]]" = weakref.WeakKeyDictionary()
_lock = Lock()
