"""SVMS: sheaf-coupled streams between a token encoder and whatever reads its tokens.

Axes: B batch, T tokens, M model width, S streams, D stream width, E edges, C labelled streams, G target numbers.

    x  = heads(h)                        streams/heads.py
    x  = x + O attend(x, M_now)          streams/memory.py      off without `memory_offsets`; O = 0 at the start
    ρ  = disagreement of x               sheaf/energy.py        loss "sheaf", monitor
    x' = x - η L x / λ                   sheaf/diffusion.py
    w  = softmax(g(x') / τ)              streams/router.py      loss "balance"
    h' = h + W [w_s x'_s]                streams/merge.py       W = 0 at the start: h' = h, bit for bit

The sheaf loss, ρ, the labels and the grounded targets read x *before* the correction. After it the streams agree more
by construction, so a loss there would reward the arithmetic instead of the heads, and a monitor there would hide what
it should report.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.core.types import Features, Moments, Past, Recalled, StreamStates
from svms_gr00t.sheaf.coboundary import Coboundary
from svms_gr00t.sheaf.diffusion import Diffusion
from svms_gr00t.sheaf.energy import collapse, masked_mean, residual
from svms_gr00t.sheaf.graph import Edges, build_graph
from svms_gr00t.streams.heads import StreamHeads, pick
from svms_gr00t.streams.memory import Memory, MemorySize
from svms_gr00t.streams.merge import Merge
from svms_gr00t.streams.router import Router, RouterMode, balance_loss
from svms_gr00t.streams.targets import TargetHeads
from svms_gr00t.streams.token_labels import TokenLabelHeads, label_loss


class SheafStreams(nn.Module):
    """Tokens and their mask -> StreamStates. Works behind any encoder of width `dim`; fresh, it changes no bit."""

    def __init__(
        self,
        dim: int,
        *,
        streams: tuple[str, ...] = ("visual", "temporal", "state"),
        edges: Edges = "path",
        d_stream: int = 768,
        d_overlap: int = 384,
        rank: int = 128,
        unroll_steps: int = 1,
        scheme: Literal["explicit", "implicit"] = "explicit",
        dropout_p: float = 0.15,
        router_mode: RouterMode = "learned",
        temperature: float = 2.0,
        use_aux: bool = True,
        memory: MemorySize | None = None,
        targets: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        if unroll_steps < 0:
            raise ConfigError("sheaf_unroll_steps", got=unroll_steps, want="0 or more", hint="0 switches it off")
        graph = build_graph(streams, edges)
        size = {"n_streams": len(graph.streams), "d_stream": d_stream}
        self.graph, self.dim, self.use_aux = graph, dim, use_aux
        self.heads = StreamHeads(dim, **size)
        self.delta = Coboundary(graph, d_stream=d_stream, d_overlap=d_overlap, rank=rank)
        self.diffusion = Diffusion(self.delta, steps=unroll_steps, scheme=scheme)
        self.labels = TokenLabelHeads(**size)
        self.router = Router(**size, mode=router_mode, dropout_p=dropout_p, temperature=temperature)
        self.merge = Merge(dim, **size)
        self.memory = Memory(memory) if memory is not None else None
        self.targets = TargetHeads(targets, d_stream) if targets else None
        self.register_load_state_dict_post_hook(_follow_loaded_maps)

    @classmethod
    def from_config(cls, config: SvmsConfig, dim: int, *, memory: MemorySize | None = None) -> "SheafStreams":
        """The module that a configuration describes, for tokens of width `dim`."""
        return cls(
            dim,
            streams=config.stream_names,
            edges=config.stream_edges,
            d_stream=config.d_stream,
            d_overlap=config.d_overlap,
            rank=config.adapter_rank,
            unroll_steps=config.sheaf_unroll_steps,
            scheme=config.sheaf_scheme,
            router_mode=config.router_mode,
            dropout_p=config.router_stream_dropout_p,
            temperature=config.router_temp_init,
            use_aux=config.use_aux_losses,
            memory=memory,
            targets=config.told_by,
        )

    def forward(
        self,
        tokens: Features | Tensor,
        mask: Tensor | None = None,
        *,
        image_mask: Tensor | None = None,
        labels: Float[Tensor, "B T C"] | None = None,
        label_mask: Bool[Tensor, "B T"] | None = None,
        label_weight: Float[Tensor, " C"] | None = None,
        state: Float[Tensor, "B _n Ds"] | None = None,
        past: Past | Moments | None = None,
        targets: Float[Tensor, "B G"] | None = None,
        losses: bool = True,
    ) -> StreamStates:
        """Merged tokens with their evidence; `losses=False` skips the terms (acting needs none).

        `tokens` are an encoder's (B, T, dim) with `mask` (B, T), True or 1 on real ones (None: all are real), and
        `image_mask` on those of pictures; or all three as `Features`. Raises DataError for other shapes and types.
        With memory, `state` is the robot's and `past` what came before, None at the start of an episode.
        """
        features = self._features(tokens, mask, image_mask)
        mask = features.mask
        padding = ~mask[..., None]
        read = features.tokens.to(self.merge.weight.dtype)
        if losses or torch.is_grad_enabled():
            read = read.masked_fill(padding, 0)  # not even NaN in padding may reach a weight's gradient
        x = self.heads(read).masked_fill(padding[..., None], 0)
        recalled = None
        if self.memory is not None:
            assert state is not None, "memory needs the robot's state"
            recalled = self._remember(x, features.image_mask, state, past)
            x = self._with(x, recalled.streams).masked_fill(padding[..., None], 0)
        projections = self.delta.project(x)
        rho = residual(projections)
        logits = self.labels(x)
        corrected = self.diffusion(x, self.delta, projections[1] - projections[0])
        routed = self.router(corrected)
        weights = self.router.drop(routed).masked_fill(padding, 0)

        terms: dict[str, Tensor] = {}
        if losses:
            terms["sheaf"] = masked_mean(rho.of_tokens, mask)
            terms["collapse"] = collapse(projections, mask)
            terms["balance"] = balance_loss(routed, mask)
        if losses and self.use_aux and labels is not None:
            terms["aux"] = label_loss(logits, labels, mask if label_mask is None else label_mask & mask, label_weight)
        if losses and self.targets is not None and targets is not None:
            terms |= self.targets.losses(x, features.image_mask, targets)
        return StreamStates(
            tokens=self.merge.add(features.tokens, corrected, weights, mask),
            streams=corrected,
            weights=weights,
            rho=rho.of_edges.masked_fill(padding, 0),
            aux_logits=logits,
            terms=terms,
            recalled=recalled,
        )

    def _features(self, tokens: Features | Tensor, mask: Tensor | None, image_mask: Tensor | None) -> Features:
        """The record that the parts read, its shapes checked in words."""
        given = tokens if isinstance(tokens, Features) else None
        values = tokens if isinstance(tokens, Tensor) else tokens.tokens
        if given is not None and (mask is not None or image_mask is not None):
            raise DataError("mask", got="Features and a mask", want="one of the two", hint="Features hold their masks")
        if values.ndim != 3 or values.shape[-1] != self.dim or not values.is_floating_point():
            want = f"floating numbers of shape (batch, tokens, {self.dim}), the width that SheafStreams was made for"
            hint = f"Make it with dim={values.shape[-1]}" if values.ndim == 3 else "Such as last_hidden_state"
            raise DataError("tokens", got=_shown(values), want=want, hint=hint)
        if given is not None:
            return given
        real = _mask("mask", mask, values) if mask is not None else torch.ones_like(values[..., 0], dtype=torch.bool)
        if image_mask is None:
            return Features(tokens=values, mask=real)
        return Features(tokens=values, mask=real, image_mask=_mask("image_mask", image_mask, values) & real)

    def moments(self, past: Past) -> Float[Tensor, "B K Q D"]:
        """The moments of earlier steps, from what the backbone said of them."""
        assert self.memory is not None, "without memory there are none"
        batch, steps = past.valid.shape
        rows = past.tokens.flatten(0, 1).to(self.merge.weight.dtype)
        mask = past.mask.flatten(0, 1) & past.valid.flatten()[:, None]
        x = self.heads.only(rows.masked_fill(~mask[..., None], 0), self.memory.size.streams)
        state = past.state.flatten(0, 1).masked_fill(~past.valid.flatten()[:, None, None], 0)
        return self.memory.pool(x, mask, state).unflatten(0, (batch, steps))

    def _remember(
        self,
        x: Float[Tensor, "B T S D"],
        image_mask: Bool[Tensor, "B T"],
        state: Float[Tensor, "B _n Ds"],
        past: Past | Moments | None,
    ) -> Recalled:
        assert self.memory is not None
        own = pick(x, self.memory.size.streams, dim=2)
        now = self.memory.pool(own, image_mask, state)
        if past is None:
            return self.memory(own, now, None, None)
        values = self.moments(past) if isinstance(past, Past) else past.values
        return self.memory(own, now, values, past.valid)

    def _with(self, x: Float[Tensor, "B T S D"], own: Float[Tensor, "B T _S D"]) -> Float[Tensor, "B T S D"]:
        """The streams, those that remember replaced."""
        assert self.memory is not None
        parts = dict(enumerate(x.unbind(2))) | dict(
            zip(self.memory.size.streams, own.to(x.dtype).unbind(2), strict=True)
        )
        return torch.stack(list(parts.values()), dim=2)

    def set_temperature(self, temperature: float) -> None:
        """Router temperature τ, from the next forward on."""
        self.router.set_temperature(temperature)

    def reset_parameters(self) -> None:
        """A fresh SVMS again; also the way to fill one that was built on the meta device."""
        for part in (self.heads, self.delta, self.labels, self.router, self.merge):
            part.reset_parameters()
        self.diffusion.reset_parameters(self.delta)
        for optional in (self.memory, self.targets):  # last: what is switched on moves no random number of the rest
            if optional is not None:
                optional.reset_parameters()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing of the streams reaches anybody yet."""
        return not self.merge.weight.any()

    def train(self, mode: bool = True) -> "SheafStreams":
        """Switching to eval freezes λ at the value of the final maps, not of those before the last optimiser step."""
        if self.training and not mode:
            self.diffusion.refresh(self.delta)
        return super().train(mode)

    def extra_repr(self) -> str:
        count = sum(p.numel() for p in self.parameters())
        return f"{self.dim} -> {len(self.graph.streams)} streams ({self.graph}) -> {self.dim}, {count:,} parameters"


def _shown(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


def _mask(name: str, mask: Tensor, tokens: Tensor) -> Bool[Tensor, "B T"]:
    """A mask as True and False. Raises DataError for another shape, and for numbers that may mean something else."""
    if mask.shape != tokens.shape[:2] or mask.is_floating_point() or mask.is_complex():
        want = f"True or 1 for each of {tuple(tokens.shape[:2])} tokens"
        raise DataError(name, got=_shown(mask), want=want, hint="Such as a tokenizer's attention_mask")
    return mask.bool()


def _follow_loaded_maps(module: SheafStreams, _: object) -> None:
    """λ may be older than the maps it was saved with (by one optimiser step), or absent (a plain checkpoint)."""
    module.diffusion.refresh(module.delta)
