"""What evaluation asks of a policy and of an environment; anything with these methods can be evaluated.

Axes: B observations, H action horizon, D elements of a key, T tokens, S streams, E edges, W and H pixels.

A flat observation holds "video.<key>" uint8 (H, W, 3), "state.<key>" float (D,), and the instruction as `INSTRUCTION`.
An action chunk is a dict of action key (with or without the "action." prefix) to float (H, D) in physical units.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np

from svms_gr00t.core.arrays import as_array
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord

INSTRUCTION = "annotation.human.action.task_description"

WATCHED = "watched"
"""Key of a reset's info: flat observations that an environment showed before it lets anybody act, oldest first."""

Observation = Mapping[str, Any]
Chunk = dict[str, np.ndarray]


@runtime_checkable
class ActionPolicy(Protocol):
    """Observations in, action chunks out; the same seed gives the same chunk."""

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Chunk], Mapping[str, Any]]:
        """One chunk for each observation, and evidence: SVMS policies give "rho" (B, T, E), "weights" (B, T, S) and
        "tokens" (for each sample its token texts); others give {}.
        """
        ...

    def reset(self, seed: int, /) -> object:
        """A new episode begins."""
        ...


@runtime_checkable
class FlowScorer(Protocol):
    """A policy that can also say how well it models recorded chunks."""

    def flow_loss(self, observations: list[dict[str, Any]], chunks: list[Chunk], *, seeds: list[int]) -> np.ndarray:
        """Flow-matching loss (B,) at the noise and the time that each seed fixes; chunks may end before the horizon."""
        ...


@runtime_checkable
class Environment(Protocol):
    """A gymnasium environment with tasks, simulated or real, driven by the vectors of `RolloutConfig.robot`.

    Observations are flat. An environment whose pictures cost time may have `drawing`: while that is off, its
    observations hold none.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new scene of options["task"] in the words of options["split"]: its first observation, and info.

        info["watched"], where something is shown first: what was seen until then, oldest first, without the first
        observation that is acted on.
        """
        ...

    def step(self, action: np.ndarray, /) -> tuple[dict[str, Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """Execute one action, (12,) for RoboCasa, (7,) for LIBERO, (8,) for RoboMME; then what was seen.

        That is observation, reward, terminated, truncated, info; info["success"] says whether the task is done.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Factory(JsonRecord):
    """How another process builds a policy or an environment: an import path and keyword arguments, both picklable."""

    path: str
    """"package.module:callable", such as "svms_gr00t.policy:Policy.from_pretrained"."""
    kwargs: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Import and call. Raises ConfigError when the path leads nowhere."""
        module, _, name = self.path.partition(":")
        try:
            make = attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError, ValueError) as error:
            hint = f"It failed with: {error}"
            raise ConfigError("factory.path", got=self.path, want='"package.module:callable"', hint=hint) from error
        return make(**self.kwargs)


def bare_keys(chunk: Mapping[str, Any]) -> Chunk:
    """The chunk as float64 arrays under keys without the "action." prefix."""
    return {key.removeprefix("action."): as_array(value).astype(np.float64) for key, value in chunk.items()}


def fixed_seed(*parts: int) -> int:
    """A 31-bit seed that depends on every part and on nothing else: not on order, batch size or number of workers."""
    return int(np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(1)[0] >> 1)
