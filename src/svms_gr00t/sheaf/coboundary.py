"""Restriction maps, coboundary, its adjoint and the sheaf Laplacian (Hansen & Ghrist 2019, arXiv:1808.01513).

Axes: B batch, T tokens, S streams, E edges, D stream width, K overlap width, r rank; an axis of size 2 is
(tail, head).

    R_{s->e} = U V            D -> r -> K, one pair (U, V) for each end of each edge
    (δx)_e   = R_{head} x_head - R_{tail} x_tail
    L        = δᵀδ            symmetric, positive semidefinite; xᵀLx = |δx|²
"""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from svms_gr00t.sheaf.graph import StreamGraph


class Coboundary(nn.Module):
    """δ of the sheaf on `graph`. Linear in x; zero exactly where streams agree on every overlap."""

    def __init__(self, graph: StreamGraph, *, d_stream: int, d_overlap: int, rank: int) -> None:
        super().__init__()
        self.graph = graph
        self.d_stream, self.d_overlap, self.rank = d_stream, d_overlap, rank
        ends = 2, len(graph.edges)
        self.down = nn.Parameter(torch.empty(*ends, rank, d_stream))
        self.up = nn.Parameter(torch.empty(*ends, d_overlap, rank))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Unit-variance streams get unit-variance projections, where the variance floor of the collapse term sits."""
        nn.init.normal_(self.down, std=self.d_stream**-0.5)
        nn.init.normal_(self.up, std=self.rank**-0.5)

    def project(self, x: Float[Tensor, "B T S D"]) -> Float[Tensor, "2 B T E K"]:
        """Both streams' view of each overlap, R x."""
        # Stacking views by Python index: no buffer to lose on a meta device, no nondeterministic scatter.
        ends = torch.stack([x[:, :, s] for s in self.graph.tails + self.graph.heads])
        ends = ends.unflatten(0, (2, len(self.graph.edges)))
        low = einsum(ends, self.down, "end E B T D, end E r D -> end E B T r")
        return einsum(low, self.up, "end E B T r, end E K r -> end B T E K")

    def forward(self, x: Float[Tensor, "B T S D"]) -> Float[Tensor, "B T E K"]:
        """δx."""
        tail, head = self.project(x).unbind(0)
        return head - tail

    def adjoint(self, y: Float[Tensor, "B T E K"]) -> Float[Tensor, "B T S D"]:
        """δᵀy: what each stream would have to change, summed over the edges that it ends."""
        both = torch.stack((-y, y))
        low = einsum(both, self.up, "end B T E K, end E K r -> end E B T r")
        pulled = einsum(low, self.down, "end E B T r, end E r D -> end E B T D").flatten(0, 1).unbind(0)
        owners = self.graph.tails + self.graph.heads
        shares = [[p for p, s in zip(pulled, owners, strict=True) if s == k] for k in range(len(self.graph.streams))]
        return torch.stack([sum(share[1:], start=share[0]) for share in shares], dim=2)

    def laplacian(self, x: Float[Tensor, "B T S D"]) -> Float[Tensor, "B T S D"]:
        """Lx = δᵀδx: the gradient of the energy."""
        return self.adjoint(self(x))

    def dense(self) -> Float[Tensor, "EK SD"]:
        """δ as one matrix; rows run over (E, K), columns over (S, D). For oracles, spectra and bounds."""
        maps = einsum(self.up, self.down, "end E K r, end E r D -> end E K D")
        n_edges, n_streams = len(self.graph.edges), len(self.graph.streams)
        zero = torch.zeros_like(maps[0, 0])
        rows = []
        for e, (tail, head) in enumerate(zip(self.graph.tails, self.graph.heads, strict=True)):
            block = {tail: -maps[0, e], head: maps[1, e]}
            rows.append(torch.cat([block.get(s, zero) for s in range(n_streams)], dim=1))
        return torch.cat(rows).view(n_edges * self.d_overlap, n_streams * self.d_stream)

    def extra_repr(self) -> str:
        return f"{self.graph}: {self.d_stream} -> rank {self.rank} -> {self.d_overlap}"
