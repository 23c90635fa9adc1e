"""AdamW on bfloat16 weights with stochastic rounding: no fp32 master, and small updates survive on average.

A float32 number lies between two bfloat16 neighbours; it goes to the upper one with the probability of its distance
from the lower one. Adding 16 random bits below the bfloat16 mantissa and cutting them off does exactly that.
Source: Gupta et al. 2015, arXiv:1502.02551.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def round_stochastically(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """float32 of any shape -> bfloat16 with E[result] = x. Infinite and NaN values stay what they are."""
    bits = x.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=x.device, generator=generator)
    # Sign and magnitude are stored apart, so adding to the magnitude rounds away from or toward zero alike.
    rounded = ((bits + noise) & -65536).view(torch.float32).to(torch.bfloat16)
    return torch.where(torch.isfinite(x), rounded, x.to(torch.bfloat16))


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW with float32 moments whose weights live in bfloat16 alone."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; random bits come from torch's global generator, which the training loop seeds by step."""
        assert closure is None, "a closure has no use here"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad.float()  # type: ignore[union-attr]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        first, second = group["betas"]
        state["step"] += 1
        count = float(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (state["exp_avg_sq"] / (1 - second**count)).sqrt_().add_(group["eps"])
        weight = parameter.float().mul_(1 - group["lr"] * group["weight_decay"])
        weight.addcdiv_(state["exp_avg"] / (1 - first**count), scale, value=-group["lr"])
        parameter.copy_(round_stochastically(weight))
