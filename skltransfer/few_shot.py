"""Classifiers for one to sixteen labels per class: nearest prototypes, and contrasting pairs before them."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skltransfer._estimators.classifier import ClassifierVerbs
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.parameters import declared, parameter, share
from skltransfer.backbones import Backbone, freeze_boundary
from skltransfer.engine import (
    ArrayTargets,
    NetworkSpec,
    PrototypeTask,
    Task,
    TrainingPlan,
    TrainingSet,
)

OWN = ("freeze_depth", "max_epochs", "batch_size", "learning_rate", "random_state")


@declared
class FewShotClassifier(ClassifierVerbs, ClassifierMixin, FineTuner):
    """Classify images, texts, audio or rows from 1 to 16 labelled samples per class.

    Features of a pretrained network are scaled to length 1; each class is the mean of its samples there, its prototype,
    and a sample belongs to the nearest [1]_. There is no rate to choose, and fitting takes no training at all.
    ``method="contrastive"`` first trains the stages after a boundary, so that samples of a class come together and
    others part, on all pairs of each batch, as SetFit does [2]_; no pair is stored.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    method : {"prototype", "contrastive"}, default="prototype"
        Whether the network stays as it was.
    shrinkage : float in (0, 1], default=0.95
        Near is meant under the covariance within classes, shrunk this far towards a multiple of the identity; at 1.0
        distances are Euclidean.
    freeze_depth : float, int or str, default=0.75
        How much of the backbone stays as it was, for ``method="contrastive"``; see :class:`FineTunedClassifier`.
    max_epochs : int, default=20
        Passes over the training set; this and the next two for ``method="contrastive"``.
    batch_size : int, default=32
        Samples whose pairs are looked at together.
    learning_rate : float, default=1e-4
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
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
        How rows that cannot be read are treated: ``"nan"`` leaves them out of ``fit``, with a warning.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it
        (cosine similarity of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations. ``"memory"`` is shared by all estimators of the process,
        up to 1 GiB. A folder is shared with other processes and later runs too, up to 5 GiB.
    random_state : int, RandomState instance or None, default=None
        Order of samples and dropout, for ``method="contrastive"``.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    input_kind_ : {"samples", "table"}
        Whether ``fit`` saw a collection of samples or a table of numbers; other methods must be given the same.
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    n_iter_ : int
        Epochs of training; 1 for prototypes.
    history_ : dict of str to list of float
        One entry per epoch.
    freeze_boundary_ : str
        The last frozen stage.
    n_stages_, n_frozen_stages_, n_trainable_params_ : int
    dtype_, device_ : str
    duplicates_ : list of list of int
        Rows of equal content.
    bad_samples_ : list of int
        Rows that ``fit`` left out, if any.
    n_truncated_ : int
        Training texts, or audio clips, of which a part was left out because they are longer than the network's input;
        a warning says so too.

    See Also
    --------
    FineTunedClassifier : For more labels.

    References
    ----------
    .. [1] J. Snell, K. Swersky, R. Zemel (2017), "Prototypical networks for few-shot learning", NeurIPS.
    .. [2] L. Tunstall et al. (2022), "Efficient few-shot learning without prompts", arXiv:2209.11055.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FewShotClassifier
    >>> photos = np.random.default_rng(0).random((8, 16, 16)) * 0.5
    >>> photos[::2, :8] += 0.5
    >>> FewShotClassifier("toy:images").fit(photos, ["above", "below"] * 4).predict(photos[:2]).tolist()
    ['above', 'below']
    """

    method: str = parameter(default="prototype", constraint=[StrOptions({"prototype", "contrastive"})])
    shrinkage: float = parameter(default=0.95, constraint=share("right"))
    freeze_depth: float | str = parameter(default=0.75)
    max_epochs: int = parameter(default=20)
    learning_rate: float = parameter(default=1e-4)

    def _job_options(self, backbone: Backbone, start: Any, single_pass: bool) -> dict[str, Any]:
        return {}

    def _spec(self, backbone: Backbone, start: Any) -> NetworkSpec:
        boundary = freeze_boundary(self.freeze_depth, backbone.stage_names)
        boundary = boundary if self.method == "contrastive" else backbone.n_stages
        return NetworkSpec(boundary, self._resolved_pooling(backbone), normalizes=True)

    def _plan(self, single_pass: bool) -> TrainingPlan:
        """A plan with one learning rate, for the backbone alone; the rest is at its default."""
        return TrainingPlan(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            backbone_lr_factor=1.0,
            seed=self._seed(),
            verbose=int(self.verbose),
        )

    def _encode(self, y: np.ndarray, weights: np.ndarray) -> ArrayTargets:
        check_classification_targets(y)
        return ArrayTargets(self._label_positions(column_or_1d(y, warn=True), weights))

    def _to_task(self, data: TrainingSet) -> tuple[Task, TrainingSet]:
        return PrototypeTask(self.classes_), data

    @property
    def _penalty(self) -> float:
        return self.shrinkage
