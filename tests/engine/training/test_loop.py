"""How samples are cut into batches, and where live statistics begin."""

import numpy as np
import pytest
import torch
from torch import nn

from skltransfer.engine.training.batch_norm import average_norms
from skltransfer.engine.training.loop import TrainingPlan, batches


@pytest.mark.parametrize("size", [1, 2, 3, 32, 64])
@pytest.mark.parametrize("n", [1, 2, 3, 33, 64, 899])
def test_batches_are_alike_in_length_and_none_is_of_one_row(n, size):
    parts = batches(np.arange(n), size)
    lengths = [len(part) for part in parts]
    assert np.concatenate(parts).tolist() == list(range(n))
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= max(size, 3 if size == 2 else 0)
    assert min(lengths) > 1 or size == 1 or n == 1


def test_live_statistics_begin_as_the_batches_have_them():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 5 + 3
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))
    average_norms(network, [x[:32], x[32:]])
    torch.testing.assert_close(network[0].running_mean, x.mean(0))
    assert not any(part.training for part in network.modules())
    assert network[0].momentum == 0.1


def test_a_weight_changes_by_the_rates_summed_over_the_steps_at_most():
    plan = TrainingPlan(max_epochs=3, batch_size=16, learning_rate=0.01, lr_schedule="constant")
    assert plan.n_steps(100) == 3 * 7
    assert plan.max_weight_change(100) == pytest.approx(0.01 * 21)
    rising_and_falling = TrainingPlan(max_epochs=300, batch_size=16, learning_rate=0.01, warmup=0.2)
    expected = 0.01 * sum(rising_and_falling.rate((step + 0.5) / 2100) for step in range(2100))
    assert rising_and_falling.max_weight_change(100) == pytest.approx(expected, rel=0.02)
