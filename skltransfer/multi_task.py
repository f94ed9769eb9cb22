"""Several tasks from the same samples: one backbone, a head per task, labels that may be missing."""

import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import StrOptions

from skltransfer._estimators.parameters import (
    HasAdapter,
    HasLogisticProbe,
    HasRidgeProbe,
    ReadsColumns,
    TrainsFully,
    WarmStarts,
    declared,
    parameter,
)
from skltransfer._estimators.target_checks import cells_of, looks_like_amounts, missing, refuse_lists
from skltransfer._estimators.vector_fine_tuner import VectorFineTuner
from skltransfer.engine import (
    ArrayTargets,
    ClassificationTask,
    MultiTask,
    RegressionTask,
    Task,
    TrainingSet,
)
from skltransfer.inputs import Samples

KINDS = ("classification", "regression")


@declared
class MultiTaskFineTuner(
    WarmStarts, HasAdapter, HasRidgeProbe, HasLogisticProbe, ReadsColumns, TrainsFully, VectorFineTuner
):
    """Predict several targets of each image, text, audio clip or row of numbers with one fine-tuned network.

    The backbone determines what X holds: images, texts, audio clips or rows of a table. Choose this class if each
    sample has several targets (tasks) of labels or numbers, and some of them may be missing (None or NaN); a missing
    cell counts in no loss. For one target, or several of one kind without missing cells, :class:`FineTunedClassifier`
    and :class:`FineTunedRegressor` are simpler.

    y has one column per task. Each task has its own head, and all tasks share the stages that ``freeze_depth`` leaves
    trainable. Sharing helps some tasks and hurts others: compare with separate fits on the same folds, as
    :func:`task_report` does.

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
    tasks : dict, list or None, default=None
        Kind of each task, ``"classification"`` or ``"regression"``: a list in the order of y's columns, or a dict by
        column name. If None, a column with numbers that are not whole is a regression, and any other column a
        classification. Pass a multilabel target as one column of 0 and 1 per label.
    loss_weights : {"equal", "uncertainty"} or array-like of shape (n_tasks,), default="equal"
        Weights of the tasks' losses, none negative and at least one positive. ``"equal"`` gives each task the same
        weight, after cross-entropies are divided by ``log(n_classes)`` and numbers are standardized, so that a
        prediction without information costs 1 in each task [1]_. ``"uncertainty"`` learns the weights as a variance per
        task [2]_.
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
        Initial weights of a linear head. ``"probe"`` solves one logistic or ridge regression per task on frozen
        features and starts from a tenth of their weights (more if ``learning_rate`` and the number of steps are too
        small to restore them), which keeps early steps from distorting the pretrained features [3]_. At
        ``freeze_depth=1.0`` the probes themselves are the fitted heads, and tasks share nothing. ``"random"`` draws the
        weights and trains the heads from scratch.
    C : float or "auto", default="auto"
        Inverse of the strength of the L2 penalty of each classification probe, as in ``LogisticRegression``; must be
        positive. ``"auto"`` chooses the strength for each task by generalized cross-validation [5]_.
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty of each regression probe, as in ``Ridge``; must be positive. ``"auto"`` chooses the
        strength for each task by generalized cross-validation [5]_.
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [4]_. None trains all
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
        If True, ``fit`` continues from the previous fit. The backbone, ``freeze_depth``, ``head``, ``pooling``,
        ``adapter``, the tasks and their classes must be the same.
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
        warning; their probabilities are NaN, and ``predict`` raises.
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
    tasks_ : dict of str to str
        Name and kind of each task, in the order of y's columns.
    classes_ : list of (ndarray of shape (n_classes,) or None)
        Sorted class labels of each task; None for a regression.
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
    FineTunedClassifier : Fine-tune a network for one classification target.
    FineTunedRegressor : Fine-tune a network for numeric targets.
    task_report : Test whether the tasks help each other.

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
        """Predict the label or number of each task.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to predict: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        ndarray of shape (n_samples, n_tasks), or (n_samples,) for one task
            Predictions. The dtype is object if the tasks' labels and numbers are of different kinds.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read, also with ``on_bad_sample="nan"``, because no label stands for a missing
            prediction.
        ValueError
            If X is not of the kind that ``fit`` saw, or has another number of features.
        WeightsError
            If the weights of the backbone changed since ``fit``.
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
        """Predict the probability of each class of each task.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to classify: images, texts or audio clips as in ``fit``, or rows of a table.

        Returns
        -------
        list of (ndarray of float64, shape (n_samples, n_classes), or None)
            One array per task, with classes in the order of ``classes_`` and rows that sum to 1, or None for a
            regression. For a single task, its array instead of a list. With ``on_bad_sample="nan"``, a sample that
            cannot be read is NaN.

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
        found = self._task_.probabilities(outputs)
        return found[0] if len(found) == 1 else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the mean over tasks of the accuracy, or of R² for a regression.

        Missing cells of y are not scored. The score differs from that of ``MultiOutputClassifier``, which is the
        fraction of rows whose labels are all correct.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to predict: images, texts or audio clips as in ``fit``, or rows of a table.
        y : array-like of shape (n_samples, n_tasks)
            True labels or numbers, with one column per task. Missing cells (None or NaN) are not scored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights of the score. None gives each sample the same weight.

        Returns
        -------
        float
            Mean score; NaN if a task has no label in y.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read.
        """
        return float(np.mean(list(self.score_tasks(X, y, sample_weight).values())))

    def score_tasks(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Compute the accuracy of each task, or R² for a regression.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to predict: images, texts or audio clips as in ``fit``, or rows of a table.
        y : array-like of shape (n_samples, n_tasks)
            True labels or numbers, with one column per task. Missing cells (None or NaN) are not scored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights of the score. None gives each sample the same weight.

        Returns
        -------
        dict of str to float
            Score of each task by name; NaN for a task that has no label in y.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        BadSampleError
            If a sample cannot be read.
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

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        names, table = table_of(y)
        check_consistent_length(samples, table)
        self.tasks_ = dict(zip(names, self._kinds(names, table), strict=True))
        return table

    def _checked_validation_target(self, y_val: Any, samples: Samples, y: np.ndarray) -> np.ndarray:
        """y_val with the tasks of y, whose kinds y alone decides, in its order."""
        names, table = table_of(y_val)
        check_consistent_length(samples, table)
        if sorted(names) != sorted(self.tasks_):
            raise ValueError(f"y_val has the columns {names!r}, but those of y are {list(self.tasks_)!r}.")
        return table[:, [names.index(name) for name in self.tasks_]]

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

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Task, TrainingSet]:
        values, seen = np.hsplit(data.targets.values.copy(), 2)
        if task is not None:
            for number, head, _ in task.places():
                if isinstance(head, RegressionTask):
                    own = seen[:, number] > 0
                    values[own, number] = head.encode(values[own, number])[:, 0]
            return task, data.encoded(ArrayTargets(np.hstack([values, seen])))
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
                f"y has several columns of the name {', '.join(map(repr, twice))}, but each task needs its own name. "
                f"Rename the columns; got {names!r}."
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
    """True if there are strings beside others, which cannot be sorted."""
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
