"""A tiny policy with a memory that says something, and episodes for it: other pictures and states at every step."""

from typing import Any

import numpy as np
import torch
from groot_tiny import tiny_config
from small_robot import WIDTHS, processor

from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy

OFFSETS = (-12, -8, -4)
STRIDE = 4
SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}
MEMORY = SVMS | {"memory_offsets": OFFSETS, "memory_moments": 2, "memory_layers": 1}
ALONE = MEMORY | {"memory_only": True}


def remembering(config: dict[str, Any] = MEMORY, dtype: torch.dtype = torch.float32, **options: Any) -> Policy:
    """Weights that start at zero have moved; `options` are the policy's."""
    tokenizer = load_tokenizer("tiny")
    text = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 4, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "head_dim": 4, "vocab_size": tokenizer.vocab_size}
    sizes = {"max_state_dim": 6, "max_action_dim": 7, "action_horizon": 6, "max_num_embodiments": 11}
    sizes |= {"image_token_index": tokenizer.image_token_id}
    torch.manual_seed(0)
    model = Gr00tN1d6(tiny_config(text_config=text, **(sizes | config)))
    with torch.no_grad():
        model.action_head.action_decoder.layer2.W.normal_()
        for parameter in model.svms.parameters() if model.svms is not None else ():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return Policy(model.to(dtype), processor(), **options)


def scene(episode: int, step: int, /, **extra: Any) -> dict[str, Any]:
    """The flat observation of one robot."""
    rng = np.random.default_rng([episode, step])
    video = {f"video.{view}": rng.integers(0, 256, (56, 56, 3), dtype=np.uint8) for view in ("front", "wrist")}
    state = {f"state.{key}": rng.uniform(-1, 1, width) for key, width in WIDTHS.items()}
    return video | state | {INSTRUCTION: "Pick up the red cube."} | extra


def batched(observations: list[dict[str, Any]]) -> dict[str, Any]:
    """Observations of one robot each as one request."""
    out: dict[str, Any] = {}
    for key, first in observations[0].items():
        rows = [one[key] for one in observations]
        if isinstance(first, np.ndarray):
            stacked = np.stack(rows)[:, None]
            out[key] = stacked.astype(np.float32) if key.startswith("state.") else stacked
        else:
            out[key] = rows
    return out
