"""Networks that tests name: the default one, and one whose weights lie beside the tests, not in the package."""

import pathlib

import pytest

from skltransfer import Backbone, load_backbone

DEFAULT = "bundled:efficientnet-lite0"
TINY_PHOTO = "bundled:tiny-photo"
WEIGHTS = pathlib.Path(__file__).parent / "weights" / "tiny-photo.safetensors"


def tiny_photo_weights() -> str:
    """The file of its weights; the test is skipped where the file is absent."""
    if not WEIGHTS.is_file():
        pytest.skip(f"{WEIGHTS.name} is absent: a clone of the repository has it, the source distribution does not")
    return str(WEIGHTS)


def tiny_photo(**options) -> Backbone:
    """``bundled:tiny-photo`` with its pretrained weights; ``options`` are those of ``load_backbone``."""
    return load_backbone(TINY_PHOTO, weights=tiny_photo_weights(), **options)


def small_default() -> Backbone:
    """The default network, pretrained, at 64 px: a twelfth of its cost, for tests that fit many times."""
    return load_backbone(DEFAULT, input_size=64)


def weights_of(name: str) -> str:
    """What to pass as ``weights`` so that a network of this name is pretrained, or random where that takes a hub."""
    if name == TINY_PHOTO:
        return tiny_photo_weights()
    return "pretrained" if name.startswith(("bundled:", "toy:")) else "random"
