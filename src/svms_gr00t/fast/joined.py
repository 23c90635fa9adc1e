"""q, k and v of the blocks that attend the action sequence itself, as one product while a graph is captured.

A graph keeps the kernels that it saw, so the joined weights need to stand in the model only meanwhile. They are copies
(226 MB of the released size in bfloat16): training, saving and eager acting know nothing of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from svms_gr00t.model import Gr00tN1d6

Weights = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def join(model: Gr00tN1d6) -> Weights:
    """Weight and bias of each such block, as they are now."""
    found: Weights = []
    for block in model.action_head.model.blocks:
        if block.reads == "self":
            maps = (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
            found.append((torch.cat([one.weight for one in maps]), torch.cat([one.bias for one in maps])))
    return found


@contextmanager
def joined(model: Gr00tN1d6, weights: Weights) -> Iterator[None]:
    """Within it those blocks use `weights`."""
    attends = [block.attn1 for block in model.action_head.model.blocks if block.reads == "self"]
    try:
        for one, own in zip(attends, weights, strict=True):
            one.joined = own
        yield
    finally:
        for one in attends:
            one.joined = None
