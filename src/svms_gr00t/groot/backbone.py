"""Eagle backbone of N1.6: images and a prompt become tokens (SigLIP2 -> mlp1 -> first `select_layer` layers of Qwen3).

Axes: B batch, T tokens (left-padded), M model width, N image tokens in the whole batch.

    h_0 = embedding of input_ids, image positions replaced by image tokens in order of appearance
    h_i = layer_i(h_{i-1})   causal, padding hidden, positions 0 .. T-1 in every row (padding is not subtracted)
    features = RMSNorm(h_select_layer)

`prefix` and `suffix` cut the language tower at any layer: frozen layers below the cut run without gradient, and their
output can be cached. Parameter names are those of NVIDIA's files, so the module tree mirrors theirs. lm_head, pooling
head and the layers above `select_layer` are never built: nothing reads them.
"""

from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3Model
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Features, Images, Layout
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.groot.initial import init_weights
from svms_gr00t.groot.vision import VisionTower, by_size, projector, stacked, unshuffle

Rotation = tuple[Float[Tensor, "1 T d"], Float[Tensor, "1 T d"]]


@cache
def rotation(length: int, dim: int, theta: float, dtype: torch.dtype, device: torch.device) -> Rotation:
    """Cosine and sine of the rotary angles t * theta^(-2i/dim) at positions 0 .. length-1 (Su et al. 2021).

    Never forgotten: a captured graph reads the tensor where it is.
    """
    work = torch.promote_types(dtype, torch.float32)
    frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency).to(work).repeat(1, 2)[None]
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def causal_mask(mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
    """Query row may read key column: real tokens at or before it. A padding row reads itself, so that none is empty."""
    order, own = triangle(mask.shape[1], mask.device)
    return (order & mask[:, None, None]) | own


@cache
def triangle(length: int, device: torch.device) -> tuple[Bool[Tensor, "T T"], Bool[Tensor, "T T"]]:
    """At or before, and the same."""
    square = torch.ones(length, length, dtype=torch.bool, device=device)
    return square.tril(), square.tril().triu()


class RMSNorm(nn.RMSNorm):
    """x / rms(x) times the weight: one kernel on CUDA, where transformers' takes eight in bfloat16."""

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        if self.weight.dtype == x.dtype:
            return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)
        return F.rms_norm(x, self.normalized_shape, None, self.eps) * self.weight  # the fused one wants one type


def fuse_norms(tower: nn.Module) -> None:
    """Put our norms in the place of transformers', under the same names."""
    for module in list(tower.modules()):
        for name, child in module.named_children():
            if isinstance(child, Qwen3RMSNorm):
                setattr(module, name, RMSNorm(len(child.weight), eps=child.variance_epsilon))


class LanguageTower(nn.Module):
    """The first layers of Qwen3 and its final norm. Holds `model`, the name N1.6 files use."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        text = config.text_config
        self.config = text
        self.model = Qwen3Model(
            Qwen3Config(
                hidden_size=text.hidden_size,
                intermediate_size=text.intermediate_size,
                num_hidden_layers=config.select_layer,
                num_attention_heads=text.num_attention_heads,
                num_key_value_heads=text.num_key_value_heads,
                head_dim=text.head_dim,
                vocab_size=text.vocab_size,
                hidden_act=text.hidden_act,
                rms_norm_eps=text.rms_norm_eps,
                max_position_embeddings=text.max_position_embeddings,
                attention_bias=text.attention_bias,
                attention_dropout=0.0,
                attn_implementation="sdpa",  # type: ignore[call-arg]  # a keyword of the base class
            )
        )
        fuse_norms(self.model)
        del self.model.rotary_emb  # its buffers would not survive the meta device; `rotation` replaces it

    def forward(
        self, hidden: Float[Tensor, "B T M"], mask: Bool[Tensor, "B T"], first: int, last: int, *, padded: bool = True
    ) -> Tensor:
        """Layers first .. last-1 applied to the hidden states after layer `first`.

        Where nothing is `padded` the causal flag alone selects the fused kernel.
        """
        spins = rotation(hidden.shape[1], self.config.head_dim, self.config.rope_theta, hidden.dtype, hidden.device)
        attend = causal_mask(mask) if padded else None
        for layer in self.model.layers[first:last]:
            hidden = layer(hidden, attention_mask=attend, position_embeddings=spins)
        return hidden


class Eagle(nn.Module):
    """Owns the three parts under the checkpoint's names."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        self.vision_model = VisionTower(config.vision_config)
        self.mlp1 = projector(config.vision_config.hidden_size, config.text_config.hidden_size)
        self.language_model = LanguageTower(config)


class EagleBackbone(nn.Module):
    """Images and prompt -> `Features` for SVMS and the action head."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        self.config = config
        self.model = Eagle(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights; also the way to fill a backbone that was built on the meta device."""
        init_weights(self)

    def forward(
        self,
        images: Images,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"],
        layout: Layout | None = None,
    ) -> Features:
        """Features of one batch.

        `images` are all images of the batch in order of appearance, sides multiples of 28; a row may hold any number of
        them. Without `layout` the ids are read back. Raises `DataError` when their tokens do not fit
        the placeholders in `input_ids`.
        """
        layout = self.layout(input_ids, attention_mask, layout)
        hidden = self.embed(images, input_ids, layout)
        return self.suffix(hidden, input_ids, attention_mask, 0, layout)

    def layout(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Bool[Tensor, "B T"], known: Layout | None = None
    ) -> Layout:
        """Where the tokens stand: what is known, or what the ids say, which synchronises."""
        return known or Layout.of(input_ids, attention_mask, self.config.image_token_index)

    def prefix(
        self,
        images: Images,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"],
        layer: int,
        layout: Layout | None = None,
    ) -> Float[Tensor, "B T M"]:
        """Hidden states after language layer `layer` (0: the embeddings), before any norm. Cacheable while frozen."""
        layout = self.layout(input_ids, attention_mask, layout)
        hidden = self.embed(images, input_ids, layout)
        return self.model.language_model(hidden, attention_mask, 0, layer, padded=layout.padded)

    def suffix(
        self,
        hidden: Float[Tensor, "B T M"],
        input_ids: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"],
        layer: int,
        layout: Layout | None = None,
    ) -> Features:
        """Features from the hidden states after layer `layer`: suffix(prefix(..., k), ..., k) equals forward."""
        language, layout = self.model.language_model, self.layout(input_ids, attention_mask, layout)
        hidden = language(hidden, attention_mask, layer, self.config.select_layer, padded=layout.padded)
        image_mask = (input_ids == self.config.image_token_index) & attention_mask
        tokens = language.model.norm(hidden)
        return Features(tokens=tokens, mask=attention_mask, image_mask=image_mask, layout=layout)

    def embed(
        self,
        images: Images,
        input_ids: Int[Tensor, "B T"],
        layout: Layout | None = None,
    ) -> Float[Tensor, "B T M"]:
        """Token embeddings with the image tokens in their places."""
        words = self.model.language_model.model.embed_tokens(input_ids)
        tokens = self.image_tokens(images) if images else words.new_zeros(0, words.shape[-1])
        places = self.layout(input_ids, torch.ones_like(input_ids, dtype=torch.bool), layout).image_at
        if len(places) != len(tokens):
            want = f"{len(places)}, the number of image placeholders (id {self.config.image_token_index}) in input_ids"
            hint = "each 28 x 28 pixels make one token; the prompt and the images must come from the same processor"
            raise DataError("images", got=f"{len(tokens)} image tokens from {len(images)} images", want=want, hint=hint)
        if not images:
            return words
        return words.flatten(0, 1).index_copy(0, places, tokens.to(words.dtype)).view_as(words)

    def image_tokens(self, images: Images) -> Float[Tensor, "_N M"]:
        """Tokens of all images in order, one for each 28 x 28 pixels; images of one size share a batch."""
        size = self.config.vision_config.patch_size
        groups = by_size(images, 2 * size)
        parts: dict[int, Tensor] = {}
        for (_, width), members in groups.items():
            states = self.model.vision_model(stacked(images, members))
            tokens = self.model.mlp1(unshuffle(states, width // size))
            if len(groups) == 1:
                return cast(Tensor, tokens.flatten(0, 1))
            parts.update(zip(members, tokens, strict=True))
        return torch.cat([parts[i] for i in range(len(images))])
