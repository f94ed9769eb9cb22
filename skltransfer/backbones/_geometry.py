"""How an image lies in a network's input, so that places can be mapped there and back."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """The point (x, y) of an image, in pixels, is at ``scale * (x, y) + offset`` in the input.

    Attributes
    ----------
    size : (int, int)
        Width and height of the image.
    scale, offset : (float, float)
        Along x and y; the offset in pixels of the input.
    side : int
        Side of the input in pixels.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]
    side: int

    def to_input(self, places: np.ndarray) -> np.ndarray:
        """Points (..., 2) or boxes (..., 4) of the image -> the same in the input; x and y alternate."""
        n = places.shape[-1] // 2
        return places * np.tile(self.scale, n) + np.tile(self.offset, n)

    def centers(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the middles of the image's columns, (width,), and of its rows, (height,), lie in the input."""
        x, y = (
            (np.arange(n) + 0.5) * scale + offset
            for n, scale, offset in zip(self.size, self.scale, self.offset, strict=True)
        )
        return x, y

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Column, and row, of the image at the middle of each column, and row, of the input, (side,); -1 outside."""
        middles = np.arange(self.side) + 0.5
        found = [np.floor((middles - offset) / scale) for scale, offset in zip(self.scale, self.offset, strict=True)]
        columns, rows = (
            np.where((one >= 0) & (one < n), one, -1).astype(int) for one, n in zip(found, self.size, strict=True)
        )
        return columns, rows

    def to_picture(self, places: np.ndarray) -> np.ndarray:
        """Points or boxes of the input -> the same in the image, cut off at its edges."""
        n = places.shape[-1] // 2
        found = (places - np.tile(self.offset, n)) / np.tile(self.scale, n)
        return np.clip(found, 0, np.tile(self.size, n))
