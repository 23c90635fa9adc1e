"""Sensors that fail while a policy acts: the closed-loop side of `evaluate.streams.shifts`.

    "cameras black", "VIEW black"                               zeros
    "state 20 steps stale", "cameras 20 steps stale", "VIEW .."   as it was so many steps ago, and at first as at step 0

The policy and its memory see the fault; the world and its success do not.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, SupportsFloat

import numpy as np

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import WATCHED, Environment

_FAULT = re.compile(r"(?P<what>\S+) (?:black|(?P<steps>[1-9]\d{0,4}) steps? stale)")
_PREFIX = {"state": "state.", "cameras": "video."}


def read_fault(fault: str, where: str) -> tuple[str, int | None]:
    """What suffers, and how many steps it is late, None for black.

    Raises ConfigError for words that name no fault; whether a camera is there, an observation tells.
    """
    found = _FAULT.fullmatch(fault)
    if found is None or fault == "state black":
        want = '"VIEW black", "cameras black", "VIEW N steps stale", "cameras N steps stale", or "state N steps stale"'
        raise ConfigError(where, got=fault, want=want, hint='For example "state 20 steps stale"')
    return found["what"], None if found["steps"] is None else int(found["steps"])


class Faulty:
    """An environment whose observations come spoiled. Raises ConfigError for a camera that it does not have."""

    def __init__(self, env: Environment, fault: str) -> None:
        self._env = env
        self._what, self._ago = read_fault(fault, "fault")
        self._past: deque[Mapping[str, Any]] = deque(maxlen=1 + (self._ago or 0))

    @property
    def drawing(self) -> bool:
        """Whether observations hold pictures; always, where old ones are shown later."""
        return bool(getattr(self._inner, "drawing", True))

    @drawing.setter
    def drawing(self, wanted: bool) -> None:
        if hasattr(self._inner, "drawing"):
            self._inner.drawing = wanted or (self._ago is not None and self._what != "state")

    @property
    def _inner(self) -> Any:
        return getattr(self._env, "unwrapped", self._env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The environment's; nothing of the last episode is left."""
        seen, info = self._env.reset(seed=seed, options=options)
        self._past.clear()
        if self._what not in _PREFIX and f"video.{self._what}" not in seen:
            views = ", ".join(key.removeprefix("video.") for key in seen if key.startswith("video."))
            raise ConfigError("fault", got=self._what, want=f"state, cameras, or one of {views}", hint="Name a camera")
        if WATCHED in info:
            info = {**info, WATCHED: tuple(self._spoiled(one) for one in info[WATCHED])}
        return self._spoiled(seen), info

    def step(self, action: np.ndarray, /) -> tuple[dict[str, Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """The environment's, but for what is seen."""
        seen, *rest = self._env.step(action)
        return self._spoiled(seen), *rest  # type: ignore[return-value]

    def close(self) -> None:
        """The environment's."""
        self._env.close()

    def _spoiled(self, seen: dict[str, Any]) -> dict[str, Any]:
        self._past.append(seen)
        begins = _PREFIX.get(self._what, f"video.{self._what}")
        keys = [key for key in seen if (key.startswith(begins) if self._what in _PREFIX else key == begins)]
        if self._ago is None:
            return seen | {key: np.zeros_like(seen[key]) for key in keys}
        return seen | {key: self._past[0][key] for key in keys}
