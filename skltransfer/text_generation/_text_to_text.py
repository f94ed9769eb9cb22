"""Text to text: an encoder that may be frozen up to a stage, and a decoder that is trained."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skltransfer._estimators.parameters import (
    HasAdapter,
    ReadsTexts,
    Resumes,
    StopsEarly,
    TrainsJointly,
    declared,
    parameter,
)
from skltransfer._estimators.sequence_fine_tuner import SequenceFineTuner
from skltransfer.backbones import Backbone
from skltransfer.inputs import Samples
from skltransfer.text_generation._scores import chrf_score

CHOOSE = "a backbone that reads and writes texts, such as backbone='hf:google-t5/t5-small'"


@declared
class FineTunedTextToText(HasAdapter, Resumes, StopsEarly, TrainsJointly, ReadsTexts, SequenceFineTuner):
    """Write a text about each text by fine-tuning a pretrained encoder-decoder network: translate, summarize, rewrite.

    X and y are sequences of strings. The encoder reads a text of X, and the decoder learns to write the text of y with
    the right tokens before each (teacher forcing); ``predict`` writes with the network's own greedy or beam search. The
    loss and the tokens are those of transformers, for networks such as T5 [1]_, BART [2]_ and Marian [3]_.

    ``freeze_depth`` sets how much of the encoder is trained. The output of the frozen stages is computed once for each
    text, and reused in later epochs, folds and candidates of a search. The decoder is always trained, or its adapters
    are. If encoder and decoder share token vectors, these are trained only at ``freeze_depth=0.0``.

    Parameters
    ----------
    backbone : str or Backbone, default="hf:google-t5/t5-small"
        Pretrained encoder-decoder network that reads and writes texts: ``"hf:<name or folder>"`` of a T5, BART, Marian,
        mBART or similar network, or the :class:`Backbone` that :func:`load_backbone` returned for it.
        ``"toy:text-to-text"`` is a tiny one with random weights, for tests and examples.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, or ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer). A weight file is refused, because it holds no decoder.
    prompt : str, default=""
        Text that is put before each text of X, such as ``"translate English to German: "`` or ``"summarize: "``. Some
        networks, such as T5, were pretrained with one for each task. ``predict`` uses its current value.
    freeze_depth : float, int or str, default=0.5
        How much of the encoder is frozen; the decoder is always trained. A number in [0, 1] is the fraction of frozen
        stages, counted from the input: 1.0 trains only the decoder, 0.0 trains everything, and any number between them
        keeps at least one stage on either side. ``-k`` freezes all but the last k stages. The name of a stage freezes
        the encoder up to and including that stage; :func:`describe_backbone` lists the names.
    learning_rate : float, default=1e-4
        Learning rate of the decoder (AdamW).
    backbone_lr_factor : float, default=1.0
        Learning rate of the encoder's last stage, as a multiple of the decoder's.
    layer_decay : float in (0, 1], default=1.0
        Learning rate of each stage, as a multiple of the next stage's. At 1.0 all trained stages have the same rate.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss.
    max_epochs : int, default=10
        Maximum number of passes over the training set.
    batch_size : int, default=32
        Maximum number of texts per training step. All batches of an epoch have about the same number of texts.
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [4]_. None trains all
        unfrozen stages from the start.
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the decoder and the unfrozen stages, and trains low-rank adapters (rank 8) of
        their linear layers instead, without the output layer; see [5]_. It requires the extra ``lora``, and usually a
        learning rate about ten times as high. None trains the weights themselves.
    max_target_length : int, default=None
        Maximum number of tokens of a target, special tokens included. Longer targets are truncated with a warning. None
        uses the limit of the decoder, at most 512.
    max_new_tokens : int, default=None
        Maximum number of tokens that ``predict`` writes for a sample. None uses the length of the longest target in
        ``fit``.
    num_beams : int, default=1
        Number of texts that ``predict`` keeps at each step (beam search) before it returns the most probable one. 1
        takes the most probable token at each step (greedy search), which is the fastest.
    generation_options : dict or None, default=None
        Further arguments of the ``generate`` method of transformers, such as ``{"length_penalty": 2.0,
        "no_repeat_ngram_size": 3}``. They replace the settings in the network's folder, which apply otherwise. Options
        of sampling are refused, because predictions must be reproducible.
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
        Maximum number of tokens per text of X, prompt and special tokens included. None uses the network's own limit,
        at most 512. Longer texts are truncated with a warning.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How texts that cannot be read are treated. ``"raise"`` raises a :class:`~skltransfer.exceptions.BadSampleError`
        that names the row. ``"nan"`` leaves them out of ``fit`` with a warning, and ``predict`` returns None for them.
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
    n_target_tokens_ : int
        Number of tokens of the longest target, which limits the texts that ``predict`` writes if
        ``max_new_tokens=None``.
    n_truncated_, n_truncated_targets_ : int
        Number of texts of X, and of y, that were truncated in ``fit``.
    freeze_boundary_ : str
        Name of the last frozen stage, or ``"input"`` if no stage is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the encoder, and number of frozen ones.
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
        Groups of rows of X with identical texts. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : Fine-tune a network to predict one label per text.
    FineTunedTagger : Fine-tune a network to tag the words of a text.
    chrf_score : F-score of character n-grams, which :meth:`score` returns.

    References
    ----------
    .. [1] C. Raffel et al. (2020), "Exploring the limits of transfer learning with a unified text-to-text transformer",
       Journal of Machine Learning Research 21.
    .. [2] M. Lewis et al. (2020), "BART: denoising sequence-to-sequence pre-training for natural language generation,
       translation, and comprehension", ACL.
    .. [3] M. Junczys-Dowmunt et al. (2018), "Marian: fast neural machine translation in C++", ACL.
    .. [4] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [5] E. J. Hu et al. (2022), "LoRA: low-rank adaptation of large language models", ICLR.

    Examples
    --------
    A tiny network with random weights learns four sentences by heart. For real tasks, name a pretrained network.

    >>> from skltransfer import FineTunedTextToText
    >>> X = ["one dog", "two dogs", "one cat", "two cats"]
    >>> y = ["ein Hund", "zwei Hunde", "eine Katze", "zwei Katzen"]
    >>> model = FineTunedTextToText("toy:text-to-text", learning_rate=1e-2, max_epochs=120, random_state=0)
    >>> model.fit(X, y).predict(["two cats"])[0]
    'zwei Katzen'
    """

    _kind_of_samples = "text"
    backbone: str | Backbone = parameter(default="hf:google-t5/t5-small", constraint="no_validation", kw_only=False)
    prompt: str = parameter(default="", constraint=[str])
    learning_rate: float = parameter(default=1e-4)
    backbone_lr_factor: float = parameter(default=1.0)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the decoder, and the unfrozen stages of the encoder.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of str
            Texts to read: a list, array or column of strings. Pairs of texts are tuples of two strings, for networks
            that read pairs; the prompt is put before the first one.
        y : sequence of str
            Texts to write, one for each of X. An empty text is valid.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the texts. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the texts, such as documents. Early stopping holds out whole groups, so that a group is never on
            both sides. None holds out single texts.
        X_val, y_val : sequence of str, default=None
            Texts to validate on with ``early_stopping=True``, instead of a part of X that is held out, and their
            targets.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if a target is
            no string, or if the device is not available. The message names the row.
        BadSampleError
            If a text of X cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or has no decoder that writes texts.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Write a text about each text.

        Parameters
        ----------
        X : sequence of str
            Texts to read.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            A string for each text. With ``on_bad_sample="nan"``, None for a text that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If ``max_new_tokens`` or ``generation_options`` is invalid.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return self._written(X)[0]

    def score(self, X: Any, y: Any) -> float:
        """Compute the F-score of character n-grams (chrF) of the written texts.

        Parameters
        ----------
        X : sequence of str
            Texts to read.
        y : sequence of str
            Texts that should be written.

        Returns
        -------
        float
            Score in [0, 1]; higher is better. See :func:`chrf_score`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read, also with ``on_bad_sample="nan"``, because None cannot be compared.
        MissingDependencyError
            If sacrebleu is not installed.
        ValueError
            If X and y differ in length, or a target is no string.
        """
        return chrf_score(y, self._all_written(X))

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        self._refuse_unless_whole_texts(backbone, CHOOSE)
        return _telling(super()._read(self._prompted(items), backbone), backbone)

    def _read_pairs(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        self._refuse_unless_whole_texts(backbone, CHOOSE)
        return _telling(super()._read_pairs(self._prompted(items), backbone), backbone)

    def _prompted(self, items: Sequence[Any]) -> Sequence[Any]:
        """Texts, or pairs of texts, after the prompt; what is neither stays, and is refused with its row."""

        def begun(item: Any) -> Any:
            if isinstance(item, tuple) and item:
                return (begun(item[0]), *item[1:])
            return self.prompt + item if isinstance(item, str) else item

        return [begun(item) for item in items] if self.prompt else items


def _telling(samples: Samples, backbone: Backbone) -> Samples:
    """Samples that say what can be done about long ones here, where there are no windows."""
    samples.words_if_cut = (
        f"texts are longer than max_length={backbone.preprocessing.max_length} tokens, prompt included; part was not "
        "read. Raise max_length where the network allows, or shorten them."
    )
    return samples
