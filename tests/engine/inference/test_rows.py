"""A batch with fewer rows than usual gives each row the bits that it has in a full batch, and costs no more."""

import pytest
import torch

from skltransfer.engine.inference.rows import run_padded


class Watched:
    """A function of a batch that notes how many rows it was given."""

    def __init__(self, function):
        self.function, self.rows = function, []

    def __call__(self, batch):
        self.rows.append(len(batch))
        return self.function(batch)


def random_rows(n):
    return torch.rand(n, 16_000, generator=torch.Generator().manual_seed(n))


def by_number(batch):
    """Adds up in another order where there are few rows, as matrix libraries do."""
    parts = batch.reshape(len(batch), 16, -1)
    total = torch.zeros(len(batch), parts.shape[2])
    for part in range(16) if len(batch) > 2 else reversed(range(16)):
        total = total + parts[:, part]
    return total


def test_a_function_that_treats_rows_alike_is_filled_once():
    double = Watched(lambda batch: batch * 2)
    batch = torch.arange(2000.0).reshape(2, 1000)
    for _ in range(3):
        assert torch.equal(run_padded(double, batch, 8, "double"), batch * 2)
    assert double.rows == [8, 2, 2, 2]


def test_a_function_that_does_not_is_always_filled():
    batch = random_rows(2)
    expected = by_number(torch.cat([batch, torch.zeros(6, 16_000)]))[:2]
    assert not torch.equal(by_number(batch), expected)
    watched = Watched(by_number)
    for _ in range(3):
        assert torch.equal(run_padded(watched, batch, 8, "by number"), expected)
    assert watched.rows == [8, 2, 8, 8]


def test_each_shape_is_tried_by_itself():
    watched = Watched(by_number)
    for n in (5, 2, 5, 2):
        run_padded(watched, random_rows(n), 8, "each shape")
    assert watched.rows == [8, 5, 8, 2, 5, 8]


def test_without_a_name_nothing_is_tried():
    watched = Watched(by_number)
    run_padded(watched, random_rows(5), 8)
    run_padded(watched, random_rows(8), 8, "full")
    assert watched.rows == [8, 8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_tokens_do_not_make_rows_unlike(dtype):
    watched = Watched(lambda batch: batch.clone())
    batch = torch.full((1, 1000), torch.nan, dtype=dtype)
    for _ in range(2):
        assert run_padded(watched, batch, 4, f"nan {dtype}").isnan().all()
    assert watched.rows == [4, 1, 1]


def test_few_values_prove_nothing():
    watched = Watched(lambda batch: batch.mean(1, keepdim=True))
    for _ in range(2):
        run_padded(watched, random_rows(2), 8, "few values")
    assert watched.rows == [8, 2, 8]


def test_values_of_few_bits_prove_nothing():
    watched = Watched(lambda batch: batch.bfloat16())
    for _ in range(2):
        run_padded(watched, random_rows(2), 8, "few bits")
    assert watched.rows == [8, 2, 8]
