"""Weights are a distribution, dropout keeps it one, τ sharpens, balance knows its extremes."""

import pytest
import torch
from torch import nn

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.streams.router import Router, balance_loss


def router(**options) -> Router:
    return Router(n_streams=3, d_stream=8, **options)


@pytest.mark.parametrize("mode", ["learned", "uniform", "frozen"])
def test_weights_sum_to_one_before_and_after_dropout(mode):
    r, x = router(mode=mode, dropout_p=0.5), torch.randn(4, 50, 3, 8)
    for w in (r(x), r.drop(r(x))):
        torch.testing.assert_close(w.sum(-1), torch.ones(4, 50))
        assert (w >= 0).all()


def test_dropout_has_its_rate_keeps_one_and_is_off_in_eval():
    r, w = router(dropout_p=0.15), torch.full((40, 500, 3), 1 / 3)
    kept = r.drop(w) > 0
    assert kept.any(-1).all()
    # Losing all three (p³ = 0.3 %) is replaced by losing two, which lowers the rate from p to p - p³ / 3.
    assert 1 - kept.float().mean().item() == pytest.approx(0.15 - 0.15**3 / 3, abs=0.01)
    assert r.eval().drop(w) is w


def test_nearly_everything_dropped_still_leaves_one():
    kept = router(dropout_p=0.999).drop(torch.full((20, 50, 3), 1 / 3)) > 0
    assert (kept.sum(-1) >= 1).all()


def test_a_kept_stream_of_weight_zero_does_not_divide_by_zero():
    r, w = router(dropout_p=0.9), torch.tensor([1.0, 0.0, 0.0]).expand(10, 50, 3)
    assert r.drop(w).isfinite().all()


def test_dropout_leaves_no_negative_weight_and_at_rate_zero_every_bit():
    w = torch.tensor([1.0, 0.0, 0.0]).expand(10, 50, 3)
    assert (router(dropout_p=0.5).drop(w) >= 0).all()
    assert router(dropout_p=0.0).train().drop(w) is w


def test_temperature_sharpens_and_is_a_buffer():
    r, x = router(), torch.randn(2, 30, 3, 8)
    nn.init.normal_(r.outer.weight)
    sharpest = []
    for tau in (2.0, 0.5, 1e-3):
        r.set_temperature(tau)
        sharpest.append(r(x).amax(-1).mean())
    assert sharpest[0] < sharpest[1] < sharpest[2]
    assert "temperature" in r.state_dict()
    with pytest.raises(ConfigError, match="above 0"):
        r.set_temperature(0.0)


def test_uniform_has_no_parameters_and_frozen_gives_none_a_gradient():
    assert not list(router(mode="uniform").parameters())
    frozen, x = router(mode="frozen"), torch.randn(1, 4, 3, 8, requires_grad=True)
    frozen.requires_grad_(True)  # as a phase that unfreezes "svms.*" would
    assert not frozen(x).requires_grad
    assert router()(x).requires_grad


def test_frozen_weights_are_no_parameters_of_an_optimiser():
    assert not any(parameter.requires_grad for parameter in router(mode="frozen").parameters())
    assert all(parameter.requires_grad for parameter in router().parameters())


def test_the_formula_written_out():
    """w = softmax(g(x) / τ), g = LN -> Linear -> GELU -> Linear on the streams side by side."""
    r, x = router(temperature=0.7).double(), torch.randn(2, 5, 3, 8).double()
    for parameter in r.parameters():
        nn.init.normal_(parameter)
    flat = nn.functional.layer_norm(x.reshape(2, 5, 24), (24,), r.norm.weight, r.norm.bias)
    hidden = nn.functional.gelu(flat @ r.inner.weight.T + r.inner.bias, approximate="tanh")
    logits = hidden @ r.outer.weight.T + r.outer.bias
    torch.testing.assert_close(r(x), (logits / r.temperature.double()).softmax(-1))


def test_a_fresh_start_draws_everything_again():
    r = router(temperature=1.5)
    for tensor in r.state_dict().values():
        tensor.fill_(float("nan"))
    r.reset_parameters()
    assert all(tensor.isfinite().all() for tensor in r.state_dict().values())
    assert r.temperature.item() == 1.5


def test_sizes_and_defaults():
    assert [Router(n_streams=3, d_stream=d).inner.out_features for d in (12, 24, 27, 768)] == [8, 8, 9, 256]
    assert Router(n_streams=3, d_stream=8, hidden=5).inner.out_features == 5
    r, config = Router(n_streams=3, d_stream=8), SvmsConfig()
    assert (r.mode, r.dropout_p) == (config.router_mode, config.router_stream_dropout_p)
    assert r.temperature.item() == config.router_temp_init


def test_unknown_modes_and_rates_are_refused():
    with pytest.raises(ConfigError, match="0 <= p < 1"):
        router(dropout_p=1.0)


def test_balance_is_summed_in_float32_and_float64_stays_float64():
    mask = torch.ones(1, 20_000, dtype=torch.bool)
    weights = torch.rand(1, 20_000, 3).softmax(-1)
    exact = balance_loss(weights.double(), mask)
    assert exact.dtype == torch.float64
    assert balance_loss(weights.bfloat16(), mask).dtype == torch.float32
    assert balance_loss(weights.bfloat16(), mask).item() == pytest.approx(exact.item(), abs=1e-3)


def test_balance_is_zero_when_even_and_counts_valid_tokens_only():
    mask = torch.tensor([[True, True, True, False]])
    even = torch.eye(3)[None, [0, 1, 2, 2]]
    torch.testing.assert_close(balance_loss(even, mask), torch.tensor(0.0), atol=1e-6, rtol=0)
    one = torch.eye(3)[None, [1, 1, 1, 0]]
    torch.testing.assert_close(balance_loss(one, mask), torch.tensor(2.0))
    assert balance_loss(even, torch.ones_like(mask)) > 0.1, "with the padding counted it would not be even"
    assert balance_loss(one, torch.zeros_like(mask)) == 0
