"""Rows 31 to 51 of the catalogue."""

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import soundfile
import tokenizers
import transformers
from catalogue import Bench, Fault, features

from skltransfer import PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError, MissingSampleError, UnsupportedBackboneError

RATE = 8000
REPLACE = "Fix: replace it or drop the row"
TEXTS = ["a good film", "a bad film"]
WORDS = ["[UNK]", "[END]", "a", "good", "film"]
ODD = ["🎬" * 30, "שלום", "a\x00b\x07c", "漢字 кино", "e\u0301" * 20, "\u202eabc\u202c", "a\u200bb", "\ufffd"]
spoken = partial(features, backbone="toy:text")
heard = partial(features, backbone="toy:audio", sampling_rate=RATE)


def _text(item):
    return lambda bench: spoken([*TEXTS, item])


def _sound(item, **parameters):
    return lambda bench: heard([tone(), tone(300), item], **parameters)


def tone(hertz: int = 440, seconds: float = 0.2, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(values: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format="WAV")
    return buffer.getvalue()


def folder(bench: Bench, words: int = 5, positions: int = 16) -> str:
    """A tiny GPT-2 with a tokenizer of words that has no padding token, as transformers saves them."""
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", eos_token="[END]")
    tokenizer.save_pretrained(bench.place)
    sizes = {"vocab_size": words, "n_positions": positions, "n_embd": 8, "n_layer": 2, "n_head": 2}
    transformers.GPT2Model(transformers.GPT2Config(**sizes, eos_token_id=1, bos_token_id=1)).save_pretrained(
        bench.place
    )
    return f"hf:{bench.place}"


def _containers(bench: Bench) -> tuple[list, list]:
    column = np.array(TEXTS, dtype=object).reshape(-1, 1)
    X = [np.array(TEXTS), column, pd.Series(TEXTS, index=[5, 9]), pd.DataFrame({"text": TEXTS})]
    return [spoken(x) for x in X], [spoken(TEXTS)] * len(X)


def _a_million_letters(bench: Bench) -> tuple[list, list]:
    """The tokenizer is shown little of it, and its ids are those of the whole."""
    text, preprocessing = "good film a film " * 60_000, load_backbone(folder(bench)).preprocessing
    shown, tokenizer = [], preprocessing.tokenizer

    class Watched:
        is_fast = True

        def __call__(self, text, **options):
            shown.append(len(text))
            return tokenizer(text, **options)

    ids = replace(preprocessing, tokenizer=Watched())(text).tolist()
    return [ids, max(shown) < 2000], [tokenizer(text, truncation=True, max_length=16)["input_ids"], True]


def _too_long(bench: Bench) -> tuple[list, list]:
    extractor = PretrainedFeatureExtractor(folder(bench), dtype="float32", cache=None)
    cut = extractor.transform(["a " * 17, "a " * 16])
    return [extractor.n_truncated_, *cut[0]], [1, *cut[1]]


def _without_padding(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    name = folder(bench)
    together = features(["good", "a good film a film"], name)
    return together[0], features(["good"], name)[0]


def _odd(bench: Bench) -> tuple[list, list]:
    together = spoken(ODD)
    return [*together, np.isfinite(together).all()], [*(spoken([text])[0] for text in ODD), True]


def _claims_gigabytes(bench: Bench) -> np.ndarray:
    content = bytearray(wav(np.rint(tone() * 32768).astype(np.int16)))
    content[4:8], content[40:44] = (2**31 - 1).to_bytes(4, "little"), (2**31 - 37).to_bytes(4, "little")
    return heard([bytes(content)])


def _without_rate(bench: Bench) -> bytes:
    content = bytearray(wav(tone()))
    content[24:28] = bytes(4)
    return bytes(content)


def _stereo(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    fast = tone(rate=44_100)
    near = heard([wav(np.stack([fast, fast], axis=1), 44_100)]), heard([tone()])
    return np.abs(near[0] - near[1]).max() < 0.01 * np.abs(near[1]).max(), True


FAULTS = [
    *(
        Fault(31, repr(item), _text(item), MissingSampleError, r"X\[2\]", "missing value", "Fix: .*SimpleImputer")
        for item in (None, np.nan, pd.NA)
    ),
    *(
        Fault(
            32,
            f"{item!r} alone",
            lambda b, item=item: (np.isfinite(spoken([*TEXTS, item])).all(), True),
            says="X holds empty texts; their features are those of no words at all",
        )
        for item in ("", "  \n")
    ),
    Fault(33, "bytes", _text(b"film"), BadSampleError, r"X\[2\]", "bytes, not text", r"Fix: decode it: value.decode"),
    Fault(
        34,
        "half a surrogate pair",
        _text("a \ud800 film"),
        BadSampleError,
        r"X\[2\]",
        "no valid Unicode at position 2",
        "Fix: clean it",
    ),
    Fault(35, "a number", _text(3), BadSampleError, r"X\[2\] \(3\)", "int, not text", "Fix: pass strings"),
    Fault(
        36,
        "one text",
        lambda b: spoken("a good film"),
        ValueError,
        says="Expected a collection of samples, got one: 'a good film'",
        remedy=r"Pass it in a list: \[sample\]",
    ),
    Fault(
        37,
        "a list of words",
        _text(["a", "film"]),
        BadSampleError,
        r"X\[2\]",
        "a list, not text",
        "Fix: join its words",
    ),
    Fault(38, "arrays, Series, columns", _containers),
    Fault(39, "a million letters", _a_million_letters),
    Fault(
        40, "more words than positions", _too_long, says="1 of 2 texts are longer than max_length=16", remedy="windows"
    ),
    Fault(
        41,
        "another network's tokenizer",
        lambda b: load_backbone(folder(b, words=3)),
        UnsupportedBackboneError,
        says="makes token ids up to 4, the network knows 3",
        remedy="Save the tokenizer that the network was trained with beside it",
    ),
    Fault(42, "control characters, emoji, scripts from right to left", _odd),
    Fault(43, "a tokenizer without padding", _without_padding),
    Fault(44, "categories", lambda b: (spoken(pd.Series(TEXTS, dtype="category")), spoken(TEXTS))),
    Fault(45, "no bytes", _sound(b""), BadSampleError, r"X\[2\]", "it is empty", REPLACE),
    Fault(
        45,
        "a page called .wav",
        lambda b: heard([tone(), tone(300), b.file(b"<html>404</html>", "a.wav")]),
        BadSampleError,
        r"X\[2\] \('.*a.wav'\)",
        "no audio that can be read .starts with '<html>404</",
        "Fix: pass WAV, FLAC, OGG, MP3, AIFF, AU, M4A, MP4 or AAC",
    ),
    *(
        Fault(46, what, _sound(item), BadSampleError, r"X\[2\]", "no samples", "Fix: drop the row")
        for what, item in {"an empty array": np.zeros(0, np.float32), "a file of a header": wav(np.zeros(0))}.items()
    ),
    Fault(
        47,
        "half a WAV",
        lambda b: (heard([tone(), wav(tone())[:1700]]).shape, (2, 32)),
        where=r"X\[1\]",
        says="is shorter than its header says; what is there is read",
    ),
    Fault(
        48,
        "a header that claims 2 GB",
        lambda b: (_claims_gigabytes(b).shape, (1, 32)),
        where=r"X\[0\]",
        says="is shorter than its header says",
    ),
    Fault(
        48,
        "a rate of 0",
        lambda b: heard([tone(), tone(300), _without_rate(b)]),
        BadSampleError,
        r"X\[2\]",
        "no audio that can be read|a rate of 0",
        "Fix: ",
    ),
    Fault(
        48,
        "hours",
        _sound(wav(np.zeros(601 * 100, np.int16), rate=100)),
        BadSampleError,
        r"X\[2\]",
        "more than 600 seconds by its header",
        "Fix: cut it into pieces",
    ),
    Fault(49, "stereo at 44,100 Hz", _stereo),
    Fault(
        49,
        "an array without a rate",
        _sound(tone(), sampling_rate=None),
        BadSampleError,
        r"X\[0\]",
        "an array without a rate",
        r"Fix: set sampling_rate=, or pass \(array, rate\)",
    ),
    *(
        Fault(
            50,
            f"a value of {value}",
            _sound(np.full(100, value, np.float32)),
            BadSampleError,
            r"X\[2\]",
            "NaN or infinite",
            "Fix: replace them or drop the row",
        )
        for value in (np.nan, np.inf)
    ),
    Fault(
        50,
        "a clipped sound",
        lambda b: (heard([tone(), np.clip(9 * tone(), -1, 1)]).shape, (2, 32)),
        where=r"X\[1\]",
        says="is clipped",
    ),
    Fault(
        51,
        "16-bit integers",
        lambda b: (heard([np.rint(tone() * 2**15).astype(np.int16)]), heard([np.rint(tone() * 2**15) / 2**15])),
    ),
    Fault(
        51,
        "floats beyond 1",
        _sound(7 * tone()),
        BadSampleError,
        r"X\[2\]",
        "floats up to 3.5",
        r"Fix: scale them to \[-1, 1\], or pass int16",
    ),
]
