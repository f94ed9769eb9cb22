"""Transcripts of speech: from audio to strings, and how such strings are compared."""

import copy
import itertools
import numbers
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions

from skltransfer._estimators.parameters import (
    HasAdapter,
    ReadsAudio,
    Resumes,
    StopsEarly,
    TrainsJointly,
    declared,
    parameter,
)
from skltransfer._estimators.sequence_fine_tuner import SequenceFineTuner
from skltransfer._estimators.target_checks import object_array, rows_of, texts_of
from skltransfer.backbones import (
    DECODER,
    Backbone,
    CtcTexts,
    DecoderModel,
    TargetTexts,
    ctc_head,
    language_code,
    n_frames,
    reload_backbone,
    way_to_write,
)
from skltransfer.engine import (
    NEW_HEAD,
    OWN_HEAD,
    CtcTask,
    GenerationTask,
    NetworkSpec,
    NetworkState,
    RecordTargets,
    TrainingSet,
    answers_of,
)
from skltransfer.exceptions import BadSampleError, MissingDependencyError, UnsupportedBackboneError
from skltransfer.inputs import AudioSamples, Samples, samples_from_collection, windows_between_words

NORMALIZERS = ("basic",)
APOSTROPHES = re.compile(r"(?<=\w)['’](?=\w)")
MOST_NAMED = 5
N_FIRST = 4  # tokens with which Whisper begins, at most: transcript, language, task, no times
BLANK = 0  # of a vocabulary made of the characters of y


class CharacterTexts:
    """Token ids of texts whose characters are the tokens, behind the blank.

    Parameters
    ----------
    vocabulary : sequence of str
        The blank and the characters.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._characters = list(vocabulary)
        self._ids = {character: i for i, character in enumerate(vocabulary)}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without characters that the vocabulary lacks. Whitespace is one space."""
        return [self._ids[one] for one in _one_spaced(text) if one in self._ids]

    def text(self, ids: Sequence[int]) -> str:
        """The text that token ids stand for."""
        return " ".join("".join(self._characters[i] for i in ids).split())


@declared
class FineTunedTranscriber(ReadsAudio, HasAdapter, Resumes, StopsEarly, TrainsJointly, SequenceFineTuner):
    """Transcribe speech."""

    _kind_of_samples = "audio"
    _writes = "speech to text"
    _truncates = False
    backbone: str | Backbone = parameter(default="hf:openai/whisper-base.en", constraint="no_validation", kw_only=False)
    learning_rate: float = parameter(default=1e-5)
    backbone_lr_factor: float = parameter(default=1.0)
    language: str | None = parameter(default=None, constraint=[str, None])
    window_seconds: float | None = parameter(
        default=None, constraint=[Interval(numbers.Real, 1, None, closed="left"), None]
    )
    normalizer: str | None = parameter(default="basic", constraint=[StrOptions(set(NORMALIZERS)), None])

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        samples, stages = self._to_predict(X)
        longest = self._window(stages.backbone)
        is_long = np.array([longest is not None and _length(samples, row) > longest for row in range(len(samples))])
        answers: list[list[Any]] = [[] for _ in is_long]
        for rows in (np.flatnonzero(~is_long), *np.flatnonzero(is_long)[:, None]):  # long clips one by one
            if not len(rows):
                continue
            part, owners = samples.take(rows), rows
            if is_long[rows[0]]:
                part = self._windows(part.read(0), longest, stages.backbone)
                owners = np.repeat(rows, len(part))
            found, _ = answers_of(self._network_, stages, part, self._bad_sample_policy(), self._task_to_answer)
            for row, answer in zip(owners, found, strict=True):
                answers[row].append(answer)
        return self._joined(answers)

    def score(self, X: Any, y: Any) -> float:
        return 1.0 - word_error_rate(y, self.predict(X), normalizer=self.normalizer)

    def _joined(self, answers: list[list[Any]]) -> np.ndarray:
        """The text of each clip, from the answers to its windows; None for a clip that cannot be read."""
        owners = np.repeat(np.arange(len(answers)), [len(parts) for parts in answers])
        texts = self._as_texts(object_array([answer for parts in answers for answer in parts]), owners)
        parts: list[list[str | None]] = [[] for _ in answers]
        for owner, text in zip(owners, texts, strict=True):
            parts[owner].append(text)
        return object_array([None if None in one else _sentence(one) for one in parts])

    def _window(self, backbone: Backbone) -> int | None:
        """Values of the longest clip that is transcribed at once; None where there is no limit."""
        longest, rate = backbone.preprocessing.longest, backbone.preprocessing.rate
        if self.window_seconds is None:
            return longest
        window = int(self.window_seconds * rate)
        if longest is not None and window > longest:
            raise ValueError(
                f"window_seconds={self.window_seconds!r} is more than the {longest / rate:g} s that {backbone.name!r} "
                "hears at once. Set at most these, or None."
            )
        return window

    def _windows(self, waveform: np.ndarray, longest: int, backbone: Backbone) -> Samples:
        """Windows of a long clip."""
        rate = backbone.preprocessing.rate
        windows = windows_between_words(waveform, rate, longest)
        return samples_from_collection(windows, "audio", **backbone.reading, sampling_rate=rate)

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        if backbone.modality != "audio":
            raise UnsupportedBackboneError(
                f"FineTunedTranscriber reads audio, and {backbone.name!r} reads samples of kind {backbone.modality!r}. "
                "Choose a network that reads audio, such as backbone='hf:openai/whisper-base.en'."
            )
        if backbone.is_windowed:
            raise UnsupportedBackboneError(
                f"FineTunedTranscriber cuts long audio itself, but {backbone.name!r} was loaded with "
                "long_samples='windows'. Load it without, and set window_seconds."
            )
        way_to_write(backbone)
        is_fitted = hasattr(self, "_network_")  # in fit, a part that is not heard would leave words without sound
        longest = None if is_fitted else backbone.preprocessing.longest
        return AudioSamples(items, **backbone.reading, sampling_rate=self.sampling_rate, longest=longest)

    def _has_decoder(self, backbone: Backbone) -> bool:
        return way_to_write(backbone) == DECODER

    def _decoder(self, backbone: Backbone) -> DecoderModel:
        decoder = super()._decoder(backbone)
        self._spoken(decoder, backbone.name)
        return decoder

    def _spoken(self, decoder: DecoderModel, name: str) -> str | None:
        """Code of the language that is written; None for networks that know one."""
        known = decoder.languages
        if not known:
            self._refuse_language(name, "writes one language")
            return None
        language = decoder.own_language if self.language is None else self.language
        if language is None:
            raise ValueError(
                f"{name!r} writes {len(known)} languages. Name the one of y, such as language='en'; one estimator "
                "writes one language."
            )
        code = language_code(language)
        if code not in known:
            raise ValueError(f"language={language!r} is none that {name!r} writes: {', '.join(known)}.")
        return code

    def _refuse_language(self, name: str, reason: str) -> None:
        if self.language is not None:
            raise ValueError(f"language={self.language!r} has no meaning: {name!r} {reason}. Set language=None.")

    def _texts(self, backbone: Backbone) -> TargetTexts | CtcTexts | CharacterTexts:
        if self._has_decoder(backbone):
            decoder = self._decoder(backbone)
            return decoder.texts.transcribed_in(self._spoken(decoder, backbone.name))
        own = ctc_head(backbone)
        return CharacterTexts(self.vocabulary_) if own is None else own.texts

    def _is_cut(self, ids: list[int], texts: Any) -> bool:
        if not isinstance(self._task_, GenerationTask):
            return False
        last = next((i for i, one in enumerate(ids) if one in texts.ends), len(ids))
        return last >= self._task_to_answer.how["max_new_tokens"]  # the library returns no token that ends a transcript

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        texts, backbone = super()._checked_target(y, samples), self._loaded_backbone()
        longest = backbone.preprocessing.longest
        if longest is not None and getattr(samples.items, "shape", (0, 0))[1:] > (longest,):  # a table of waveforms
            raise BadSampleError(
                0,
                f"row of {samples.items.shape[1]} values",
                f"the network hears {longest} at once",
                "cut it, and its target, into shorter clips",
            )
        if not self._has_decoder(backbone):
            own = ctc_head(backbone)
            _refuse_too_many_letters(texts, samples, _one_spaced if own is None else own.texts.ids, backbone)
        return texts

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        backbone = self._loaded_backbone()
        if self._has_decoder(backbone):
            return super()._encode(y, weights)
        self._refuse_language(backbone.name, "writes letters as it hears them")
        own, kept = ctc_head(backbone), np.flatnonzero(weights > 0)
        if own is None:
            self.vocabulary_ = ["", *sorted({letter for row in kept for letter in _one_spaced(y[row])})]
            if len(self.vocabulary_) == 1:
                raise ValueError("All strings of y (of positive weight) are empty, which leaves nothing to learn.")
        else:
            self.vocabulary_ = own.texts.vocabulary
            _refuse_unknown_letters(y, kept, own.texts, backbone.name)
        texts = self._texts(backbone)
        return RecordTargets([{"ids": np.array(texts.ids(text), dtype=np.int64)} for text in y])

    def _refuse_new_labels(self, both: np.ndarray, weights: np.ndarray) -> None:
        known = getattr(self, "vocabulary_", None)
        if known is None:
            return
        draft = copy.copy(self)
        draft._encode(both, weights)
        new = sorted(set(draft.vocabulary_) - set(known))
        if new:
            raise ValueError(f"y_val has the characters {new[:MOST_NAMED]!r}, which y has not. Leave these clips out.")

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        if self._has_decoder(backbone):
            return super()._spec(backbone, start)
        head = NEW_HEAD if ctc_head(backbone) is None else OWN_HEAD
        return self._tapped_spec(backbone, [backbone.n_stages], head)

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Any, TrainingSet]:
        backbone = self._loaded_backbone()
        if task is not None or self._has_decoder(backbone):
            return super()._to_task(data, task)
        counts = np.array([len(record["ids"]) for record in data.targets.records])
        mean, own = max(float(data.weights @ counts / data.weights.sum()), 1.0), ctc_head(backbone)
        if own is None:
            return CtcTask(len(self.vocabulary_), BLANK, None, mean), data
        return CtcTask(own.linear.out_features, own.blank, own.fingerprint, mean), data

    @property
    def _task_to_answer(self) -> Any:
        if isinstance(self._task_, CtcTask):
            return self._task_
        backbone = reload_backbone(*self._origin_)
        decoder, task = self._decoder(backbone), super()._task_to_answer
        most, room = task.how["max_new_tokens"], decoder.longest - N_FIRST
        if self.max_new_tokens is not None and most > room:
            raise ValueError(f"max_new_tokens={most!r} is more than the {room} that {backbone.name!r} has room for.")
        language = self._spoken(decoder, backbone.name)
        spoken = {} if language is None else {"language": language, "task": "transcribe"}
        return task.writing({**task.how, "max_new_tokens": min(most, room), "return_timestamps": False, **spoken})


def word_error_rate(y_true: Any, y_pred: Any, *, normalizer: str | None = "basic") -> float:
    """Word error rate."""
    try:
        import jiwer
    except ImportError as error:
        raise MissingDependencyError(
            "word_error_rate needs jiwer: pip install 'skltransfer[transcription]'."
        ) from error
    if normalizer not in (*NORMALIZERS, None):
        raise ValueError(f"normalizer must be one of {NORMALIZERS} or None, got {normalizer!r}.")
    truth, found = texts_of(rows_of(y_true, "y_true"), "y_true"), texts_of(rows_of(y_pred, "y_pred"), "y_pred")
    check_consistent_length(truth, found)
    change = str if normalizer is None else normalized
    return float(jiwer.wer([change(text) for text in truth], [change(text) for text in found]))


def normalized(text: str) -> str:
    """A text in lower case without punctuation and symbols, with single spaces."""
    text = APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).lower())
    kept = (" " if unicodedata.category(letter)[0] in "PS" else letter for letter in text)
    return " ".join("".join(kept).split())


def _sentence(parts: Sequence[str]) -> str:
    """What was written of the windows of a clip, in their order."""
    return " ".join(text.strip() for text in parts if text.strip())


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _length(samples: Samples, position: int) -> int:
    """Values of a clip at the network's rate; 0 for one that cannot be read, which whoever reads it says."""
    try:
        return samples.length(position) if isinstance(samples, AudioSamples) else len(samples.read(position))
    except BadSampleError:
        return 0


def _refuse_too_many_letters(texts: np.ndarray, samples: Samples, letters: Callable, backbone: Backbone) -> None:
    """Raise if a clip has fewer frames than its target needs: one a letter, and a blank between equal ones."""
    found = []
    for row, text in enumerate(texts):
        ids = letters(text)
        needed = len(ids) + sum(a == b for a, b in itertools.pairwise(ids))
        length = _length(samples, row)
        if length and needed > n_frames(backbone, length):
            found.append((row, needed, n_frames(backbone, length)))
    if found:
        row, needed, n = found[0]
        more = f" (and in rows {[one[0] for one in found[1:6]]})" if len(found) > 1 else ""
        raise ValueError(
            f"y[{row}] needs {needed} frames, one for each letter and one between equal letters, but the clip has {n}"
            f"{more}. Check that X and y belong together, or drop these rows."
        )


def _refuse_unknown_letters(y: np.ndarray, rows: np.ndarray, texts: CtcTexts, name: str) -> None:
    for row in rows:
        unknown = texts.unknown(y[row])
        if unknown:
            raise ValueError(
                f"y[{row}] holds {unknown[:MOST_NAMED]!r}, which {name!r} cannot write; its letters are "
                f"{''.join(texts.letters)!r}. Write y in these (mind upper and lower case), or choose an encoder "
                "without a head, whose vocabulary is made from y."
            )
