"""What follows the stages of a causal language model of transformers: its output head; and the whole model that writes.

The library's own model runs, without its stages or with others in their place. Must not know targets, training or the
store.
"""

import contextlib
import copy
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._continuations import ContinuationReader
from skltransfer.backbones._generation_options import make_reproducible
from skltransfer.backbones._random import seeded
from skltransfer.backbones._sequence_models import LentEncoder
from skltransfer.backbones._transformers import located, positions, quietly
from skltransfer.backbones._weights import fingerprint, random_seed
from skltransfer.backbones._whole_models import base_weights, once_per_backbone, whole_model
from skltransfer.exceptions import UnsupportedBackboneError

PROBED = 6  # tokens of a text by which a network shows whether it looks ahead
CLOSE = 1e-4  # of the largest value
EXAMPLES = "GPT-2, Llama, Mistral or Qwen"


class _Vectors(tuple):
    """What stages return, read by position or by name; there is no more than vectors."""

    last_hidden_state = property(operator.itemgetter(0))

    def __getattr__(self, name: str) -> None:
        return None


class _Stages(LentEncoder):
    """Stands where a model had its stages, and returns the vectors that it is given."""

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        is_called = isinstance(found, nn.Module) and not isinstance(found, nn.Embedding)
        return _Stages(found) if is_called else found  # some models call a part of their network

    def forward(self, *args: Any, inputs_embeds: torch.Tensor, **kwargs: Any) -> _Vectors:
        return _Vectors([inputs_embeds])


class CausalHead(nn.Module):
    """The output head of a causal language model: vectors (k, d) -> scores of the next token (k, vocabulary).

    Parameters
    ----------
    model : nn.Module
        The library's model, whose head has its weights.
    network : nn.Module
        The backbone's network, which stands where the model has one of its own.
    texts : ContinuationReader
        From texts to token ids, and back.

    Attributes
    ----------
    is_tied : bool
        True if the head scores with the vectors of the tokens that the network reads, as one tensor.
    fingerprint : str
        Hash of the weights that are the head's alone.
    """

    def __init__(self, model: nn.Module, network: nn.Module, texts: ContinuationReader) -> None:
        super().__init__()
        self.is_tied = model.get_output_embeddings().weight is network.get_input_embeddings().weight
        setattr(model, model.base_model_prefix, _Stages(network))
        self.model, self.texts = model, texts
        shared = {id(p) for p in network.parameters()}
        own = {key: value for key, value in model.state_dict(keep_vars=True).items() if id(value) not in shared}
        self.fingerprint = fingerprint({key: value.detach() for key, value in own.items()}, self.is_tied)

    def __getstate__(self) -> Any:
        raise TypeError("A head is not pickled: the network's state is.")

    def __deepcopy__(self, memo: dict) -> "CausalHead":
        new = object.__new__(type(self))
        memo[id(self)] = new
        state = {key: value for key, value in vars(self).items() if key != "texts"}
        new.__dict__.update(copy.deepcopy(state, memo), texts=self.texts)
        return new

    def use_tokens(self, tokens: nn.Parameter) -> None:
        """Score with these vectors, as one tensor."""
        self.model.get_output_embeddings().weight = tokens

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=vectors[None], use_cache=False).logits[0]

    def whole(self, network: nn.Module, changed: Mapping[str, torch.Tensor]) -> nn.Module:
        """The library's model, with this head and a network some of whose weights changed; all tensors are shared.

        Parameters
        ----------
        network : nn.Module
            The backbone's network.
        changed : mapping of str to Tensor
            Parameters in the place of the network's, by name.
        """
        stages = _sharing(network)
        for name, value in changed.items():
            parent, _, leaf = name.rpartition(".")
            stages.get_submodule(parent)._parameters[leaf] = nn.Parameter(value.detach(), requires_grad=False)
        model = _sharing(self.model)
        setattr(model, model.base_model_prefix, stages)
        return model.eval().requires_grad_(False)

    @property
    def n_positions(self) -> int:
        """How many tokens the network has positions for."""
        return positions(self.model.config)


def _sharing(module: nn.Module) -> nn.Module:
    """A copy of a module that shares its tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(one): one for one in tensors})


def written(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, ends: list[int], how: Mapping[str, Any]) -> Any:
    """Token ids that the library's own ``generate`` puts after prompts, (n, length), with its cache of keys and values.

    Parameters
    ----------
    model : nn.Module
        Model that writes.
    ids, mask : Tensor, (n, tokens)
        Prompts, padded on the left, and which of their tokens are no padding.
    ends : list of int
        Tokens after which a text is finished.
    how : mapping
        Settings of the generation, in the place of the model's.
    """
    settings = copy.deepcopy(model.generation_config)
    padding = ends[0] if ends else 0
    settings.update(**how, eos_token_id=ends or None, pad_token_id=padding, max_length=None, min_length=0)
    with torch.inference_mode(), quietly():
        found = model.generate(ids, attention_mask=mask, generation_config=settings)
    return found[:, ids.shape[1] :]


@once_per_backbone
def causal_head(backbone: Backbone) -> CausalHead:
    """The output head of the causal language model that a backbone is part of: shared. It must not be changed.

    Raises
    ------
    UnsupportedBackboneError
        If the backbone is no such model, or its weights come from a file without the head's.
    """
    import transformers

    if not backbone.name.startswith("hf:"):
        raise _refusal(backbone, "it is not a network of transformers")
    network = backbone.library_network
    family, config = type(network).__name__, network.config
    if type(config) in transformers.AutoModelForSeq2SeqLM._model_mapping:
        raise _refusal(backbone, f"{family} reads what another part writes about; see FineTunedTextToText")
    auto = transformers.AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        raise _refusal(backbone, f"{family} has no output head for the next token")
    with torch.device("meta"), quietly():
        model = auto.from_config(copy.deepcopy(config))
    prefix = model.base_model_prefix
    if type(getattr(model, prefix, None)) is not type(network) or model.get_output_embeddings() is None:
        raise _refusal(backbone, f"{type(model).__name__} does not put its head on {family} alone")
    if not _reads_on(network):
        raise _refusal(backbone, f"{family} looks at the tokens that come after, so it cannot guess them")
    setattr(model, prefix, network)
    if config.tie_word_embeddings:
        model.get_output_embeddings().weight = network.get_input_embeddings().weight
    _fill(model, backbone)
    place, _, shared = located(backbone.name.removeprefix("hf:"), backbone.options)
    with quietly(), contextlib.suppress(OSError):  # a folder may hold none: the configuration then decides
        model.generation_config = transformers.GenerationConfig.from_pretrained(place, **shared)
    make_reproducible(model.generation_config)
    return CausalHead(model.eval(), network, _texts(model, backbone))


def _fill(model: nn.Module, backbone: Backbone) -> None:
    """Give the head those of its weights that are not the network's."""
    absent = [name for name, one in model.named_parameters() if one.is_meta]
    if not absent:
        return
    whole = _whole(backbone, type(model), absent)
    for name in absent:
        parent, _, leaf = name.rpartition(".")
        value = whole.get_parameter(name).detach()
        model.get_submodule(parent)._parameters[leaf] = nn.Parameter(value, requires_grad=False)


def _whole(backbone: Backbone, kind: type, absent: list[str]) -> nn.Module:
    """The library's model with weights of its own."""
    weights = base_weights(backbone)
    seed = random_seed(weights) if isinstance(weights, str) else None
    if seed is not None:
        with seeded(seed):
            return kind(copy.deepcopy(backbone.library_network.config))
    if weights != "pretrained":
        raise _refusal(backbone, f"weights={weights!r} holds no output head, which this network has apart ({absent})")
    model, missing = whole_model(backbone, kind)
    if lacking := sorted(set(absent) & set(missing)):
        raise _refusal(backbone, f"its files lack {lacking}, the weights of the output head")
    return model


def _texts(model: nn.Module, backbone: Backbone) -> ContinuationReader:
    """What a text ends with: by its tokenizer, else as the configuration says."""
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    ends = [one for one in ends if one < model.get_output_embeddings().weight.shape[0]]
    end = getattr(backbone.preprocessing.tokenizer, "eos_token_id", None)
    return ContinuationReader(backbone.preprocessing, ends[0] if end is None and ends else end, ends)


@torch.inference_mode()
def _reads_on(network: nn.Module) -> bool:
    """True if what a network makes of a token does not depend on those after it."""
    ids = torch.arange(PROBED)[None] % network.get_input_embeddings().num_embeddings
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    one, two = (network(input_ids=x, attention_mask=torch.ones_like(x)).last_hidden_state[0, :-1] for x in (ids, other))
    return bool((one - two).abs().max() <= CLOSE * one.abs().max())


def _refusal(backbone: Backbone, reason: str) -> UnsupportedBackboneError:
    return UnsupportedBackboneError(
        f"{backbone.name!r} cannot continue texts: {reason}. Choose a causal language model, such as {EXAMPLES}: "
        "backbone='hf:<name or folder>'."
    )
