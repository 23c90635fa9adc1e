"""Stream heads: every token, seen S times.

Axes: B batch, T tokens, M model width, S streams, D stream width, H hidden width, I and O any widths.

    x_s = LN_s(P_s h + MLP_s(P_s h)),    MLP_s = D -> H -> D with GELU

One GEMM serves all P_s, two batched GEMMs all MLPs.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def stacked_linear(
    x: Float[Tensor, "B T S I"], weight: Float[Tensor, "S I O"], bias: Float[Tensor, "S O"]
) -> Float[Tensor, "B T S O"]:
    """One linear layer for each stream, in one kernel."""
    out = torch.baddbmm(bias[:, None], rearrange(x, "B T S I -> S (B T) I"), weight)
    return rearrange(out, "S (B T) O -> B T S O", B=x.shape[0])


def pick(values: Tensor, chosen: tuple[int, ...], dim: int = 0) -> Tensor:
    """Some entries of an axis, without an index that would have to travel to the device."""
    return torch.stack([values.select(dim, i) for i in chosen], dim)


class StreamHeads(nn.Module):
    """h -> x. Streams are an axis of the parameters; they differ in their values only."""

    def __init__(self, dim: int, *, n_streams: int, d_stream: int, hidden: int | None = None) -> None:
        super().__init__()
        self.n_streams, self.d_stream, self.hidden = n_streams, d_stream, hidden or 2 * d_stream
        self.project = nn.Linear(dim, n_streams * d_stream)
        self.up = nn.Parameter(torch.empty(n_streams, d_stream, self.hidden))
        self.up_bias = nn.Parameter(torch.empty(n_streams, self.hidden))
        self.down = nn.Parameter(torch.empty(n_streams, self.hidden, d_stream))
        self.down_bias = nn.Parameter(torch.empty(n_streams, d_stream))
        self.scale = nn.Parameter(torch.empty(n_streams, d_stream))
        self.shift = nn.Parameter(torch.empty(n_streams, d_stream))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Variance-preserving normal weights, zero biases, LN at the identity."""
        for weight, fan_in in ((self.project.weight, self.project.in_features), (self.up, self.d_stream)):
            nn.init.normal_(weight, std=fan_in**-0.5)
        nn.init.normal_(self.down, std=self.hidden**-0.5)
        for zero in (self.project.bias, self.up_bias, self.down_bias, self.shift):
            nn.init.zeros_(zero)
        nn.init.ones_(self.scale)

    def forward(self, tokens: Float[Tensor, "B T M"]) -> Float[Tensor, "B T S D"]:
        return self._specialise(self.project(tokens))

    def only(self, tokens: Float[Tensor, "B T M"], streams: tuple[int, ...]) -> Float[Tensor, "B T _S D"]:
        """Some of the streams, at the cost of those alone."""
        weight = rearrange(self.project.weight, "(S D) M -> S D M", S=self.n_streams)
        bias = rearrange(self.project.bias, "(S D) -> S D", S=self.n_streams)
        projected = F.linear(tokens, pick(weight, streams).flatten(0, 1), pick(bias, streams).flatten())
        return self._specialise(projected, streams)

    def _specialise(
        self, projected: Float[Tensor, "B T _SD"], streams: tuple[int, ...] | None = None
    ) -> Float[Tensor, "B T _S D"]:
        up, up_bias, down, down_bias, shift, scale = (
            value if streams is None else pick(value, streams)
            for value in (self.up, self.up_bias, self.down, self.down_bias, self.shift, self.scale)
        )
        z = rearrange(projected, "B T (S D) -> B T S D", D=self.d_stream)
        inner = F.gelu(stacked_linear(z, up, up_bias), approximate="tanh")
        z = z + stacked_linear(inner, down, down_bias)
        return torch.addcmul(shift, F.layer_norm(z, (self.d_stream,)), scale)

    def extra_repr(self) -> str:
        return f"{self.n_streams} x ({self.project.in_features} -> {self.d_stream}), hidden {self.hidden}"
