"""What a bug report needs to say about the machine."""

import importlib.metadata
import platform
import sys

from skltransfer._system.version import __version__

LIBRARIES = (
    "scikit-learn",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "numpy",
    "scipy",
    "safetensors",
    "Pillow",
    "joblib",
    "peft",
    "accelerate",
    "soundfile",
    "tifffile",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
)


def show_versions() -> None:
    """Print the versions of Python, of this package and of the libraries that it uses, for a bug report.

    Examples
    --------
    >>> from skltransfer import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    python: 3...
    """
    lines = [
        f"python: {sys.version.split()[0]}",
        f"machine: {platform.platform()}",
        f"skltransfer: {__version__}",
    ]
    lines += [f"{name}: {_version(name)}" for name in LIBRARIES]
    sys.stdout.write("\n".join(lines) + "\n")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
