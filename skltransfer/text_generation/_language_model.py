"""Causal language models of a domain: code or texts, learned whole or as continuations of prompts."""

import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skltransfer._estimators.base import n_truncated
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
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner
from skltransfer._estimators.target_checks import object_array, texts_of
from skltransfer.backbones import Backbone, causal_head, reload_backbone
from skltransfer.engine import (
    OWN_HEAD,
    Complaints,
    LanguageModelingTask,
    NetworkSpec,
    NetworkState,
    RecordTargets,
    TrainingSet,
    continuations,
)
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError
from skltransfer.inputs import ONE, ContinuedSamples, samples_from_prompts

NOTHING = {"counted": np.zeros(0, dtype=np.int64), "start": np.array(0)}  # of a sample that cannot be read


@declared
class FineTunedLanguageModel(HasAdapter, Resumes, StopsEarly, TrainsJointly, ReadsTexts, StructuredFineTuner):
    """Continue texts or code in the style of a domain by fine-tuning a pretrained causal language model.

    A causal language model, such as GPT-2 or Llama, predicts the next token of a text from those before it [1]_. With
    y, X holds prompts and y their continuations, and only the continuations count in the loss. Without y, the texts in
    X are learned as they are. :meth:`predict` continues prompts, and :meth:`perplexity` measures how well texts are
    predicted.

    ``freeze_depth`` sets how much of the network is trained. The frozen stages (groups of layers) run once per text,
    and training starts from their cached activations. By default, low-rank adapters (LoRA [2]_) are trained in the
    unfrozen stages, and the output head stays as it was; with all stages frozen, an adapter beside the output head is
    trained. With ``adapter=None``, the unfrozen stages and the output head are trained. If the network shares the
    vectors of its input tokens with its output head, the head is then a private copy, unless ``freeze_depth=0.0``
    trains both as one tensor.

    Parameters
    ----------
    backbone : str or Backbone, default="hf:openai-community/gpt2"
        Pretrained causal language model: ``"hf:<name>"`` for a model of the Hugging Face Hub, ``"hf:<folder>"`` for one
        that ``save_pretrained`` wrote together with its tokenizer, or a :class:`Backbone` that :func:`load_backbone`
        returned.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file; see
        :func:`load_backbone`.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.
    adapter : {"lora"} or None, default="lora"
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear layers
        instead, about 1 % of the weights; with all stages frozen, an adapter of the output head. It requires the extra
        ``lora``. None trains the weights themselves, and those of the output head.
    max_epochs : int, default=10
        Maximum number of passes over the training set.
    batch_size : int, default=8
        Maximum number of texts per training step. All batches of an epoch have about the same number of texts.
    learning_rate : float, default=2e-4
        Learning rate of all that is trained (AdamW). The default suits adapters; with ``adapter=None``, 5e-5 is a
        common choice.
    backbone_lr_factor : float, default=1.0
        Learning rate of the last stage, as a multiple of the output head's. The default is 1 because the head is
        pretrained, too.
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
    early_stopping : bool, default=False
        If True, hold out ``validation_fraction`` of the samples, stop when their loss no longer decreases, and restore
        the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct samples that is held out. A prompt with another continuation is another sample; pass
        ``groups`` to keep such samples together.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
    max_length : int, default=None
        Maximum number of tokens of a text, or of a prompt and its continuation together. None uses the network's own
        limit, at most 512. Longer texts lose their end. Longer pairs lose the beginning of the prompt, and the
        continuation loses its end only if it does not fit by itself. ``fit`` and the scores warn, and count the texts.
    max_new_tokens : int, default=64
        Maximum number of tokens that ``predict`` writes after a prompt.
    num_beams : int, default=1
        Number of texts that ``predict`` keeps at each step (beam search) before it returns the most probable one. 1
        takes the most probable token at each step (greedy search), which is the fastest.
    do_sample : bool, default=False
        If True, ``predict`` draws each token at random with its probability, one prompt after the other, which is slow.
        The result depends only on the prompt and ``random_state``. It excludes beam search.
    temperature : float, default=1.0
        Number by which scores are divided before a token is drawn: below 1, probable tokens are drawn more often. It
        has an effect only with ``do_sample=True``.
    top_p : float in (0, 1], default=1.0
        Only the most probable tokens that have at least this probability together are drawn. It has an effect only with
        ``do_sample=True``.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How texts that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning; ``predict`` returns None and ``score_samples`` NaN for them.
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
        Controls the order of samples, dropout, the held-out samples, initial weights of adapters and the tokens that
        ``predict`` draws. Pass an int for reproducible results. As in scikit-learn, None draws a seed from NumPy's
        global generator. torch's global generator is left unchanged.
    verbose : int, default=0
        If positive, show progress bars.

    Attributes
    ----------
    input_kind_ : {"samples"}
        Kind of X that ``fit`` received.
    has_continuations_ : bool
        True if ``fit`` received y, so that the model learned where a continuation ends.
    n_counted_tokens_ : int
        Number of tokens of the training set that count in the loss.
    n_truncated_ : int
        Number of training samples of which part was not learned, because they are longer than ``max_length``.
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
        ``validation_loss``; see :class:`TrainingHistoryDisplay`. The loss is a sum over the tokens of a sample, divided
        by their mean number in the training set.
    dtype_, device_, runtime_ : str
        Data type, device and runtime that were used. ``predict`` writes in float32.
    int8_agreement_ : dict of str to float
        How near features in 8 bits are to float32, on up to 64 training samples: ``"cosine"``, the least cosine
        similarity. Only defined with ``dtype="int8"``.
    duplicates_ : list of list of int
        Groups of rows with identical texts in X, and in y. Keep each group in one fold of a cross-validation
        (``GroupKFold``); copies in the test set improve the score.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : Predict one label per text.
    FineTunedTagger : Predict a label for each word of a text.

    References
    ----------
    .. [1] A. Radford et al. (2019), "Language models are unsupervised multitask learners".
    .. [2] E. J. Hu et al. (2022), "LoRA: low-rank adaptation of large language models", ICLR.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.

    Examples
    --------
    A tiny network with random weights stands for a pretrained one, so that the example runs anywhere.

    >>> import tempfile
    >>> from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    >>> from transformers import GPT2Config, PreTrainedTokenizerFast
    >>> letters = Tokenizer(models.WordLevel({a: i for i, a in enumerate("?;12345=+")}, unk_token="?"))
    >>> letters.pre_tokenizer, letters.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    >>> folder = tempfile.mkdtemp()
    >>> files = PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="?", eos_token=";").save_pretrained(folder)
    >>> sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 16}
    >>> GPT2Config(vocab_size=9, bos_token_id=1, eos_token_id=1, **sizes).save_pretrained(folder)
    >>> from skltransfer import FineTunedLanguageModel
    >>> X, y = ["1+1=", "2+1=", "1+3=", "2+3="], ["2", "3", "4", "5"]
    >>> model = FineTunedLanguageModel(
    ...     f"hf:{folder}", weights="random", freeze_depth=0.0, adapter=None, learning_rate=1e-2, max_epochs=80,
    ...     max_new_tokens=4, random_state=0,
    ... ).fit(X, y)
    >>> model.predict(["2+1=", "1+3="])
    array(['3', '4'], dtype=object)
    >>> bool(model.perplexity(X, y) < 1.5)
    True
    """

    _kind_of_samples = "text"
    _truncates, _needs_target = True, False
    _reads_columns = ONE
    backbone: str | Backbone = parameter(default="hf:openai-community/gpt2", constraint="no_validation", kw_only=False)
    adapter: str | None = parameter(default="lora")
    batch_size: int = parameter(default=8)
    learning_rate: float = parameter(default=2e-4)
    backbone_lr_factor: float = parameter(default=1.0)
    max_new_tokens: int = parameter(default=64, constraint=positive(numbers.Integral))
    num_beams: int = parameter(default=1, constraint=positive(numbers.Integral))
    do_sample: bool = parameter(default=False, constraint=["boolean"])
    temperature: float = parameter(default=1.0, constraint=positive())
    top_p: float = parameter(default=1.0, constraint=[Interval(numbers.Real, 0, 1, closed="right")])

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
        """Fit the unfrozen stages of the network, or their adapters.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of str
            Prompts, or texts that are learned whole: a list, array or column of strings.
        y : sequence of str, default=None
            Continuation of each prompt, without the prompt. Each is tokenized by itself, and ends with the tokenizer's
            end token. None learns the texts in X from their second token on, and adds no end to them, because they may
            be parts of longer ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the samples, such as files. Early stopping holds out whole groups, so that a group is never on
            both sides. None holds out single samples.
        X_val : sequence of str, default=None
            Prompts or texts to validate on with ``early_stopping=True``, instead of a part of X that is held out.
        y_val : sequence of str, default=None
            Continuations of ``X_val``; None if y is None.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if no token
            counts, or if the device is not available. The message names the row.
        BadSampleError
            If a text cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or is no causal language model.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Continue each prompt.

        The library's own ``generate`` writes, with its cache of keys and values. It stops at the end token, or after
        ``max_new_tokens``; settings that the checkpoint brings, such as a repetition penalty, apply. A prompt that is
        longer than ``max_length``, or leaves no positions for the new tokens, loses its beginning, with a warning.

        Parameters
        ----------
        X : sequence of str
            Prompts.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            The continuation of each prompt, a string without the prompt. With ``on_bad_sample="nan"``, None for a
            prompt that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a prompt cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If ``max_new_tokens`` leaves no position for a prompt, or ``do_sample`` is combined with beam search.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        check_is_fitted(self)
        self._validate_params()
        backbone = reload_backbone(*self._origin_)
        samples = self._samples(X, backbone, reset=False)
        samples.as_prompts(self._longest_prompt(backbone))
        prompts = self._prompts_of(samples)
        n_truncated(samples, backbone)
        stages = self._frozen_stages(backbone)
        network = self._network_.for_inference(backbone, self._task_.readout, stages.device)
        found = continuations(network, backbone, list(prompts.values()), *self._how_to_write(list(prompts.values())))
        self._tell_unfinished(dict(zip(prompts, found, strict=True)), backbone)
        texts = dict(zip(prompts, map(causal_head(backbone).texts.text, found), strict=True))
        return object_array([texts.get(row) for row in range(len(samples))])

    def score_samples(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the log-likelihood of each text, or of each continuation given its prompt.

        Parameters
        ----------
        X : sequence of str
            Texts, or prompts.
        y : sequence of str, default=None
            Continuations of the prompts, whose end token counts, too. None takes the texts in X from their second token
            on.

        Returns
        -------
        ndarray of shape (n_samples,)
            Sum of the natural logarithms of the probabilities of the tokens; 0 for a text without a token to predict,
            and NaN for one that cannot be read, with ``on_bad_sample="nan"``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X and y differ in length, or y holds what is no string.
        """
        answers = self._answers(X, y)[0]
        return np.array([math.nan if one is None else one[0] for one in answers])

    def perplexity(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Compute the perplexity: the exponential of the mean negative log-likelihood per token, over all texts.

        A perplexity of k means that the network is as uncertain of the next token, on average, as if it had to choose
        among k equally probable ones. Perplexities of networks with different tokenizers cannot be compared.

        Parameters
        ----------
        X : sequence of str
            Texts, or prompts.
        y : sequence of str, default=None
            Continuations of the prompts; only their tokens count. None takes the texts in X.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None gives each sample the weight 1.

        Returns
        -------
        float
            Perplexity, at least 1; lower is better.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read, also with ``on_bad_sample="nan"``.
        ValueError
            If X and y differ in length, y holds what is no string, or no token counts.
        """
        answers, bad = self._answers(X, y)
        if bad:
            raise bad[min(bad)]
        totals = np.array(answers.tolist(), dtype=np.float64).reshape(-1, 2)
        weights = _check_sample_weight(sample_weight, totals, dtype=np.float64, ensure_non_negative=True)
        likelihood, n_tokens = weights @ totals
        if n_tokens == 0:
            raise ValueError("X holds no token to predict, in texts of positive weight. Pass longer texts.")
        with np.errstate(over="ignore"):
            return float(np.exp(-likelihood / n_tokens))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Compute the negative perplexity, because scikit-learn takes a higher score for a better one.

        Parameters
        ----------
        X : sequence of str
            Texts, or prompts.
        y : sequence of str, default=None
            Continuations of the prompts.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None gives each sample the weight 1.

        Returns
        -------
        float
            Minus :meth:`perplexity`, at most -1; higher is better.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a text cannot be read.
        ValueError
            If X and y differ in length, y holds what is no string, or no token counts.
        """
        return -self.perplexity(X, y, sample_weight)

    def _adapts_head(self, backbone: Backbone) -> bool:
        return True

    def _read(self, items: Sequence[Any], backbone: Backbone) -> ContinuedSamples:
        self._refuse_unless_whole_texts(
            backbone, "a causal language model, such as backbone='hf:openai-community/gpt2'"
        )
        return samples_from_prompts(items, causal_head(backbone).texts)

    def _checked_target(self, y: Any, samples: ContinuedSamples) -> np.ndarray:
        """The tokens of each sample that count."""
        if y is not None and samples.end is None:
            raise UnsupportedBackboneError(
                f"y holds texts that end, but the tokenizer of {self.backbone!r} has no token that ends a text. Set "
                "its eos_token and save it, or pass whole texts in X, without y."
            )
        if y is not None:
            samples.continue_with(texts_of(super()._checked_target(y, samples)))
        return object_array([samples.counted(position) or NOTHING for position in range(len(samples))])

    def _checked_validation_target(self, y_val: Any, samples: ContinuedSamples, y: np.ndarray) -> np.ndarray:
        return self._checked_target(y_val, samples)

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        self.n_counted_tokens_ = int(sum(len(y[row]["counted"]) for row in np.flatnonzero(weights > 0)))
        return RecordTargets(y)

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[LanguageModelingTask, TrainingSet]:
        counts = np.array([len(record["counted"]) for record in data.targets.records])
        data, counts = data.subset(counts > 0), counts[counts > 0]
        if task is not None:
            return task, data
        if not len(counts):
            raise ValueError("X holds no token to predict, in texts of positive weight. Pass longer texts.")
        mean = float(data.weights @ counts / data.weights.sum())
        return LanguageModelingTask(causal_head(self._loaded_backbone()).fingerprint, mean), data

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        return self._tapped_spec(backbone, [backbone.n_stages], OWN_HEAD)

    def _learn(self, X: Any, y: Any, sample_weight: Any, **how: Any) -> Self:
        validation = how.get("validation")
        if validation is not None and (y is None) != (validation[1] is None):
            given, absent = ("y_val", "y") if y is None else ("y", "y_val")
            raise ValueError(
                f"y and y_val belong together, but {absent} is None and {given} is not. Pass both, or none."
            )
        self.has_continuations_ = y is not None
        return super()._learn(X, y, sample_weight, **how)

    def _longest_prompt(self, backbone: Backbone) -> int:
        """Most tokens of a prompt that leaves positions for new ones."""
        head = causal_head(backbone)
        if self.max_new_tokens >= head.n_positions:
            raise ValueError(
                f"max_new_tokens={self.max_new_tokens!r} leaves no position for a prompt: {backbone.name!r} has "
                f"{head.n_positions}. Set less."
            )
        return min(head.texts.max_length, head.n_positions - int(self.max_new_tokens))

    def _prompts_of(self, samples: ContinuedSamples) -> dict[int, tuple[int, ...]]:
        """Token ids of the prompts that can be read, by row."""
        found, complaints = {}, Complaints(self._bad_sample_policy())
        for row in range(len(samples)):
            try:
                found[row] = samples.ids(row)
            except BadSampleError as error:
                complaints.add(row, error)
            complaints.look_on()
        complaints.raise_if_any()
        return found

    def _how_to_write(self, prompts: Sequence[Sequence[int]]) -> tuple[dict[str, Any], list[int] | None]:
        """Settings of the library's ``generate``, and seeds of the texts if these are drawn."""
        how = {"max_new_tokens": int(self.max_new_tokens), "num_beams": int(self.num_beams), "do_sample": False}
        if not self.do_sample:
            return how, None
        if self.num_beams > 1:
            raise ValueError(f"do_sample=True draws one text, so that num_beams={self.num_beams!r} is not used. Set 1.")
        drawn = {"do_sample": True, "temperature": float(self.temperature), "top_p": float(self.top_p), "top_k": 0}
        seed = self._seed()
        seeds = [int(np.random.SeedSequence([seed, *prompt]).generate_state(1)[0]) for prompt in prompts]
        return how | drawn, seeds

    def _tell_unfinished(self, found: dict[int, list[int]], backbone: Backbone) -> None:
        """Warn of texts that were not written to their end, where the network learned one."""
        has_ended = causal_head(backbone).texts.has_ended
        cut = [row for row, ids in found.items() if not has_ended(ids)]
        if cut and self.has_continuations_:
            warnings.warn(
                f"{len(cut)} of {len(found)} texts were not written to their end within "
                f"max_new_tokens={self.max_new_tokens}. Raise it. (first: rows {cut[:3]})",
                stacklevel=3,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
