"""Heat flow on the sheaf: x <- x - η L x / λ, and its implicit twin (I + η L / λ)⁻¹ x.

Source: Bodnar et al. 2022, Neural Sheaf Diffusion, arXiv:2202.04579.

Axes: B batch, T tokens, S streams, D stream width.

With λ >= λ_max(L) and 0 < η < 2 every eigenmode of L is multiplied by 1 - ηλ_i/λ in (-1, 1]: the energy cannot grow,
and exactly the global sections (δx = 0) stay where they are. Plain power iteration approaches λ_max from *below*, which
voids the theorem. We iterate all directions at once, by squaring the Gram matrix G = δδᵀ, and bound from *above*:

    λ_max(L) = λ_max(G) <= (tr Gᵖ)^(1/p) <= n^(1/p) λ_max,    p = 64, n = rank of G

a Schatten norm, at most 10 % loose at n = 512.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.energy import full_precision

_SQUARINGS = 5  # p = 2 * 2**5
_MARGIN = 1.02  # room for float32 rounding, and for a later cast of U, V and λ to bfloat16 (2**-8 each)
_TINY = 1e-12


@torch.no_grad()
def spectral_bound(delta: Coboundary) -> Float[Tensor, ""]:
    """A number at least λ_max(δᵀδ), from above and never below; positive even for zero maps."""
    with torch.autocast(delta.down.device.type, enabled=False):
        dense = full_precision(delta.dense())
        gram = dense @ dense.T if dense.shape[0] <= dense.shape[1] else dense.T @ dense
        log_scale = torch.zeros((), dtype=gram.dtype, device=gram.device)
        for _ in range(_SQUARINGS):  # gram * exp(log_scale) is G to the power 1, 2, 4, ...
            norm = gram.norm().clamp(min=_TINY)
            gram = (gram / norm) @ (gram / norm)
            log_scale = 2 * (log_scale + norm.log())
        norm = gram.norm()  # |G^m|_F = (tr G^2m)^½
        bound = ((log_scale + norm.log()) / 2**_SQUARINGS).exp()
    return (_MARGIN * bound).clamp(min=_TINY)


def heat_step(
    delta: Coboundary,
    x: Float[Tensor, "B T S D"],
    step: Float[Tensor, ""],
    dx: Float[Tensor, "B T E K"] | None = None,
) -> Float[Tensor, "B T S D"]:
    """x - step * L x; pass `dx` = δx where it is known."""
    known = delta(x) if dx is None else dx
    return x - delta.adjoint(step.to(x.dtype) * known)


def implicit_step(
    delta: Coboundary,
    x: Float[Tensor, "B T S D"],
    step: Float[Tensor, ""],
    dx: Float[Tensor, "B T E K"] | None = None,
) -> Float[Tensor, "B T S D"]:
    """(I + step * L)⁻¹ x for any step > 0, solved on the overlaps: x - step * δᵀ (I + step * δδᵀ)⁻¹ δ x (Woodbury)."""
    known = delta(x) if dx is None else dx
    with torch.autocast(x.device.type, enabled=False):
        dense = full_precision(delta.dense())
        c = step.to(dense.dtype)
        system = torch.eye(dense.shape[0], dtype=dense.dtype, device=dense.device) + c * (dense @ dense.T)
        y = full_precision(known).to(dense.dtype).flatten(-2)
        factor, _ = torch.linalg.cholesky_ex(system)  # positive definite by construction: eigenvalues >= 1
        solved = torch.cholesky_solve(y.flatten(0, 1).T, factor).T.view_as(y)
    return x - delta.adjoint((c * solved).unflatten(-1, (-1, delta.d_overlap)).to(x.dtype))


class Diffusion(nn.Module):
    """`steps` heat steps with one learned η in (0, 2). λ follows the maps in training and is frozen in eval."""

    lambda_max: Tensor

    def __init__(
        self,
        delta: Coboundary,
        *,
        steps: int = 1,
        eta: float = 1.0,
        scheme: Literal["explicit", "implicit"] = "explicit",
    ) -> None:
        super().__init__()
        self.steps, self.scheme, self.initial_eta = steps, scheme, eta
        # No step, no η: a parameter that nothing reads would sit in the optimiser for ever.
        self.eta_logit = nn.Parameter(torch.empty(())) if steps else None
        self.register_buffer("lambda_max", torch.ones(()))
        self.reset_parameters(delta)

    def reset_parameters(self, delta: Coboundary) -> None:
        """η at its start, λ from the maps."""
        if self.eta_logit is not None:
            nn.init.constant_(self.eta_logit, math.log(self.initial_eta / (2 - self.initial_eta)))
        self.refresh(delta)

    @property
    def eta(self) -> Float[Tensor, ""]:
        """The learned step in units of 1/λ, always within (0, 2)."""
        assert self.eta_logit is not None, "no step, no eta"
        return 2 * self.eta_logit.sigmoid()

    @torch.no_grad()
    def refresh(self, delta: Coboundary) -> Float[Tensor, ""]:
        """Bring λ up to date with the maps; on the meta device there is nothing to measure yet."""
        if delta.down.is_meta:
            return self.lambda_max
        bound = spectral_bound(delta)
        self.lambda_max.copy_(bound)
        return bound

    def forward(
        self, x: Float[Tensor, "B T S D"], delta: Coboundary, dx: Float[Tensor, "B T E K"] | None = None
    ) -> Float[Tensor, "B T S D"]:
        """Streams after the correction, the same tensor when there are no steps; `dx` = δx spares the first product."""
        if not self.steps:
            return x
        # In training the step uses the fresh value, not the buffer: a later forward may overwrite it before backward.
        bound = self.refresh(delta) if self.training else self.lambda_max
        move = heat_step if self.scheme == "explicit" else implicit_step
        for _ in range(self.steps):
            x, dx = move(delta, x, self.eta / bound, dx), None
        return x

    def extra_repr(self) -> str:
        if self.eta_logit is None:
            return "off"
        known = "?" if self.eta_logit.is_meta else f"{self.eta.item():.3f}"
        return f"{self.steps} {self.scheme} step(s), eta={known} in (0, 2)"
