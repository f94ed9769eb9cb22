"""Pretrained networks as classifiers and regressors: one knob from a linear probe to full fine-tuning."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight

from skltransfer._estimators import target_checks
from skltransfer._estimators.classifier import ClassifierVerbs
from skltransfer._estimators.parameters import (
    HasAdapter,
    HasLogisticProbe,
    HasRidgeProbe,
    ReadsColumns,
    SmoothsLabels,
    TrainsFully,
    WarmStarts,
    declared,
    parameter,
)
from skltransfer._estimators.vector_fine_tuner import VectorFineTuner
from skltransfer.engine import (
    ArrayTargets,
    ClassificationTask,
    MultilabelTask,
    OrdinalTask,
    RegressionTask,
    Task,
    TrainingSet,
)
from skltransfer.inputs import Samples


@declared
class FineTunedClassifier(
    ClassifierVerbs,
    ClassifierMixin,
    WarmStarts,
    HasAdapter,
    SmoothsLabels,
    HasLogisticProbe,
    ReadsColumns,
    TrainsFully,
    VectorFineTuner,
):
    """Classify images, texts, audio or rows of numbers by fine-tuning a pretrained network.

    The backbone determines what X holds: images, texts, audio clips or rows of a table. Choose this class if you have
    more than a few labels per class and want to adapt the network to them. Its relatives serve other cases:
    :class:`FewShotClassifier` for fewer labels, :class:`PretrainedFeatureExtractor` with a scikit-learn classifier if
    you need frozen embeddings in a pipeline or next to other columns, :class:`MultiTaskFineTuner` for several targets
    per sample, :class:`DomainAdaptedClassifier` if the data to classify differ from the labeled data, and
    :class:`AdaptedBackbone` to adapt the network to unlabeled samples first.

    ``freeze_depth`` sets how much of the network is trained. At 1.0 the model is a logistic regression on the frozen
    network's features; below 1.0 the last stages (groups of layers) are trained as well. Early stages hold general
    features and later stages features of the pretraining task [2]_, so the best depth depends on both tasks. Frozen
    stages run in evaluation mode, once per sample, and their activations are cached.

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
    freeze_depth : float, int or str, default="auto"
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.

        ``"auto"`` chooses between 1.0 and 0.5 by cross-validation on the training set: up to three folds are held out,
        the network is trained for five epochs at 0.5, and 0.5 is chosen if it improves the log loss (after temperature
        scaling) by more than one standard error and by more than 0.001. The chosen depth is then fitted on all samples.
        After 500 held-out samples no further fold is compared, so the comparison costs at most ten epochs of training
        at 0.5. With fewer than 12 distinct samples, or fewer than three of a class, all stages stay frozen. With
        ``head="mlp"``, ``head_init="random"``, ``adapter``, ``augment``, ``norm_policy="train"`` or ``partial_fit``
        there is no comparison, and the depth is 0.5.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the output of the last stage (a feature map or a sequence of tokens) becomes one vector: the first token
        (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions one after the
        other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
    head : {"linear", "mlp"}, default="linear"
        Type of the head. ``"linear"`` is one linear layer; ``"mlp"`` adds one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Initial weights of a linear head. ``"probe"`` solves a logistic regression on frozen features and starts from a
        tenth of its weights (more if ``learning_rate`` and the number of steps are too small to restore them), which
        keeps early steps from distorting the pretrained features [1]_. At ``freeze_depth=1.0`` the probe itself is the
        fitted head. ``"random"`` draws the weights and trains the head from scratch.
    C : float or "auto", default="auto"
        Inverse of the strength of the probe's L2 penalty, as in ``LogisticRegression``; must be positive. The probe is
        the logistic regression on frozen features with which a linear head starts. ``"auto"`` chooses the strength by
        generalized cross-validation of a ridge regression on class indicators [5]_.
    max_epochs : int, default=10
        Maximum number of passes over the training set. At ``freeze_depth=1.0`` with a linear head and without
        ``augment``, the head is solved rather than trained: this parameter and all training parameters below have no
        effect.
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [3]_. None trains all
        unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm layers in unfrozen stages are treated. ``"frozen"`` keeps the pretrained
        statistics; ``"train"`` replaces them with those of the training samples and then updates them. Scale and shift
        are trained in both cases.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss. The probe is solved without it.
    class_order : {"sorted"}, sequence of labels or None, default=None
        Order of the classes, for ordered labels such as grades or stars. None treats classes as unordered. ``"sorted"``
        takes numbers in increasing order, or the order of an ordered pandas ``Categorical``; a sequence lists the
        labels from lowest to highest. With an order of three or more classes, the head and the probe are proportional
        odds models [6]_: one score per sample, and one threshold between neighboring classes. ``predict`` then returns
        the median class, which has the least expected absolute error. ``score`` remains the accuracy; use
        ``scoring="neg_mean_absolute_error"`` for labels that are numbers.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the training loss, as a dict from label to weight. ``"balanced"`` weights classes
        inversely to their frequency, which counteracts class imbalance. None weights all classes equally. A multilabel
        target requires None.
    calibrate : {"temperature"} or None, default=None
        ``"temperature"`` holds out ``validation_fraction`` of the samples and divides the outputs by the number that
        maximizes the likelihood of their labels (temperature scaling [4]_). Probabilities become better calibrated;
        predicted labels do not change.
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear and
        convolutional layers instead, about 1 % of the weights. It requires the extra ``lora``. None trains the weights
        themselves.
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
    warm_start : bool, default=False
        If True, ``fit`` continues from the previous fit. The backbone, ``freeze_depth``, ``head``, ``pooling``,
        ``adapter`` and the classes must be the same.
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
    window_pooling : {"mean", "max", "vote"}, default="mean"
        How the windows of a long sample give one prediction, with ``long_samples="windows"``. ``"mean"`` averages their
        embeddings if all stages are frozen; else ``fit`` averages the outputs of the head before the loss, and
        ``predict`` averages probabilities or numbers. ``"max"`` gives the head the maximum of each feature over the
        windows. ``"vote"`` trains the head on each window, with the target of its sample and an equal share of its
        weight, and averages the predicted probabilities or numbers (soft voting). ``transform`` returns the maximum
        with ``"max"``, else the mean. It has no effect on samples that fit into one window.
    sample_column : str or int, default=None
        Name or position of the column of X that holds the samples, if X is a data frame (or a 2-D array) whose other
        columns hold numbers. The head is then trained on the pooled features and these numbers (late fusion), both
        standardized and scaled to the same total variance. Encode categories and fill missing values before. None
        expects X to hold samples alone.
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
        Sorted class labels. For a multilabel target, the numbers of its columns.
    class_order_ : ndarray of shape (n_classes,)
        Class labels from lowest to highest. Only defined with ``class_order``.
    n_features_in_ : int
        Number of columns of X. Only defined if X has columns.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.
    freeze_depth_scores_ : dict of float to dict of str to float
        Cross-validated scores at freeze depths 1.0 and 0.5: ``"accuracy"`` (for a multilabel target, the fraction of
        correct labels) and ``"neg_log_loss"`` after temperature scaling. Only defined if ``freeze_depth="auto"``
        compared them.
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

    See Also
    --------
    FewShotClassifier : Classifier for 1 to 16 labeled samples per class.
    FineTunedRegressor : Fine-tune a network to predict numbers.
    MultiTaskFineTuner : Fine-tune a network for several targets at once.
    PretrainedFeatureExtractor : Frozen embeddings as a scikit-learn transformer.

    References
    ----------
    .. [1] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [2] J. Yosinski et al. (2014), "How transferable are features in deep neural networks?", NeurIPS.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [4] C. Guo et al. (2017), "On calibration of modern neural networks", ICML.
    .. [5] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.
    .. [6] P. McCullagh (1980), "Regression models for ordinal data", Journal of the Royal Statistical Society B 42.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skltransfer import FineTunedClassifier
    >>> digits = load_digits()
    >>> X, y = digits.images[:100] / 16, digits.target[:100]
    >>> classifier = FineTunedClassifier("toy:images", random_state=0, max_epochs=2)
    >>> search = GridSearchCV(classifier, {"freeze_depth": [1.0, 0.5]}, cv=2).fit(X, y)
    >>> search.best_estimator_.predict(X[:3])
    array([0, 1, 2])
    """

    _may_choose_depth = True
    freeze_depth: float | str = parameter(default="auto")
    class_order: str | Sequence[Any] | np.ndarray | None = parameter(
        default=None, constraint=[StrOptions({"sorted"}), list, tuple, np.ndarray, None]
    )
    class_weight: dict | str | None = parameter(default=None, constraint=[dict, StrOptions({"balanced"}), None])
    calibrate: str | None = parameter(default=None, constraint=[StrOptions({"temperature"}), None])

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over a batch of samples, starting from the current state.

        The learning rate is constant; the probe, ``early_stopping`` and ``unfreeze_schedule`` are not used. Use it for
        data that arrive in parts or do not fit into memory.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to train on.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or a multilabel target of 0 and 1.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur. It is required in the first call and may be left out afterwards.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. None gives each row the weight 1.

        Returns
        -------
        self : object
            The estimator after the pass.

        Raises
        ------
        ValueError
            If ``classes`` is missing in the first call or differs later, if y holds a label that is not among them, if
            ``class_weight="balanced"``, or if parameters such as ``freeze_depth`` or ``class_order`` changed since the
            first call.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        self._validate_params()
        start = getattr(self, "_network_", None)
        if start is None and classes is None:
            raise ValueError("classes must be passed in the first call of partial_fit: all labels that will ever come.")
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all of y at once; pass a dict to use partial_fit.")
        draft = self._copy_to_fit(start)
        if start is None:
            draft.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} is not what the first call of partial_fit was given: {self.classes_}."
            )
        return self._take_over(draft._learn(X, y, sample_weight, start=start, single_pass=True))

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        targets = self._encode_labels(y, weights)
        if targets.values.ndim == 1:
            self._set_order()
        elif self.class_weight is not None or self.class_order is not None:
            name = "class_weight" if self.class_order is None else "class_order"
            raise ValueError(
                f"{name}={getattr(self, name)!r} is for labels that exclude each other, but y has {y.shape[1]} columns "
                f"of 0 and 1. Set {name}=None, or pass one label per sample."
            )
        return targets

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        categories = target_checks.ordered_categories(y)
        if categories is not None:
            self._categories_ = categories
        return super()._checked_target(y, samples)

    def _checked_validation_target(self, y_val: Any, samples: Samples, y: np.ndarray) -> np.ndarray:
        categories = getattr(self, "_categories_", None)  # of y, which decide
        y_val = super()._checked_validation_target(y_val, samples, y)
        vars(self).pop("_categories_", None)
        if categories is not None:
            self._categories_ = categories
        return y_val

    def _set_order(self) -> None:
        """``class_order_``, which must be that of an earlier fit that goes on."""
        earlier = getattr(self, "class_order_", None)
        if self.class_order is not None:
            known = None if earlier is None or earlier.dtype.kind in "biuf" else earlier.tolist()
            categories = getattr(self, "_categories_", known)
            self.class_order_ = target_checks.ordered_classes(self.classes_, self.class_order, categories)
        goes_on = hasattr(self, "_task_") and np.array_equal(self._task_.classes, self.classes_)
        order = None if self.class_order is None else self.class_order_
        if goes_on and not np.array_equal(earlier, order):
            raise ValueError(
                f"warm_start and partial_fit go on with the same class_order: fitted with the order {earlier!r}, now "
                f"class_order={self.class_order!r}. Set warm_start=False, or fit a clone."
            )

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Task, TrainingSet]:
        labels = data.targets.values
        if labels.ndim == 2:
            return task or MultilabelTask(self.classes_, self.label_smoothing), data
        if self.class_weight == "balanced":
            mass = np.bincount(labels, weights=data.weights, minlength=len(self.classes_))
            factors = mass.sum() / (len(mass) * np.maximum(mass, 1e-300))
        else:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[labels])
        return task or self._new_task(), data.encoded(data.targets, factors[labels])

    def _new_task(self) -> ClassificationTask:
        if self.class_order is None or len(self.classes_) == 2:  # the order of two classes does not matter
            return ClassificationTask(self.classes_, self.label_smoothing)
        ranks = np.argsort(np.searchsorted(self.classes_, self.class_order_))
        return OrdinalTask(self.classes_, ranks, self.label_smoothing)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = self.class_order is None
        return tags

    @property
    def _penalty(self) -> float | str:
        return self.C


@declared
class FineTunedRegressor(
    RegressorMixin, WarmStarts, HasAdapter, HasRidgeProbe, ReadsColumns, TrainsFully, VectorFineTuner
):
    """Predict numbers from images, texts, audio or rows of numbers by fine-tuning a pretrained network.

    The backbone determines what X holds: images, texts, audio clips or rows of a table. Choose this class for one or
    several numeric targets. Its relatives serve other cases: :class:`PretrainedFeatureExtractor` with a scikit-learn
    regressor if you need frozen embeddings in a pipeline or next to other columns, :class:`MultiTaskFineTuner` for
    targets of different kinds or with missing values, and :class:`AdaptedBackbone` to adapt the network to unlabeled
    samples first.

    ``freeze_depth`` sets how much of the network is trained. At 1.0 the model is a ridge regression on the frozen
    network's features; below 1.0 the last stages (groups of layers) are trained as well. Early stages hold general
    features and later stages features of the pretraining task [2]_, so the best depth depends on both tasks. The target
    is standardized internally.

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
    freeze_depth : float, int or str, default="auto"
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.

        ``"auto"`` chooses between 1.0 and 0.5 by cross-validation on the training set: up to three folds are held out,
        the network is trained for five epochs at 0.5, and 0.5 is chosen if it improves R² by more than one standard
        error and by more than 0.001. The chosen depth is then fitted on all samples. After 500 held-out samples no
        further fold is compared, so the comparison costs at most ten epochs of training at 0.5. With fewer than 12
        distinct samples all stages stay frozen. With ``head="mlp"``, ``head_init="random"``, ``adapter``, ``augment``,
        ``norm_policy="train"`` or ``partial_fit`` there is no comparison, and the depth is 0.5.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the output of the last stage (a feature map or a sequence of tokens) becomes one vector: the first token
        (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions one after the
        other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
    head : {"linear", "mlp"}, default="linear"
        Type of the head. ``"linear"`` is one linear layer; ``"mlp"`` adds one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Initial weights of a linear head. ``"probe"`` solves a ridge regression on frozen features and starts from a
        tenth of its weights (more if ``learning_rate`` and the number of steps are too small to restore them), which
        keeps early steps from distorting the pretrained features [1]_. At ``freeze_depth=1.0`` the probe itself is the
        fitted head. ``"random"`` draws the weights and trains the head from scratch.
    alpha : float or "auto", default="auto"
        Strength of the probe's L2 penalty, as in ``Ridge``; must be positive. The probe is the ridge regression on
        frozen features with which a linear head starts. ``"auto"`` chooses the strength for each output by generalized
        cross-validation [4]_.
    max_epochs : int, default=10
        Maximum number of passes over the training set. At ``freeze_depth=1.0`` with a linear head and without
        ``augment``, the head is solved rather than trained: this parameter and all training parameters below have no
        effect.
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [3]_. None trains all
        unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm layers in unfrozen stages are treated. ``"frozen"`` keeps the pretrained
        statistics; ``"train"`` replaces them with those of the training samples and then updates them. Scale and shift
        are trained in both cases.
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear and
        convolutional layers instead, about 1 % of the weights. It requires the extra ``lora``. None trains the weights
        themselves.
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
        Fraction of distinct samples that is held out. Identical samples are never split between the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    warm_start : bool, default=False
        If True, ``fit`` continues from the previous fit. The backbone, ``freeze_depth``, ``head``, ``pooling`` and
        ``adapter`` must be the same.
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
    window_pooling : {"mean", "max", "vote"}, default="mean"
        How the windows of a long sample give one prediction, with ``long_samples="windows"``. ``"mean"`` averages their
        embeddings if all stages are frozen; else ``fit`` averages the outputs of the head before the loss, and
        ``predict`` averages probabilities or numbers. ``"max"`` gives the head the maximum of each feature over the
        windows. ``"vote"`` trains the head on each window, with the target of its sample and an equal share of its
        weight, and averages the predicted probabilities or numbers (soft voting). ``transform`` returns the maximum
        with ``"max"``, else the mean. It has no effect on samples that fit into one window.
    sample_column : str or int, default=None
        Name or position of the column of X that holds the samples, if X is a data frame (or a 2-D array) whose other
        columns hold numbers. The head is then trained on the pooled features and these numbers (late fusion), both
        standardized and scaled to the same total variance. Encode categories and fill missing values before. None
        expects X to hold samples alone.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How samples that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning; their predictions are NaN.
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
    n_features_in_ : int
        Number of columns of X. Only defined if X has columns.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.
    freeze_depth_scores_ : dict of float to dict of str to float
        Cross-validated scores (``"r2"``) at freeze depths 1.0 and 0.5. Only defined if ``freeze_depth="auto"`` compared
        them.
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
        Groups of rows of X with identical content. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    n_truncated_ : int
        Number of training texts or audio clips that were truncated because they are longer than the network's input;
        ``fit`` also warns. Only defined for text and audio.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : Fine-tune a network to predict class labels.
    MultiTaskFineTuner : Fine-tune a network for several targets at once.
    PretrainedFeatureExtractor : Frozen embeddings as a scikit-learn transformer.

    References
    ----------
    .. [1] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [2] J. Yosinski et al. (2014), "How transferable are features in deep neural networks?", NeurIPS.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [4] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FineTunedRegressor
    >>> X = np.random.default_rng(0).random((60, 16, 16))  # gray images, values in [0, 1]
    >>> y = X[:, :8].mean((1, 2))
    >>> regressor = FineTunedRegressor("toy:images", freeze_depth=0.5, random_state=0).fit(X, y)
    >>> regressor.predict(X[:2]).shape
    (2,)
    >>> regressor.freeze_boundary_
    'block1'
    """

    _may_choose_depth = True
    freeze_depth: float | str = parameter(default="auto")

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over a batch of samples, starting from the current state.

        The learning rate is constant; the probe, ``early_stopping`` and ``unfreeze_schedule`` are not used. Use it for
        data that arrive in parts or do not fit into memory.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to train on.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target values. The mean and standard deviation of the first call's targets standardize all later ones, so
            the first batch should be representative.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. None gives each row the weight 1.

        Returns
        -------
        self : object
            The estimator after the pass.

        Raises
        ------
        ValueError
            If X, y or ``sample_weight`` is invalid, or if parameters such as ``freeze_depth`` changed since the first
            call.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        self._validate_params()
        start = getattr(self, "_network_", None)
        return self._take_over(self._copy_to_fit(start)._learn(X, y, sample_weight, start=start, single_pass=True))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the target of each sample.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to predict: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of float64, shape (n_samples,) or (n_samples, n_outputs)
            Predicted values. With ``on_bad_sample="nan"``, a sample that cannot be read is NaN.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        outputs = self._run(X)[0]
        return self._task_.decode(outputs)

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        return ArrayTargets(y.astype(np.float64))

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Task, TrainingSet]:
        y = data.targets.values
        task = task or getattr(self, "_task_", None) or RegressionTask.fitted(y, data.weights)
        return task, data.encoded(ArrayTargets(task.encode(y)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @property
    def _penalty(self) -> float | str:
        return self.alpha
