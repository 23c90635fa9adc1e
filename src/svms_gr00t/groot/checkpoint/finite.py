"""Weights that are not finite are found when they are read: one of them makes every action NaN.

A sum sees NaN and infinity and needs no room beside the weights; only a tensor whose sum is not finite is looked at
number by number.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.tensors import some

PIECE = 2**18
"""Numbers that are summed at a time: their copy in float32 stays in a cache."""


@torch.no_grad()
def is_finite(values: Tensor, scratch: Tensor | None = None) -> bool:
    """Whether no number is NaN or infinite; `scratch` is `PIECE` numbers of float32 on the same device."""
    if not values.is_floating_point() or not values.numel():
        return True
    # One buffer for all: a copy of each piece would leave holes in the heap that nothing fills again.
    scratch = torch.empty(PIECE, dtype=torch.float32, device=values.device) if scratch is None else scratch
    pieces = values.detach().reshape(-1).split(PIECE)
    total = torch.zeros((), dtype=torch.float32, device=values.device)
    for piece in pieces:
        total += scratch[: len(piece)].copy_(piece).sum()
    return bool(total.isfinite()) or all(bool(piece.isfinite().all()) for piece in pieces)


def refuse_not_finite_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError naming the tensors that hold NaN or infinity."""
    places = {values.device for values in weights.values()}
    rooms = {place: torch.empty(PIECE, dtype=torch.float32, device=place) for place in places}
    if broken := [name for name, values in weights.items() if not is_finite(values, rooms[values.device])]:
        hint = "download or save the checkpoint again; --no-check (check=False) loads it all the same"
        raise CheckpointError(folder, got=f"NaN or infinity in {some(broken)}", want="finite weights", hint=hint)
