"""Random sheaves for the property tests: any connected-enough graph, any widths, any map scales, in float64."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.graph import StreamGraph, build_graph

NAMES = ("visual", "temporal", "state", "safety")


def graph_of(n_streams: int, shape: str) -> StreamGraph:
    return build_graph(NAMES[:n_streams], shape)


@dataclass(frozen=True)
class Case:
    """One random sheaf. Calling it builds (δ, x); hypothesis shrinks the numbers, not the tensors."""

    n_streams: int
    shape: str
    d_stream: int
    d_overlap: int
    rank: int
    log_size: float
    seed: int

    def __call__(self) -> tuple[Coboundary, Tensor]:
        torch.manual_seed(self.seed)
        graph = graph_of(self.n_streams, self.shape)
        delta = Coboundary(graph, d_stream=self.d_stream, d_overlap=self.d_overlap, rank=self.rank).double()
        with torch.no_grad():
            delta.up *= 10.0**self.log_size
        return delta, torch.randn(2, 3, self.n_streams, self.d_stream, dtype=torch.float64)


def sheaves() -> st.SearchStrategy[Case]:
    """Maps between 1e-3 and 1e3 in size, full or deficient rank."""
    return st.builds(
        Case,
        n_streams=st.integers(2, 4),
        shape=st.sampled_from(["path", "cycle", "complete"]),
        d_stream=st.integers(1, 6),
        d_overlap=st.integers(1, 6),
        rank=st.integers(1, 4),
        log_size=st.floats(-3, 3),
        seed=st.integers(0, 2**31),
    )


def slow_delta(delta: Coboundary, x: Tensor) -> Tensor:
    """Oracle: one edge at a time, straight from the definition."""
    edges = []
    for e, (tail, head) in enumerate(delta.graph.edges):
        u, v = delta.graph.streams.index(tail), delta.graph.streams.index(head)
        r_u, r_v = (delta.up[end, e] @ delta.down[end, e] for end in (0, 1))
        edges.append(x[:, :, v] @ r_v.T - x[:, :, u] @ r_u.T)
    return torch.stack(edges, dim=2)
