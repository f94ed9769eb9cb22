"""Transcripts of speech: from audio to strings, and how such strings are compared."""

import copy
import itertools
import numbers
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
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
from skltransfer._estimators.target_checks import compared_texts, object_array
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
    weights_without_ctc_head,
)
from skltransfer.engine import (
    NEW_HEAD,
    OWN_HEAD,
    CtcTask,
    FrozenStages,
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
    """Transcribe speech by fine-tuning a pretrained network: Whisper, or an encoder with CTC.

    Use it for speech recognition (ASR) of a domain, an accent, a language or a vocabulary that a published network
    hears badly. X is a list of audio clips of one or several sentences; y is a list of strings, the transcripts.

    The backbone decides how text is written. *Whisper* [1]_ has a decoder that writes token after token; it is trained
    in any case, and ``freeze_depth`` sets how much of the encoder is frozen. Labels begin with Whisper's tokens for the
    language, the task (transcribe) and no timestamps, and ``predict`` is the library's own ``generate``. *Wav2Vec2,
    HuBERT and WavLM* have no decoder: a linear head says one letter for each frame of about 20 ms, and is trained with
    connectionist temporal classification (CTC) [2]_. A checkpoint that was trained to transcribe brings its head and
    its letters; otherwise a new head is trained, whose letters are the characters of y as they are given. Letters are
    decoded greedily, without a language model. All tokens, or letters, count alike in the loss, however long the clip
    is that they are in.

    ``predict`` cuts clips that are longer than the network's input, and joins what it wrote about each window. ``fit``
    cannot cut a transcript, and refuses such clips. A clip may have 10 minutes.

    Parameters
    ----------
    backbone : str or Backbone, default="hf:openai/whisper-base.en"
        Pretrained network that reads audio: a name of the form ``"source:model"``, or a :class:`Backbone` that
        :func:`load_backbone` returned. It has a decoder (Whisper), or makes frames of a waveform (Wav2Vec2, HuBERT,
        WavLM). The default writes English alone; :func:`list_backbones` lists other names.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file of the encoder; see
        :func:`load_backbone`. A file is refused for Whisper, because it holds no decoder. For other networks, random
        weights and files come without a head, and a new one is trained; a file that takes the place of a checkpoint
        with a head gives a warning.
    language : str or None, default=None
        Language of y, such as ``"de"`` or ``"german"``, for Whisper networks that write several. None uses the language
        with which the checkpoint was saved. Networks that write one language take no name.
    window_seconds : float or None, default=None
        Maximum length, in seconds, of the windows into which ``predict`` cuts long audio, at least 1. A window ends at
        the quietest fifth of a second of its last third. None uses the network's input (30 s for Whisper); networks
        without a limit then hear each clip whole.
    normalizer : {"basic"} or None, default="basic"
        How texts are changed before :meth:`score` compares them. ``"basic"`` lowers the case, removes punctuation and
        symbols, and collapses whitespace; see :func:`word_error_rate`. Training targets are never changed.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the decoder or the head, 0.0 trains everything, and any number between them keeps at least one
        stage on either side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to
        and including that stage; :func:`describe_backbone` lists the names.
    max_target_length : int, default=None
        Maximum number of tokens of a target, special tokens included. Longer targets are truncated with a warning. None
        uses the limit of the decoder, at most 512. It has no effect on networks without a decoder.
    max_new_tokens : int, default=None
        Maximum number of tokens that ``predict`` writes for a window. None uses the length of the longest target in
        ``fit``. It has no effect on networks without a decoder.
    num_beams : int, default=1
        Number of texts that ``predict`` keeps at each step (beam search) before it returns the most probable one. 1
        takes the most probable token at each step (greedy search), which is the fastest. Networks without a decoder
        take the most probable letter of each frame, and accept 1 alone.
    generation_options : dict or None, default=None
        Further arguments of the ``generate`` method of transformers, such as ``{"length_penalty": 2.0,
        "no_repeat_ngram_size": 3}``. They replace the settings in the network's folder, which apply otherwise, except
        that tokens of y may be written that ``suppress_tokens`` and ``begin_suppress_tokens`` forbid there. Options of
        sampling are refused, because predictions must be reproducible, and so are all for networks without a decoder.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss of a decoder. It has no effect on networks without one.
    max_epochs : int, default=10
        Maximum number of passes over the training set.
    batch_size : int, default=32
        Maximum number of clips per training step. All batches of an epoch have about the same number of clips.
    learning_rate : float, default=1e-5
        Learning rate of the decoder or the head (AdamW). The default is meant for Whisper; a new head of letters needs
        1e-4 to 1e-3.
    backbone_lr_factor : float, default=1.0
        Learning rate of the last stage, as a multiple of the decoder's or the head's.
    layer_decay : float in (0, 1], default=1.0
        Learning rate of each stage, as a multiple of the next stage's. At 1.0 all trained stages have the same rate.
    weight_decay : float, default=0.01
        Weight decay (AdamW). It is not applied to normalization layers and biases.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        Learning rate schedule. ``"cosine"`` increases the rate linearly during ``warmup`` and then decreases it to zero
        along a cosine; ``"constant"`` keeps it fixed.
    warmup : float in [0, 1), default=0.1
        Fraction of the training steps during which the learning rate increases from zero. It has an effect only with
        ``lr_schedule="cosine"``.
    max_grad_norm : float or None, default=None
        Maximum global gradient norm; larger gradients are clipped. None disables clipping.
    unfreeze_schedule : {"gradual"} or None, default=None
        When the unfrozen stages start to train. ``"gradual"`` trains the last stage first and then adds one earlier
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [3]_. None trains all
        unfrozen stages from the start.
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the decoder and the unfrozen stages, and trains low-rank adapters (rank 8) of
        their linear and convolutional layers instead, without the output layer. A head of letters is trained itself:
        without a decoder, ``freeze_depth`` must leave a stage unfrozen. It requires the extra ``lora``. None trains the
        weights themselves.
    early_stopping : bool, default=False
        If True, hold out ``validation_fraction`` of the samples, stop when their loss no longer decreases, and restore
        the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct clips that is held out. Identical clips are never split between the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that is passed as arrays without a rate. Audio files and ``(array, rate)`` pairs
        bring their own.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How clips are treated that cannot be read, or in ``fit`` are longer than the network's input. ``"raise"`` raises
        a :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with
        a warning, and ``predict`` returns None for them.
    device : str, default="auto"
        Device on which the network runs, as a torch device such as ``"cpu"`` or ``"cuda:1"``. ``"auto"`` uses CUDA if
        it is available, else the CPU.
    dtype : {"auto", "float32", "bfloat16", "int8"}, default="auto"
        Data type in which the network computes. ``"auto"`` uses bfloat16 if the processor supports it natively and the
        features of this backbone stay nearly the same (cosine similarity of at least 0.999), else float32. ``"int8"``
        computes matrix products of the frozen stages in 8 bits, by OpenVINO (extra ``fast``) on CPUs with
        instructions for them; ``fit`` then compares up to 64 samples with float32. Weights are always trained in
        float32.
    runtime : {"auto", "eager", "folded", "compiled"}, default="auto"
        Library that runs the frozen stages. ``"eager"`` is PyTorch. ``"folded"`` is PyTorch with each BatchNorm
        computed in the convolution before it. ``"compiled"`` is OpenVINO, which needs the extra ``fast`` and a CPU; the
        first use of a network takes some seconds, later ones read the result from the user's cache folder. ``"auto"``
        is ``"compiled"`` if that is possible, else ``"folded"`` in float32, else ``"eager"``. Features differ by at
        most 1e-4 of the largest value in float32, usually by 1e-5.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations, so that each sample passes the frozen stages only once. ``"memory"`` is
        shared by all estimators of the process, up to 1 GiB. A folder is also shared with other processes and later
        runs, up to 5 GiB. An :class:`ActivationStore` sets another limit, and None disables the cache.
    random_state : int, RandomState instance or None, default=None
        Controls the order of samples, dropout, the held-out samples and random initial weights. Pass an int for
        reproducible results. As in scikit-learn, None draws a seed from NumPy's global generator. torch's global
        generator is left unchanged.
    verbose : int, default=0
        If positive, show progress bars.

    Attributes
    ----------
    input_kind_ : {"samples"}
        Kind of X that ``fit`` received.
    vocabulary_ : list of str
        Letters that the head writes, by their number. Only defined for networks without a decoder.
    n_target_tokens_ : int
        Number of tokens of the longest target. Only defined for networks with a decoder.
    n_truncated_targets_ : int
        Number of targets that were longer than ``max_target_length``. Only defined for networks with a decoder.
    freeze_boundary_ : str
        Name of the last frozen stage, or ``"input"`` if no stage is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the backbone, and number of frozen ones.
    n_trainable_params_ : int
        Number of weights that were trained.
    n_iter_ : int
        Number of training epochs.
    history_ : dict of str to list of float
        Training history with one value per epoch for ``loss``, ``learning_rate`` and, with early stopping,
        ``validation_loss``; see :class:`TrainingHistoryDisplay`.
    dtype_, device_, runtime_ : str
        Data type, device and runtime that were used.
    int8_agreement_ : dict of str to float
        How near features in 8 bits are to float32, on up to 64 training samples: ``"cosine"``, the least cosine
        similarity. Only defined with ``dtype="int8"``.
    duplicates_ : list of list of int
        Groups of rows of X with identical audio. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    bad_samples_ : list of int
        Rows of X that could not be read, or were too long, and were left out of ``fit``. Only defined if there are any,
        with ``on_bad_sample="nan"``.

    See Also
    --------
    word_error_rate : Word error rate, of which :meth:`score` is the complement.
    FineTunedClassifier : Fine-tune a network to predict one label per clip.

    References
    ----------
    .. [1] A. Radford et al. (2023), "Robust speech recognition via large-scale weak supervision", ICML.
    .. [2] A. Graves et al. (2006), "Connectionist temporal classification: labelling unsegmented sequence data with
       recurrent neural networks", ICML.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.

    Examples
    --------
    The toy network hears tones; each stands for a letter here.

    >>> import numpy as np
    >>> from skltransfer import FineTunedTranscriber
    >>> t = np.arange(640) / 8000
    >>> hertz = {"a": 250, "b": 1000, "c": 2500}
    >>> tones = {letter: np.sin(2 * np.pi * hertz[letter] * t) / 2 for letter in hertz}
    >>> y = ["ab", "ba", "ca", "bca", "abc", "cb"] * 2
    >>> X = [(np.concatenate([tones[letter] for letter in text]), 8000) for text in y]
    >>> how = {"learning_rate": 0.1, "max_epochs": 15, "batch_size": 2, "random_state": 0}
    >>> model = FineTunedTranscriber("toy:audio", freeze_depth=1.0, **how)
    >>> model.fit(X, y).predict(X[:3]).tolist()
    ['ab', 'ba', 'ca']
    """

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
        """Fit the decoder or the head, and the unfrozen stages of the network.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of path, bytes, ndarray or (ndarray, rate)
            Audio clips: a list, array or column of file paths, bytes of files, or arrays. None may be longer than the
            network's input.
        y : sequence of str
            Transcript of each clip. An empty string stands for a clip without speech.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the clips. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the clips, such as speakers. Early stopping holds out whole groups, so that a group is never on
            both sides. None holds out single clips.
        X_val, y_val : sequence, default=None
            Clips to validate on with ``early_stopping=True``, instead of a part of X that is held out, and their
            transcripts.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if a target is
            no string, needs more frames than its clip has or holds letters that the head cannot write, if ``language``
            is missing or unknown, if ``num_beams`` or ``generation_options`` is set for a network without a decoder, or
            if the device is not available. The message names the row.
        BadSampleError
            If a clip cannot be read or is too long and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or cannot transcribe.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Transcribe audio clips.

        Parameters
        ----------
        X : sequence of path, bytes, ndarray or (ndarray, rate)
            Audio clips, of up to 10 minutes each. Long ones are cut into windows; see ``window_seconds``.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            A string for each clip. With ``on_bad_sample="nan"``, None for a clip that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a clip cannot be read and ``on_bad_sample="raise"``; the message names its row.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return self._written(X)[0]

    def score(self, X: Any, y: Any) -> float:
        """Compute 1 - word error rate over all clips.

        Parameters
        ----------
        X : sequence of path, bytes, ndarray or (ndarray, rate)
            Audio clips.
        y : sequence of str
            True transcripts.

        Returns
        -------
        float
            At most 1; higher is better. It is negative if more words are wrong than y has. See
            :func:`word_error_rate`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a clip cannot be read, whatever ``on_bad_sample`` is; the message names its row.
        MissingDependencyError
            If jiwer is not installed.
        ValueError
            If X and y differ in length, or a target is no string.
        """
        return 1.0 - word_error_rate(y, self._all_written(X), normalizer=self.normalizer)

    def _written(self, X: Any) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        samples, stages = self._to_predict(X)
        answers, owners, bad = self._heard(samples, stages)
        texts = self._as_texts(object_array(answers), owners)
        parts: list[list[str | None]] = [[] for _ in range(len(samples))]
        for owner, text in zip(owners, texts, strict=True):
            parts[owner].append(text)
        return object_array([None if None in one else _sentence(one) for one in parts]), bad

    def _heard(self, samples: Samples, stages: FrozenStages) -> tuple[list[Any], list[int], dict[int, BadSampleError]]:
        """Answers to clips or, of long ones, to their windows; the rows that they are of; and errors by row."""
        longest, task = self._window(stages.backbone), self._task_to_answer
        lengths = [_length(samples, row) for row in range(len(samples))]
        is_long = np.array([longest is not None and length > longest for length in lengths], dtype=bool)
        answers: list[Any] = []
        owners: list[int] = []
        bad: dict[int, BadSampleError] = {}
        for rows in (np.flatnonzero(~is_long), *np.flatnonzero(is_long)[:, None]):  # long clips one by one
            if not len(rows):
                continue
            part, of = samples.take(rows), rows
            if is_long[rows[0]]:
                part = self._windows(part.read(0), longest, stages.backbone)
                of = np.repeat(rows, len(part))
            found, errors = answers_of(self._network_, stages, part, self._bad_sample_policy(), task)
            answers.extend(found)
            owners.extend(of.tolist())
            bad |= {int(of[i]): error for i, error in errors.items()}
        return answers, owners, bad

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

    def _samples(self, X: Any, backbone: Backbone, *, reset: bool) -> Samples:
        self._refuse_unless_it_hears(backbone)
        return super()._samples(X, backbone, reset=reset)

    def _refuse_unless_it_hears(self, backbone: Backbone) -> None:
        """Raise if a network cannot transcribe."""
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

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        is_fitted = hasattr(self, "_network_")  # in fit, a part that is not heard would leave words without sound
        longest = None if is_fitted else backbone.preprocessing.longest
        how = {**backbone.reading, "sampling_rate": self.sampling_rate, "longest": longest}
        return samples_from_collection(items, "audio", **how)

    def _has_decoder(self, backbone: Backbone) -> bool:
        return way_to_write(backbone) == DECODER

    def _adapts_head(self, backbone: Backbone) -> bool:
        return self._has_decoder(backbone)

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
        return texts

    def _refuse_misfits(self, samples: Samples, y: np.ndarray, weights: np.ndarray, backbone: Backbone) -> None:
        if self._has_decoder(backbone):
            return
        own, rows = ctc_head(backbone), np.flatnonzero(weights > 0)
        if own is not None:
            _refuse_unknown_letters(y, rows, own.texts, backbone.name)
        _refuse_too_many_letters(y, rows, samples, _one_spaced if own is None else own.texts.ids, backbone)

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
        self._refuse_options_of_a_decoder(backbone.name)
        weights = weights_without_ctc_head(backbone)
        if weights is not None:
            warnings.warn(
                f"Only the encoder is read from weights={weights!r}: the head and the letters of {backbone.name!r} are "
                "not used, and a new head is trained for the characters of y. To keep them, save the whole model to a "
                "folder with save_pretrained, and name the folder as backbone.",
                stacklevel=7,
            )
        head = NEW_HEAD if ctc_head(backbone) is None else OWN_HEAD
        return self._tapped_spec(backbone, [backbone.n_stages], head)

    def _refuse_options_of_a_decoder(self, name: str) -> None:
        for option, without in (("generation_options", None), ("num_beams", 1)):
            value = getattr(self, option)
            if value != without and value != {}:
                raise ValueError(
                    f"{option}={value!r} has no meaning: {name!r} has no decoder, and writes the most probable letter "
                    f"of each frame. Set {option}={without!r}."
                )

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
            self._refuse_options_of_a_decoder(self._origin_[0])
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
    """Word error rate (WER) of transcripts, by jiwer.

    Substituted, deleted and inserted words of all transcripts together, divided by the number of true words. It is not
    the mean over transcripts: long ones weigh more. Inserted words may raise it above 1. Words that are inserted where
    the true transcript is empty count too; if all true transcripts are empty, the rate is 1 if anything was written,
    else 0.

    Parameters
    ----------
    y_true, y_pred : sequence of str
        True and written transcripts.
    normalizer : {"basic"} or None, default="basic"
        How both are changed before they are compared. ``"basic"`` applies the Unicode form NFKC, lowers the case,
        removes apostrophes within words (*don't* becomes *dont*), replaces other punctuation and symbols by spaces, and
        collapses whitespace. Digits and spelled numbers stay different. None compares words as they are; for another
        normalization, change both lists before.

    Returns
    -------
    float
        Word error rate, at least 0; lower is better.

    Raises
    ------
    MissingDependencyError
        If jiwer is not installed.
    ValueError
        If numbers of transcripts differ, there is none, one is no string, or ``normalizer`` is unknown.

    Examples
    --------
    >>> from skltransfer import word_error_rate
    >>> word_error_rate(["Turn left here."], ["turn left there"])
    0.3333333333333333
    """
    try:
        import jiwer
    except ImportError as error:
        raise MissingDependencyError(
            "word_error_rate needs jiwer: pip install 'skltransfer[transcription]'."
        ) from error
    if normalizer not in (*NORMALIZERS, None):
        raise ValueError(f"normalizer must be one of {NORMALIZERS} or None, got {normalizer!r}.")
    truth, found = compared_texts(y_true, y_pred)
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


def _refuse_too_many_letters(
    y: np.ndarray, rows: np.ndarray, samples: Samples, letters: Callable, backbone: Backbone
) -> None:
    """Raise if a clip has fewer frames than its target needs: one a letter, and a blank between equal ones."""
    found = []
    for row in rows.tolist():
        ids = letters(y[row])
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
