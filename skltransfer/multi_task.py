"""Several tasks from the same samples: one backbone, a head per task, labels that may be missing."""

import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions

from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.parameters import (
    HasAdapter,
    HasLogisticProbe,
    HasRidgeProbe,
    TrainsFully,
    WarmStarts,
    declared,
    parameter,
)
from skltransfer._estimators.target_checks import cells_of, looks_like_amounts, missing, refuse_lists
from skltransfer.engine import (
    ArrayTargets,
    ClassificationTask,
    MultiTask,
    RegressionTask,
    Task,
    TrainingSet,
)

KINDS = ("classification", "regression")


@declared
class MultiTaskFineTuner(WarmStarts, HasAdapter, HasRidgeProbe, HasLogisticProbe, TrainsFully, FineTuner):
    """Predict several things about each image, text, audio clip or row with one network.

    y has a column per task, of labels or of numbers; a cell may be missing (None or NaN), and then counts in no loss.
    Tasks share the stages after the boundary that ``freeze_depth`` sets. Whether that helps them depends on the tasks:
    compare with single fits on the same folds.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    tasks : dict, list or None, default=None
        ``"classification"`` or ``"regression"`` for each column of y, in order or by the column's name. None: numbers
        that are not all whole are regression, all else is classification. A multilabel target is a column of 0 and 1
        for each label.
    loss_weights : {"equal", "uncertainty"} or array-like of shape (n_tasks,), default="equal"
        Weights of the tasks' losses, after cross-entropies were divided by ``log(n_classes)`` and numbers were
        standardised, so that knowing nothing costs 1 in each [1]_. ``"uncertainty"`` learns a variance per task [2]_.
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the
        input: 1.0 trains the head alone, 0.0 trains everything, and any number between them leaves at least one
        stage on either side. ``-k`` freezes all but the top k stages. A stage's name freezes up to and including
        it; :func:`describe_backbone` lists them.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    head : {"linear", "mlp"}, default="linear"
        ``"mlp"`` has one hidden layer of 256 rectified units.
    head_init : {"probe", "random"}, default="probe"
        Whether a linear head starts from the probes, one per task on the frozen features, which keeps early steps from
        distorting the backbone [3]_. The head starts at a tenth of the probes' weights, which leaves the backbone a
        gradient to learn from; at more where ``learning_rate`` and the number of steps are too small to grow them back.
        At ``freeze_depth=1.0`` the probes are the whole fit, and tasks share nothing.
    C : float or "auto", default="auto"
        Inverse strength of the L2 penalty of a probe for labels, as in ``LogisticRegression``; positive. ``"auto"``
        chooses it for each task's labels by generalized cross-validation [5]_.
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty of a probe for numbers, as in ``Ridge``; positive. ``"auto"`` likewise.
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
        epochs and a schedule of its own for each [4]_; None trains all unfrozen stages from the start.
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
        Go on from the last fit; backbone, boundary, tasks and classes must be the same.
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
    tasks_ : dict of str to str
        Name and kind of each task, in the order of y's columns.
    classes_ : list of (ndarray of shape (n_classes,) or None)
        Labels of each task; None for numbers.
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
    FineTunedClassifier, FineTunedRegressor : One task, or several of one kind with all labels.

    References
    ----------
    .. [1] V. Kurin et al. (2022), "In defense of the unitary scalarization for deep multi-task learning", NeurIPS.
    .. [2] A. Kendall, Y. Gal, R. Cipolla (2018), "Multi-task learning using uncertainty to weigh losses for scene
       geometry and semantics", CVPR.
    .. [3] A. Kumar et al. (2022), "Fine-tuning can distort pretrained features and underperform out-of-distribution",
       ICLR.
    .. [4] J. Howard, S. Ruder (2018), "Universal language model fine-tuning for text classification", ACL.
    .. [5] G. H. Golub, M. Heath, G. Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import MultiTaskFineTuner
    >>> photos = np.random.default_rng(0).random((8, 16, 16)) * 0.5
    >>> photos[::2, :8] += 0.5
    >>> y = [["above", 0.5], ["below", None], [None, 0.4], ["below", 0.1]] * 2
    >>> model = MultiTaskFineTuner("toy:images", freeze_depth=1.0).fit(photos, y)
    >>> model.tasks_
    {'task0': 'classification', 'task1': 'regression'}
    >>> [column.shape for column in model.predict_proba(photos) if column is not None]
    [(8, 2)]
    """

    tasks: dict | list | None = parameter(default=None, constraint=[dict, list, tuple, None])
    loss_weights: str | list | np.ndarray = parameter(
        default="equal", constraint=[StrOptions({"equal", "uncertainty"}), "array-like"]
    )

    def predict(self, X: Any) -> np.ndarray:
        """Label or number of each task.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of shape (n, n_tasks), or (n,) for one task
            The dtype is that of the labels where all tasks have the same, else object.

        Raises
        ------
        BadSampleError
            If a sample cannot be read: there is no label that would say so.
        """
        outputs, bad = self._run(X)
        if bad:
            raise bad[min(bad)]
        columns = self._task_.decode(outputs)
        kinds = {column.dtype.kind for column in columns}
        table = np.empty((len(outputs), len(columns)), dtype=object if len(kinds) > 1 else np.result_type(*columns))
        for task, column in enumerate(columns):
            table[:, task] = column
        return table[:, 0] if len(columns) == 1 else table

    def predict_proba(self, X: Any) -> list[np.ndarray | None] | np.ndarray | None:
        """Probability of each class of each task, in the order of ``classes_``.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        list of (ndarray of float64, shape (n, n_classes), or None)
            An array per task, whose rows sum to 1; None for numbers; one task's own instead of a list of one. A row
            that could not be read is NaN, where ``on_bad_sample="nan"``.
        """
        outputs = self._run(X)[0]
        found = self._task_.probabilities(outputs)
        return found[0] if len(found) == 1 else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of the accuracy (or R²) on the cells of y that are not missing.

        Not that of ``MultiOutputClassifier``, which is the share of rows whose labels are all right.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n, n_tasks)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        float
        """
        return float(np.mean(list(self.score_tasks(X, y, sample_weight).values())))

    def score_tasks(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Accuracy (or R²) of each task, on the cells of y that are not missing.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n, n_tasks)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        dict of str to float
            NaN for a task of which y holds nothing.
        """
        predicted, truth = self.predict(X).reshape(-1, len(self.tasks_)), table_of(y)[1]
        found = {}
        for task, (name, kind) in enumerate(self.tasks_.items()):
            seen = ~missing(truth[:, task])
            weights = None if sample_weight is None else np.asarray(sample_weight)[seen]
            if not seen.any():
                found[name] = float("nan")
            elif kind == "classification":
                right = (predicted[seen, task] == truth[seen, task]).astype(float)  # 1 is 1.0, though not in letters
                found[name] = float(np.average(right, weights=weights))
            else:
                values = (column[seen, task].astype(float) for column in (truth, predicted))
                found[name] = float(r2_score(*values, sample_weight=weights))
        return found

    def _checked_target(self, y: Any, n: int) -> np.ndarray:
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        names, table = table_of(y)
        if len(table) != n:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: [{n}, {len(table)}]")
        self.tasks_ = dict(zip(names, self._kinds(names, table), strict=True))
        return table

    def _kinds(self, names: list[str], table: np.ndarray) -> list[str]:
        asked = self.tasks
        if asked is None:
            return [_told_kind(name, column[~missing(column)]) for name, column in zip(names, table.T, strict=True)]
        if isinstance(asked, Mapping):
            if set(asked) != set(names):
                raise ValueError(f"tasks names {sorted(asked)!r}, but the columns of y are {names!r}.")
            asked = [asked[name] for name in names]
        if len(asked) != len(names) or not set(asked) <= set(KINDS):
            raise ValueError(f"tasks must be one of {KINDS} for each of y's {len(names)} columns; got {self.tasks!r}.")
        return list(asked)

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        """Positions or numbers, (n, tasks), beside 1 or 0 for whether they are there, (n, tasks)."""
        known = getattr(self, "classes_", [None] * y.shape[1])
        seen = np.column_stack([~missing(column) for column in y.T])
        values, self.classes_ = np.zeros(y.shape), []
        for task, (name, kind) in enumerate(self.tasks_.items()):
            cells, counts = y[seen[:, task], task], weights[seen[:, task]] > 0
            encode = _positions if kind == "classification" else _numbers
            values[seen[:, task], task], classes = encode(cells, counts, name, known[task])
            self.classes_.append(classes)
        return ArrayTargets(np.hstack([values, seen]))

    def _to_task(self, data: TrainingSet) -> tuple[Task, TrainingSet]:
        values, seen = np.hsplit(data.targets.values.copy(), 2)
        parts, factors = [], self._factors()
        for task, kind in enumerate(self.tasks_.values()):
            own = seen[:, task] > 0
            if kind == "classification":
                head = ClassificationTask(self.classes_[task])
                factors[task] /= np.log(len(self.classes_[task]))
            else:
                head = RegressionTask.fitted(values[own, task], data.weights[own])
                values[own, task] = head.encode(values[own, task])[:, 0]
            factors[task] *= data.weights.sum() / data.weights[own].sum()
            parts.append((kind, vars(head)))
        task = MultiTask(parts, factors, isinstance(self.loss_weights, str) and self.loss_weights == "uncertainty")
        return task, data.encoded(ArrayTargets(np.hstack([values, seen])))

    def _factors(self) -> np.ndarray:
        n, asked = len(self.tasks_), self.loss_weights
        try:
            factors = np.ones(n) if isinstance(asked, str) else np.array(asked, dtype=float)
        except (TypeError, ValueError):
            factors = np.full(n, np.nan)
        if factors.shape != (n,) or not np.isfinite(factors).all() or (factors < 0).any() or not factors.any():
            raise ValueError(
                f"loss_weights must be 'equal', 'uncertainty' or {n} numbers, none negative and not all zero; got "
                f"{self.loss_weights!r}."
            )
        return factors

    @property
    def _penalty(self) -> tuple[float | str, float | str]:
        return self.C, self.alpha

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output, tags.target_tags.single_output = True, False
        return tags


def table_of(y: Any) -> tuple[list[str], np.ndarray]:
    """Names of y's columns, and its cells as objects, (n, tasks).

    Raises
    ------
    ValueError
        If y has no columns, or two of one name.
    """
    if hasattr(y, "columns"):
        names = [str(name) for name in y.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"y has several columns of the name {', '.join(map(repr, twice))}, but tasks are told apart by their "
                f"names. Rename the columns; got {names!r}."
            )
        return names, np.column_stack([np.asarray(y[name], dtype=object) for name in y.columns])
    table = cells_of(y).astype(object)
    refuse_lists(table)
    table = table.reshape(-1, 1) if table.ndim == 1 else table
    if table.ndim != 2:
        raise ValueError(f"y must have a column per task, shape (n, tasks); got shape {table.shape}.")
    return [f"task{task}" for task in range(table.shape[1])], table


def _likely_kind(cells: np.ndarray) -> str:
    are_numbers = all(isinstance(cell, numbers.Real) and not isinstance(cell, bool | np.bool_) for cell in cells)
    return "regression" if are_numbers and any(float(cell) % 1 for cell in cells) else "classification"


def _told_kind(name: str, cells: np.ndarray) -> str:
    """The likely kind of a task, with a warning where whole numbers have so many values that they may be amounts."""
    kind = _likely_kind(cells)
    classes = np.unique(cells.tolist()) if kind == "classification" and not _mixes(cells) else np.empty(0)
    if looks_like_amounts(cells, classes):
        warnings.warn(
            f"Task {name!r} is taken for a classification, since its {len(cells)} numbers are whole, but they have "
            f"{len(classes)} different values. If they are amounts, pass tasks={{{name!r}: 'regression'}}, with the "
            "kind of each other task.",
            stacklevel=2,
        )
    return kind


def _mixes(cells: np.ndarray) -> bool:
    """Whether there are strings beside others, which cannot be sorted."""
    return len({isinstance(cell, str) for cell in cells}) > 1


def _positions(cells: np.ndarray, counts: np.ndarray, name: str, known: np.ndarray | None) -> tuple:
    """Labels -> positions among their classes, and these."""
    if _mixes(cells):
        kinds = sorted({type(cell).__name__ for cell in cells})
        raise ValueError(f"Task {name!r} mixes labels of kinds {kinds}, which cannot be sorted. Use one kind.")
    classes = np.unique(cells[counts].tolist()) if known is None else known
    if len(classes) < 2:
        raise ValueError(f"Task {name!r} needs labels of at least 2 classes; got one class: {classes.tolist()!r}.")
    labels = np.array(cells.tolist())
    strange = counts & ~np.isin(labels, classes)
    if strange.any():
        raise ValueError(f"Task {name!r} holds labels {np.unique(labels[strange])!r} that are not among {classes!r}.")
    return np.minimum(np.searchsorted(classes, labels), len(classes) - 1), classes


def _numbers(cells: np.ndarray, counts: np.ndarray, name: str, known: None) -> tuple:
    """Numbers as they are."""
    try:
        values = cells.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Task {name!r} is a regression, but holds what is no number ({error}).") from None
    if not np.isfinite(values).all():
        raise ValueError(f"Task {name!r} holds infinity: {values[~np.isfinite(values)][:3]!r}.")
    if not counts.any():
        raise ValueError(f"Task {name!r} has no label at all.")
    return values, None
