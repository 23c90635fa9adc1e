"""A policy that checks its sensors: the same chunks, and what the consistency monitor thinks of each observation.

Axes: B robots, H action horizon, D numbers of a stalk, L steps between looks, A action numbers.

The last look of each robot is kept under (client, row). A look counts as the last one when "step" of the two
observations differs by L; who gives no step is taken to execute L steps of every chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from svms_gr00t.consistency.file import check
from svms_gr00t.consistency.monitor import Consistency, Looks
from svms_gr00t.consistency.reads import image_tokens
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Features
from svms_gr00t.monitor import CONSISTENCY
from svms_gr00t.policy import Policy
from svms_gr00t.request import read_request

_ROBOTS = 4096
"""Most robots whose last look is kept; the longest silent is forgotten."""
_STEP = "step"
Robot = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class _Last:
    step: int | None
    now: Float[ndarray, " D"]
    said: Float[ndarray, " _s"]
    chunk: Float[ndarray, "_H A"]


class Checked:
    """Acts as the policy does, to the bit; evidence gains "consistency".

    Raises CheckpointError for a monitor of another backbone.
    """

    def __init__(self, policy: Policy, monitor: Consistency) -> None:
        check(monitor.facts, policy)
        self.policy, self.monitor = policy, monitor
        self._last: dict[Robot, _Last] = {}

    def reset(self, options: int | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A new episode begins, of a "client" and of "rows" where the options name them."""
        given = options if isinstance(options, Mapping) else {}
        client, rows = str(given.get("client") or ""), given.get("rows")
        for robot in [one for one in self._last if one[0] == client and (rows is None or one[1] in rows)]:
            del self._last[robot]
        return self.policy.reset(options)

    @property
    def memory_offsets(self) -> tuple[int, ...]:
        """The policy's."""
        return self.policy.memory_offsets

    def get_modality_config(self) -> dict[str, Any]:
        """The policy's."""
        return self.policy.get_modality_config()

    def get_action(
        self, observation: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """`Policy.get_action`, checked."""
        action, evidence = self.policy.get_action(observation, options)
        seen = read_request(observation, self.policy.processor.config)
        states = {key: rows[:, -1] for key, rows in seen.state.items()}
        client, rows = str((options or {}).get("client") or ""), (options or {}).get("rows")
        robots = [(client, int(row)) for row in (range(len(seen)) if rows is None else rows)]
        steps = _steps(observation.get(_STEP), len(seen))
        return action, evidence | {CONSISTENCY: self._judge(robots, steps, states, action)}

    def check(self, observation: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> None:
        """`Policy.check`."""
        self.policy.check(observation, options)

    def act(
        self, observations: Sequence[Mapping[str, Any]], *, seeds: Sequence[int]
    ) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
        """`Policy.act`, checked. Several observations without "step" may be of one episode: each is a first look."""
        chunks, evidence = self.policy.act(observations, seeds=seeds)
        states = [{key: rows[0, -1] for key, rows in one.state.items()} for one in self.policy.read(observations)]
        stacked = {key: np.stack([one[key] for one in states]) for key in states[0]}
        action = {key: np.stack([chunk[key] for chunk in chunks]) for key in chunks[0]}
        steps = [one.get(_STEP) for one in observations]
        if len(observations) > 1 and None in steps:
            self.reset_looks()
        robots = [("", row) for row in range(len(observations))]
        return chunks, evidence | {CONSISTENCY: self._judge(robots, steps, stacked, action)}

    def reset_looks(self) -> None:
        """Forget every last look."""
        self._last.clear()

    def _judge(
        self,
        robots: Sequence[Robot],
        steps: Sequence[int | None],
        states: Mapping[str, ndarray],
        action: Mapping[str, ndarray],
    ) -> dict[str, Any]:
        monitor = self.monitor
        assert self.policy.seen is not None, "it has just acted"
        now, said = monitor.facts.body.read(states), monitor.see(self._tokens(self.policy.seen))
        last = [self._before(robot, step) for robot, step in zip(robots, steps, strict=True)]
        lag, numbers = monitor.facts.lag, sum(width for _, width in monitor.facts.actions)
        looks = Looks(
            said=said,
            now=now,
            before=np.stack([np.full(now.shape[1], np.nan) if one is None else one.now for one in last]),
            said_before=np.stack([np.full(said.shape[1], np.nan) if one is None else one.said for one in last]),
            done=np.stack([np.full((lag, numbers), np.nan) if one is None else one.chunk[:lag] for one in last]),
        )
        chunks = np.concatenate([np.asarray(action[key], np.float64) for key, _ in monitor.facts.actions], axis=2)
        for row, robot in enumerate(robots):
            self._last.pop(robot, None)
            self._last[robot] = _Last(step=steps[row], now=now[row], said=said[row], chunk=chunks[row])
        for robot in list(self._last)[: max(0, len(self._last) - _ROBOTS)]:
            del self._last[robot]
        return monitor.info(monitor.read(looks))

    def _before(self, robot: Robot, step: int | None) -> _Last | None:
        last, lag = self._last.get(robot), self.monitor.facts.lag
        if last is None or len(last.chunk) < lag:
            return None
        elapsed = lag if step is None or last.step is None else step - last.step
        return last if elapsed == lag else None

    def _tokens(self, features: Features) -> Any:
        tokens, want = image_tokens(features), self.monitor.facts.tokens
        if tuple(tokens.shape[1:]) != want:
            got, hint = f"{tokens.shape[1]} image tokens", "Give the cameras the size that the monitor was trained on"
            raise DataError("monitor", got=got, want=f"{want[0]}", hint=hint)
        return tokens


def _steps(given: Any, count: int) -> list[int | None]:
    """A step for each robot; one number is everyone's."""
    if given is None:
        return [None] * count
    found = np.asarray(given).reshape(-1).astype(int).tolist()
    return found * count if len(found) == 1 else found
