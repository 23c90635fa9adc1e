"""Compute blocks again in the backward pass instead of keeping what they held: less memory, equal numbers."""

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.towers.blocks import DIT, LANGUAGE, blocks


def recompute_blocks(model: Gr00tN1d6) -> int:
    """Wrap every language layer and DiT block; returns how many. The parameter names stay."""
    found = [module for _, module in blocks(model, (LANGUAGE, DIT))]
    for module in found:
        again(module)
    return len(found)


def is_wrapped(module: nn.Module) -> bool:
    """Whether the backward pass computes this block again."""
    return "forward" in vars(module)


def again(module: nn.Module) -> None:
    """Compute this block again in the backward pass; a copy of a wrapped block is wrapped anew."""
    vars(module).pop("forward", None)
    plain = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not module.training and not any(p.requires_grad for p in module.parameters()) and not _wants(args, kwargs):
            return plain(*args, **kwargs)
        return checkpoint(plain, *args, use_reentrant=False, **kwargs)

    module.forward = forward


def _wants(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a gradient flows through: what no gradient reaches keeps nothing anyway."""
    return any(getattr(value, "requires_grad", False) for value in (*args, *kwargs.values()))
