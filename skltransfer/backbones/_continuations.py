"""Texts and their continuations as token ids, for networks that read from left to right and guess each next token.

A prompt is tokenized alone, and so is its continuation, because a network that continues a prompt has seen no more of
it. Knows tokenizers by what they do, not where they come from.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from skltransfer.backbones._tokens import TextPreprocessing, Tokens

NO_ENDS: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Continued(Tokens):
    """Ids of a prompt and of what follows it.

    Attributes
    ----------
    n_prompt : int
        Number of ids that are the prompt's.
    """

    n_prompt: int = 1


class ContinuationReader:
    """From prompts and continuations to token ids, and back.

    Parameters
    ----------
    reader : TextPreprocessing
        The backbone's.
    end : int or None
        Token that ends a continuation.
    ends : collection of int
        Tokens at which the network stops to write.
    """

    def __init__(self, reader: TextPreprocessing, end: int | None, ends: Collection[int] = NO_ENDS) -> None:
        self._reader, self.end = reader, end
        self.ends = frozenset(ends) | (NO_ENDS if end is None else {end})

    @property
    def max_length(self) -> int:
        """Most tokens of a prompt and its continuation together."""
        return self._reader.max_length

    def whole(self, text: str) -> Continued:
        """A text that is learned as it is; its first token is only read."""
        return Continued(tuple(self._reader(text).tolist()), self._reader.cuts(text), 1)

    def prompt(self, text: str, most: int) -> Continued:
        """A prompt alone, of which the last ``most`` tokens are kept."""
        before, own = self._parts(text)
        room = max(most - len(before), 0 if before else 1)
        kept = own[len(own) - room :] if len(own) > room else own
        ids = before + kept
        return Continued(tuple(ids), len(own) > room, len(ids))

    def joined(self, prompt: str, continuation: str) -> Continued:
        """A prompt and its continuation, with the token that ends it.

        Where they are too long together, the prompt loses its beginning, but for one token; then the continuation loses
        its end.
        """
        before, own = self._parts(prompt)
        after = [*self._own(continuation), *([] if self.end is None else [self.end])]
        least = max(len(before), 1)  # something must come before the first token that is guessed
        after, n_after = after[: max(1, self.max_length - least)], len(after)
        room = self.max_length - len(before) - len(after)
        kept = own[max(0, len(own) - room) :] if room > 0 else []
        is_cut = len(after) < n_after or len(kept) < len(own)
        first = before + kept
        return Continued((*first, *after), is_cut, len(first))

    def text(self, ids: Sequence[int]) -> str:
        """The text that a continuation's ids stand for, up to its end."""
        until = next((i for i, one in enumerate(ids) if one in self.ends), len(ids))
        return self._reader.tokenizer.decode(
            list(ids[:until]), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def has_ended(self, ids: Sequence[int]) -> bool:
        """True if a text was written to its end."""
        return any(one in self.ends for one in ids)

    def _own(self, text: str) -> list[int]:
        return list(self._reader.tokenizer(text, verbose=False, add_special_tokens=False)["input_ids"])

    def _parts(self, prompt: str) -> tuple[list[int], list[int]]:
        """Ids that begin any text, and the prompt's own; what ends a text is left out, for it goes on."""
        n_before, n_after = self._reader.n_special
        ids = list(self._reader.tokenizer(prompt, verbose=False)["input_ids"])
        ids = ids[: len(ids) - n_after]
        if not ids:
            return [], [self._reader.of_nothing]
        return ids[:n_before], ids[n_before:]
