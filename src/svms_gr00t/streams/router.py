"""Router: how much each stream says about each token.

Axes: B batch, T tokens, S streams, D stream width.

    w = softmax(g(x) / τ)            g = LN -> Linear -> GELU -> Linear on the concatenated corrected streams
    balance = S Σ_s w̄_s² - 1         w̄ the mean over valid tokens; 0 when used equally, S - 1 when one takes all
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from svms_gr00t.core.errors import ConfigError

RouterMode = Literal["learned", "uniform", "frozen"]


class Router(nn.Module):
    """Per-token stream weights. uniform: always 1/S. frozen: g as it is, without gradient (a control)."""

    temperature: Tensor

    def __init__(
        self,
        *,
        n_streams: int,
        d_stream: int,
        mode: RouterMode = "learned",
        dropout_p: float = 0.15,
        temperature: float = 2.0,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("learned", "uniform", "frozen"):
            raise ConfigError("router_mode", got=mode, want="learned, uniform or frozen", hint="learned is the default")
        if not 0 <= dropout_p < 1:
            raise ConfigError("dropout_p", got=dropout_p, want="0 <= p < 1", hint="0.15 is the default")
        self.n_streams, self.mode, self.dropout_p = n_streams, mode, dropout_p
        self.initial_temperature = temperature
        self.register_buffer("temperature", torch.empty(()))
        if mode != "uniform":
            self.norm = nn.LayerNorm(n_streams * d_stream)
            self.inner = nn.Linear(n_streams * d_stream, hidden or max(8, d_stream // 3))
            self.outer = nn.Linear(self.inner.out_features, n_streams)
        if mode == "frozen":
            self.requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.temperature, self.initial_temperature)
        if self.mode != "uniform":
            for layer in (self.norm, self.inner, self.outer):
                layer.reset_parameters()

    def set_temperature(self, temperature: float) -> None:
        """Fill the buffer: compiled graphs read the new value without recompiling. Raises ConfigError unless > 0."""
        if not temperature > 0:
            raise ConfigError("temperature", got=temperature, want="a number above 0", hint="2.0 is soft, 0.5 is sharp")
        self.temperature.fill_(temperature)

    def forward(self, streams: Float[Tensor, "B T S D"]) -> Float[Tensor, "B T S"]:
        """Weights before dropout; each token's sum to 1."""
        if self.mode == "uniform":
            return streams.new_full(streams.shape[:-1], 1 / self.n_streams)
        hidden = F.gelu(self.inner(self.norm(streams.flatten(-2))), approximate="tanh")
        # S is too small for a matrix product: as a sum, compilers fuse it with its neighbours.
        logits = (hidden[..., None, :] * self.outer.weight).sum(-1) + self.outer.bias
        weights = (logits / self.temperature.to(logits.dtype)).softmax(-1)
        return weights.detach() if self.mode == "frozen" else weights

    def drop(self, weights: Float[Tensor, "B T S"]) -> Float[Tensor, "B T S"]:
        """In training, silence each stream of each token with chance p and share its weight out; keep at least one."""
        if not self.training or self.dropout_p == 0:
            return weights
        chance = torch.rand_like(weights)
        # The luckiest stream stays: it differs from the plain rule only where all would go.
        keep = (chance >= self.dropout_p) | (chance == chance.amax(-1, keepdim=True))
        kept = torch.where(keep, weights + torch.finfo(weights.dtype).tiny, 0.0)
        return kept / kept.sum(-1, keepdim=True)

    def extra_repr(self) -> str:
        return f"{self.mode}, dropout_p={self.dropout_p}"


def balance_loss(weights: Float[Tensor, "B T S"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """S Σ w̄² - 1 over valid tokens; 0 when there are none."""
    weights = weights if weights.dtype == torch.float64 else weights.float()
    mean = torch.where(mask[..., None], weights, 0.0).sum((0, 1)) / mask.sum().clamp(min=1)
    return torch.where(mask.any(), weights.shape[-1] * mean.square().sum() - 1, 0.0)
