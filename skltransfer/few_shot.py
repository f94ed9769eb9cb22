"""Classifiers for one to sixteen labels per class: nearest prototypes, and contrasting pairs before them."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from skltransfer._estimators.class_names import described_classes
from skltransfer._estimators.classifier import ClassifierVerbs
from skltransfer._estimators.parameters import declared, parameter, share
from skltransfer._estimators.vector_fine_tuner import VectorFineTuner
from skltransfer.backbones import Backbone, freeze_boundary, shared_space, text_tower
from skltransfer.engine import (
    ArrayTargets,
    Described,
    MultilabelPrototypeTask,
    NetworkSpec,
    PrototypeTask,
    Task,
    TrainingPlan,
    TrainingSet,
    TuningJob,
    TuningResult,
)
from skltransfer.exceptions import UnsupportedBackboneError
from skltransfer.inputs import NOUNS, JoinedSamples, Samples, samples_from_collection

OWN = ("freeze_depth", "max_epochs", "batch_size", "learning_rate", "random_state")


@declared
class FewShotClassifier(ClassifierVerbs, ClassifierMixin, VectorFineTuner):
    """Classify images, texts, audio or rows of numbers from 1 to 16 labeled samples per class.

    The backbone determines what X holds: images, texts, audio clips or rows of a table. Choose this class if there are
    too few labels to tune parameters; its defaults need no tuning. With more labels, :class:`FineTunedClassifier` is
    usually the better choice. If the data to classify come from another source than the labeled data, see
    :class:`DomainAdaptedClassifier`.

    Embeddings of a pretrained network are scaled to length 1. Each class is represented by the mean of its samples, its
    prototype, and a sample gets the class of the nearest prototype [1]_; nothing is trained. ``method="contrastive"``
    first trains the last stages of the network, so that samples of the same class move together and samples of
    different classes move apart, on all pairs of each batch as in SetFit [2]_.

    For a multilabel target, a matrix of 0 and 1 with one column per label, each label has two prototypes: the mean of
    the samples that have it, and the mean of the others.

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
    method : {"prototype", "contrastive"}, default="prototype"
        ``"prototype"`` keeps the pretrained network unchanged. ``"contrastive"`` trains its last stages before the
        prototypes are computed, which takes longer.
    class_names : dict or bool or None, default=None
        Descriptions of the classes, for networks of texts and for the image tower of a CLIP network, such as
        ``"hf:openai/clip-vit-base-patch32:vision"``: a dict from label to a text, or to a list of texts. Each
        description joins the training set like one labeled sample of weight 1, so ``fit`` also works for classes
        without samples, and with ``y=None`` from the descriptions alone (zero-shot classification). True takes labels
        that are strings as their own descriptions.
    prompt : str, default="{}"
        Template of the descriptions in ``class_names``, such as ``"a photo of a {}"``. It contains ``{}`` once,
        where the description goes.
    shrinkage : float in (0, 1], default=0.95
        Shrinkage of the covariance within classes toward a multiple of the identity; distances to prototypes are
        measured under this covariance. At 1.0 distances are Euclidean. The default is high because few samples give a
        poor estimate of a covariance.
    freeze_depth : float, int or str, default=0.75
        How much of the backbone is frozen, as in :class:`FineTunedClassifier`. It has an effect only with
        ``method="contrastive"``.
    max_epochs : int, default=20
        Number of passes over the training set. It has an effect only with ``method="contrastive"``.
    batch_size : int, default=32
        Maximum number of samples per training step; all pairs within a batch are compared. It has an effect only with
        ``method="contrastive"``.
    learning_rate : float, default=1e-4
        Learning rate of all trained stages (AdamW). It has an effect only with ``method="contrastive"``.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the output of the last stage (a feature map or a sequence of tokens) becomes one vector: the first token
        (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions one after the
        other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
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
    window_pooling : {"mean", "max"}, default="mean"
        How the windows of a long sample give one prediction, with ``long_samples="windows"``. ``"mean"`` averages their
        embeddings, or with ``method="contrastive"`` their predicted probabilities. ``"max"`` takes the maximum of each
        feature over the windows. It has no effect on samples that fit into one window.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How samples that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` leaves them out of ``fit`` with a
        warning; their probabilities are NaN, and ``predict``, which has no label for them, raises.
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
        Controls the order of samples and dropout with ``method="contrastive"``. Pass an int for reproducible results.
    verbose : int, default=0
        If positive, show progress bars.

    Attributes
    ----------
    input_kind_ : {"samples", "table", "pairs"}
        Kind of X that ``fit`` received: a collection of images, texts or audio, a table of numbers, or pairs of texts.
        Other methods require the same kind.
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels. For a multilabel target, the numbers of its columns.
    n_features_in_ : int
        Number of columns of X. Only defined if X has columns.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.
    n_iter_ : int
        Number of training epochs; 1 for prototypes.
    history_ : dict of str to list of float
        Training history with one value per epoch for each entry.
    freeze_boundary_ : str
        Name of the last frozen stage, or ``"input"`` if no stage is frozen.
    n_stages_, n_frozen_stages_, n_trainable_params_ : int
        Number of stages of the backbone, number of frozen ones, and number of weights that were trained.
    dtype_, device_, runtime_ : str
        Data type, device and runtime that were used.
    int8_agreement_ : dict of str to float
        How near features in 8 bits are to float32, on up to 64 training samples: ``"cosine"``, the least cosine
        similarity, and ``"equal_labels"``, the share of equal predictions. Only defined with ``dtype="int8"``.
    duplicates_ : list of list of int
        Groups of rows of X with identical content. Keep each group in one fold of a cross-validation (``GroupKFold``);
        copies in the test set inflate the score.
    bad_samples_ : list of int
        Rows of X that could not be read and were left out of ``fit``. Only defined if there are any, with
        ``on_bad_sample="nan"``.
    n_truncated_ : int
        Number of training texts or audio clips that were truncated because they are longer than the network's input;
        ``fit`` also warns. Only defined for text and audio.

    See Also
    --------
    FineTunedClassifier : Classifier for more labeled samples.
    PretrainedFeatureExtractor : Frozen embeddings as a scikit-learn transformer.

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

    Descriptions of the classes can replace samples, if the network reads text:

    >>> model = FewShotClassifier("toy:text", class_names={"pos": "a good film", "neg": "a bad film"})
    >>> model.fit(["a good film, indeed"], None).predict(["a bad film"]).tolist()
    ['neg']
    """

    method: str = parameter(default="prototype", constraint=[StrOptions({"prototype", "contrastive"})])
    class_names: dict | bool | None = parameter(default=None, constraint=[dict, "boolean", None])
    prompt: str = parameter(default="{}", constraint=[str])
    shrinkage: float = parameter(default=0.95, constraint=share("right"))
    freeze_depth: float | str = parameter(default=0.75)
    max_epochs: int = parameter(default=20)
    learning_rate: float = parameter(default=1e-4)
    window_pooling: str = parameter(default="mean", constraint=[StrOptions({"mean", "max"})])

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        if y is None and self.class_names and isinstance(self.class_names, Mapping):
            return np.full(len(samples), None, dtype=object)
        return super()._checked_target(y, samples)

    def _with_descriptions(
        self, samples: Samples, y: np.ndarray, weights: np.ndarray, backbone: Backbone
    ) -> tuple[Samples, np.ndarray, np.ndarray]:
        if not self.class_names:
            return samples, y, weights
        if backbone.modality != "text" and shared_space(backbone) is None:
            raise UnsupportedBackboneError(
                f"class_names needs a network that reads names, too, but {backbone.name!r} reads "
                f"{NOUNS[backbone.modality]}. Use a text network such as 'bundled:minilm', a network for images and "
                "texts such as 'hf:openai/clip-vit-base-patch32:vision', or set class_names=None."
            )
        is_labeled = any(one is not None for one in y.flat)
        if is_labeled and type_of_target(y).startswith("multilabel"):
            raise ValueError(
                f"class_names describes labels that exclude each other, but y has {y.shape[1]} columns of 0 and 1. Set "
                "class_names=None."
            )
        y = column_or_1d(y, warn=True)
        labels, texts = described_classes(self.class_names, self.prompt, y if is_labeled else None)
        if backbone.modality != "text":
            return samples, *self._beside_texts(y, weights, backbone, labels, texts, is_labeled=is_labeled)
        weights = weights if is_labeled else np.zeros(len(y))
        y = y if is_labeled else np.full(len(y), labels[0])
        return (
            JoinedSamples([samples, self._read(texts, backbone)], ["X", "class_names"]),
            np.concatenate([y, labels]),
            np.concatenate([weights, np.ones(len(labels))]),
        )

    def _beside_texts(
        self,
        y: np.ndarray,
        weights: np.ndarray,
        backbone: Backbone,
        labels: np.ndarray,
        texts: list[str],
        *,
        is_labeled: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """y and weights of images, whose classes are described by texts that another tower embeds."""
        if self.method == "contrastive":
            raise ValueError(
                "method='contrastive' moves images away from where class_names are, since it trains the tower of the "
                "images alone. Use method='prototype', or set class_names=None."
            )
        if self._resolved_pooling(backbone) != backbone.pooling:
            raise ValueError(
                f"pooling={self.pooling!r} gives no embedding that {backbone.name!r} compares with texts. Use "
                f"pooling='auto', which is {backbone.pooling!r}, or set class_names=None."
            )
        tower = text_tower(backbone)
        space, reader = shared_space(tower), copy.copy(self).set_params(pooling="auto")
        found = reader._last_features(samples_from_collection(texts, "text", **tower.reading), tower)
        with torch.inference_mode():
            features = space.projection(torch.tensor(found)).double().numpy()
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        self.classes_ = np.unique(labels)
        self._described_ = Described(features, np.searchsorted(self.classes_, labels), space.scale)
        self._is_labeled_ = is_labeled
        return (y if is_labeled else np.full(len(y), labels[0])), weights

    def _job_options(self, backbone: Backbone, start: Any, single_pass: bool) -> dict[str, Any]:
        return {}

    def _spec(self, backbone: Backbone, start: Any) -> NetworkSpec:
        boundary = freeze_boundary(self.freeze_depth, backbone.stage_names)
        boundary = boundary if self.method == "contrastive" else backbone.n_stages
        space = shared_space(backbone) if self.class_names and backbone.modality != "text" else None
        return NetworkSpec(
            boundary,
            self._resolved_pooling(backbone),
            normalizes=True,
            window_pooling=self._resolved_window_pooling(backbone),
            projected=0 if space is None else space.width,
        )

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
        targets = self._encode_labels(y, weights)
        if targets.values.ndim == 1:
            return targets
        if self.method == "contrastive":
            raise ValueError(
                f"method='contrastive' moves samples of one class together, but y has {y.shape[1]} columns of labels "
                "that do not exclude each other. Use method='prototype', or FineTunedClassifier."
            )
        self._warn_of_constant_labels(targets.values[weights > 0])
        return targets

    def _warn_of_constant_labels(self, indicators: np.ndarray) -> None:
        for seen, name in ((0, "in no sample"), (len(indicators), "in all samples")):
            columns = np.flatnonzero(indicators.sum(0) == seen).tolist()
            if columns:
                answer = "never" if seen == 0 else "always"
                warnings.warn(
                    f"The labels of columns {columns[:10]} of y are {name}, so they will {answer} be predicted.",
                    stacklevel=6,
                )

    def _to_task(self, data: TrainingSet, task: Any = None) -> tuple[Task, TrainingSet]:
        if data.targets.values.ndim == 2:
            return task or MultilabelPrototypeTask(self.classes_), data
        described = getattr(self, "_described_", None)
        if described is not None and not self._is_labeled_:
            data = data.encoded(ArrayTargets(np.full(len(data), -1)))
        return task or PrototypeTask(self.classes_, bool(self.class_names), described), data

    def _set_fitted(self, job: TuningJob, result: TuningResult) -> None:
        super()._set_fitted(job, result)
        if isinstance(self._task_, PrototypeTask):
            self._task_ = PrototypeTask(self.classes_)  # what only a fit needs is not kept
        for name in ("_described_", "_is_labeled_"):
            vars(self).pop(name, None)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = self.method == "prototype"
        return tags

    @property
    def _penalty(self) -> float:
        return self.shrinkage
