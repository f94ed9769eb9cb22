"""scikit-learn's decorators that check parameters, with types: a type checker sees the signatures behind them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sklearn.base import _fit_context
from sklearn.utils._param_validation import validate_params

Function = TypeVar("Function", bound=Callable[..., Any])


def checks_parameters(*, also_nested: bool = False) -> Callable[[Function], Function]:
    """Check the estimator's parameters before the method runs, and those of nested estimators if ``also_nested``."""
    return _fit_context(prefer_skip_nested_validation=not also_nested)


def checks_arguments(constraints: Mapping[str, Any]) -> Callable[[Function], Function]:
    """Check the arguments of a function against constraints, by name, before it runs."""
    return validate_params(dict(constraints), prefer_skip_nested_validation=True)
