"""GR00T N1.6 written straight down, for acting.py to be measured against: the same weights, NVIDIA's structure.

Axes: B batch, T tokens, M model width, P patches of all images, S action sequence, W DiT width, L layers.

What the release does and our model does not: all images in one packed sequence behind a block-diagonal mask, positions
resized at every call, every hidden state kept, logits of every token over the whole vocabulary, masks where nothing is
padded, keys, values and modulation anew at every denoising step, cross blocks that read all tokens behind a mask, and
embodiment rows copied for each sample. Left out, in its favour: the window bookkeeping of its vision tower.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.groot.dit import cosine_code
from svms_gr00t.groot.embodiment import EmbodimentLinear, sine_code
from svms_gr00t.groot.vision import patchify, unshuffle
from svms_gr00t.model import Gr00tN1d6


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def rms(x: Tensor, norm: nn.Module) -> Tensor:
    wide = x.float()
    return norm.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.eps)).to(x.dtype)


class Straightforward:
    """The plain model of a `Gr00tN1d6`, stage by stage."""

    def __init__(self, model: Gr00tN1d6) -> None:
        self.config, self.tower, self.head = model.config, model.backbone.model, model.action_head
        text = model.config.text_config
        weight = self.tower.mlp1[1].weight
        self.lm_head = torch.randn(text.vocab_size, text.hidden_size, dtype=weight.dtype, device=weight.device) * 0.02

    def vision(self, inputs: ModelInputs) -> Tensor:
        """Image tokens."""
        vision, config = self.tower.vision_model.vision_model, self.config.vision_config
        embed, size = vision.embeddings, config.patch_size
        side = round(config.num_patches**0.5)
        grid = embed.position_embedding.weight.view(1, side, side, -1).permute(0, 3, 1, 2).float()
        parts, spans = [], []
        for image in inputs.images:
            shape = (image.shape[1] // size, image.shape[2] // size)
            place = F.interpolate(grid, size=shape, mode="bilinear", align_corners=False, antialias=True)
            x = embed.patch_embedding(patchify(image[None], size))
            parts.append(x + place.flatten(2).transpose(1, 2).to(x.dtype))
            spans.append(parts[-1].shape[1])
        x = torch.cat(parts, dim=1)
        owner = torch.repeat_interleave(torch.arange(len(spans)), torch.tensor(spans)).to(x.device)
        mask = (owner[:, None] == owner[None])[None, None]
        for layer in vision.encoder.layers:
            attend, n = layer.self_attn, layer.layer_norm1(x)
            q, k, v = (
                heads_of(one(n), config.num_attention_heads) for one in (attend.q_proj, attend.k_proj, attend.v_proj)
            )
            x = x + attend.out_proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
            x = x + layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layer_norm2(x)), approximate="tanh"))
        x = vision.post_layernorm(x)
        tokens = [
            unshuffle(one, image.shape[2] // size)
            for one, image in zip(x.split(spans, dim=1), inputs.images, strict=True)
        ]
        return self.tower.mlp1(torch.cat(tokens, dim=1))[0]

    def language(self, inputs: ModelInputs, tokens: Tensor) -> Tensor:
        """Features, (B, T, M)."""
        model, text = self.tower.language_model.model, self.config.text_config
        words = model.embed_tokens(inputs.input_ids)
        x = words.masked_scatter((inputs.input_ids == self.config.image_token_index)[..., None], tokens)
        length, half = x.shape[1], text.head_dim // 2
        rates = text.rope_theta ** (-torch.arange(half, device=x.device).float() / half)
        angle = torch.outer(torch.arange(length, device=x.device).float(), rates).repeat(1, 2)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        order = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask = order & inputs.attention_mask[:, None, None]
        repeats, kept = text.num_attention_heads // text.num_key_value_heads, [x]
        for layer in model.layers:
            attend, n = layer.self_attn, rms(x, layer.input_layernorm)
            q = heads_of(attend.q_proj(n), text.num_attention_heads)
            k, v = (heads_of(one(n), text.num_key_value_heads) for one in (attend.k_proj, attend.v_proj))
            q, k = turned(rms(q, attend.q_norm), cos, sin), turned(rms(k, attend.k_norm), cos, sin)
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
            x = x + attend.o_proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
            n = rms(x, layer.post_attention_layernorm)
            x = x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(n)) * layer.mlp.up_proj(n))
            kept.append(x)
        kept[-1] = rms(kept[-1], model.norm)
        F.linear(kept[-1], self.lm_head)  # nobody reads them
        return kept[-1]

    def act(self, inputs: ModelInputs, features: Tensor, noise: Tensor) -> Tensor:
        """Action chunks, (B, H, Da)."""
        head, ids, steps = self.head, inputs.embodiment_id, self.config.num_inference_timesteps
        image = inputs.input_ids == self.config.image_token_index
        masks = {"image": image & inputs.attention_mask, "text": ~image & inputs.attention_mask}
        features = head.vlln(features)
        state = _two(inputs.state, head.state_encoder, ids)
        actions = noise
        for k in range(steps):
            time = torch.full_like(ids, int(k / steps * self.config.num_timestep_buckets))
            encoder = head.action_encoder
            lifted = _row(actions, encoder.W1, ids)
            code = sine_code(time, lifted.shape[-1])[:, None].expand_as(lifted).to(lifted.dtype)
            lifted = _row(F.silu(_row(torch.cat([lifted, code], -1), encoder.W2, ids)), encoder.W3, ids)
            lifted = lifted + head.position_embedding(torch.arange(lifted.shape[1], device=ids.device))
            out = self.transformer(torch.cat([state, lifted], dim=1), features, masks, time)
            actions = actions + _two(out, head.action_decoder, ids)[:, -actions.shape[1] :] / steps
        return actions

    def transformer(self, x: Tensor, features: Tensor, masks: dict[str, Tensor], time: Tensor) -> Tensor:
        """One denoising step of the DiT."""
        dit, heads = self.head.model, self.config.diffusion_model_cfg.num_attention_heads
        embedder = dit.timestep_encoder.timestep_embedder
        temb = embedder.linear_2(F.silu(embedder.linear_1(cosine_code(time).to(x.dtype))))
        for block in dit.blocks:
            scale, shift = block.norm1.linear(F.silu(temb)).chunk(2, dim=-1)
            n = F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + scale[:, None]) + shift[:, None]
            source = n if block.reads == "self" else features
            mask = None if block.reads == "self" else masks[block.reads][:, None, None]
            attend = block.attn1
            q, k, v = (
                heads_of(attend.to_q(n), heads),
                heads_of(attend.to_k(source), heads),
                heads_of(attend.to_v(source), heads),
            )
            x = x + attend.to_out[0](F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
            n = F.layer_norm(x, x.shape[-1:], eps=1e-5)
            x = x + block.ff.net[2](F.gelu(block.ff.net[0].proj(n), approximate="tanh"))
        shift, scale = dit.proj_out_1(F.silu(temb)).chunk(2, dim=-1)
        return dit.proj_out_2(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None])


def _row(x: Tensor, bank: EmbodimentLinear, ids: Tensor) -> Tensor:
    return torch.bmm(x, bank.W[ids]) + bank.b[ids][:, None]


def _two(x: Tensor, bank: nn.Module, ids: Tensor) -> Tensor:
    return _row(F.relu(_row(x, bank.layer1, ids)), bank.layer2, ids)
