"""Names of backbones, filtered. What timm and torchvision register is read from their source files, in milliseconds.

Promises to import no library of models. Must not know how a network is built.
"""

import fnmatch
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from skltransfer._catalogue._keras_networks import APPLICATIONS
from skltransfer._catalogue._recommended import RECOMMENDED
from skltransfer._catalogue._timm_families import FAMILIES as OF_TIMM
from skltransfer._catalogue._torchvision_families import FAMILIES as OF_TORCHVISION

MODALITIES = ("audio", "image", "rows", "text")
TOYS = {"audio": "toy:audio", "image": "toy:images", "rows": "toy:rows", "text": "toy:text"}
WILDCARDS = re.compile(r"[*?[]")
REGISTERED = re.compile(r'^@register_model\b(?:\(\s*(?:name=)?"(\w+)")?.*?^def (\w+)', re.MULTILINE | re.DOTALL)


def list_backbones(modality: str | None = None, *, pattern: str | None = None, recommended: bool = False) -> list[str]:
    """List the names of backbones that :func:`load_backbone` accepts.

    Of the Hugging Face hub only recommended networks are listed, although any repository with a supported network can
    be loaded.

    Parameters
    ----------
    modality : {"audio", "image", "rows", "text"}, default=None
        Kind of samples. If given, only backbones that read this kind are listed.
    pattern : str, default=None
        Pattern that names must match, ignoring case. A pattern with ``*``, ``?`` or ``[`` must match the whole name, as
        in ``"timm:*dinov2*"``; any other pattern must occur in the name.
    recommended : bool, default=False
        If True, list only about a dozen recommended networks for photos, medical and satellite images, texts, speech
        and proteins. The page "Recommended backbones" of the documentation compares them.

    Returns
    -------
    list of str
        Sorted names.

    Raises
    ------
    ValueError
        If ``modality`` is not one of the choices.

    See Also
    --------
    describe_backbone : Describe the stages, size and license of a network.
    load_backbone : Load a network by name.

    Notes
    -----
    The prefix of a name is the source of the weights. ``bundled:`` weights are installed with pip. ``torchvision:``,
    ``timm:``, ``keras:`` and ``hf:`` weights are downloaded when a network is first loaded. ``toy:`` networks are tiny,
    for tests and examples.

    ``hf:`` accepts any repository of the Hugging Face hub, or any local folder, with a transformers network that can be
    divided into stages:

    - ``"hf:org/name"`` is a repository of the hub, as in ``"hf:google-bert/bert-base-uncased"``.
    - ``"hf:org/name@revision"`` is one of its branches, tags or commits.
    - ``"hf:folder"`` is a local folder that ``save_pretrained`` wrote.
    - ``"hf:org/name:vision"`` and ``"hf:org/name:text"`` are the two encoders of networks such as CLIP.

    ``keras:`` also accepts a ``.keras`` file: ``"keras:model.keras"``. The networks of ``keras.applications`` are
    listed if Keras is installed.

    Names of timm and torchvision are those of the installed versions. No library of models is imported to list them.

    Examples
    --------
    >>> from skltransfer import list_backbones
    >>> list_backbones(modality="rows")
    ['toy:rows']
    >>> list_backbones(pattern="lite")[:2]
    ['bundled:efficientnet-lite0', 'bundled:efficientnet-lite2']
    >>> list_backbones(pattern="torchvision:resnet?8")
    ['torchvision:resnet18']
    >>> list_backbones("text", recommended=True)[0]
    'bundled:minilm'
    """
    if modality not in (None, *MODALITIES):
        raise ValueError(f"modality must be one of {MODALITIES} or None, got {modality!r}.")
    names = {name for kind in MODALITIES if modality in (None, kind) for name in _names(kind, recommended)}
    return sorted(names if pattern is None else filter(_matcher(pattern), names))


def _names(modality: str, recommended: bool) -> Iterator[str]:
    yield from (network.name for network in RECOMMENDED.values() if network.modality == modality)
    if recommended:
        return
    yield TOYS[modality]
    if modality == "image":
        yield from (f"torchvision:{name}" for name in torchvision_names())
        yield from (f"timm:{name}" for name in timm_names())
        yield from (f"keras:{name}" for name in keras_names())


def _matcher(pattern: str):
    """True if a name matches a pattern with wildcards whole, or holds one without."""
    sought = pattern.lower()
    if WILDCARDS.search(sought):
        return lambda name: fnmatch.fnmatchcase(name.lower(), sought)
    return lambda name: sought in name.lower()


def timm_names() -> list[str]:
    """Names of timm's networks that can be cut."""
    return _registered("timm", *(f"models/{module}.py" for module in OF_TIMM))


def keras_names() -> list[str]:
    """Names of networks of keras.applications that can be cut; none if Keras is not installed."""
    return list(APPLICATIONS) if importlib.util.find_spec("keras") is not None else []


def torchvision_names() -> list[str]:
    """Names of torchvision's networks that can be cut."""
    names = _registered("torchvision", "models/*.py", "models/detection/*.py", "models/segmentation/*.py")
    return [name for name in names if any(re.fullmatch(pattern, name) for pattern in OF_TORCHVISION)]


def _registered(library: str, *patterns: str) -> list[str]:
    """Names of functions under ``@register_model`` in source files of a library, none of which is run."""
    spec = importlib.util.find_spec(library)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [file for folder in folders for pattern in patterns for file in sorted(Path(folder).glob(pattern))]
    texts = (file.read_text(encoding="utf-8") for file in files)
    return [own_name or function for text in texts for own_name, function in REGISTERED.findall(text)]
