"""Transcripts of spoken digit strings by a toy: a Whisper-like network trained from scratch, for each speaker left out.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_transcription.py results.json

Strings of 1 to 5 digits are put together from the clips of the Free Spoken Digit Dataset: those of four speakers to
fit, with random pauses, speed, pitch, level, noise and microphone; those of the fifth to test, 3 to 5 digits each,
unchanged. The network has the proportions of Whisper and random weights, and is trained by
`FineTunedTranscriber(freeze_depth=0.0)`. It is then saved as a folder with its own tokenizer, and `GridSearchCV`
searches `freeze_depth` on other strings of the four speakers; the encoder's passes are counted. Results are kept in
the file as they come, so a killed run goes on. These are numbers of a toy: published weights know speech already. One
thread: 10 to 20 minutes a speaker.
"""

import json
import os
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import soxr
import torch
import transformers
from sklearn.model_selection import GridSearchCV

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from speech_networks import DIGITS, save_whisper

from skltransfer import ActivationStore, FineTunedTranscriber, word_error_rate

SECONDS, RATE = 3, 8000
N_FIT, N_SEARCH, N_TEST = 8000, 300, 200
NETWORK = {"seconds": SECONDS, "n_mels": 40, "d_model": 64, "encoder_layers": 2, "decoder_layers": 1, "dropout": 0.1}
HOW = {"batch_size": 32, "max_grad_norm": 1.0, "max_new_tokens": 9, "dtype": "float32", "random_state": 0}
SCRATCH = {"freeze_depth": 0.0, "learning_rate": 1.5e-3, "max_epochs": 14}


def clips() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    with np.load(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "spoken_digits.npz") as file:
        offset, samples = file["offset"], file["samples"] / np.float32(32768)
        return [samples[a:b] for a, b in zip(offset[:-1], offset[1:], strict=True)], file["label"], file["speaker"]


def through_another_microphone(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A waveform whose frequencies are a little louder or softer, smoothly: within about 10 dB."""
    spectrum = np.fft.rfft(sound)
    decibels = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, 8), rng.normal(0, 5, 8))
    return np.fft.irfft(spectrum * 10 ** (decibels / 20), len(sound))


def spoken(sounds: list[np.ndarray], rng: np.random.Generator, *, changed: bool) -> np.ndarray:
    """Clips one after the other, with pauses; with ``changed``, at other speeds and levels, and as another microphone
    would hear them."""
    speed, parts = rng.uniform(0.75, 1.35), [np.zeros(rng.integers(200, 1200), np.float32)]
    for one in sounds:
        sound = one / max(np.abs(one).max(), 1e-3)
        if changed:
            sound = soxr.resample(sound, RATE, RATE * speed * rng.uniform(0.92, 1.08)) * rng.uniform(0.4, 1)
        parts += [sound, np.zeros(rng.integers(100, 1000), np.float32)]
    whole = np.concatenate(parts) * 0.8
    if not changed:
        return whole
    whole = through_another_microphone(whole, rng)
    return whole + rng.normal(0, 10 ** rng.uniform(-4, -1.7), len(whole))


def strings(
    speakers: list[str], n: int, *, lengths: tuple[int, int], changed: bool, seed: int
) -> tuple[list[tuple[np.ndarray, int]], list[str]]:
    """Digit strings of one speaker each, and their transcripts."""
    rng, (sounds, labels, names) = np.random.default_rng(seed), clips()
    X, y = [], []
    while len(X) < n:
        picked = rng.choice(np.flatnonzero(names == rng.choice(speakers)), rng.integers(lengths[0], lengths[1] + 1))
        whole = spoken([sounds[row] for row in picked], rng, changed=changed)
        if len(whole) <= SECONDS * RATE:
            X.append((np.clip(whole, -1, 1).astype(np.float32), RATE))
            y.append(" ".join(DIGITS[labels[row]] for row in picked))
    return X, y


def library_s_name(key: str) -> str:
    key = key.removeprefix("readout.decoder.model.")
    return f"model.encoder.{key.removeprefix('suffix.')}" if key.startswith("suffix.") else key


def pretrained(start: pathlib.Path, model: FineTunedTranscriber) -> None:
    """Put what was learnt into the folder that the network was read from."""
    library = transformers.WhisperForConditionalGeneration.from_pretrained(start)
    state = {library_s_name(key): torch.tensor(np.array(value)) for key, value in model._network_.changed.items()}
    library.load_state_dict(state, strict=False)
    library.save_pretrained(start)


def searched(folder: pathlib.Path, speakers: list[str]) -> dict:
    """Scores of the depths, and how many clips passed the encoder, of how many there are."""
    X, y = strings(speakers, N_SEARCH, lengths=(3, 5), changed=True, seed=7)
    store = ActivationStore()
    model = FineTunedTranscriber(f"hf:{folder}", learning_rate=1e-4, max_epochs=2, cache=store, **HOW)
    search = GridSearchCV(model, {"freeze_depth": [1.0, 0.5]}, cv=3, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"].tolist()
    return {"scores": dict(zip(("1.0", "0.5"), scores, strict=True)), "passes": store.info()["misses"], "clips": len(X)}


def of_speaker(left: str, speakers: list[str], folder: pathlib.Path) -> dict:
    """Word error rates of the speaker who was left out and of the others, and the search."""
    others = [name for name in speakers if name != left]
    start = save_whisper(folder / left, **NETWORK)
    train = strings(others, N_FIT, lengths=(1, 5), changed=True, seed=0)
    model = FineTunedTranscriber(f"hf:{start}", backbone_lr_factor=1.0, **HOW | SCRATCH).fit(*train)
    rates = {}
    for name, group in (("left out", [left]), ("in training", others)):
        X, y = strings(group, N_TEST, lengths=(3, 5), changed=False, seed=1)
        rates[name] = word_error_rate(y, model.predict(X))
    pretrained(start, model)
    return {"rates": rates, "search": searched(start, others)}


def main(path: str) -> None:
    warnings.filterwarnings("ignore", "At least one mel filter|.* texts were not written")
    kept, speakers = pathlib.Path(path), sorted(set(clips()[2].tolist()))
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for left in reversed(speakers):
        if left not in results:
            with tempfile.TemporaryDirectory() as folder:
                results[left] = of_speaker(left, speakers, pathlib.Path(folder))
            kept.write_text(json.dumps(results, indent=1))
        print(left, json.dumps(results[left]))


if __name__ == "__main__":
    main(*sys.argv[1:])
