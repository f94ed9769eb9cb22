"""Long waveforms, cut where nobody seems to speak. Must not know networks."""

import numpy as np

STEP, SPAN, SHARE = 0.01, 0.2, 1 / 3  # s, s, and of a window


def windows_between_words(waveform: np.ndarray, rate: int, longest: int) -> list[np.ndarray]:
    """Parts of a waveform, in order and without overlap, none of which is longer than a window.

    Each ends at the quietest fifth of a second in the last third of its window, so that hardly a word is cut.

    Parameters
    ----------
    waveform : ndarray of shape (n,)
        Waveform.
    rate : int
        In Hz.
    longest : int
        Maximum number of values of a part.
    """
    parts, start = [], 0
    while len(waveform) - start > longest:
        last = min(start + longest, len(waveform) - int(longest * SHARE))  # the rest is long enough to be heard
        end = start + _quietest(waveform[start:last], int(longest * (1 - SHARE)), rate)
        parts.append(waveform[start:end])
        start = end
    return [*parts, waveform[start:]]


def _quietest(window: np.ndarray, first: int, rate: int) -> int:
    """Where to cut a window: the middle of its quietest span after a place, the last one of equals."""
    step = max(1, int(STEP * rate))
    n_steps = (len(window) - first) // step
    n_span = min(max(1, int(SPAN / STEP)), n_steps)
    if n_steps == 0:
        return len(window)
    power = np.square(window[first : first + n_steps * step], dtype=np.float64).reshape(n_steps, step).sum(1)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    spans = sums[n_span:] - sums[: len(sums) - n_span]
    quiet = np.flatnonzero(spans <= spans.min() * (1 + 1e-9))[-1]
    return first + (int(quiet) * step) + n_span * step // 2
