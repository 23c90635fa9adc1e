"""Memory alone: the same memory on plain features, without streams, router or sheaf.

Axes: B batch, T tokens, M model width, D width of a moment, K past steps, Q moments of a step, n state history,
Ds state width.

    x  = LN(P h)
    h' = h + W O attend(x, M_now)        O = 0 at the start: h' = h, bit for bit
    offset as in `streams/memory.py`

It is the control of SVMS with memory, and what to take where the streams add nothing.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from svms_gr00t.core.types import Features, Moments, Past
from svms_gr00t.streams.memory import Memory, MemorySize


class MemoryAlone(nn.Module):
    """Features -> features that know what came before."""

    def __init__(self, dim: int, memory: MemorySize) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(dim, memory.d_stream), nn.LayerNorm(memory.d_stream)
        self.memory = Memory(memory)
        self.merge = nn.Linear(memory.d_stream, dim, bias=False)

    def reset_parameters(self) -> None:
        """Fresh weights; also the way to fill one that was built on the meta device."""
        for part in (self.project, self.norm, self.memory, self.merge):
            part.reset_parameters()

    def forward(
        self, features: Features, *, state: Float[Tensor, "B _n Ds"], past: Past | Moments | None = None
    ) -> Features:
        """The features with what was read, and what memory said; padding stays as it is."""
        mask = features.mask[..., None]
        x = self._view(features.tokens.masked_fill(~mask, 0))
        now = self.memory.pool(x, features.image_mask, state)
        values = self.moments(past) if isinstance(past, Past) else past.values if past is not None else None
        recalled = self.memory(x, now, values, None if past is None else past.valid)
        read = self.merge((recalled.streams - x)[:, :, 0]).to(features.tokens.dtype)
        return replace(features, tokens=torch.where(mask, features.tokens + read, features.tokens), recalled=recalled)

    def moments(self, past: Past) -> Float[Tensor, "B K Q D"]:
        """The moments of earlier steps, from what the backbone said of them."""
        mask = past.mask & past.valid[..., None]
        x = self._view(past.tokens.masked_fill(~mask[..., None], 0).flatten(0, 1))
        state = past.state.masked_fill(~past.valid[..., None, None], 0).flatten(0, 1)
        return self.memory.pool(x, mask.flatten(0, 1), state).unflatten(0, past.valid.shape)

    def _view(self, tokens: Float[Tensor, "B T M"]) -> Float[Tensor, "B T 1 D"]:
        return self.norm(self.project(tokens.to(self.project.weight.dtype)))[:, :, None]

    @property
    def is_fresh(self) -> bool:
        """Whether nothing that is read reaches anybody yet."""
        return not self.memory.read_out.weight.any() and not self.memory.state_out.weight.any()
