"""Fresh weights, for training a model from nothing (a tiny one: the released one is loaded).

- Linear maps and embodiment rows: normal, std fan_in^-1/2 (0.022 at width 2048). A fixed 0.02 starves narrow models: at
  width 128 it did not learn in 600 steps what this scale learns.
- Embeddings: std 0.5, the scale of the image tokens among which the words stand.
- Modulations and the last map of the action decoder: a tenth of that, so that training starts near an unmodulated
  transformer and near zero velocity. Not zero, so that every weight has a gradient from the first step.
- Biases and the mask token 0, norms 1.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

EMBEDDING_STD = 0.5
QUIET = 0.1


@torch.no_grad()
def init_weights(module: nn.Module) -> None:
    """Fill every Linear, Embedding and norm below `module`."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.normal_(0.0, 1 / math.sqrt(part.in_features))
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.Embedding):
            part.weight.normal_(0.0, EMBEDDING_STD)
        elif isinstance(part, nn.LayerNorm | nn.RMSNorm):
            part.reset_parameters()


@torch.no_grad()
def quieten(weights: Iterable[Tensor]) -> None:
    """Shrink fresh weights that should begin by doing little."""
    for weight in weights:
        weight.mul_(QUIET)
