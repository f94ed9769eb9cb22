"""From one text to token ids, as a tokenizer makes them. Knows tokenizers by what they do, not where they come from."""

import hashlib
import json
from dataclasses import dataclass, field

import torch

EXAMPLE = 12  # tokens
CHARACTERS_PER_TOKEN, MARGIN = 16, 512
SPECIAL = 8  # tokens that a tokenizer adds to a text, at most


@dataclass(frozen=True)
class TextPreprocessing:
    """Token ids of a text, special tokens included, cut after ``max_length`` of them.

    Parameters
    ----------
    tokenizer_hash : str
        Of all that decides which ids a text has.
    n_tokens : int
        Size of the vocabulary.
    max_length : int
        Tokens that are read of a text.
    tokenizer : callable
        Of transformers.
    """

    tokenizer_hash: str
    n_tokens: int
    max_length: int
    tokenizer: object = field(repr=False, compare=False)

    modality = "text"
    is_ragged = True

    @classmethod
    def of(cls, tokenizer, max_length: int) -> "TextPreprocessing":
        """With the hash of a tokenizer of transformers."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return cls(digest, len(tokenizer), int(max_length), tokenizer)

    @property
    def input_shape(self) -> tuple[int]:
        """Of an example: texts have any length."""
        return (min(EXAMPLE, self.max_length),)

    def example(self, n: int) -> torch.Tensor:
        """Random token ids of which the first row is whole and the others end in padding."""
        (length,) = self.input_shape
        ids = torch.randint(0, self.n_tokens, (n, length))
        for row in range(1, n):
            ids[row, max(1, length - 3 * row) :] = -1
        return ids

    def __call__(self, text: str) -> torch.Tensor:
        """A text -> ids (tokens,)."""
        ids = self._ids(text)
        return torch.tensor(ids or [self._of_nothing()], dtype=torch.long)

    def _ids(self, text: str) -> list[int]:
        """Ids of the beginning alone, where the text is so long that the rest would be cut away."""
        is_fast = getattr(self.tokenizer, "is_fast", False)
        beginning = text[: CHARACTERS_PER_TOKEN * self.max_length + MARGIN] if is_fast else text
        while True:
            options = {"return_offsets_mapping": True} if is_fast else {}
            read = self.tokenizer(beginning, truncation=True, max_length=self.max_length, **options)
            ids = read["input_ids"]
            if len(beginning) == len(text):
                return ids
            end = max(end for _, end in read["offset_mapping"])
            if len(ids) >= self.max_length and end < len(beginning) - MARGIN:  # no token is one that the cut made
                return ids
            beginning = text[: 4 * len(beginning)]

    def cuts(self, text: str) -> bool:
        """Whether ``max_length`` leaves out the end of a text."""
        if text.isascii() and len(text) + SPECIAL <= self.max_length:
            return False  # no token is shorter than a letter
        beginning = text[: CHARACTERS_PER_TOKEN * self.max_length + MARGIN]
        while len(self.tokenizer(beginning, truncation=True, max_length=self.max_length + 1)["input_ids"]) <= (
            self.max_length
        ):
            if len(beginning) == len(text):
                return False
            beginning = text[: 4 * len(beginning)]
        return True

    @property
    def mask_id(self) -> int | None:
        """The token that stands for a hidden one, if the network was trained with one."""
        return getattr(self.tokenizer, "mask_token_id", None)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Tokens that are no part of a text."""
        return tuple(self.tokenizer.all_special_ids)

    def _of_nothing(self) -> int:
        """The token that stands for an empty text, where the tokenizer gives none."""
        for name in ("cls_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self.tokenizer, name, None) is not None:
                return getattr(self.tokenizer, name)
        return 0
