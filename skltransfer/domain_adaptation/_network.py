"""A network that is tuned on one domain's labels so that it serves another domain, which has none."""

import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_consistent_length

import skltransfer.domain_adaptation._domains as _domains
from skltransfer._estimators.callbacks import fit_callbacks
from skltransfer._estimators.classifier import ClassifierVerbs
from skltransfer._estimators.parameters import (
    HasLogisticProbe,
    SmoothsLabels,
    TrainsFully,
    at_least_zero,
    declared,
    parameter,
)
from skltransfer._estimators.vector_fine_tuner import VectorFineTuner
from skltransfer._system.validation import checks_parameters
from skltransfer.backbones import reload_backbone
from skltransfer.domain_adaptation._alignment import Alignment
from skltransfer.engine import ArrayTargets, ClassificationTask, DomainShift, Task, TrainingSet
from skltransfer.exceptions import AdaptationWarning
from skltransfer.inputs import Samples

LEFT_OUT = ("warm_start", "adapter")
LABEL_SHIFT = (
    "Before adapting, classes are predicted in other shares for target samples than for source samples (they differ by "
    "{:.0%} of the samples; see domain_report_). Where their true shares differ, drawing the domains together mixes "
    "classes up: compare with method=None."
)


@declared
class DomainAdaptedClassifier(
    ClassifierVerbs, ClassifierMixin, SmoothsLabels, HasLogisticProbe, TrainsFully, VectorFineTuner
):
    """Classify images, texts, audio or rows of an unlabeled target domain, using a labeled source domain.

    The backbone determines what X holds: images, texts, audio clips or rows of a table. Choose this class if the data
    to classify differ systematically from the labeled data (another camera, hospital or website), unlabeled samples of
    the target are available, and you can train the network. :class:`FeatureAdaptedClassifier` adapts precomputed
    embeddings instead; it is faster, and its default is the safer choice if nothing is known about the domains.
    :class:`AdaptedBackbone` needs no labels at all.

    The last stages of the network are trained on the labels of the source, while a second loss or statistic moves the
    network toward the target. Adaptation can reduce the accuracy: compare with ``method=None``, and consider the
    warnings.

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
    method : {"mcc", "deep_coral", "norm_statistics"} or None, default="mcc"
        Adaptation method. ``"mcc"`` adds a loss that penalizes confusion between classes in the predictions for target
        samples [1]_; ``"deep_coral"`` a loss on the difference between the covariances of both domains' features [2]_.
        ``"norm_statistics"`` gives BatchNorm layers in unfrozen stages the source's statistics, trains on the source,
        and then gives them the target's statistics [3]_. None trains on the source only, as a baseline.
    adaptation_weight : float, default=1.0
        Weight of the additional loss of ``"mcc"`` and ``"deep_coral"``. It increases from zero to this value during
        training.
    prior : float, default=0.0
        Weight of the previous BatchNorm statistics, in samples, each time they are replaced: 100.0 mixes them in as if
        they came from 100 further samples. It has an effect only with ``method="norm_statistics"``.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the output of the last stage (a feature map or a sequence of tokens) becomes one vector: the first token
        (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions one after the
        other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
    head : {"linear", "mlp"}, default="linear"
        Type of the head. ``"linear"`` is one linear layer; ``"mlp"`` adds one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Initial weights of a linear head. ``"probe"`` solves a logistic regression on frozen features and starts from a
        tenth of its weights (more if ``learning_rate`` and the number of steps are too small to restore them), which
        keeps early steps from distorting the pretrained features [4]_. ``"random"`` draws the weights and trains the
        head from scratch.
    C : float or "auto", default="auto"
        Inverse of the strength of the probe's L2 penalty, as in ``LogisticRegression``; must be positive. The probe is
        the logistic regression on frozen features with which a linear head starts. ``"auto"`` chooses the strength by
        generalized cross-validation of a ridge regression on class indicators [6]_.
    max_epochs : int, default=10
        Maximum number of passes over the training set. With ``method=None`` (or without target samples),
        ``freeze_depth=1.0`` and a linear head, the head is solved rather than trained: this parameter and all training
        parameters below have no effect.
    batch_size : int, default=32
        Maximum number of samples per training step. All batches of an epoch have about the same number of samples.
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [5]_. None trains all
        unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm layers in unfrozen stages are treated. ``"frozen"`` keeps the pretrained
        statistics; ``"train"`` replaces them with those of the training samples and then updates them. Scale and shift
        are trained in both cases.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss. The probe is solved without it.
    augment : callable, default=None
        Random augmentation of training images: a transform of ``torchvision.transforms.v2`` that maps a uint8 tensor of
        shape (3, height, width) to another one, or a ``Compose`` of albumentations 2. It is applied before the
        backbone's own preprocessing, each time an image is used. The frozen stages then run in every epoch, and at
        ``freeze_depth=1.0`` the head is trained rather than solved. Wrap a single transform in ``Compose``, because its
        ``get_params`` method conflicts with scikit-learn's.
    early_stopping : bool, default=False
        If True, hold out ``validation_fraction`` of the samples, stop when their loss no longer decreases, and restore
        the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct samples that is held out, stratified by class. Identical samples are never split between
        the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
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
    long_samples : {"truncate", "keep_start", "keep_end", "keep_both_ends", "windows"} or None, default=None
        How the network reads texts of more than ``max_length`` tokens and audio longer than its input (30 s for
        Whisper). ``"keep_start"`` reads the beginning, ``"keep_end"`` the end, and ``"keep_both_ends"`` joins the
        beginning (a quarter of what is read) and the end; all of them warn. ``"truncate"`` is ``"keep_start"``, unless
        the tokenizer was saved to truncate on the left. ``"windows"`` reads the whole sample in windows that overlap by
        at least a quarter; see ``window_pooling``. None keeps the setting with which ``backbone`` was loaded, by
        default ``"truncate"``.
    window_pooling : {"mean", "max"}, default="mean"
        How the windows of a long sample give one prediction, with ``long_samples="windows"``. ``"mean"`` averages their
        embeddings in ``fit``, and their predicted probabilities unless all stages are frozen. ``"max"`` gives the head
        the maximum of each feature over the windows. It has no effect on samples that fit into one window.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How samples that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning; their probabilities are NaN, and ``predict``, which has no label for them, raises.
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
    input_kind_ : {"samples", "table", "pairs"}
        Kind of X that ``fit`` received: a collection of images, texts or audio, a table of numbers, or pairs of texts.
        Other methods require the same kind.
    classes_ : ndarray of shape (n_classes,)
        Sorted labels of the source samples.
    n_features_in_ : int
        Number of columns of X. Only defined if X has columns.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.
    domain_report_ : dict
        Comparison of the domains. ``n_source`` and ``n_target`` are numbers of samples. ``proxy_a_distance`` measures
        how well a linear classifier separates the domains in the fine-tuned features, from 0 (not at all) to 2 (without
        error). ``target_mix`` is the fraction of each class among the predictions for target samples.

        The other entries come from a logistic regression on the original backbone's features, fitted on the source
        only: ``source_mix``, the fraction of each class among its predictions for held-out source samples;
        ``label_shift``, the distance of its predictions for target samples from that mix, in [0, 1]; and
        ``expected_error``, its estimated error rate on target samples.
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
        similarity, and ``"equal_labels"``, the share of equal predictions. Only defined with ``dtype="int8"``.
    duplicates_ : list of list of int
        Groups of rows of X with identical content. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    n_truncated_ : int
        Number of training texts or audio clips that were truncated because they are longer than the network's input;
        ``fit`` also warns. Only defined for text and audio.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    Warns
    -----
    AdaptationWarning
        If ``fit`` receives no target sample, or if the predicted fractions of the classes suggest that they differ
        between the domains (label shift).

    See Also
    --------
    AdaptedBackbone : Adapt a network to unlabeled samples, without labels.
    FeatureAdaptedClassifier : Adapt precomputed embeddings.
    FineTunedClassifier : Fine-tune a network without a target domain.

    References
    ----------
    .. [1] Y. Jin et al. (2020), "Minimum class confusion for versatile domain adaptation", ECCV.
    .. [2] B. Sun, K. Saenko (2016), "Deep CORAL: correlation alignment for deep domain adaptation", ECCV workshops.
    .. [3] S. Schneider et al. (2020), "Improving robustness against common corruptions by covariate shift adaptation",
       NeurIPS.
    .. [4] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [5] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [6] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import DomainAdaptedClassifier
    >>> photos = np.random.default_rng(0).random((40, 16, 16)) * 0.5
    >>> photos[::2, :8] += 0.5
    >>> photos[20:] *= 0.95  # another camera
    >>> y = [0, 1] * 10 + [-1] * 20
    >>> model = DomainAdaptedClassifier("toy:images", max_epochs=2, random_state=0).fit(photos, y)
    >>> model.predict(photos[20:22]).tolist()
    [0, 1]
    """

    method: str | None = parameter(
        default="mcc", constraint=[StrOptions({"mcc", "deep_coral", "norm_statistics"}), None]
    )
    adaptation_weight: float = parameter(default=1.0, constraint=at_least_zero())
    prior: float = parameter(default=0.0, constraint=at_least_zero())
    window_pooling: str = parameter(default="mean", constraint=[StrOptions({"mean", "max"})])

    @checks_parameters()
    def fit(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> Self:
        """Fit on labeled source samples and unlabeled target samples.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples of both domains: images, texts or audio clips as the backbone reads them, or rows of a table.
        y : array-like of shape (n_samples,)
            Labels of source samples. Target samples are masked: by -1 among integers, NaN among other numbers, and None
            among objects such as strings. If there is only one other label, -1 is a label.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of source samples; those of target samples are not used. None gives each sample the
            weight 1.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each sample: non-negative for source samples, negative for target samples, whose y is then not
            used. It takes precedence over the mask in y, and is required if the labels are -1 and +1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y, ``sample_weight`` or ``sample_domain`` is invalid, or if the source has fewer than two
            classes.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        is_source = _domains.source_rows(y, sample_domain)
        labels = _domains.source_labels(y, is_source)
        if is_source.all():
            warnings.warn(_domains.NO_TARGET, AdaptationWarning, stacklevel=3)
        known = np.full(len(is_source), labels[0], dtype=labels.dtype)  # a label of target samples is never read
        known[is_source] = labels
        weights = np.ones(len(is_source)) if sample_weight is None else np.array(sample_weight, dtype=float)
        check_consistent_length(known, weights)
        callbacks = fit_callbacks(self, X, y, sample_weight, self.max_epochs)
        draft = self._copy_to_fit(None)
        target_rows = np.flatnonzero(~is_source)
        draft._learn(
            X, known, np.where(is_source, weights, 0.0), start=None, callbacks=callbacks, target_rows=target_rows
        )
        draft.domain_report_ = draft._report(X, known, is_source)
        self._take_over(draft)
        if callbacks is not None:
            callbacks.fit_ends()
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Compute the accuracy on labeled samples.

        If X holds samples of both domains, only the source samples are scored, because the labels of target samples are
        masked.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to classify: images, texts or audio clips as in ``fit``, or rows of a table.
        y : array-like of shape (n_samples,)
            True labels. Samples that are masked as in ``fit`` are not scored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights of the score. None gives each sample the same weight.
        sample_domain : array-like of int, shape (n_samples,), default=None
            Domain of each sample, as in ``fit``. If samples of both domains are passed, only source samples are scored.

        Returns
        -------
        float
            Accuracy, in [0, 1].

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read.
        """
        predicted = self.predict(X)
        counted = _domains.source_rows(y, sample_domain, self.classes_)
        counted |= not counted.any()
        weights = None if sample_weight is None else np.asarray(sample_weight)[counted]
        return accuracy_score(_domains.chosen_labels(y, counted), predicted[counted], sample_weight=weights)

    def _shift_to(self, target: Samples) -> DomainShift:
        return DomainShift(target, self.method, self.adaptation_weight, float(self.prior))

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        return ArrayTargets(self._label_positions(y, weights))

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Task, TrainingSet]:
        return task or ClassificationTask(self.classes_, self.label_smoothing), data

    @property
    def _penalty(self) -> float | str:
        return self.C

    def _report(self, X: Any, labels: np.ndarray, is_source: np.ndarray) -> dict[str, Any]:
        """Compare the domains in the fitted network, and in the network as it was before."""
        (outputs, bad), (features, _) = self._run(X), self._run(X, features=True)
        read = np.setdiff1d(np.arange(len(is_source)), list(bad))
        outputs, features, labels, is_source = outputs[read], features[read], labels[read], is_source[read]
        before = self._before(X)[read]
        known, guessed, error = _before_adapting(before, labels, is_source)
        mix = _domains.class_mix(known, self.classes_)
        report = {
            "n_source": int(is_source.sum()),
            "n_target": int((~is_source).sum()),
            "proxy_a_distance": _domains.proxy_a_distance(features, is_source),
            "source_mix": mix,
            "target_mix": np.full(len(self.classes_), np.nan),
            "label_shift": np.nan,
            "expected_error": error,
        }
        if is_source.all():
            return report
        report["target_mix"] = _domains.class_mix(self._task_.decode(outputs)[~is_source], self.classes_)
        report["label_shift"] = _domains.mix_distance(mix, _domains.class_mix(guessed, self.classes_))
        if _domains.is_label_shift(known, guessed, self.classes_, error):
            warnings.warn(LABEL_SHIFT.format(report["label_shift"]), AdaptationWarning, stacklevel=4)
        return report

    def _before(self, X: Any) -> np.ndarray:
        """Features of the backbone as it came, (n, d)."""
        backbone = reload_backbone(*self._origin_)
        return self._last_features(self._samples(X, backbone, reset=False), backbone)


def _before_adapting(X: np.ndarray, labels: np.ndarray, is_source: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Predictions of a linear model of the source alone, for source rows that it has not seen and for target rows, and
    the share of the latter that is thought to be wrong.

    An adapted network is no witness of other shares of classes: that they look alike is what it was trained for.
    """
    plain = LogisticRegression(C=0.01, max_iter=1000)
    pooled = Alignment.fitted("pooled", X[is_source], X[~is_source])
    source, target, labels = pooled.source(X[is_source]), pooled.target(X[~is_source]), labels[is_source]
    held_out = _domains.held_out_predictions(plain, source, labels)
    known, score = (labels, np.nan) if held_out is None else (held_out, accuracy_score(labels, held_out))
    if not len(target):
        return known, labels[:0], np.nan
    model = plain.fit(source, labels)
    return known, model.predict(target), _domains.expected_error(model, target, score)
