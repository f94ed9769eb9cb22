"""Old places of modules, which forward to the new ones until version 0.2, because pickles name them.

The package and its engine search this folder after their own.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def forwarding(module: str, moved: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module whose members moved.

    Parameters
    ----------
    module : str
        Old name of the module.
    moved : mapping of str to str
        New place, as ``"module:name"``, of each member of the old module.
    """

    def member(name: str) -> Any:
        if name not in moved:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, now = moved[name].partition(":")
        warnings.warn(
            f"{module}.{name} is now {place}.{now}; the old name ends with version 0.2. Pickle the estimator again, "
            "or import it from skltransfer.",
            FutureWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(place), now)

    return member
