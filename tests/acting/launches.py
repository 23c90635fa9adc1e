"""What a computation asks of its device: kernels, values read back, and tensors that travel to it."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE = {"empty", "empty_like", "new_empty", "empty_strided", "detach", "alias", "lift_fresh", "_unsafe_view"}
WAITS = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "nonzero_numpy",
    "masked_select",
    "equal",
    "unique_dim",
    "_unique2",
    "repeat_interleave",
}
"""Operators whose result, or its shape, the host must know."""


class Launches(TorchDispatchMode):
    """Counts kernels by name (views and allocations are none), and notes what waits for the device or feeds it."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.kernels = device, Counter[str]()
        self.waits: list[str] = []
        self.fed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name in WAITS or _indexes_by_mask(name, args):
            self.waits.append(name)
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        here = [tensor.device.type == self.device for tensor in made]
        if any(here) and any(one.device.type != self.device and one.dim() > 0 for one in tensors):
            self.fed.append(name)
        if any(one.device.type == self.device for one in tensors) and made and not any(here):
            self.waits.append(name)
        if any(here) and not _is_view(func) and name not in FREE:
            self.kernels[name] += 1
        return out

    @property
    def total(self) -> int:
        """Kernels in all."""
        return sum(self.kernels.values())


def _is_view(func: Any) -> bool:
    """Whether what it returns is an argument's own memory, unwritten."""
    infos = [one.alias_info for one in func._schema.returns]
    return bool(infos) and all(info is not None and not info.is_write for info in infos)


def _indexes_by_mask(name: str, args: Any) -> bool:
    """x[mask]: how many rows that gives, only the device knows."""
    return name == "index" and any(one is not None and one.dtype == torch.bool for one in args[1])
