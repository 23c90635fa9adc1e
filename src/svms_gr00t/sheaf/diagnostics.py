"""Is the agreement real? Numbers to read beside ρ.

Axes: B batch, T tokens, S streams, E edges, D stream width, K overlap width; the axis of size 2 is (tail, head).

    dim H⁰ = S D - rank δ                 how many directions can pass the sheaf unchanged (its global sections)
    effective rank = exp(H(p)),           p the eigenvalues of E[z zᵀ] over valid tokens, normalised to sum 1
                                          (Roy & Vetterli 2007; on second moments instead of singular values)

The moments are *not* centred: the cheapest way to lower ρ is one large constant added to all projections, and centring
would hide it. A constant projection has effective rank 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.energy import full_precision, masked_mean, residual

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class SheafDiagnosis:
    """One reading of the sheaf on one batch of streams."""

    rho: float
    """Mean scale-free disagreement over valid tokens, edges pooled."""
    rho_of_edge: dict[str, float]
    """The same on each edge, by name."""
    effective_rank: dict[str, tuple[float, float]]
    """Effective rank of the (tail, head) projections of each edge; K at most."""
    sections_dim: int
    """dim H⁰."""
    spectrum: tuple[float, ...]
    """Eigenvalues of L, ascending; S D of them."""
    bound: float
    """λ in use; at least the last entry of `spectrum`."""


@torch.no_grad()
def spectrum(delta: Coboundary) -> Float[Tensor, " SD"]:
    """Eigenvalues of L = δᵀδ, ascending, from the singular values of δ in float64 (squaring first would lose half)."""
    dense = delta.dense().double()
    values = torch.linalg.svdvals(dense).square()
    return torch.cat([values.new_zeros(dense.shape[1] - values.numel()), values.flip(0)])


def sections_dim(delta: Coboundary, *, rtol: float = 1e-9) -> int:
    """dim H⁰: eigenvalues of L below `rtol` times the largest count as zero."""
    values = spectrum(delta)
    return int((values <= rtol * values[-1]).sum())


@torch.no_grad()
def effective_rank(projections: Float[Tensor, "2 B T E K"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "2 E"]:
    """Effective rank of each projection over valid tokens, in [1, K]; 0 where the projections vanish."""
    z = full_precision(projections)[:, mask].transpose(1, 2)  # (2, E, N, K)
    values = torch.linalg.svdvals(z).square()
    share = values / values.sum(-1, keepdim=True).clamp(min=_TINY)
    entropy = -(share * share.clamp(min=_TINY).log()).sum(-1)
    return torch.where(values.sum(-1) > _TINY, entropy.exp(), 0.0)


@torch.no_grad()
def edge_disagreement(rho: Float[Tensor, "B T E"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " E"]:
    """Mean ρ over valid tokens, edge by edge."""
    return torch.stack([masked_mean(edge, mask) for edge in rho.unbind(-1)])


@torch.no_grad()
def diagnose(
    delta: Coboundary, streams: Float[Tensor, "B T S D"], mask: Bool[Tensor, "B T"], bound: Tensor
) -> SheafDiagnosis:
    """Everything above at once; `streams` before the correction, `bound` the λ of the diffusion."""
    projections = delta.project(streams)
    rho = residual(projections)
    names, values = delta.graph.edge_names, spectrum(delta)
    by_edge = edge_disagreement(rho.of_edges, mask).tolist()
    ranks = effective_rank(projections, mask).T.tolist()
    return SheafDiagnosis(
        rho=float(masked_mean(rho.of_tokens, mask)),
        rho_of_edge=dict(zip(names, by_edge, strict=True)),
        effective_rank={name: (tail, head) for name, (tail, head) in zip(names, ranks, strict=True)},
        sections_dim=sections_dim(delta),
        spectrum=tuple(values.tolist()),
        bound=float(bound),
    )
