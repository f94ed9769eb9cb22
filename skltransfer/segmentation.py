"""Masks: a label for each pixel of an image (semantic segmentation)."""

import numbers
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from skltransfer._estimators.map_fine_tuner import MapFineTuner, size_of
from skltransfer._estimators.parameters import (
    HasAdapter,
    HasLogisticProbe,
    Resumes,
    SmoothsLabels,
    StopsEarly,
    TrainsHead,
    TrainsOnImages,
    declared,
    parameter,
)
from skltransfer._estimators.structured_fine_tuner import class_factors, object_array
from skltransfer._estimators.target_checks import rows_of
from skltransfer.engine import OWN_HEAD, VECTOR_HEADS, RecordTargets, SegmentationTask, TrainingSet
from skltransfer.inputs import Samples, read_mask

MOST_LABELS, IGNORED = 1000, -1


@declared
class FineTunedSegmenter(
    HasAdapter,
    SmoothsLabels,
    HasLogisticProbe,
    Resumes,
    StopsEarly,
    TrainsOnImages,
    TrainsHead,
    MapFineTuner,
):
    """Segment images by fine-tuning a pretrained network: a label for each pixel.

    Use it for semantic segmentation, for example of cells, organs, roads or defects. X holds images, and y a mask of
    whole numbers for each of them. For one label per image, see :class:`FineTunedClassifier`.

    The head reads the maps of several stages, the early ones for borders and the late ones for meaning, as feature
    pyramids do [4]_. ``freeze_depth`` sets how much of the network is trained. At 1.0 the model is a logistic
    regression on the frozen maps; below 1.0 the last stages (groups of layers) are trained as well. All images count
    alike, however large they are.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        Pretrained network that reads images: a name of the form ``"source:model"``, or a :class:`Backbone` that
        :func:`load_backbone` returned. The default is installed with the package; :func:`list_backbones` lists other
        names.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file; see
        :func:`load_backbone`.
    input_size : int, default=None
        Side of the square input of the network, in pixels. None uses that of the backbone. A larger one gives finer
        masks and takes longer.
    resize : {"letterbox", "squash"} or None, default=None
        How an image becomes the square input as a whole. ``"letterbox"`` resizes its longer side, and fills the rest
        with the mean color. ``"squash"`` resizes both sides and changes the aspect ratio; answers are at the image's
        own size in both cases. None keeps the setting with which ``backbone`` was loaded, by default ``"letterbox"``.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.
    layer : str, float in [0, 1] or list of these, default="auto"
        Stages whose maps the head reads: names of stages (see :func:`describe_backbone`) or fractions of the stages,
        counted from the input. ``"auto"`` takes the last stage of each of the four smallest sizes of maps, or four
        stages at equal distances if all maps have one size, as in a ViT; an own head has its own stages. Later stages
        are not used.
    head : {"auto", "own", "linear", "mlp"}, default="auto"
        Type of the head. ``"linear"`` is a linear layer on the concatenated maps, resized to the largest of them;
        ``"mlp"`` adds 64 hidden channels and a convolution of 3 x 3 cells. ``"own"`` takes the pretrained head of a
        ``backbone`` that is part of a segmentation network of torchvision (DeepLab [5]_, FCN or LR-ASPP, such as
        ``"torchvision:deeplabv3_resnet50"``), with a new layer for the labels and without its auxiliary head.
        ``"auto"`` is ``"own"`` for these, and ``"linear"`` for others.
    head_init : {"probe", "random"}, default="probe"
        Initial weights of a linear head. ``"probe"`` solves a logistic regression on about 20,000 pixels of the frozen
        maps (5,000 if stages are trained) and starts from a tenth of its weights (more if ``learning_rate`` and the
        number of steps are too small to restore them), which keeps early steps from distorting the pretrained features
        [1]_. With all stages frozen, the probe itself is the fitted head. ``"random"`` draws the weights and trains the
        head from scratch.
    C : float or "auto", default="auto"
        Inverse of the strength of the probe's L2 penalty, as in ``LogisticRegression``; must be positive. The probe is
        the logistic regression on frozen features with which a linear head starts. ``"auto"`` chooses the strength by
        generalized cross-validation of a ridge regression on class indicators [3]_.
    class_weight : dict or "balanced", default=None
        Weights of the labels in the loss: ``{label: weight}``, or ``"balanced"`` for weights that are inversely
        proportional to their mean shares of an image. None gives all labels the weight 1.
    ignore_label : int, default=None
        Label of pixels without a known class, such as 255 in Pascal VOC: they do not count in the loss and the score.
        None counts all pixels.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss. The probe is solved without it.
    max_epochs : int, default=20
        Maximum number of passes over the training set. If no stage before ``layer`` is trained and the head is linear,
        the head is solved rather than trained: this parameter and all training parameters below have no effect.
    batch_size : int, default=8
        Maximum number of images per training step. All batches of an epoch have about the same number of images.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW).
    backbone_lr_factor : float, default=0.3
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [2]_. None trains all
        unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm layers in unfrozen stages are treated. ``"frozen"`` keeps the pretrained
        statistics; ``"train"`` replaces them with those of the training samples and then updates them. Scale and shift
        are trained in both cases.
    augment : callable, default=None
        Random augmentation of training images: a transform of ``torchvision.transforms.v2`` that is called with an
        image, a uint8 tensor of shape (3, height, width), and a dict of its ``"mask"``, and changes both, or a
        ``Compose`` of albumentations 2. It is applied before the backbone's own preprocessing, each time an image is
        used. The frozen stages then run in every epoch, and at ``freeze_depth=1.0`` the head is trained rather than
        solved. Pixels that a transform fills in do not count. Wrap a single transform in ``Compose``, because its
        ``get_params`` method conflicts with scikit-learn's.
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear and
        convolutional layers instead, about 1 % of the weights. It requires the extra ``lora``. None trains the weights
        themselves.
    early_stopping : bool, default=False
        If True, hold out ``validation_fraction`` of the samples, stop when their loss no longer decreases, and restore
        the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct images that is held out. Identical images are never split between the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How images that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning; ``predict_proba`` returns None for them, and ``predict``, which has no mask for them, raises.
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
        Sorted labels of the masks, without ``ignore_label``.
    layers_ : list of str
        Names of the stages whose maps the head reads.
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
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : Fine-tune a network to predict one label per image.
    mean_iou_score : Mean intersection over union, which :meth:`score` returns.

    References
    ----------
    .. [1] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [2] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [3] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.
    .. [4] T.-Y. Lin et al. (2017), "Feature pyramid networks for object detection", CVPR.
    .. [5] L.-C. Chen et al. (2017), "Rethinking atrous convolution for semantic image segmentation", arXiv:1706.05587.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FineTunedSegmenter
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.integers(0, 60, (8, 32, 32, 3), dtype=np.uint8), np.zeros((8, 32, 32), dtype=int)
    >>> X[:, 8:24, 8:24], y[:, 8:24, 8:24] = 250, 1
    >>> segmenter = FineTunedSegmenter("toy:images", freeze_depth=1.0, random_state=0).fit(X, y)
    >>> segmenter.predict(X)[0][16, 14:18]
    array([1, 1, 1, 1])
    """

    _finds, _with_own, _new_heads = "masks", "torchvision:deeplabv3_resnet50", VECTOR_HEADS
    head: str = parameter(default="auto", constraint=[StrOptions({"auto", OWN_HEAD, *VECTOR_HEADS})])
    class_weight: dict | str | None = parameter(default=None, constraint=[dict, StrOptions({"balanced"}), None])
    ignore_label: int | None = parameter(default=None, constraint=[numbers.Integral, None])
    max_epochs: int = parameter(default=20)
    batch_size: int = parameter(default=8)
    augment: Callable | None = parameter(default=None)
    backbone_lr_factor: float = parameter(default=0.3)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the head, and the unfrozen stages of the network.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images: file paths, bytes, PIL images or arrays, of any sizes.
        y : sequence of masks, or array-like of shape (n_samples, height, width)
            A mask for each image: an array of whole numbers of shape (height, width), a PIL image, or the path of an
            image file of one channel or with a palette. It has the size of its image.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the images. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the images, such as patients. Early stopping holds out whole groups, so that a group is never on
            both sides. None holds out single images.
        X_val, y_val : sequence, default=None
            Images to validate on with ``early_stopping=True``, instead of a part of X that is held out, and their
            targets.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if an image and
            its mask differ in size, if y has a single label, or if the device is not available. The message names the
            row.
        BadSampleError
            If an image cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or gives no maps.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each pixel.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images to segment.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            The mask of each image: an array of labels, (height, width), of the image's own size.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If an image cannot be read, also with ``on_bad_sample="nan"``, because no mask stands for a missing one.
            Use :meth:`predict_proba` to get None instead.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        answers, bad = self._answers(X)
        if bad:
            raise bad[min(bad)]
        return object_array([self._task_.labels(one) for one in answers])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each label for each pixel.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images to segment.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            For each image, an ndarray of float32 of shape (height, width, n_classes) in the order of ``classes_``,
            whose last axis sums to 1. With ``on_bad_sample="nan"``, None for an image that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If an image cannot be read and ``on_bad_sample="raise"``; the message names its row.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        answers, _ = self._answers(X)
        return object_array([None if one is None else self._task_.probabilities(one) for one in answers])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the mean intersection over union of the labels.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images.
        y : sequence of masks, or array-like of shape (n_samples, height, width)
            True masks.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images. None gives each image the weight 1.

        Returns
        -------
        float
            Score in [0, 1]; higher is better. See :func:`mean_iou_score`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If an image cannot be read.
        ValueError
            If X and y differ in length, or an image and its mask do in size.
        """
        return mean_iou_score(y, self.predict(X), ignore_label=self.ignore_label, sample_weight=sample_weight)

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        rows = super()._checked_target(y, samples)
        for row in range(len(rows)):
            rows[row] = read_mask(rows[row], row)
            size, shape = size_of(samples, row), rows[row].shape
            if size is not None and size != shape[::-1]:
                raise ValueError(
                    f"X[{row}] is {size[0]} pixels wide and {size[1]} high, but the mask y[{row}] is {shape[1]} wide "
                    f"and {shape[0]} high. Pass a mask of the image's own size."
                )
        return rows

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        found = [np.unique(mask) for mask, weight in zip(y, weights, strict=True) if weight > 0]
        ignored = [] if self.ignore_label is None else [self.ignore_label]
        self.classes_ = np.setdiff1d(np.concatenate([one.astype(np.int64) for one in found]), ignored)
        if not 2 <= len(self.classes_) <= MOST_LABELS:
            raise ValueError(
                f"FineTunedSegmenter needs at least 2 different labels in y (of positive weight), and at most "
                f"{MOST_LABELS:,}; got {len(self.classes_):,}: {self.classes_[:5].tolist()}."
            )
        return RecordTargets([{"labels": _positions(mask, self.classes_)} for mask in y])

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[SegmentationTask, TrainingSet]:
        return task or SegmentationTask(self.classes_, self._factors(data), self.label_smoothing), data

    def _factors(self, data: TrainingSet) -> np.ndarray:
        """Weight of a pixel in the loss, by its label."""
        k, mass = len(self.classes_), np.zeros(len(self.classes_))
        for record, weight in zip(data.targets.records, data.weights, strict=True):
            labels = record["labels"][record["labels"] != IGNORED]
            mass += weight * np.bincount(labels, minlength=k) / max(1, labels.size)
        return class_factors(self.class_weight, self.classes_, mass)


def mean_iou_score(y_true: Any, y_pred: Any, *, ignore_label: int | None = None, sample_weight: Any = None) -> float:
    """Mean intersection over union (Jaccard index) of the labels of masks.

    For each label, the number of pixels that have it in both masks is divided by the number of those that have it in
    either, summed over all images; the score is the mean over all labels that occur in a true or a predicted mask.

    Parameters
    ----------
    y_true, y_pred : sequence of masks, or array-like of shape (n_samples, height, width)
        True and predicted masks: arrays of whole numbers, PIL images or paths.
    ignore_label : int, default=None
        True label of pixels that do not count. None counts all pixels.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the images. None gives each image the weight 1.

    Returns
    -------
    float
        Score in [0, 1].

    Raises
    ------
    ValueError
        If numbers of masks or their sizes differ, a mask holds no whole numbers, a weight is negative, or no pixel
        counts.

    Examples
    --------
    >>> from skltransfer import mean_iou_score
    >>> round(mean_iou_score([[[0, 0], [1, 1]]], [[[0, 1], [1, 1]]]), 3)
    0.583
    """
    truth, found = rows_of(y_true, "y_true"), rows_of(y_pred, "y_pred")
    check_consistent_length(truth, found, sample_weight)
    weights = _check_sample_weight(sample_weight, truth, dtype=np.float64, ensure_non_negative=True)
    overlap: dict[int, float] = {}
    union: dict[int, float] = {}
    for row, weight in enumerate(weights):
        true, predicted = read_mask(truth[row], row, "y_true"), read_mask(found[row], row, "y_pred")
        if true.shape != predicted.shape:
            raise ValueError(f"y_true[{row}] has shape {true.shape}, and y_pred[{row}] has {predicted.shape}.")
        counts = np.ones(true.shape, dtype=bool) if ignore_label is None else true != ignore_label
        true, predicted = true[counts], predicted[counts]
        for label in np.union1d(true, predicted).tolist():
            is_true, is_predicted = true == label, predicted == label
            overlap[label] = overlap.get(label, 0.0) + weight * np.count_nonzero(is_true & is_predicted)
            union[label] = union.get(label, 0.0) + weight * np.count_nonzero(is_true | is_predicted)
    shares = [overlap[label] / union[label] for label in union if union[label] > 0]
    if not shares:
        raise ValueError("No pixel of y_true counts: all have ignore_label, or sample_weight is zero.")
    return float(np.mean(shares))


def _positions(mask: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Positions of a mask's labels in ``classes``, as whole numbers of 16 bits; -1 for others."""
    found = np.minimum(np.searchsorted(classes, mask), len(classes) - 1)
    return np.where(classes[found] == mask, found, IGNORED).astype(np.int16)
