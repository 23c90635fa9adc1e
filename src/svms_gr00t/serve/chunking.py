"""From overlapping action chunks to one action a step: temporal ensembling, and asking ahead while the robot moves.

    a(t) = sum_i w_i chunk_i[t - t_i] / sum_i w_i,   w_i = exp(-decay * i),   i = 0 is the oldest chunk

Chunk i was asked for at step t_i; decay 0 averages, a positive one trusts the oldest chunk most, a negative one the
newest. Means are right for positions, velocities and small rotation vectors, not for quaternions: name such keys as
switches. Source: Zhao et al. 2023, arXiv:2304.13705.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError, SvmsError
from svms_gr00t.core.history import STEP, check_executed

Chunk = dict[str, np.ndarray]
"""Action key -> (H, D)."""


class Ensemble:
    """The chunks that still reach the present step."""

    def __init__(self, decay: float = 0.01, switches: tuple[str, ...] = ("gripper_close", "control_mode")) -> None:
        """`switches` are keys that are decided by the newest chunk: half a gripper is none."""
        self.decay, self.switches = decay, switches
        self._chunks: list[tuple[int, Chunk]] = []

    def add(self, start: int, chunk: Chunk) -> None:
        """Take in a chunk whose first row belongs to step `start`."""
        self._chunks.append((start, {key: np.asarray(rows, dtype=float) for key, rows in chunk.items()}))

    def reaches(self, step: int) -> bool:
        """Whether some chunk holds an action for this step; those that have run out are forgotten."""
        self._chunks = [(t, c) for t, c in self._chunks if step < t + len(next(iter(c.values())))]
        return any(t <= step for t, _ in self._chunks)

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The action (D,) of a step by key. Raises ConfigError when no chunk reaches it."""
        if not self.reaches(step):
            hint = "Ask at least once every horizon steps"
            raise ConfigError("step", got=step, want="a step that some chunk reaches", hint=hint)
        current = [(start, chunk) for start, chunk in self._chunks if start <= step]
        weights = np.exp(-self.decay * np.arange(len(current)))
        action = {}
        for key in current[-1][1]:
            rows = np.stack([chunk[key][step - start] for start, chunk in current])
            action[key] = rows[-1] if key in self.switches else weights @ rows / weights.sum()
        return action


class AsyncChunks:
    """Acts every step and asks every `every` steps in the background, so that the robot does not wait for a chunk.

    The first step of an episode waits. Later ones follow what has arrived, also when a request fails or is late; only
    when no chunk reaches the step does the robot wait, and an error is raised. A policy with memory needs every one of
    these requests, in order and with its step: one that failed is asked again as it was, before any later one.
    """

    def __init__(
        self,
        ask: Callable[[Any], Chunk],
        *,
        every: int = 8,
        ensemble: Ensemble | None = None,
        memory: Sequence[int] = (),
    ) -> None:
        """`ask` maps an observation to a chunk, for example `PolicyClient.chunk`; it runs in one other thread.

        `memory` are the policy's `memory_offsets` (`PolicyClient.memory_offsets`); observations are then mappings.
        Raises ConfigError when `every` does not fit them.
        """
        if every < 1:
            raise ConfigError("every", got=every, want="at least 1 step", hint="8 is N1.6's own")
        check_executed(every, memory, "every")
        self._ask, self._every, self._ensemble, self._remembers = ask, every, ensemble or Ensemble(), bool(memory)
        self._fresh = (self._ensemble.decay, self._ensemble.switches)
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._due: deque[tuple[int, Any]] = deque()
        self._pending: tuple[int, Future[Chunk]] | None = None
        self._step = self._next = 0
        self.failures = 0
        """Requests of this episode that brought no chunk."""

    def act(self, observation: Any) -> dict[str, np.ndarray]:
        """The action of this step. Raises what `ask` raised when there is no older chunk to follow."""
        if self._pending is not None and self._pending[1].done():
            self._collect(tolerant=True)
        if self._step >= self._next and (self._remembers or self._pending is None):
            self._plan(observation)
        self._send()
        while not self._ensemble.reaches(self._step):
            if self._pending is None:
                self._plan(observation)
                self._send()
            self._collect(tolerant=False)
            self._send()
        action = self._ensemble.at(self._step)
        self._step += 1
        return action

    def reset(self) -> None:
        """A new episode: nothing of the last one is followed. A policy with memory is reset on its own."""
        if self._pending is not None:
            self._pending[1].exception()
        self._pending, self._ensemble = None, Ensemble(*self._fresh)
        self._due.clear()
        self._step = self._next = self.failures = 0

    def close(self) -> None:
        """Let the request under way finish."""
        self._pool.shutdown()

    def _plan(self, observation: Any) -> None:
        """Ask with what the robot sees now; a memory takes it after what is due before."""
        if self._remembers and self._step < self._next:
            hint = "Ask as often as chunks are long, or execute fewer steps"
            raise ConfigError("every", got=self._every, want="at most the length of a chunk", hint=hint)
        self._due.append((self._step, {**observation, STEP: self._step} if self._remembers else observation))
        self._next = self._step + self._every

    def _send(self) -> None:
        if self._pending is None and self._due:
            start, observation = self._due[0]
            self._pending = (start, self._pool.submit(self._ask, observation))

    def _collect(self, *, tolerant: bool) -> None:
        assert self._pending is not None
        (start, future), self._pending = self._pending, None
        asked = self._due.popleft()
        try:
            self._ensemble.add(start, future.result())
        except SvmsError:
            self.failures += 1
            if self._remembers:
                self._due.appendleft(asked)
            else:
                self._next = self._step  # ask again with what the robot sees now
            if not tolerant:
                raise
