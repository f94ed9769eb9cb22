"""Reading the one knob: from ``freeze_depth`` to the number of frozen stages. By value, never by type.

GridSearchCV turns a grid of ``[0, 0.5, 1]`` into floats, so ``1`` and ``1.0`` must mean the same, and so must ``-2``
and ``-2.0``.
"""

import difflib
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np


def is_automatic(freeze_depth: Any) -> bool:
    """True if the value leaves the choice to the data, for estimators that make one."""
    return isinstance(freeze_depth, str) and freeze_depth == "auto"


def freeze_boundary(freeze_depth: float | str, stage_names: Sequence[str], *, also: str = "") -> int:
    """Number of frozen stages, counted from the input.

    Parameters
    ----------
    freeze_depth : number in [0, 1], negative whole number, or str
        A fraction of the stages, ``-k`` for all but the last k stages, or the name of the last frozen stage.
    stage_names : sequence of str
        Names of the stages.
    also : str, default=""
        Further values that the caller accepts, for the error message.

    Returns
    -------
    int
        0 … ``len(stage_names)``.

    Raises
    ------
    ValueError
        If the value has none of these forms; the message names them and the stages.

    Examples
    --------
    >>> stages = ("stem", "layer1", "layer2", "layer3", "layer4")
    >>> [freeze_boundary(f, stages) for f in (0, 0.25, 0.5, 0.75, 1.0, -1, "layer3")]
    [0, 1, 3, 4, 5, 4, 4]
    """
    n = len(stage_names)
    if isinstance(freeze_depth, str):
        if freeze_depth in stage_names:
            return list(stage_names).index(freeze_depth) + 1
    elif isinstance(freeze_depth, numbers.Real) and not isinstance(freeze_depth, bool | np.bool_):
        value = float(freeze_depth)
        if value in (0.0, 1.0):
            return int(value) * n
        if 0 < value < 1:
            return min(max(math.floor(value * n + 0.5), 1), max(n - 1, 1))
        if value.is_integer() and -n < value < 0:
            return n + int(value)
    nearest = difflib.get_close_matches(str(freeze_depth), stage_names, n=len(stage_names), cutoff=0.3)
    ordered = [*nearest, *(name for name in stage_names if name not in nearest)]
    raise ValueError(
        f"freeze_depth must be a number in [0, 1] (the fraction of frozen stages), a negative whole number -k with "
        f"k < {n} (all but the top k stages are frozen), or the name of the last frozen stage, one of {ordered}{also}; "
        f"got {freeze_depth!r}."
    )


def layer_boundaries(layers: Any, stage_names: Sequence[str]) -> list[int]:
    """Numbers of stages up to those that the parameter ``layer`` names: one, or several in a list.

    Raises
    ------
    ValueError
        If it names none, or one is neither a stage nor a fraction.
    """
    layers = [layers] if np.ndim(layers) == 0 else list(layers)
    if not layers:
        raise ValueError(f"layer must name at least one stage, got {layers!r}. Pass 'penultimate' for the last.")
    return [layer_boundary(layer, stage_names, "layer") for layer in layers]


def layer_boundary(layer: str | float, stage_names: Sequence[str], parameter: str) -> int:
    """Get the number of stages up to the one that is read; ``"penultimate"`` is the last.

    Parameters
    ----------
    layer : str or float
        Name of a stage, ``"penultimate"``, or a fraction of the stages.
    stage_names : sequence of str
        Names of the backbone's stages.
    parameter : str
        Name of the parameter, for the error message.

    Raises
    ------
    ValueError
        If the value is neither a stage nor a fraction; the message lists the choices, the nearest first.
    """
    if isinstance(layer, str) and layer == "penultimate":
        return len(stage_names)
    try:
        if isinstance(layer, numbers.Real) and layer < 0:
            raise ValueError("freeze_depth=-k counts from the top; layers do not")
        return max(1, freeze_boundary(layer, stage_names))
    except ValueError:
        names = [*stage_names, "penultimate"]
        nearest = difflib.get_close_matches(str(layer), names, n=len(names), cutoff=0.3)
        ordered = [*nearest, *(name for name in names if name not in nearest)]
        raise ValueError(
            f"{parameter} takes names of stages, or numbers in [0, 1] (fractions of the stages), but got {layer!r}. "
            f"Pass one of {ordered}."
        ) from None
