"""Memory: a few moments of each earlier step, mixed with now, read by the streams and by the action head.

Axes: B batch, T tokens, S remembering streams, D stream width, K past steps, Q moments of a step, R = (K + 1) Q,
n state history, Ds state width, W width of the action head's state token, H horizon, Da action width.

    m_t    = [pool(x_t) ; MLP(state_t)]            learned queries over the pictures' tokens; one moment of the state
    M      = LN(causal([m_{t-K} .. m_t] + age))    a step sees itself and earlier ones; hidden steps are seen by none
    x_t'   = x_t + O attend(x_t, M_now)            O = 0 at the start
    offset = Z vec(M_now)                          Z = 0 at the start; added to the action head's state token
    recall = |g(M_now) - a|^2                      the present block alone must tell the chunk; acting does without g

Sources: moment tokens and their block-causal mixer, HAMLET (arXiv:2510.00695); queries over tokens, Set Transformer
(arXiv:1810.00825).
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from svms_gr00t.core.types import Recalled

AGE_STD = 0.3
"""Ages must stand out among moments of unit size; at 0.02 the mixer hardly told them apart."""


@dataclass(frozen=True, kw_only=True)
class MemorySize:
    """What a memory is made of, and what it is connected to."""

    steps: int
    """K, earlier steps that are kept."""
    streams: tuple[int, ...]
    """Streams that remember, by number."""
    d_stream: int
    moments: int = 4
    """Queries of each remembering stream."""
    layers: int = 2
    """Of the mixer."""
    dropout_p: float = 0.1
    """Chance that a past step is hidden in training."""
    state_dim: int
    """Numbers of the robot's state; of a state history the last step counts."""
    state_width: int
    """Width of the action head's state token."""
    chunk: tuple[int, int]
    """(H, Da) of the chunk that recall must tell."""

    @property
    def block(self) -> int:
        """Q, moments of one step: those of each stream, and the state's."""
        return self.moments * len(self.streams) + 1


class Memory(nn.Module):
    """Moments of earlier steps -> what the present makes of them."""

    def __init__(self, size: MemorySize) -> None:
        super().__init__()
        self.size, d = size, size.d_stream
        self.queries = nn.Parameter(torch.empty(len(size.streams), size.moments, d))
        self.keys, self.values = nn.Linear(d, d), nn.Linear(d, d)
        self.state = nn.Sequential(nn.Linear(size.state_dim, d), nn.GELU(), nn.Linear(d, d))
        self.age = nn.Parameter(torch.empty(size.steps + 1, 1, d))
        self.mixer = nn.ModuleList(Block(d) for _ in range(size.layers))
        self.norm = nn.LayerNorm(d)
        self.ask, self.tell = nn.Linear(d, d), nn.Linear(d, 2 * d)
        self.read_out = nn.Linear(d, d)
        self.state_out = nn.Linear(size.block * d, size.state_width)
        steps, width = size.chunk
        self.recall = nn.Sequential(nn.Linear(size.block * d, 2 * d), nn.GELU(), nn.Linear(2 * d, steps * width))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh weights: what is read adds nothing yet."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(self.queries)
        nn.init.normal_(self.age, std=AGE_STD)
        for zero in (self.read_out, self.state_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def pool(
        self, x: Float[Tensor, "B T S D"], mask: Bool[Tensor, "B T"], state: Float[Tensor, "B n Ds"]
    ) -> Float[Tensor, "B Q D"]:
        """The moments of one step, from the tokens where `mask` is True (the pictures') and the robot's state."""
        x = x.masked_fill(~mask[:, :, None, None], 0)
        scores = torch.einsum("sqd,btsd->bsqt", self.queries, self.keys(x)) * x.shape[-1] ** -0.5
        look = masked_softmax(scores, mask[:, None, None])
        seen = torch.einsum("bsqt,btsd->bsqd", look, self.values(x))
        felt = self.state(state[:, -1].to(seen.dtype))
        return torch.cat([rearrange(seen, "b s q d -> b (s q) d"), felt[:, None]], dim=1)

    def forward(
        self,
        x: Float[Tensor, "B T S D"],
        moments: Float[Tensor, "B Q D"],
        past: Float[Tensor, "B K Q D"] | None,
        valid: Bool[Tensor, "B K"] | None,
    ) -> Recalled:
        """Read the past (None: nothing came before) into the remembering streams `x` of a step with these `moments`."""
        present, ages = self.mix(moments, past, valid)
        key, value = self.tell(present).chunk(2, dim=-1)
        scores = torch.einsum("btsd,bqd->btsq", self.ask(x), key) * x.shape[-1] ** -0.5
        read = torch.einsum("btsq,bqd->btsd", scores.softmax(-1), value)
        offset = self.state_out(present.flatten(1))
        return Recalled(moments=moments, present=present, streams=x + self.read_out(read), offset=offset, ages=ages)

    def mix(
        self,
        moments: Float[Tensor, "B Q D"],
        past: Float[Tensor, "B K Q D"] | None,
        valid: Bool[Tensor, "B K"] | None,
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B _K"]]:
        """M_now, and how much of its attention each step got."""
        batch, block, _ = moments.shape
        if past is None or valid is None:
            past = moments.new_zeros(batch, self.size.steps, *moments.shape[1:])
            valid = torch.zeros(past.shape[:2], dtype=torch.bool, device=past.device)
        valid = self._drop(valid)
        past = past.to(moments.dtype).masked_fill(~valid[:, :, None, None], 0)  # 0 x NaN is NaN: hide values too
        rows = rearrange(torch.cat([past, moments[:, None]], dim=1) + self.age, "b k q d -> b (k q) d")
        sees = visible(valid, block)
        for layer in self.mixer[:-1]:
            rows, _ = layer(rows, sees)
        present, attention = self.mixer[-1](rows, sees, asking=block)  # of the last layer nothing else is read
        shares = rearrange(attention, "b q (k p) -> b q k p", p=block).sum(-1).mean(1)
        return self.norm(present), shares

    def _drop(self, valid: Bool[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
        if not self.training or self.size.dropout_p == 0:
            return valid
        return valid & (torch.rand(valid.shape, device=valid.device) >= self.size.dropout_p)

    def tells(self, present: Float[Tensor, "B Q D"]) -> Float[Tensor, "B H Da"]:
        """The chunk that the present block alone expects, normalised."""
        steps, width = self.size.chunk
        return rearrange(self.recall(present.flatten(1)), "b (h a) -> b h a", h=steps, a=width)

    def extra_repr(self) -> str:
        s = self.size
        return f"{s.steps} past steps of {s.block} moments, streams {s.streams}, dropout {s.dropout_p}"


class Block(nn.Module):
    """A pre-norm transformer layer that also says where it looked."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.heads = max(1, d // 64)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(
        self, x: Float[Tensor, "B R D"], sees: Bool[Tensor, "B R R"], *, asking: int | None = None
    ) -> tuple[Float[Tensor, "B _R D"], Float[Tensor, "B _R R"]]:
        """The last `asking` rows (None: all) after attention and MLP, and their attention, averaged over the heads."""
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b r (c n d) -> c b n r d", c=3, n=self.heads)
        if asking is not None:
            q, x, sees = q[:, :, -asking:], x[:, -asking:], sees[:, -asking:]
        weights = masked_softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, sees[:, None])
        x = x + self.out(rearrange(weights @ v, "b n r d -> b r (n d)"))
        return x + self.mlp(self.norm2(x)), weights.mean(1)


def visible(valid: Bool[Tensor, "B K"], block: int) -> Bool[Tensor, "B R R"]:
    """Which row may look at which: rows of its own step, and of earlier steps that are not hidden."""
    here = F.pad(valid, (0, 1), value=True)
    steps = here.shape[1]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=valid.device).tril(-1)
    own = torch.eye(steps, dtype=torch.bool, device=valid.device)
    return repeat((earlier & here[:, None]) | own, "b i j -> b (i p) (j q)", p=block, q=block)


def masked_softmax(scores: Float[Tensor, "*a r c"], mask: Bool[Tensor, "*b r2 c"]) -> Float[Tensor, "*a r c"]:
    """Softmax over the columns where `mask` is True; a row without any gives zeros."""
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0)
