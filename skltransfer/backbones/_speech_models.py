"""How networks of speech write: with a decoder, or a letter per frame (CTC), whose head a checkpoint may bring.

Must not know targets, training or the store.
"""

from typing import Any

from torch import nn

from skltransfer._system.forks import Lock
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._weights import fingerprint, random_seed
from skltransfer.backbones._whole_models import base_weights, config_of, once_per_backbone, tokenizer_of, whole_model
from skltransfer.exceptions import UnsupportedBackboneError

DECODER, FRAMES = "decoder", "frames"


class CtcTexts:
    """Token ids of texts that are written a letter per frame, by a checkpoint's own tokenizer.

    Parameters
    ----------
    tokenizer : object
        Tokenizer of transformers for CTC.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._lock = tokenizer, Lock()
        self._unknown = tokenizer.unk_token_id

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        with self._lock:
            return list(self._tokenizer(" ".join(text.split()), add_special_tokens=False)["input_ids"])

    def text(self, ids: list[int]) -> str:
        """The text that token ids stand for, of which repeats and blanks were removed."""
        with self._lock:
            return self._tokenizer.decode(ids, group_tokens=False, skip_special_tokens=True)

    @property
    def vocabulary(self) -> list[str]:
        """The tokens, by their ids."""
        known = self._tokenizer.get_vocab()
        return sorted(known, key=known.get)

    @property
    def letters(self) -> list[str]:
        """The tokens that are single letters, sorted."""
        return sorted(token for token in self.vocabulary if len(token) == 1)

    def unknown(self, text: str) -> list[str]:
        """Letters of a text that the vocabulary lacks, sorted."""
        return sorted({letter for letter in "".join(text.split()) if self._unknown in self.ids(letter)})


class CtcHead(nn.Module):
    """The head with which a checkpoint writes a letter per frame.

    Parameters
    ----------
    linear : nn.Linear
        From a frame to scores of the vocabulary.
    texts : CtcTexts
        From texts to token ids, and back.
    blank : int
        Token of a frame at which no letter begins.

    Attributes
    ----------
    fingerprint : str
        Hash of the weights.
    """

    def __init__(self, linear: nn.Linear, texts: CtcTexts, blank: int) -> None:
        super().__init__()
        self.linear, self.texts, self.blank = linear, texts, blank
        self.fingerprint = fingerprint(self.state_dict())


def way_to_write(backbone: Backbone) -> str:
    """``"decoder"`` for networks with one, ``"frames"`` for those that read a waveform to frames in their order.

    Raises
    ------
    UnsupportedBackboneError
        If the network does neither.
    """
    if getattr(getattr(backbone.library_network, "config", None), "is_encoder_decoder", False):
        return DECODER
    if backbone.modality == "audio" and backbone.is_ragged:
        return FRAMES
    raise UnsupportedBackboneError(
        f"{backbone.name!r} cannot transcribe: it has no decoder, and no frame for each moment of a waveform. Choose "
        "Whisper, such as backbone='hf:openai/whisper-base.en', or an encoder of waveforms, such as "
        "backbone='hf:facebook/wav2vec2-base'."
    )


def language_code(language: str) -> str:
    """Code of a language of Whisper by its name or code, such as ``"de"`` of ``"German"``."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    return TO_LANGUAGE_CODE.get(language.lower().strip("<|>"), language.lower().strip("<|>"))


def n_frames(backbone: Backbone, n_samples: int) -> int:
    """Number of frames that a network makes of a waveform."""
    kernels, strides = backbone.frame_convolutions
    for kernel, stride in zip(kernels, strides, strict=True):
        n_samples = (n_samples - kernel) // stride + 1
    return n_samples


def frame_dropout(backbone: Backbone) -> float:
    """Rate of the dropout before the head of a network's frames, as its library has it."""
    return float(getattr(getattr(backbone.library_network, "config", None), "final_dropout", 0.0))


@once_per_backbone
def ctc_head(backbone: Backbone) -> CtcHead | None:
    """The head of a checkpoint that was trained to transcribe; None if it has none. Shared; it must not be changed."""
    import transformers

    config = _config_of_ctc(backbone) if base_weights(backbone) == "pretrained" else None
    if config is None:
        return None
    model, absent = whole_model(backbone, transformers.AutoModelForCTC)
    absent = [key for key in absent if key.startswith("lm_head")]
    if absent:
        raise UnsupportedBackboneError(
            f"{backbone.name!r} says that it is a {config.architectures[0]}, but its files lack {absent}. Get the "
            "whole model."
        )
    head = CtcHead(model.lm_head, CtcTexts(tokenizer_of(backbone)), int(config.pad_token_id))
    return head.eval().requires_grad_(False)


def weights_without_ctc_head(backbone: Backbone) -> str | None:
    """File of the encoder's weights, if a checkpoint that was trained to transcribe has its head in other files."""
    weights = str(base_weights(backbone))
    if weights == "pretrained" or random_seed(weights) is not None or _config_of_ctc(backbone) is None:
        return None
    return weights


def _config_of_ctc(backbone: Backbone) -> Any:
    """Configuration of a checkpoint that was trained to transcribe by CTC; None of any other."""
    if not backbone.name.startswith("hf:"):
        return None
    config = config_of(backbone)
    kinds = getattr(config, "architectures", None) or ()
    return config if any(kind.endswith("ForCTC") for kind in kinds) else None
