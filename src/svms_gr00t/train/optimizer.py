"""AdamW on what trains. Plain bfloat16 weights are refused: at 1e-5 their updates round away."""

from collections.abc import Mapping

import torch
from torch import nn

from svms_gr00t.core.errors import TrainingError

WEIGHT_DECAY = 1e-5


def make_optimizer(parameters: Mapping[str, nn.Parameter], *, learning_rate: float) -> torch.optim.AdamW:
    """Fused AdamW; biases and norms decay as little as the rest, as in N1.6. Raises TrainingError for bf16 weights."""
    low = [name for name, p in parameters.items() if p.dtype in (torch.bfloat16, torch.float16)]
    if low:
        hint = "Load what trains in float32 (the frozen rest may stay bf16)"
        raise TrainingError("optimiser", got=f"{low[0]} is half precision", want="float32 weights", hint=hint)
    return torch.optim.AdamW(list(parameters.values()), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
