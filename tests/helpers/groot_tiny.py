"""A tiny N1.6 and a ragged batch: two views of different sizes, rows with none, one and two images, left padding."""

import torch

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.groot.config import Gr00tN1d6Config

IMAGE = 90


def tiny_config(**changes) -> Gr00tN1d6Config:
    dit = {"num_layers": 5, "num_attention_heads": 2, "attention_head_dim": 8, "output_dim": 12, "dropout": 0.1}
    sizes = {
        "vision_config": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
        "text_config": {
            "hidden_size": 16,
            "intermediate_size": 20,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 4,
            "vocab_size": 100,
        },
        "diffusion_model_cfg": dit | changes.pop("dit", {}),
        "use_sheaf_streams": False,
        "image_token_index": IMAGE,
        "select_layer": 3,
        "backbone_embedding_dim": 16,
        "hidden_size": 10,
        "input_embedding_dim": 16,
        "max_state_dim": 6,
        "max_action_dim": 5,
        "action_horizon": 4,
        "max_num_embodiments": 3,
        "max_seq_len": 8,
    }
    return Gr00tN1d6Config.from_dict(sizes | changes)


def ragged_batch(dtype: torch.dtype = torch.float64) -> ModelInputs:
    """Row 0: 28x56 and 56x56 images; row 1: one 28x28; row 2: text alone. Left-padded."""
    t, p = 7, 3
    rows = [[t] + [IMAGE] * 2 + [8] + [IMAGE] * 4, [p, p, p, p, t, IMAGE, 9, 8], [p, p, p, p, p, t, 9, 8]]
    ids = torch.tensor(rows)
    gen = torch.Generator().manual_seed(1)
    sizes = [(28, 56), (56, 56), (28, 28)]

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=gen, dtype=dtype)

    mask = torch.ones(3, 4, 5, dtype=dtype)
    mask[:, 3:] = 0
    return ModelInputs(
        images=tuple(normal(3, h, w).clamp(-1, 1) for h, w in sizes),
        input_ids=ids,
        attention_mask=ids != p,
        state=normal(3, 1, 6),
        embodiment_id=torch.tensor([2, 0, 2]),
        action=normal(3, 4, 5),
        action_mask=mask,
    )
