"""Values of ``freeze_depth`` that mean different boundaries.

Promises that no two of them are the same candidate. Knows stages and what they cost; must not know samples or targets.
"""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skltransfer._system.validation import checks_arguments
from skltransfer.backbones import Backbone, describe_backbone, freeze_boundary, outlined_backbone


@checks_arguments(
    {
        "backbone": [str, Backbone],
        "n": [Interval(Integral, 2, None, closed="left")],
        "by": [StrOptions({"stages", "cost"})],
    }
)
def freeze_depth_grid(backbone: str | Backbone, n: int = 5, *, by: str = "stages") -> list[float]:
    """Get values of ``freeze_depth`` for a search, from 0.0 (train everything) to 1.0 (train only the head).

    Each value freezes another number of stages of this backbone, so that no candidate of a search repeats another.

    Parameters
    ----------
    backbone : str or Backbone
        Name of the backbone, or a loaded one. Given a name, no weights are downloaded or read, because they have no
        influence; a name of the Hugging Face hub requires the network's configuration, as in :func:`describe_backbone`.
    n : int, default=5
        Number of values, at least 2. Fewer are returned if the backbone has fewer stages, or if one stage accounts for
        most of the cost.
    by : {"stages", "cost"}, default="stages"
        Quantity that is spaced evenly: ``"stages"`` is the number of frozen stages, ``"cost"`` their share of the
        multiplications of one forward pass.

    Returns
    -------
    list of float
        Increasing values in [0, 1], with as few digits as possible.

    Raises
    ------
    ValueError
        If ``n`` is less than 2, or ``by`` is not one of the choices.
    BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
        As :func:`load_backbone` raises them.

    See Also
    --------
    FreezeDepthDisplay : Plot the result of the search.
    describe_backbone : Describe the stages of a backbone.

    Examples
    --------
    >>> from skltransfer import freeze_depth_grid
    >>> freeze_depth_grid("bundled:efficientnet-lite0", 4)
    [0.0, 0.38, 0.62, 1.0]
    >>> freeze_depth_grid("bundled:efficientnet-lite0", 4, by="cost")
    [0.0, 0.5, 0.75, 1.0]
    """
    backbone = outlined_backbone(backbone) if isinstance(backbone, str) else backbone
    find = _after_cost if by == "cost" else _after_stages
    boundaries = sorted(set(find(backbone, np.linspace(0, 1, n))))
    return [_shortest_fraction(boundary, backbone.stage_names) for boundary in boundaries]


def _after_stages(backbone: Backbone, shares: np.ndarray) -> list[int]:
    return [freeze_boundary(share, backbone.stage_names) for share in shares]


def _after_cost(backbone: Backbone, shares: np.ndarray) -> list[int]:
    """The boundaries before which the share of the cost is nearest to each of ``shares``; all of it is the end."""
    frozen = np.cumsum([0.0, *(stage.cost_share for stage in describe_backbone(backbone).stages)])
    nearest = np.abs(frozen[:-1] - shares[:-1, None]).argmin(axis=1)
    return [*map(int, nearest), backbone.n_stages]


def _shortest_fraction(boundary: int, stage_names: tuple[str, ...]) -> float:
    exact = boundary / len(stage_names)
    rounded = (round(exact, digits) for digits in range(2, 16))
    return next((value for value in rounded if freeze_boundary(value, stage_names) == boundary), exact)
