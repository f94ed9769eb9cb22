"""Networks of Keras 3 on its torch backend: those of keras.applications, and files that ``model.save`` wrote.

With ``_keras_cut``, the only importer of Keras. A file is looked through before Keras reads it: nothing that it holds
is ever run. Which backend Keras has is the user's choice, made before Python starts; no variable is set here.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from skltransfer._catalogue._keras_networks import APPLICATIONS
from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._keras_cut import CHANNELS, Entry, KerasCut
from skltransfer.backbones._keras_files import checked_config, is_path
from skltransfer.backbones._keras_graph import flattened, names_of_a_new_process
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._refusals import summary
from skltransfer.backbones._weights import fit_state, random_seed, read_state
from skltransfer.exceptions import (
    BackboneNotFoundError,
    MissingDependencyError,
    UnsupportedBackboneError,
    WeightsError,
)

OLDEST = (3, 10)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green, blue, of values to 255
OF_BYTES, OF_FRACTIONS = (0.0, 255.0), (0.0, 1.0)
OWN_FORMATS = (".keras", ".weights.h5")
SCALED = 20  # of a model that is to see 0 to 255: at most the spread of what it makes of that, or at least its black


def load_keras(name: str, weights: str, options: Mapping[str, object], *, outline: bool = False) -> Backbone:
    """The adapter behind ``keras:<application>`` and ``keras:<file>.keras``."""
    keras = _keras()
    if is_path(name):
        return _load_file(keras, name, weights, options)
    return _load_application(keras, name, weights, options, outline=outline)


def _keras() -> Any:
    """The library, on its torch backend.

    Raises
    ------
    MissingDependencyError
        If Keras is not installed, is too old, or has another backend.
    """
    if importlib.util.find_spec("keras") is None:
        raise MissingDependencyError(
            "Backbones named 'keras:...' need Keras. Install it with: pip install 'skltransfer[keras]'"
        )
    loaded = sys.modules.get("keras")
    found = importlib.metadata.version("keras") if loaded is None else loaded.__version__
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST:
        raise MissingDependencyError(
            f"Backbones named 'keras:...' need Keras {'.'.join(map(str, OLDEST))} or later, and {found} is installed. "
            "Install it with: pip install --upgrade 'skltransfer[keras]'"
        )
    backend = _configured_backend() if loaded is None else loaded.config.backend()
    if backend != "torch":
        raise MissingDependencyError(
            f"Backbones named 'keras:...' need Keras on its torch backend, but its backend is {backend!r}. Set the "
            f'environment variable KERAS_BACKEND=torch before Python starts, or "backend": "torch" in {_config_file()}.'
        )
    import keras

    if keras.config.floatx() != "float32":
        raise UnsupportedBackboneError(
            f"Backbones named 'keras:...' need weights in float32, but Keras is set to {keras.config.floatx()!r}. Call "
            "keras.config.set_floatx('float32') before they are loaded."
        )
    return keras


def _config_file() -> Path:
    """Where Keras looks for its settings."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"


def _configured_backend() -> str:
    """The backend that Keras will have, found without importing it: that fails where the backend is not installed."""
    backend = os.environ.get("KERAS_BACKEND")
    if not backend:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            backend = json.loads(_config_file().read_text(encoding="utf-8")).get("backend")
    return backend or "tensorflow"


@contextlib.contextmanager
def _building(keras: Any, seed: int | None) -> Iterator[None]:
    """Build or read a model on the CPU; Keras seeds initial weights by Python's generator, which is given back."""
    with seeded(seed or 0), keras.device("cpu"):
        state = random.getstate()
        random.seed(seed or 0)
        try:
            yield
        finally:
            random.setstate(state)


def _load_application(keras: Any, name: str, weights: str, options: Mapping[str, object], *, outline: bool) -> Backbone:
    if name.startswith("NASNet"):
        raise UnsupportedBackboneError(
            f"'keras:{name}' cannot be cut into stages: each of its cells reads the two cells before it. Choose "
            "another backbone; list_backbones(pattern='keras:') names some."
        )
    if name not in APPLICATIONS:
        raise BackboneNotFoundError(f"keras.applications has no network {name!r} that is supported.")
    if options.get("value_range") is not None:
        raise UnsupportedBackboneError(
            f"'keras:{name}' knows the range of its inputs; value_range is for models in .keras files. Leave it out."
        )
    application = APPLICATIONS[name]
    side = options.get("input_size") or application.side
    with _building(keras, random_seed(weights)):
        model = _built(keras, name, side)
        if weights == "pretrained" and not outline:
            model = _official(keras, name, model, options)
        channels = "bgr" if application.mode == "caffe" else "rgb"
        cut = _cut(keras, model, channels, side, application.ends, identity=name, fresh_names=True)
        _fit(cut, model, weights)
    return _backbone(cut, _of_mode(application.mode, side), options, name=f"keras:{name}", weights=weights)


def _built(keras: Any, name: str, side: int) -> Any:
    """The application with random weights, without its classification head."""
    comes_last = keras.config.image_data_format() == "channels_last"
    try:
        return getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(side, side, 3) if comes_last else (3, side, side)
        )
    except ValueError as error:
        raise UnsupportedBackboneError(f"'keras:{name}' does not take input_size={side}: {summary(error)}.") from None


def _official(keras: Any, name: str, model: Any, options: Mapping[str, object]) -> Any:
    """The application with its official weights, which Keras finds in its own folder or downloads."""
    remedy = (
        f"On a machine with network, run keras.applications.{name}(include_top=False) and copy the folder "
        f"{_config_file().parent / 'models'}; or use weights='random', weights=<file>, or "
        "backbone='bundled:efficientnet-lite0'."
    )
    if options.get("local_files_only"):
        raise WeightsError(
            f"The weights of 'keras:{name}' cannot be loaded with local_files_only=True: Keras itself decides whether "
            "to download them. Leave it out, or save them once by model.save_weights and pass weights=<file>."
        )
    try:
        return getattr(keras.applications, name)(
            include_top=False, weights="imagenet", input_shape=tuple(model.input_shape[1:])
        )
    except Exception as error:  # Keras raises this very class where a download fails
        raise WeightsError(
            f"The weights of 'keras:{name}' could not be fetched ({summary(error)}). {remedy}"
        ) from error


def _of_mode(mode: str, side: int) -> ImagePreprocessing:
    """What ``preprocess_input`` of a module of keras.applications does, but for the order of channels."""
    if mode == "torch":
        return _squashing(side, *IMAGENET)
    if mode == "caffe":
        return _squashing(side, tuple(level / 255 for level in CAFFE_MEAN), (1 / 255,) * 3)
    return _of_range((-1.0, 1.0) if mode == "tf" else OF_BYTES, side)


def _of_range(values: tuple[float, float], side: int) -> ImagePreprocessing:
    """Black and white become these values."""
    low, high = values
    return _squashing(side, ((0 - low) / (high - low),) * 3, (1 / (high - low),) * 3)


def _squashing(side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> ImagePreprocessing:
    """Both sides are resized, as image_dataset_from_directory does."""
    return ImagePreprocessing(resize=side, crop=side, mean=mean, std=std, squash=True)


def _load_file(keras: Any, path: str, weights: str, options: Mapping[str, object]) -> Backbone:
    name, values = f"keras:{path}", checked_range(options.get("value_range"))
    config = checked_config(path)
    seed = random_seed(weights)
    with _building(keras, seed):
        model = _read_model(keras, path)
        if seed is not None:
            model = keras.models.clone_model(model)
        model.trainable = True  # what is frozen is a place here
        _refuse_other_kinds(keras, model, name)
        channels, side = _input_of(model, name, options.get("input_size"))
        cut = _cut(keras, model, channels, side, identity=hashlib.sha256(config).hexdigest())
        _fit(cut, model, weights)
    return _backbone(cut, _of_range(values or _seen_range(cut, name), side), options, name=name, weights=weights)


def checked_range(values: object) -> tuple[float, float] | None:
    """Values of black and white, or None."""
    if values is None:
        return None
    is_pair = isinstance(values, tuple | list) and len(values) == 2 and all(isinstance(one, Real) for one in values)
    if not is_pair or not -1e6 < values[0] < values[1] < 1e6:
        raise ValueError(
            f"value_range must be None or two numbers in increasing order, the values of black and white that the "
            f"network was trained on, such as (0, 255); got {values!r}."
        )
    return float(values[0]), float(values[1])


def _read_model(keras: Any, path: str) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, KeyError) as error:
        raise WeightsError(f"The weights in {path} cannot be read ({summary(error)}). Save the model again.") from error


def _refuse_other_kinds(keras: Any, model: Any, name: str) -> None:
    """Raise unless a model keeps its graph, and has one input and one output."""
    is_functional = isinstance(model, keras.Sequential) or hasattr(model, "_nodes_by_depth")
    if not is_functional or not getattr(model, "inputs", None):
        raise UnsupportedBackboneError(
            f"{name!r} cannot be cut into stages: it is a {type(model).__name__} that does not keep its graph. Save a "
            "functional model, or a Sequential one that begins with keras.Input."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedBackboneError(
            f"{name!r} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of each. Save "
            "keras.Model(input, output), where these are one of each."
        )


def _input_of(model: Any, name: str, asked: int | None) -> tuple[str, int]:
    """The channels of a model's images, and their side."""
    shape = tuple(model.inputs[0].shape[1:])
    places = shape[:-1] if len(shape) == 3 and shape[-1] in (1, 3) else shape[1:]
    n_channels = shape[-1] if len(shape) == 3 and shape[-1] in (1, 3) else shape[0]
    if len(shape) != 3 or n_channels not in CHANNELS.values() or places[0] != places[1]:
        raise UnsupportedBackboneError(
            f"{name!r} reads inputs of shape {shape}; expected square images with 1 or 3 channels, such as (96, 96, 3)."
        )
    if not str(model.inputs[0].dtype).startswith(("float", "bfloat")):
        raise UnsupportedBackboneError(
            f"{name!r} reads images of dtype {model.inputs[0].dtype}; expected floats, as keras.Input has by default."
        )
    if places[0] is None and asked is None:
        raise UnsupportedBackboneError(
            f"{name!r} takes images of any size, {shape}. Choose one: load_backbone({name!r}, input_size=224)."
        )
    return ("gray" if n_channels == 1 else "rgb"), asked or places[0]


def _cut(
    keras: Any, model: Any, channels: str, side: int, ends: str = "", *, identity: str, fresh_names: bool = False
) -> KerasCut:
    """Stages of a model, whose layers compute in float32."""
    for layer in model._flatten_layers():
        _use_float32(keras, layer)
    comes_last = model.inputs[0].shape[-1] == CHANNELS[channels]
    graph, names = flattened(keras, model, side, comes_last=comes_last)
    if fresh_names:
        names = names_of_a_new_process(graph)
    expected = "channels_last" if comes_last else "channels_first"
    others = [step.name for step in graph.operations if getattr(step, "data_format", expected) != expected]
    if others:
        raise UnsupportedBackboneError(f"its input is {expected}, but its layers {others[:3]} are not")
    return KerasCut(graph, model, Entry(channels, comes_last), names, ends, identity=identity)


def _use_float32(keras: Any, layer: Any) -> None:
    """Mixed precision is the choice of who trains."""
    if layer.dtype_policy.quantization_mode is not None:
        raise UnsupportedBackboneError(f"its layer {layer.name!r} is quantized; save the model before it is")
    if layer.compute_dtype in ("float16", "bfloat16"):
        layer.dtype_policy = keras.DTypePolicy("float32")
    wrong = sorted({str(variable.dtype) for variable in layer.trainable_variables} - {"float32"})
    if wrong:
        raise UnsupportedBackboneError(f"its layer {layer.name!r} has weights in {wrong[0]}; expected float32")


def _fit(cut: KerasCut, model: Any, weights: str) -> None:
    """Read weights from a file, if that is what they are."""
    if weights == "pretrained" or random_seed(weights) is not None:
        return
    if not os.path.isfile(weights):
        raise WeightsError(
            f"weights={weights!r} are unknown to Keras. Pass 'pretrained', 'random', 'random:<seed>' or an existing "
            "file."
        )
    if not weights.endswith(OWN_FORMATS):
        fit_state(cut.network, read_state(weights), optional=cut.head_names, where=f"weights={weights!r}")
    else:
        _fit_own(cut, model, weights)
    cut.refresh()


def _fit_own(cut: KerasCut, model: Any, weights: str) -> None:
    """Read weights from a file of Keras."""
    values = {key: value for key, value in cut.network.state_dict().items() if value.is_floating_point()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras remarks on is checked below
        for value in values.values():  # tensors that the model's variables share
            value.fill_(torch.nan)  # Keras leaves what it does not find in the file as it is
        try:
            model.load_weights(weights)
        except Exception as error:  # Keras raises whatever it meets in such a file
            raise _misfit(weights, summary(error)) from error
    missing = sorted(name for name, value in values.items() if value.isnan().any())
    if missing:
        raise _misfit(weights, f"no numbers for {missing[:3]}")


def _misfit(weights: str, reason: str) -> WeightsError:
    return WeightsError(
        f"weights={weights!r} do not fit the model ({reason}). Pass weights of the same architecture; those of "
        "keras.applications are without the classification head (include_top=False)."
    )


def _seen_range(cut: KerasCut, name: str) -> tuple[float, float]:
    """The range of pixels that a model expects, as its first layers show; without any, a guess, of which we warn."""
    black, white = (cut.scaled(torch.full((1, 3, *cut.image_size), level)) for level in OF_BYTES)
    if not black.any() and bool((white == OF_BYTES[1]).all()):
        warnings.warn(
            f"{name!r} has no layer that scales its input, so that the range of values that it was trained on is not "
            "known: images are scaled to 0 ... 1. Pass load_backbone(..., value_range=(0, 255)) or (-1, 1) if that was "
            "its range, or (0, 1) to avoid this warning.",
            stacklevel=2,
        )
        return OF_FRACTIONS
    is_of_bytes = (white - black).abs().max() <= SCALED or black.abs().max() >= SCALED
    return OF_BYTES if is_of_bytes else OF_FRACTIONS


def _backbone(
    cut: KerasCut, preprocessing: ImagePreprocessing, options: Mapping[str, object], *, name: str, weights: str
) -> Backbone:
    return Backbone(
        cut,
        name=name,
        weights=weights,
        preprocessing=preprocessing,
        pooling="mean",
        head_names=cut.head_names,
        options=options,
        maps_end_in_channels=cut.maps_end_in_channels(),
    )
