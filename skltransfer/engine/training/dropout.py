"""Dropout on a CPU whose masks use 16 random bits for each value.

PyTorch draws a number for each value, one after the other, on CPUs without MKL's generator: 4 ms for 370,000 values,
where this takes 1 ms. Must not know losses, targets or the store.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from skltransfer._system.autocast import autocast

LEVELS = 2**16
LOWEST = -(2**15)  # of 16 bits with a sign
LEAST = torch.finfo(torch.float32).min  # -inf would make a row without any other value NaN


def fast_dropout(device: torch.device) -> AbstractContextManager:
    """Context in which dropout on a CPU draws its masks faster; on other devices it is PyTorch's own."""
    return _FastDropout() if device.type == "cpu" else nullcontext()


class _FastDropout(TorchFunctionMode):
    """Replaces dropout of values, and of attention weights; all else is called as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = REPLACEMENTS[func](*args, **(kwargs or {})) if func in REPLACEMENTS else None
        return func(*args, **(kwargs or {})) if found is None else found


def _dropout(values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor | None:
    if not training or inplace or not _can_drop(values, p):
        return None
    return values * _kept(values.shape, p).to(values.dtype).mul_(_growth(p))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor | None:
    """As PyTorch computes it where weights are dropped: in float32, and zero where a row attends to nothing."""
    if enable_gqa or (is_causal and attn_mask is not None) or not _can_drop(query, dropout_p):
        return None
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    with autocast(query.device, None):
        scores = (query.float() * factor) @ key.float().transpose(-2, -1)
        kept = _kept(scores.shape, dropout_p).float()
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril() if is_causal else attn_mask
        if allowed is not None:
            is_boolean = allowed.dtype == torch.bool
            scores.add_(torch.where(allowed, 0.0, LEAST) if is_boolean else allowed.float().clamp_min(LEAST))
            kept.mul_(allowed if is_boolean else allowed > -math.inf)
        return ((scores.softmax(-1) * kept) @ (value.float() * _growth(dropout_p))).to(query.dtype)


def _can_drop(values: torch.Tensor, p: float) -> bool:
    is_plain = values.device.type == "cpu" and values.layout == torch.strided and not values.is_nested
    return is_plain and values.is_floating_point() and 0 < _threshold(p) < LEVELS


def _threshold(p: float) -> int:
    return round(p * LEVELS)


def _growth(p: float) -> float:
    """Factor of the kept values that leaves the mean as it is."""
    return LEVELS / (LEVELS - _threshold(p))


def _kept(shape: torch.Size, p: float) -> torch.Tensor:
    """False with the probability p, rounded to 16 bits."""
    size = math.prod(shape)
    words = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    return (words.view(torch.int16)[:size] >= _threshold(p) + LOWEST).view(shape)


REPLACEMENTS = {F.dropout: _dropout, F.scaled_dot_product_attention: _attention}
