"""Maps with one weight row for each embodiment: y = x W[e] + b[e].

Axes: B batch, L tokens, I in, O out, E embodiments (rows of the bank), H horizon, W DiT width.

A batch usually holds one embodiment; then its row is an ordinary matrix and no row is copied for each sample. Callers
pass `Rows`, made once for each batch.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from svms_gr00t.core.errors import DataError

ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which bank row each sample uses."""

    ids: Int[Tensor, " B"]
    """Row for each sample."""
    single: int | None
    """The row when all samples share it."""


def rows_of(embodiment_id: Int[Tensor, " B"], count: int, *, static: bool) -> Rows:
    """Look the ids over once; `static` leaves them unread, for graph capture. `DataError` for an id too large."""
    if static:
        return Rows(ids=embodiment_id, single=None)
    ids = embodiment_id.tolist()
    if min(ids) < 0 or max(ids) >= count:
        hint = "raise max_num_embodiments, or correct the embodiment id of the dataset"
        raise DataError("embodiment_id", got=sorted(set(ids)), want=f"ids in 0 .. {count - 1}", hint=hint)
    return Rows(ids=embodiment_id, single=ids[0] if len(set(ids)) == 1 else None)


class EmbodimentLinear(nn.Module):
    """A bank of linear maps: `W` (E, I, O), `b` (E, O)."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(count, inputs, outputs))
        self.b = nn.Parameter(torch.zeros(count, outputs))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every row as a fresh linear layer: std I^-1/2, bias 0."""
        self.W.normal_(0.0, 1 / math.sqrt(self.W.shape[1]))
        self.b.zero_()

    def forward(self, x: Float[Tensor, "_B L _I"], rows: Rows, part: slice = ALL, *, bias: bool = True) -> Tensor:
        """x W[e] + b[e], (B, L, O). `part` takes only these input rows of W, so that a sum of parts is the whole map.

        `x` may have one row for all samples; so may the result then, when the samples share their embodiment.
        """
        if rows.single is not None:
            return F.linear(x, self.W[rows.single, part].T, self.b[rows.single] if bias else None)
        weight = self.W[rows.ids, part]
        x = x.expand(len(weight), -1, -1)
        return torch.baddbmm(self.b[rows.ids][:, None], x, weight) if bias else torch.bmm(x, weight)


class EmbodimentMLP(nn.Module):
    """Two maps with a ReLU between: the state encoder and the action decoder."""

    def __init__(self, count: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = EmbodimentLinear(count, inputs, hidden)
        self.layer2 = EmbodimentLinear(count, hidden, outputs)

    def forward(self, x: Float[Tensor, "B L I"], rows: Rows) -> Float[Tensor, "B L O"]:
        return self.layer2(F.relu(self.layer1(x, rows)), rows)


def sine_code(time: Int[Tensor, " K"], width: int) -> Float[Tensor, "K width"]:
    """[sin | cos] of the bucketed time at frequencies 10000^(-i / (width/2))."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    angle = time[:, None].float() * torch.exp(-math.log(10000) * steps / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ActionEncoder(nn.Module):
    """Noisy actions and their time -> action tokens: W3 SiLU W2 [W1 a | code(time)]."""

    def __init__(self, count: int, action_dim: int, dim: int) -> None:
        super().__init__()
        self.W1 = EmbodimentLinear(count, action_dim, dim)
        self.W2 = EmbodimentLinear(count, 2 * dim, dim)
        self.W3 = EmbodimentLinear(count, dim, dim)

    def forward(self, actions: Float[Tensor, "B H A"], time: Int[Tensor, " K"], rows: Rows) -> Float[Tensor, "B H W"]:
        """The definition, kept as the plain form of `encode`. K is B, or 1 when all rows share the time."""
        lifted = self.W1(actions, rows)
        code = sine_code(time, lifted.shape[-1]).to(lifted.dtype)[:, None].expand_as(lifted)
        return self.W3(F.silu(self.W2(torch.cat([lifted, code], dim=-1), rows)), rows)

    def time_bias(self, code: Float[Tensor, "_B L W"], rows: Rows) -> Tensor:
        """The time half of W2 and its bias, (B or 1, L, W): one vector for each time, not a product for each step."""
        return self.W2(code, rows, slice(code.shape[-1], None))

    def encode(self, actions: Float[Tensor, "B H A"], bias: Float[Tensor, "_B 1 W"], rows: Rows) -> Tensor:
        """Same as `forward`, (B, H, W), with the time already folded into `bias` (one time of `time_bias`)."""
        lifted = self.W1(actions, rows)
        return self.W3(F.silu(self.W2(lifted, rows, slice(lifted.shape[-1]), bias=False) + bias), rows)
