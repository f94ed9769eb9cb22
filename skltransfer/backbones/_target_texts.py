"""Texts that a network learns to write: to token ids, and back.

Knows tokenizers by what they do. Some switch between the language that is read and the one that is written, as state:
each reader has a tokenizer of its own, which one thread uses at a time.
"""

import copy
from collections.abc import Sequence
from typing import Any

from skltransfer._system.forks import Lock


class TargetTexts:
    """Token ids of texts to write.

    Parameters
    ----------
    tokenizer : object
        Tokenizer of transformers.
    end : int or None
        Token that ends a text; it is added where the tokenizer adds none.
    begin : int or None
        Token that the decoder begins with by itself; a tokenizer's own is left out.
    """

    def __init__(self, tokenizer: Any, end: int | None, begin: int | None = None) -> None:
        self._tokenizer, self._lock, self.end, self._begin = copy.deepcopy(tokenizer), Lock(), end, begin
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()

    def __deepcopy__(self, memo: dict) -> "TargetTexts":
        return self  # nothing of it is trained

    def ids(self, text: str) -> list[int]:
        """All token ids of a text, the end included."""
        with self._lock:
            ids = list(self._tokenizer(text_target=text, verbose=False)["input_ids"])
        if ids and ids[0] == self._begin:
            ids = ids[1:]
        return ids if self.end is None or self.end in ids else [*ids, self.end]

    @property
    def language(self) -> str | None:
        """The language that the tokenizer was saved to write, if it has one."""
        return getattr(self._tokenizer, "language", None)

    @property
    def ends(self) -> set[int]:
        """Tokens that end or pad a text."""
        return {self.end, self._tokenizer.pad_token_id}

    def transcribed_in(self, language: str | None) -> "TargetTexts":
        """The same for transcripts without times in one language, whose name begins each of them; None names none."""
        found = TargetTexts(self._tokenizer, self.end, self._begin)
        if hasattr(found._tokenizer, "set_prefix_tokens"):
            task = None if language is None else "transcribe"
            found._tokenizer.language = found._tokenizer.task = None
            found._tokenizer.set_prefix_tokens(language=language, task=task, predict_timestamps=False)
        return found

    def text(self, ids: Sequence[int]) -> str:
        """The text that token ids stand for, without special tokens."""
        with self._lock:
            return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def has_ended(self, ids: Sequence[int]) -> bool:
        """True if a text was written to its end. The first token may be the same one, by which a decoder begins."""
        return self.end is None or self.end in list(ids)[1:]
