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
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.parameters import (
    HasLogisticProbe,
    SmoothsLabels,
    TrainsFully,
    at_least_zero,
    declared,
    parameter,
)
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
    ClassifierVerbs, ClassifierMixin, SmoothsLabels, HasLogisticProbe, TrainsFully, FineTuner
):
    """Classify images, texts, audio or rows of a target domain without labels, from a labelled source domain.

    The stages after the boundary are trained on the labels of the source, while a second stream of target samples draws
    the network towards the target. Not always to its good: compare with ``method=None``, and heed the warnings.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    method : {"mcc", "deep_coral", "norm_statistics"} or None, default="mcc"
        ``"mcc"`` adds a loss on how far the predictions of target samples mix classes up [1]_; ``"deep_coral"`` one on
        how far covariances of features differ between the domains [2]_. ``"norm_statistics"`` gives BatchNorm layers of
        unfrozen stages the source's statistics, trains on the source, then gives them the target's [3]_. None is the
        baseline: the source alone.
    adaptation_weight : float, default=1.0
        Weight of the added loss; it rises from zero in the course of training.
    prior : float, default=0.0
        For ``"norm_statistics"``: how many samples the old statistics are worth, each time.
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
        Whether a linear head starts from the probe, a logistic regression on the frozen features solved to convergence,
        which keeps early steps from distorting the backbone [4]_. The head starts at a tenth of the probe's
        weights, which leaves the backbone a gradient to learn from; at more where ``learning_rate`` and the number of
        steps are too small to grow them back.
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in ``LogisticRegression``; positive. ``"auto"`` chooses it for
        these samples and features: the strength of the ridge regression on class indicators that generalized
        cross-validation prefers [6]_.
    max_epochs : int, default=10
        Passes over the training set. With ``method=None`` (or without target samples), ``freeze_depth=1.0`` and a
        linear head there are none: the probe is the whole fit, and the parameters of training below have no effect.
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
        epochs and a schedule of its own for each [5]_; None trains all unfrozen stages from the start.
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm in unfrozen stages are treated. ``"frozen"`` keeps them; ``"train"``
        begins with those of the training samples and updates them. Scale and shift are trained either way.
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss; the probe is solved without it.
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
        Sorted labels of the source samples.
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    domain_report_ : dict
        ``n_source``, ``n_target``; ``proxy_a_distance`` of the tuned features, from 0 where a linear classifier cannot
        tell the domains apart to 2 where it never errs; ``target_mix``, the share of each class among the predictions
        of this network. Of a logistic regression of the source alone on the backbone's features as they came, scaled on
        both domains: ``source_mix``, of source samples that it had not seen; ``label_shift``, the distance of its
        predictions for target samples from them, in [0, 1]; ``expected_error``, the share of the latter that is thought
        to be wrong.
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

    Warns
    -----
    AdaptationWarning
        In ``fit``, if predicted shares of classes suggest label shift, or if there is no target sample.

    See Also
    --------
    FeatureAdaptedClassifier : On features that are there already; the safer choice where nothing is known.

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

    @checks_parameters()
    def fit(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> Self:
        """Learn from source samples with labels and target samples without.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
            Samples of both domains.
        y : array-like of shape (n,)
            Labels of source samples; target samples are masked: -1 among whole numbers, NaN among other numbers, None
            among objects such as strings. Beside a single other label, -1 is a label.
        sample_weight : array-like of shape (n,), default=None
            Weights of source samples; not negative.
        sample_domain : array-like of int, shape (n,), default=None
            At least 0 for source samples, negative for target samples, whose y is then not looked at. Wins over the
            mask, and is needed for labels -1 and +1.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, y, a weight or a domain is not what it should be.
        BadSampleError
            With the row, if a sample cannot be read.
        TrainingDivergedError
            If the loss is no longer a number.
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
        """Accuracy on samples with labels: where target samples are masked, on the source samples beside them.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : array-like of shape (n,)
            Labels; if some are masked as in ``fit``, these samples do not count.
        sample_weight : array-like of shape (n,), default=None
        sample_domain : array-like of int, shape (n,), default=None
            If samples of both domains come, source samples count alone.

        Returns
        -------
        float
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

    def _to_task(self, data: TrainingSet) -> tuple[Task, TrainingSet]:
        return ClassificationTask(self.classes_, self.label_smoothing), data

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
        return self._last_features(self._samples(X, backbone, reset=False), backbone, self.dtype_)


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
