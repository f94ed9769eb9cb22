"""What a pickle says of the version that wrote it. Must not know what is in it."""

import functools
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from skltransfer._system.version import __version__

KEY = "_pickled_by"


class VersionStamp:
    """Mixin of estimators that warns when a pickle of another version is opened."""

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {KEY: __version__}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        version = state.pop(KEY, "an unknown version")
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was pickled by skltransfer {version}, and is opened by {__version__}: it "
                "may fail, or predict otherwise. Fit it again; or have the old version save() it, where it can.",
                stacklevel=2,
            )
        super().__setstate__(state)
        for name, default in _defaults(type(self)).items():
            if name not in vars(self):
                setattr(self, name, default)  # of a parameter that the version that wrote it did not have


@functools.cache
def _defaults(kind: type) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}
