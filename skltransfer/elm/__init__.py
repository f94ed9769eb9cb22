"""Extreme learning machines: random hidden layers under a ridge regression."""

from skltransfer._moved import forwarding
from skltransfer.elm._elm import ELMClassifier, ELMRegressor

__all__ = ["ELMClassifier", "ELMRegressor"]

__getattr__ = forwarding(__name__, {"_HiddenLayer": "skltransfer.elm._elm:_HiddenLayer"})  # pickles name it
