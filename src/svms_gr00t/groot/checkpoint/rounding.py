"""What a change of type takes from the weights: how far numbers move, and how much of what training changed is gone.

A step of the optimiser moves a weight by less than bfloat16 can tell apart (2^-8 of it), so a float32 delta on a
bfloat16 base is not the same model when it is rounded to the base's type.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from svms_gr00t.groot.checkpoint.tensors import Stored


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """The loss over all tensors whose type is wider than the new one."""

    dtype: torch.dtype
    """The new type."""
    tensors: int
    """How many tensors it does not hold exactly."""
    relative: float
    """|rounded - stored| / |stored|, norms over all of their numbers."""
    changed: int
    """Numbers that training changed, in tensors that the base has too."""
    undone: int
    """Those that rounding puts back to the base's value."""
    lost: float
    """|rounded - stored| / |stored - base| over the changed numbers."""

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        text = f"{self.tensors} tensors are rounded to {kind}, by {self.relative:.2%}"
        if self.changed:
            text += (
                f"; of what training changed in {self.changed:,} of the base's numbers, {self.lost:.1%} is lost and "
                f"{self.undone:,} are the base's again"
            )
        return text


@torch.no_grad()
def rounding(whole: Mapping[str, Stored], overlay: Mapping[str, Stored], dtype: torch.dtype) -> Rounding | None:
    """What `dtype` does to a base `whole` under the tensors `overlay` of a delta; None when it holds every number."""
    tensors = changed = undone = 0
    moved = size = error = training = 0.0
    for name, stored in {**whole, **overlay}.items():
        if not stored.exact.is_floating_point or torch.promote_types(stored.exact, dtype) == dtype:
            continue
        exact = stored.read(stored.exact)
        rounded = exact.to(dtype).to(exact.dtype)
        if torch.equal(rounded, exact):
            continue
        tensors += 1
        moved, size = moved + _square(rounded - exact), size + _square(exact)
        if name in overlay and name in whole:
            before = whole[name].read(exact.dtype)
            differs = exact != before
            changed += int(differs.sum())
            undone += int((differs & (rounded == before)).sum())
            error, training = error + _square((rounded - exact)[differs]), training + _square(exact - before)
    if not tensors:
        return None
    relative, lost = (moved / max(size, 1e-300)) ** 0.5, (error / max(training, 1e-300)) ** 0.5
    return Rounding(dtype=dtype, tensors=tensors, relative=relative, changed=changed, undone=undone, lost=lost)


def _square(values: Tensor) -> float:
    return float(values.double().square().sum())
