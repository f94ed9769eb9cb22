"""Pairs of texts that a network reads together: a question and an answer, a premise and a hypothesis.

What is settled here: a pair is a tuple of two strings, in this order; what is none is refused with its row.
"""

from collections.abc import Sequence
from typing import Any

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._samples import Peeked, Samples, digest_of, refuse_missing, shown

JOINS = "pass a tuple of two strings, as the other rows are"


class PairSamples(Samples):
    """Tuples of two strings.

    Parameters
    ----------
    items : sequence of (str, str)
        Pairs of texts.
    preprocessing : TextPreprocessing
        The backbone's, which knows whether it tells the texts apart by segments, and how much of them it reads.
    """

    slow_to_read = False

    def __init__(self, items: Sequence[Any], preprocessing: Any) -> None:
        super().__init__(items)
        self._preprocessing = preprocessing
        self._kind = b"pair in segments" if preprocessing.segment_step else b"pair"

    def _peek(self, row: int) -> Peeked:
        pair = self._read(row)
        if not all(map(str.strip, pair)):
            self.remarks.add("X holds pairs in which a text is empty.", row)
        if self._preprocessing.is_windowed and not self._preprocessing.pairs.leaves_room(pair):
            raise BadSampleError(
                row,
                shown(self.items[row]),
                "the first text is too long for windows, each of which begins with it",
                "put the longer text second, raise max_length where the network allows, or set long_samples='truncate'",
            )
        return Peeked(digest=self._identify(row)[0])

    def _identify(self, row: int) -> tuple[bytes, tuple[str, str]]:
        pair = self._read(row)
        return digest_of(self._kind, *map(str.encode, pair)), pair

    def _read(self, row: int) -> tuple[str, str]:
        item = self.items[row]
        refuse_missing(item, row)
        if not isinstance(item, tuple):
            raise BadSampleError(row, shown(item), f"a {type(item).__name__} among pairs of texts", JOINS)
        if len(item) != 2:
            raise BadSampleError(row, shown(item), f"a tuple of {len(item)}, not a pair of texts", JOINS)
        return _checked(item[0], "first", row, item), _checked(item[1], "second", row, item)


def _checked(part: Any, which: str, row: int, item: Any) -> str:
    """One text of a pair."""
    refuse_missing(part, row)
    if not isinstance(part, str):
        cause = f"the {which} part is {type(part).__name__}, not text"
        raise BadSampleError(row, shown(item), cause, "pass a tuple of two strings")
    try:
        part.encode()
    except UnicodeEncodeError as error:
        cause = f"the {which} text is no valid Unicode at position {error.start}"
        raise BadSampleError(row, shown(item), cause, "clean it: text.encode('utf-8', 'replace').decode()") from None
    return str(part)
