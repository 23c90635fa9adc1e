"""Stands in for CUDA's graphs on a CPU: kernels are recorded with the tensors that they read and wrote, and repeated.

As there, a replay runs no Python, reads inputs from where they were at the capture, and writes every result to where it
was then; and what reads a value back, or makes a tensor out of the host's numbers, cannot be captured.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from launches import FREE, WAITS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")


class Tape(TorchDispatchMode):
    """One recording."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name.removeprefix("aten::"), kwargs or {}
        if name in WAITS or name == "lift_fresh":
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        out = func(*args, **kwargs)
        aliases = [one.alias_info for one in func._schema.returns]
        view = bool(aliases) and all(one is not None and not one.is_write for one in aliases)
        if not view and name not in FREE:
            written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            self.kernels.append((func, args, kwargs, written))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, written in self.kernels:
            found = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]
            for place, value in zip(written, found, strict=True):
                if place is not value:
                    place.copy_(value)


class Tapes:
    """A capture that counts what it was asked for."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, run: Callable[[], T]) -> tuple[Callable[[], None], T]:
        run()  # as on a card: first without recording
        self.captures += 1
        with Tape() as tape:
            said = run()

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return replay, said
