"""Where the windows of a long sample begin. Must not know what the sample is made of."""

import math

import numpy as np

OVERLAP = 0.25  # of a window, at least
LONG_SAMPLES = ("truncate", "windows")


def window_starts(length: int, width: int) -> list[int]:
    """Starts of windows of one ``width`` that cover ``length`` evenly, each overlapping the next by a quarter or more.

    A sample that fits into one window has one, which begins at 0.
    """
    if length <= width:
        return [0]
    step = max(1, math.floor((1 - OVERLAP) * width))
    n = 1 + math.ceil((length - width) / step)
    return np.linspace(0, length - width, n).round().astype(int).tolist()
