"""A dataset of PyTorch or torchvision that gives pairs -> X and y, as scikit-learn takes them.

Promises that samples are read when they are needed, one at a time, and that labels which a dataset keeps apart are
known without reading a sample. Everything is judged by attributes; neither library is imported.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from skltransfer.inputs._lazy import DatasetItem, column_of, refusal_of_torch
from skltransfer.inputs._samples import as_array, shown

FOLDERS, PARTS = "torchvision.datasets.folder", "torch.utils.data"


def from_torch_dataset(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Split a PyTorch dataset of (sample, label) pairs into X and y, without loading the samples.

    Estimators read each sample when they need it, so ``train_test_split``, ``cross_val_score`` and ``GridSearchCV``
    work on datasets that do not fit in memory.

    Parameters
    ----------
    dataset : map-style dataset
        Dataset with a length whose items are pairs, such as ``torchvision.datasets.ImageFolder``, or a ``Subset`` or
        ``ConcatDataset`` of such datasets. It must not have a ``transform``, and must return the same sample each time.

    Returns
    -------
    X : ndarray of shape (n_samples,)
        Paths of the images of an ``ImageFolder``; otherwise references to the samples, of type object.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Names of the classes if the dataset has ``classes``, otherwise its labels. They are taken from ``targets`` or
        ``labels`` if the dataset has them; otherwise each item is read once.

    Raises
    ------
    ValueError
        If the dataset has no positions, is empty, has a ``transform``, or gives no pairs.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from torchvision.datasets import ImageFolder
    >>> from skltransfer import FineTunedClassifier, from_torch_dataset
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for i in range(6):
    ...     (folder / ["ants", "bees"][i % 2]).mkdir(exist_ok=True)
    ...     Image.new("RGB", (32, 32), (40 * i, 0, 200 * (i % 2))).save(folder / ["ants", "bees"][i % 2] / f"{i}.png")
    >>> X, y = from_torch_dataset(ImageFolder(folder))
    >>> y.tolist()
    ['ants', 'ants', 'ants', 'bees', 'bees', 'bees']
    >>> FineTunedClassifier("toy:images", freeze_depth=1.0, random_state=0).fit(X, y).classes_.tolist()
    ['ants', 'bees']
    """
    rows = _rows(dataset)
    if not rows:
        raise ValueError(f"Expected a dataset with samples, got a {type(dataset).__name__} of length 0.")
    positions, roots = defaultdict(list), {}
    for position, (root, _) in enumerate(rows):
        positions[id(root)].append(position)
        roots[id(root)] = root
    X, y, named = [None] * len(rows), [None] * len(rows), set()
    for key, root in roots.items():
        _refuse_transform(root)
        indices = [rows[position][1] for position in positions[key]]
        labels, has_names = _labels(root, indices)
        named.add(has_names)
        for position, sample, label in zip(positions[key], _samples(root, indices), labels, strict=True):
            X[position], y[position] = sample, label
    if len(named) > 1:
        raise ValueError(
            "Expected the same kind of labels in all parts of the dataset; some have names of classes and others have "
            "none. Split each part with from_torch_dataset, and join X and y with numpy.concatenate."
        )
    are_paths = all(isinstance(sample, str) for sample in X)
    return np.array(X) if are_paths else column_of(X), _as_targets(y)


def _rows(dataset: Any) -> list[tuple[Any, int]]:
    """The dataset that holds each row, and the row's position in it."""
    refusal = refusal_of_torch(dataset)
    if refusal is None and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        refusal = "which has no length or no positions", "Pass X and y themselves"
    if refusal is not None:
        why, remedy = refusal
        raise ValueError(f"Expected a map-style dataset of pairs, got a {type(dataset).__name__}, {why}. {remedy}.")
    if _is_read_by(dataset, PARTS) and hasattr(dataset, "datasets") and hasattr(dataset, "cumulative_sizes"):
        return [row for part in dataset.datasets for row in _rows(part)]
    if _is_read_by(dataset, PARTS) and hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        inner = _rows(dataset.dataset)
        return [inner[int(i)] for i in dataset.indices]
    return [(dataset, i) for i in range(len(dataset))]


def _is_read_by(dataset: Any, module: str) -> bool:
    """True if a dataset's items are those of the library's own class, and not of one that the user derived from it."""
    return getattr(type(dataset).__getitem__, "__module__", "").startswith(module)


def _refuse_transform(dataset: Any) -> None:
    both = getattr(dataset, "transforms", None)
    found = getattr(dataset, "transform", None)
    if found is None and not hasattr(both, "transform"):
        found = both
    if found is not None:
        raise ValueError(
            f"Expected a dataset without a transform, but {type(dataset).__name__} has {found!r:.200}. Set "
            "dataset.transform = None: the backbone preprocesses images itself, and the estimators' parameter augment "
            "takes random transforms."
        )


def _pair(dataset: Any, index: int) -> Sequence[Any]:
    item = dataset[index]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item
    what = f"a tuple of {len(item)}" if isinstance(item, tuple | list) else shown(item)
    remedy = "Pass X and y themselves"
    if not isinstance(item, tuple | list | dict):
        remedy = "Pass the dataset itself as X if its items are samples"
    where = f"item {index} of {type(dataset).__name__}"
    raise ValueError(f"Expected a dataset of pairs (sample, label), but {where} is {what}. {remedy}.")


def _samples(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """Paths, texts, or references to samples."""
    is_folder = _is_read_by(dataset, FOLDERS) and hasattr(dataset, "samples")
    if is_folder and getattr(getattr(dataset, "loader", None), "__module__", "") == FOLDERS:
        return [str(dataset.samples[i][0]) for i in indices]
    if isinstance(_pair(dataset, indices[0])[0], str | os.PathLike):
        return [str(_pair(dataset, i)[0]) for i in indices]
    return [DatasetItem(dataset, i, is_pair=True) for i in indices]


def _labels(dataset: Any, indices: Sequence[int]) -> tuple[list[Any], bool]:
    """Labels, and whether they are names of classes."""
    change = getattr(dataset, "target_transform", None)
    known = _known_labels(dataset, indices, change)
    labels = [_plain(_pair(dataset, i)[1]) for i in indices] if known is None else known
    names = getattr(dataset, "classes", None)
    has_names = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) and change is None
    if has_names and all(type(label) is int and 0 <= label < len(names) for label in labels):
        return [names[label] for label in labels], True
    return labels, all(isinstance(label, str) for label in labels)


def _known_labels(dataset: Any, indices: Sequence[int], change: Any) -> list[Any] | None:
    """Labels that a dataset keeps apart, unless its own items say otherwise."""
    kept = next((v for v in (getattr(dataset, n, None) for n in ("targets", "labels")) if v is not None), None)
    if not hasattr(kept, "__len__") or not hasattr(kept, "__getitem__") or len(kept) != len(dataset):
        return None
    try:
        labels = [_plain(kept[i] if change is None else change(kept[i])) for i in indices]
    except (KeyError, IndexError, TypeError):
        return None
    looked_at = () if _is_read_by(dataset, FOLDERS) else {0, len(indices) // 2, len(indices) - 1}
    are_alike = (_equal(_plain(_pair(dataset, indices[i])[1]), labels[i]) for i in looked_at)
    return labels if all(are_alike) else None


def _plain(label: Any) -> Any:
    """Numbers of PyTorch and NumPy as Python's own, arrays as NumPy's."""
    if hasattr(label, "__array__") and not hasattr(label, "getexif"):
        values = as_array(label)
        return values.item() if values.ndim == 0 else values
    return label


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def _as_targets(labels: list[Any]) -> np.ndarray:
    """Labels as an array: (n,), or (n, outputs) where each is a row of numbers."""
    if all(isinstance(label, str | int | float | bool) for label in labels):
        return np.array(labels)
    shapes = {label.shape for label in labels if isinstance(label, np.ndarray)}
    are_rows = len(shapes) == 1 and len(next(iter(shapes))) == 1 and all(isinstance(x, np.ndarray) for x in labels)
    return np.stack(labels) if are_rows else column_of(labels)
