"""Policies for the kitchen that need no model: one holds still, one asks the scripted expert at every step."""

from typing import Any

import numpy as np

from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.evaluate.closed_loop.robocasa_action import LAYOUT

_here: Any = None
"""This process's kitchen."""


def kitchen() -> Any:
    """A kitchen that `Scripted` can find."""
    global _here
    from svms_gr00t.sim.env import KitchenEnv

    _here = KitchenEnv(image_size=64)
    return _here


class NoOp:
    """Holds still; insists on being shown three pictures and an instruction."""

    def reset(self, seed: int) -> None:
        pass

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[dict], dict]:
        assert all(sum(key.startswith("video.") for key in seen) == 3 and seen[INSTRUCTION] for seen in observations)
        return [{key: np.zeros((8, width)) for key, width in LAYOUT.items()} for _ in observations], {}


class Scripted:
    """Sees through the walls of the environment it acts in, so it checks the loop and is no policy."""

    def reset(self, seed: int) -> None:
        from svms_gr00t.sim.experts.expert import Expert

        self.expert = Expert(_here, seed)

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[dict], dict]:
        parts = np.split(self.expert.act(), np.cumsum(list(LAYOUT.values()))[:-1])
        return [{key: part[None] for key, part in zip(LAYOUT, parts, strict=True)}], {}
