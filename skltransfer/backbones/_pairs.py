"""Two texts that a network reads together: their token ids, as its tokenizer makes them of a pair.

The segment of a token (0 in the first text, 1 in the second) is packed into its id, so that the input stays one tensor:
``id + segment * segment_step``. Knows tokenizers by what they do, not where they come from.
"""

import itertools
from typing import Any

import numpy as np
import torch

from skltransfer.backbones._windows import both_ends, window_starts
from skltransfer.exceptions import UnsupportedBackboneError

LEAST_ROOM = 0.25  # of the tokens of a window, for the second text
NO_PAIRS = (NotImplementedError, TypeError, ValueError)  # of tokenizers that take one text alone
Pair = tuple[str, str]
BEGINS_A_WORD = ("\u2581", "\u0120")  # alone, in vocabularies of SentencePiece and of bytes
Layout = tuple[int, int, int]


def special_tokens_of_pairs(tokenizer: Any, text: str) -> Layout | None:
    """How many tokens a tokenizer adds before, between and after two texts; None if it cannot tell them apart.

    Parameters
    ----------
    tokenizer : callable
        Tokenizer of transformers.
    text : str
        A text with tokens of its own.
    """
    try:
        whole = tokenizer([text], [text])["input_ids"][0]
    except NO_PAIRS:
        return None
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    starts = [n for n in range(len(whole) - len(own) + 1) if own and whole[n : n + len(own)] == own]
    if len(starts) < 2 or starts[0] + len(own) >= starts[-1]:
        return None
    return starts[0], starts[-1] - starts[0] - len(own), len(whole) - starts[-1] - len(own)


def segment_step(tokenizer: Any, n_segments: int, n_embeddings: int) -> int:
    """By how much the ids of a second text are raised; 0 if the network knows no segments, or none is told apart.

    Parameters
    ----------
    tokenizer : callable
        Tokenizer of transformers.
    n_segments : int
        How many segments the network has vectors for.
    n_embeddings : int
        How many tokens it has vectors for.
    """
    if n_segments < 2:
        return 0
    try:
        (segments,) = tokenizer(["a"], ["a"]).get("token_type_ids") or [[0]]
    except NO_PAIRS:
        return 0
    return n_embeddings if 0 < max(segments) < n_segments else 0


def refuse_unless_it_reads_pairs(reader: Any, name: str) -> None:
    """Raise if a network's tokenizer keeps no place for a second text.

    Raises
    ------
    UnsupportedBackboneError
        With what to do instead.
    """
    if reader.special_of_pairs is None:
        raise UnsupportedBackboneError(
            f"{name!r} cannot read pairs of texts: its tokenizer, {type(reader.tokenizer).__name__}, puts no token "
            "between the two. Join them yourself, with words that mark the second one (f'{first} Answer: {second}'), "
            "or choose a backbone whose tokenizer does, such as 'bundled:minilm'."
        )
    if reader.max_length < sum(reader.special_of_pairs) + 2:
        raise UnsupportedBackboneError(
            f"max_length={reader.max_length!r} leaves no room for two texts beside the {sum(reader.special_of_pairs)} "
            "tokens that the tokenizer adds to each pair. Raise max_length."
        )


def read_with_letters(tokenizer: Any, what: str, *texts: Any) -> Any:
    """What a tokenizer makes of texts, with the letters that each token stands for, as ``"offset_mapping"``.

    Parameters
    ----------
    tokenizer : callable
        Tokenizer of transformers.
    what : str
        What needs the letters, at the beginning of a sentence.
    *texts : str or list of str
        What is read.

    Raises
    ------
    UnsupportedBackboneError
        If the tokenizer does not tell where its tokens come from: it refuses, or leaves out what it was asked for.
    """
    try:
        read, reason = tokenizer(*texts, verbose=False, return_offsets_mapping=True), None
    except NotImplementedError as error:
        read, reason = {}, error
    if "offset_mapping" not in read:
        raise UnsupportedBackboneError(
            f"{what} need a tokenizer that tells which letters a token comes from, and this one, "
            f"{type(tokenizer).__name__}, is written in Python and does not. Choose a backbone with a fast tokenizer."
        ) from reason
    return read


class PairReader:
    """Token ids of pairs, as a preprocessing of texts determines them.

    Parameters
    ----------
    reader : TextPreprocessing
        The backbone's.
    """

    def __init__(self, reader: Any) -> None:
        self._reader, self._special = reader, reader.special_of_pairs or (0, 0, 0)

    def ids(self, pair: Pair) -> torch.Tensor:
        """A pair -> ids (tokens,), both texts cut where they are too long together, as transformers does it."""
        before, first, between, second, after = self._parts(pair)
        n_first, n_second = self._shares(len(first), len(second))
        return torch.tensor(before + self._kept(first, n_first) + between + self._kept(second, n_second) + after)

    def windows(self, pair: Pair) -> list[torch.Tensor]:
        """A pair -> ids of windows over the second text, each of which begins with the whole first one."""
        before, first, between, second, after = self._parts(pair)
        room = max(1, self._room - len(first))
        starts = window_starts(len(second), room)
        return [torch.tensor(before + first + between + second[at : at + room] + after) for at in starts]

    def cuts(self, pair: Pair) -> bool:
        """True if a pair has more than ``max_length`` tokens."""
        return not self._surely_fits(pair) and len(self._whole(pair)) > self._reader.max_length

    def leaves_room(self, pair: Pair) -> bool:
        """True if windows can read a pair: it fits into one, or its first text leaves a quarter of each."""
        if not self.cuts(pair):
            return True
        return self._room - len(self._parts(pair)[1]) >= LEAST_ROOM * self._reader.max_length

    def context(self, pair: Pair) -> np.ndarray:
        """Tokens of the second text of a pair, (tokens, 3).

        Columns are the token's position in :meth:`ids`, or -1 if it is cut off, and the letters of the text that it
        stands for, without spaces around them: the first one, and the one after the last. A token of no letter, such as
        one that only says that a word begins, has two equal numbers.

        Raises
        ------
        UnsupportedBackboneError
            If the tokenizer does not tell where its tokens come from.
        """
        tokenizer = self._reader.tokenizer
        read = read_with_letters(tokenizer, "Answers in a text", [pair[0]], [pair[1]])
        names = getattr(tokenizer, "convert_ids_to_tokens", lambda ids: ids)(read["input_ids"][0])
        before, first, between, second, _ = self._split(list(zip(names, read["offset_mapping"][0], strict=True)), pair)
        n_first, n_second = self._shares(len(first), len(second))
        found = np.full((len(second), 3), -1)
        kept = self._kept(list(range(len(second))), n_second)
        found[kept, 0] = len(before) + n_first + len(between) + np.arange(len(kept))
        for token, (name, (start, stop)) in enumerate(second):
            found[token, 1:] = (start, start) if name in BEGINS_A_WORD else _without_spaces(pair[1], start, stop)
        return found

    @property
    def _room(self) -> int:
        """Most tokens of both texts."""
        return self._reader.max_length - sum(self._special)

    def _surely_fits(self, pair: Pair) -> bool:
        """No token is shorter than a letter."""
        return all(map(str.isascii, pair)) and sum(map(len, pair)) <= self._room

    def _whole(self, pair: Pair) -> list[int]:
        """Packed ids of both texts, special tokens included. In a batch, since alone an empty text counts as none."""
        read, step = self._reader.tokenizer([pair[0]], [pair[1]], verbose=False), self._reader.segment_step
        (ids,) = read["input_ids"]
        return [one + step * of for one, of in zip(ids, read["token_type_ids"][0], strict=True)] if step else ids

    def _parts(self, pair: Pair) -> list[list[int]]:
        """Packed ids before the first text, of it, between the texts, of the second, and after it."""
        return self._split(self._whole(pair), pair)

    def _split(self, ids: list, pair: Pair) -> list[list]:
        """What there is for each token of a pair, in the same parts."""
        before, between, after = self._special
        n_first = len(self._reader.tokenizer(pair[0], verbose=False, add_special_tokens=False)["input_ids"])
        ends = [0, before, before + n_first, before + n_first + between, len(ids) - after, len(ids)]
        return [ids[start:stop] for start, stop in itertools.pairwise(ends)]

    def _kept(self, own: list[int], n: int) -> list[int]:
        n_first, n_last = {"start": (n, 0), "end": (0, n), "both ends": both_ends(n)}[self._reader.keeps]
        return own if n == len(own) else own[:n_first] + own[len(own) - n_last :]

    def _shares(self, n_first: int, n_second: int) -> tuple[int, int]:
        """How many tokens of either text are kept: the longer one is cut first, and then both to a half of the room.

        The odd token of two halves goes to the longer text in fast tokenizers, and to the first one in others.
        """
        room, shorter = self._room, min(n_first, n_second)
        if n_first + n_second <= room:
            return n_first, n_second
        if 2 * shorter <= room:
            return (n_first, room - n_first) if n_first == shorter else (room - n_second, n_second)
        half, is_fast = room // 2, getattr(self._reader.tokenizer, "is_fast", False)
        return (half, room - half) if is_fast and n_first <= n_second else (room - half, half)


def _without_spaces(text: str, start: int, stop: int) -> tuple[int, int]:
    """A part of a text without the spaces around it."""
    own = text[start:stop]
    start += len(own) - len(own.lstrip())
    return start, start + len(own.strip())
