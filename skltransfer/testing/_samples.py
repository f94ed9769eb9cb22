"""Samples and targets of two kinds, with which the conformance suite tests. Must not know estimators."""

from typing import Any

import numpy as np

WORDS = (("bright", "warm", "lovely"), ("dull", "cold", "awful"))


def _pictures(rng: np.random.Generator, kind: np.ndarray) -> list:
    return [rng.integers(0, 128, (20, 24, 3), dtype=np.uint8) + np.uint8(127 * k) for k in kind]


def _texts(rng: np.random.Generator, kind: np.ndarray) -> list:
    return [f"a {rng.choice(WORDS[k])} {rng.choice(WORDS[k])} day, number {rng.integers(1000)}" for k in kind]


def _sounds(rng: np.random.Generator, kind: np.ndarray) -> list:
    time = np.arange(3200) / 16_000
    pitch = (150 + 1500 * kind) * rng.uniform(0.9, 1.1, len(kind))
    return [(0.5 * np.sin(2 * np.pi * hz * time).astype(np.float32), 16_000) for hz in pitch]


def _sentences(rng: np.random.Generator, kind: np.ndarray) -> list:
    return [text.replace(",", " ,").split()[: 4 + i % 4] for i, text in enumerate(_texts(rng, kind))]


def _tags(X: list) -> np.ndarray:
    return objects([["GOOD" if w in WORDS[0] else "BAD" if w in WORDS[1] else "O" for w in words] for words in X])


def _scenes(rng: np.random.Generator, kind: np.ndarray) -> list:
    """Dark images of several sizes with a bright square, on the left or on the right."""
    X = []
    for i, k in enumerate(kind):
        scene = rng.integers(0, 60, (24 + 4 * (i % 3), 32, 3), dtype=np.uint8)
        scene[4:20, 2 + 12 * k : 18 + 12 * k] = rng.integers(200, 256, (16, 16, 3))
        X.append(scene)
    return X


def _masks(X: list) -> np.ndarray:
    return objects([(scene.min(2) >= 200).astype(int) for scene in X])


def _boxes(X: list) -> np.ndarray:
    found = []
    for mask in _masks(X):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        found.append({"boxes": [[float(edge) for edge in box]], "labels": ["square"]})
    return objects(found)


def _translations(X: list) -> np.ndarray:
    return objects(["good" if any(word in text for word in WORDS[0]) else "bad" for text in X])


def _transcripts(X: list) -> np.ndarray:
    """Names of tones, by how often their waveforms cross zero."""
    return objects(["lo" if np.count_nonzero(np.diff(np.sign(wave))) < 300 else "hi" for wave, _ in X])


def _questions(rng: np.random.Generator, kind: np.ndarray) -> list:
    return [("How is it?", f"A {rng.choice(WORDS[k])} day, number {rng.integers(1000)}.") for k in kind]


def _answers(X: list) -> np.ndarray:
    return objects([text.split()[1] for _, text in X])


def objects(values: Any) -> np.ndarray:
    """An array of objects, (n,), also where all of them are alike in shape."""
    found = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        found[i] = value
    return found


MAKERS = {"image": _pictures, "text": _texts, "audio": _sounds, "words": _sentences}
MAKERS |= {"masks": _scenes, "boxes": _scenes}
MAKERS |= {"translations": _texts, "transcripts": _sounds, "answers": _questions}
STRUCTURED = {"words": _tags, "masks": _masks, "boxes": _boxes}
WRITTEN = {"translations": _translations, "transcripts": _transcripts, "answers": _answers}
STRUCTURED |= WRITTEN
