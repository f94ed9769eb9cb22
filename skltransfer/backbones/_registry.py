"""From a name to a backbone: parse, load once per process, share.

A name is ``source:model``. Each source is one adapter; what it returns is kept for as long as it is among the last
few used, so that clones, folds and candidates share one copy of the weights.
"""

import copyreg
import difflib
import functools
import inspect
import math
import numbers
import os
import re
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from skltransfer._catalogue import RECOMMENDED, OwnHead, list_backbones
from skltransfer._system.forks import Lock
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._bands import checked_bands
from skltransfer.backbones._bundled import load_bundled
from skltransfer.backbones._input_size import at_input_size, checked_input_size
from skltransfer.backbones._keras import checked_range, load_keras
from skltransfer.backbones._keras_files import is_path
from skltransfer.backbones._preprocessing import RESIZINGS
from skltransfer.backbones._refusals import refusing
from skltransfer.backbones._timm import load_timm
from skltransfer.backbones._torchvision import load_torchvision, own_head_of, own_network
from skltransfer.backbones._toy import load_toy
from skltransfer.backbones._transformers import SharedSpace, load_transformer, own_language_head, own_shared_space
from skltransfer.backbones._weights import INSIDE, AdaptedWeights, random_seed
from skltransfer.backbones._windows import LONG_SAMPLES
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

ADAPTERS = {
    "bundled": load_bundled,
    "hf": load_transformer,
    "keras": load_keras,
    "timm": load_timm,
    "torchvision": load_torchvision,
    "toy": load_toy,
}
IDENTITY = ("name", "weights", "options", "fingerprint")
CHANNELS = ("auto", "first", "last")
TAKE_SIZES = ("bundled:", "hf:", "keras:", "timm:", "torchvision:", "toy:images")
KEPT = 4
NO_MODULES = " A torch module has no stages that are known: name its architecture, and pass its state dict as weights."
BEFORE_HUB_NAME = (
    r"(?:https://huggingface\.co/|(?:huggingface|hf[-_]hub|(?:sentence-)?transformers):|\w+:(?=[\w.\-]+/))?"
)
HUB_NAME = rf"{BEFORE_HUB_NAME}([\w.\-]+(?:/[\w.\-]+)?(?:@[\w.\-/]+)?)"
ESTIMATOR = " That is an estimator, which clone would unfit: of a fitted AdaptedBackbone, pass its backbone_."
_loaded: "OrderedDict[tuple, Backbone]" = OrderedDict()
_making: "weakref.WeakValueDictionary[tuple, Lock]" = weakref.WeakValueDictionary()
_spaces: "weakref.WeakKeyDictionary[Backbone, SharedSpace | None]" = weakref.WeakKeyDictionary()
_lock = Lock()


def load_backbone(
    name: str,
    *,
    weights: str | os.PathLike | AdaptedWeights = "pretrained",
    local_files_only: bool = False,
    max_pixels: int = 64_000_000,
    channels: str = "auto",
    bands: int | Sequence[str] | None = None,
    input_size: int | None = None,
    resize: str | None = None,
    letterbox: bool = False,
    max_length: int | None = None,
    long_samples: str = "truncate",
    white: float | None = None,
    value_range: tuple[float, float] | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load a pretrained network by name, to be shared by estimators.

    Estimators accept the name itself as ``backbone``. Use this function to set options that a name cannot express, such
    as the input size of images, the treatment of long texts. A network is loaded once per process.

    Parameters
    ----------
    name : str
        Name of the form ``"source:model"``, for example:

        - ``"bundled:efficientnet-lite0"`` for weights that are installed with the package,
        - ``"torchvision:resnet18"`` or ``"torchvision:resnet50:IMAGENET1K_V2"``,
        - ``"timm:vit_small_patch14_dinov2"`` or ``"timm:resnet18.a1_in1k"``,
        - ``"hf:google/vit-base-patch16-224"`` for a repository of the Hugging Face hub, or ``"hf:<folder>"`` for a
          local folder,
        - ``"keras:MobileNetV2"`` for a network of ``keras.applications``, or ``"keras:model.keras"`` for a functional
          or Sequential model that Keras 3 or TensorFlow saved,
        - ``"toy:images"`` for a tiny network for tests.

        Of detection and segmentation networks, such as ``"torchvision:fasterrcnn_resnet50_fpn"``, only the feature
        extractor is used. :func:`list_backbones` lists the names.
    weights : {"pretrained", "random", "random:<seed>"}, name or path, default="pretrained"
        Weights of the network. A name is one of the library's own, such as ``"IMAGENET1K_V1"``; it may also be the
        third part of ``name``. A path is a local ``.safetensors`` file or a state dict written by ``torch.save``, such
        as the files that :meth:`AdaptedBackbone.save` writes. It is read without unpickling, and every entry except
        those of the classification head must match the network. ``"random"`` means ``"random:0"``. The ``weights``
        attribute of an adapted backbone is also accepted.
    local_files_only : bool, default=False
        If True, never download: weights must be in the cache folder of their library.
    max_pixels : int, default=64_000_000
        Maximum number of pixels of an image. The header of a larger image is read and the image is rejected before it
        is decoded.
    channels : {"auto", "first", "last"}, default="auto"
        Position of the channels in image arrays: ``"first"`` for (channels, height, width), ``"last"`` for (height,
        width, channels). ``"auto"`` infers it from the shape and rejects shapes that could be either.
    bands : int or sequence of str, default=None
        Channels of images that are not red, green and blue, in their order: names such as ``("red", "green", "blue",
        "nir")``, or their number. Bands named ``"red"``, ``"green"`` and ``"blue"`` keep their pretrained filters in
        the first layer, and all others get the mean of these. If the three colors are there, the others together have
        5 % of the weight; else all bands have equal weight. The size of the layer's output is kept in both cases. A
        number of three or more takes the first three for red, green and blue, and a warning says so once; with one or
        two, no band is a color. Images with another number of channels raise an error. None reads gray, RGB and RGBA
        images.
    input_size : int, default=None
        Side of the square input of an image network, in pixels, at least 1, if the network accepts several sizes. None
        uses the size for which the weights were made. Do not enlarge images beyond their own size.
    resize : {"crop", "letterbox", "squash"} or None, default=None
        How an image that is not square becomes the square input. ``"crop"`` resizes its shorter side, and cuts off what
        is left of its longer side. ``"letterbox"`` resizes its longer side, and fills the rest with the mean color.
        ``"squash"`` resizes both sides and changes the aspect ratio. The last two show the whole image. None does what
        was done in the pretraining, which is ``"crop"`` for most networks.
    letterbox : bool, default=False
        If True, the same as ``resize="letterbox"``.
    max_length : int, default=None
        Maximum number of tokens per text, special tokens included. None uses the network's own limit, at most 512.
    long_samples : {"truncate", "keep_start", "keep_end", "keep_both_ends", "windows"}, default="truncate"
        How the network reads texts of more than ``max_length`` tokens and audio longer than its input (30 s for
        Whisper, 10 s for AST). ``"keep_start"`` reads the beginning, ``"keep_end"`` the end, and ``"keep_both_ends"``
        joins the beginning (a quarter of what is read) and the end. ``"truncate"`` is ``"keep_start"``, unless the
        tokenizer was saved to truncate on the left. ``"windows"`` reads the whole sample in windows that overlap by at
        least a quarter; estimators join them, as ``window_pooling`` says.
    white : float, default=None
        Value of white in images. None uses the maximum of the data type: 255 for 8 bits, 65,535 for 16 bits, 1 for
        floats. Set it if the values do not use the full range, such as ``white=4095`` for 12-bit images in 16-bit
        arrays or files, or ``white=1`` for masks of 0 and 1. Larger values are clipped. It has no effect on 8-bit
        images if it is above 255.
    value_range : (float, float), default=None
        Values of black and white in the images that the model in a ``.keras`` file was trained on, such as ``(0, 255)``
        or ``(-1, 1)``. None infers it from the layers that scale its input; for a model without any, images are scaled
        to the range 0 to 1, and a warning says so.
    trust_remote_code : bool, default=False
        If True, allow a repository of the Hugging Face hub to run its own code on this machine.

    Returns
    -------
    Backbone
        The network. While it is among the last four that were used, the same arguments return the same object.

    Raises
    ------
    ValueError
        If ``channels``, ``resize`` or ``long_samples`` is not one of the choices, ``white`` is not positive, ``bands``
        is neither a number nor different names, or ``input_size`` is not a number of pixels.
    BackboneNotFoundError
        If there is no backbone of this name; the message suggests the nearest names.
    WeightsError
        If weights are missing, cannot be downloaded, or do not match the network.
    UnsupportedBackboneError
        If the network cannot be divided into stages, does not take ``input_size``, does not run at this size, or cannot
        read ``bands`` because its first layer is not one convolution.
    MissingDependencyError
        If the source requires a library that is not installed; the message names the extra that installs it.

    See Also
    --------
    describe_backbone : Describe the stages of a backbone.
    list_backbones : List the names of backbones.

    Examples
    --------
    >>> from skltransfer import load_backbone
    >>> load_backbone("toy:rows", weights="random:7")
    Backbone('toy:rows', weights='random:7', 4 stages, 32 features)
    """
    source = weights.base if isinstance(weights, AdaptedWeights) else weights
    adapter, model, source = _parse(name, _checked_weights(source))
    if channels not in CHANNELS:
        raise ValueError(f"channels must be one of {CHANNELS}, got {channels!r}.")
    if long_samples not in LONG_SAMPLES:
        raise ValueError(f"long_samples must be one of {LONG_SAMPLES}, got {long_samples!r}.")
    is_level = isinstance(white, numbers.Real) and not isinstance(white, bool) and 0 < white < math.inf
    if white is not None and not is_level:
        raise ValueError(f"white must be a positive number or None, got {white!r}.")
    input_size = checked_input_size(input_size)
    if input_size is not None and not name.startswith(TAKE_SIZES):
        raise UnsupportedBackboneError(
            f"{name!r} does not take input_size; only images of these sources do: bundled, hf, keras, timm, "
            "torchvision."
        )
    if value_range is not None and not name.startswith("keras:"):
        raise UnsupportedBackboneError(
            f"{name!r} does not take value_range, which is for models in .keras files. Set white where images do not "
            "use the full range of their data type."
        )
    options = {"local_files_only": local_files_only, "max_pixels": int(max_pixels), "channels": channels}
    options |= {"bands": checked_bands(bands), "input_size": input_size, "resize": _checked_resize(resize, letterbox)}
    options |= {"max_length": max_length, "trust_remote_code": trust_remote_code}
    options |= {"long_samples": long_samples, "white": white}
    options |= {"value_range": None if value_range is None else checked_range(value_range)}
    key = (name, source, _file_stamp(source), _folder_stamp(name), *options.values())
    load = functools.partial(_named, adapter, name.split(":")[0], model, source, options)
    backbone = _shared(key, lambda: at_input_size(load, input_size, name))
    if not isinstance(weights, AdaptedWeights):
        return backbone
    return _shared((*key, weights), lambda: backbone.adapted(weights))


def outlined_backbone(name: str, weights: str | os.PathLike | AdaptedWeights = "pretrained") -> Backbone:
    """Build a backbone without downloading or reading its weights, to inspect its stages.

    Its outputs are random: use only its names, shapes and costs. Weights in a local file or in memory are read as
    :func:`load_backbone` reads them.

    Parameters
    ----------
    name : str
        Name of the backbone, as in :func:`load_backbone`.
    weights : {"pretrained", "random", "random:<seed>"}, name, path or AdaptedWeights, default="pretrained"
        Weights, which determine the name and the preprocessing.

    Raises
    ------
    BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
        As :func:`load_backbone` raises them.
    """
    if isinstance(weights, AdaptedWeights) or os.path.isfile(weights):
        return load_backbone(name, weights=weights)
    adapter, model, named = _parse(name, _checked_weights(weights))
    options = {key: p.default for key, p in inspect.signature(load_backbone).parameters.items() if key not in IDENTITY}
    with torch.inference_mode(False):
        return _named(functools.partial(adapter, outline=True), name.split(":")[0], model, named, options, None)


def _named(adapter: Callable, source: str, model: str, weights: str, options: dict, input_size: int | None) -> Backbone:
    """Load through an adapter; a library's own error is raised with the backbone's name."""
    with refusing(f"{source}:{model}"):
        backbone = adapter(model, weights, options | {"input_size": input_size})
        backbone = backbone.reading_bands(options["bands"]) if options.get("bands") else backbone
    return backbone.resizing(options["resize"]) if options.get("resize") else backbone


def _checked_resize(resize: str | None, letterbox: bool) -> str | None:
    """The choice, which may be made in two ways."""
    if resize is not None and resize not in RESIZINGS:
        raise ValueError(f"resize must be one of {RESIZINGS} or None, got {resize!r}.")
    if letterbox and resize not in (None, "letterbox"):
        raise ValueError(f"letterbox=True means resize='letterbox', but got resize={resize!r}. Leave out letterbox.")
    return "letterbox" if letterbox else resize


def _shared(key: tuple, make: Callable[[], Backbone]) -> Backbone:
    """Make the value of a key once, and keep it; meanwhile other threads reach the values that are kept."""
    with _lock:
        known, making = _kept(key), _making.setdefault(key, Lock())
    if known is not None:
        return known
    with making:
        with _lock:
            known = _kept(key)
        if known is not None:
            return known
        with torch.inference_mode(False):  # weights that were made in it could never be trained
            made = make()
        with _lock:
            _loaded[key] = made
            while len(_loaded) > KEPT:
                _loaded.popitem(last=False)
        return made


def _kept(key: tuple) -> Backbone | None:
    if key in _loaded:
        _loaded.move_to_end(key)
    return _loaded.get(key)


def adapted_backbone(backbone: Backbone, state: Mapping[str, torch.Tensor | np.ndarray]) -> Backbone:
    """Make the same network with other weights, as a separate value that pickles with the changed weights.

    Parameters
    ----------
    backbone : Backbone
        The original network.
    state : mapping of str to tensor or ndarray
        New entries of the library's state dict.
    """
    base = backbone
    if isinstance(backbone.weights, AdaptedWeights):
        base = load_backbone(backbone.name, weights=backbone.weights.base, **backbone.options)
    original = base.library_state()
    now = {key: torch.as_tensor(value).cpu() for key, value in {**backbone.library_state(), **state}.items()}
    changed = {key: value.numpy().copy() for key, value in now.items() if not torch.equal(value, original[key])}
    return load_backbone(base.name, weights=AdaptedWeights(base.weights, changed), **base.options)


def source_language_head(backbone: Backbone, model: nn.Module) -> nn.Module | None:
    """Get the checkpoint's language modeling head, from vectors (k, d) to scores (k, vocabulary); None without one.

    Parameters
    ----------
    backbone : Backbone
        The network whose checkpoint is read.
    model : nn.Module
        Result of :meth:`Backbone.text_model`. The head uses its token embeddings if it used the checkpoint's before.
    """
    weights = getattr(backbone.weights, "base", backbone.weights)
    if not backbone.name.startswith("hf:") or weights != "pretrained":
        return None
    return own_language_head(backbone.name.removeprefix("hf:"), model, backbone.options)


def shared_space(backbone: Backbone) -> SharedSpace | None:
    """Get the space in which a network with towers for images and texts, such as CLIP, compares them; None without one.

    Parameters
    ----------
    backbone : Backbone
        One of the towers.
    """
    weights = getattr(backbone.weights, "base", backbone.weights)
    if not backbone.name.startswith("hf:") or weights != "pretrained":
        return None
    with _lock:
        known = backbone in _spaces
    if not known:
        found = own_shared_space(backbone.name.removeprefix("hf:"), backbone.options)
        with _lock:
            _spaces[backbone] = found
    return _spaces[backbone]


def text_tower(backbone: Backbone) -> Backbone:
    """Load the tower that reads texts, of a network whose tower for images is given."""
    options = {key: backbone.options[key] for key in ("local_files_only", "trust_remote_code")}
    return load_backbone(f"{backbone.name.rpartition(':')[0]}:text", **options)


def own_head(backbone: Backbone, finds: str) -> OwnHead | None:
    """Get the stages that a network's own head reads, if it has one that finds ``"boxes"`` or ``"masks"``.

    Parameters
    ----------
    backbone : Backbone
        The network.
    finds : {"boxes", "masks"}
        Kind of the head's answers.
    """
    name = _torchvision_name(backbone)
    found = None if name is None else own_head_of(name)
    return found if found is not None and found.finds == finds else None


def source_network(backbone: Backbone, *, pretrained: bool = True) -> nn.Module:
    """Get the whole network of torchvision that a backbone with an own head is the trunk of.

    Parameters
    ----------
    backbone : Backbone
        The network. Its weights, and those of the layer of labels, are random in the result.
    pretrained : bool, default=True
        If False, all weights are random.
    """
    weights = getattr(backbone.weights, "base", backbone.weights) if pretrained else "random"
    return own_network(_torchvision_name(backbone), weights, backbone.options)


def _torchvision_name(backbone: Backbone) -> str | None:
    source, _, name = backbone.name.partition(":")
    return name.split(":")[0] if source == "torchvision" else None


def _parse(name: str, weights: str) -> tuple[Callable, str, str]:
    """The adapter, the model's name for it, and the weights, which the name may hold."""
    if isinstance(name, str) and re.match(r"hf:.", name):  # a repository, or a folder, whose name may hold colons
        return load_transformer, name.removeprefix("hf:"), weights
    if isinstance(name, str) and name.startswith("keras:") and is_path(name.removeprefix("keras:")):
        return load_keras, name.removeprefix("keras:"), weights
    source, model, named = (*name.split(":"), "", "")[:3] if isinstance(name, str) else ("", "", "")
    if source not in ADAPTERS or not re.fullmatch(r"[\w.\-]+", model) or str(name).count(":") > 2:
        shown = repr(name) if isinstance(name, str | os.PathLike) else f"an object of type {type(name).__name__}"
        raise BackboneNotFoundError(
            f"backbone must be 'source:model' with source one of {sorted(ADAPTERS)}, or a Backbone; got {shown}."
            + (NO_MODULES if hasattr(name, "state_dict") else "")
            + (ESTIMATOR if hasattr(name, "fit") else _of_the_hub(name) or _suggestion(name))
        )
    if named and weights not in ("pretrained", named):
        raise WeightsError(
            f"{name!r} already names its weights; leave out weights={weights!r}, or the name's last part."
        )
    return functools.partial(_with_suggestion, ADAPTERS[source], name), model, named or weights


def _with_suggestion(adapter: Callable, name: str, *arguments, **how) -> Backbone:
    try:
        return adapter(*arguments, **how)
    except BackboneNotFoundError as error:
        raise BackboneNotFoundError(f"{error}{_suggestion(name)}") from None


def _of_the_hub(name: object) -> str:
    """Suggest how to write a folder, or what looks like a repository of the hub; nothing where a source lists it."""
    path = os.fspath(name) if isinstance(name, str | os.PathLike) else ""
    if isinstance(path, str) and os.path.isdir(path):
        return f" For a folder that holds a model of transformers, write 'hf:{path}'."
    repository = re.fullmatch(HUB_NAME, str(path))
    if repository is None:
        return ""
    same = [known for known in RECOMMENDED if RECOMMENDED[known].page == repository[1] and known.startswith("bundled:")]
    if not same and _same(path):
        return ""
    others = f"{same[0]!r} has the same weights from pip" if same else "list_backbones() names others"
    near = "" if "/" in path or not _near(path) else _suggestion(path)
    return f"{near} For a model of the Hugging Face hub, write 'hf:{repository[1]}'; {others}."


def _suggestion(name: str) -> str:
    near = _near(name)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else " list_backbones() names them."


def _near(name: str) -> list[str]:
    """Names of backbones that differ in their source alone, or else in a few letters."""
    return _same(name) or difflib.get_close_matches(str(name), list_backbones(), n=3, cutoff=0.5)


def _same(name: str) -> list[str]:
    """Names that end in this one: after their source, or after who published the network on the hub."""
    ends = (f":{name}".lower(), f"/{name}".lower())
    found = [known for known in list_backbones() if known.lower().endswith(ends)]
    return found or [known for known, network in RECOMMENDED.items() if network.page.lower().endswith(ends)]


def _checked_weights(weights: str | os.PathLike) -> str:
    text = os.fspath(weights)
    if text == "pretrained" or random_seed(text) is not None or os.path.isfile(text):
        return text
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", text):  # a library's own name for weights, which its adapter knows
        return text
    raise WeightsError(f"weights must be 'pretrained', 'random', 'random:<seed>' or an existing file, got {weights!r}.")


def _file_stamp(weights: str) -> tuple | None:
    """Version of a file: a file that changes between two calls is loaded again."""
    path = Path(weights)
    return (path.stat().st_mtime_ns, path.stat().st_size) if os.path.isfile(path) else None


def _folder_stamp(name: str) -> tuple | None:
    """Which version of a folder of transformers, or of a file of Keras, likewise."""
    if name.startswith("keras:"):
        return _file_stamp(name.removeprefix("keras:"))
    folder = name.removeprefix("hf:")
    if not (name.startswith("hf:") and os.path.isdir(folder)):
        return None
    with os.scandir(folder) as entries:  # each prediction calls this; Path.iterdir is slower
        files = {entry.name: entry.stat() for entry in entries if entry.is_file()}
    return tuple((name, files[name].st_mtime_ns, files[name].st_size) for name in sorted(files))


def reload_backbone(name: str, weights: str | AdaptedWeights, options: dict, expected: str) -> Backbone:
    """Load a backbone again, and refuse weights whose fingerprint is not ``expected``."""
    backbone = load_backbone(name, weights=weights, **options)
    if backbone.fingerprint != expected:
        raise WeightsError(
            f"{name!r} with weights={weights!r} has fingerprint {backbone.fingerprint[:12]}, but {expected[:12]} was "
            "expected: the weights or the preprocessing changed since. Provide the same weights again."
        )
    return backbone


def with_current_options(options: Mapping[str, object]) -> dict[str, object]:
    """Options of a backbone as they are called now, also of a file or pickle from before there was ``resize``."""
    current = {key: value for key, value in options.items() if key != "letterbox"}
    return current | {"resize": "letterbox"} if options.get("letterbox") else current


def portable_state(name: str, weights: str | AdaptedWeights, options: dict, expected: str) -> dict[str, np.ndarray]:
    """A backbone's weights as arrays that :func:`load_backbone` finds in a file, given as its ``weights``.

    Raises
    ------
    UnsupportedBackboneError
        If weights are not all that it takes to build the backbone again.
    """
    options = with_current_options(options)
    backbone = reload_backbone(name, weights, options, expected)
    refusal = f"{name!r} cannot be put into the file: it takes more than weights to build it again."
    needs_tokenizer = backbone.modality == "text" and name != "toy:text"
    is_place = name.startswith("hf:") or (name.startswith("keras:") and is_path(name.removeprefix("keras:")))
    if needs_tokenizer or is_place or name.count(":") > 1:  # weights that the name holds
        raise UnsupportedBackboneError(f"{refusal} Keep its folder, cache or package, and leave out include_backbone.")
    of_colours = load_backbone(name, weights=weights, **options | {"bands": None})  # bands are mixed again from these
    arrays = {f"{INSIDE}{key}": value.numpy() for key, value in of_colours.library_state().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.safetensors")
        save_file(arrays, file)
        adapter, model, path = _parse(name, str(file))
        rebuilt = _named(adapter, name.split(":")[0], model, path, dict(options), options.get("input_size"))
        if rebuilt.fingerprint != expected:
            raise UnsupportedBackboneError(
                f"{refusal} Its preprocessing goes with the name of its weights, {weights!r}: leave out "
                "include_backbone."
            )
    return arrays


def _identity(backbone: Backbone) -> dict[str, object]:
    return {key: getattr(backbone, key) for key in IDENTITY}


def _pickled(backbone: Backbone) -> tuple:
    return reload_backbone, tuple(_identity(backbone).values())


def _restore(backbone: Backbone, identity: dict[str, object]) -> None:
    vars(backbone).update(vars(reload_backbone(*(identity[key] for key in IDENTITY))))


copyreg.pickle(Backbone, _pickled)  # by name and hash, never as weights that did not change
Backbone.__getstate__, Backbone.__setstate__ = _identity, _restore  # likewise for skops, which does not ask copyreg
