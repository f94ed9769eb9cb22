"""Unsupervised transfer: a backbone that goes on learning from samples without labels, and is then used like any other.

Promises that what comes out is a :class:`Backbone` value with a fingerprint of its own, which pickles with the weights
that changed. Must not know how networks are trained.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skltransfer._estimators import serialization
from skltransfer._estimators.base import BackboneEstimator, NamesFeatures, n_truncated
from skltransfer._estimators.parameters import (
    ReadsBackbone,
    Resumes,
    TrainsStages,
    at_least_zero,
    declared,
    parameter,
    share,
)
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_parameters
from skltransfer.backbones import COLOURS, Backbone, adapted_backbone, freeze_boundary, load_backbone, reload_backbone
from skltransfer.engine import (
    DTYPES,
    Pretrained,
    PretrainingTask,
    TrainingPlan,
    adapt_norms,
    adapt_to_texts,
)
from skltransfer.exceptions import AdaptationWarning, UnsupportedBackboneError
from skltransfer.inputs import ONE

NO_BETTER = (
    "Hidden tokens of held-out texts are guessed no better than before (loss {loss_after:.4g}, before "
    "{loss_before:.4g}): use the network as it was, or change learning_rate (and max_epochs), or add texts."
)


@declared
class AdaptedBackbone(
    Resumes,
    TrainsStages,
    ReadsBackbone,
    NamesFeatures,
    BackboneEstimator,
    VersionStamp,
    TransformerMixin,
    BaseEstimator,
):
    """Adapt a pretrained network to unlabeled samples of your domain, before any label is used.

    ``objective="norm_statistics"`` adapts any network with BatchNorm layers, such as ResNet and EfficientNet;
    ``objective="masked_lm"`` continues the masked language modeling of text networks. Choose this class if you have
    many unlabeled samples that differ from the data of the pretraining, and few labels. If labels of a related source
    are available, :class:`DomainAdaptedClassifier` and :class:`FeatureAdaptedClassifier` use them for the adaptation.

    The adapted network is the attribute ``backbone_``: pass it, not this estimator, as ``backbone`` of
    :class:`FineTunedClassifier` or another estimator. A lower loss on unlabeled samples does not imply better
    predictions, so compare both networks on labeled samples.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        Pretrained network: a name of the form ``"source:model"``, or a :class:`Backbone` that :func:`load_backbone`
        returned. The network determines whether X holds images, texts or audio. The default is an image network that is
        installed with the package; :func:`list_backbones` lists other names.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file; see
        :func:`load_backbone`.
    objective : {"masked_lm", "norm_statistics"}, default="norm_statistics"
        Training objective. ``"masked_lm"``, for texts, hides tokens and trains the unfrozen stages to predict them
        [1]_, [2]_. It uses the language modeling head of the checkpoint if there is one; else a new head of one layer,
        which shares the token embeddings of the network and is first trained alone. ``"norm_statistics"`` replaces the
        means and variances of BatchNorm layers in unfrozen stages with those of the samples [3]_. They are computed
        from sums over all samples, so that batches have no effect.
    freeze_depth : float, int or str, default=0.0
        How much of the backbone is frozen, as in :class:`FineTunedClassifier`. The default, 0.0, adapts all stages.
    prior : float, default=0.0
        Weight of the pretrained BatchNorm statistics, in samples: 100.0 mixes them with those of the new samples as if
        they came from 100 further samples. It has an effect only with ``objective="norm_statistics"``.
    mask_fraction : float in (0, 1), default=0.15
        Fraction of the tokens of a text that the network must predict, at least one token. Of these, 80 % are hidden,
        10 % are replaced by another token, and 10 % are left as they are. Padding and special tokens are never chosen.
        It has an effect only with ``objective="masked_lm"``, like all parameters up to ``checkpoint``.
    max_epochs : int, default=3
        Maximum number of passes over the texts. A new head is first trained alone for as many passes.
    batch_size : int, default=32
        Maximum number of texts per training step. All batches of an epoch have about the same number of texts.
    learning_rate : float, default=5e-5
        Learning rate of all trained weights (AdamW). A new head, while it is trained alone, has the rate 1e-3.
    weight_decay : float, default=0.01
        Weight decay (AdamW); norms and biases are not decayed.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct texts that is held out to compute the validation loss. The weights of the epoch with the
        lowest loss are kept.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch, so that an interrupted fit can be resumed; see
        :class:`FineTunedClassifier`.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How ``transform`` turns the output of the last stage (a feature map or a sequence of tokens) into one vector:
        the first token (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions
        one after the other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
    image_shape : tuple of int, default=None
        Shape ``(height, width)`` or ``(height, width, channels)`` of flattened images in the rows of a 2-D X. If None,
        an image backbone reads each row of a 2-D X as a single line of pixels, stretched to the input size.
    input_size : int, default=None
        Side of the square input of an image network, in pixels, if the network accepts several sizes. A smaller one is
        faster and often suits small images. None keeps the setting with which ``backbone`` was loaded, by default the
        size for which the weights were made.
    resize : {"crop", "letterbox", "squash"} or None, default=None
        How an image that is not square becomes the square input. ``"crop"`` resizes its shorter side, and cuts off what
        is left of its longer side. ``"letterbox"`` resizes its longer side, and fills the rest with the mean color.
        ``"squash"`` resizes both sides and changes the aspect ratio. None keeps the setting with which ``backbone`` was
        loaded, by default what was done in the pretraining.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that is passed as arrays without a rate. Audio files and ``(array, rate)`` pairs
        bring their own.
    max_length : int, default=None
        Maximum number of tokens per text, special tokens included. None uses the network's own limit, at most 512. It
        has no effect on images and audio.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How samples that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning, and ``transform`` fills their embeddings with NaN.
    device : str, default="auto"
        Device on which the network runs, as a torch device such as ``"cpu"`` or ``"cuda:1"``. ``"auto"`` uses CUDA if
        it is available, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        Data type in which the network computes. ``"auto"`` uses bfloat16 if the processor supports it natively and the
        features of this backbone stay nearly the same (cosine similarity of at least 0.999), else float32. Weights are
        always trained in float32.
    runtime : {"auto", "eager", "folded", "compiled"}, default="auto"
        Library that runs the frozen stages. ``"eager"`` is PyTorch. ``"folded"`` is PyTorch with each BatchNorm
        computed in the convolution before it. ``"compiled"`` is OpenVINO, which needs the extra ``fast`` and a CPU; the
        first use of a network takes some seconds, later ones read the result from the user's cache folder. ``"auto"``
        is ``"compiled"`` if that is possible, else ``"folded"`` in float32, else ``"eager"``. Features differ by at
        most 1e-4 of the largest value in float32, usually by 1e-5.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of activations: ``"memory"``, a folder, an :class:`ActivationStore` or None, as in
        :class:`FineTunedClassifier`. Activations of the adapted network are kept apart from those of the original one.
    random_state : int, RandomState instance or None, default=None
        Controls masks, the order of texts, dropout, the held-out texts and a new head. Pass an int for reproducible
        results.
    verbose : int, default=0
        If positive, show progress bars.

    Attributes
    ----------
    input_kind_ : {"samples", "table"}
        Kind of X that ``fit`` received: a collection of images, texts or audio, or a table of numbers. Other methods
        require the same kind.
    backbone_ : Backbone
        The adapted network, to be passed as ``backbone`` of other estimators.
    adaptation_report_ : dict
        Summary of the adaptation. ``n_samples`` is the number of samples that were read. For ``"masked_lm"``:
        ``n_held_out``, the number of held-out texts, and ``loss_before`` and ``loss_after``, the mean cross-entropy of
        the same masked tokens of these texts before the stages were trained (but after a new head was) and after. For
        ``"norm_statistics"``: ``norm_shift``, by how many standard deviations the means of each layer moved.
    n_features_in_ : int
        Number of columns of X. Only defined if X has columns.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.
    freeze_boundary_ : str
        Name of the last frozen stage, or ``"input"`` if no stage is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the backbone, and number of frozen ones.
    n_trainable_params_ : int
        Number of weights of the backbone that were trained.
    n_iter_ : int
        Number of training epochs.
    history_ : dict of str to list of float
        Training history with one value per epoch for ``loss``, ``learning_rate`` and ``validation_loss``. It is empty
        for ``objective="norm_statistics"``.
    dtype_, device_, runtime_ : str
        Data type, device and runtime that were used.
    n_truncated_ : int
        Number of training texts or audio clips that were truncated because they are longer than the network's input;
        ``fit`` also warns. Only defined for text and audio.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    Warns
    -----
    AdaptationWarning
        If ``fit`` with ``objective="masked_lm"`` does not lower the loss on held-out texts.

    See Also
    --------
    DomainAdaptedClassifier : Adapt a network with labels of a source domain.
    FeatureAdaptedClassifier : Adapt embeddings rather than a network.

    References
    ----------
    .. [1] J. Devlin et al. (2019), "BERT: pre-training of deep bidirectional transformers for language understanding",
       NAACL.
    .. [2] S. Gururangan et al. (2020), "Don't stop pretraining: adapt language models to domains and tasks", ACL.
    .. [3] S. Schneider et al. (2020), "Improving robustness against common corruptions by covariate shift adaptation",
       NeurIPS.

    Examples
    --------
    >>> from skltransfer import AdaptedBackbone, FineTunedClassifier
    >>> texts = [f"{word} film, {word} story {i}" for i in range(10) for word in ("a good", "a dull")]
    >>> adapted = AdaptedBackbone("toy:text", objective="masked_lm", learning_rate=1e-3, random_state=0).fit(texts)
    >>> report = adapted.adaptation_report_
    >>> report["loss_after"] < report["loss_before"]
    True
    >>> FineTunedClassifier(adapted.backbone_, freeze_depth=1.0).fit(texts, [1, 0] * 10).predict(["a good film"])
    array([1])
    """

    objective: str = parameter(default="norm_statistics", constraint=[StrOptions({"masked_lm", "norm_statistics"})])
    freeze_depth: float | str = parameter(default=0.0)
    dtype: str = parameter(default="auto", constraint=[StrOptions({"auto", *DTYPES})])
    prior: float = parameter(default=0.0, constraint=at_least_zero())
    mask_fraction: float = parameter(default=0.15, constraint=share())
    max_epochs: int = parameter(default=3)
    learning_rate: float = parameter(default=5e-5)
    weight_decay: float = parameter(default=0.01, constraint=at_least_zero())
    validation_fraction: float = parameter(default=0.1, constraint=share())

    @checks_parameters()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Adapt the backbone to unlabeled samples. Row order has no effect.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Unlabeled samples: texts for ``objective="masked_lm"``; else images (paths, bytes, PIL images or arrays),
            audio clips, texts or a 2-D table, as the backbone reads them.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if there are fewer than 2 distinct samples, or if there is no BatchNorm layer to
            adapt.
        UnsupportedBackboneError
            If ``objective="masked_lm"`` and the backbone does not read texts, has no mask token, or reads long texts in
            windows.
        BackboneNotFoundError, WeightsError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        self.__dict__ = self._unfitted_copy()._adapt(X).__dict__  # one step: an interrupt leaves the old state
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Compute the embedding of each sample in the adapted network.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to embed: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_features_out)
            Pooled output of the last stage.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        """
        check_is_fitted(self)
        backbone = self.backbone_
        samples = self._samples(X, backbone, reset=False)
        n_truncated(samples, backbone)
        return self._last_features(samples, backbone)

    @property
    def _n_features_out(self) -> int:
        backbone = self.backbone_
        return backbone.pooled_width(backbone.n_stages, self._resolved_pooling(backbone))

    def save(self, path: str | os.PathLike) -> None:
        """Save the adapted weights to one safetensors file.

        The weights have the names of the original library, so that ``load_backbone(name, weights=path)`` and other
        programs can read them; :func:`skltransfer.load` restores the fitted estimator.

        Parameters
        ----------
        path : path-like
            File to write. Its folder must exist; an existing file is replaced once the new one is complete.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        UnsupportedBackboneError
            If the backbone reads three bands other than red, green and blue, which a file of weights does not say.
        IsADirectoryError, FileNotFoundError
            If ``path`` is a folder, or its folder does not exist.
        """
        check_is_fitted(self)
        backbone = self.backbone_
        bands = backbone.options.get("bands") or COLOURS
        if len(bands) == len(COLOURS) and bands != COLOURS:
            raise UnsupportedBackboneError(
                f"A file of weights does not say that its three channels are {bands}, not red, green and blue. Pickle "
                "the estimator instead."
            )
        base = load_backbone(backbone.name, weights=backbone.weights.base, **backbone.options)
        header = {
            **serialization.described(self),
            "origin": serialization.encoded((backbone.name, backbone.weights, backbone.options, backbone.fingerprint)),
            "base_fingerprint": base.fingerprint,
        }
        serialization.write(path, header, {key: value.numpy() for key, value in backbone.library_state().items()})

    @classmethod
    def _restored(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Any, backbone: Backbone | None
    ) -> Self:
        """The estimator that :meth:`save` was called on; the weights that were adapted must be there too."""
        name, weights, options, expected = serialization.decoded(header["origin"])
        options["trust_remote_code"] = False  # the file's word is not enough to run a repository's code
        base = backbone or reload_backbone(name, weights.base, options, header["base_fingerprint"])
        adapted = adapted_backbone(base, arrays)
        model = serialization.restored(cls, header, base, has_moved=backbone is not None)
        model._refuse_unknown_choices()
        model.backbone_ = reload_backbone(adapted.name, adapted.weights, adapted.options, expected)
        return model

    @property
    def _reads_columns(self) -> str:
        return ONE  # hidden words are guessed in single texts

    def _adapt(self, X: Any) -> Self:
        backbone = self._loaded_backbone()
        samples = self._samples(X, backbone, reset=True)
        task = self._task(backbone)
        if self.objective == "masked_lm":
            _refuse_unless_it_reads_masked_texts(backbone)
            result = adapt_to_texts(task, samples)
        else:
            result = adapt_norms(task, samples)
        if result.bad:
            self.bad_samples_ = list(result.bad)
            warnings.warn(f"Rows {self.bad_samples_[:10]} of X could not be read and were left out.", stacklevel=4)
        if backbone.modality in ("audio", "text"):
            self.n_truncated_ = n_truncated(samples, backbone)
        self._set_fitted(task, result)
        return self

    def _task(self, backbone: Backbone) -> PretrainingTask:
        return PretrainingTask(
            stages=self._frozen_stages(backbone, fits=True),
            boundary=freeze_boundary(self.freeze_depth, backbone.stage_names),
            policy=self._bad_sample_policy(),
            prior=float(self.prior),
            fraction=self.mask_fraction,
            validation_fraction=self.validation_fraction,
            plan=TrainingPlan(
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
                verbose=int(self.verbose),
            ),
            checkpoint=self._checkpoint_folder(),
        )

    def _set_fitted(self, task: PretrainingTask, result: Pretrained) -> None:
        backbone, boundary, report = task.stages.backbone, task.boundary, result.report
        self.backbone_ = adapted_backbone(backbone, result.state)
        self.adaptation_report_, self.history_ = report, result.history
        self.n_iter_ = len(result.history.get("loss", ()))
        self.n_trainable_params_ = result.n_trainable
        self.freeze_boundary_ = backbone.stage_names[boundary - 1] if boundary else "input"
        self.n_stages_, self.n_frozen_stages_ = backbone.n_stages, boundary
        self.dtype_ = task.stages.dtype_name
        self.device_, self.runtime_ = str(task.stages.device), task.stages.runtime.name
        if report.get("loss_after", -1) >= report.get("loss_before", 0):
            warnings.warn(NO_BETTER.format(**report), AdaptationWarning, stacklevel=5)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _refuse_unless_it_reads_masked_texts(backbone: Backbone) -> None:
    if backbone.modality != "text":
        raise UnsupportedBackboneError(
            f"objective='masked_lm' is for texts, and {backbone.name!r} reads samples of kind {backbone.modality!r}. "
            "Use objective='norm_statistics', or a backbone of texts."
        )
    if backbone.is_windowed:
        raise UnsupportedBackboneError(
            f"AdaptedBackbone learns from the beginning of each text, but {backbone.name!r} was loaded with "
            "long_samples='windows'. Load it with long_samples='truncate', and split long texts into several rows."
        )
    if backbone.preprocessing.mask_id is None:
        raise UnsupportedBackboneError(
            f"objective='masked_lm' hides tokens behind one that the network knows for it, and {backbone.name!r} knows "
            "none. Choose a network such as BERT's, RoBERTa's or ESM's."
        )
