"""Fresh weights, for training a model from nothing (a tiny one: the released one is loaded).

Linear maps and embodiment rows start at std fan_in^-1/2 (0.022 at width 2048), so that activations keep their scale at
any width; embeddings at 0.5, the scale of the image tokens they mix with; biases and the mask token at zero.
"""

import math

import torch
from torch import nn

EMBEDDING_STD = 0.5


@torch.no_grad()
def init_weights(module: nn.Module) -> None:
    """Fill every Linear and Embedding below `module`; norms keep 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.normal_(0.0, 1 / math.sqrt(part.in_features))
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.Embedding):
            part.weight.normal_(0.0, EMBEDDING_STD)
