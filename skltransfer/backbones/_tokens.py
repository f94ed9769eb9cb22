"""From one text, or a pair of texts, to token ids, as a tokenizer makes them.

Knows tokenizers by what they do, not where they come from.

Tokenizers of transformers hold their truncation and padding as state. Threads share them, so none is ever set after
loading: the whole text is tokenized, and cut here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from skltransfer.backbones._pairs import (
    BEGINS_A_WORD,
    Layout,
    Pair,
    PairReader,
    read_with_letters,
    special_tokens_of_pairs,
)
from skltransfer.backbones._windows import KEPT, both_ends, window_starts
from skltransfer.exceptions import UnsupportedBackboneError

EXAMPLE = 12  # tokens
CHARACTERS_PER_TOKEN, MARGIN = 16, 512
SPECIAL = 8  # tokens that a tokenizer adds to a text, at most
PROBED = 200  # tokens that are tried as texts


@dataclass(frozen=True)
class Tokens:
    """A text that is token ids already, as the network reads it.

    Attributes
    ----------
    ids : tuple of int
        Ids, special tokens included, at least one and at most ``max_length``.
    is_cut : bool
        True if part of the text was left out.
    """

    ids: tuple[int, ...]
    is_cut: bool = False


@dataclass(frozen=True)
class TextPreprocessing:
    """Token ids of a text, special tokens included: up to ``max_length`` of them, or windows of that many.

    May be used by several threads at once.

    Parameters
    ----------
    tokenizer_hash : str
        Hash of all that decides which ids a text has.
    n_tokens : int
        Size of the vocabulary.
    max_length : int
        Most tokens that the network is given at once.
    tokenizer : callable
        Tokenizer of transformers.
    long_samples : {"truncate", "keep_start", "keep_end", "keep_both_ends", "windows"}, default="truncate"
        How longer texts are treated; ``"truncate"`` keeps what the tokenizer does.
    n_special : (int, int), default=(0, 0)
        Tokens that the tokenizer adds before and after each text.
    special_of_pairs : (int, int, int), optional
        Tokens that it adds before, between and after two texts that are read together.
    segment_step : int, default=0
        By how much the ids of the second of two texts are raised; 0 for networks that know no segments.
    """

    tokenizer_hash: str
    n_tokens: int
    max_length: int
    tokenizer: object = field(repr=False, compare=False)
    long_samples: str = field(default="truncate", repr=False)
    n_special: tuple[int, int] = field(default=(0, 0), repr=False)
    special_of_pairs: Layout | None = field(default=None, repr=False)
    segment_step: int = field(default=0, repr=False)

    modality = "text"
    is_ragged = True

    @classmethod
    def of(
        cls, tokenizer, max_length: int, long_samples: str = "truncate", *, segment_step: int = 0
    ) -> "TextPreprocessing":
        """With the hash of a tokenizer of transformers, whose own truncation and padding are turned off."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        content += _manners(tokenizer, is_fast=backend is not None)
        digest = hashlib.sha256(content.encode()).hexdigest()
        special, of_pairs = _special_tokens(tokenizer)
        if long_samples == "windows" and max_length <= sum(special):
            raise UnsupportedBackboneError(
                f"max_length={max_length!r} leaves no room for a text beside the {sum(special)} tokens that the "
                "tokenizer adds to each window. Raise max_length, or set long_samples='truncate'."
            )
        longest = int(max_length)
        return cls(digest, len(tokenizer), longest, tokenizer, long_samples, special, of_pairs, segment_step)

    @property
    def input_shape(self) -> tuple[int]:
        """Shape of an example: texts have any length."""
        return (min(EXAMPLE, self.max_length),)

    @property
    def is_windowed(self) -> bool:
        """True if a long text becomes several inputs."""
        return self.long_samples == "windows"

    def example(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Random token ids of which the first row is whole and the others end in padding; in segments, if any."""
        (length,) = self.input_shape
        ids = torch.randint(0, self.n_tokens, (n, length), generator=generator)
        ids[:, length // 2 :] += self.segment_step
        for row in range(1, n):
            ids[row, max(1, length - 3 * row) :] = -1
        return ids

    @property
    def pairs(self) -> PairReader:
        """The same for two texts that are read together."""
        return PairReader(self)

    def __call__(self, text: str | Pair | Tokens) -> torch.Tensor:
        """A text or a pair of texts -> at most ``max_length`` ids, (tokens,)."""
        if isinstance(text, Tokens):
            return torch.tensor(text.ids, dtype=torch.long)
        if isinstance(text, tuple):
            return self.pairs.ids(text)
        ids = self._ids(text)
        if self.keeps == "both ends":
            ids = self._without_middle(ids)
        return self._window(ids, max(0, len(ids) - self.max_length) if self.keeps == "end" else 0)

    def parts(self, text: str | Pair | Tokens) -> list[torch.Tensor]:
        """A text -> ids of all that is read of it: one tensor, or overlapping windows of ``max_length`` tokens."""
        if not self.is_windowed or isinstance(text, Tokens):
            return [self(text)]
        if isinstance(text, tuple):
            return self.pairs.windows(text)
        ids, n_special = self._ids(text), sum(self.n_special)
        starts = window_starts(len(ids) - n_special, max(1, self.max_length - n_special))
        return [self._window(ids, start) for start in starts]

    def places_of_words(self, words: Sequence[str]) -> tuple[np.ndarray, int]:
        """Positions of the words' first tokens in the ids of :meth:`text_of`, (words,), and the number of these ids.

        A token that only says that a word begins is none of the word. A word without a token of its own, such as a
        zero-width space, has the next one.

        Raises
        ------
        UnsupportedBackboneError
            If the tokenizer does not tell where its tokens come from.
        """
        read = read_with_letters(self.tokenizer, "Tags of words", self.text_of(words))
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
        spans = np.array(read["offset_mapping"], dtype=int).reshape(-1, 2)
        names = getattr(self.tokenizer, "convert_ids_to_tokens", lambda ids: ids)(read["input_ids"])
        begins = np.array([name in BEGINS_A_WORD for name in names], dtype=bool)
        own = np.flatnonzero((spans[:, 1] > spans[:, 0]) & ~begins)  # special tokens come from no letter
        if not len(own):
            return np.zeros(len(words), dtype=int), len(spans)
        first = np.searchsorted(np.maximum.accumulate(spans[own, 1]), starts, side="right")
        return own[np.minimum(first, len(own) - 1)], len(spans)

    @staticmethod
    def text_of(words: Sequence[str]) -> str:
        """The text that is read for a list of words."""
        return " ".join(words)

    def cuts(self, text: str | Pair | Tokens) -> bool:
        """True if ``max_length`` leaves out part of a text."""
        if isinstance(text, Tokens):
            return text.is_cut
        if isinstance(text, tuple):
            return not self.is_windowed and self.pairs.cuts(text)
        if self.is_windowed or (text.isascii() and len(text) + SPECIAL <= self.max_length):
            return False  # no token is shorter than a letter
        return len(self._ids(text)) > self.max_length

    def _window(self, ids: list[int], start: int) -> torch.Tensor:
        """Special tokens, and between them as many of a text's own as fit, from one of them on."""
        if len(ids) > self.max_length:
            before, after = self.n_special
            end = len(ids) - after
            own = ids[before:end][start : start + max(0, self.max_length - before - after)]
            ids = (ids[:before] + own + ids[end:])[: self.max_length]
        return torch.tensor(ids or [self.of_nothing], dtype=torch.long)

    def _without_middle(self, ids: list[int]) -> list[int]:
        """Ids of both ends of a text, where it is too long."""
        before, after = self.n_special
        room = self.max_length - before - after
        if len(ids) <= self.max_length or room < 1:
            return ids
        n_first, n_last = both_ends(room)
        return ids[: before + n_first] + ids[len(ids) - after - n_last :]

    @property
    def keeps(self) -> str:
        """Part of a longer text that is read: ``"start"``, ``"end"`` or ``"both ends"``."""
        return KEPT.get(self.long_samples, self._kept_by_tokenizer)

    @property
    def _kept_by_tokenizer(self) -> str:
        return "end" if getattr(self.tokenizer, "truncation_side", "right") == "left" else "start"

    @property
    def long_samples_key(self) -> str | None:
        """Name of the way to read longer texts; None where it is the tokenizer's own."""
        is_usual = not self.is_windowed and self.keeps == self._kept_by_tokenizer
        return None if is_usual else self.long_samples

    def _ids(self, text: str) -> list[int]:
        """Ids of the whole text; of its beginning alone, where all that comes later would be cut away."""
        reads_all = self.is_windowed or self.keeps != "start" or not getattr(self.tokenizer, "is_fast", False)
        beginning = text if reads_all else text[: CHARACTERS_PER_TOKEN * self.max_length + MARGIN]
        while len(beginning) < len(text):
            read = self.tokenizer(beginning, verbose=False, return_offsets_mapping=True)
            ids, after = read["input_ids"], self.n_special[1]
            end = max((end for _, end in read["offset_mapping"][: self.max_length - after]), default=0)
            if len(ids) > self.max_length and end < len(beginning) - MARGIN:  # no token is one that the cut made
                return ids
            beginning = text[: 4 * len(beginning)]
        return self.tokenizer(text, verbose=False)["input_ids"]

    @property
    def mask_id(self) -> int | None:
        """The token that stands for a hidden one, if the network was trained with one."""
        return getattr(self.tokenizer, "mask_token_id", None)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Tokens that are no part of a text."""
        return tuple(self.tokenizer.all_special_ids)

    @property
    def of_nothing(self) -> int:
        """The token that stands for an empty text, where the tokenizer gives none."""
        for name in ("cls_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self.tokenizer, name, None) is not None:
                return getattr(self.tokenizer, name)
        return 0


def chosen_max_length(options: Mapping[str, object], usual: int, most: int, name: str) -> int:
    """Maximum number of tokens of a text: as many as the user asks for, if the network has positions for them.

    Raises
    ------
    UnsupportedBackboneError
        If it has not.
    """
    asked = options.get("max_length")
    if asked is None:
        return usual
    if int(asked) > most:
        raise UnsupportedBackboneError(
            f"max_length={asked!r} is more than the {most} tokens that {name!r} has positions for. Set at most {most}; "
            "estimators with the parameter long_samples read longer texts in windows."
        )
    return int(asked)


def _special_tokens(tokenizer) -> tuple[tuple[int, int], Layout | None]:
    """How many tokens a tokenizer adds before and after a text, and around the texts of a pair.

    Its first call settles its state for all threads.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    for text in ("a", "A", *sorted(tokenizer.get_vocab())[:PROBED]):  # not every alphabet has an a
        whole, own = (tokenizer(text, add_special_tokens=special)["input_ids"] for special in (True, False))
        before = next((n for n in range(len(whole) - len(own) + 1) if whole[n : n + len(own)] == own), None)
        if own and before is not None:
            return (before, len(whole) - len(own) - before), special_tokens_of_pairs(tokenizer, text)
    return (0, 0), None


def _manners(tokenizer, *, is_fast: bool) -> str:
    """Further properties that decide on ids: the side that is cut off, and switches outside of the vocabulary."""
    found = {}
    if getattr(tokenizer, "truncation_side", "right") == "left":
        found["truncation_side"] = "left"
    if not is_fast:
        found |= {key: value for key, value in getattr(tokenizer, "init_kwargs", {}).items() if isinstance(value, bool)}
    return json.dumps(found, sort_keys=True) if found else ""
