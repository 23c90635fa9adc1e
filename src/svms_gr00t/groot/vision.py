"""SigLIP2 vision tower of N1.6 and the projector that turns its patches into language tokens.

    pixels -> 14 x 14 patches -> linear + resized positions -> encoder -> post-norm        (C channels for each patch)
           -> pixel-unshuffle by 2 (4C channels for 28 x 28 pixels) -> mlp1 -> image tokens (M)

Axes: N images of one size, h and w pixels, P patches (row-major), C vision width, G position grid cells, M language
width. Attention stays inside one image, so images of equal size form a batch and no mask is needed. The encoder layers
are those of `transformers.Siglip2VisionModel` (Tschannen et al. 2025, arXiv:2502.14786), without its pooling head.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Images, Pictures
from svms_gr00t.groot.parts import VisionConfig


@cache
def position_weights(side: int, height: int, width: int, device: torch.device) -> Float[Tensor, "_P _G"]:
    """Antialiased bilinear resize of a side x side grid to height x width, as a constant matrix in float32.

    The resize is linear in the grid, so applying it to the unit grids gives its matrix once for each image size. Never
    forgotten: a captured graph reads the tensor where it is.
    """
    units = torch.eye(side * side).view(1, side * side, side, side)
    resized = F.interpolate(units, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized.flatten(2)[0].T.contiguous().to(device)


def patchify(pixels: Float[Tensor, "N c h w"], size: int) -> Float[Tensor, "N _P _D"]:
    """Patches in row-major order, each flattened channel-last: (patch row, patch column, channel)."""
    return rearrange(pixels, "n c (y p) (x q) -> n (y x) (p q c)", p=size, q=size)


def unshuffle(patches: Float[Tensor, "N P C"], width: int) -> Float[Tensor, "N _Q _C4"]:
    """2 x 2 neighbouring patches become one token; channel = c * 4 + dy * 2 + dx. `width` counts patches in a row."""
    return rearrange(patches, "n (y dy x dx) c -> n (y x) (c dy dx)", dy=2, dx=2, x=width // 2)


class VisionTower(nn.Module):
    """Images -> patch states after the post-norm. Holds `vision_model`, the name N1.6 files use."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        tower = Siglip2VisionModel(
            Siglip2VisionConfig(
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                num_channels=config.num_channels,
                num_patches=config.num_patches,
                patch_size=config.patch_size,
                hidden_act=config.hidden_act,
                layer_norm_eps=config.layer_norm_eps,
                attention_dropout=0.0,
                vision_use_head=False,
                attn_implementation="sdpa",  # type: ignore[call-arg]  # a keyword of the base class
            )
        )
        self.vision_model = getattr(tower, "vision_model", tower)  # transformers 5.4 and 5.5 wrap it once more

    def forward(self, pixels: Float[Tensor, "N c h w"]) -> Float[Tensor, "N _P C"]:
        """Patch states of N images of equal size, pixels in [-1, 1]."""
        embeddings, size = self.vision_model.embeddings, self.config.patch_size
        weight = cast(Tensor, embeddings.patch_embedding.weight)
        height, width = pixels.shape[-2] // size, pixels.shape[-1] // size
        hidden = embeddings.patch_embedding(patchify(pixels.to(weight.dtype), size))
        hidden = hidden + self.positions(height, width).to(hidden.dtype)
        for layer in self.vision_model.encoder.layers:
            hidden = layer(hidden, None)
        return self.vision_model.post_layernorm(hidden)

    def positions(self, height: int, width: int) -> Float[Tensor, "_P C"]:
        """Learned positions on a height x width grid of patches, resized in float32 or better."""
        table = self.vision_model.embeddings.position_embedding.weight
        table = table.to(torch.promote_types(table.dtype, torch.float32))
        side = round(self.config.num_patches**0.5)
        with nullcontext() if table.is_meta else torch.autocast(table.device.type, enabled=False):
            return position_weights(side, height, width, table.device).to(table.dtype) @ table


def projector(vision_dim: int, dim: int) -> nn.Sequential:
    """`mlp1`: LayerNorm(4C), Linear, exact GELU, Linear -> M."""
    return nn.Sequential(nn.LayerNorm(4 * vision_dim), nn.Linear(4 * vision_dim, dim), nn.GELU(), nn.Linear(dim, dim))


def by_size(images: Images, multiple: int) -> dict[tuple[int, int], list[int]]:
    """Indices of the images of each size; `DataError` for a side that is no multiple of `multiple` pixels."""
    sizes = images.sizes if isinstance(images, Pictures) else [tuple(image.shape[-2:]) for image in images]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (height, width) in enumerate(sizes):
        if height % multiple or width % multiple or height * width == 0:
            want, hint = (
                f"sides that are multiples of {multiple}",
                "let the processor resize images (252 x 252 for N1.6)",
            )
            raise DataError(f"image {i}", got=f"{height} x {width} pixels", want=want, hint=hint)
        groups.setdefault((height, width), []).append(i)
    return groups


def stacked(images: Images, members: Sequence[int]) -> Float[Tensor, "_n 3 _h _w"]:
    """Some images, all of one size, in [-1, 1]."""
    if isinstance(images, Pictures):
        return images.numbers(members)
    return torch.stack([images[i] for i in members])
