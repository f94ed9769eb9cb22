"""Whole models of transformers that backbones are parts of: read from the same files, once while a backbone lives.

Must not know what follows a backbone.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from skltransfer._system.forks import Lock
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._random import seeded
from skltransfer.backbones._transformers import is_computed, located, quietly
from skltransfer.backbones._weights import AdaptedWeights

Made = TypeVar("Made")


def base_weights(backbone: Backbone) -> Any:
    """Weights that a backbone was loaded with, before any pretraining was continued."""
    weights = backbone.weights
    return weights.base if isinstance(weights, AdaptedWeights) else weights


def config_of(backbone: Backbone) -> Any:
    """The configuration in a backbone's files."""
    import transformers

    place, _, shared = located(backbone.name.removeprefix("hf:"), backbone.options)
    return transformers.AutoConfig.from_pretrained(place, **shared)


def whole_model(backbone: Backbone, kind: Any) -> tuple[nn.Module, list[str]]:
    """A model of a class of transformers from a backbone's files, and the names of weights that these lack.

    Parameters
    ----------
    backbone : Backbone
        The backbone.
    kind : type
        Class of transformers.
    """
    place, _, shared = located(backbone.name.removeprefix("hf:"), backbone.options)
    with seeded(0), quietly():
        model, told = kind.from_pretrained(place, dtype="float32", output_loading_info=True, **shared)
    return model, [key for key in sorted(told["missing_keys"]) if not is_computed(model, key)]


def tokenizer_of(backbone: Backbone) -> Any:
    """The tokenizer beside a backbone's weights."""
    import transformers

    place, _, shared = located(backbone.name.removeprefix("hf:"), backbone.options)
    return transformers.AutoTokenizer.from_pretrained(place, **shared)


def once_per_backbone(make: Callable[..., Made]) -> Callable[..., Made]:
    """Keep what a function makes of a backbone while the backbone lives. It is shared, and must not be changed."""
    known: weakref.WeakKeyDictionary[Backbone, dict[tuple, Made]] = weakref.WeakKeyDictionary()
    lock = Lock()

    @functools.wraps(make)
    def kept(backbone: Backbone, *more: Any) -> Made:
        with lock:
            found = known.get(backbone, {})
        if more in found:
            return found[more]
        made = make(backbone, *more)  # outside of the lock: others are taken in it
        with lock:
            return known.setdefault(backbone, {}).setdefault(more, made)

    return kept
