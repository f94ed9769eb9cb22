"""Descriptions of classes in words, which stand for labeled samples where the network reads text.

Must not know networks or tasks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

HOLE = "{}"


def described_classes(names: Any, prompt: str, y: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    """Labels and texts, one of each per description.

    Parameters
    ----------
    names : mapping or True
        The parameter ``class_names``.
    prompt : str
        Template of the texts.
    y : ndarray of shape (n,) or None
        Labels of the samples; None if they have none, which needs a mapping.

    Raises
    ------
    ValueError
        If a description is no text, or a label of y has none.
    """
    if prompt.count(HOLE) != 1:
        raise ValueError(f"prompt must contain '{{}}' once, where the name of a class goes; got {prompt!r}.")
    if not isinstance(names, Mapping):
        names = _own_words(y)
    pairs = [(label, text) for label, texts in names.items() for text in _texts(label, texts)]
    if len({isinstance(label, str) for label, _ in pairs}) != 1:
        raise ValueError(f"The keys of class_names must be labels, all strings or all numbers; got {list(names)!r}.")
    unknown = [] if y is None else [label for label in np.unique(y).tolist() if label not in names]
    if unknown:
        raise ValueError(
            f"y holds the labels {unknown[:5]!r}, which class_names does not describe: its keys are {list(names)!r}. "
            "Describe every class, in the type that y has."
        )
    return np.array([label for label, _ in pairs]), [prompt.replace(HOLE, text) for _, text in pairs]


def _own_words(y: np.ndarray) -> dict[Any, str]:
    labels = np.unique(y).tolist()
    if not all(isinstance(label, str) for label in labels):
        raise ValueError(
            f"class_names=True reads the labels of y as words, but y holds {labels[0]!r}. Pass a dict from label to "
            "description."
        )
    return {label: label for label in labels}


def _texts(label: Any, texts: Any) -> list[str]:
    found = [texts] if isinstance(texts, str) else texts if isinstance(texts, list | tuple) else []
    if not found or not all(isinstance(one, str) and one.strip() for one in found):
        raise ValueError(
            f"class_names must map each label to a text or a list of texts; got {texts!r} for the label {label!r}."
        )
    return list(found)
