"""The diffusion transformer of N1.6: action tokens that read the observation (Peebles & Xie 2022, arXiv:2212.09748).

Axes: B batch, S action sequence (state first), W DiT width, M feature width, O output width, K flow times.

    temb = Linear SiLU Linear (cos | sin code of the bucketed time)
    n = LN(x) (1 + scale) + shift          (scale, shift) = halves of Linear SiLU temb       AdaLN before attention
    x = x + attend(n);  x = x + MLP(LN(x))
    out = Linear (LN(x) (1 + scale) + shift)   here (shift, scale): the other order

Odd blocks attend the sequence itself. Even blocks read the observation: all of it (plain), or alternately its text and
its image tokens. Whether a block crosses follows from its number, never from widths, which may be equal.
Keys and values of the observation depend on nothing else, and the modulation on the time alone. So both are made
outside `forward`: `context` once for each observation, `modulate` once for each time.
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from svms_gr00t.core.types import EVERYTHING, Features, Places, read_places
from svms_gr00t.groot.attention import Attention, KeysValues, choose
from svms_gr00t.groot.config import Gr00tN1d6Config

Reads = Literal["self", "text", "image", "all"]


Halves = tuple[Float[Tensor, "K 1 W"], Float[Tensor, "K 1 W"]]
"""(gain, shift) of one AdaLN at K flow times, gain = 1 + scale."""


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """AdaLN of every block and of the output, for K flow times (K = B, or 1 when all rows share the time)."""

    blocks: tuple[Halves, ...]
    """For each block."""
    output: Halves
    """Before the output map."""

    def at(self, step: int) -> "Modulation":
        """The modulation of the time with index `step` alone."""
        pick = slice(step, step + 1)
        blocks = tuple((gain[pick], shift[pick]) for gain, shift in self.blocks)
        return Modulation(blocks=blocks, output=(self.output[0][pick], self.output[1][pick]))


def modulated(x: Float[Tensor, "B S W"], halves: Halves, eps: float) -> Float[Tensor, "B S W"]:
    """LN(x) gain + shift; when acting, all rows share the time, and it is one kernel."""
    gain, shift = halves
    if len(gain) == 1 and gain.dtype == x.dtype and not gain.requires_grad:
        return F.layer_norm(x, x.shape[-1:], gain[0, 0], shift[0, 0], eps)
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), gain)


def block_reads(config: Gr00tN1d6Config) -> tuple[Reads, ...]:
    """What each block attends."""

    def reads(i: int) -> Reads:
        if i % 2 and config.diffusion_model_cfg.interleave_self_attention:
            return "self"
        if not config.use_alternate_vl_dit:
            return "all"
        return "text" if i % (2 * config.attend_text_every_n_blocks) == 0 else "image"

    return tuple(reads(i) for i in range(config.diffusion_model_cfg.num_layers))


def cosine_code(time: Int[Tensor, " K"], width: int = 256) -> Float[Tensor, "K width"]:
    """[cos | sin] of the bucketed time at frequencies 10000^(-i / (width/2 - 1))."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    angle = time[:, None].float() * torch.exp(-math.log(10000) * steps / (half - 1))
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(256, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, code: Float[Tensor, "K 256"]) -> Float[Tensor, "K W"]:
        return self.linear_2(F.silu(self.linear_1(code)))


class TimestepEncoder(nn.Module):
    """Bucketed time -> temb."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedder(dim)

    def forward(self, time: Int[Tensor, " K"]) -> Float[Tensor, "K W"]:
        return self.timestep_embedder(cosine_code(time).to(self.timestep_embedder.linear_1.weight.dtype))


class AdaNorm(nn.Module):
    """LayerNorm whose scale and shift come from the time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def halves(self, temb: Float[Tensor, "K 1 W"]) -> Halves:
        """The linear map's halves come as (scale, shift)."""
        scale, shift = self.linear(temb).chunk(2, dim=-1)
        return 1 + scale, shift

    def forward(self, x: Float[Tensor, "B S W"], halves: Halves) -> Float[Tensor, "B S W"]:
        return modulated(x, halves, 1e-5)


class GeluProjection(nn.Module):
    """Linear and tanh GELU."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, x: Float[Tensor, "B S W"]) -> Float[Tensor, "B S W4"]:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """Linear to 4W, tanh GELU, Linear back, with dropout between and after."""

    def __init__(self, dim: int, dropout: float, final: float) -> None:
        super().__init__()
        parts = [GeluProjection(dim, 4 * dim), nn.Dropout(dropout), nn.Linear(4 * dim, dim), nn.Dropout(final)]
        self.net = nn.Sequential(*parts)

    def forward(self, x: Float[Tensor, "B S W"]) -> Float[Tensor, "B S W"]:
        return self.net(x)


class Block(nn.Module):
    """AdaLN, attention, MLP, each with its residual."""

    def __init__(self, config: Gr00tN1d6Config, reads: Reads) -> None:
        super().__init__()
        dit = config.diffusion_model_cfg
        self.reads: Reads = reads
        # N1.6 drops twice in a row after attention; two independent dropouts are one with 1 - (1 - p)^2.
        after = 1 - (1 - dit.dropout) ** 2 if dit.final_dropout else dit.dropout
        self.norm1 = AdaNorm(dit.width)
        self.attn1 = Attention(
            dit.width, dit.width if reads == "self" else config.backbone_embedding_dim, dit.num_attention_heads
        )
        self.dropout = nn.Dropout(after)
        self.ff = FeedForward(dit.width, dit.dropout, dit.dropout if dit.final_dropout else 0.0)

    def forward(self, x: Float[Tensor, "B S W"], halves: Halves, source: KeysValues | None) -> Float[Tensor, "B S W"]:
        x = x + self.dropout(self.attn1(self.norm1(x, halves), source))
        return x + self.ff(F.layer_norm(x, x.shape[-1:], eps=1e-5))


class DiT(nn.Module):
    """Action sequence -> action sequence, given the context of an observation and the modulation of a time."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        dit = config.diffusion_model_cfg
        self.mask_padding = config.mask_padding or config.use_alternate_vl_dit
        self.timestep_encoder = TimestepEncoder(dit.width)
        self.transformer_blocks = nn.ModuleList(Block(config, reads) for reads in block_reads(config))
        self.proj_out_1 = nn.Linear(dit.width, 2 * dit.width)
        self.proj_out_2 = nn.Linear(dit.width, dit.output_dim)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """`transformer_blocks` as what they are."""
        return tuple(cast(Block, block) for block in self.transformer_blocks)

    def context(self, features: Features, *, gather: bool = True) -> tuple[KeysValues | None, ...]:
        """Keys and values of every cross block, once for each observation; None for self-attention.

        `gather` picks the tokens a block may read instead of masking the others: the same numbers, less work. Where
        the features know no layout, that reads the masks back.
        """
        masks = {
            "text": features.mask & ~features.image_mask,
            "image": features.mask & features.image_mask,
            "all": features.mask if self.mask_padding else torch.ones_like(features.mask),
        }
        wanted = {block.reads for block in self.blocks} - {"self"}
        known = features.layout
        places: dict[str, Places | None] = dict.fromkeys(wanted)
        if gather and known is not None:
            places = {"text": known.text, "image": known.image, "all": known.every if self.mask_padding else EVERYTHING}
        elif gather:
            places = {name: read_places(masks[name]) for name in wanted}
        tokens = {name: choose(features.tokens, masks[name], places[name]) for name in wanted}
        return tuple(
            None if block.reads == "self" else block.attn1.keys_values(tokens[block.reads]) for block in self.blocks
        )

    def modulate(self, time: Int[Tensor, " K"]) -> Modulation:
        """AdaLN halves at bucketed times: (B,) in training, the sampler's K steps at once when acting."""
        temb = F.silu(self.timestep_encoder(time))[:, None]
        shift, scale = self.proj_out_1(temb).chunk(2, dim=-1)  # the other order than in the blocks
        blocks = tuple(block.norm1.halves(temb) for block in self.blocks)
        return Modulation(blocks=blocks, output=(1 + scale, shift))

    def timed_parameters(self) -> list[nn.Parameter]:
        """The weights that `modulate` reads."""
        parts = [self.timestep_encoder, self.proj_out_1, *(block.norm1 for block in self.blocks)]
        return [weight for part in parts for weight in part.parameters()]

    def forward(
        self, x: Float[Tensor, "B S W"], context: tuple[KeysValues | None, ...], modulation: Modulation
    ) -> Float[Tensor, "B S O"]:
        for block, halves, source in zip(self.transformer_blocks, modulation.blocks, context, strict=True):
            x = block(x, halves, source)
        return self.project(x, modulation)

    def project(self, x: Float[Tensor, "B S W"], modulation: Modulation) -> Float[Tensor, "B S O"]:
        """The output map."""
        return self.proj_out_2(modulated(x, modulation.output, 1e-6))
