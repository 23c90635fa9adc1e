"""What a step says of its speed: its share of the device's arithmetic, its samples a second, its wait for data."""

import pytest
import torch

from svms_gr00t.train.loop.measures import Pace, peak_flops

CPU = torch.device("cpu")


def test_the_work_of_a_step_is_that_of_its_matrix_products():
    inner, outer = torch.nn.Linear(32, 48), torch.nn.Linear(48, 8)
    pace = Pace(CPU, torch.float32)
    x = torch.randn(10, 32)
    with pace.counting(10):
        outer(inner(x).relu()).sum().backward()
    forward = 2 * 10 * (32 * 48 + 48 * 8)
    backward = forward + 2 * 10 * 48 * 8  # gradients of both weights, and of the hidden layer
    row = pace.of(20, 0.5, 0.1)
    assert row["mfu"] == pytest.approx(2 * (forward + backward) / 0.5 / peak_flops(CPU, torch.float32))
    assert row["data_wait"] == pytest.approx(0.2)
    assert row["samples_per_second"] == pytest.approx(40)
    with pace.counting(10):
        inner(x)
    assert pace.of(20, 0.5, 0.1) == row, "the first step is counted, later ones are not"


def test_counting_changes_no_bit():
    x, weight = torch.randn(64, 64), torch.randn(64, 64)
    query = torch.randn(2, 4, 33, 16)

    def result() -> tuple[torch.Tensor, torch.Tensor]:
        return (x @ weight).softmax(-1), torch.nn.functional.scaled_dot_product_attention(query, query, query)

    plain = result()
    with Pace(CPU, torch.float32).counting(1):
        counted = result()
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
