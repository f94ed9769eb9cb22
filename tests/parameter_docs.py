"""Are parameters documented alike in all estimators? Each entry of a docstring is the declared one, or is listed here.

python tests/parameter_docs.py           complains about entries that differ without a reason
python tests/parameter_docs.py --write   writes the declared entries into the docstrings
"""

import inspect
import pathlib
import re
import sys
import textwrap

import skltransfer
from skltransfer._estimators import parameters

ESTIMATORS = (
    "AdaptedBackbone",
    "DomainAdaptedClassifier",
    "FewShotClassifier",
    "FineTunedClassifier",
    "FineTunedDetector",
    "FineTunedLanguageModel",
    "FineTunedQuestionAnswerer",
    "FineTunedRegressor",
    "FineTunedSegmenter",
    "FineTunedTagger",
    "FineTunedTextToText",
    "FineTunedTranscriber",
    "MultiTaskFineTuner",
    "PretrainedFeatureExtractor",
)
AUTOMATIC = "it has the value 'auto'"
ITS_METHOD = "it is for one method alone"
NO_HEAD = "there is no head"
NO_VOTE = "its loss compares samples, so that windows cannot vote"
REASONS = {  # of entries that differ from the declared one
    ("AdaptedBackbone", "batch_size"): NO_HEAD,
    ("AdaptedBackbone", "cache"): "the adapted network's activations are kept apart",
    ("AdaptedBackbone", "checkpoint"): "it refers to the fine-tuners",
    ("AdaptedBackbone", "dtype"): "it trains most stages",
    ("AdaptedBackbone", "freeze_depth"): "its default is 0.0, and no head is trained",
    ("AdaptedBackbone", "learning_rate"): "there is one for all that is trained",
    ("AdaptedBackbone", "max_epochs"): "its passes are over texts",
    ("AdaptedBackbone", "pooling"): "only transform pools",
    ("AdaptedBackbone", "random_state"): "it also draws masks",
    ("DomainAdaptedClassifier", "max_epochs"): "its method decides whether there are any",
    ("DomainAdaptedClassifier", "window_pooling"): NO_VOTE,
    ("FewShotClassifier", "batch_size"): ITS_METHOD,
    ("FewShotClassifier", "freeze_depth"): ITS_METHOD,
    ("FewShotClassifier", "learning_rate"): ITS_METHOD,
    ("FewShotClassifier", "max_epochs"): ITS_METHOD,
    ("FewShotClassifier", "random_state"): ITS_METHOD,
    ("FewShotClassifier", "window_pooling"): NO_VOTE,
    ("FineTunedClassifier", "freeze_depth"): AUTOMATIC,
    ("FineTunedDetector", "augment"): "it changes boxes, too",
    ("FineTunedDetector", "backbone"): "it reads images",
    ("FineTunedDetector", "backbone_lr_factor"): "its default is 0.3",
    ("FineTunedDetector", "batch_size"): "its default is 4",
    ("FineTunedDetector", "input_size"): "its default is 320",
    ("FineTunedDetector", "learning_rate"): "a pyramid is trained with the head",
    ("FineTunedDetector", "max_epochs"): "the head is never solved",
    ("FineTunedDetector", "max_grad_norm"): "its default is 1.0",
    ("FineTunedDetector", "resize"): "it sees images as a whole",
    ("FineTunedDetector", "validation_fraction"): "there are no classes",
    ("FineTunedLanguageModel", "adapter"): "its default is 'lora', and there may be one of the output head",
    ("FineTunedLanguageModel", "backbone"): "it reads texts",
    ("FineTunedLanguageModel", "backbone_lr_factor"): "its default is 1.0",
    ("FineTunedLanguageModel", "batch_size"): "its default is 8",
    ("FineTunedLanguageModel", "learning_rate"): "its default suits adapters",
    ("FineTunedLanguageModel", "max_epochs"): "the head is never solved",
    ("FineTunedLanguageModel", "max_length"): "it says what longer pairs lose",
    ("FineTunedLanguageModel", "random_state"): "it also draws texts",
    ("FineTunedLanguageModel", "validation_fraction"): "there are no classes",
    ("FineTunedQuestionAnswerer", "backbone"): "it reads pairs of texts",
    ("FineTunedQuestionAnswerer", "batch_size"): "samples are pairs",
    ("FineTunedQuestionAnswerer", "learning_rate"): "a checkpoint may bring the head",
    ("FineTunedQuestionAnswerer", "max_epochs"): "the head is never solved",
    ("FineTunedQuestionAnswerer", "max_length"): "samples are pairs",
    ("FineTunedQuestionAnswerer", "validation_fraction"): "there are no classes",
    ("FineTunedRegressor", "freeze_depth"): AUTOMATIC,
    ("FineTunedRegressor", "validation_fraction"): "there are no classes",
    ("FineTunedSegmenter", "augment"): "it changes masks, too",
    ("FineTunedSegmenter", "backbone"): "it reads images",
    ("FineTunedSegmenter", "backbone_lr_factor"): "its default is 0.3",
    ("FineTunedSegmenter", "batch_size"): "its default is 8",
    ("FineTunedSegmenter", "head"): "it reads maps",
    ("FineTunedSegmenter", "input_size"): "it says what a larger one does to masks",
    ("FineTunedSegmenter", "max_epochs"): "layer decides which stages there are",
    ("FineTunedSegmenter", "resize"): "it sees images as a whole",
    ("FineTunedSegmenter", "validation_fraction"): "there are no classes",
    ("FineTunedTagger", "backbone"): "it reads texts",
    ("FineTunedTagger", "batch_size"): "samples are texts",
    ("FineTunedTagger", "max_epochs"): "layer decides which stages there are",
    ("FineTunedTagger", "max_length"): "longer texts are refused",
    ("FineTunedTagger", "validation_fraction"): "there are no classes",
    ("FineTunedTextToText", "adapter"): "they go into the decoder, too",
    ("FineTunedTextToText", "backbone"): "it reads and writes texts",
    ("FineTunedTextToText", "backbone_lr_factor"): "its default is 1.0",
    ("FineTunedTextToText", "batch_size"): "samples are texts",
    ("FineTunedTextToText", "freeze_depth"): "it is about the encoder",
    ("FineTunedTextToText", "label_smoothing"): "there is no probe",
    ("FineTunedTextToText", "learning_rate"): "its default is 1e-4, and it is the decoder's",
    ("FineTunedTextToText", "max_epochs"): "the decoder is never solved",
    ("FineTunedTextToText", "max_length"): "there is a prompt",
    ("FineTunedTextToText", "validation_fraction"): "there are no classes",
    ("FineTunedTextToText", "weights"): "a weight file holds no decoder",
    ("FineTunedTranscriber", "adapter"): "they go into a decoder, but into no head of letters",
    ("FineTunedTranscriber", "backbone"): "it reads audio",
    ("FineTunedTranscriber", "backbone_lr_factor"): "all is trained at one rate",
    ("FineTunedTranscriber", "batch_size"): "samples are clips",
    ("FineTunedTranscriber", "freeze_depth"): "there may be a decoder",
    ("FineTunedTranscriber", "generation_options"): "there may be no decoder, and what is learned may be written",
    ("FineTunedTranscriber", "label_smoothing"): "there may be no decoder",
    ("FineTunedTranscriber", "learning_rate"): "there may be a decoder, whose default differs",
    ("FineTunedTranscriber", "max_epochs"): "nothing is solved",
    ("FineTunedTranscriber", "max_new_tokens"): "there may be no decoder",
    ("FineTunedTranscriber", "max_target_length"): "there may be no decoder",
    ("FineTunedTranscriber", "num_beams"): "there may be no decoder",
    ("FineTunedTranscriber", "validation_fraction"): "there are no classes",
    ("FineTunedTranscriber", "weights"): "a weight file holds no decoder and no head of letters",
    ("MultiTaskFineTuner", "C"): "there is a probe per task",
    ("MultiTaskFineTuner", "alpha"): "there is a probe per task",
    ("MultiTaskFineTuner", "validation_fraction"): "there are no classes",
    ("PretrainedFeatureExtractor", "dtype"): "nothing is trained",
    ("PretrainedFeatureExtractor", "pooling"): "any stage may be pooled",
    ("PretrainedFeatureExtractor", "window_pooling"): "nothing is predicted",
}


def entry_of(kind: type, name: str) -> str:
    """The canonical entry of a parameter in a docstring, from its group; empty where each estimator has its own."""
    groups = [base for base in kind.__mro__ if base.__module__ == parameters.__name__]
    return next((found[name] for found in map(entries, groups) if name in found), "")


def entries(kind: type) -> dict[str, str]:
    """The entries of the section Parameters of a class docstring, by name."""
    _, _, body = inspect.cleandoc(kind.__doc__).partition("Parameters\n----------\n")
    body = re.split(r"\n\n[A-Z][A-Za-z ]+\n-+\n", body, maxsplit=1)[0]
    return {entry.split(" : ")[0]: entry.rstrip() for entry in re.split(r"\n(?=\S)", body) if entry}


def without_numbers(entry: str) -> str:
    """An entry without the numbers of references and without line breaks."""
    return " ".join(re.sub(r"\[\d+\]_", "[]_", entry).split())


def differing(kind: type) -> dict[str, tuple[str, str]]:
    """Entries that are not the declared ones: what stands there, and what was declared."""
    found = {name: (entry, entry_of(kind, name)) for name, entry in entries(kind).items()}
    return {
        name: (old, new) for name, (old, new) in found.items() if new and without_numbers(old) != without_numbers(new)
    }


def written(kind: type) -> None:
    """Put the declared entries into the docstring, but for those with a reason, with the numbers of its references."""
    path = pathlib.Path(inspect.getsourcefile(kind))
    text = path.read_text(encoding="utf-8")
    start = text.index(f"class {kind.__name__}(")
    for name, (old, new) in differing(kind).items():
        numbers = iter(re.findall(r"\[\d+\]_", old))
        if (kind.__name__, name) not in REASONS:
            new = re.sub(r"\[\d+\]_", lambda match: next(numbers, match[0]), new)  # noqa: B023
            at = text.index(textwrap.indent(old, "    "), start)
            text = text[:at] + text[at:].replace(textwrap.indent(old, "    "), textwrap.indent(new, "    "), 1)
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    kinds = [getattr(skltransfer, name) for name in ESTIMATORS]
    if "--write" in arguments:
        for kind in kinds:
            written(kind)
        return 0
    found = {(kind.__name__, name): pair for kind in kinds for name, pair in differing(kind).items()}
    for (kind, name), (old, new) in found.items():
        if (kind, name) not in REASONS:
            sys.stderr.write(f"{kind}, {name}:\n{textwrap.indent(old, '  - ')}\n{textwrap.indent(new, '  + ')}\n")
    for place in REASONS.keys() - found.keys():
        sys.stderr.write(f"{place} is as declared, and needs no reason.\n")
    return int(found.keys() != REASONS.keys())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
