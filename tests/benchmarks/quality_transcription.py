"""Transcripts of spoken digit strings by toys: a Whisper-like network and a CTC network, trained from scratch."""

import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
import soxr

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from speech_networks import DIGITS, save_whisper  # noqa: E402

from skltransfer.transcription import FineTunedTranscriber  # noqa: E402

SECONDS = 3


def clips() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    with np.load(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "spoken_digits.npz") as file:
        offset, samples = file["offset"], file["samples"] / np.float32(32768)
        return [samples[a:b] for a, b in zip(offset[:-1], offset[1:], strict=True)], file["label"], file["speaker"]


def strings(rows, n, *, lengths, changed, seed):
    """Digit strings of one speaker each, with random pauses; speed, pitch and level are changed in those to learn."""
    rng = np.random.default_rng(seed)
    sounds, labels, speakers = clips()
    names = np.unique(speakers[rows])
    X, y = [], []
    while len(X) < n:
        own = rows[speakers[rows] == rng.choice(names)]
        picked = rng.choice(own, rng.integers(lengths[0], lengths[1] + 1))
        speed = rng.uniform(0.75, 1.35) if changed else 1.0
        parts = [np.zeros(rng.integers(200, 1200), np.float32)]
        for row in picked:
            sound = sounds[row] / max(np.abs(sounds[row]).max(), 1e-3)
            if changed:
                sound = soxr.resample(sound, 8000, 8000 * speed * rng.uniform(0.92, 1.08))
                sound = sound * rng.uniform(0.4, 1)
            parts += [sound, np.zeros(rng.integers(100, 1000), np.float32)]
        whole = np.concatenate(parts) * 0.8
        if len(whole) > SECONDS * 8000:
            continue
        if changed:
            whole = whole + rng.normal(0, 10 ** rng.uniform(-4, -2), len(whole))
        X.append((np.clip(whole, -1, 1).astype(np.float32), 8000))
        y.append(" ".join(DIGITS[labels[row]] for row in picked))
    return X, y
