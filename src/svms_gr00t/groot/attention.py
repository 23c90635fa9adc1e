"""Attention of the diffusion transformer, with keys and values that can be made once and used many times.

Axes: B batch, S action sequence, N observed tokens, h heads, d head width, M width of the observed tokens, W DiT width.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svms_gr00t.core.types import Places


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Observed tokens that one kind of block may read."""

    values: Float[Tensor, "B N M"]
    """Rows of unequal length are filled up with zeros."""
    mask: Bool[Tensor, "B 1 1 N"] | None = None
    """True where a query may look, never a row without any True; None where everything counts (the fused kernel)."""
    heard: Bool[Tensor, "B 1 1 1"] | None = None
    """False on rows that have nothing to look at: their attention is zero, not NaN. None when there is no such row."""


def choose(values: Float[Tensor, "B T M"], mask: Bool[Tensor, "B T"], places: Places | None) -> Tokens:
    """The tokens under `mask`, in order: gathered from their `places` into a shorter batch, or left behind the mask.

    Equal in exact arithmetic.
    """
    if places is None:
        return _hidden(values, mask, mask.any(1))
    if places.index is None:
        return Tokens(values=values)
    short = values.gather(1, places.index[..., None].expand(-1, -1, values.shape[-1]))
    return Tokens(values=short) if places.real is None else _hidden(short, places.real, places.heard)


def _hidden(values: Float[Tensor, "B N M"], real: Bool[Tensor, "B N"], heard: Bool[Tensor, " B"] | None) -> Tokens:
    values, mask = values.masked_fill(~real[..., None], 0), real[:, None, None]
    if heard is None:
        return Tokens(values=values, mask=mask)
    heard = heard[:, None, None, None]
    return Tokens(values=values, mask=mask | ~heard, heard=heard)


@dataclass(frozen=True, kw_only=True)
class KeysValues:
    """Keys and values of one block."""

    key: Float[Tensor, "B h N d"]
    value: Float[Tensor, "B h N d"]
    mask: Bool[Tensor, "B 1 1 N"] | None
    """As in `Tokens`."""
    heard: Bool[Tensor, "B 1 1 1"] | None
    """As in `Tokens`."""


class Attention(nn.Module):
    """Multi-head attention with biases: `to_q`, `to_k`, `to_v`, `to_out.0`. Dropout is the block's business."""

    def __init__(self, dim: int, source_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(source_dim, dim)
        self.to_v = nn.Linear(source_dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.joined: tuple[Tensor, Tensor] | None = None
        """Weight and bias of q, k and v as one product, for a sequence that attends itself; no part of a checkpoint."""

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, tokens: Tokens) -> KeysValues:
        """What a query will read; depends on the observation only, so it serves every denoising step."""
        key, value = self._split(self.to_k(tokens.values)), self._split(self.to_v(tokens.values))
        return KeysValues(key=key, value=value, mask=tokens.mask, heard=tokens.heard)

    def forward(self, x: Float[Tensor, "B S W"], source: KeysValues | None = None) -> Float[Tensor, "B S W"]:
        """Attention of `x` to `source`, or to itself."""
        if source is None and self.joined is not None:
            query, key, value = (self._split(one) for one in F.linear(x, *self.joined).chunk(3, dim=-1))
            source = KeysValues(key=key, value=value, mask=None, heard=None)
        else:
            query, source = self._split(self.to_q(x)), self.keys_values(Tokens(values=x)) if source is None else source
        out = F.scaled_dot_product_attention(query, source.key, source.value, source.mask)
        out = out if source.heard is None else out.masked_fill(~source.heard, 0)
        return self.to_out[0](out.transpose(1, 2).flatten(2))
