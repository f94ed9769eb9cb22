"""Parameters that several estimators have: each declared once, with its type, default, constraint and documentation.

Groups are dataclasses from which estimators are put together: ``declared`` generates a bare ``__init__`` and collects
the constraints that ``fit`` checks. Docstrings of estimators stay literal; ``tests/parameter_docs.py`` compares each
entry with the group's, and writes it. Must not know what is done with a parameter.
"""

import numbers
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skltransfer.backbones import LONG_SAMPLES, POOLINGS, RESIZINGS, Backbone
from skltransfer.engine import DTYPE_NAMES, RUNTIMES, ActivationStore

Class = TypeVar("Class", bound=type)


def positive(kind: type = numbers.Real) -> list:
    """The constraint "a positive number"."""
    whole = kind is numbers.Integral
    return [Interval(kind, 1 if whole else 0, None, closed="left" if whole else "neither")]


def at_least_zero() -> list:
    """The constraint "a number that is not negative"."""
    return [Interval(numbers.Real, 0, None, closed="left")]


def share(closed: str = "neither") -> list:
    """The constraint "a number between 0 and 1"."""
    return [Interval(numbers.Real, 0, 1, closed=closed)]


def parameter(*, default: Any, constraint: list | str | None = None, **how: Any) -> Any:
    """A field of a group; type checkers need ``default`` and ``constraint`` by name.

    Parameters
    ----------
    default : object
        Default value of the parameter.
    constraint : list or str, optional
        Constraint in the form of scikit-learn's ``_parameter_constraints``. Without it, the constraint of the group's
        parameter of the same name applies.
    **how : object
        Further arguments of :func:`dataclasses.field`.
    """
    return field(default=default, metadata={"constraint": constraint}, **how)


@dataclass_transform(kw_only_default=True, field_specifiers=(parameter,))
def declared(cls: Class) -> Class:
    """A dataclass in its signature alone, whose constraints are those of its parameters."""
    cls = dataclass(kw_only=True, eq=False, repr=False)(cls)
    cls._parameter_constraints = {one.name: constraint_of(cls, one.name) for one in fields(cls)}
    return cls


def constraint_of(cls: type, name: str) -> list | str:
    """The constraint of a parameter: its own, or that of the group which declared it."""
    declarations = (base.__dict__.get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    known = (one.metadata["constraint"] for one in declarations if one is not None)
    return next(constraint for constraint in known if constraint is not None)


@declared
class RunsBackbone:
    """The network, and where and how it runs.

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
    verbose : int, default=0
        If positive, show progress bars.
    """

    backbone: str | Backbone = parameter(
        default="bundled:efficientnet-lite0",
        constraint="no_validation",  # load_backbone has words for what it is not
        kw_only=False,
    )
    weights: str = parameter(default="pretrained", constraint=[str, os.PathLike])
    on_bad_sample: str = parameter(default="raise", constraint=[StrOptions({"raise", "nan"})])
    device: str = parameter(default="auto", constraint=[str])
    dtype: str = parameter(default="auto", constraint=[StrOptions({"auto", *DTYPE_NAMES})])
    runtime: str = parameter(default="auto", constraint=[StrOptions({"auto", *RUNTIMES})])
    cache: str | os.PathLike | ActivationStore | None = parameter(
        default="memory", constraint=[str, os.PathLike, ActivationStore, None]
    )
    verbose: int = parameter(default=0, constraint=["verbose"])


@declared
class ReadsTexts:
    """How many tokens of a text are read.

    Parameters
    ----------
    max_length : int, default=None
        Maximum number of tokens per text, special tokens included. None uses the network's own limit, at most 512. It
        has no effect on images and audio.
    """

    max_length: int | None = parameter(
        default=None, constraint=[Interval(numbers.Integral, 1, None, closed="left"), None]
    )


@declared
class ReadsImages:
    """At which size images are read, and how they become square.

    Parameters
    ----------
    input_size : int, default=None
        Side of the square input of an image network, in pixels, if the network accepts several sizes. A smaller one is
        faster and often suits small images. None keeps the setting with which ``backbone`` was loaded, by default the
        size for which the weights were made.
    resize : {"crop", "letterbox", "squash"} or None, default=None
        How an image that is not square becomes the square input. ``"crop"`` resizes its shorter side, and cuts off what
        is left of its longer side. ``"letterbox"`` resizes its longer side, and fills the rest with the mean color.
        ``"squash"`` resizes both sides and changes the aspect ratio. None keeps the setting with which ``backbone`` was
        loaded, by default what was done in the pretraining.
    """

    input_size: int | None = parameter(default=None, constraint=[*positive(numbers.Integral), None])
    resize: str | None = parameter(default=None, constraint=[StrOptions(set(RESIZINGS)), None])


@declared
class ReadsAudio:
    """At which rate audio was sampled.

    Parameters
    ----------
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that is passed as arrays without a rate. Audio files and ``(array, rate)`` pairs
        bring their own.
    """

    sampling_rate: int | None = parameter(
        default=None, constraint=[Interval(numbers.Integral, 1, None, closed="left"), None]
    )


@declared
class ReadsBackbone(ReadsAudio, ReadsTexts, ReadsImages, RunsBackbone):
    """The network, how samples of all kinds are read, and how its output becomes a vector.

    Parameters
    ----------
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the output of the last stage (a feature map or a sequence of tokens) becomes one vector: the first token
        (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions one after the
        other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
    image_shape : tuple of int, default=None
        Shape ``(height, width)`` or ``(height, width, channels)`` of flattened images in the rows of a 2-D X. If None,
        an image backbone reads each row of a 2-D X as a single line of pixels, stretched to the input size.
    """

    pooling: str = parameter(default="auto", constraint=[StrOptions({"auto", *POOLINGS})])
    image_shape: tuple[int, ...] | None = parameter(default=None, constraint=[tuple, list, None])


@declared
class ReadsLongSamples:
    """How samples that are longer than the network's input are treated.

    Parameters
    ----------
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
    """

    long_samples: str | None = parameter(default=None, constraint=[StrOptions(set(LONG_SAMPLES)), None])
    window_pooling: str = parameter(default="mean", constraint=[StrOptions({"mean", "max", "vote"})])


@declared
class ReadsColumns:
    """Which column of a table holds the samples.

    Parameters
    ----------
    sample_column : str or int, default=None
        Name or position of the column of X that holds the samples, if X is a data frame (or a 2-D array) whose other
        columns hold numbers. The head is then trained on the pooled features and these numbers (late fusion), both
        standardized and scaled to the same total variance. Encode categories and fill missing values before. None
        expects X to hold samples alone.
    """

    sample_column: str | int | None = parameter(default=None, constraint=[str, numbers.Integral, None])


@declared
class TrainsStages:
    """How many stages are trained, and for how long.

    Parameters
    ----------
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the input:
        1.0 trains only the head, 0.0 trains everything, and any number between them keeps at least one stage on either
        side. ``-k`` freezes all but the last k stages. The name of a stage freezes the network up to and including that
        stage; :func:`describe_backbone` lists the names.
    max_epochs : int, default=10
        Maximum number of passes over the training set. At ``freeze_depth=1.0`` with a linear head and without
        ``augment``, the head is solved rather than trained: this parameter and all training parameters below have no
        effect.
    batch_size : int, default=32
        Maximum number of samples per training step. All batches of an epoch have about the same number of samples.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW).
    random_state : int, RandomState instance or None, default=None
        Controls the order of samples, dropout, the held-out samples and random initial weights. Pass an int for
        reproducible results. As in scikit-learn, None draws a seed from NumPy's global generator. torch's global
        generator is left unchanged.
    """

    freeze_depth: float | str = parameter(
        default=0.5,
        constraint="no_validation",  # read by value, with a message of its own
    )
    max_epochs: int = parameter(default=10, constraint=positive(numbers.Integral))
    batch_size: int = parameter(default=32, constraint=positive(numbers.Integral))
    learning_rate: float = parameter(default=1e-3, constraint=positive())
    random_state: int | np.random.RandomState | None = parameter(default=None, constraint=["random_state"])


@declared
class HasHead:
    """The head, and what it begins with.

    Parameters
    ----------
    head : {"linear", "mlp"}, default="linear"
        Type of the head. ``"linear"`` is one linear layer; ``"mlp"`` adds one hidden layer of 256 rectified units.
    """

    head: str = parameter(default="linear", constraint=[StrOptions({"linear", "mlp"})])
    head_init: str = parameter(default="probe", constraint=[StrOptions({"probe", "random"})])


@declared
class TrainsJointly:
    """How head and stages are trained together.

    Parameters
    ----------
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
        stage at a time, each with an equal share of the epochs and its own learning rate schedule [3]_. None trains all
        unfrozen stages from the start.
    """

    backbone_lr_factor: float = parameter(default=0.1, constraint=at_least_zero())
    layer_decay: float = parameter(default=1.0, constraint=share("right"))
    weight_decay: float = parameter(default=0.01, constraint=at_least_zero())
    lr_schedule: str = parameter(default="cosine", constraint=[StrOptions({"cosine", "constant"})])
    warmup: float = parameter(default=0.1, constraint=share("left"))
    max_grad_norm: float | None = parameter(default=None, constraint=[*positive(), None])
    unfreeze_schedule: str | None = parameter(default=None, constraint=[StrOptions({"gradual"}), None])


@declared
class TrainsHead(TrainsJointly, HasHead):
    """The head, and how it is trained together with stages."""


@declared
class TrainsOnImages:
    """What training does with images, and with networks that have BatchNorm layers.

    Parameters
    ----------
    norm_policy : {"frozen", "train"}, default="frozen"
        How the running statistics of BatchNorm layers in unfrozen stages are treated. ``"frozen"`` keeps the pretrained
        statistics; ``"train"`` replaces them with those of the training samples and then updates them. Scale and shift
        are trained in both cases.
    augment : callable, default=None
        Random augmentation of training images: a transform of ``torchvision.transforms.v2`` that maps a uint8 tensor of
        shape (3, height, width) to another one, or a ``Compose`` of albumentations 2. It is applied before the
        backbone's own preprocessing, each time an image is used. The frozen stages then run in every epoch, and at
        ``freeze_depth=1.0`` the head is trained rather than solved. Wrap a single transform in ``Compose``, because its
        ``get_params`` method conflicts with scikit-learn's.
    """

    norm_policy: str = parameter(default="frozen", constraint=[StrOptions({"frozen", "train"})])
    augment: Callable | None = parameter(default=None, constraint=[callable, None])


@declared
class StopsEarly:
    """When training stops before its last epoch.

    Parameters
    ----------
    early_stopping : bool, default=False
        If True, hold out ``validation_fraction`` of the samples, stop when their loss no longer decreases, and restore
        the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Fraction of distinct samples that is held out, stratified by class. Identical samples are never split between
        the two parts.
    n_iter_no_change : int, default=3
        Number of epochs without progress after which early stopping ends the training.
    tol : float, default=1e-4
        Minimum decrease of the validation loss that counts as progress.
    """

    early_stopping: bool = parameter(default=False, constraint=["boolean"])
    validation_fraction: float = parameter(default=0.1, constraint=share())
    n_iter_no_change: int = parameter(default=3, constraint=positive(numbers.Integral))
    tol: float = parameter(default=1e-4, constraint=at_least_zero())


@declared
class Resumes:
    """How an interrupted fit is resumed.

    Parameters
    ----------
    checkpoint : path-like, default=None
        Folder in which ``fit`` saves its state after each epoch. If ``fit`` is interrupted, calling it again with the
        same parameters and data resumes it and gives the result that an uninterrupted fit would have given;
        ``random_state`` must be an int. Each fit has a file of its own. Delete the folder when the work is done.
    """

    checkpoint: str | os.PathLike | None = parameter(default=None, constraint=[str, os.PathLike, None])


@declared
class WarmStarts:
    """Option of ``fit`` to continue from the previous fit."""

    warm_start: bool = parameter(default=False, constraint=["boolean"])


@declared
class HasAdapter:
    """Low-rank adapters in place of training the unfrozen stages' weights.

    Parameters
    ----------
    adapter : {"lora"} or None, default=None
        ``"lora"`` keeps the weights of the unfrozen stages and trains low-rank adapters (rank 8) of their linear and
        convolutional layers instead, about 1 % of the weights. It requires the extra ``lora``. None trains the weights
        themselves.
    """

    adapter: str | None = parameter(default=None, constraint=[StrOptions({"lora"}), None])


@declared
class HasLogisticProbe:
    """Penalty of the logistic probe, for labels.

    Parameters
    ----------
    C : float or "auto", default="auto"
        Inverse of the strength of the probe's L2 penalty, as in ``LogisticRegression``; must be positive. The probe is
        the logistic regression on frozen features with which a linear head starts. ``"auto"`` chooses the strength by
        generalized cross-validation of a ridge regression on class indicators [5]_.
    """

    C: float | str = parameter(default="auto", constraint=[*positive(), StrOptions({"auto"})])


@declared
class HasRidgeProbe:
    """Penalty of the ridge probe, for numbers.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the probe's L2 penalty, as in ``Ridge``; must be positive. The probe is the ridge regression on
        frozen features with which a linear head starts. ``"auto"`` chooses the strength for each output by generalized
        cross-validation [4]_.
    """

    alpha: float | str = parameter(default="auto", constraint=[*positive(), StrOptions({"auto"})])


@declared
class SmoothsLabels:
    """Label smoothing.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss. The probe is solved without it.
    """

    label_smoothing: float = parameter(default=0.0, constraint=share("left"))


@declared
class WritesTexts:
    """How long texts are that a decoder learns and writes, and how it searches for them.

    Parameters
    ----------
    max_target_length : int, default=None
        Maximum number of tokens of a target, special tokens included. Longer targets are truncated with a warning. None
        uses the limit of the decoder, at most 512.
    max_new_tokens : int, default=None
        Maximum number of tokens that ``predict`` writes for a sample. None uses the length of the longest target in
        ``fit``.
    num_beams : int, default=1
        Number of texts that ``predict`` keeps at each step (beam search) before it returns the most probable one. 1
        takes the most probable token at each step (greedy search), which is the fastest.
    generation_options : dict or None, default=None
        Further arguments of the ``generate`` method of transformers, such as ``{"length_penalty": 2.0,
        "no_repeat_ngram_size": 3}``. They replace the settings in the network's folder, which apply otherwise. Options
        of sampling are refused, because predictions must be reproducible.
    """

    max_target_length: int | None = parameter(
        default=None, constraint=[Interval(numbers.Integral, 2, None, closed="left"), None]
    )
    max_new_tokens: int | None = parameter(default=None, constraint=[*positive(numbers.Integral), None])
    num_beams: int = parameter(default=1, constraint=positive(numbers.Integral))
    generation_options: dict | None = parameter(default=None, constraint=[dict, None])


@declared
class TrainsFully(Resumes, StopsEarly, TrainsOnImages, TrainsHead):
    """All that decides how a head and stages are trained."""
