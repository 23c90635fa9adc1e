"""δ, δᵀ and L against the definition and against dense matrices; relabelling commutes; gradients are right."""

import pytest
import torch
from hypothesis import given, settings
from sheaf_cases import NAMES, graph_of, sheaves, slow_delta

from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.graph import build_graph

LAWS = settings(max_examples=25, deadline=None, derandomize=True)


@LAWS
@given(sheaves())
def test_equals_the_definition_and_the_dense_matrix(case):
    delta, x = case()
    dense = delta.dense().detach()
    tiny = 1e-12 * dense.norm().item()
    torch.testing.assert_close(delta(x), slow_delta(delta, x), rtol=1e-9, atol=tiny)
    torch.testing.assert_close(delta(x).flatten(-2), x.flatten(-2) @ dense.T, rtol=1e-9, atol=tiny)
    laplacian = x.flatten(-2) @ (dense.T @ dense)
    tiny *= dense.norm().item()
    torch.testing.assert_close(delta.laplacian(x).flatten(-2), laplacian, rtol=1e-9, atol=tiny)


def test_unit_variance_streams_get_unit_variance_projections():
    delta = Coboundary(graph_of(2, "path"), d_stream=300, d_overlap=200, rank=100)
    projected = delta.project(torch.randn(1, 400, 2, 300)).detach()
    assert projected.var().item() == pytest.approx(1.0, abs=0.1)
    assert delta.down.std().item() == pytest.approx(300**-0.5, rel=0.05)
    assert delta.up.std().item() == pytest.approx(100**-0.5, rel=0.05)


def test_the_oracle_notices_a_flipped_edge():
    delta = Coboundary(graph_of(3, "path"), d_stream=4, d_overlap=3, rank=2).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    expected = slow_delta(delta, x)
    delta.graph = build_graph(NAMES[:3], [(b, a) for a, b in delta.graph.edges])
    with pytest.raises(AssertionError):
        torch.testing.assert_close(delta(x), expected)


@LAWS
@given(sheaves())
def test_adjoint_is_the_adjoint(case):
    """<δx, y> = <x, δᵀy>."""
    delta, x = case()
    y = torch.randn_like(delta(x))
    with torch.no_grad():
        left, right = (delta(x) * y).sum(), (x * delta.adjoint(y)).sum()
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9 * (delta(x).norm() * y.norm()).item())


@LAWS
@given(sheaves())
def test_the_order_of_edges_and_of_streams_is_only_a_name(case):
    delta, x = case()
    graph = delta.graph
    edge_order = torch.randperm(len(graph.edges))
    stream_order = torch.randperm(len(graph.streams))
    renamed = Coboundary(
        build_graph([graph.streams[s] for s in stream_order], [graph.edges[e] for e in edge_order]),
        d_stream=delta.d_stream,
        d_overlap=delta.d_overlap,
        rank=delta.rank,
    ).double()
    with torch.no_grad():
        renamed.up.copy_(delta.up[:, edge_order])
        renamed.down.copy_(delta.down[:, edge_order])
    y = x[:, :, stream_order]
    torch.testing.assert_close(renamed(y), delta(x)[:, :, edge_order])
    torch.testing.assert_close(renamed.laplacian(y), delta.laplacian(x)[:, :, stream_order])


def test_the_direction_of_an_edge_changes_the_sign_of_delta_only():
    forward = Coboundary(build_graph("ab", [("a", "b")]), d_stream=4, d_overlap=3, rank=2).double()
    backward = Coboundary(build_graph("ab", [("b", "a")]), d_stream=4, d_overlap=3, rank=2).double()
    with torch.no_grad():
        backward.up.copy_(forward.up.flip(0))
        backward.down.copy_(forward.down.flip(0))
    x = torch.randn(1, 2, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(backward(x), -forward(x))
    torch.testing.assert_close(backward.laplacian(x), forward.laplacian(x))


def test_gradients_match_finite_differences():
    delta = Coboundary(graph_of(3, "cycle"), d_stream=3, d_overlap=2, rank=2).double()
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def laplacian(x, down, up):
        return torch.func.functional_call(delta, {"down": down, "up": up}, (x,)), delta.laplacian(x)

    assert torch.autograd.gradcheck(laplacian, (x, delta.down, delta.up))
