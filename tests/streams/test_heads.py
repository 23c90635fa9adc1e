"""Stacked streams equal one module per stream, built the slow way."""

import pytest
import torch
from torch import nn

from svms_gr00t.streams.heads import StreamHeads, pick


def one_stream(heads: StreamHeads, s: int) -> nn.Module:
    """Oracle: P, MLP and LN of stream s as ordinary modules."""
    d, rows = heads.d_stream, slice(s * heads.d_stream, (s + 1) * heads.d_stream)
    p, up, down = nn.Linear(heads.project.in_features, d), nn.Linear(d, heads.hidden), nn.Linear(heads.hidden, d)
    norm = nn.LayerNorm(d)
    pairs = [
        (p.weight, heads.project.weight[rows]), (p.bias, heads.project.bias[rows]),
        (up.weight, heads.up[s].T), (up.bias, heads.up_bias[s]),
        (down.weight, heads.down[s].T), (down.bias, heads.down_bias[s]),
        (norm.weight, heads.scale[s]), (norm.bias, heads.shift[s]),
    ]  # fmt: skip
    with torch.no_grad():
        for ours, theirs in pairs:
            ours.copy_(theirs)

    class Stream(nn.Module):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            z = p(h)
            return norm(z + down(nn.functional.gelu(up(z), approximate="tanh")))

    return Stream()


def test_every_stream_is_its_own_head():
    heads = StreamHeads(10, n_streams=4, d_stream=6)
    for parameter in heads.parameters():  # biases and LN away from their special start
        nn.init.normal_(parameter)
    h = torch.randn(2, 5, 10)
    slow = torch.stack([one_stream(heads, s)(h) for s in range(4)], dim=2)
    torch.testing.assert_close(heads(h), slow, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(heads(h), slow.flip(2))


def test_fresh_streams_have_unit_variance_and_differ():
    x = StreamHeads(64, n_streams=3, d_stream=32)(torch.randn(2, 50, 64))
    torch.testing.assert_close(x.var(-1, correction=0), torch.ones(2, 50, 3), rtol=1e-3, atol=0)
    assert (x[:, :, 0] - x[:, :, 1]).abs().mean() > 0.5


def test_a_fresh_start_keeps_the_variance_and_has_no_bias():
    heads = StreamHeads(200, n_streams=3, d_stream=100)
    assert heads.hidden == 200
    assert StreamHeads(8, n_streams=2, d_stream=4, hidden=5).hidden == 5
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.fill_(float("nan"))
    heads.reset_parameters()
    for weight, fan_in in ((heads.project.weight, 200), (heads.up, 100), (heads.down, 200)):
        assert weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
        assert weight.mean().item() == pytest.approx(0.0, abs=0.01)
    for zero in (heads.project.bias, heads.up_bias, heads.down_bias, heads.shift):
        assert not zero.any()
    assert torch.equal(heads.scale, torch.ones(3, 100))


def test_some_streams_alone_are_those_of_all():
    heads = StreamHeads(10, n_streams=4, d_stream=6)
    for parameter in heads.parameters():
        nn.init.normal_(parameter)
    h = torch.randn(2, 5, 10)
    for chosen in [(1,), (3, 0), (0, 1, 2, 3)]:
        torch.testing.assert_close(heads.only(h, chosen), heads(h)[:, :, list(chosen)], rtol=1e-4, atol=1e-5)


def test_picking_is_indexing_along_an_axis():
    values = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(pick(values, (1, 0)), values[[1, 0]])
    assert torch.equal(pick(values, (2, 0), dim=2), values[:, :, [2, 0]])
    assert torch.equal(pick(values, (2,), 1), values[:, 2:])
