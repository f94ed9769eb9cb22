"""Tags for the words of a text, such as named entities or parts of speech; and how such tags are read and compared."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from skltransfer._estimators.parameters import (
    HasAdapter,
    HasLogisticProbe,
    ReadsTexts,
    Resumes,
    SmoothsLabels,
    StopsEarly,
    TrainsHead,
    declared,
    parameter,
)
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner, class_factors, object_array
from skltransfer._estimators.target_checks import missing, refuse_mixed_labels, rows_of
from skltransfer.backbones import Backbone, layer_boundaries
from skltransfer.engine import NetworkSpec, NetworkState, RecordTargets, TaggingTask, TrainingSet
from skltransfer.inputs import Samples, WordSamples, samples_from_words

PREFIXED = re.compile(r"([BIESLU])(?:-(.+))?", re.DOTALL)  # a bare prefix where there is one type of entity
CELLS = re.compile(r"[ \t]+")
OF_SEVERAL_WORDS = re.compile(r"\d+[-.]\d+")  # number of a range of words, or of an empty node, in CoNLL-U
OUTSIDE = "O"
SCHEMES = ("BIO", "BIOES", "BILOU", "IO", "plain IO", "words")
Span = tuple[int, int, str]


@declared
class FineTunedTagger(
    HasAdapter,
    SmoothsLabels,
    HasLogisticProbe,
    Resumes,
    StopsEarly,
    TrainsHead,
    ReadsTexts,
    StructuredFineTuner,
):
    """Tag each word of a text by fine-tuning a pretrained language model.

    Use it for named entities, parts of speech, or any label per word (token classification). X is a list of texts, each
    a list of words; y is a list of tags for each text. For one label per text, see :class:`FineTunedClassifier`.

    ``freeze_depth`` sets how much of the network is trained. At 1.0 the model is a logistic regression on the frozen
    network's tokens, one per word; below 1.0 the last stages (groups of layers) are trained as well. A word of several
    tokens is read at its first token, as in BERT [1]_. All words count alike, however long their text is.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:minilm"
        Pretrained network that reads texts: a name of the form ``"source:model"``, or a :class:`Backbone` that
        :func:`load_backbone` returned. Its tokenizer must be a fast one. The default is an English network that the
        extra ``text`` installs; :func:`list_backbones` lists other names.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file; see
        :func:`load_backbone`.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.
    layer : str, float in [0, 1] or list of these, default="penultimate"
        Stage whose tokens the head reads: the name of a stage (see :func:`describe_backbone`), a fraction of the
        stages, counted from the input, or ``"penultimate"`` for the last one. The tokens of a list of these are
        concatenated. Later stages are not used. With all stages frozen, earlier stages are often better, because the
        last ones of a sentence encoder say little about single words.
    head : {"linear", "mlp"}, default="linear"
        Type of the head. ``"linear"`` is one linear layer; ``"mlp"`` adds one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Initial weights of a linear head. ``"probe"`` solves a logistic regression on the frozen tokens of all words and
        starts from a tenth of its weights (more if ``learning_rate`` and the number of steps are too small to restore
        them), which keeps early steps from distorting the pretrained features [2]_. With all stages frozen, the probe
        itself is the fitted head. ``"random"`` draws the weights and trains the head from scratch.
    C : float or "auto", default="auto"
        Inverse of the strength of the probe's L2 penalty, as in ``LogisticRegression``; must be positive. The probe is
        the logistic regression on frozen features with which a linear head starts. ``"auto"`` chooses the strength by
        generalized cross-validation of a ridge regression on class indicators [4]_.
    class_weight : dict or "balanced", default=None
        Weights of the tags in the loss: ``{tag: weight}``, or ``"balanced"`` for weights that are inversely
        proportional to the numbers of words. None gives all tags the weight 1.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss. The probe is solved without it.
    max_epochs : int, default=10
        Maximum number of passes over the training set. If no stage before ``layer`` is trained and the head is linear,
        the head is solved rather than trained: this parameter and all training parameters below have no effect.
    batch_size : int, default=32
        Maximum number of texts per training step. All batches of an epoch have about the same number of texts.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW).
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
        Fraction of distinct texts that is held out. Identical texts are never split between the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
    max_length : int, default=None
        Maximum number of tokens per text, special tokens included. None uses the network's own limit, at most 512. A
        longer text is an error, because words beyond the limit would get no tag: split it into sentences.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How texts that cannot be read, or are too long, are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning; ``predict_proba`` returns None for them, and ``predict``, which has no tags for them, raises.
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
    classes_ : ndarray of shape (n_classes,)
        Sorted tags.
    scheme_ : {"BIO", "BIOES", "BILOU", "IO", "plain IO", "words"}
        How tags mark entities, found in the training set: by a prefix such as ``B-``, or by equal neighbors
        (``"plain IO"``, as in ``PER PER O``). ``"words"`` means that there is no tag ``O``, so that tags mark no
        entities.
    freeze_boundary_ : str
        Name of the last frozen stage, or ``"input"`` if no stage is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the backbone, and number of frozen ones.
    n_trainable_params_ : int
        Number of weights that were trained.
    n_iter_ : int
        Number of training epochs. If the head was solved rather than trained, number of solver iterations.
    history_ : dict of str to list of float
        Training history with one value per epoch for ``loss``, ``learning_rate`` and, with early stopping,
        ``validation_loss``; see :class:`TrainingHistoryDisplay`.
    dtype_, device_, runtime_ : str
        Data type, device and runtime that were used.
    int8_agreement_ : dict of str to float
        How near features in 8 bits are to float32, on up to 64 training samples: ``"cosine"``, the least cosine
        similarity. Only defined with ``dtype="int8"``.
    duplicates_ : list of list of int
        Groups of rows of X with identical words. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : Fine-tune a network to predict one label per text.
    entity_f1_score : F1 score of entities, which :meth:`score` returns.
    read_conll : Read words and tags from files.

    References
    ----------
    .. [1] J. Devlin et al. (2019), "BERT: pre-training of deep bidirectional transformers for language understanding",
       NAACL.
    .. [2] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [4] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.

    Examples
    --------
    >>> from skltransfer import FineTunedTagger
    >>> X = [["buy", "2", "apples"], ["10", "pears"], ["sell", "33", "plums", "now"]] * 4
    >>> y = [["O", "NUM", "O"], ["NUM", "O"], ["O", "NUM", "O", "O"]] * 4
    >>> tagger = FineTunedTagger("toy:text", freeze_depth=1.0, layer=0.25, random_state=0).fit(X, y)
    >>> tagger.predict([["take", "5", "plums"]])[0]
    ['O', 'NUM', 'O']
    """

    _kind_of_samples = "words"
    backbone: str | Backbone = parameter(default="bundled:minilm", constraint="no_validation", kw_only=False)
    layer: str | float | list = parameter(default="penultimate", constraint=["array-like", str, float, int])
    class_weight: dict | str | None = parameter(default=None, constraint=[dict, StrOptions({"balanced"}), None])

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the head, and the unfrozen stages of the network.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of sequence of str
            Words of each text: a list, array or column of lists. A text without words is valid.
        y : sequence of sequence of str or int
            Tags of each text, one for each word, all strings or all whole numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the texts. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the texts, such as documents. Early stopping holds out whole groups, so that a group is never on
            both sides. None holds out single texts.
        X_val, y_val : sequence, default=None
            Texts to validate on with ``early_stopping=True``, instead of a part of X that is held out, and their
            targets.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if a text and
            its tags do, if y has a single tag, or if the device is not available. The message names the row.
        BadSampleError
            If a text cannot be read or is too long and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or reads no texts.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the tag of each word.

        Parameters
        ----------
        X : sequence of sequence of str
            Words of each text.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            The most probable tags of each text, a list with one tag per word.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read or is too long, also with ``on_bad_sample="nan"``, because no tags stand for
            missing ones. Use :meth:`predict_proba` to get None instead.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        probabilities, bad = self._answers(X)
        if bad:
            raise bad[min(bad)]
        return object_array([self.classes_[one.argmax(1)].tolist() for one in probabilities])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each tag for each word.

        Parameters
        ----------
        X : sequence of sequence of str
            Words of each text.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            For each text, an ndarray of float64 of shape (n_words, n_classes) in the order of ``classes_``, whose rows
            sum to 1. With ``on_bad_sample="nan"``, None for a text that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read or is too long and ``on_bad_sample="raise"``; the message names its row.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return self._answers(X)[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the F1 score of entities, or the accuracy over words if tags mark no entities.

        Parameters
        ----------
        X : sequence of sequence of str
            Words of each text.
        y : sequence of sequence of str
            True tags of each text.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the texts. None gives each text the weight 1.

        Returns
        -------
        float
            Score in [0, 1]; higher is better. See :func:`entity_f1_score`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read or is too long.
        ValueError
            If X and y differ in length, or a text and its tags do.
        """
        return entity_f1_score(y, self.predict(X), scheme=self.scheme_, sample_weight=sample_weight)

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        self._refuse_unless_whole_texts(backbone, "a backbone that reads texts, such as backbone='bundled:minilm'")
        return samples_from_words(items, backbone.preprocessing)

    def _checked_target(self, y: Any, samples: WordSamples) -> np.ndarray:
        rows = super()._checked_target(y, samples)
        for row, tags in enumerate(rows):
            rows[row] = _checked_tags(tags, row, samples.n_words(row))
        refuse_mixed_labels(rows, "Tags")
        return rows

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        self.classes_ = np.unique([tag for tags, weight in zip(y, weights, strict=True) if weight > 0 for tag in tags])
        if len(self.classes_) < 2:
            raise ValueError(
                "FineTunedTagger needs at least 2 different tags in y (of positive weight); got "
                f"{self.classes_.tolist()}."
            )
        self.scheme_ = scheme_of(self.classes_.tolist())
        last = len(self.classes_) - 1
        encoded = (np.minimum(np.searchsorted(self.classes_, np.array(tags, self.classes_.dtype)), last) for tags in y)
        return RecordTargets([{"tags": tags.astype(np.int64)} for tags in encoded])

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[TaggingTask, TrainingSet]:
        counts = np.array([len(record["tags"]) for record in data.targets.records])
        if task is not None:
            return task, data.subset(counts > 0)
        if not counts.any():
            raise ValueError("X holds no word that can be read, in texts of positive weight. Add texts.")
        data, counts = data.subset(counts > 0), counts[counts > 0]
        mean_words = float(data.weights @ counts / data.weights.sum())
        return TaggingTask(self.classes_, self._factors(data, counts), mean_words, self.label_smoothing), data

    def _factors(self, data: TrainingSet, counts: np.ndarray) -> np.ndarray:
        """Weight of a word in the loss, by its tag."""
        tags = np.concatenate([record["tags"] for record in data.targets.records])
        mass = np.bincount(tags, weights=np.repeat(data.weights, counts), minlength=len(self.classes_))
        return class_factors(self.class_weight, self.classes_, mass)

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        taps = sorted(set(layer_boundaries(self.layer, backbone.stage_names)))
        return self._tapped_spec(backbone, taps, self.head)


def entity_f1_score(y_true: Any, y_pred: Any, *, scheme: str = "auto", sample_weight: Any = None) -> float:
    """F1 score of entities: an entity counts as found if its first word, its last word and its type are right.

    Counts are summed over all texts and types (micro average), as in the evaluation of CoNLL 2003 [1]_. Tags that no
    scheme allows are read as that evaluation does: an ``I-`` after another type begins an entity.

    Parameters
    ----------
    y_true, y_pred : sequence of sequence of str
        True and predicted tags of each text.
    scheme : {"auto", "BIO", "BIOES", "BILOU", "IO", "plain IO", "words"}, default="auto"
        How tags mark entities. ``"auto"`` finds it in the true tags; see ``scheme_`` of :class:`FineTunedTagger`. Name
        it if few texts are scored, which may lack a tag. All schemes with prefixes are read alike. With ``"words"``,
        where tags mark no entities, the score is the accuracy over words.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the texts. None gives each text the weight 1.

    Returns
    -------
    float
        F1 score, or accuracy, in [0, 1]; 0 if there is nothing to find and nothing was found.

    Raises
    ------
    ValueError
        If numbers of texts or of words differ, a tag is missing, a weight is negative, or ``scheme`` is unknown.

    References
    ----------
    .. [1] E. F. Tjong Kim Sang, F. De Meulder (2003), "Introduction to the CoNLL-2003 shared task: language-independent
       named entity recognition", CoNLL.

    Examples
    --------
    >>> from skltransfer import entity_f1_score
    >>> entity_f1_score([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "B-ORG"]])
    0.5
    """
    if scheme not in ("auto", *SCHEMES):
        raise ValueError(f"scheme must be 'auto' or one of {SCHEMES}, got {scheme!r}.")
    truth, found = _tags_of(y_true, "y_true"), _tags_of(y_pred, "y_pred")
    check_consistent_length(truth, found, sample_weight)
    weights = _check_sample_weight(sample_weight, truth, dtype=np.float64, ensure_non_negative=True)
    if scheme == "auto":
        scheme = scheme_of({tag for tags in truth for tag in tags})
    right, wanted, given = 0.0, 0.0, 0.0
    for row, (true_tags, tags, weight) in enumerate(zip(truth, found, weights, strict=True)):
        if len(true_tags) != len(tags):
            raise ValueError(f"y_true[{row}] has {len(true_tags)} tags, and y_pred[{row}] has {len(tags)}.")
        ours, theirs = (_marked(one, scheme) for one in (tags, true_tags))
        right += weight * len(ours & theirs)
        wanted += weight * len(theirs)
        given += weight * len(ours)
    return float(2 * right / (wanted + given)) if wanted + given else 0.0


def read_conll(
    path: str | os.PathLike, *, word_column: int = 0, tag_column: int = -1, encoding: str = "utf-8-sig"
) -> tuple[list[list[str]], list[list[str]]]:
    """Read words and tags from a file in a format of the CoNLL shared tasks.

    A line holds a word and its tags in columns, and an empty line ends a sentence. Lines that begin with
    ``-DOCSTART-`` are left out. Columns are separated by tabs if the line has one, else by spaces. In CoNLL-U, which
    numbers words in its first column, comments, ranges of words and empty nodes are left out, too.

    Parameters
    ----------
    path : path-like
        File to read.
    word_column, tag_column : int, default=0 and -1
        Number of the column of the words, and of the tags. Negative numbers count from the end. In CoNLL-U, words are
        in column 1 and universal parts of speech in column 3.
    encoding : str, default="utf-8-sig"
        Encoding of the file. The default is UTF-8, with or without a byte order mark.

    Returns
    -------
    X : list of list of str
        Words of each sentence.
    y : list of list of str
        Tags of each sentence.

    Raises
    ------
    ValueError
        If a line has too few columns or an empty word or tag, or the file has no sentence; the message names the line.
    FileNotFoundError
        If the file does not exist.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from skltransfer import read_conll
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "train.txt")
    ...     _ = path.write_text("Ada B-PER\\nwrote O\\n\\nLondon B-LOC\\n", encoding="utf-8")
    ...     read_conll(path)
    ([['Ada', 'wrote'], ['London']], [['B-PER', 'O'], ['B-LOC']])
    """
    X, y = [], []
    least = max(2, *(column + 1 if column >= 0 else -column for column in (word_column, tag_column)))
    is_numbered = 0 not in (word_column, tag_column)
    for sentence in _sentences(Path(path).read_text(encoding=encoding), is_numbered=is_numbered):
        words, tags = [], []
        for number, columns in sentence:
            if len(columns) < least or not (columns[word_column] and columns[tag_column]):
                raise ValueError(
                    f"Line {number} of {str(path)!r} holds {columns!r}; expected at least {least} columns, with a word "
                    f"in column {word_column} and a tag in column {tag_column}. Name other columns."
                )
            words.append(columns[word_column])
            tags.append(columns[tag_column])
        X.append(words)
        y.append(tags)
    if not X:
        raise ValueError(f"{str(path)!r} holds no sentence: expected lines of a word and its tag.")
    return X, y


def _sentences(text: str, *, is_numbered: bool) -> Iterator[list[tuple[int, list[str]]]]:
    """Columns of the words of each sentence, with the number of the line.

    With ``is_numbered``, the first column may hold the number of the word, as in CoNLL-U.
    """
    sentence: list[tuple[int, list[str]]] = []
    for number, line in enumerate([*text.replace("\r\n", "\n").split("\n"), ""], start=1):
        columns = line.split("\t") if "\t" in line else CELLS.split(line.strip(" "))
        if not line.strip(" \t"):
            if sentence:
                yield sentence
            sentence = []
        elif is_numbered and (line.startswith("#") or OF_SEVERAL_WORDS.fullmatch(columns[0])):
            continue
        elif columns[0] != "-DOCSTART-":
            sentence.append((number, columns))


def scheme_of(tags: Any) -> str:
    """How a set of tags marks entities, one of ``SCHEMES``."""
    inside = {str(tag) for tag in tags if tag != OUTSIDE}
    has_outside = len(inside) < len(set(tags))
    found = [PREFIXED.fullmatch(tag) for tag in inside]
    before_a_type = {one.group(1) for one in found if one and one.group(2)}
    prefixes = before_a_type or ({one.group(1) for one in found} if all(found) else set())
    if prefixes & set("BI") or (before_a_type and has_outside):
        borders = "BILOU" if prefixes & set("LU") else "BIOES" if prefixes & set("ES") else "BIO"
        return borders if prefixes - {"I"} else "IO"
    return "plain IO" if has_outside else "words"


def _marked(tags: Sequence[Any], scheme: str) -> set[Span]:
    """Entities as (first word, word after the last, type); all words where tags mark none."""
    if scheme == "words":
        return {(i, i + 1, str(_plain(tag))) for i, tag in enumerate(tags)}
    found, start, kind = set(), 0, None
    for i, (prefix, now) in enumerate([*(_parts(str(tag), scheme) for tag in tags), ("", None)]):
        if kind is not None and (now != kind or prefix in "BSU"):
            found.add((start, i, kind))
            kind = None
        if now is not None and kind is None:
            start, kind = i, now
        if kind is not None and prefix in ("E", "S", "L", "U"):
            found.add((start, i + 1, kind))
            kind = None
    return found


def _parts(tag: str, scheme: str) -> tuple[str, str | None]:
    """Prefix and type of a tag; no type outside of entities."""
    if tag == OUTSIDE:
        return "", None
    prefixed = None if scheme == "plain IO" else PREFIXED.fullmatch(tag)
    return (prefixed.group(1), prefixed.group(2) or "") if prefixed else ("I", tag)


def _plain(tag: Any) -> Any:
    """A tag as Python writes it: 1 for True, for NumPy's True, and for NumPy's 1."""
    tag = tag.item() if isinstance(tag, np.generic) else tag
    return int(tag) if isinstance(tag, bool) else tag


def _tags_of(y: Any, name: str) -> list[tuple]:
    """The tags of all texts."""
    return [_checked_tags(tags, row, None, name) for row, tags in enumerate(rows_of(y, name))]


def _checked_tags(tags: Any, row: int, n_words: int | None, name: str = "y") -> tuple:
    """The tags of one text, once they are known to be strings or whole numbers, one for each word."""
    if isinstance(tags, np.ndarray):
        tags = tags.tolist()
    if isinstance(tags, str) or not isinstance(tags, list | tuple):
        raise ValueError(f"{name}[{row}] is {tags!r:.60}; expected a list with a tag for each word of X[{row}].")
    if n_words is not None and len(tags) != n_words:
        raise ValueError(
            f"X[{row}] has {n_words} words, but y[{row}] has {len(tags)} tags. Pass one tag for each word."
        )
    for word, tag in enumerate(tags):
        if missing([tag])[0] or not isinstance(tag, str | int | np.integer | np.bool_) or tag == "":
            raise ValueError(
                f"{name}[{row}][{word}] is {tag!r:.60}; expected a tag for each word, a string or a whole number. Use "
                "a tag such as 'O' for words without a label."
            )
    return tuple(tags)
