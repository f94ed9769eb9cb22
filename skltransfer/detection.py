"""Boxes: objects in images, each with a box and a label (object detection)."""

import numbers
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_consistent_length

from skltransfer._estimators.map_fine_tuner import MapFineTuner, size_of
from skltransfer._estimators.parameters import (
    HasAdapter,
    Resumes,
    StopsEarly,
    TrainsJointly,
    TrainsOnImages,
    declared,
    parameter,
    share,
)
from skltransfer._estimators.target_checks import refuse_mixed_labels, rows_of
from skltransfer.engine import NEW_HEADS, OWN_HEAD, DetectionTask, RecordTargets, TrainingSet
from skltransfer.exceptions import MissingDependencyError
from skltransfer.inputs import Samples, read_boxes

MOST_LABELS = 10_000
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@declared
class FineTunedDetector(HasAdapter, Resumes, StopsEarly, TrainsOnImages, TrainsJointly, MapFineTuner):
    """Detect objects in images by fine-tuning a pretrained network: a box and a label for each object.

    Use it to find and count things, for example products, cells, animals or defects. X holds images, and y for each of
    them a dict of boxes and labels. For one label per image, see :class:`FineTunedClassifier`; for a label per pixel,
    see :class:`FineTunedSegmenter`.

    The head of a one-stage detector, FCOS [1]_ or RetinaNet [2]_, reads a feature pyramid [3]_ of the maps of several
    stages (groups of layers): torchvision's own parts on any image network of this package. ``freeze_depth`` sets how
    much of the network is trained. At 1.0 only the pyramid and the head are trained, on activations that are computed
    once; below 1.0 the last stages are trained as well.

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
    input_size : int or None, default=320
        Side of the square input of the network, in pixels. A larger one finds smaller objects and takes
        longer. None uses that of the backbone.
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
        Stages whose maps the pyramid reads: names of stages (see :func:`describe_backbone`) or fractions of the stages,
        counted from the input. ``"auto"`` takes the last stage of each of the three smallest sizes of maps, or four
        stages at equal distances if all maps have one size, as in a ViT; an own head has its own stages. Later stages
        are not used.
    head : {"auto", "own", "fcos", "retinanet"}, default="auto"
        Pyramid and head of the detector. ``"fcos"`` predicts a box at each place of the maps; ``"retinanet"`` corrects
        nine boxes of fixed shapes at each place; both begin with random weights. ``"own"`` takes the pretrained ones of
        a ``backbone`` that is part of a detector of torchvision, with a new layer for the labels: FCOS, RetinaNet,
        Faster R-CNN [5]_ and the boxes of Mask R-CNN and Keypoint R-CNN, such as
        ``"torchvision:fasterrcnn_resnet50_fpn_v2"``. ``"auto"`` is ``"own"`` for these, and ``"fcos"`` for others.
    head_width : int, default=64
        Number of channels of a new pyramid and head, a multiple of 32 up to 1024. torchvision's detectors have 256,
        with about 16 times the arithmetic.
    max_epochs : int, default=30
        Maximum number of passes over the training set. A new head learns from random weights, so that few images need
        more passes.
    batch_size : int, default=4
        Maximum number of images per training step. All batches of an epoch have about the same number of images.
    learning_rate : float, default=2e-3
        Learning rate of the pyramid and the head (AdamW).
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
    max_grad_norm : float or None, default=1.0
        Maximum global gradient norm; larger gradients are clipped. None disables clipping.
    unfreeze_schedule : {"gradual"} or None, default=None
        When the unfrozen stages start to train. ``"gradual"`` trains the last stage first and then adds one earlier
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [4]_. None trains all
        unfrozen stages from the start.
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear and
        convolutional layers instead, about 1 % of the weights. It requires the extra ``lora``. None trains the weights
        themselves.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm layers in unfrozen stages are treated. ``"frozen"`` keeps the pretrained
        statistics; ``"train"`` replaces them with those of the training samples and then updates them. Scale and shift
        are trained in both cases.
    augment : callable, default=None
        Random augmentation of training images: a transform of ``torchvision.transforms.v2`` that is called with an
        image, a uint8 tensor of shape (3, height, width), and its dict of boxes and labels, and changes both, or a
        ``Compose`` of albumentations 2 with ``bbox_params=BboxParams("pascal_voc", label_fields=["labels"])``. It is
        applied before the backbone's own preprocessing, each time an image is used. The frozen stages then run in every
        epoch. Boxes that leave the image are dropped. Wrap a single transform in ``Compose``, because its
        ``get_params`` method conflicts with scikit-learn's.
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
    score_threshold : float in [0, 1], default=0.05
        Lowest score of a detection. The default keeps many doubtful boxes, as average precision needs them; raise it
        to about 0.3 to count objects. It takes effect in ``predict``, also after ``set_params``.
    nms_threshold : float in [0, 1], default=0.6
        Overlap (intersection over union) above which, of two detections of one label, the one with the lower score is
        dropped. It takes effect in ``predict``.
    max_detections : int, default=100
        Maximum number of detections per image. It takes effect in ``predict``.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How images that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning, and ``predict`` returns None for them.
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
        Sorted labels of the boxes.
    layers_ : list of str
        Names of the stages whose maps the pyramid reads.
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
        Groups of rows of X with identical content. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : Fine-tune a network to predict one label per image.
    FineTunedSegmenter : Fine-tune a network to predict a label for each pixel.
    mean_average_precision_score : Mean average precision, which :meth:`score` returns.

    References
    ----------
    .. [1] Z. Tian et al. (2019), "FCOS: fully convolutional one-stage object detection", ICCV.
    .. [2] T.-Y. Lin et al. (2017), "Focal loss for dense object detection", ICCV.
    .. [3] T.-Y. Lin et al. (2017), "Feature pyramid networks for object detection", CVPR.
    .. [4] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [5] S. Ren et al. (2015), "Faster R-CNN: towards real-time object detection with region proposal networks",
       NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FineTunedDetector
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.integers(0, 60, (16, 32, 32, 3), dtype=np.uint8), []
    >>> for image in X:
    ...     left, top = rng.integers(0, 16, 2)
    ...     image[top : top + 16, left : left + 16] = 250
    ...     y.append({"boxes": [[left, top, left + 16, top + 16]], "labels": ["square"]})
    >>> detector = FineTunedDetector("toy:images", input_size=None, freeze_depth=1.0, random_state=0).fit(X, y)
    >>> found = detector.predict(X[:1])[0]
    >>> str(found["labels"][0])
    'square'
    """

    _most_maps = 3
    _finds, _with_own, _new_heads = "boxes", "torchvision:fcos_resnet50_fpn", NEW_HEADS
    input_size: int | None = parameter(default=320)
    head: str = parameter(default="auto", constraint=[StrOptions({"auto", OWN_HEAD, *NEW_HEADS})])
    head_width: int = parameter(default=64, constraint=[Interval(numbers.Integral, 32, 1024, closed="both")])
    max_epochs: int = parameter(default=30)
    batch_size: int = parameter(default=4)
    learning_rate: float = parameter(default=2e-3)
    backbone_lr_factor: float = parameter(default=0.3)
    max_grad_norm: float | None = parameter(default=1.0)
    augment: Callable | None = parameter(default=None)
    score_threshold: float = parameter(default=0.05, constraint=share("both"))
    nms_threshold: float = parameter(default=0.6, constraint=share("both"))
    max_detections: int = parameter(default=100, constraint=[Interval(numbers.Integral, 1, None, closed="left")])

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the pyramid and the head, and the unfrozen stages of the network.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images: file paths, bytes, PIL images or arrays, of any sizes.
        y : sequence of dict
            Objects: a dict for each image, of ``"boxes"``, array-like of shape (m, 4) with a row (x1, y1, x2, y2) for
            each object, in pixels from the upper left corner, and ``"labels"``, m strings or whole numbers. An image
            without objects has none: ``{"boxes": [], "labels": []}``. Other keys are not read.
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
            If a parameter is invalid, if X, y or ``sample_weight`` is invalid or they differ in length, if a box is
            empty or outside its image, if y has no box, or if the device is not available. The message names the row.
        BadSampleError
            If an image cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded, see :func:`load_backbone`, or gives no maps.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        return super().fit(X, y, sample_weight, groups=groups, X_val=X_val, y_val=y_val)

    def predict(self, X: Any) -> np.ndarray:
        """Detect objects.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images in which to look.

        Returns
        -------
        ndarray of object, shape (n_samples,)
            For each image, a dict of ``"boxes"``, an ndarray of float32 of shape (m, 4) in pixels of the image,
            ``"labels"``, an ndarray of m labels, and ``"scores"``, an ndarray of float32 of shape (m,) in [0, 1]; the
            highest scores come first. With ``on_bad_sample="nan"``, None for an image that cannot be read.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If an image cannot be read and ``on_bad_sample="raise"``; the message names its row.
        WeightsError
            If the weights of the backbone changed since ``fit``.
        """
        return self._answers(X)[0]

    def score(self, X: Any, y: Any) -> float:
        """Compute the mean average precision of the detections.

        Parameters
        ----------
        X : sequence of images, or array-like of shape (n_samples, height, width, channels)
            Images.
        y : sequence of dict
            True boxes and labels, as in ``fit``.

        Returns
        -------
        float
            Score in [0, 1]; higher is better. See :func:`mean_average_precision_score`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If an image cannot be read.
        MissingDependencyError
            If faster-coco-eval is not installed (extra ``detection``).
        ValueError
            If X and y differ in length, or y has no box.
        """
        answers, bad = self._answers(X)
        if bad:
            raise bad[min(bad)]
        return mean_average_precision_score(y, answers)

    @property
    def _task_to_answer(self) -> DetectionTask:
        names = ("score_threshold", "nms_threshold", "max_detections")
        constraints = {name: self._parameter_constraints[name] for name in names}
        values = {name: getattr(self, name) for name in names}
        validate_parameter_constraints(constraints, values, caller_name=type(self).__name__)
        thresholds = (float(self.score_threshold), float(self.nms_threshold), int(self.max_detections))
        return DetectionTask(self.classes_, self._task_.width, *thresholds)

    @property
    def _penalty(self) -> None:
        return None

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        if int(self.head_width) % 32:
            raise ValueError(f"head_width must be a multiple of 32, got {self.head_width!r}.")
        rows = super()._checked_target(y, samples)
        for row in range(len(rows)):
            rows[row] = read_boxes(rows[row], row, size=size_of(samples, row))
        refuse_mixed_labels([one["labels"] for one in rows])
        largest = max((one["boxes"].max() for one in rows if len(one["boxes"])), default=np.inf)
        if largest <= 1:
            raise ValueError(
                f"All boxes of y lie between 0 and {largest:g}, as fractions of an image do, but boxes are in pixels. "
                "Multiply x by the width of the image and y by its height."
            )
        return rows

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> RecordTargets:
        labels = [label for one, weight in zip(y, weights, strict=True) if weight > 0 for label in one["labels"]]
        if not labels:
            raise ValueError("y has no box (in images of positive weight). Add images with objects.")
        self.classes_ = np.unique(labels)
        if len(self.classes_) > MOST_LABELS:
            raise ValueError(f"y has {len(self.classes_):,} different labels; at most {MOST_LABELS:,} are possible.")
        return RecordTargets([_record(one, self.classes_) for one in y])

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[DetectionTask, TrainingSet]:
        return task or DetectionTask(self.classes_, int(self.head_width)), data


def _record(one: dict[str, Any], classes: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes and positions of their labels, in an order that only their content decides."""
    labels = np.searchsorted(classes, np.array(one["labels"], dtype=classes.dtype))
    labels = np.minimum(labels, len(classes) - 1)  # those of rows of weight zero may be unknown
    order = np.lexsort((labels, *one["boxes"].T))
    return {"boxes": one["boxes"][order].astype(np.float32), "labels": labels[order].astype(np.int64)}


def mean_average_precision_score(y_true: Any, y_pred: Any, *, iou_threshold: float | None = None) -> float:
    """Mean average precision of detected boxes, as in the evaluation of COCO [1]_.

    A detection is right if it overlaps a true box of its label that no better-scored detection has taken. Average
    precision, the area under the curve of precision over recall, is averaged over the labels of the true boxes. At most
    100 detections per image and label count, those with the highest scores. It is computed by faster-coco-eval (extra
    ``detection``).

    Parameters
    ----------
    y_true : sequence of dict
        True objects: a dict for each image, of ``"boxes"``, array-like of shape (m, 4) with corners (x1, y1, x2, y2),
        and ``"labels"``, m strings or whole numbers.
    y_pred : sequence of dict
        The same with ``"scores"``, as :meth:`FineTunedDetector.predict` returns them.
    iou_threshold : float in (0, 1], default=None
        Least overlap (intersection over union) of a right detection: 0.5 gives the measure of Pascal VOC, often called
        mAP50. None averages over 0.5, 0.55, ..., 0.95, as COCO does.

    Returns
    -------
    float
        Score in [0, 1].

    Raises
    ------
    ValueError
        If numbers of images differ, boxes or scores are invalid, or y_true has no box; the message names the row.
    MissingDependencyError
        If faster-coco-eval is not installed.

    References
    ----------
    .. [1] T.-Y. Lin et al. (2014), "Microsoft COCO: common objects in context", ECCV.

    Examples
    --------
    >>> from skltransfer import mean_average_precision_score
    >>> y_true = [{"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]], "labels": ["cat", "cat"]}]
    >>> y_pred = [{"boxes": [[0, 0, 10, 9]], "labels": ["cat"], "scores": [0.8]}]
    >>> round(mean_average_precision_score(y_true, y_pred, iou_threshold=0.5), 3)
    0.505
    """
    truth, found = rows_of(y_true, "y_true"), rows_of(y_pred, "y_pred")
    check_consistent_length(truth, found)
    if iou_threshold is not None and not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1] or None, got {iou_threshold!r}.")
    truth = [read_boxes(one, row, name="y_true") for row, one in enumerate(truth)]
    found = [read_boxes(one, row, name="y_pred", scored=True) for row, one in enumerate(found)]
    labels = {label: number for number, label in enumerate({label for one in truth for label in one["labels"]}, 1)}
    if not labels:
        raise ValueError("y_true has no box, so average precision is not defined. Score images with objects.")
    kinds = [{isinstance(label, str) for one in rows for label in one["labels"]} for rows in (truth, found)]
    if len(set().union(*kinds)) > 1:
        raise ValueError("Labels are strings in one place and numbers in another. Convert them with str(...) in both.")
    precision = _precision(_annotations(truth, labels), _annotations(found, labels), labels, len(truth), iou_threshold)
    return float(precision[precision > -1].mean())


def _annotations(rows: list[dict[str, Any]], labels: dict[Any, int]) -> list[dict[str, Any]]:
    """Boxes in the form of COCO; those of labels that no true box has are left out, as COCO does."""
    made = []
    for image, one in enumerate(rows, 1):
        scores = one.get("scores", np.ones(len(one["boxes"])))
        for (x1, y1, x2, y2), label, score in zip(one["boxes"].tolist(), one["labels"], scores.tolist(), strict=True):
            if label in labels:
                size = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                names = {"id": len(made) + 1, "image_id": image, "category_id": labels[label]}
                made.append(size | names | {"score": score, "iscrowd": 0})
    return made


def _precision(
    truth: list[dict], found: list[dict], labels: dict[Any, int], n_images: int, iou_threshold: float | None
) -> np.ndarray:
    """Precision at each overlap, recall and label; -1 where it is not defined."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingDependencyError(
            "Average precision needs faster-coco-eval: pip install 'skltransfer[detection]'."
        ) from error
    true = COCO()
    categories = [{"id": number, "name": str(number)} for number in labels.values()]
    true.dataset = {"images": [{"id": i + 1} for i in range(n_images)], "annotations": truth, "categories": categories}
    true.createIndex()
    evaluation = COCOeval_faster(true, true.loadRes(found) if found else COCO(), "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
    if iou_threshold is not None:
        evaluation.params.iouThrs = np.array([iou_threshold])
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]  # of the most detections
