"""Optimisers on a task where precision matters: small updates must survive, and plain bf16 must visibly lose them."""

from contextlib import nullcontext
from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from svms_gr00t.train.optimizers.optimizer import (
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from svms_gr00t.train.optimizers.stochastic import StochasticAdamW, round_stochastically

NAMES = ("adamw", "adamw-sr")
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="8-bit moments need the lowbit extra (torchao)")


def test_rounding_is_right_on_average_and_only_goes_to_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([1.001, -1.001, 3.14159, -2.71828e-5, 1e30])
    drawn = torch.stack([round_stochastically(x, generator).double() for _ in range(20_000)])
    low, high = drawn.min(0).values, drawn.max(0).values
    step = (high - low).clamp(min=1e-40)
    # The mean of n draws between two neighbours has standard error below step / (2 sqrt n).
    assert ((drawn.mean(0) - x.double()).abs() < 4 * step / (2 * 20_000**0.5)).all()
    assert all(len(set(column.tolist())) == 2 for column in drawn.T)
    nearest = x.to(torch.bfloat16).double()
    assert ((nearest - x.double()).abs() > 4 * step / (2 * 20_000**0.5)).any(), "rounding to nearest would fail this"


def test_rounding_keeps_what_bfloat16_holds_and_what_is_not_a_number() -> None:
    exact = torch.tensor([0.0, 1.0, -2.5, float("inf"), float("-inf")])
    assert torch.equal(round_stochastically(exact).float(), exact)
    assert torch.isnan(round_stochastically(torch.tensor([float("nan")]))).all()


def finetune(name: str, *, steps: int = 300, rate: float = 1e-5) -> float:
    """Loss after fine-tuning a pretrained two-layer net toward slightly other weights, in float32 arithmetic."""
    torch.manual_seed(0)
    target = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 32))
    net = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 32))
    with torch.no_grad():
        for p, q in zip(net.parameters(), target.parameters(), strict=True):
            p.copy_(q.bfloat16().float() + 2e-3 * torch.randn_like(q).sign())
    half = name != "adamw" and name != "adamw8bit"
    weights = {
        n: nn.Parameter(p.detach().bfloat16() if half else p.detach().clone()) for n, p in net.named_parameters()
    }
    if name == "bf16":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(list(weights.values()), lr=rate)
    else:
        optimizer = make_optimizer(weights, learning_rate=rate, name=name)  # type: ignore[arg-type]
    x = torch.randn(256, 32)
    y = target(x).detach()
    for _ in range(steps):
        loss = (torch.func.functional_call(net, {n: w.float() for n, w in weights.items()}, x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_stochastic_rounding_tracks_float32_where_plain_bf16_does_not() -> None:
    start, full = finetune("adamw", steps=1), finetune("adamw")
    rounded, plain = finetune("adamw-sr"), finetune("bf16")
    progress = start - full
    assert progress > 0.2 * start, "float32 must learn something here"
    assert start - rounded > 0.85 * progress
    assert start - plain < 0.6 * progress


@needs_torchao
@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw8bit", "adamw8bit-sr"])
def test_eight_bit_moments_track_float32(name: str) -> None:
    start, full = finetune("adamw", steps=1), finetune("adamw")
    assert start - finetune(name) > 0.85 * (start - full)


@pytest.mark.parametrize("name", [*NAMES, pytest.param("adamw8bit", marks=[needs_torchao, pytest.mark.slow])])
def test_a_restored_optimiser_goes_on_bit_for_bit(name: str) -> None:
    def weights() -> dict[str, nn.Parameter]:
        torch.manual_seed(1)
        dtype = torch.bfloat16 if name.endswith("-sr") else torch.float32
        return {
            "a": nn.Parameter(torch.randn(64, 64, dtype=dtype)),
            "svms.b": nn.Parameter(torch.randn(64, dtype=dtype)),
        }

    def go(params: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(100 + step)
            for p in params.values():
                p.grad = torch.randn(p.shape).to(p.dtype)
            set_learning_rate(optimizer, 1e-3 / (1 + step))
            optimizer.step()

    whole = weights()
    go(whole, make_optimizer(whole, learning_rate=1e-3, name=name, svms_rate=5.0), range(6))  # type: ignore[arg-type]
    half = weights()
    first = make_optimizer(half, learning_rate=1e-3, name=name, svms_rate=5.0)  # type: ignore[arg-type]
    go(half, first, range(3))
    saved = {k: v.clone() for k, v in optimizer_tensors(first, half).items()}
    second = make_optimizer(half, learning_rate=1e-3, name=name, svms_rate=5.0)  # type: ignore[arg-type]
    restore_optimizer(second, half, saved)
    go(half, second, range(3, 6))
    assert all(torch.equal(whole[key], half[key]) for key in whole)


@pytest.mark.parametrize("name", NAMES)
def test_restored_moments_lie_where_the_optimiser_itself_keeps_them(name: str) -> None:
    """A card without a card: fake tensors of its device, and meta tensors for what reads its count of steps."""
    device, card = ("cuda", FakeTensorMode()) if name == "adamw" else ("meta", nullcontext())
    dtype = torch.bfloat16 if name.endswith("-sr") else torch.float32

    def made() -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
        weights = {n: nn.Parameter(torch.zeros(4, 3, device=device, dtype=dtype)) for n in ("a", "svms.b")}
        for p in weights.values():
            p.grad = torch.ones_like(p)
        return weights, make_optimizer(weights, learning_rate=1e-3, name=name)  # type: ignore[arg-type]

    def places(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, tuple[object, ...]]:
        found = optimizer_tensors(optimizer, weights)
        return {n: (v.device.type, v.dtype, v.shape) for n, v in found.items()}

    with card:
        weights, own = made()
        own.step()
        expected = places(weights, own)
        assert {place for n, (place, *_) in expected.items() if n.startswith("exp_avg")} == {device}
        read = {n: torch.zeros(v.shape, dtype=v.dtype) for n, v in optimizer_tensors(own, weights).items()}
        weights, resumed = made()
        restore_optimizer(resumed, weights, read)
        assert places(weights, resumed) == expected
        resumed.step()


def test_svms_learns_at_its_own_multiple_of_the_rate() -> None:
    """AdamW's first step is the rate times the gradient's sign: the ratio of the moves is that of the rates."""
    moved = {}
    for scale in (1.0, 5.0):
        weights = {name: nn.Parameter(torch.zeros(3)) for name in ("svms.merge.weight", "action_head.x")}
        optimizer = make_optimizer(weights, learning_rate=1.0, svms_rate=scale)
        set_learning_rate(optimizer, 1e-3)
        for parameter in weights.values():
            parameter.grad = torch.ones(3)
        optimizer.step()
        moved[scale] = {name: float(p.detach().abs().mean()) for name, p in weights.items()}
    assert moved[5.0]["svms.merge.weight"] == pytest.approx(5 * moved[1.0]["svms.merge.weight"], rel=1e-5)
    assert moved[5.0]["action_head.x"] == pytest.approx(moved[1.0]["action_head.x"])


def test_stochastic_adamw_is_adamw_but_for_the_rounding() -> None:
    torch.manual_seed(0)
    start = torch.randn(4096).bfloat16()
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.float())
    mine = StochasticAdamW([ours], lr=0.1, weight_decay=0.1)
    adam = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.1)
    for _ in range(5):
        gradient = torch.randn(4096)
        ours.grad, theirs.grad = gradient.bfloat16(), gradient.bfloat16().float()
        mine.step()
        adam.step()
    error = (ours.detach().float() - theirs.detach()) / theirs.detach().abs().clamp(min=0.1)
    assert error.abs().max() < 0.05  # five roundings of 8-bit mantissas
    assert error.mean().abs() < 5e-4  # without bias
