"""Pretrained networks as classifiers and regressors: one knob from a linear probe to full fine-tuning."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from skltransfer._estimators.classifier import ClassifierVerbs
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.parameters import (
    HasAdapter,
    HasLogisticProbe,
    HasRidgeProbe,
    SmoothsLabels,
    TrainsFully,
    WarmStarts,
    declared,
    parameter,
)
from skltransfer.engine import (
    ArrayTargets,
    ClassificationTask,
    MultilabelTask,
    RegressionTask,
    Task,
    TrainingSet,
)


@declared
class FineTunedClassifier(
    ClassifierVerbs, ClassifierMixin, WarmStarts, HasAdapter, SmoothsLabels, HasLogisticProbe, TrainsFully, FineTuner
):
    """Classify images, texts, audio or rows with a pretrained network; ``freeze_depth`` says how much stays frozen.

    At ``freeze_depth=1.0`` it is a logistic regression on the frozen network's features; below, the stages after the
    boundary are trained too. Early stages hold general features and later ones those of the pretraining task [2]_, so
    the best boundary depends on both tasks. Frozen stages run in evaluation mode, once per sample, and are cached.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    freeze_depth : float, int or str, default="auto"
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the
        input: 1.0 trains the head alone, 0.0 trains everything, and any number between them leaves at least one stage
        on either side. ``-k`` freezes all but the top k stages. A stage's name freezes up to and including it;
        :func:`describe_backbone` lists them. ``"auto"`` chooses between 1.0 and 0.5 by cross-validation on the
        training set: on each of three folds (fewer once 500 samples were held out) it fits five epochs at 0.5, and
        keeps all stages frozen unless that gains more than one standard error in log loss after temperature scaling
        (of numbers, in R²). The chosen depth is then fitted on all samples. The comparison costs at most ten epochs of
        training at 0.5. With fewer than 12 distinct samples, or fewer than three of a class, all stages stay frozen.
        With ``head="mlp"``, ``head_init="random"``, ``adapter``, ``augment``, ``norm_policy="train"`` or
        ``partial_fit``, there is no comparison and the depth is 0.5.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    head : {"linear", "mlp"}, default="linear"
        ``"mlp"`` has one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Whether a linear head starts from the probe, a logistic regression on the frozen features solved to convergence,
        which keeps early steps from distorting the backbone [1]_. The head starts at a tenth of the probe's
        weights, which leaves the backbone a gradient to learn from; at more where ``learning_rate`` and the number of
        steps are too small to grow them back. At ``freeze_depth=1.0`` the probe is the whole fit.
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in ``LogisticRegression``; positive. ``"auto"`` chooses it for
        these samples and features: the strength of the ridge regression on class indicators that generalized
        cross-validation prefers [5]_.
    max_epochs : int, default=10
        Passes over the training set. At ``freeze_depth=1.0`` with a linear head and without ``augment`` there are none:
        this and all parameters of training below have no effect.
    batch_size : int, default=32
        Largest number of samples in a step; batches are alike in length.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW).
    backbone_lr_factor : float, default=0.1
        Learning rate of the last stage, relative to the head's.
    layer_decay : float in (0, 1], default=1.0
        Learning rate of each stage, relative to that of the next one.
    weight_decay : float, default=0.01
        Weight decay (AdamW); norms and biases are not decayed.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        ``"cosine"`` raises the learning rate over the steps that ``warmup`` sets and then lets it fall to zero.
    warmup : float in [0, 1), default=0.1
        Share of the steps over which the learning rate rises from zero, for ``lr_schedule="cosine"``.
    max_grad_norm : float or None, default=None
        Maximum global gradient norm; larger gradients are clipped. None leaves them.
    unfreeze_schedule : {"gradual"} or None, default=None
        ``"gradual"`` trains the last stage first, then one more at a time down to the boundary, with a share of the
        epochs and a schedule of its own for each [3]_; None trains all unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm in unfrozen stages are treated. ``"frozen"`` keeps them; ``"train"``
        begins with those of the training samples and updates them. Scale and shift are trained either way.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss; the probe is solved without it.
    class_weight : dict, "balanced" or None, default=None
        Factors of the classes in the loss.
    calibrate : {"temperature"} or None, default=None
        Hold out ``validation_fraction`` of the samples, and divide the outputs by the one number that makes their
        labels most likely [4]_: probabilities become more honest, predictions stay.
    adapter : {"lora"} or None, default=None
        ``"lora"`` leaves the unfrozen stages' weights as they are too, and trains low-rank adapters (rank 8) beside
        their linear maps and convolutions: a hundredth of the weights. Needs the extra ``lora``.
    augment : callable, default=None
        Changes each training picture at random each time it is seen: a transform of ``torchvision.transforms.v2`` from
        a uint8 tensor (3, h, w) to another; the backbone's own preprocessing comes after it. Frozen stages then run in
        every epoch, and at ``freeze_depth=1.0`` the head is trained rather than solved. A single transform goes into a
        ``Compose``, since its ``get_params`` is not what scikit-learn means by that name.
    early_stopping : bool, default=False
        Hold out ``validation_fraction``, stop when its loss no longer falls, and restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Share of distinct samples that is held out; classes keep their shares, and equal samples are never on both
        sides.
    n_iter_no_change : int, default=3
        Epochs without progress before stopping.
    tol : float, default=1e-4
        The smallest decrease of the validation loss that counts as progress.
    warm_start : bool, default=False
        Go on from the last fit; backbone, boundary and classes must be the same.
    checkpoint : path-like, default=None
        A folder in which training leaves its state after each epoch, in a file of its own for each fit. The same fit on
        the same data, begun again after an interruption, goes on there and ends as it would have; ``random_state`` must
        be an int. Delete the folder when the work is done.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows of
        a 2-D X are laid out as strips.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that comes as arrays.
    max_length : int, default=None
        Number of tokens that are read of a text, special tokens included. None reads as many as the network was
        made for, at most 512.
    long_samples : {"truncate", "windows"} or None, default=None
        How the network reads a text of more than ``max_length`` tokens, or audio longer than its input (30 s for
        Whisper). ``"truncate"`` reads the beginning and warns. ``"windows"`` reads all of it in windows
        that overlap by a quarter at least: ``fit`` averages the outputs of a sample's windows before the loss,
        ``predict_proba`` their probabilities, ``transform`` their features (at ``freeze_depth=1.0``, features are
        averaged throughout). None is as ``backbone`` was loaded, by default ``"truncate"``.
    on_bad_sample : {"raise", "nan"}, default="raise"
        ``"nan"`` leaves rows that cannot be read out of ``fit``, with a warning; their probabilities are NaN, and
        ``predict``, which has no label for them, raises.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it
        (cosine similarity of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations. ``"memory"`` is shared by all estimators of the process,
        up to 1 GiB. A folder is shared with other processes and later runs too, up to 5 GiB.
    random_state : int, RandomState instance or None, default=None
        Decides the order of samples, dropout, the held-out part and random heads. The global generators are never
        touched.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    input_kind_ : {"samples", "table"}
        Whether ``fit`` saw a collection of samples or a table of numbers; other methods must be given the same.
    classes_ : ndarray of shape (n_classes,)
        Sorted labels; for a multilabel target, the numbers of its columns.
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    freeze_depth_scores_ : dict of float to dict of str to float
        Cross-validated scores at freeze depths 1.0 and 0.5, by scikit-learn's names: ``"accuracy"`` (of several
        labels, the share that is right) and ``"neg_log_loss"`` after temperature scaling; of numbers, ``"r2"``. Only
        where ``freeze_depth="auto"`` compared them.
    freeze_boundary_ : str
        Name of the last frozen stage; ``"input"`` where none is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the backbone, and how many are frozen.
    n_trainable_params_ : int
        Number of weights that were trained.
    n_iter_ : int
        Epochs that were trained; where the probe is the whole fit, iterations of its solver.
    history_ : dict of str to list of float
        Per epoch: ``loss``, ``learning_rate`` and, with early stopping, ``validation_loss``.
    dtype_, device_ : str
        The dtype and device that ``"auto"`` was resolved to.
    duplicates_ : list of list of int
        Groups of rows of X with equal content. Split X for cross-validation by such groups (``GroupKFold``), or a copy
        in the test part makes the score too good.
    n_truncated_ : int
        Training texts, or audio clips, of which a part was left out because they are longer than the network's input;
        a warning says so too.
    bad_samples_ : list of int
        Rows that ``fit`` left out, where ``on_bad_sample="nan"``.

    See Also
    --------
    PretrainedFeatureExtractor : The frozen features alone, as a transformer.
    FineTunedRegressor : The same for numbers.

    References
    ----------
    .. [1] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [2] J. Yosinski et al. (2014), "How transferable are features in deep neural networks?", NeurIPS.
    .. [3] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [4] C. Guo et al. (2017), "On calibration of modern neural networks", ICML.
    .. [5] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.

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
    class_weight: dict | str | None = parameter(default=None, constraint=[dict, StrOptions({"balanced"}), None])
    calibrate: str | None = parameter(default=None, constraint=[StrOptions({"temperature"}), None])

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One pass over these rows at a constant rate, from the current state; no probe, no schedule, no stopping.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n,)
        classes : array-like, default=None
            All labels that will ever come; needed in the first call.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``classes`` is missing in the first call, or y holds a label that is not among them.
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
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multilabel-indicator":
            return self._encode_indicators(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                f"y of shape {y.shape} is a multiclass-multioutput target, which is not supported: pass one column of "
                "labels, or a matrix of 0 and 1 (sklearn.preprocessing.MultiLabelBinarizer makes one of lists of "
                "labels). MultiTaskFineTuner and sklearn.multioutput.MultiOutputClassifier take a column per task."
            )
        return ArrayTargets(self._label_positions(column_or_1d(y, warn=True), weights))

    def _encode_indicators(self, y: np.ndarray) -> ArrayTargets:
        known = getattr(self, "classes_", None)
        if known is not None and len(known) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} columns of labels, but there are {len(known)} labels: {known!r}.")
        if self.class_weight is not None:
            raise ValueError(f"class_weight={self.class_weight!r} is for labels that exclude each other; use None.")
        self.classes_ = np.arange(y.shape[1]) if known is None else known
        return ArrayTargets(y.astype(np.int64))

    def _to_task(self, data: TrainingSet) -> tuple[Task, TrainingSet]:
        labels = data.targets.values
        if labels.ndim == 2:
            return MultilabelTask(self.classes_, self.label_smoothing), data
        if self.class_weight == "balanced":
            mass = np.bincount(labels, weights=data.weights, minlength=len(self.classes_))
            factors = mass.sum() / (len(mass) * np.maximum(mass, 1e-300))
        else:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[labels])
        return ClassificationTask(self.classes_, self.label_smoothing), data.encoded(data.targets, factors[labels])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    @property
    def _penalty(self) -> float | str:
        return self.C


@declared
class FineTunedRegressor(RegressorMixin, WarmStarts, HasAdapter, HasRidgeProbe, TrainsFully, FineTuner):
    """Predict numbers from images, texts, audio or rows with a pretrained network, partly or wholly frozen.

    At ``freeze_depth=1.0`` it is a ridge regression on the frozen network's features; below, the stages after the
    boundary are trained too. Early stages hold general features and later ones those of the pretraining task [2]_, so
    the best boundary depends on both tasks. The target is standardised inside.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    freeze_depth : float, int or str, default="auto"
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the
        input: 1.0 trains the head alone, 0.0 trains everything, and any number between them leaves at least one stage
        on either side. ``-k`` freezes all but the top k stages. A stage's name freezes up to and including it;
        :func:`describe_backbone` lists them. ``"auto"`` chooses between 1.0 and 0.5 by cross-validation on the
        training set: on each of three folds (fewer once 500 samples were held out) it fits five epochs at 0.5, and
        keeps all stages frozen unless that gains more than one standard error in log loss after temperature scaling
        (of numbers, in R²). The chosen depth is then fitted on all samples. The comparison costs at most ten epochs of
        training at 0.5. With fewer than 12 distinct samples, or fewer than three of a class, all stages stay frozen.
        With ``head="mlp"``, ``head_init="random"``, ``adapter``, ``augment``, ``norm_policy="train"`` or
        ``partial_fit``, there is no comparison and the depth is 0.5.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    head : {"linear", "mlp"}, default="linear"
        ``"mlp"`` has one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Whether a linear head starts from the probe, a ridge regression on the frozen features in closed form, which
        keeps early steps from distorting the backbone [1]_. The head starts at a tenth of the probe's weights, which
        leaves the backbone a gradient to learn from; at more where ``learning_rate`` and the number of steps are too
        small to grow them back. At ``freeze_depth=1.0`` the probe is the whole fit.
    alpha : float or "auto", default="auto"
        Strength of the probe's L2 penalty, as in ``Ridge``; positive. ``"auto"`` takes the one that generalized
        cross-validation prefers [4]_, for each output.
    max_epochs : int, default=10
        Passes over the training set. At ``freeze_depth=1.0`` with a linear head and without ``augment`` there are none:
        this and all parameters of training below have no effect.
    batch_size : int, default=32
        Largest number of samples in a step; batches are alike in length.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW).
    backbone_lr_factor : float, default=0.1
        Learning rate of the last stage, relative to the head's.
    layer_decay : float in (0, 1], default=1.0
        Learning rate of each stage, relative to that of the next one.
    weight_decay : float, default=0.01
        Weight decay (AdamW); norms and biases are not decayed.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        ``"cosine"`` raises the learning rate over the steps that ``warmup`` sets and then lets it fall to zero.
    warmup : float in [0, 1), default=0.1
        Share of the steps over which the learning rate rises from zero, for ``lr_schedule="cosine"``.
    max_grad_norm : float or None, default=None
        Maximum global gradient norm; larger gradients are clipped. None leaves them.
    unfreeze_schedule : {"gradual"} or None, default=None
        ``"gradual"`` trains the last stage first, then one more at a time down to the boundary, with a share of the
        epochs and a schedule of its own for each [3]_; None trains all unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm in unfrozen stages are treated. ``"frozen"`` keeps them; ``"train"``
        begins with those of the training samples and updates them. Scale and shift are trained either way.
    adapter : {"lora"} or None, default=None
        ``"lora"`` leaves the unfrozen stages' weights as they are too, and trains low-rank adapters (rank 8) beside
        their linear maps and convolutions: a hundredth of the weights. Needs the extra ``lora``.
    augment : callable, default=None
        Changes each training picture at random each time it is seen: a transform of ``torchvision.transforms.v2`` from
        a uint8 tensor (3, h, w) to another; the backbone's own preprocessing comes after it. Frozen stages then run in
        every epoch, and at ``freeze_depth=1.0`` the head is trained rather than solved. A single transform goes into a
        ``Compose``, since its ``get_params`` is not what scikit-learn means by that name.
    early_stopping : bool, default=False
        Hold out ``validation_fraction``, stop when its loss no longer falls, and restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Share of distinct samples that is held out; equal ones are never on both sides.
    n_iter_no_change : int, default=3
        Epochs without progress before stopping.
    tol : float, default=1e-4
        The smallest decrease of the validation loss that counts as progress.
    warm_start : bool, default=False
        Go on from the last fit; backbone, boundary must be the same.
    checkpoint : path-like, default=None
        A folder in which training leaves its state after each epoch, in a file of its own for each fit. The same fit on
        the same data, begun again after an interruption, goes on there and ends as it would have; ``random_state`` must
        be an int. Delete the folder when the work is done.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows of
        a 2-D X are laid out as strips.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that comes as arrays.
    max_length : int, default=None
        Number of tokens that are read of a text, special tokens included. None reads as many as the network was
        made for, at most 512.
    long_samples : {"truncate", "windows"} or None, default=None
        How the network reads a text of more than ``max_length`` tokens, or audio longer than its input (30 s for
        Whisper). ``"truncate"`` reads the beginning and warns. ``"windows"`` reads all of it in windows
        that overlap by a quarter at least: ``fit`` averages the outputs of a sample's windows before the loss,
        ``predict_proba`` their probabilities, ``transform`` their features (at ``freeze_depth=1.0``, features are
        averaged throughout). None is as ``backbone`` was loaded, by default ``"truncate"``.
    on_bad_sample : {"raise", "nan"}, default="raise"
        ``"nan"`` leaves rows that cannot be read out of ``fit``, with a warning; their predictions are NaN.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it
        (cosine similarity of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations. ``"memory"`` is shared by all estimators of the process,
        up to 1 GiB. A folder is shared with other processes and later runs too, up to 5 GiB.
    random_state : int, RandomState instance or None, default=None
        Decides the order of samples, dropout, the held-out part and random heads. The global generators are never
        touched.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    input_kind_ : {"samples", "table"}
        Whether ``fit`` saw a collection of samples or a table of numbers; other methods must be given the same.
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    freeze_depth_scores_ : dict of float to dict of str to float
        Cross-validated scores at freeze depths 1.0 and 0.5, by scikit-learn's names: ``"accuracy"`` (of several
        labels, the share that is right) and ``"neg_log_loss"`` after temperature scaling; of numbers, ``"r2"``. Only
        where ``freeze_depth="auto"`` compared them.
    freeze_boundary_ : str
        Name of the last frozen stage; ``"input"`` where none is frozen.
    n_stages_, n_frozen_stages_ : int
        Number of stages of the backbone, and how many are frozen.
    n_trainable_params_ : int
        Number of weights that were trained.
    n_iter_ : int
        Epochs that were trained; where the probe is the whole fit, iterations of its solver.
    history_ : dict of str to list of float
        Per epoch: ``loss``, ``learning_rate`` and, with early stopping, ``validation_loss``.
    dtype_, device_ : str
        The dtype and device that ``"auto"`` was resolved to.
    duplicates_ : list of list of int
        Groups of rows of X with equal content. Split X for cross-validation by such groups (``GroupKFold``), or a copy
        in the test part makes the score too good.
    n_truncated_ : int
        Training texts, or audio clips, of which a part was left out because they are longer than the network's input;
        a warning says so too.
    bad_samples_ : list of int
        Rows that ``fit`` left out, where ``on_bad_sample="nan"``.

    See Also
    --------
    FineTunedClassifier : The same for labels.

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
    >>> X = np.random.default_rng(0).random((60, 16, 16))  # grey pictures, values in [0, 1]
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
        """One pass over these rows at a constant rate, from the current state; no probe, no schedule, no stopping.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n,)
            The first call's mean and standard deviation scale the target for good.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self
        """
        self._validate_params()
        start = getattr(self, "_network_", None)
        return self._take_over(self._copy_to_fit(start)._learn(X, y, sample_weight, start=start, single_pass=True))

    def predict(self, X: Any) -> np.ndarray:
        """The predicted number of each sample.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,) or (n, outputs)
            NaN for a row that could not be read, where ``on_bad_sample="nan"``.
        """
        outputs = self._run(X)[0]
        return self._task_.decode(outputs)

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        return ArrayTargets(y.astype(np.float64))

    def _to_task(self, data: TrainingSet) -> tuple[Task, TrainingSet]:
        y = data.targets.values
        task = getattr(self, "_task_", None) or RegressionTask.fitted(y, data.weights)
        return task, data.encoded(ArrayTargets(task.encode(y)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @property
    def _penalty(self) -> float | str:
        return self.alpha
