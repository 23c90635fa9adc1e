"""How much streams disagree, and the losses that keep the agreement honest.

Axes: B batch, T tokens, E edges, K overlap width, N valid tokens; the axis of size 2 is (tail, head).

    E(x)  = ½ |δx|²                                          what the correction descends
    ρ     = Σ_e |R_u x_u - R_v x_v|² / Σ_e (|R_u x_u|² + |R_v x_v|²)     in [0, 2]; 1 when unrelated, 0 in consensus
    sheaf = mean of ρ over valid tokens

The loss is ρ, not E, because E can be lowered by shrinking the maps. ρ cannot, but it can be lowered by making the
projections constant; `collapse` makes that expensive: a variance floor and decorrelation over valid tokens (VICReg,
Bardes et al. 2022, arXiv:2105.04906) and a price on the mean, since one large shared constant satisfies the floor.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_TINY = 1e-18  # a square, so 1e-9 in x; its own square still fits float32, which the gradient needs
_STD_FLOOR = 1.0
_STD_EPS = 1e-4


def full_precision(x: Tensor) -> Tensor:
    """float32 for half-precision input, else unchanged: sums of squares need the mantissa."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def masked_mean(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over True tokens, 0 without any. What sits under False, even NaN, changes neither value nor gradient."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def energy(y: Float[Tensor, "B T E K"]) -> Float[Tensor, "B T"]:
    """½ |y|² for each token, with y = δx."""
    return 0.5 * full_precision(y).square().sum(dim=(-2, -1))


@dataclass(frozen=True)
class Residual:
    """ρ as its two parts, so that edges and tokens are two readings of one computation."""

    apart: Float[Tensor, "B T E"]
    """|R_u x_u - R_v x_v|²"""
    size: Float[Tensor, "B T E"]
    """|R_u x_u|² + |R_v x_v|²"""

    @property
    def of_edges(self) -> Float[Tensor, "B T E"]:
        """ρ on each edge."""
        return self.apart / (self.size + _TINY)

    @property
    def of_tokens(self) -> Float[Tensor, "B T"]:
        """ρ of the whole token: edges pooled, not averaged."""
        return self.apart.sum(-1) / (self.size.sum(-1) + _TINY)


def residual(projections: Float[Tensor, "2 B T E K"]) -> Residual:
    """How far the two views of each overlap are apart, and how large they are."""
    both = full_precision(projections)
    return Residual((both[1] - both[0]).square().sum(-1), both.square().sum(-1).sum(0))


def collapse(projections: Float[Tensor, "2 B T E K"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Anti-collapse term over valid tokens, averaged over the ends of all edges: floor + decorrelation + mean.

    With rank r < K the decorrelation part cannot fall below about K/r - 1; only its gradient matters.
    """
    p = full_precision(projections).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)  # (ends, N, K)
    valid = mask.flatten()[:, None]
    count = mask.sum().clamp(min=1)
    p = torch.where(valid, p, 0.0)
    mean = p.sum(1, keepdim=True) / count
    centred = torch.where(valid, p - mean, 0.0)
    covariance = centred.transpose(1, 2) @ centred / count
    variance = covariance.diagonal(dim1=1, dim2=2)
    floor = (_STD_FLOOR - (variance + _STD_EPS).sqrt()).relu().mean()
    width = p.shape[-1]
    decorrelation = (covariance.square().sum() - variance.square().sum()) / (width * p.shape[0])
    # A batch with fewer than two valid tokens has no variance to speak of.
    return torch.where(mask.sum() > 1, floor + decorrelation + mean.square().mean(), 0.0)
