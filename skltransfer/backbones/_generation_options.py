"""Arguments of the library's ``generate`` that users may pass on, checked by name and type, or that checkpoints bring.

They give the same texts each time, and need no more than what an encoder gave. Must not know models.
"""

import difflib
import numbers
from collections.abc import Mapping
from typing import Any

NUMBERS = ("length_penalty", "repetition_penalty")
COUNTS = ("forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens", "no_repeat_ngram_size")
LISTS = ("begin_suppress_tokens", "suppress_tokens")
SWITCHES = ("early_stopping", "remove_invalid_values", "renormalize_logits")
OPTIONS = tuple(sorted({*NUMBERS, *COUNTS, *LISTS, *SWITCHES, "bad_words_ids"}))
OF_TOKENS = ("bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", *LISTS)
SIGNED = ("length_penalty",)
OF_SAMPLING = ("do_sample", "epsilon_cutoff", "eta_cutoff", "min_p", "penalty_alpha", "temperature", "top_h", "top_k")
OF_SAMPLING += ("top_p", "typical_p")
TOKENS = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")
KEPT = frozenset({*OPTIONS, *TOKENS, "exponential_decay_length_penalty", "sequence_bias", "transformers_version"})


def checked_options(
    options: Mapping[str, Any] | None, taken: Mapping[str, str], n_tokens: int | None = None
) -> dict[str, Any]:
    """Arguments for the library's ``generate``, once they are known to be such.

    Parameters
    ----------
    options : mapping of str to object, or None
        The user's.
    taken : mapping of str to str
        Arguments that are set otherwise, and how.
    n_tokens : int, optional
        Size of the vocabulary that is written.

    Raises
    ------
    ValueError
        If a name is unknown, belongs to sampling or is taken, or a value has another type.
    """
    for name, value in (options or {}).items():
        if name in OF_SAMPLING:
            raise ValueError(
                f"generation_options has {name!r}, which is for sampling, but predictions must be reproducible. "
                "Leave it out; num_beams searches for more probable texts."
            )
        if name in taken:
            raise ValueError(f"generation_options has {name!r}, which is set by {taken[name]}. Leave it out.")
        if name not in OPTIONS:
            near = difflib.get_close_matches(str(name), [*OPTIONS, *taken], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"generation_options has {name!r}; expected some of {list(OPTIONS)}.{hint}")
        if not _is_fit(name, value):
            raise ValueError(f"generation_options has {name!r}: {value!r}; expected {_expected(name)}.")
        if name in OF_TOKENS and n_tokens is not None and max(_ids(value), default=0) >= n_tokens:
            raise ValueError(
                f"generation_options has {name!r}: {value!r}; expected token ids below {n_tokens}, the size of the "
                "network's vocabulary."
            )
    return dict(options or {})


def make_reproducible(config: Any) -> None:
    """Reset a checkpoint's settings of ``generate``, but for those that change the scores of tokens alike each time.

    What goes are random draws, other searches, limits of time and length, and results that are more than one row of
    token ids per sample. What only some families know, such as the tokens of languages, stays.

    Parameters
    ----------
    config : object
        The library's settings, which are changed.
    """
    for name, usual in vars(type(config)()).items():
        if name not in KEPT and not name.startswith("_"):
            setattr(config, name, usual)
    config.max_length = None


def _is_fit(name: str, value: Any) -> bool:
    if name in NUMBERS:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and (name in SIGNED or value > 0)
    if name in SWITCHES:
        return isinstance(value, bool) or (name == "early_stopping" and value == "never")
    if name == "bad_words_ids":
        return isinstance(value, list) and len(value) > 0 and all(v and _are_counts(v) for v in value)
    return _are_counts(value) if name in LISTS else _is_count(value)


def _ids(value: Any) -> list[int]:
    """Token ids in an option, one after the other."""
    parts = value if isinstance(value, list) else [value]
    return [one for part in parts for one in (part if isinstance(part, list) else [part])]


def _expected(name: str) -> str:
    if name in NUMBERS:
        return "a number" if name in SIGNED else "a positive number"
    if name in SWITCHES:
        return "True, False or 'never'" if name == "early_stopping" else "True or False"
    if name == "bad_words_ids":
        return "a list of lists of token ids"
    return "a list of token ids" if name in LISTS else "a whole number that is not negative"


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(one) for one in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 0
