"""What the fine-tuning estimators share whose targets lie at places of an image: masks and boxes.

They see the whole image, in a letterbox or squashed, and read the maps of several stages. Must not know what a target
means.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from skltransfer._catalogue import OwnHead
from skltransfer._estimators.parameters import ReadsImages, declared, parameter
from skltransfer._estimators.structured_fine_tuner import StructuredFineTuner
from skltransfer.backbones import Backbone, layer_boundaries, own_head
from skltransfer.engine import OWN_HEAD, NetworkSpec, NetworkState, map_shape
from skltransfer.exceptions import BadSampleError, UnsupportedBackboneError
from skltransfer.inputs import Samples

WHOLE = {"letterbox", "squash"}  # ways to resize that cut nothing off


@declared
class MapFineTuner(ReadsImages, StructuredFineTuner):
    """Parent of the fine-tuning estimators whose targets lie at places of an image."""

    _sets_options = ("resize", "input_size")
    _most_maps = 4
    _finds, _with_own = "", ""  # what a head finds, and a backbone whose network has such a head of its own
    _new_heads: ClassVar[tuple[str, ...]] = ()  # the first one is that of head="auto"
    resize: str | None = parameter(default=None, constraint=[StrOptions(WHOLE), None])
    layer: str | float | list = parameter(default="auto", constraint=["array-like", str, float, int])

    def _reading_options(self) -> dict[str, Any]:
        """Images are seen as a whole: in a letterbox, unless they are to be squashed."""
        asked = super()._reading_options()
        loaded = self.backbone.options.get("resize") if isinstance(self.backbone, Backbone) else None
        how = asked.get("resize") or loaded or "letterbox"
        if how not in WHOLE:
            raise ValueError(
                f"{type(self).__name__} needs images as a whole, but backbone was loaded with resize={how!r}, which "
                f"cuts margins off. Load it with one of {sorted(WHOLE)}, or set resize."
            )
        return asked | {"resize": how}

    def _checked_target(self, y: Any, samples: Samples) -> np.ndarray:
        if self.input_kind_ != "samples":
            raise ValueError(
                f"X is a table of {self.n_features_in_} columns, but {type(self).__name__} needs images. Pass images, "
                "such as an array of shape (n_samples, height, width, channels)."
            )
        return super()._checked_target(y, samples)

    def _spec(self, backbone: Backbone, start: NetworkState | None) -> NetworkSpec:
        own = self._own_head(backbone)
        taps = self._taps(backbone, () if own is None else own.reads)
        new = self._new_heads[0] if self.head == "auto" else self.head
        return self._tapped_spec(backbone, taps, new if own is None else OWN_HEAD)

    def _own_head(self, backbone: Backbone) -> OwnHead | None:
        """The head of the backbone's own network, if it is to be used."""
        if self.head in self._new_heads:
            return None
        found = own_head(backbone, self._finds)
        if found is None and self.head == OWN_HEAD:
            raise UnsupportedBackboneError(
                f"head='own' needs a backbone whose network has a head that finds {self._finds}, such as "
                f"{self._with_own!r}; {backbone.name!r} has none. Set head={self._new_heads[0]!r}."
            )
        return found

    def _taps(self, backbone: Backbone, own: Sequence[str] = ()) -> list[int]:
        """Boundaries whose maps the head reads, of which an own head has its own; sets ``layers_``."""
        if isinstance(self.layer, str) and self.layer == "auto":
            taps = [backbone.stage_names.index(name) + 1 for name in own] or usual_taps(backbone, self._most_maps)
        else:
            taps = sorted(set(layer_boundaries(self.layer, backbone.stage_names)))
        for tap in taps:
            if _side(backbone, tap) is None:
                raise UnsupportedBackboneError(
                    f"Stage {backbone.stage_names[tap - 1]!r} of {backbone.name!r} gives no map of the image. Choose "
                    "another layer."
                )
        self.layers_ = [backbone.stage_names[tap - 1] for tap in taps]
        if own and self.layers_ != list(own):
            raise ValueError(
                f"The own head of {backbone.name!r} reads the maps of {list(own)}, but layer={self.layer!r} names "
                f"{self.layers_}. Set layer='auto', or head={self._new_heads[0]!r}."
            )
        return taps


def size_of(samples: Samples, row: int) -> tuple[int, int] | None:
    """Width and height of an image; None if it cannot be read."""
    try:
        return samples.size(row)
    except BadSampleError:
        return None


def _side(backbone: Backbone, boundary: int) -> int | None:
    """Side of the square map at a boundary; None where there is none."""
    shape = backbone.activation_shapes[boundary]
    if len(shape) == 3:
        height, width = shape[:2] if backbone.ends_in_channels(boundary) else shape[1:]
        return height if height == width > 1 else None
    return map_shape(shape, False)[1] if len(shape) == 2 and shape[0] >= 4 else None


def usual_taps(backbone: Backbone, most: int) -> list[int]:
    """The last stage of each of the smallest sizes of maps, or stages at equal distances where all have one size."""
    sides = {boundary: _side(backbone, boundary) for boundary in range(1, backbone.n_stages + 1)}
    sides = {boundary: side for boundary, side in sides.items() if side is not None}
    if not sides:
        raise UnsupportedBackboneError(
            f"No stage of {backbone.name!r} gives a map of the image. Choose another backbone."
        )
    last = {side: boundary for boundary, side in sides.items()}
    if len(last) == 1:
        places = list(sides)
        return sorted({places[round(share * len(places)) - 1] for share in (0.25, 0.5, 0.75, 1.0)})
    return sorted(sorted(last.values())[-most:])
