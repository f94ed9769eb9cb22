"""Texts for a network that guesses each next token: whole ones, prompts with their continuations, or prompts alone.

What is settled here: which tokens of a sample count, and that a prompt with a continuation is another sample than the
prompt. Must not know networks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._samples import Peeked, digest_of
from skltransfer.inputs._text import TextSamples

LONGER = "Raise max_length where the network allows, or shorten them."


class ContinuedSamples(TextSamples):
    """Strings, and what follows them if that is known.

    Parameters
    ----------
    items : sequence of str
        Texts, or prompts.
    reader : ContinuationReader
        The backbone's, from texts to token ids.
    """

    def __init__(self, items: Sequence[Any], reader: Any) -> None:
        super().__init__(items)
        self._reader, self._known = reader, {}
        self._continuations: Sequence[str] | None = None
        self._most: int | None = None

    @property
    def end(self) -> int | None:
        """Token that ends a continuation."""
        return self._reader.end

    def continue_with(self, texts: Sequence[str]) -> None:
        """Take each sample for a prompt that these texts follow, one each. Called before anything is read."""
        self._continuations = texts

    def as_prompts(self, most: int) -> None:
        """Take each sample for a prompt of at most ``most`` tokens. Called before anything is read."""
        self._most = most

    def ids(self, position: int) -> tuple[int, ...]:
        """Token ids of a sample.

        Raises
        ------
        BadSampleError
            With the sample's row in the X that the user passed.
        """
        return self._tokens(int(self.rows[position])).ids

    def counted(self, position: int) -> dict[str, np.ndarray] | None:
        """The tokens of a sample that count, and the position before the first of them; None if it cannot be read."""
        try:
            return self._geometry(int(self.rows[position]), None)
        except BadSampleError:
            return None

    @property
    def words_if_cut(self) -> str:
        """What is told of samples that are longer than the network reads."""
        if self._most is not None:
            return f"prompts are longer than {self._most} tokens; their beginning was not read. {LONGER}"
        if self._continuations is None:
            return f"texts are longer than max_length={self._reader.max_length} tokens; part was not read. {LONGER}"
        return (
            f"prompts and their continuations are longer than max_length={self._reader.max_length} tokens together; "
            f"the beginning of the prompt was not read, and where that is not enough, the end of the continuation. "
            f"{LONGER}"
        )

    def _peek(self, row: int) -> Peeked:
        return Peeked(digest=self._identify(row)[0])

    def _identify(self, row: int) -> tuple[bytes, Any]:
        text = super()._read(row)
        parts = [text.encode()]
        if self._most is not None:
            parts = [b"prompt", str(self._most).encode(), *parts]
        elif self._continuations is not None:
            parts = [b"continued", str(self._reader.end).encode(), *parts, self._continuations[row].encode()]
        else:
            parts = [b"text", *parts]  # the sample that it is for all who read texts
        return digest_of(*parts), self._tokens(row)

    def _read(self, row: int) -> Any:
        return self._tokens(row)

    def _geometry(self, row: int, preprocessing: Any) -> dict[str, np.ndarray]:
        tokens = self._tokens(row)
        return {
            "counted": np.array(tokens.ids[tokens.n_prompt :], dtype=np.int64),
            "start": np.array(tokens.n_prompt - 1),
        }

    def _tokens(self, row: int) -> Any:
        if row not in self._known:
            text = super()._read(row)
            if self._most is not None:
                self._known[row] = self._reader.prompt(text, self._most)
            elif self._continuations is not None:
                self._known[row] = self._reader.joined(text, self._continuations[row])
            else:
                self._known[row] = self._reader.whole(text)
        return self._known[row]
