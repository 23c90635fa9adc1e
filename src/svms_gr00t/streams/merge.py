"""Merge: the streams' say, added to the token.

Axes: B batch, T tokens, M model width, S streams, D stream width.

    h' = h + W [w_1 x_1; ...; w_S x_S] + b on valid tokens, h' = h on padding

W and b start at zero, so a fresh SVMS returns its input bit for bit.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Merge(nn.Linear):
    """The residual map W; an `nn.Linear` whose reset is zero. Loaders that re-draw missing keys must leave it alone."""

    def __init__(self, dim: int, *, n_streams: int, d_stream: int) -> None:
        super().__init__(n_streams * d_stream, dim)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def add(
        self,
        tokens: Float[Tensor, "B T M"],
        streams: Float[Tensor, "B T S D"],
        weights: Float[Tensor, "B T S"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T M"]:
        """h', in the dtype of `tokens`."""
        said = self((weights[..., None] * streams).flatten(-2))
        return torch.where(mask[..., None], tokens + said.to(tokens.dtype), tokens)
