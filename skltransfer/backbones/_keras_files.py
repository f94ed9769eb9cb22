"""Files in which Keras saves models: looked through before Keras reads them, so that nothing they hold is ever run.

Must not import Keras.
"""

import json
import os
import re
import zipfile
from collections.abc import Iterator

from skltransfer.backbones._refusals import summary
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

RUNS_CODE = ("FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper")  # that a file holds or names
CLASSES = r"[A-Z]\w*|__(bytes|ellipsis|keras_tensor|numpy|slice|tensor|tuple)__"  # functions begin with a small letter
MOST_UNPACKED = 20  # times the size of a file


def is_path(name: str) -> bool:
    """True if what follows ``keras:`` is a file rather than the name of an application."""
    return bool(re.search(r"[/\\]|\.(keras|h5|hdf5|pb)$", name))


def checked_config(path: str) -> bytes:
    """The description of the model in a .keras file, of which all layers are Keras' own.

    Raises
    ------
    BackboneNotFoundError
        If there is no such file.
    WeightsError
        If it is no file that ``model.save`` of Keras 3 wrote.
    UnsupportedBackboneError
        If it would run code: a Lambda layer, or a class that Keras does not have.
    """
    if not os.path.exists(path):
        raise BackboneNotFoundError(f"There is no file {path!r}.")
    if not path.endswith(".keras") or os.path.isdir(path):
        raise WeightsError(
            f"{path!r} is not a .keras file. Save the model in the format of Keras 3, with "
            "keras.models.load_model(path).save('model.keras'), and pass 'keras:model.keras'."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
            if n_bytes > MOST_UNPACKED * os.path.getsize(path):
                raise ValueError(f"it would unpack to {n_bytes:,} bytes")
            config = json.loads(archive.read("config.json"))
        if not isinstance(config, dict):
            raise ValueError("its config.json holds no description of a model")
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, RecursionError) as error:
        raise WeightsError(
            f"{path} cannot be read as a model of Keras ({summary(error)}). Expected a file that model.save wrote."
        ) from error
    graph = {key: value for key, value in config.items() if key != "compile_config"}  # which is not read
    foreign = sorted(set(_foreign(graph)))
    if foreign:
        raise UnsupportedBackboneError(
            f"'keras:{path}' holds {', '.join(foreign[:3])}, which would run code from outside of Keras; it is not "
            "loaded. Save a model of Keras' own layers; Rescaling, for example, replaces a Lambda that divides."
        )
    return json.dumps(graph, sort_keys=True).encode()


def _foreign(config: object) -> Iterator[str]:
    """What a description names that is no class of Keras, or a layer that runs code."""
    if isinstance(config, list):
        for part in config:
            yield from _foreign(part)
    if not isinstance(config, dict):
        return
    if "class_name" in config and "config" in config:
        kind, module, registered = str(config["class_name"]), config.get("module"), config.get("registered_name")
        is_own = module is None or re.fullmatch(r"builtins|keras(\.\w+)*", str(module)) is not None
        if kind in RUNS_CODE:
            yield f"a {kind} layer"
        elif not is_own or registered not in (None, kind) or not re.fullmatch(CLASSES, kind):
            yield f"the custom object {registered or kind!r}"
        if kind in RUNS_CODE:
            return
    for part in config.values():
        yield from _foreign(part)
