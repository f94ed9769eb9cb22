"""What the fine-tuning estimators share: the way from X and y to a tuned network, and from there to outputs.

Promises that ``fit`` happens on a shallow copy and takes effect in one assignment. Must not know what a target means,
nor how a network is trained.
"""

import copy
import numbers
import warnings
from abc import ABCMeta, abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, _check_y, check_is_fitted

from skltransfer import _shell
from skltransfer.backbones import Backbone, freeze_boundary, reload_backbone
from skltransfer.engine import Head, TrainingPlan, TrainingSet, Tuned, TuningTask, is_native, run_tuned, tune
from skltransfer.exceptions import BadSampleError


class FineTuner(TransformerMixin, BaseEstimator, metaclass=ABCMeta):
    """Parent of the fine-tuning estimators, which say what targets mean: ``_encode``, ``_to_head``, ``_strength``."""

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
        return _shell.names_out(self, input_features, self._n_features_out)

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
        self.duplicates_ = [[int(kept[i]) for i in group] for group in result.duplicates]
        if backbone.modality == "text":
            self.n_truncated_ = _shell.n_truncated(samples, backbone)
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
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
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
        if start is None:
            return
        fitted = (self._origin_[-1], start.boundary, start.hidden, start.pooling)
        if fitted != (backbone.fingerprint, boundary, self.head == "mlp", _shell.resolved_pooling(self, backbone)):
            raise ValueError(
                f"warm_start and partial_fit go on with the same backbone, freeze_depth, head and pooling: fitted with "
                f"{self._origin_[0]!r} frozen up to {self.freeze_boundary_!r}, now {backbone.name!r} with "
                f"freeze_depth={self.freeze_depth!r}, head={self.head!r}, pooling={self.pooling!r}. "
                "Set warm_start=False, or fit a clone."
            )

    def _run(self, X: Any, *, features: bool = False) -> tuple[np.ndarray, dict[int, BadSampleError]]:
        """Outputs (or pooled features) of the fitted network, one row per sample; NaN where one could not be read."""
        check_is_fitted(self)
        backbone = reload_backbone(*self._origin_)
        samples = _shell.samples_of(self, X, backbone, reset=False)
        _shell.n_truncated(samples, backbone)
        stages = _shell.frozen_stages(self, backbone, dtype=self.dtype_)
        if self.dtype == "auto" and not is_native(stages.dtype, stages.device):
            warnings.warn(
                f"Fitted in {self.dtype_}, which this processor computes without native support: predictions are slow, "
                "but the same. Fit with dtype='float32' to avoid it.",
                stacklevel=3,
            )
        return run_tuned(self._network_, stages, samples, _shell.bad_sample_policy(self), features=features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _joined(old: dict[str, list], new: dict[str, list]) -> dict[str, list]:
    return {key: [*old.get(key, []), *values] for key, values in new.items()}
