"""What is read of a sample that is too long: one end, both ends, or windows. Must not know what it is made of."""

import math

import numpy as np

OVERLAP = 0.25  # of a window, at least
FIRST = 0.25  # of what is kept of both ends: 128 of 510 tokens in Sun et al. (2019)
KEPT = {"keep_start": "start", "keep_end": "end", "keep_both_ends": "both ends"}
LONG_SAMPLES = ("truncate", *KEPT, "windows")


def both_ends(width: int) -> tuple[int, int]:
    """How much of the beginning and of the end is kept, ``width`` in all."""
    n_first = math.ceil(FIRST * width)
    return n_first, width - n_first


def window_starts(length: int, width: int) -> list[int]:
    """Starts of windows of one ``width`` that cover ``length`` evenly, each overlapping the next by a quarter or more.

    A sample that fits into one window has one, which begins at 0.
    """
    if length <= width:
        return [0]
    step = max(1, math.floor((1 - OVERLAP) * width))
    n = 1 + math.ceil((length - width) / step)
    return np.linspace(0, length - width, n).round().astype(int).tolist()
