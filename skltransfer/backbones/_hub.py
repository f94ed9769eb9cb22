"""Files of models on the Hugging Face hub: found in its cache, else fetched, checked by their hash; the only importer
of huggingface_hub.

Knows repositories and files; no architecture.
"""

import hashlib
import logging
import re
from pathlib import Path

from skltransfer.exceptions import WeightsError

logger = logging.getLogger("skltransfer")


def hub_folder() -> str:
    """Folder in which the hub keeps downloaded files."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def hub_file(repository: str, filename: str, *, name: str, local_files_only: bool) -> Path:
    """The path of one file of a repository, in the hub's own cache folder.

    A file that is there is used as it is, without asking the network whether there is a newer one.

    Parameters
    ----------
    repository, filename : str
        E.g. ``"timm/resnet18.a1_in1k"`` and ``"model.safetensors"``.
    name : str
        Name of the backbone, for error messages.
    local_files_only : bool
        Do not fetch.

    Raises
    ------
    WeightsError
        If the file is absent and cannot be fetched, or is not what its hash says.
    """
    from huggingface_hub import hf_hub_download

    remedy = (
        f"On a machine with network, run skltransfer.load_backbone({name!r}) and copy the cache folder {hub_folder()}; "
        "or use weights='random', weights=<file>, or backbone='bundled:efficientnet-lite0'."
    )
    try:
        path = Path(hf_hub_download(repository, filename, local_files_only=True))
    except (OSError, ValueError) as absent:
        if local_files_only:
            raise WeightsError(f"{filename} of {repository!r} is not in {hub_folder()}. {remedy}") from absent
        logger.info("fetching %s of %s from the hub", filename, repository)
        try:
            path = Path(hf_hub_download(repository, filename))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{filename} of {repository!r} could not be fetched ({error}). {remedy}") from error
    _check_hash(path)
    return path


def _check_hash(path: Path) -> None:
    """The cache keeps a large file under its sha256, and a link to it under its name."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.name:
            raise WeightsError(
                f"{path} has the hash {found[:12]}…, not {blob.name[:12]}…. Delete {blob} to fetch it again."
            )
