"""What the fine-tuning estimators share that write a text about each sample with a pretrained decoder.

Must not know what is read, nor what a text is about.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skltransfer._estimators.parameters import SmoothsLabels, WritesTexts, declared
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner
from skltransfer._estimators.target_checks import object_array, texts_of
from skltransfer.backbones import (
    Backbone,
    DecoderModel,
    TargetTexts,
    checked_options,
    decoder_model,
    reload_backbone,
)
from skltransfer.engine import OWN_HEAD, GenerationTask, NetworkSpec, NetworkState, RecordTargets, TrainingSet
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import Samples

LONGEST = 512  # tokens of a target, where neither the user nor the network says less
SET_BY = {"max_new_tokens": "max_new_tokens", "max_length": "max_new_tokens", "num_beams": "num_beams"}


@declared
class SequenceFineTuner(WritesTexts, SmoothsLabels, StructuredFineTuner):
    """Parent of the fine-tuning estimators whose answer is a text that a decoder writes."""

    _writes = "text to text"
    _truncates = True

    def _decoder(self, backbone: Backbone) -> DecoderModel:
        return decoder_model(backbone, self._writes)

    def _adapts_head(self, backbone: Backbone) -> bool:
        return True  # the decoder

    def _texts(self, backbone: Backbone) -> TargetTexts:
        """From texts to token ids, and back."""
        return self._decoder(backbone).texts

    def _is_cut(self, ids: list[int], texts: TargetTexts) -> bool:
        """True if a text was not written to its end."""
        return not texts.has_ended(ids)

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        checked_options(self.generation_options, SET_BY, self._decoder(backbone).n_tokens)
        return self._tapped_spec(backbone, [backbone.n_stages], OWN_HEAD)

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        return texts_of(super()._checked_target(y, samples))

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        backbone = self._loaded_backbone()
        decoder, texts = self._decoder(backbone), self._texts(backbone)
        found = [texts.ids(text) for text in y]
        most = self._longest_target(decoder)
        kept = [[*ids[: most - 1], ids[-1]] if len(ids) > most else ids for ids in found]
        too_long = [row for row, ids in enumerate(found) if len(ids) > most and weights[row] > 0]
        self.n_truncated_targets_ = len(too_long)
        if too_long:
            first = ", ".join(f"y[{row}]" for row in too_long[:3])
            warnings.warn(
                f"{len(too_long)} of {len(found)} targets are longer than {most} tokens; what comes after was not "
                f"learned. Raise max_target_length where the network allows, or shorten them. (first: {first})",
                stacklevel=4,
            )
        self.n_target_tokens_ = max(1, *(len(ids) for ids, weight in zip(kept, weights, strict=True) if weight > 0))
        return RecordTargets([{"ids": np.array(ids, dtype=np.int64)} for ids in kept])

    def _longest_target(self, decoder: DecoderModel) -> int:
        """Maximum number of tokens of a target."""
        for name in ("max_target_length", "max_new_tokens"):
            if getattr(self, name) is not None:
                self._refuse_beyond(name, getattr(self, name), decoder)
        if self.max_target_length is not None:
            return int(self.max_target_length)
        return LONGEST if decoder.longest is None else min(decoder.longest, LONGEST)

    def _refuse_beyond(self, name: str, n: int, decoder: DecoderModel) -> None:
        if decoder.longest is not None and n > decoder.longest:
            raise ValueError(
                f"{name}={n!r} is more than the {decoder.longest} tokens that the decoder has positions for. Set at "
                f"most {decoder.longest}."
            )

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[GenerationTask, TrainingSet]:
        if task is not None:
            return task, data
        decoder = self._decoder(self._loaded_backbone())
        counts = np.array([len(record["ids"]) for record in data.targets.records])
        mean = float(data.weights @ counts / data.weights.sum())
        about = (self._writes, decoder.n_tokens, decoder.fingerprint, mean, self.label_smoothing)
        return GenerationTask(*about, self._allowed(data.targets)), data

    def _allowed(self, targets: RecordTargets) -> dict[str, list[int]]:
        """Arguments of ``generate`` without which the network's settings would forbid a target."""
        backbone = self._loaded_backbone()
        return allowing(targets.records, self._decoder(backbone).never_written, self._texts(backbone))

    @property
    def _task_to_answer(self) -> GenerationTask:
        most = self.n_target_tokens_ if self.max_new_tokens is None else int(self.max_new_tokens)
        decoder = self._decoder(reload_backbone(*self._origin_))
        self._refuse_beyond("max_new_tokens", most, decoder)
        how = {"max_new_tokens": most, "num_beams": int(self.num_beams), "do_sample": False}
        asked = checked_options(self.generation_options, SET_BY, decoder.n_tokens)
        return self._task_.writing(self._task_.learned | how | asked)

    def _written(self, X: Any) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        """A text for each sample, (n,) of objects; None for those that cannot be read, whose errors come by row."""
        answers, bad = self._answers(X)
        return self._as_texts(answers), bad

    def _as_texts(self, answers: np.ndarray, rows: Sequence[int] | None = None) -> np.ndarray:
        """Texts of answers, which ``rows`` of X are of: several of one row where it was cut into windows."""
        texts = self._texts(reload_backbone(*self._origin_))
        rows = range(len(answers)) if rows is None else rows
        pairs = zip(rows, answers, strict=True)
        cut = sorted({int(row) for row, ids in pairs if ids is not None and self._is_cut(ids, texts)})
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(set(rows))} texts were not written to their end within "
                f"{self._task_to_answer.how['max_new_tokens']} tokens. Raise max_new_tokens. (first: rows {cut[:3]})",
                stacklevel=4,
            )
        return object_array([None if ids is None else texts.text(ids) for ids in answers])

    def _all_written(self, X: Any) -> np.ndarray:
        """The same, where each sample must be readable."""
        found, bad = self._written(X)
        if bad:
            raise bad[min(bad)]
        return found


def allowing(
    records: Sequence[Mapping[str, np.ndarray]], never: Mapping[str, list[int]], texts: TargetTexts
) -> dict[str, list[int]]:
    """Those lists of tokens that are never written which targets have tokens of, without these.

    Whisper's checkpoints never write punctuation that is not spoken, nor an empty transcript.
    """
    n_first = len(texts.ids("")) - 1  # tokens that each text begins with, before what is written
    found = {}
    for name, end in (("suppress_tokens", None), ("begin_suppress_tokens", n_first + 1)):
        learned = {int(token) for record in records for token in record["ids"][n_first:end]}
        if learned.intersection(never[name]):
            found[name] = [token for token in never[name] if token not in learned]
    return found
