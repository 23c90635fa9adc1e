"""LeRobot's GR00T N1.7, tiny and random: its own classes, built without a download, and a processor for its prompts."""

from pathlib import Path

import torch
from lerobot.policies.groot.groot_n1_7 import GR00TN17, GR00TN17Config
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

import svms_gr00t

WIDTH, LAYERS, BLOCKS, CHUNK = 32, 4, 4, 8
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)
"""What Qwen3-VL's template says of one message with pictures and an instruction."""


def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(Path(svms_gr00t.__file__).parent / "assets" / "tiny_tokenizer" / "tokenizer.json"))


def processor() -> Qwen3VLProcessor:
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="<|endoftext|>", padding_side="left")
    size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}  # at most four tokens a picture
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, size=size),
        tokenizer=words,
        video_processor=Qwen3VLVideoProcessor(patch_size=16),
        chat_template=CHAT,
    )


def write_base(folder: Path, seed: int = 0) -> Path:
    """A checkpoint as NVIDIA's: config.json and model.safetensors."""
    ids = {
        name: tokenizer().token_to_id(f"<|{name}|>")
        for name in ("image_pad", "video_pad", "vision_start", "vision_end")
    }
    vlm = Qwen3VLConfig(
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
        text_config={
            **{"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4},
            **{"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 1024, "max_position_embeddings": 512},
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default"},
            **{"rope_theta": 10000.0, "tie_word_embeddings": True, "dtype": "float32"},
        },
        vision_config={
            **{
                "deepstack_visual_indexes": [0, 1],
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
            },
            **{"num_position_embeddings": 64, "out_hidden_size": WIDTH, "patch_size": 16, "spatial_merge_size": 2},
            "temporal_patch_size": 2,
        },
    )
    vlm.save_pretrained(folder / "vlm")
    part = {"positional_embeddings": None, "num_attention_heads": 2, "attention_head_dim": 16}
    part |= {"dropout": 0.2, "final_dropout": True}
    head = {"num_layers": BLOCKS, "norm_type": "ada_norm", "output_dim": WIDTH, "interleave_self_attention": True}
    config = GR00TN17Config(
        **{"model_name": str(folder / "vlm"), "backbone_embedding_dim": WIDTH, "select_layer": LAYERS},
        **{"max_state_dim": 6, "max_action_dim": 6, "action_horizon": CHUNK, "hidden_size": WIDTH},
        **{"input_embedding_dim": WIDTH, "max_seq_len": 64, "max_num_embodiments": 32},
        diffusion_model_cfg=part | head,
        vl_self_attention_cfg=part | {"num_layers": 1},
    )
    torch.manual_seed(seed)
    GR00TN17(config, load_backbone_weights=False).save_pretrained(folder)
    return folder
