"""Attention of the diffusion transformer, with keys and values that can be made once and used many times.

Axes: B batch, S action sequence, N observed tokens, h heads, d head width, M width of the observed tokens, W DiT width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Observed tokens that one kind of block may read."""

    values: Float[Tensor, "B N M"]
    """Rows of unequal length are filled up with zeros."""
    mask: Bool[Tensor, "B N"] | None
    """True on tokens that count; None when all do, which selects the fused kernel."""


def choose(values: Float[Tensor, "B T M"], mask: Bool[Tensor, "B T"], *, gather: bool) -> Tokens:
    """The tokens under `mask`, in order: gathered into a shorter batch, or left in place behind the mask.

    Equal in exact arithmetic. Gathering reads the counts, so shapes depend on values; a captured CUDA graph cannot.
    """
    if not gather:
        return Tokens(values=values.masked_fill(~mask[..., None], 0), mask=mask)
    counts = mask.sum(1)
    fewest, most = torch.stack([counts.min(), counts.max()]).tolist()
    if fewest == mask.shape[1]:
        return Tokens(values=values, mask=None)
    # Real tokens first, order kept. One column stays even when nobody has a token: attention will not hear it, but its
    # weights stay in the graph, so that every process of a distributed run has the same gradients.
    most = max(most, 1)
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    short = values.gather(1, order[..., None].expand(-1, -1, values.shape[-1]))
    if fewest == most:
        return Tokens(values=short, mask=None)
    real = torch.arange(most, device=mask.device) < counts[:, None]
    return Tokens(values=short.masked_fill(~real[..., None], 0), mask=real)


@dataclass(frozen=True, kw_only=True)
class KeysValues:
    """Keys and values of one block."""

    key: Float[Tensor, "B h N d"]
    value: Float[Tensor, "B h N d"]
    mask: Bool[Tensor, "B 1 1 N"] | None
    """True where a query may look; never a row without any True."""
    heard: Bool[Tensor, "B 1 1 1"] | None
    """False on rows that have nothing to look at: their attention is zero, not NaN. None when there is no such row."""


class Attention(nn.Module):
    """Multi-head attention with biases: `to_q`, `to_k`, `to_v`, `to_out.0`. Dropout is the block's business."""

    def __init__(self, dim: int, source_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(source_dim, dim)
        self.to_v = nn.Linear(source_dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, tokens: Tokens) -> KeysValues:
        """What a query will read; depends on the observation only, so it serves every denoising step."""
        key, value = self._split(self.to_k(tokens.values)), self._split(self.to_v(tokens.values))
        if tokens.mask is None:
            return KeysValues(key=key, value=value, mask=None, heard=None)
        heard = tokens.mask.any(1)[:, None, None, None]
        return KeysValues(key=key, value=value, mask=tokens.mask[:, None, None] | ~heard, heard=heard)

    def forward(self, x: Float[Tensor, "B S W"], source: KeysValues | None = None) -> Float[Tensor, "B S W"]:
        """Attention of `x` to `source`, or to itself."""
        source = self.keys_values(Tokens(values=x, mask=None)) if source is None else source
        out = F.scaled_dot_product_attention(self._split(self.to_q(x)), source.key, source.value, source.mask)
        out = out if source.heard is None else out.masked_fill(~source.heard, 0)
        return self.to_out[0](out.transpose(1, 2).flatten(2))
