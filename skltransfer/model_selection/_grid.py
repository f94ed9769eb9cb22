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
    """Values of ``freeze_depth`` to search over, from 0.0 (train everything) to 1.0 (train the head alone).

    Each value means another boundary of this backbone, so that no candidate of a search repeats another.

    Parameters
    ----------
    backbone : str or Backbone
        Given a name, no weights are fetched or read, since they have no influence; as in :func:`describe_backbone`, a
        name of the Hugging Face hub needs the network's configuration.
    n : int, default=5
        Values wanted, at least 2; fewer come back where the backbone has fewer boundaries, or where one stage holds
        so much of the cost that several wishes meet at its end.
    by : {"stages", "cost"}, default="stages"
        Quantity that is spaced evenly: the number of frozen stages, or their share of the multiplications of one
        forward pass.

    Returns
    -------
    list of float
        Ascending, each in [0, 1], rounded as far as its meaning allows.

    Raises
    ------
    ValueError
        If ``n`` is less than 2, or ``by`` is neither of these.

    See Also
    --------
    describe_backbone : What each stage holds, gives and costs.

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
