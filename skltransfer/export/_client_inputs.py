"""What a client sends to a network that stands alone: arrays that need no torch, and how samples become such arrays.

One class for each kind of sample. Its ``recipe`` says in words that go into JSON what is left to the client. Must not
know stages, heads or formats of files.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from skltransfer.backbones import PADDING_ID, Backbone
from skltransfer.exceptions import UnsupportedBackboneError

LENGTHS = (7, 12)  # tokens
SECONDS = (0.3, 0.5)
Arrays = tuple[torch.Tensor, ...]


class ClientInput(ABC):
    """From arrays to what the first stage is given.

    Parameters
    ----------
    backbone : Backbone
        The backbone.
    width : int, optional
        Number of columns, if samples are rows of a table.

    Attributes
    ----------
    axes : mapping of str to tuple of str
        The arrays' names, and for each the names of its first axes: those whose length may change.
    tool : object with ``save_pretrained``, or None
        Object whose files a client needs.
    """

    axes: Mapping[str, tuple[str, ...]]
    tool: Any = None

    def __init__(self, backbone: Backbone, width: int | None = None) -> None:
        self.preprocessing, self.reading = backbone.preprocessing, backbone.reading

    @abstractmethod
    def example(self, n: int, *, longer: bool) -> Arrays:
        """Random arrays of n samples, in one of two lengths."""

    @abstractmethod
    def one(self, sample: Any) -> Arrays:
        """The arrays of one sample, as it was read."""

    @abstractmethod
    def batch(self, *arrays: torch.Tensor) -> torch.Tensor:
        """The input of the first stage."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Recipe by which a client makes the arrays."""

    def save_files(self, folder: Path) -> bool:
        """Save what a client needs besides; whether there is anything."""
        if hasattr(self.tool, "save_pretrained"):
            self.tool.save_pretrained(folder)
        return folder.exists()


class PixelInput(ClientInput):
    """Images as Pillow gives them, or of other bands, resized and cropped: (n, h, w, channels) of uint8."""

    axes = {"pixels": ("n",)}

    def __init__(self, backbone: Backbone, width: int | None = None) -> None:
        super().__init__(backbone, width)
        self.bands = None if backbone.options.get("bands") is None else list(backbone.options["bands"])

    def example(self, n: int, *, longer: bool) -> Arrays:
        channels, *sides = self.preprocessing.input_shape
        return (torch.randint(0, 256, (n, *sides, channels), dtype=torch.uint8),)

    def one(self, sample: np.ndarray) -> Arrays:
        return (torch.tensor(self.preprocessing.pixels(sample))[None],)

    def batch(self, *arrays: torch.Tensor) -> torch.Tensor:
        x = arrays[0].float() / 255
        x = (x - torch.tensor(self.preprocessing.mean)) / torch.tensor(self.preprocessing.std)
        return x.permute(0, 3, 1, 2)

    def recipe(self) -> dict[str, Any]:
        how = self.preprocessing
        if how.is_letterbox:
            raise UnsupportedBackboneError(
                "Clients of an exported model know no letterbox, with which this backbone reads images. Set "
                "resize='squash' or resize='crop', and fit again."
            )
        return {
            "input": "pixels",
            "reader": "Pillow" if self.bands is None else None,
            "draft": how.draft,
            "exif_transpose": True,
            "background": "white" if self.bands is None else None,
            "mode": "RGB" if self.bands is None else None,
            "bands": self.bands,
            "white": self.reading["white"],
            "longest_aspect": None if how.squash else how.longest_aspect,
            "resize": how.resize,
            "squash": how.squash,
            "interpolation": how.interpolation,
            "crop": how.crop,
            "in_the_graph": {"scale": 1 / 255, "mean": list(how.mean), "std": list(how.std)},
        }


class TokenInput(ClientInput):
    """Token ids (n, length), and 1 where there is a token, 0 where there is padding."""

    axes = {"input_ids": ("n", "length"), "attention_mask": ("n", "length")}

    def __init__(self, backbone: Backbone, width: int | None = None) -> None:
        super().__init__(backbone, width)
        self.tool = backbone.preprocessing.tokenizer

    def example(self, n: int, *, longer: bool) -> Arrays:
        length = min(LENGTHS[longer], self.preprocessing.max_length)
        ids, mask = torch.randint(0, self.preprocessing.n_tokens, (n, length)), torch.ones(n, length, dtype=torch.long)
        for row in range(1, n):
            mask[row, max(1, length - 2 * row) :] = 0
        return ids, mask

    def one(self, sample: str) -> Arrays:
        ids = self.preprocessing(sample)[None]
        return ids, torch.ones_like(ids)

    def batch(self, *arrays: torch.Tensor) -> torch.Tensor:
        ids, mask = arrays
        return ids.masked_fill(mask == 0, PADDING_ID)

    def recipe(self) -> dict[str, Any]:
        return {
            "input": "input_ids and attention_mask",
            "max_length": self.preprocessing.max_length,
            "keeps": self.preprocessing.keeps,
            "ids_of_an_empty_text": self.preprocessing("").tolist(),
        }


class PairInput(TokenInput):
    """Token ids of two texts; of networks that know segments also the segment of each token."""

    def __init__(self, backbone: Backbone, width: int | None = None) -> None:
        super().__init__(backbone, width)
        self.step = self.preprocessing.segment_step
        self.axes = super().axes | ({"token_type_ids": ("n", "length")} if self.step else {})

    def example(self, n: int, *, longer: bool) -> Arrays:
        ids, mask = super().example(n, longer=longer)
        segments = torch.zeros_like(ids)
        segments[:, ids.shape[1] // 2 :] = 1
        return (ids, mask, segments) if self.step else (ids, mask)

    def one(self, sample: tuple[str, str]) -> Arrays:
        ids, mask = super().one(sample)
        return (ids % self.step, mask, ids // self.step) if self.step else (ids, mask)

    def batch(self, *arrays: torch.Tensor) -> torch.Tensor:
        ids, mask, *segments = arrays
        return super().batch(ids + self.step * segments[0] if segments else ids, mask)

    def recipe(self) -> dict[str, Any]:
        names = [*self.axes]
        return {
            "input": f"{', '.join(names[:-1])} and {names[-1]} of pairs",
            "max_length": self.preprocessing.max_length,
            "truncation": "longest_first",
            "keeps": self.preprocessing.keeps,
        }


class SoundInput(ClientInput):
    """Output of the feature extractor for audio: waveforms (n, length), all equally long, or (n, bands, frames)."""

    def __init__(self, backbone: Backbone, width: int | None = None) -> None:
        super().__init__(backbone, width)
        self.axes = {"sound": ("n", "length") if backbone.is_ragged else ("n",)}
        self.tool = backbone.preprocessing.extractor

    def example(self, n: int, *, longer: bool) -> Arrays:
        shape = self.preprocessing.shape or (int(SECONDS[longer] * self.preprocessing.rate),)
        return (torch.randn(n, *shape) * 0.1,)

    def one(self, sample: np.ndarray) -> Arrays:
        return (self.preprocessing(sample)[None],)

    def batch(self, *arrays: torch.Tensor) -> torch.Tensor:
        return arrays[0]

    def recipe(self) -> dict[str, Any]:
        return {"input": "sound", "rate": self.preprocessing.rate, "keeps": self.preprocessing.keeps}


class RowInput(ClientInput):
    """Rows of numbers (n, width), as many as the table had columns."""

    axes = {"rows": ("n",)}

    def __init__(self, backbone: Backbone, width: int | None = None) -> None:
        super().__init__(backbone, width)
        self.width = width or self.preprocessing.width

    def example(self, n: int, *, longer: bool) -> Arrays:
        return (torch.randn(n, self.width),)

    def one(self, sample: np.ndarray) -> Arrays:
        return (torch.tensor(sample, dtype=torch.float32)[None],)

    def batch(self, *arrays: torch.Tensor) -> torch.Tensor:
        rows = arrays[0][:, None]
        return F.interpolate(rows, size=self.preprocessing.width, mode="linear", align_corners=True)[:, 0]

    def recipe(self) -> dict[str, Any]:
        return {"input": "rows", "width": self.width}


CLIENT_INPUTS: dict[str, type[ClientInput]] = {
    "audio": SoundInput,
    "image": PixelInput,
    "rows": RowInput,
    "text": TokenInput,
}
