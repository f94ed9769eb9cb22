"""Pretrained networks, partly unfrozen, as scikit-learn estimators: one knob from a linear probe to full fine-tuning."""

import copy
import numbers
import warnings
from abc import ABCMeta, abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight, _check_y, check_is_fitted

from skltransfer import _shell
from skltransfer.backbones import Backbone, freeze_boundary, reload_backbone
from skltransfer.engine import (
    ActivationStore,
    ClassificationHead,
    Head,
    RegressionHead,
    TrainingPlan,
    TrainingSet,
    Tuned,
    TuningTask,
    run_tuned,
    tune,
)
from skltransfer.exceptions import BadSampleError


class _FineTuner(TransformerMixin, BaseEstimator, metaclass=ABCMeta):
    """What the classifier and the regressor share: the way from X to outputs, and one final step of assignment.

    Subclasses say what targets mean: ``_encode``, ``_to_head``, and the strength of the probe.
    """

    _parameter_constraints: dict = {
        **_shell.SHARED_CONSTRAINTS,
        "freeze_depth": "no_validation",  # read by value, with a message of its own
        "head": [StrOptions({"linear", "mlp"})],
        "head_init": [StrOptions({"probe", "random"})],
        "max_epochs": _shell.positive(numbers.Integral),
        "batch_size": _shell.positive(numbers.Integral),
        "learning_rate": _shell.positive(),
        "backbone_lr_factor": _shell.at_least_zero(),
        "layer_decay": [Interval(numbers.Real, 0, 1, closed="right")],
        "weight_decay": _shell.at_least_zero(),
        "lr_schedule": [StrOptions({"cosine", "constant"})],
        "warmup": [Interval(numbers.Real, 0, 1, closed="left")],
        "norm_policy": [StrOptions({"frozen", "train"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "n_iter_no_change": _shell.positive(numbers.Integral),
        "tol": _shell.at_least_zero(),
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    @abstractmethod
    def _encode(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Targets as numbers that sort; what is learnt from them alone is set on the draft."""

    @abstractmethod
    def _to_head(self, data: TrainingSet) -> tuple[Head, TrainingSet]:
        """The head, and the training set in its terms."""

    @property
    @abstractmethod
    def _strength(self) -> float:
        """Of the probe's penalty."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the head, and the stages after the boundary that ``freeze_depth`` sets.

        The result depends neither on the order of rows nor on whether a row is repeated or weighted.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
            Paths, bytes, PIL images or arrays; or a 2-D table of numbers.
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None
            Not negative; rows of weight zero are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, y or a weight is not what it should be.
        BadSampleError
            With the row, if a sample cannot be read.
        TrainingDivergedError
            If the loss is no longer a number.
        """
        start = getattr(self, "_network_", None) if self.warm_start else None
        return self._become(self._draft(start)._learn(X, y, sample_weight, start=start))

    def transform(self, X: Any) -> np.ndarray:
        """The pooled features of the tuned network: what its head sees, before standardisation.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float32, shape (n, n_features)
        """
        return self._run(X, features=True)[0].astype(np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of what ``transform`` returns: zero-padded numbers.

        Parameters
        ----------
        input_features : array-like of str, optional
            Compared with the names seen in ``fit``.

        Returns
        -------
        ndarray of str, shape (n_features,)
        """
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            _check_feature_names_in(self, input_features, generate_names=False)
        return _shell.padded_names(_shell.output_prefix(self), self._n_features_out)

    @property
    def _n_features_out(self) -> int:
        return len(self._network_.changed["mean"])

    def _draft(self, start: Any) -> Self:
        """A shallow copy that learns in this one's place; without what an earlier fit left, unless it goes on."""
        draft = copy.copy(self)
        if start is None:
            parameters = self.get_params(deep=False)
            draft.__dict__ = {k: v for k, v in vars(self).items() if k in parameters or not k.endswith("_")}
        return draft

    def _become(self, draft: Self) -> Self:
        self.__dict__ = draft.__dict__  # one step: an interrupt leaves the old model or the new one
        return self

    def _learn(self, X: Any, y: Any, sample_weight: Any, *, start: Any, single_pass: bool = False) -> Self:
        backbone = _shell.loaded_backbone(self)
        samples = _shell.samples_of(self, X, backbone, reset=start is None or not single_pass)
        y = self._checked_target(y, len(samples))
        weights = self._checked_weights(sample_weight, y)
        targets = self._encode(y, weights)
        task = self._tuning_task(backbone, start, single_pass)
        self._refuse_other_start(start, backbone, task.boundary)
        kept = np.flatnonzero(weights > 0)
        result = tune(task, samples.take(kept), targets[kept], weights[kept])
        if result.bad:
            self.bad_samples_ = [int(kept[i]) for i in result.bad]
            warnings.warn(f"Rows {self.bad_samples_[:10]} of X could not be read and were left out.", stacklevel=4)
        self._settle(task, result)
        return self

    def _tuning_task(self, backbone: Backbone, start: Any, single_pass: bool) -> TuningTask:
        return TuningTask(
            stages=_shell.frozen_stages(self, backbone),
            boundary=freeze_boundary(self.freeze_depth, backbone.stage_names),
            pooling=_shell.resolved_pooling(self, backbone),
            policy=_shell.bad_sample_policy(self),
            to_head=self._to_head,
            plan=self._plan(single_pass),
            strength=self._strength,
            hidden=self.head == "mlp",
            probe_first=self.head_init == "probe",
            backbone_lr_factor=self.backbone_lr_factor,
            layer_decay=self.layer_decay,
            validation_fraction=self.validation_fraction if self.early_stopping and not single_pass else None,
            single_pass=single_pass,
            start=start,
        )

    def _settle(self, task: TuningTask, result: Tuned) -> None:
        backbone, boundary = task.stages.backbone, task.boundary
        goes_on = task.single_pass and task.start is not None
        self._network_, self._head_ = result.network, result.head
        self._origin_ = (backbone.name, backbone.weights, dict(backbone.options), backbone.fingerprint)
        self.freeze_boundary_ = backbone.stage_names[boundary - 1] if boundary else "input"
        self.n_stages_, self.n_frozen_stages_ = backbone.n_stages, boundary
        self.n_trainable_params_ = result.n_trainable
        self.dtype_ = str(task.stages.dtype).removeprefix("torch.")
        self.device_ = str(task.stages.device)
        self.n_iter_ = self.n_iter_ + result.n_iter if goes_on else result.n_iter
        self.history_ = _joined(self.history_, result.history) if goes_on else result.history

    def _plan(self, single_pass: bool) -> TrainingPlan:
        return TrainingPlan(
            max_epochs=1 if single_pass else self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            lr_schedule="constant" if single_pass else self.lr_schedule,
            warmup=self.warmup,
            norm_policy=self.norm_policy,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            verbose=int(self.verbose),
        )

    def _checked_target(self, y: Any, n: int) -> np.ndarray:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        y = _check_y(y, multi_output=False, y_numeric=isinstance(self, RegressorMixin), estimator=self)
        if len(y) != n:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: [{n}, {len(y)}]")
        return y

    def _checked_weights(self, sample_weight: Any, y: np.ndarray) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        if not (weights > 0).any():
            raise ValueError("sample_weight is zero for all samples; at least one must be positive.")
        return weights

    def _refuse_other_start(self, start: Any, backbone: Backbone, boundary: int) -> None:
        if start is not None and (start.boundary != boundary or self._origin_[-1] != backbone.fingerprint):
            raise ValueError(
                f"warm_start and partial_fit go on with the same backbone and freeze_depth: fitted with "
                f"{self._origin_[0]!r} frozen up to {self.freeze_boundary_!r}, now {backbone.name!r} with "
                f"freeze_depth={self.freeze_depth!r}. Set warm_start=False, or fit a clone."
            )

    def _run(self, X: Any, *, features: bool = False) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        """Outputs (or pooled features) of the fitted network, one row per sample; NaN where one could not be read."""
        check_is_fitted(self)
        backbone = reload_backbone(*self._origin_)
        samples = _shell.samples_of(self, X, backbone, reset=False)
        stages = _shell.frozen_stages(self, backbone, dtype=self.dtype_)
        return run_tuned(self._network_, stages, samples, _shell.bad_sample_policy(self), features=features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class FineTunedClassifier(ClassifierMixin, _FineTuner):
    """Classify photos (or rows) with a pretrained network, of which ``freeze_depth`` says how much stays frozen.

    At ``freeze_depth=1.0`` it is a logistic regression on the frozen network's features; below, the stages after the
    boundary are trained too. What is frozen is run in evaluation mode, once per sample, and remembered.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:tiny-photo"
        ``"bundled:tiny-photo"`` ships in the package and needs no network; see :func:`list_backbones`.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    freeze_depth : float, int or str, default=0.75
        How much of the backbone stays as it was. A number in [0, 1]: the fraction of its stages, from the input on;
        1.0 trains the head alone, 0.0 everything, and what lies between leaves at least one stage on either side.
        ``-k``: all but the top k stages. A stage's name: up to and including it. :func:`describe_backbone` lists them.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    head : {"linear", "mlp"}, default="linear"
        ``"mlp"`` has one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Whether a linear head starts from the probe, a logistic regression on the frozen features solved to convergence, which
        keeps early steps from distorting the backbone [1]_. At ``freeze_depth=1.0`` the probe is the whole fit.
    C : float, default=1.0
        Inverse strength of the probe's L2 penalty, as in ``LogisticRegression``.
    max_epochs : int, default=10
        Passes over the training set. At ``freeze_depth=1.0`` with a linear head there are none: this and all
        parameters of training below have no effect.
    batch_size : int, default=32
    learning_rate : float, default=1e-3
        Of the head, for AdamW.
    backbone_lr_factor : float, default=0.1
        The last stage's rate, relative to the head's.
    layer_decay : float in (0, 1], default=1.0
        Each stage's rate, relative to that of the next one.
    weight_decay : float, default=0.01
        Of weights; norms and biases are spared.
    lr_schedule : {"cosine", "constant"}, default="cosine"
    warmup : float in [0, 1), default=0.1
        Share of the steps over which the rate rises from zero; for the cosine schedule.
    norm_policy : {"frozen", "train"}, default="frozen"
        Whether the running statistics of BatchNorm in unfrozen stages stay; their affine part is trained either way.
    label_smoothing : float in [0, 1), default=0.0
        In the training loss; the probe is solved without.
    class_weight : dict, "balanced" or None, default=None
        Factors of the classes in the loss.
    early_stopping : bool, default=False
        Hold out ``validation_fraction``, stop when its loss no longer falls, and restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
    n_iter_no_change : int, default=3
        Epochs without progress before stopping.
    tol : float, default=1e-4
        The least fall of the validation loss that counts as progress.
    warm_start : bool, default=False
        Go on from the last fit; backbone, boundary and classes must be the same.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows of
        a 2-D X are laid out as strips.
    on_bad_sample : {"raise", "nan"}, default="raise"
        ``"nan"`` leaves rows that cannot be read out of ``fit``, with a warning; their probabilities are NaN, and ``predict`` has no label for them and raises.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it (cosine
        of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, ActivationStore or None, default="memory"
        Where activations of the frozen stages are remembered, so that each sample passes them once in a whole search;
        ``"memory"`` is shared by all estimators of the process, up to 1 GiB.
    random_state : int, RandomState instance or None, default=None
        Order of samples, dropout, held-out part and random heads. The global generators are never touched.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    freeze_boundary_ : str
        Name of the last frozen stage; ``"input"`` where none is frozen.
    n_stages_, n_frozen_stages_ : int
        Of the backbone.
    n_trainable_params_ : int
        Number of weights that were trained.
    n_iter_ : int
        Epochs that were trained; at ``freeze_depth=1.0`` iterations of the probe's solver.
    history_ : dict of str to list of float
        Per epoch: ``loss``, ``learning_rate`` and, with early stopping, ``validation_loss``.
    dtype_, device_ : str
        What ``"auto"`` was resolved to.
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

    _parameter_constraints: dict = {
        **_FineTuner._parameter_constraints,
        "C": _shell.positive(),
        "label_smoothing": [Interval(numbers.Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        backbone: str | Backbone = "bundled:tiny-photo",
        *,
        weights: str = "pretrained",
        freeze_depth: float | str = 0.75,
        pooling: str = "auto",
        head: str = "linear",
        head_init: str = "probe",
        C: float = 1.0,
        max_epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        backbone_lr_factor: float = 0.1,
        layer_decay: float = 1.0,
        weight_decay: float = 0.01,
        lr_schedule: str = "cosine",
        warmup: float = 0.1,
        norm_policy: str = "frozen",
        label_smoothing: float = 0.0,
        class_weight: dict | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        tol: float = 1e-4,
        warm_start: bool = False,
        image_shape: tuple[int, ...] | None = None,
        on_bad_sample: str = "raise",
        device: str = "auto",
        dtype: str = "auto",
        cache: str | ActivationStore | None = "memory",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.freeze_depth = freeze_depth
        self.pooling = pooling
        self.head = head
        self.head_init = head_init
        self.C = C
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.backbone_lr_factor = backbone_lr_factor
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.warmup = warmup
        self.norm_policy = norm_policy
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.image_shape = image_shape
        self.on_bad_sample = on_bad_sample
        self.device = device
        self.dtype = dtype
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

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
        draft = self._draft(start)
        if start is None:
            draft.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes={classes!r} is not what the first call of partial_fit was given: {self.classes_}.")
        return self._become(draft._learn(X, y, sample_weight, start=start, single_pass=True))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each sample.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of shape (n,)

        Raises
        ------
        BadSampleError
            If a sample cannot be read: there is no label that would say so.
        """
        outputs, bad = self._run(X)
        if bad:
            raise bad[min(bad)]
        return self._head_.decode(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            Rows sum to 1; a row that could not be read is NaN, where ``on_bad_sample="nan"``.
        """
        return ClassificationHead.probabilities(self._run(X)[0])

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        return np.log(self.predict_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the head: log-odds of the second class, or one logit per class.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,) for two classes, else (n, n_classes)
        """
        return ClassificationHead.decision(self._run(X)[0])

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        known = getattr(self, "classes_", None)
        if known is None:
            self.classes_ = np.unique(y[weights > 0])
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs samples of at least 2 classes in y (of positive weight); got one "
                    f"class: {self.classes_[0]!r}."
                )
        elif not np.isin(y, known).all():
            raise ValueError(f"y holds labels {np.setdiff1d(y, known)!r} that are not among classes_={known!r}.")
        return np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)

    def _to_head(self, data: TrainingSet) -> tuple[Head, TrainingSet]:
        if self.class_weight == "balanced":
            mass = np.bincount(data.targets, weights=data.weights, minlength=len(self.classes_))
            factors = mass.sum() / (len(mass) * np.maximum(mass, 1e-300))
        else:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[data.targets])
        return ClassificationHead(self.classes_, self.label_smoothing), data.encoded(data.targets, factors[data.targets])

    @property
    def _strength(self) -> float:
        return self.C


class FineTunedRegressor(RegressorMixin, _FineTuner):
    """Predict a number from photos (or rows) with a pretrained network, partly or wholly frozen.

    At ``freeze_depth=1.0`` it is a ridge regression on the frozen network's features; below, the stages after the
    boundary are trained too. The target is standardised inside.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:tiny-photo"
        ``"bundled:tiny-photo"`` ships in the package and needs no network; see :func:`list_backbones`.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    freeze_depth : float, int or str, default=0.75
        How much of the backbone stays as it was. A number in [0, 1]: the fraction of its stages, from the input on;
        1.0 trains the head alone, 0.0 everything, and what lies between leaves at least one stage on either side.
        ``-k``: all but the top k stages. A stage's name: up to and including it. :func:`describe_backbone` lists them.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    head : {"linear", "mlp"}, default="linear"
        ``"mlp"`` has one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Whether a linear head starts from the probe, a ridge regression on the frozen features solved to convergence, which
        keeps early steps from distorting the backbone [1]_. At ``freeze_depth=1.0`` the probe is the whole fit.
    alpha : float, default=1.0
        Strength of the probe's L2 penalty, as in ``Ridge``.
    max_epochs : int, default=10
        Passes over the training set. At ``freeze_depth=1.0`` with a linear head there are none: this and all
        parameters of training below have no effect.
    batch_size : int, default=32
    learning_rate : float, default=1e-3
        Of the head, for AdamW.
    backbone_lr_factor : float, default=0.1
        The last stage's rate, relative to the head's.
    layer_decay : float in (0, 1], default=1.0
        Each stage's rate, relative to that of the next one.
    weight_decay : float, default=0.01
        Of weights; norms and biases are spared.
    lr_schedule : {"cosine", "constant"}, default="cosine"
    warmup : float in [0, 1), default=0.1
        Share of the steps over which the rate rises from zero; for the cosine schedule.
    norm_policy : {"frozen", "train"}, default="frozen"
        Whether the running statistics of BatchNorm in unfrozen stages stay; their affine part is trained either way.
    early_stopping : bool, default=False
        Hold out ``validation_fraction``, stop when its loss no longer falls, and restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
    n_iter_no_change : int, default=3
        Epochs without progress before stopping.
    tol : float, default=1e-4
        The least fall of the validation loss that counts as progress.
    warm_start : bool, default=False
        Go on from the last fit; backbone, boundary must be the same.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows of
        a 2-D X are laid out as strips.
    on_bad_sample : {"raise", "nan"}, default="raise"
        ``"nan"`` leaves rows that cannot be read out of ``fit``, with a warning; their predictions are NaN.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it (cosine
        of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, ActivationStore or None, default="memory"
        Where activations of the frozen stages are remembered, so that each sample passes them once in a whole search;
        ``"memory"`` is shared by all estimators of the process, up to 1 GiB.
    random_state : int, RandomState instance or None, default=None
        Order of samples, dropout, held-out part and random heads. The global generators are never touched.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    freeze_boundary_ : str
        Name of the last frozen stage; ``"input"`` where none is frozen.
    n_stages_, n_frozen_stages_ : int
        Of the backbone.
    n_trainable_params_ : int
        Number of weights that were trained.
    n_iter_ : int
        Epochs that were trained; at ``freeze_depth=1.0`` iterations of the probe's solver.
    history_ : dict of str to list of float
        Per epoch: ``loss``, ``learning_rate`` and, with early stopping, ``validation_loss``.
    dtype_, device_ : str
        What ``"auto"`` was resolved to.
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

    _parameter_constraints: dict = {**_FineTuner._parameter_constraints, "alpha": _shell.positive()}

    def __init__(
        self,
        backbone: str | Backbone = "bundled:tiny-photo",
        *,
        weights: str = "pretrained",
        freeze_depth: float | str = 0.75,
        pooling: str = "auto",
        head: str = "linear",
        head_init: str = "probe",
        alpha: float = 1.0,
        max_epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        backbone_lr_factor: float = 0.1,
        layer_decay: float = 1.0,
        weight_decay: float = 0.01,
        lr_schedule: str = "cosine",
        warmup: float = 0.1,
        norm_policy: str = "frozen",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        tol: float = 1e-4,
        warm_start: bool = False,
        image_shape: tuple[int, ...] | None = None,
        on_bad_sample: str = "raise",
        device: str = "auto",
        dtype: str = "auto",
        cache: str | ActivationStore | None = "memory",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.freeze_depth = freeze_depth
        self.pooling = pooling
        self.head = head
        self.head_init = head_init
        self.alpha = alpha
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.backbone_lr_factor = backbone_lr_factor
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.warmup = warmup
        self.norm_policy = norm_policy
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.image_shape = image_shape
        self.on_bad_sample = on_bad_sample
        self.device = device
        self.dtype = dtype
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

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
        return self._become(self._draft(start)._learn(X, y, sample_weight, start=start, single_pass=True))

    def predict(self, X: Any) -> np.ndarray:
        """The predicted number of each sample.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN for a row that could not be read, where ``on_bad_sample="nan"``.
        """
        outputs = self._run(X)[0]
        return self._head_.decode(outputs)

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return y.astype(np.float64)

    def _to_head(self, data: TrainingSet) -> tuple[Head, TrainingSet]:
        head = getattr(self, "_head_", None) or RegressionHead.fitted(data.targets, data.weights)
        return head, data.encoded(head.encode(data.targets))

    @property
    def _strength(self) -> float:
        return self.alpha


def _joined(old: dict[str, list], new: dict[str, list]) -> dict[str, list]:
    return {key: [*old.get(key, []), *values] for key, values in new.items()}
