"""Gymnasium's form, in which every environment here stands: flat observations, and vectors as actions.

    reset(seed=, options={"task": .., "split": ..})  ->  observation, info
    step(action)                                     ->  observation, reward, terminated, truncated, info

`info["success"]` says whether the goal is reached, and the reward is 1.0 then, else 0.0. Only simulators need
gymnasium, so it is not among what this package itself needs.
"""

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.vector.utils import read_from_shared_memory
except ImportError as error:  # not as an extra: a simulator with an environment of its own may pin other versions
    hint = "Run: pip install 'svms-gr00t[sim]', or gymnasium alone for RoboCasa's own environments"
    raise ConfigError("simulator", got="no module gymnasium", want="gymnasium 1.0 or newer", hint=hint) from error

__all__ = ["METADATA", "gymnasium", "observation_space", "read_options", "vector_space"]

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}
LETTERS = string.printable + "‘’“”–—é°"
"""What instructions are written in; a `Text` space has to know."""
LONGEST = 256
_ROOM = 1.01
"""Unit quaternions, and what float32 rounding adds to them."""
_FAR = 50.0
"""Metres (of positions) and radians (of angles) that no robot of a benchmark reaches."""


class Instruction(spaces.Text):
    """A text that stays true in `AsyncVectorEnv`: gymnasium reads its shared memory as text once, before any reset."""


class _Live(Sequence[str]):
    """The texts that shared memory holds now; a copy, which is what `AsyncVectorEnv` hands out, is a tuple."""

    def __init__(self, read: Callable[[], tuple[str, ...]]) -> None:
        self._read = read

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return self._read()


@read_from_shared_memory.register(Instruction)
def _read_live(space: Instruction, shared_memory: Any, n: int = 1) -> _Live:
    read: Callable[..., Any] = read_from_shared_memory.dispatch(spaces.Text)
    return _Live(lambda: read(space, shared_memory, n))


def observation_space(states: Mapping[str, int], views: Iterable[str], size: tuple[int, int]) -> spaces.Space[Any]:
    """The flat observation: "state.<key>" of these widths, the views (height, width, 3), and the instruction."""
    found: dict[str, spaces.Space[Any]] = {}
    for key, width in states.items():
        most = _ROOM if "rotation" in key and width == 4 else _FAR
        found[key] = spaces.Box(-most, most, (width,), np.float32)
    for view in views:
        found[view] = spaces.Box(0, 255, (*size, 3), np.uint8)
    found[INSTRUCTION] = Instruction(LONGEST, charset=LETTERS)
    return spaces.Dict(found)


def vector_space(width: int, most: float = 1.0) -> spaces.Box:
    """Controller commands; what lies beyond +-1 is clipped by the simulators."""
    return spaces.Box(-most, most, (width,), np.float32)


def read_options(options: Mapping[str, Any] | None, **default: Any) -> dict[str, Any]:
    """The options of a reset with `default` for what is left out or None. Raises ConfigError for unknown names."""
    given = dict(options or {})
    if unknown := sorted(given.keys() - default.keys()):
        raise ConfigError("reset options", got=unknown, want=f"only {', '.join(default)}", hint="Remove the others")
    return default | {name: value for name, value in given.items() if value is not None}
