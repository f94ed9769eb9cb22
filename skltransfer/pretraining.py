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
from skltransfer._estimators.base import BackboneEstimator, n_truncated
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
from skltransfer.backbones import Backbone, adapted_backbone, freeze_boundary, load_backbone, reload_backbone
from skltransfer.engine import (
    Pretrained,
    PretrainingTask,
    TrainingPlan,
    adapt_norms,
    adapt_to_texts,
)
from skltransfer.exceptions import AdaptationWarning, UnsupportedBackboneError

NO_BETTER = (
    "Hidden tokens of held-out texts are guessed no better than before (loss {loss_after:.4g}, before "
    "{loss_before:.4g}): use the network as it was, or change learning_rate (and max_epochs), or add texts."
)


@declared
class AdaptedBackbone(
    Resumes, TrainsStages, ReadsBackbone, BackboneEstimator, VersionStamp, TransformerMixin, BaseEstimator
):
    """Adapt a pretrained network to samples without labels, before any label is seen.

    ``backbone_`` is the adapted network: pass that, not the estimator, as ``backbone=`` of others. Whether it serves
    them better is for a comparison on labels to say: a lower loss on unlabelled samples is no promise.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    objective : {"masked_lm", "norm_statistics"}, default="norm_statistics"
        ``"masked_lm"``, for texts: hide tokens, and train the stages after the boundary to guess them [1]_, [2]_. The
        checkpoint's own head guesses, where it has one; else a new head of one layer, which scores tokens by the
        network's own token vectors and is first trained alone. ``"norm_statistics"``: give BatchNorm layers after the
        boundary the means and variances of these samples [3]_, by sums over all of them, so that no batch matters.
    freeze_depth : float, int or str, default=0.0
        How much of the backbone stays as it was; see :class:`FineTunedClassifier`. 0.0 adapts all of it.
    prior : float, default=0.0
        For ``"norm_statistics"``: how many samples the old statistics are worth.
    mask_fraction : float in (0, 1), default=0.15
        Share of a text's tokens that the network must guess, at least one; 8 of 10 are hidden, one is replaced by any
        other, one is left. Never padding or special tokens.
    max_epochs : int, default=3
        Passes over the texts; a new head takes as many before them. This and what follows is for ``"masked_lm"``.
    batch_size : int, default=32
    learning_rate : float, default=5e-5
        For AdamW, of all that is trained; a new head, while it is trained alone, has 1e-3.
    weight_decay : float, default=0.01
        Weight decay (AdamW); norms and biases are not decayed.
    validation_fraction : float in (0, 1), default=0.1
        Share of distinct texts that is held out; losses are computed on it. The weights of the epoch with the smallest
        loss are kept.
    checkpoint : path-like, default=None
        A folder in which training leaves its state after each epoch; see :class:`FineTunedClassifier`.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How ``transform`` pools maps or tokens to vectors; ``"auto"`` is the backbone's own way.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows of
        a 2-D X are laid out as strips.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that comes as arrays.
    max_length : int, default=None
        Number of tokens that are read of a text, special tokens included. None reads as many as the network was
        made for, at most 512.
    on_bad_sample : {"raise", "nan"}, default="raise"
        ``"nan"`` leaves rows that cannot be read out of ``fit``, with a warning; ``transform`` fills them.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it
        (cosine similarity of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Where activations are remembered; those of the adapted network apart from those of the one before.
    random_state : int, RandomState instance or None, default=None
        Masks, order of texts, dropout, held-out part and new heads. The global generators are never touched.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    input_kind_ : {"samples", "table"}
        Whether ``fit`` saw a collection of samples or a table of numbers; other methods must be given the same.
    backbone_ : Backbone
        The adapted network.
    adaptation_report_ : dict
        ``n_samples`` that were read. For ``"masked_lm"``: ``n_held_out``; ``loss_before`` and ``loss_after``, the mean
        cross-entropy of the tokens that were asked for in held-out texts, the same ones both times, before the stages
        were trained (but after a new head was) and after. For ``"norm_statistics"``, which lowers no loss:
        ``norm_shift``, for each layer how far its means moved, in standard deviations.
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    freeze_boundary_ : str
        Name of the last frozen stage; ``"input"`` where none is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the backbone, and how many are frozen.
    n_trainable_params_ : int
        Number of the backbone's weights that were trained.
    n_iter_ : int
        Epochs that were trained.
    history_ : dict of str to list of float
        Per epoch: ``loss``, ``learning_rate``, ``validation_loss``; empty for ``"norm_statistics"``.
    dtype_, device_ : str
        The dtype and device that ``"auto"`` was resolved to.
    n_truncated_ : int
        Training texts, or audio clips, of which a part was left out because they are longer than the network's input;
        a warning says so too.
    bad_samples_ : list of int
        Rows that ``fit`` left out, where ``on_bad_sample="nan"``.

    Warns
    -----
    AdaptationWarning
        In ``fit``, if held-out texts are guessed no better than before.

    See Also
    --------
    DomainAdaptedClassifier : Adapts with the source's labels at hand.

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
    prior: float = parameter(default=0.0, constraint=at_least_zero())
    mask_fraction: float = parameter(default=0.15, constraint=share())
    max_epochs: int = parameter(default=3)
    learning_rate: float = parameter(default=5e-5)
    weight_decay: float = parameter(default=0.01, constraint=at_least_zero())
    validation_fraction: float = parameter(default=0.1, constraint=share())

    @checks_parameters()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Adapt the backbone to these samples. The result does not depend on their order.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
            Texts; or paths, bytes, PIL images, arrays; or a 2-D table of numbers.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is not what it should be, there are fewer than 2 distinct samples, or no BatchNorm to adapt.
        UnsupportedBackboneError
            If the backbone reads no texts, or knows no token that hides others.
        BadSampleError
            With the row, if a sample cannot be read.
        TrainingDivergedError
            If the loss is no longer a number.
        """
        self.__dict__ = self._unfitted_copy()._adapt(X).__dict__  # one step: an interrupt leaves the old state
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The pooled features of the adapted network.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float32, shape (n, n_features)
        """
        check_is_fitted(self)
        backbone = self.backbone_
        samples = self._samples(X, backbone, reset=False)
        n_truncated(samples, backbone)
        return self._last_features(samples, backbone, self.dtype_)

    @property
    def _n_features_out(self) -> int:
        backbone = self.backbone_
        return backbone.pooled_width(backbone.n_stages, self._resolved_pooling(backbone))

    def save(self, path: str | os.PathLike) -> None:
        """Write the adapted weights to one safetensors file, with where they come from in its header.

        They have the library's own names, so that ``load_backbone(name, weights=path)`` reads them, and other programs
        do; :func:`skltransfer.load` gives the fitted estimator back.

        Parameters
        ----------
        path : path-like
            Written whole or not at all.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        """
        check_is_fitted(self)
        backbone = self.backbone_
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
        model.backbone_ = reload_backbone(adapted.name, adapted.weights, adapted.options, expected)
        return model

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
        self.dtype_ = str(task.stages.dtype).removeprefix("torch.")
        self.device_ = str(task.stages.device)
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
