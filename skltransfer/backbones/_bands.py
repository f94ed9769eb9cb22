"""Images of other channels than red, green and blue: names of bands, and a first layer that reads them.

A network that was pretrained on colors sees colors that are mixed from the bands: a band that is a color is that color,
and any other band is gray, which is all three. The mixing is linear, so it is done once, in the filters of the first
layer. Knows modules and tensors; no library.
"""

import numbers
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from skltransfer.backbones._refusals import summary
from skltransfer.exceptions import UnsupportedBackboneError

COLOURS = ("red", "green", "blue")
MOST_BANDS = 1000
FURTHER = 0.05  # share of all bands together that are beside red, green and blue
LETTERS = {"r": "red", "g": "green", "b": "blue"}
_told: set[int] = set()  # numbers of bands of which a warning said what was guessed


def checked_bands(bands: object) -> tuple[str, ...] | None:
    """Names of bands. A number from 3 on stands for red, green, blue and others, which is told once.

    Raises
    ------
    ValueError
        If it is neither a number nor a sequence of different names.
    """
    if bands is None:
        return None
    if isinstance(bands, numbers.Integral) and not isinstance(bands, bool) and 1 <= bands <= MOST_BANDS:
        return _of_number(int(bands))
    is_sequence = isinstance(bands, list | tuple | np.ndarray) and 1 <= len(bands) <= MOST_BANDS
    if not is_sequence or not all(isinstance(name, str) and name.strip() for name in bands):
        raise ValueError(
            f"bands must be a number from 1 to {MOST_BANDS}, names such as ('red', 'green', 'blue', 'nir'), or None; "
            f"got {bands!r}."
        )
    names = _with_usual_colours([str(name).strip() for name in bands])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Each of bands needs a name of its own, but {twice} are there twice: {bands!r}.")
    return names


def _with_usual_colours(names: Sequence[str]) -> tuple[str, ...]:
    """Colors by their usual names, also where all three are letters; others as they are."""
    letters = LETTERS if {name.lower() for name in names} >= LETTERS.keys() else {}
    usual = {name: letters.get(name.lower(), name.lower()) for name in names}
    return tuple(usual[name] if usual[name] in COLOURS else name for name in names)


def _of_number(n: int) -> tuple[str, ...]:
    if n < len(COLOURS):
        return tuple(f"band{i + 1}" for i in range(n))
    names = (*COLOURS, *(f"band{i + 1}" for i in range(len(COLOURS), n)))
    if n not in _told:
        warnings.warn(
            f"bands={n} says how many channels images have, but not which: the first three are taken for red, green "
            f"and blue. If they are others, name them, such as bands=('nir', 'red', 'green'{', ...' * (n > 3)}).",
            stacklevel=4,
        )
        _told.add(n)
    return names


def mixing(bands: Sequence[str]) -> torch.Tensor:
    """How much of each band each of the three colors is, (3, n).

    Where all bands agree, the colors add up to three times what they are. If no color is missing, colors are little
    more than themselves: features of a frozen network must not suffer from a band that says nothing.
    """
    further = [name not in COLOURS for name in bands]
    weights = [len(COLOURS) / len(bands)] * len(bands)
    if 0 < sum(further) == len(bands) - len(COLOURS):
        weights = [len(COLOURS) * FURTHER / sum(further) if one else 1 - FURTHER for one in further]
    shares = torch.zeros(len(COLOURS), len(bands))
    for i, name in enumerate(bands):
        if name in COLOURS:
            shares[COLOURS.index(name), i] = weights[i]
        else:
            shares[:, i] = weights[i] / len(COLOURS)
    return shares


def per_band(values: Sequence[float], bands: Sequence[str]) -> tuple[float, ...]:
    """Values of the three colors -> those of bands: a color's own, or else their mean."""
    mean = sum(values) / len(values)
    return tuple(values[COLOURS.index(name)] if name in COLOURS else mean for name in bands)


def read_bands(
    network: nn.Module, bands: Sequence[str], run: Callable[[torch.Tensor], object], inputs: torch.Tensor, name: str
) -> str:
    """Change a network's first layer in place so that it reads bands instead of colors; the name of its weights.

    Parameters
    ----------
    network : nn.Module
        Network of images of three channels.
    bands : sequence of str
        Names of the bands.
    run : callable
        Function that passes inputs through the network.
    inputs : Tensor of shape (n_inputs, 3, side, side)
        Inputs to find the first layer with.
    name : str
        Name of the backbone, for error messages.

    Raises
    ------
    UnsupportedBackboneError
        If there is not one convolution that reads the input.
    """
    first = _first_layers(network, run, inputs)
    if len(first) != 1:
        found = "no convolution reads" if not first else f"{len(first)} convolutions read"
        raise refusal(name, f"{found} its input of three channels")
    (path,) = first
    layer = network.get_submodule(path)
    weight = torch.einsum("kchw,cn->knhw", layer.weight.detach(), mixing(bands).to(layer.weight.dtype))
    layer.weight, layer.in_channels = nn.Parameter(weight.contiguous(), requires_grad=False), len(bands)
    parents = [path.rsplit(".", depth)[0] for depth in range(1, path.count(".") + 1)]
    for module in (network, *map(network.get_submodule, parents), getattr(network, "config", None)):
        if getattr(module, "num_channels", None) == len(COLOURS):  # networks of transformers compare with it
            module.num_channels = len(bands)
    return f"{path}.weight"


def _first_layers(network: nn.Module, run: Callable[[torch.Tensor], object], inputs: torch.Tensor) -> list[str]:
    """Paths of the convolutions that are given the very input; or else of those that may be given a padded one."""
    ran: dict[str, bool] = {}

    def note(path: str) -> Callable[[nn.Module, tuple], None]:
        return lambda module, args: ran.__setitem__(path, torch.equal(args[0], inputs))

    convolutions = [
        (path, module)
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == len(COLOURS) and module.groups == 1
    ]
    handles = [module.register_forward_pre_hook(note(path)) for path, module in convolutions]
    try:
        with torch.inference_mode():
            run(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [path for path, is_given_it in ran.items() if is_given_it] or list(ran)


def refuse_unless_mixed(
    of_bands: Callable[[torch.Tensor], torch.Tensor],
    of_colours: Callable[[torch.Tensor], torch.Tensor],
    bands: Sequence[str],
    inputs: torch.Tensor,
    name: str,
    tolerance: float = 1e-4,
) -> None:
    """Raise unless a network gives for bands what it gave for the colors that are mixed from them.

    Parameters
    ----------
    of_bands, of_colours : callable
        Functions from inputs to activations: of the network as it is now, and as it was.
    bands : sequence of str
        Names of the bands.
    inputs : Tensor of shape (n_inputs, n_bands, side, side)
        Inputs to compare on.
    name : str
        Name of the backbone, for error messages.
    tolerance : float, default=1e-4
        Largest difference, relative to the largest value.

    Raises
    ------
    UnsupportedBackboneError
        Also if the network does not run on bands.
    """
    colours = torch.einsum("nihw,ci->nchw", inputs, mixing(bands))
    with torch.inference_mode():
        expected = of_colours(colours)
        try:
            found = of_bands(inputs)
        except Exception as error:
            raise refusal(name, f"its library raises {summary(error)}") from None
    if not (found - expected).abs().max() <= tolerance * expected.abs().max():
        raise refusal(name, "its first layer is not linear in its weights, or is not the only one that reads the input")


def refusal(name: str, reason: str) -> UnsupportedBackboneError:
    """The complaint about a network that cannot read other channels than colors."""
    return UnsupportedBackboneError(
        f"{name!r} cannot read bands: {reason}. Choose a network whose first layer is one convolution, such as "
        "'bundled:efficientnet-lite0', or leave out bands."
    )
