"""Answers that are a part of a text (extractive question answering); and how answers are written and compared."""

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from skltransfer._estimators.parameters import (
    HasAdapter,
    ReadsTexts,
    Resumes,
    StopsEarly,
    TrainsJointly,
    declared,
    parameter,
    positive,
)
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner, object_array
from skltransfer._estimators.target_checks import missing, refuse_nothing_to_compare, rows_of
from skltransfer.backbones import Backbone, span_head
from skltransfer.engine import (
    NEW_SPAN_HEADS,
    OWN_HEAD,
    NetworkSpec,
    NetworkState,
    RecordTargets,
    SpanTask,
    TrainingSet,
    answers_of,
)
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError
from skltransfer.inputs import QuestionSamples, Samples, samples_from_questions

NO_ANSWER, CUT_OFF, UNREAD = (0, 0), (-1, -1), (-2, -2)  # as spans of tokens
FORMS = "a string of the context, {'text': 'Lima', 'start': 17}, or '' if the context has no answer"
ARTICLES, PUNCTUATION = re.compile(r"\b(a|an|the)\b"), str.maketrans("", "", string.punctuation)
Answer = tuple[str, int | None]


@declared
class FineTunedQuestionAnswerer(HasAdapter, Resumes, StopsEarly, TrainsJointly, ReadsTexts, StructuredFineTuner):
    """Answer questions with a part of a text by fine-tuning a pretrained language model.

    Use it if the answer is written in a text that comes with the question (extractive question answering, as in SQuAD
    [1]_). X holds pairs of a question and a context; y holds the answers, each a part of its context. An empty string
    means that the context has no answer [2]_. For answers in other words, see :class:`FineTunedTextToText`.

    ``freeze_depth`` sets how much of the network is trained. The head gives each token two scores: how well an answer
    begins there, and how well it ends there. A checkpoint that was trained to answer questions brings its own head.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:minilm"
        Pretrained network that reads pairs of texts: a name of the form ``"source:model"``, or a :class:`Backbone` that
        :func:`load_backbone` returned. Its tokenizer must be a fast one. The default is an English network that the
        extra ``text`` installs; networks that were trained to answer questions, such as
        ``"hf:deepset/roberta-base-squad2"``, bring their head as well.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file; see
        :func:`load_backbone`.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.
    head : {"auto", "own", "linear", "mlp"}, default="auto"
        Type of the head. ``"own"`` continues with the head of a checkpoint that answers questions (a model of
        transformers whose name ends in ``ForQuestionAnswering``). ``"linear"`` is a new linear layer on standardized
        tokens; ``"mlp"`` adds one hidden layer of 256 rectified units. ``"auto"`` is ``"own"`` if there is one, else
        ``"linear"``.
    max_answer_length : int, default=30
        Maximum number of tokens of a predicted answer. It has no effect on ``fit``.
    max_epochs : int, default=10
        Maximum number of passes over the training set. The head is trained, also if all stages are frozen.
    batch_size : int, default=32
        Maximum number of pairs per training step. All batches of an epoch have about the same number of pairs.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW). For a checkpoint that already answers questions, 3e-5 with
        ``backbone_lr_factor=1.0`` is usual.
    backbone_lr_factor : float, default=0.1
        Learning rate of the last stage, as a multiple of the head's. The default is below 1 because pretrained weights
        need smaller steps than a new head.
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
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear and
        convolutional layers instead, about 1 % of the weights. It requires the extra ``lora``. None trains the weights
        themselves.
    early_stopping : bool, default=False
        If True, hold out ``validation_fraction`` of the samples, stop when their loss no longer decreases, and restore
        the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct pairs that is held out. Identical pairs are never split between the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
    max_length : int, default=None
        Maximum number of tokens per pair, special tokens included. None uses the network's own limit, at most 512. Of
        longer pairs, the end of the longer text is not read, with a warning.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How pairs that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning, and predictions for them are None.
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
    input_kind_ : {"pairs"}
        Kind of X that ``fit`` received.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns of X. Only defined if X has columns, or columns whose names are strings.
    head_ : {"own", "linear", "mlp"}
        Type of the head.
    n_truncated_ : int
        Number of training pairs that are longer than ``max_length``.
    n_truncated_answers_ : int
        Number of training pairs that were left out because ``max_length`` cuts off their answer.
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
        Groups of rows of X with identical pairs.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedTagger : Tag each word of a text.
    FineTunedTextToText : Write an answer in other words.
    answer_f1_score : F1 score of answers, which :meth:`score` returns.

    References
    ----------
    .. [1] P. Rajpurkar et al. (2016), "SQuAD: 100,000+ questions for machine comprehension of text", EMNLP.
    .. [2] P. Rajpurkar et al. (2018), "Know what you don't know: unanswerable questions for SQuAD", ACL.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.

    Examples
    --------
    >>> from skltransfer import FineTunedQuestionAnswerer
    >>> X = [("How many?", f"Buy {n} {fruit}.") for n in (2, 7, 10, 35) for fruit in ("figs", "ripe plums")]
    >>> y = [context.split()[1] for _, context in X]
    >>> options = {"learning_rate": 0.01, "batch_size": 4, "max_epochs": 20, "random_state": 0}
    >>> model = FineTunedQuestionAnswerer("toy:text", freeze_depth=0.25, **options).fit(X, y)
    >>> model.predict([("How many?", "Buy 12 nuts.")]).tolist()
    ['12']
    """

    backbone: str | Backbone = parameter(default="bundled:minilm", constraint="no_validation", kw_only=False)
    head: str = parameter(default="auto", constraint=[StrOptions({"auto", OWN_HEAD, *NEW_SPAN_HEADS})])
    max_answer_length: int = parameter(default=30, constraint=positive(Integral))

    _truncates = True

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the head, and the unfrozen stages of the network.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of (str, str), or two columns of str
            Questions and contexts.
        y : sequence of str or dict
            The answer of each pair. A string must occur once in the context, as words of their own or at all. A dict
            ``{"text": str, "start": int}`` says at which character of the context the answer begins; the form of SQuAD,
            ``{"text": [str], "answer_start": [int]}``, is read as well, and of several answers the first one is
            learned. ``""``, or an empty list in the form of SQuAD, means that the context has no answer: the network
            learns to point to the first token of its input.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the pairs. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the pairs, such as documents. Early stopping holds out whole groups, so that a group is never on
            both sides. None holds out single pairs.
        X_val, y_val : sequence, default=None
            Pairs to validate on with ``early_stopping=True``, instead of a part of X that is held out, and their
            answers.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if an answer
            does not occur in its context or occurs several times, or if the device is not available. The message names
            the row.
        BadSampleError
            If a pair cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or reads no pairs of texts.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the answer to each question.

        Parameters
        ----------
        X : sequence of (str, str), or two columns of str
            Questions and contexts.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            For each pair, the most probable part of the context, exactly as it stands there, or ``""`` if it is more
            probable that there is none. With ``on_bad_sample="nan"``, None for a pair that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a pair cannot be read and ``on_bad_sample="raise"``; the message names its row.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return object_array([None if one is None else one["text"] for one in self._spans(X)[0]])

    def predict_spans(self, X: Any) -> np.ndarray:
        """Predict the answer to each question, with its place in the context and its probability.

        Parameters
        ----------
        X : sequence of (str, str), or two columns of str
            Questions and contexts.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            For each pair, a dict with the keys ``"text"``, ``"start"`` and ``"end"`` (``context[start:end]`` is the
            text; both are -1 if there is no answer) and ``"score"``: the probability in [0, 1] of the first token,
            multiplied by that of the last one, among the tokens of the context and the one that stands for no answer.
            With ``on_bad_sample="nan"``, None for a pair that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a pair cannot be read and ``on_bad_sample="raise"``; the message names its row.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return self._spans(X)[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the mean F1 score of the words of the answers.

        Parameters
        ----------
        X : sequence of (str, str), or two columns of str
            Questions and contexts.
        y : sequence of str or dict
            True answers, as in :meth:`fit`; places are not compared.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the pairs. None gives each pair the weight 1.

        Returns
        -------
        float
            Score in [0, 1]; higher is better. See :func:`answer_f1_score`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a pair cannot be read, also with ``on_bad_sample="nan"``; the message names its row.
        ValueError
            If X and y differ in length, or an answer is missing.
        """
        spans, bad = self._spans(X)
        if bad:
            raise bad[min(bad)]
        return answer_f1_score(y, [span["text"] for span in spans], sample_weight=sample_weight)

    def _samples(self, X: Any, backbone: Backbone, *, reset: bool) -> Samples:
        self._refuse_unless_whole_texts(backbone, "a backbone that reads texts, such as backbone='bundled:minilm'")
        return super()._samples(X, backbone, reset=reset)

    def _read_pairs(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        return samples_from_questions(items, backbone.preprocessing)

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        if not len(items):
            return self._read_pairs(items, backbone)  # which has words for it
        raise ValueError(
            "FineTunedQuestionAnswerer reads pairs of a question and a context, but X holds single texts. Pass tuples, "
            "as in X = [(question, context), ...], or a data frame with these two columns."
        )

    def _checked_target(self, y: Any, samples: QuestionSamples) -> np.ndarray:
        """First and last token of each answer, or the error that it has none: rows of weight zero may have one."""
        rows = super()._checked_target(y, samples)
        return object_array([_span_or_error(_answers(answer, row)[0], row, samples) for row, answer in enumerate(rows)])

    def _checked_validation_target(self, y_val: Any, samples: QuestionSamples, y: np.ndarray) -> np.ndarray:
        spans = _without_errors(self._checked_target(y_val, samples), np.ones(len(samples)))
        _tell_cut(spans, np.ones(len(spans)), "y_val")
        return spans

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        spans = _without_errors(y, weights)
        self.n_truncated_answers_ = _tell_cut(spans, weights, "y")
        return RecordTargets([{"span": np.array(span, dtype=np.int64)} for span in spans])

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[SpanTask, TrainingSet]:
        data = data.subset(np.array([record["span"][0] >= 0 for record in data.targets.records]))
        if not len(data):
            of = "" if task is None else " of X_val"
            raise ValueError(f"max_length cuts off the answers of all pairs{of}. Raise it, or split contexts.")
        return task or SpanTask(), data

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        has_own = self.head in ("auto", OWN_HEAD) and span_head(backbone) is not None
        if self.head == OWN_HEAD and not has_own:
            raise UnsupportedBackboneError(
                f"head='own' needs a checkpoint that answers questions, such as 'hf:deepset/roberta-base-squad2'; "
                f"{backbone.name!r} has no such head. Set head='linear'."
            )
        self.head_ = OWN_HEAD if has_own else "linear" if self.head == "auto" else self.head
        return self._tapped_spec(backbone, [backbone.n_stages], NEW_SPAN_HEADS.get(self.head_, self.head_))

    @property
    def _task_to_answer(self) -> SpanTask:
        return self._task_.answering(int(self.max_answer_length))

    def _spans(self, X: Any) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        """The answer to each question with its place, None where the pair could not be read; and these errors."""
        samples, stages = self._to_predict(X)
        found, bad = answers_of(self._network_, stages, samples, self._bad_sample_policy(), self._task_to_answer)
        shown = [None if span is None else _shown(span, samples.context(row)) for row, span in enumerate(found)]
        return object_array(shown), bad


def answer_f1_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """F1 score of answers: how many of their words are the same, on average, as in the evaluation of SQuAD [1]_.

    Case, punctuation and the English articles are ignored. Where there is no answer, the score is 1 if none was given,
    else 0. If there are several true answers to a question, the best score counts.

    Parameters
    ----------
    y_true : sequence of str or dict
        True answers: strings, or dicts whose ``"text"`` is a string or a list of strings.
    y_pred : sequence of str
        Predicted answers.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the answers. None gives each answer the weight 1.

    Returns
    -------
    float
        Mean F1 score in [0, 1]. SQuAD states it in percent.

    Raises
    ------
    ValueError
        If numbers of answers differ, there is none, an answer is missing, or a weight is negative.

    References
    ----------
    .. [1] P. Rajpurkar et al. (2018), "Know what you don't know: unanswerable questions for SQuAD", ACL.

    Examples
    --------
    >>> from skltransfer import answer_f1_score
    >>> answer_f1_score(["the river Rhine"], ["Rhine"])
    0.6666666666666666
    """
    return _mean_of(_f1, y_true, y_pred, sample_weight)


def answer_exact_match_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Fraction of answers that are right, as in the evaluation of SQuAD [1]_.

    Case, punctuation and the English articles are ignored. If there are several true answers to a question, one of them
    must be met.

    Parameters
    ----------
    y_true : sequence of str or dict
        True answers: strings, or dicts whose ``"text"`` is a string or a list of strings.
    y_pred : sequence of str
        Predicted answers.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the answers. None gives each answer the weight 1.

    Returns
    -------
    float
        Fraction in [0, 1]. SQuAD states it in percent.

    Raises
    ------
    ValueError
        If numbers of answers differ, there is none, an answer is missing, or a weight is negative.

    References
    ----------
    .. [1] P. Rajpurkar et al. (2018), "Know what you don't know: unanswerable questions for SQuAD", ACL.

    Examples
    --------
    >>> from skltransfer import answer_exact_match_score
    >>> answer_exact_match_score(["The Rhine", "1970", ""], ["rhine", "in 1970", ""])
    0.6666666666666666
    """
    return _mean_of(lambda truth, found: float(truth == found), y_true, y_pred, sample_weight)


def _mean_of(compare: Callable[[list, list], float], y_true: Any, y_pred: Any, sample_weight: Any) -> float:
    """Mean over samples of the best comparison of an answer with one of the true ones, both as lists of words."""
    truth = [_answers(answer, row, "y_true") for row, answer in enumerate(rows_of(y_true, "y_true"))]
    found = [_answers(answer, row, "y_pred")[0][0] for row, answer in enumerate(rows_of(y_pred, "y_pred"))]
    check_consistent_length(truth, found, sample_weight)
    refuse_nothing_to_compare(truth)
    weights = _check_sample_weight(sample_weight, truth, dtype=np.float64, ensure_non_negative=True)
    scores = []
    for answers, text in zip(truth, found, strict=True):
        right = [words for words in (_words(answer) for answer, _ in answers) if words] or [[]]
        scores.append(max(compare(words, _words(text)) for words in right))
    return float(weights @ scores / weights.sum())


def _words(text: str) -> list[str]:
    """Words of an answer in lower case, without punctuation and English articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def _f1(truth: list[str], found: list[str]) -> float:
    if not truth or not found:
        return float(truth == found)
    return 2 * (Counter(truth) & Counter(found)).total() / (len(truth) + len(found))


def _answers(answer: Any, row: int, name: str = "y") -> list[Answer]:
    """The answers that an element of y holds, each with its place if that is told; one that is empty for none."""
    if isinstance(answer, Mapping):
        if "text" not in answer or answer.keys() - {"text", "start", "answer_start", "end", "score"}:
            raise ValueError(f"{name}[{row}] has the keys {sorted(map(str, answer))}; expected {FORMS}.")
        texts, starts = answer["text"], answer.get("start", answer.get("answer_start"))
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        texts = texts.tolist() if isinstance(texts, np.ndarray) else texts
        starts = [None] * np.size(texts) if starts is None else starts
    else:
        texts, starts = [answer], [None]
    if not isinstance(texts, list | tuple) or np.shape(starts)[:1] != (len(texts),):
        raise ValueError(f"{name}[{row}] is {answer!r:.80}; expected as many texts as starts, in lists.")
    pairs = zip(texts, starts, strict=True)
    found = [(_text(text, row, name), start) for text, start in pairs] or [("", None)]
    return [(text, _start(start, row, name) if text else None) for text, start in found]


def _text(text: Any, row: int, name: str) -> str:
    if isinstance(text, str) and (text.strip() or not text):
        return str(text)
    what = "missing" if missing([text])[0] else "no answer"
    raise ValueError(f"{name}[{row}] is {text!r:.60}, which is {what}; expected {FORMS}.")


def _start(start: Any, row: int, name: str) -> int | None:
    if start is None:
        return None
    if isinstance(start, bool | np.bool_) or not isinstance(start, Integral) or start < 0:
        raise ValueError(
            f"{name}[{row}] begins at {start!r:.60}; expected the number of a character of the context, from 0."
        )
    return int(start)


def _span_or_error(answer: Answer, row: int, samples: QuestionSamples) -> tuple[int, int] | ValueError:
    try:
        return _span_of(answer, row, samples)
    except UnsupportedBackboneError:
        raise
    except ValueError as error:
        return error


def _without_errors(spans: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spans, once those that count are no errors; the others of these stand for pairs that are not read."""
    is_error = np.array([isinstance(span, ValueError) for span in spans], dtype=bool)
    for row in np.flatnonzero(is_error & (weights > 0)):
        raise spans[row]
    return object_array([UNREAD if error else span for error, span in zip(is_error, spans, strict=True)])


def _tell_cut(spans: np.ndarray, weights: np.ndarray, name: str) -> int:
    """Warn of answers that count and are cut off; their number."""
    cut = [row for row, span in enumerate(spans) if span == CUT_OFF and weights[row] > 0]
    if cut:
        first = ", ".join(f"{name}[{row}]" for row in cut[:3])
        warnings.warn(
            f"{len(cut)} of {np.sum(weights > 0)} answers lie beyond the max_length of their pairs and were left out "
            f"of the fit. Raise max_length where the network allows, or split long contexts. (first: {first})",
            stacklevel=6,
        )
    return len(cut)


def _span_of(answer: Answer, row: int, samples: QuestionSamples) -> tuple[int, int]:
    """First and last token of an answer."""
    context = samples.context(row)
    if context is None or not answer[0]:
        return UNREAD if context is None else NO_ANSWER
    start, stop = _letters(*answer, context, row)
    tokens = samples.tokens(row)
    inside = np.flatnonzero((tokens[:, 1] < stop) & (tokens[:, 2] > start) & (tokens[:, 2] > tokens[:, 1]))
    if not len(inside):
        raise ValueError(f"y[{row}], {answer[0]!r:.60}, has no token that the network reads. Choose another answer.")
    places = tokens[inside[0] : inside[-1] + 1, 0]
    return CUT_OFF if (places < 0).any() else (int(places[0]), int(places[-1]))


def _letters(text: str, start: int | None, context: str, row: int) -> tuple[int, int]:
    """Where an answer lies in its context."""
    if start is not None:
        if context[start : start + len(text)] != text:
            raise ValueError(
                f"y[{row}] says that {text!r:.60} begins at character {start}, but the context has "
                f"{context[start : start + len(text)]!r:.60} there. Count characters from 0, of the context as it is "
                "in X."
            )
        return start, start + len(text)
    found = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    whole = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", context)]
    found = whole or found
    if not found:
        raise ValueError(
            f"y[{row}], {text!r:.60}, does not occur in the context of X[{row}]. Copy it as it stands there, with its "
            "case and spaces, or pass '' if the context has no answer."
        )
    if len(found) > 1:
        raise ValueError(
            f"y[{row}], {text!r:.60}, occurs {len(found)} times in the context of X[{row}], at the characters "
            f"{found[:5]}. Say which one is meant: {{'text': {text!r:.60}, 'start': {found[0]}}}."
        )
    return found[0], found[0] + len(text)


def _shown(span: Any, context: str) -> dict[str, Any]:
    text = context[span.start : span.stop] if span.start >= 0 else ""
    return {"text": text, "start": span.start, "end": span.stop, "score": span.score}
