"""Dropout with masks of 16 random bits: what it drops, what it leaves, and PyTorch's own where it does not apply."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from skltransfer import FineTunedClassifier
from skltransfer.engine.training import dropout
from skltransfer.engine.training.dropout import fast_dropout

CPU = torch.device("cpu")
LENGTH = 6


def drawn(p, seed, shape, dtype=torch.float32):
    torch.manual_seed(seed)
    with fast_dropout(CPU):
        return F.dropout(torch.ones(shape, dtype=dtype), p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1 / 3])
def test_a_share_of_p_is_dropped_and_the_rest_grows(p, dtype):
    found = drawn(p, 0, (100_003,), dtype)
    assert found.dtype == dtype
    share = (found == 0).double().mean().item()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / len(found))
    torch.testing.assert_close(found[found != 0], torch.full_like(found[found != 0], 1 / (1 - p)), rtol=1e-2, atol=0)


@given(p=st.floats(1e-3, 0.999), shape=st.lists(st.integers(0, 9), min_size=0, max_size=4), seed=st.integers(0, 2**31))
def test_any_shape_is_dropped_alike_from_one_seed(p, shape, seed):
    found = drawn(p, seed, shape)
    assert found.shape == torch.Size(shape)
    kept = found[found != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=0.05, atol=0)
    torch.testing.assert_close(found, drawn(p, seed, shape), rtol=0, atol=0)


def test_values_are_dropped_independently():
    """Words of 64 bits hold four values: neighbours have nothing in common, nor have one draw and the next."""
    torch.manual_seed(0)
    with fast_dropout(CPU):
        first, second = (F.dropout(torch.ones(40_000), 0.5) == 0 for _ in range(2))
    for lag in (1, 2, 3, 4, 8):
        assert abs((first[lag:] == first[:-lag]).double().mean().item() - 0.5) < 0.02
    assert abs((first == second).double().mean().item() - 0.5) < 0.02


def test_gradients_pass_where_values_did():
    x = torch.randn(50, 7, requires_grad=True)
    with fast_dropout(CPU):
        found = nn.Dropout(0.3)(x)
    found.sum().backward()
    torch.testing.assert_close(x.grad * x, found)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: F.dropout(x, 0.0),
        lambda x: F.dropout(x, 1.0),
        lambda x: F.dropout(x.clone(), 0.5, inplace=True),
        lambda x: nn.Dropout(0.5).eval()(x),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], dropout_p=0.5, enable_gqa=True),
        lambda x: F.feature_alpha_dropout(x, 0.5, training=True),
    ],
)
def test_elsewhere_it_is_pytorchs_own(call):
    x = torch.randn(4, 5, 8)
    torch.manual_seed(3)
    expected = call(x)
    torch.manual_seed(3)
    with fast_dropout(CPU):
        torch.testing.assert_close(call(x), expected, rtol=0, atol=0)


def test_impossible_shares_are_refused_as_pytorch_does():
    with pytest.raises(ValueError, match="dropout probability"), fast_dropout(CPU):
        F.dropout(torch.ones(3), 1.5)


def test_a_mask_of_a_causal_attention_is_refused_as_pytorch_does():
    x = torch.randn(1, 1, LENGTH, 8)
    with pytest.raises(RuntimeError, match="is_causal"), fast_dropout(CPU):
        F.scaled_dot_product_attention(x, x, x, torch.zeros(LENGTH, LENGTH), 0.1, is_causal=True)


def masks():
    may = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool)
    may[0, ..., 4:] = False
    nothing = may.clone()
    nothing[1, :, 2] = False  # a row that attends to nothing
    added = torch.zeros(2, 1, LENGTH, LENGTH).masked_fill(~may, -math.inf)
    return {
        "none": None,
        "boolean": may,
        "nothing": nothing,
        "added": added,
        "added, nothing": torch.zeros_like(added).masked_fill(~nothing, -math.inf),
        "least": torch.zeros_like(added).masked_fill(~may, torch.finfo(torch.float32).min),
        "bias": torch.randn(2, 3, LENGTH, LENGTH, generator=torch.Generator().manual_seed(1)),
    }


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("name", [*masks(), "causal"])
def test_attention_equals_pytorchs_where_nothing_is_dropped(name, scale, monkeypatch):
    monkeypatch.setattr(dropout, "_kept", lambda shape, p: torch.ones(shape, dtype=torch.bool))
    monkeypatch.setattr(dropout, "_growth", lambda p: 1.0)
    how = {"is_causal": True} if name == "causal" else {"attn_mask": masks()[name]}
    q, k, v = (torch.randn(2, 3, LENGTH, 8, requires_grad=True) for _ in range(3))
    out = F.scaled_dot_product_attention(q, k, v, scale=scale, **how)
    expected = torch.autograd.grad(out.square().sum(), (q, k, v))
    with fast_dropout(CPU):
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=0.2, scale=scale, **how)
    torch.testing.assert_close(found, out)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), (q, k, v)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_drops_weights_and_keeps_their_mean(dtype):
    """Against identity values, the outputs are the weights themselves."""
    q, k = torch.randn(2, 4, 3, LENGTH, 8, dtype=dtype)
    v = torch.eye(LENGTH, dtype=dtype).expand(4, 3, LENGTH, LENGTH)
    weights = F.scaled_dot_product_attention(q, k, v)
    torch.manual_seed(0)
    with fast_dropout(CPU), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = torch.stack([F.scaled_dot_product_attention(q, k, v, dropout_p=0.25) for _ in range(400)])
    assert found.dtype == dtype
    assert abs((found == 0).double().mean().item() - 0.25) < 0.005
    kept = torch.where(found == 0, weights / 0.75, found)
    torch.testing.assert_close(kept, (weights / 0.75).expand_as(kept), rtol=2e-2, atol=1e-2)


def test_other_devices_keep_pytorchs():
    assert not isinstance(fast_dropout(torch.device("cuda")), dropout._FastDropout)


def test_training_draws_its_masks_so(monkeypatch):
    """Of values, (rows, tokens, width), and of attention, (rows, heads, tokens, tokens)."""
    n_axes, draw = [], dropout._kept
    monkeypatch.setattr(dropout, "_kept", lambda shape, p: (n_axes.append(len(shape)), draw(shape, p))[1])
    X, y = ["a good film", "a bad film", "good", "bad"] * 4, [1, 0, 1, 0] * 4
    FineTunedClassifier("bundled:minilm", freeze_depth=0.8, max_epochs=1, runtime="eager", random_state=0).fit(X, y)
    assert set(n_axes) == {3, 4}
