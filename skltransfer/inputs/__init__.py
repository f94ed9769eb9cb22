"""What users have -> samples: a sliceable view of X whose elements have a digest. Must not know torch models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skltransfer.inputs._annotations import read_coco, read_mask_folder, read_voc, read_yolo
from skltransfer.inputs._audio import AudioSamples
from skltransfer.inputs._beside import Split, split_columns
from skltransfer.inputs._boxes import read_boxes
from skltransfer.inputs._columns import ONE, PAIR, SEPARATE
from skltransfer.inputs._containers import COLUMNS, PAIRS, SAMPLES, TABLE, Container, contained
from skltransfer.inputs._continued import ContinuedSamples
from skltransfer.inputs._digests import forget_digests, learn_digests
from skltransfer.inputs._image_folder import load_image_folder
from skltransfer.inputs._images import ImageSamples
from skltransfer.inputs._joined import JoinedSamples
from skltransfer.inputs._kinds import NOUNS
from skltransfer.inputs._masks import read_mask
from skltransfer.inputs._pairs import PairSamples
from skltransfer.inputs._parts import Distinct, distinct, parts_of
from skltransfer.inputs._pixels import CHANNELS
from skltransfer.inputs._questions import QuestionSamples
from skltransfer.inputs._quiet_cuts import windows_between_words
from skltransfer.inputs._remarks import forget_what_was_told
from skltransfer.inputs._rows import RowSamples
from skltransfer.inputs._samples import Peeked, Samples, digest_of
from skltransfer.inputs._text import TextSamples
from skltransfer.inputs._torch_datasets import from_torch_dataset
from skltransfer.inputs._words import WordSamples

READERS: dict[str, type[Samples]] = {"image": ImageSamples, "text": TextSamples, "audio": AudioSamples}


def samples_from_table(X: np.ndarray, modality: str, *, image_shape: tuple[int, ...] | None, **reading: Any) -> Samples:
    """The rows of a validated 2-D array: flattened images if ``image_shape`` is given, else rows of numbers.

    Raises
    ------
    ValueError
        If ``image_shape`` does not fit the number of columns.
    """
    if image_shape is None or modality != "image":
        return RowSamples(X)
    if int(np.prod(image_shape)) != X.shape[1]:
        raise ValueError(
            f"image_shape={image_shape!r} needs {int(np.prod(image_shape))} features per row, but X has {X.shape[1]}."
        )
    channels, bands = reading.get("channels", "auto"), reading.get("bands")
    if channels == "auto":
        counts = CHANNELS if bands is None else (bands,)
        is_last = len(image_shape) == 2 or image_shape[-1] in counts or image_shape[0] not in counts
        channels = "last" if is_last else "first"
    return ImageSamples(X.reshape(len(X), *image_shape), **{**reading, "channels": channels})


def samples_from_collection(X: Sequence[Any], modality: str, **reading: Any) -> Samples:
    """The elements of a sequence of images, texts or audio clips, in whichever container each comes.

    Parameters
    ----------
    X : sequence
        Images, texts or audio clips.
    modality : {"image", "text", "audio"}
        Kind of samples that the backbone reads.
    **reading
        Parameters of the samples' class.

    Raises
    ------
    ValueError
        If X is empty.
    """
    _refuse_nothing(X, modality)
    return READERS[modality](X, **reading)


def samples_from_pairs(X: Sequence[Any], preprocessing: Any) -> PairSamples:
    """The elements of a sequence of pairs of texts.

    Parameters
    ----------
    X : sequence of (str, str)
        Pairs of texts.
    preprocessing : TextPreprocessing
        The backbone's.

    Raises
    ------
    ValueError
        If X is empty.
    """
    _refuse_nothing(X, "pair of texts")
    return PairSamples(X, preprocessing)


def samples_from_questions(X: Sequence[Any], preprocessing: Any) -> QuestionSamples:
    """The elements of a sequence of pairs of a question and a context.

    Parameters
    ----------
    X : sequence of (str, str)
        Questions and contexts.
    preprocessing : TextPreprocessing
        The backbone's.

    Raises
    ------
    ValueError
        If X is empty.
    """
    _refuse_nothing(X, "pair of a question and a context")
    return QuestionSamples(X, preprocessing)


def samples_from_words(X: Sequence[Any], preprocessing: Any) -> WordSamples:
    """The elements of a sequence of texts that are split into words.

    Parameters
    ----------
    X : sequence of sequence of str
        Words of each text.
    preprocessing : TextPreprocessing
        The backbone's.

    Raises
    ------
    ValueError
        If X is empty.
    """
    _refuse_nothing(X, "list of words")
    return WordSamples(X, preprocessing)


def samples_from_prompts(X: Sequence[Any], reader: Any) -> ContinuedSamples:
    """The elements of a sequence of texts, each of which another text may follow.

    Parameters
    ----------
    X : sequence of str
        Texts, or prompts.
    reader : ContinuationReader
        The backbone's.

    Raises
    ------
    ValueError
        If X is empty.
    """
    _refuse_nothing(X, "text")
    return ContinuedSamples(X, reader)


def _refuse_nothing(X: Sequence[Any], noun: str) -> None:
    if len(X) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required; X holds no {noun}."
        )
