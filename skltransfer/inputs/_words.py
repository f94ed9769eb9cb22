"""Texts that are split into words: a list of strings each.

What is settled here: words are read as they were passed, with a space between two of them; a text that is too long is
refused with its row, because words beyond the network's input could get no tag.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._samples import Peeked, Samples, digest_of, is_missing, refuse_missing, shown

REMEDY = "split it into sentences, or raise max_length where the network allows"


class WordSamples(Samples):
    """Lists of words.

    Parameters
    ----------
    items : sequence of sequence of str
        Words of each text.
    preprocessing : TextPreprocessing
        The backbone's, which knows where a word lies in the network's input.
    """

    slow_to_read = False

    def __init__(self, items: Sequence[Any], preprocessing: Any) -> None:
        super().__init__(items)
        self._preprocessing = preprocessing
        self._known: dict[int, tuple[str, ...]] = {}
        self._places: dict[int, np.ndarray] = {}

    def n_words(self, position: int) -> int | None:
        """Number of words of a text; None if it cannot be read."""
        try:
            return len(self._words(int(self.rows[position])))
        except BadSampleError:
            return None

    def _peek(self, row: int) -> Peeked:
        self._find(row)
        return Peeked(digest=self._identify(row)[0])

    def _identify(self, row: int) -> tuple[bytes, str]:
        words = self._words(row)
        return digest_of(b"words", *(word.encode() for word in words)), self._preprocessing.text_of(words)

    def _read(self, row: int) -> str:
        return self._preprocessing.text_of(self._words(row))

    def _geometry(self, row: int, preprocessing: Any) -> np.ndarray:
        return self._find(row)

    def _find(self, row: int) -> np.ndarray:
        """Positions of the words' first tokens."""
        if row not in self._places:
            places, n_tokens = self._preprocessing.places_of_words(self._words(row))
            most = self._preprocessing.max_length
            if n_tokens > most:
                problem = f"has {n_tokens} tokens, more than max_length={most}, and words beyond would get no tag"
                raise BadSampleError(row, f"{len(places)} words", problem, REMEDY)
            self._places[row] = places
        return self._places[row]

    def _words(self, row: int) -> tuple[str, ...]:
        if row not in self._known:
            self._known[row] = self._checked(row)
        return self._known[row]

    def _checked(self, row: int) -> tuple[str, ...]:
        item = self.items[row]
        refuse_missing(item, row)
        if isinstance(item, str):
            raise BadSampleError(row, shown(item[:40]), "a string, not a list of words", "split it: text.split()")
        if isinstance(item, np.ndarray) and item.ndim == 1:
            item = item.tolist()
        if not isinstance(item, list | tuple):
            raise BadSampleError(row, shown(item), "no list of words", "pass a list of strings for each text")
        for number, word in enumerate(item):
            _refuse_odd_word(word, number, row)
        return tuple(map(str, item))


def _refuse_odd_word(word: Any, number: int, row: int) -> None:
    def refusal(problem: str, remedy: str) -> BadSampleError:
        return BadSampleError(row, f"word {number}", problem, remedy)

    if is_missing(word):
        raise refusal(f"{word!r}, a missing value", "leave it out, with its tag")
    if not isinstance(word, str):
        raise refusal(f"{shown(word)}, not a string", "pass strings: [str(word) for word in words]")
    if not word.strip():
        raise refusal(f"{word!r}, an empty word", "leave it out, with its tag")
    try:
        word.encode()
    except UnicodeEncodeError as error:
        remedy = "clean it: word.encode('utf-8', 'replace').decode()"
        raise refusal(f"no valid Unicode at position {error.start}", remedy) from None
