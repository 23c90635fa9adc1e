"""Maps with one weight row for each embodiment: y = x W[e] + b[e].

Axes: B batch, L tokens, I in, O out, E embodiments (rows of the bank), H horizon, W DiT width.

A batch usually holds one embodiment; then its row is an ordinary matrix and no row is copied for each sample. Callers
pass `Rows`, made once for each batch.
"""

import math
from dataclasses import dataclass
from typing import Any

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
    """Row for each sample; not looked at when all share one."""
    single: int | None
    """The row when all samples share it."""


def rows_of(
    embodiment_id: Int[Tensor, " B"],
    count: int,
    *,
    kept: tuple[int, ...] | None = None,
    known: tuple[int, ...] | None = None,
    share: bool = True,
) -> Rows:
    """Look the ids over once: ids of a bank of `count` rows -> places among the `kept` rows.

    `known` are the same ids where the host knows them; else they are read back. Without `share` samples of one
    embodiment are treated as if they had several. Raises `DataError` for an id that has no row.
    """
    bank = tuple(range(count)) if kept is None else kept
    ids = tuple(embodiment_id.tolist()) if known is None else known
    if strange := sorted(set(ids) - set(bank)):
        want = f"ids in 0 .. {count - 1}" if kept is None else f"one of the kept embodiments {list(bank)}"
        hint = "correct the dataset's embodiment id, or raise max_num_embodiments, or keep more embodiments"
        raise DataError("embodiment_id", got=strange, want=want, hint=hint)
    if share and len(set(ids)) == 1:
        return Rows(ids=embodiment_id, single=bank.index(ids[0]))
    if kept is None:
        return Rows(ids=embodiment_id, single=None)
    # Where each id stands, worked out on the device: a list of places would have to travel there.
    return Rows(ids=torch.stack([(embodiment_id == e) * i for i, e in enumerate(kept)]).sum(0), single=None)


class EmbodimentLinear(nn.Module):
    """A bank of linear maps: `W` (E, I, O), `b` (E, O).

    After `keep`, the parameters hold the kept rows alone. The other rows wait on the CPU, outside the parameters, and
    `state_dict` still writes and reads the whole bank.
    """

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(count, inputs, outputs))
        self.b = nn.Parameter(torch.zeros(count, outputs))
        self.kept: tuple[int, ...] | None = None
        self.bank: dict[str, Tensor] = {}
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every row as a fresh linear layer: std I^-1/2, bias 0."""
        self.W.normal_(0.0, 1 / math.sqrt(self.W.shape[1]))
        self.b.zero_()

    def keep(self, embodiments: tuple[int, ...]) -> None:
        """Shrink the parameters to these rows. New `Parameter` objects: make the optimiser afterwards."""
        self.kept = embodiments
        for name in ("W", "b"):
            full = getattr(self, name)
            self.bank[name] = full.detach().to("cpu", copy=True)
            setattr(self, name, nn.Parameter(full.detach()[list(embodiments)].clone(), full.requires_grad))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, full in self.bank.items():
            whole = full.to(getattr(self, name).dtype, copy=True)
            whole[list(self.kept or ())] = getattr(self, name).detach().cpu()
            destination[prefix + name] = whole

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.bank.keys() & {key.removeprefix(prefix) for key in state_dict}:
            whole = state_dict[prefix + name]
            if whole.shape == self.bank[name].shape:
                self.bank[name] = whole.detach().to("cpu", copy=True)
                state_dict = state_dict | {prefix + name: whole[list(self.kept or ())]}
        super()._load_from_state_dict(state_dict, prefix, *rest)

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
    angle = time[:, None].float() * torch.exp(-steps * (math.log(10000) / half))
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
