"""Images of another side than a network's weights ask for: checked when the network is loaded.

Knows backbones by their promises; no source.
"""

from collections.abc import Callable
from numbers import Integral

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._refusals import summary
from skltransfer.exceptions import UnsupportedBackboneError


def checked_input_size(value: object) -> int | None:
    """A number of pixels, or None."""
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"input_size must be a positive integer (pixels) or None, got {value!r}.")
    return int(value)


def at_input_size(load: Callable[[int | None], Backbone], side: int | None, name: str) -> Backbone:
    """Load with an input of this side; refused where the network cannot run at it.

    Parameters
    ----------
    load : callable
        Function from a side, or None for the usual one, to a backbone.
    side : int or None
        Side of the input in pixels.
    name : str
        Name of the backbone, for error messages.

    Raises
    ------
    UnsupportedBackboneError
        If the network does not run on images of this side; the message names the next larger side that works.
    """
    if side is None:
        return load(None)
    try:
        backbone = load(side)
        backbone.verify()
    except UnsupportedBackboneError as error:
        if error.__cause__ is None:  # refused on other grounds
            raise
        raise UnsupportedBackboneError(_advice(load(None), side, name, error.__cause__)) from error
    return backbone


def _advice(usual: Backbone, side: int, name: str, cause: BaseException) -> str:
    """Suggest other sides."""
    usual_side = usual.preprocessing.input_shape[-1]
    works = next((larger for larger in range(side + 1, usual_side) if usual.runs_at(larger)), None)
    if works is None and usual.runs_at(2 * usual_side):  # it takes any side that is not too small
        works = usual_side
    if works is None:
        return (
            f"{name!r} does not take input_size={side}: it is built for images of {usual_side} pixels, and its "
            f"library raises {summary(cause)}. Leave out input_size."
        )
    return (
        f"input_size={side} is too small for {name!r}: its library raises {summary(cause)}. The next side that works "
        f"is {works} pixels; its weights were trained at {usual_side}."
    )
