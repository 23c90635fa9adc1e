"""Which past steps an observation holds, the same in training, in a feature cache, in evaluation and while acting.

Axes: T steps of an observation, the offsets of its modality in their order.

    steps(t) = clip(t + offsets, first, last)         offsets (-15, 0):  before the first step the first is repeated

An episode has no steps before its first one, and its end must never stand in for them. Steps are those of the
environment, never calls: a robot that plans every eight steps still remembers what it saw fifteen steps ago.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError, DataError

NOW = (0,)
"""Offsets of an observation without a past."""
STEP = "step"
"""Key of an observation: the environment's step since the episode began."""
EARLIER = "earlier"
"""Key of a recorded observation: those at the memory's offsets, oldest first, None before the episode began."""


def clipped_steps(step: int, offsets: Sequence[int], length: int | None = None) -> list[int]:
    """The steps that `offsets` mean at `step` of an episode of `length` steps (None: it is still going on)."""
    last = step if length is None else length - 1
    return [min(max(step + offset, 0), last) for offset in offsets]


def check_past(offsets: Sequence[int], where: str) -> None:
    """Raises ConfigError for an observation of the future, which no robot has."""
    if max(offsets) > 0:
        hint = "Only actions lie ahead"
        raise ConfigError(where, got=tuple(offsets), want="offsets of at most 0", hint=hint)


def check_executed(every: int, offsets: Sequence[int], where: str) -> None:
    """Raises ConfigError when a policy that is asked every `every` steps never sees what its memory looks back to."""
    if every < 1 or any(offset % every for offset in offsets):
        hint = "Execute that many steps of a chunk, or train with other memory_offsets"
        stride = -max(offsets, default=-1)
        raise ConfigError(where, got=every, want=f"a divisor of the memory's stride, {stride} steps", hint=hint)


def memory_of(policy: Any) -> tuple[int, ...]:
    """The offsets that a policy's memory looks back to, whatever wraps it; () for one that remembers nothing."""
    return tuple(getattr(inside(policy), "memory_offsets", ()))


def watched_steps(shown: int, every: int, offsets: Sequence[int]) -> list[int]:
    """Of `shown` steps before a policy acts, those that its memory will look back to when it is asked every `every`."""
    back = range(every, 1 - min(offsets, default=0), every)
    return [shown - one for one in reversed(back) if one <= shown]


def inside(policy: Any) -> Any:
    """The policy that others wrap, as their `policy`."""
    while hasattr(policy, "policy"):
        policy = policy.policy
    return policy


class History:
    """What one robot saw in one episode, as far back as its policy looks.

    `see` takes every step's flat observation of one robot: "video.<key>" (H, W, 3), "state.<key>" (D,), anything else
    as it is. `at` gives the flat observation that the policy wants: (T, H, W, 3) and (T, D) where it looks back, else
    what was seen. Needs numpy alone, so it can run on the robot.
    """

    def __init__(self, video: Sequence[int] = NOW, state: Sequence[int] = NOW, memory: Sequence[int] = ()) -> None:
        """Offsets of each modality, and of a memory, which keeps its own past. Raises ConfigError for those above 0."""
        self.memory = tuple(memory)
        self.offsets = {"video": tuple(video), "state": tuple(state)}
        for kind, offsets in self.offsets.items():
            check_past(offsets, f"{kind} delta_indices")
        self._seen: dict[int, dict[str, Any]] = {}

    @classmethod
    def of(cls, policy: Any) -> "History":
        """For a policy or a client with `get_modality_config`; one without it looks at the current step alone.

        What wraps a policy (`monitor.Watched`) looks as far back as the policy inside, and remembers as much.
        """
        policy = inside(policy)
        memory = memory_of(policy)
        if not hasattr(policy, "get_modality_config"):
            return cls(memory=memory)
        config = policy.get_modality_config()
        return cls(memory=memory, **{kind: _offsets(config[kind]) for kind in ("video", "state")})

    def reset(self) -> None:
        """A new episode begins."""
        self._seen.clear()

    def needs_pictures(self, step: int, every: int) -> bool:
        """Whether a policy that is asked every `every` steps from step 0 on will look at the pictures of `step`."""
        return step == 0 or any((step - offset) % every == 0 for offset in self.offsets["video"])

    def see(self, step: int, observation: Mapping[str, Any]) -> None:
        """Keep what was seen at `step`, copied where it is looked back to. Raises DataError unless steps count up."""
        if self._seen and step <= (latest := max(self._seen)):
            hint = "Call reset() when an episode begins, and see() once a step"
            raise DataError("history", got=f"step {step} after step {latest}", want="a later one", hint=hint)
        # A simulator may draw the next picture into the same memory.
        self._seen[step] = {key: value if self._now(key) else np.array(value) for key, value in observation.items()}
        oldest = step + min(min(offsets) for offsets in self.offsets.values())
        first = min(self._seen)
        for old in [old for old in self._seen if first < old < oldest]:
            del self._seen[old]

    def at(self, step: int) -> dict[str, Any]:
        """The observation at `step`, with "step". Raises DataError for a step that is needed and was not seen."""
        now, first = self._taken(step, ""), min(self._seen)
        # A robot that looks at the past alone may have no picture of now; its first observation names every key.
        names = dict.fromkeys([*now, *(key for key in self._seen[first] if not self._now(key))])
        return {key: self._past(key, step, first) for key in names} | {STEP: step}

    def request(self, step: int) -> dict[str, Any]:
        """`at` as a policy server takes it: (1, T, H, W, 3), float32 (1, T, D), and a list of one text."""
        return {key: self._batched(key, value) for key, value in self.at(step).items()}

    def _batched(self, key: str, value: Any) -> Any:
        kind = key.partition(".")[0]
        if kind not in self.offsets:
            return [value] if isinstance(value, str) else value
        rows = np.asarray(value, np.float32) if kind == "state" else np.asarray(value)
        return rows[None, None] if self._now(key) else rows[None]

    def _now(self, key: str) -> bool:
        return self.offsets.get(key.partition(".")[0], NOW) == NOW

    def _past(self, key: str, step: int, first: int) -> Any:
        if self._now(key):
            return self._taken(step, key)[key]
        offsets = self.offsets[key.partition(".")[0]]
        return np.stack([self._taken(max(step + offset, first), key)[key] for offset in offsets])

    def _taken(self, step: int, key: str) -> dict[str, Any]:
        found = self._seen.get(step, {})
        if step not in self._seen or (key and key not in found):
            hint = "Call see() at every step; pictures may be left out where needs_pictures() is false"
            raise DataError("history", got=f"no {key or 'observation'} of step {step}", want="what was seen", hint=hint)
        return found


def _offsets(modality: Any) -> tuple[int, ...]:
    """Of a modality config as an object, or as N1.6's dict."""
    return tuple(modality["delta_indices"] if isinstance(modality, Mapping) else modality.delta_indices)
