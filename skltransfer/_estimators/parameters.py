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

from skltransfer.backbones import POOLINGS, Backbone
from skltransfer.engine import ActivationStore

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
    """A field of a group; type checkers need both by name.

    Parameters
    ----------
    default : object
    constraint : list or str, optional
        As in scikit-learn's ``_parameter_constraints``; without it, that of the group's parameter of the same name.
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
class ReadsBackbone:
    """Which network, how samples are read, and where it runs.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the last stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows
        of a 2-D X are laid out as strips.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that comes as arrays.
    max_length : int, default=None
        Number of tokens that are read of a text, special tokens included. None reads as many as the network was
        made for, at most 512.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it
        (cosine similarity of at least 0.999), else float32. Weights are trained in float32 either way.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations. ``"memory"`` is shared by all estimators of the process,
        up to 1 GiB. A folder is shared with other processes and later runs too, up to 5 GiB.
    verbose : int, default=0
        1 shows progress.
    """

    backbone: str | Backbone = parameter(
        default="bundled:efficientnet-lite0",
        constraint="no_validation",  # load_backbone has words for what it is not
        kw_only=False,
    )
    weights: str = parameter(default="pretrained", constraint=[str, os.PathLike])
    pooling: str = parameter(default="auto", constraint=[StrOptions({"auto", *POOLINGS})])
    image_shape: tuple[int, ...] | None = parameter(default=None, constraint=[tuple, list, None])
    sampling_rate: int | None = parameter(
        default=None, constraint=[Interval(numbers.Integral, 1, None, closed="left"), None]
    )
    max_length: int | None = parameter(
        default=None, constraint=[Interval(numbers.Integral, 1, None, closed="left"), None]
    )
    on_bad_sample: str = parameter(default="raise", constraint=[StrOptions({"raise", "nan"})])
    device: str = parameter(default="auto", constraint=[str])
    dtype: str = parameter(default="auto", constraint=[StrOptions({"auto", "float32", "bfloat16"})])
    cache: str | os.PathLike | ActivationStore | None = parameter(
        default="memory", constraint=[str, os.PathLike, ActivationStore, None]
    )
    verbose: int = parameter(default=0, constraint=["verbose"])


@declared
class ReadsLongSamples:
    """What becomes of samples that are longer than the network's input.

    Parameters
    ----------
    long_samples : {"truncate", "windows"} or None, default=None
        How the network reads a text of more than ``max_length`` tokens, or audio longer than its input (30 s for
        Whisper). ``"truncate"`` reads the beginning and warns. ``"windows"`` reads all of it in windows
        that overlap by a quarter at least: ``fit`` averages the outputs of a sample's windows before the loss,
        ``predict_proba`` their probabilities, ``transform`` their features (at ``freeze_depth=1.0``, features are
        averaged throughout). None is as ``backbone`` was loaded, by default ``"truncate"``.
    """

    long_samples: str | None = parameter(default=None, constraint=[StrOptions({"truncate", "windows"}), None])


@declared
class TrainsStages:
    """How deep a network is trained, and for how long.

    Parameters
    ----------
    freeze_depth : float, int or str, default=0.5
        How much of the backbone is frozen. A number in [0, 1] is the fraction of frozen stages, counted from the
        input: 1.0 trains the head alone, 0.0 trains everything, and any number between them leaves at least one
        stage on either side. ``-k`` freezes all but the top k stages. A stage's name freezes up to and including
        it; :func:`describe_backbone` lists them.
    max_epochs : int, default=10
        Passes over the training set. At ``freeze_depth=1.0`` with a linear head and without ``augment`` there are
        none: this and all parameters of training below have no effect.
    batch_size : int, default=32
        Largest number of samples in a step; batches are alike in length.
    learning_rate : float, default=1e-3
        Learning rate of the head (AdamW).
    random_state : int, RandomState instance or None, default=None
        Decides the order of samples, dropout, the held-out part and random heads. The global generators are never
        touched.
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
class TrainsHead:
    """How head and stages are trained together.

    Parameters
    ----------
    head : {"linear", "mlp"}, default="linear"
        ``"mlp"`` has one hidden layer of 256 rectified units.
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
    augment : callable, default=None
        Changes each training picture at random each time it is seen: a transform of ``torchvision.transforms.v2``
        from a uint8 tensor (3, h, w) to another; the backbone's own preprocessing comes after it. Frozen stages
        then run in every epoch, and at ``freeze_depth=1.0`` the head is trained rather than solved. A single
        transform goes into a ``Compose``, since its ``get_params`` is not what scikit-learn means by that name.
    """

    head: str = parameter(default="linear", constraint=[StrOptions({"linear", "mlp"})])
    head_init: str = parameter(default="probe", constraint=[StrOptions({"probe", "random"})])
    backbone_lr_factor: float = parameter(default=0.1, constraint=at_least_zero())
    layer_decay: float = parameter(default=1.0, constraint=share("right"))
    weight_decay: float = parameter(default=0.01, constraint=at_least_zero())
    lr_schedule: str = parameter(default="cosine", constraint=[StrOptions({"cosine", "constant"})])
    warmup: float = parameter(default=0.1, constraint=share("left"))
    max_grad_norm: float | None = parameter(default=None, constraint=[*positive(), None])
    unfreeze_schedule: str | None = parameter(default=None, constraint=[StrOptions({"gradual"}), None])
    norm_policy: str = parameter(default="frozen", constraint=[StrOptions({"frozen", "train"})])
    augment: Callable | None = parameter(default=None, constraint=[callable, None])


@declared
class StopsEarly:
    """When training stops before its last epoch.

    Parameters
    ----------
    early_stopping : bool, default=False
        Hold out ``validation_fraction``, stop when its loss no longer falls, and restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Share of distinct samples that is held out; classes keep their shares, and equal samples are never on both
        sides.
    n_iter_no_change : int, default=3
        Epochs without progress before stopping.
    tol : float, default=1e-4
        The smallest decrease of the validation loss that counts as progress.
    """

    early_stopping: bool = parameter(default=False, constraint=["boolean"])
    validation_fraction: float = parameter(default=0.1, constraint=share())
    n_iter_no_change: int = parameter(default=3, constraint=positive(numbers.Integral))
    tol: float = parameter(default=1e-4, constraint=at_least_zero())


@declared
class Resumes:
    """Where an interrupted fit goes on.

    Parameters
    ----------
    checkpoint : path-like, default=None
        A folder in which training leaves its state after each epoch, in a file of its own for each fit. The same
        fit on the same data, begun again after an interruption, goes on there and ends as it would have;
        ``random_state`` must be an int. Delete the folder when the work is done.
    """

    checkpoint: str | os.PathLike | None = parameter(default=None, constraint=[str, os.PathLike, None])


@declared
class WarmStarts:
    """Whether a fit goes on from the last one."""

    warm_start: bool = parameter(default=False, constraint=["boolean"])


@declared
class HasAdapter:
    """Whether the unfrozen stages keep their weights and low-rank adapters are trained.

    Parameters
    ----------
    adapter : {"lora"} or None, default=None
        ``"lora"`` leaves the unfrozen stages' weights as they are too, and trains low-rank adapters (rank 8) beside
        their linear maps and convolutions: a hundredth of the weights. Needs the extra ``lora``.
    """

    adapter: str | None = parameter(default=None, constraint=[StrOptions({"lora"}), None])


@declared
class HasLogisticProbe:
    """The probe for labels.

    Parameters
    ----------
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in ``LogisticRegression``; positive. ``"auto"`` chooses it
        for these samples and features: the strength of the ridge regression on class indicators that generalized
        cross-validation prefers [5]_.
    """

    C: float | str = parameter(default="auto", constraint=[*positive(), StrOptions({"auto"})])


@declared
class HasRidgeProbe:
    """The probe for numbers.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the probe's L2 penalty, as in ``Ridge``; positive. ``"auto"`` takes the one that generalized
        cross-validation prefers [4]_, for each output.
    """

    alpha: float | str = parameter(default="auto", constraint=[*positive(), StrOptions({"auto"})])


@declared
class SmoothsLabels:
    """Label smoothing.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default=0.0
        Label smoothing of the training loss; the probe is solved without it.
    """

    label_smoothing: float = parameter(default=0.0, constraint=share("left"))


@declared
class TrainsFully(Resumes, StopsEarly, TrainsHead):
    """All that decides how a head and stages are trained."""
