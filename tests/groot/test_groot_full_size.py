"""The released sizes, on the meta device: names, shapes and 3,286,610,368 parameters, unused parts counted."""

import math
from dataclasses import replace

import pytest
import torch

from svms_gr00t.groot.checkpoint.golden import PlainGr00t
from svms_gr00t.groot.config import Gr00tN1d6Config

POOLING_HEAD, LM_HEAD = 15_238_352, 310_640_640
COMPONENTS = {
    "backbone.model.vision_model.vision_model.embeddings.": 973_440,
    "backbone.model.vision_model.vision_model.encoder.layers.0.": 15_239_504,
    "backbone.model.mlp1.": 13_644_800,
    "backbone.model.language_model.model.embed_tokens.": 310_640_640,
    "backbone.model.language_model.model.layers.0.": 50_336_000,
    "action_head.model.transformer_blocks.0.": 34_619_904,
    "action_head.model.transformer_blocks.1.": 33_047_040,
    "action_head.model.timestep_encoder.": 2_755_584,
    "action_head.model.proj_out_": 6_295_552,
    "action_head.state_encoder.": 54_607_872,
    "action_head.action_encoder.": 232_931_328,
    "action_head.action_decoder.": 37_785_600,
}
SHAPES = {
    "backbone.model.vision_model.vision_model.embeddings.patch_embedding.weight": (1152, 588),
    "backbone.model.vision_model.vision_model.encoder.layers.26.self_attn.out_proj.bias": (1152,),
    "backbone.model.vision_model.vision_model.post_layernorm.weight": (1152,),
    "backbone.model.mlp1.0.weight": (4608,),
    "backbone.model.mlp1.3.weight": (2048, 2048),
    "backbone.model.language_model.model.layers.15.self_attn.k_proj.weight": (1024, 2048),
    "backbone.model.language_model.model.layers.15.self_attn.q_norm.weight": (128,),
    "backbone.model.language_model.model.norm.weight": (2048,),
    "action_head.model.timestep_encoder.timestep_embedder.linear_1.weight": (1536, 256),
    "action_head.model.transformer_blocks.30.attn1.to_k.weight": (1536, 2048),
    "action_head.model.transformer_blocks.31.attn1.to_k.weight": (1536, 1536),
    "action_head.model.transformer_blocks.31.attn1.to_out.0.bias": (1536,),
    "action_head.model.transformer_blocks.31.norm1.linear.weight": (3072, 1536),
    "action_head.model.transformer_blocks.31.ff.net.0.proj.weight": (6144, 1536),
    "action_head.model.transformer_blocks.31.ff.net.2.weight": (1536, 6144),
    "action_head.model.proj_out_2.weight": (1024, 1536),
    "action_head.state_encoder.layer1.W": (32, 128, 1024),
    "action_head.action_encoder.W2.W": (32, 3072, 1536),
    "action_head.action_decoder.layer2.b": (32, 128),
    "action_head.position_embedding.weight": (1024, 1536),
    "action_head.vlln.weight": (2048,),
    "action_head.mask_token": (1, 1, 1536),
}


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    # The release carries a mask token, which exists only with state dropout.
    config = replace(Gr00tN1d6Config(), state_dropout_prob=0.1)
    with torch.device("meta"):
        model = PlainGr00t(config)
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def test_the_count_is_the_released_one(shapes):
    built = sum(math.prod(shape) for shape in shapes.values())
    assert built + POOLING_HEAD + LM_HEAD == 3_286_610_368


@pytest.mark.parametrize("prefix", COMPONENTS)
def test_each_component_has_its_size(shapes, prefix):
    assert sum(math.prod(s) for name, s in shapes.items() if name.startswith(prefix)) == COMPONENTS[prefix]


def test_names_and_shapes_are_the_files_own(shapes):
    assert {name: shapes.get(name) for name in SHAPES} == SHAPES
    assert sum(name.startswith("action_head.model.transformer_blocks.") for name in shapes) == 32 * 14
