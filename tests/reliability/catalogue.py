"""What a fault is, and the bench on which each is tried: small data, made anew, and the estimators that meet it."""

import io
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skltransfer import FineTunedClassifier, FineTunedRegressor, PretrainedFeatureExtractor
from skltransfer.inputs._images import ImageSamples


@dataclass(frozen=True)
class Bench:
    """Where a fault is tried.

    Attributes
    ----------
    place : Path
        An empty folder.
    patch : MonkeyPatch
    rng : Generator
    """

    place: pathlib.Path
    patch: pytest.MonkeyPatch
    rng: np.random.Generator

    def photos(self, n: int = 2) -> list[np.ndarray]:
        return list(self.rng.integers(0, 256, (n, 20, 24, 3), dtype=np.uint8))

    def file(self, content: bytes, name: str = "photo.jpg") -> pathlib.Path:
        path = self.place / name
        path.write_bytes(content)
        return path

    def table(self, n: int = 24) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a network can tell apart, of two kinds."""
        y = np.arange(n) % 2
        return (self.rng.normal(size=(n, 4)) + 2 * y[:, None]).astype(np.float32), y

    def behind(self, bad: Any) -> list[Any]:
        """Two sound pictures, and a bad one as ``X[2]``."""
        return [*self.photos(), bad]


@dataclass(frozen=True)
class Fault:
    """A row of the catalogue, or one case of a row.

    Attributes
    ----------
    row : int
        Its number.
    what : str
    use : callable
        Makes the input on a bench and uses it. Where no error is expected, it returns ``(got, expected)``.
    error : type, optional
        That is raised.
    where, says, remedy : str
        Regular expressions that the error's text (or the warnings') holds: the place in X, the cause, what to do.
    """

    row: int
    what: str
    use: Callable[[Bench], Any]
    error: type[Exception] | None = None
    where: str = ""
    says: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.row}: {self.what}"


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def features(X: Any, backbone: Any = "toy:images", **parameters: Any) -> np.ndarray:
    return PretrainedFeatureExtractor(backbone, **{"dtype": "float32", "cache": None, **parameters}).transform(X)


def pixels(item: Any) -> np.ndarray:
    """A picture as networks are shown it, before it is resized."""
    samples = ImageSamples([item], max_pixels=10**6)
    shown = samples.read(0)
    samples.tell_remarks([b""])
    return shown


def classifier(backbone: str = "toy:rows", **parameters: Any) -> FineTunedClassifier:
    few = {"freeze_depth": 0.5, "max_epochs": 2, "random_state": 0, "dtype": "float32"}
    return FineTunedClassifier(backbone, **(few | parameters))


def regressor(**parameters: Any) -> FineTunedRegressor:
    return FineTunedRegressor("toy:rows", **({"freeze_depth": 1.0, "dtype": "float32"} | parameters))
