"""What the fine-tuning estimators share: the way from X and y to a tuned network, and from there to outputs.

Promises that ``fit`` happens on a shallow copy and takes effect in one assignment. Must not know what a target means,
nor how a network is trained.
"""

import copy
import os
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skltransfer._estimators import serialization
from skltransfer._estimators.base import READING, n_truncated
from skltransfer._estimators.callbacks import CallbackSupportMixin, FitCallbacks, fit_callbacks
from skltransfer._estimators.parameters import RunsBackbone, TrainsStages
from skltransfer._estimators.target_checks import checked_groups
from skltransfer._estimators.validates import Validates
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_parameters
from skltransfer.backbones import (
    AdaptedWeights,
    Backbone,
    freeze_boundary,
    is_automatic,
    portable_state,
    reload_backbone,
    with_current_options,
)
from skltransfer.engine import (
    TASKS,
    DomainShift,
    EpochObserver,
    FrozenStages,
    HoldOut,
    NetworkSpec,
    NetworkState,
    Resume,
    Targets,
    Task,
    TrainingPlan,
    TrainingSet,
    TuningJob,
    TuningResult,
    at_better_boundary,
    is_native,
    joined_history,
    tune,
    with_current_names,
)
from skltransfer.inputs import Samples

TUNED_DEPTH = 0.5  # what freeze_depth="auto" compares with the frozen network


class FineTuner(
    TrainsStages, RunsBackbone, Validates, VersionStamp, CallbackSupportMixin, BaseEstimator, metaclass=ABCMeta
):
    """Parent of the fine-tuning estimators, which say what targets mean: ``_encode``, ``_to_task``, ``_penalty``.

    Those whose answers are read off one vector per sample inherit from :class:`VectorFineTuner`, the others from
    :class:`StructuredFineTuner`.
    """

    _may_choose_depth = False  # whether freeze_depth="auto" means something: held-out score is what counts
    _sets_options: tuple[str, ...] = ()  # of the backbone, whatever it was loaded with
    _truncates = True  # texts and audio clips that are too long, rather than refusing them

    def __setstate__(self, state: dict) -> None:
        """Restore a pickle, also one from before version 0.1, in which a task was called a head."""
        if "_head_" in state:
            state = {"_task_" if name == "_head_" else name: value for name, value in state.items()}
        super().__setstate__(state)

    @abstractmethod
    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Task, TrainingSet]:
        """The task that a training set decides, or the given one; and the set in its terms."""

    @property
    @abstractmethod
    def _penalty(self) -> float:
        """Strength of the probe's penalty, as the task reads it."""

    @checks_parameters()
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the head, and the unfrozen stages of the network.

        Row order has no effect, and ``sample_weight=k`` has the same effect as repeating a row k times.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Training samples: a list, array or column of images, texts or audio clips as the backbone reads them (file
            paths, bytes, PIL images, strings or arrays), or a 2-D table of numbers. Pairs of texts that the network
            reads together are tuples of two strings, or two columns of strings.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels or numbers, one per sample. Some estimators take several columns: :class:`FineTunedClassifier` and
            :class:`FewShotClassifier` one column of 0 and 1 per label, :class:`FineTunedRegressor` one column per
            target, and :class:`MultiTaskFineTuner` one column per task.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. Rows of weight zero are left out; None gives each row the weight 1.
        groups : array-like of shape (n_samples,), default=None
            Groups of the samples, such as patients. Early stopping, calibration and ``freeze_depth="auto"`` hold out
            whole groups, so that a group is never on both sides. None holds out single samples.
        X_val : sequence of samples, default=None
            Samples to validate on, instead of a part of X that is held out, with ``early_stopping=True`` or
            ``calibrate``. Nothing else is learned from them.
        y_val : array-like of shape (n_val_samples,) or (n_val_samples, n_outputs), default=None
            Targets of ``X_val``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, if X, y, ``sample_weight`` or ``groups`` is invalid or they differ in length, if
            y has a single class, if ``y_val`` has a label that y has not, or if the device is not available.
        BadSampleError
            If a sample cannot be read and ``on_bad_sample="raise"``; the message names its row.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
        TrainingDivergedError
            If the loss becomes NaN or infinite. The estimator then keeps its previous state.
        """
        start = getattr(self, "_network_", None) if getattr(self, "warm_start", False) else None
        callbacks = fit_callbacks(self, X, y, sample_weight, self.max_epochs)
        named = None if X_val is None and y_val is None else (X_val, y_val)
        draft = self._copy_to_fit(start)
        self._take_over(
            draft._learn(X, y, sample_weight, start=start, callbacks=callbacks, groups=groups, validation=named)
        )
        if callbacks is not None:
            callbacks.fit_ends()
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Not used: no parameter is an estimator. Present for API consistency by convention.

        Returns
        -------
        dict of str to object
            Parameter names mapped to their values.
        """
        return super().get_params(deep=False)

    def _adapts_head(self, backbone: Backbone) -> bool:
        """True if adapters go into the readout, too."""
        return False

    def _copy_to_fit(self, start: Any) -> Self:
        """A shallow copy that learns in this one's place; without what an earlier fit left, unless it goes on."""
        return self._unfitted_copy() if start is None else copy.copy(self)

    def _take_over(self, draft: Self) -> Self:
        self.__dict__ = draft.__dict__  # one step: an interrupt leaves the old model or the new one
        return self

    def _learn(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        start: Any,
        single_pass: bool = False,
        callbacks: FitCallbacks | None = None,
        target_rows: Sequence[int] = (),
        groups: Any = None,
        validation: tuple[Any, Any] | None = None,
    ) -> Self:
        """Fit; ``target_rows`` of X are another domain's, without labels."""
        backbone = self._loaded_backbone()
        samples = self._samples(X, backbone, reset=start is None or not single_pass)
        y = self._checked_target(y, samples)
        weights, given, n = self._checked_weights(sample_weight, y), samples, len(samples)
        self._refuse_misfits(samples, y, weights, backbone)
        groups = None if groups is None else checked_groups(groups, n)
        samples, y, weights = self._with_descriptions(samples, y, weights, backbone)
        job = self._job(backbone, start, single_pass)
        if samples.beside is not None:
            job = replace(job, spec=replace(job.spec, n_numbers=samples.beside.shape[1]))
        if validation is None:
            targets = self._encode(y, weights)
        else:
            samples, targets, weights = self._with_validation(samples, y, weights, *validation, backbone)
            to_validate = np.arange(n, len(samples)) - np.sum(weights[:n] == 0)  # among those that are kept
            job = replace(job, hold_out=replace(job.hold_out, rows=to_validate))
        self._refuse_other_start(start, backbone, job.spec)
        self._refuse_idle_adapter(backbone, job.spec)
        if len(target_rows):
            job = replace(job, shift=self._shift_to(samples.take(target_rows)))
        kept = np.flatnonzero(weights > 0)
        learnt = (samples.take(kept), targets.subset(kept), weights[kept])
        if self._chooses_depth and start is None and not single_pass:
            rows = kept[kept < n]
            to_train = (given.take(rows), targets.subset(rows), weights[rows])
            job = self._at_better_depth(job, *to_train, None if groups is None else groups[rows])
        if callbacks is not None:
            observer = EpochObserver(callbacks.epoch_begins, callbacks.epoch_ends)
            job = replace(job, observer=observer.seeing(lambda result: self._fitted_attributes(job, result)))
        groups = groups[kept] if groups is not None and len(samples) == n else None
        result = tune(job, *learnt, groups)
        self._set_rows(result, kept, n)
        if self._truncates and backbone.modality in ("audio", "text"):
            self.n_truncated_ = n_truncated(given.take(kept[kept < n]), backbone)
        self._set_fitted(job, result)
        return self

    def _with_descriptions(
        self, samples: Samples, y: np.ndarray, weights: np.ndarray, backbone: Backbone
    ) -> tuple[Samples, np.ndarray, np.ndarray]:
        """Samples, y and weights, followed by those that stand for classes in words, if there are any."""
        return samples, y, weights

    def _set_rows(self, result: TuningResult, kept: np.ndarray, n: int) -> None:
        """Attributes that name rows of X, which has n; ``kept`` were learnt from, and those from n on are of X_val."""
        bad = kept[result.bad].astype(int)
        if (bad < n).any():
            self.bad_samples_ = bad[bad < n].tolist()
        for rows, name in ((bad[bad < n], "X"), (bad[bad >= n] - n, "X_val")):
            if len(rows):
                warnings.warn(f"Rows {rows[:10].tolist()} of {name} could not be read and were left out.", stacklevel=5)
        duplicates = ([int(kept[i]) for i in group if kept[i] < n] for group in result.duplicates)
        self.duplicates_ = [group for group in duplicates if len(group) > 1]

    def _shift_to(self, target: Samples) -> DomainShift:
        """How another domain is drawn near, for estimators that take one."""
        raise NotImplementedError

    def _job(self, backbone: Backbone, start: Any, single_pass: bool) -> TuningJob:
        return TuningJob(
            stages=self._frozen_stages(backbone, fits=True),
            spec=self._spec(backbone, start),
            policy=self._bad_sample_policy(),
            to_task=self._to_task,
            plan=self._plan(single_pass),
            penalty=self._penalty,
            **self._job_options(backbone, start, single_pass),
        )

    def _job_options(self, backbone: Backbone, start: NetworkState | None, single_pass: bool) -> dict[str, Any]:
        """Parts of a job for which not every estimator has parameters."""
        return {
            "probe_first": getattr(self, "head_init", None) == "probe",
            "augment": self._checked_augment(backbone, single_pass) if hasattr(self, "augment") else None,
            "hold_out": HoldOut() if single_pass else self._hold_out(),
            "resume": Resume(start, single_pass, None if single_pass else self._checkpoint_folder()),
        }

    def _hold_out(self) -> HoldOut:
        return HoldOut(
            fraction=self.validation_fraction,
            stops_early=self.early_stopping,
            calibrates=getattr(self, "calibrate", None) is not None,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
        )

    @property
    def _chooses_depth(self) -> bool:
        """True if the data are to choose the depth."""
        return self._may_choose_depth and is_automatic(self.freeze_depth)

    @abstractmethod
    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        """The network to be fitted, before any choice by the data."""

    def _boundary(self, backbone: Backbone, start: NetworkState | None) -> int:
        if not self._chooses_depth:
            also = ", or 'auto'" if self._may_choose_depth else ""
            return freeze_boundary(self.freeze_depth, backbone.stage_names, also=also)
        return freeze_boundary(TUNED_DEPTH, backbone.stage_names) if start is None else start.spec.boundary

    def _at_better_depth(
        self, job: TuningJob, samples: Samples, targets: Targets, weights: np.ndarray, groups: np.ndarray | None
    ) -> TuningJob:
        tuned = job.spec.boundary
        job, scores = at_better_boundary(job, samples, targets, weights, groups)
        if scores is not None:
            self.freeze_depth_scores_ = {1.0: scores[job.stages.backbone.n_stages], TUNED_DEPTH: scores[tuned]}
        return job

    def _checked_augment(self, backbone: Backbone, single_pass: bool) -> Callable | None:
        if self.augment is not None and (backbone.modality != "image" or single_pass):
            what = "partial_fit" if single_pass else f"{backbone.modality} backbones"
            raise ValueError(f"augment is for images in fit; {what} cannot use it. Set augment=None.")
        if hasattr(self.augment, "get_params"):
            library = "albumentations" if hasattr(self.augment, "available_keys") else "torchvision.transforms.v2"
            raise ValueError(
                f"{self.augment!r} has a get_params of its own, which scikit-learn's clone would misread. "
                f"Wrap it: {library}.Compose([...])."
            )
        return self.augment

    def _fitted_attributes(self, job: TuningJob, result: TuningResult) -> dict[str, Any]:
        """Those that the estimator would have if its fit ended with this result."""
        fitted = copy.copy(self)
        fitted._set_fitted(job, result)
        return {key: value for key, value in vars(fitted).items() if key.endswith("_")}

    def _set_fitted(self, job: TuningJob, result: TuningResult) -> None:
        backbone, boundary = job.stages.backbone, job.spec.boundary
        goes_on = job.resume.single_pass and job.resume.start is not None
        self._network_, self._task_ = result.network, result.task
        self._origin_ = (backbone.name, backbone.weights, dict(backbone.options), backbone.fingerprint)
        self.freeze_boundary_ = backbone.stage_names[boundary - 1] if boundary else "input"
        self.n_stages_, self.n_frozen_stages_ = backbone.n_stages, boundary
        self.n_trainable_params_ = result.n_trainable
        self.dtype_ = job.stages.dtype_name
        vars(self).pop("int8_agreement_", None)
        if result.agreement is not None:
            self.int8_agreement_ = {k: v for k, v in result.agreement._asdict().items() if v is not None}
        self.device_, self.runtime_ = str(job.stages.device), job.stages.runtime.name
        self.n_iter_ = self.n_iter_ + result.n_iter if goes_on else result.n_iter
        self.history_ = joined_history(self.history_, result.history) if goes_on else result.history

    def _plan(self, single_pass: bool) -> TrainingPlan:
        """The estimator's parameters, as far as it has them."""
        names = {one.name for one in fields(TrainingPlan)} & self.get_params(deep=False).keys()
        how = {name: getattr(self, name) for name in names} | {"seed": self._seed(), "verbose": int(self.verbose)}
        if single_pass:
            how |= {"max_epochs": 1, "lr_schedule": "constant", "unfreeze_schedule": None}
        return TrainingPlan(**how)

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _checked_weights(self, sample_weight: Any, y: np.ndarray) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        if not (weights > 0).any():
            raise ValueError("sample_weight is zero for all samples; at least one must be positive.")
        with np.errstate(over="ignore"):
            total = weights.sum()
        if not np.finfo(np.float32).tiny < total < np.finfo(np.float32).max:
            raise ValueError(
                f"sample_weight sums to {total:g}, with which no loss can be computed. Scale it to about 1."
            )
        return weights

    def _refuse_other_start(self, start: NetworkState | None, backbone: Backbone, spec: NetworkSpec) -> None:
        if start is None:
            return
        fitted = (self._origin_[-1], start.spec.architecture)
        if fitted != (backbone.fingerprint, spec.architecture):
            raise ValueError(
                "warm_start and partial_fit go on with the same backbone, reading alike (input_size, resize, "
                "max_length, long_samples, window_pooling), and the same freeze_depth, head, pooling, adapter and "
                f"columns beside the samples: fitted with {self._origin_[0]!r} frozen up to {self.freeze_boundary_!r}, "
                f"now {backbone.name!r} with "
                f"freeze_depth={self.freeze_depth!r}, head={self.head!r}, pooling={self.pooling!r}, "
                f"adapter={self.adapter!r}. "
                "Set warm_start=False, or fit a clone."
            )

    def _refuse_idle_adapter(self, backbone: Backbone, spec: NetworkSpec) -> None:
        is_frozen = spec.boundary == spec.last(backbone.n_stages)
        if spec.adapter is not None and is_frozen and not self._adapts_head(backbone):
            raise ValueError(
                f"adapter={self.adapter!r} goes into unfrozen stages, but freeze_depth={self.freeze_depth!r} leaves "
                "none. Freeze less, or set adapter=None."
            )

    def _to_predict(self, X: Any, y: Any = None) -> tuple[Samples, FrozenStages]:
        """X as samples, and the frozen stages as they were in the fit; y where samples are read together with it."""
        check_is_fitted(self)
        backbone = reload_backbone(*self._origin_)
        samples = self._samples(X, backbone, reset=False)
        if y is not None:
            self._checked_target(y, samples)
        if self._truncates:
            n_truncated(samples, backbone)
        stages = self._frozen_stages(backbone)
        if self.dtype == "auto" and not is_native(stages.dtype, stages.device):
            warnings.warn(
                f"Fitted in {self.dtype_}, which this processor computes without native support: predictions are slow, "
                "but the same. Fit with dtype='float32' to avoid it.",
                stacklevel=4,
            )
        return samples, stages

    def save(self, path: str | os.PathLike, include_backbone: bool = False) -> None:
        """Save the fitted estimator to one file, without pickle; :func:`skltransfer.load` reads it.

        The file holds JSON and safetensors. Settings of ``set_output``, ``set_fit_request`` and similar methods are
        kept. A random generator as ``random_state``, ``augment`` and callbacks are code: they are not saved, and a
        warning says so. The folders of ``cache`` and ``checkpoint`` are not saved either.

        Parameters
        ----------
        path : path-like
            File to write. Its folder must exist; an existing file is replaced once the new one is complete.
        include_backbone : bool, default=False
            If True, also write the frozen weights, so that loading needs neither internet access nor a cache folder. By
            default the file holds the trained weights, and the name and hash of the backbone.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a parameter cannot be saved without code.
        UnsupportedBackboneError
            If ``include_backbone=True`` and the backbone consists of more than its weights, such as a tokenizer or a
            configuration.
        IsADirectoryError, FileNotFoundError
            If ``path`` is a folder, or its folder does not exist.
        """
        check_is_fitted(self)
        network = self._network_
        header = {
            **serialization.described(self),
            "network": asdict(network.spec),
            "task": [type(self._task_).__name__, serialization.encoded(vars(self._task_))],
            "origin": serialization.encoded(self._origin_),
            "include_backbone": bool(include_backbone),
        }
        arrays = {f"changed.{name}": array for name, array in network.changed.items()}
        if include_backbone:
            arrays |= portable_state(*self._origin_)
        elif isinstance(self._origin_[1], AdaptedWeights):
            arrays |= {f"{serialization.ADAPTED}{name}": array for name, array in self._origin_[1].changed.items()}
        serialization.write(path, header, arrays)

    @classmethod
    def _restored(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Any, backbone: Backbone | None
    ) -> Self:
        """The estimator that :meth:`save` was called on."""
        name, weights, options, expected = serialization.decoded(header["origin"])
        options = with_current_options(options)
        options["trust_remote_code"] = False  # the file's word is not enough to run a repository's code
        if header["include_backbone"]:
            weights = os.path.abspath(path)
        elif isinstance(weights, AdaptedWeights):
            changed = {
                key.removeprefix(serialization.ADAPTED): a
                for key, a in arrays.items()
                if key.startswith(serialization.ADAPTED)
            }
            weights = AdaptedWeights(weights.base, changed)
        if backbone is not None:
            asked = {key for key in READING if header["parameters"].get(key) is not None}
            own = {key: options[key] for key in {*cls._sets_options, *asked} if key in options}
            name, weights, options = backbone.name, backbone.weights, backbone.options | own
        found = reload_backbone(name, weights, options, expected)
        model = serialization.restored(cls, header, found, has_moved=backbone is not None)
        changed = {key.removeprefix("changed."): a for key, a in arrays.items() if key.startswith("changed.")}
        spec = NetworkSpec.from_header(header)
        model._network_ = NetworkState(spec, with_current_names(changed))
        model._network_.refuse_impossible_spec(found, str(path))
        model._task_ = _task_of(*(header["task"] if "task" in header else header["head"]), spec)
        model._network_.refuse_unless_it_fits(found, model._task_.readout, str(path))
        model._refuse_unknown_choices()
        model._origin_ = (name, weights, options, expected)
        return model


def _task_of(kind: str, values: Any, spec: NetworkSpec) -> Task:
    """The task that a file describes, once it has shown that it can read the network's outputs."""
    task = object.__new__(TASKS[kind])
    for name, value in serialization.decoded(values).items():
        if hasattr(task, name):
            raise KeyError(name)  # a method would be replaced
        setattr(task, name, value)
    task.refuse_unless_it_reads(spec)
    return task
