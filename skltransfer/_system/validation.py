"""scikit-learn's decorators that check parameters, with types: a type checker sees the signatures behind them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sklearn.base import _fit_context
from sklearn.utils._param_validation import validate_params

Function = TypeVar("Function", bound=Callable[..., Any])


def checks_parameters(*, also_nested: bool = False) -> Callable[[Function], Function]:
    """Of a method that fits: the estimator's parameters are checked first, and ``also_nested`` estimators' own."""
    return _fit_context(prefer_skip_nested_validation=not also_nested)


def checks_arguments(constraints: Mapping[str, Any]) -> Callable[[Function], Function]:
    """Of a function: its arguments are checked first against constraints by name."""
    return validate_params(dict(constraints), prefer_skip_nested_validation=True)
