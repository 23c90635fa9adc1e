"""From overlapping action chunks to one action a step: temporal ensembling, and asking ahead while the robot moves.

    a(t) = sum_i w_i chunk_i[t - t_i] / sum_i w_i,   w_i = exp(-decay * age_i),   age counted from the oldest chunk

Chunk i was asked for at step t_i; decay 0 averages, a positive one trusts the oldest chunk most.
Source: Zhao et al. 2023, arXiv:2304.13705.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError

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

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The action (D,) of a step by key. Raises ConfigError when no chunk reaches it."""
        self._chunks = [(t, c) for t, c in self._chunks if t <= step < t + len(next(iter(c.values())))]
        if not self._chunks:
            hint = "Ask at least once every horizon steps"
            raise ConfigError("step", got=step, want="a step that some chunk reaches", hint=hint)
        weights = np.exp(-self.decay * np.arange(len(self._chunks)))
        action = {}
        for key in self._chunks[-1][1]:
            rows = np.stack([chunk[key][step - start] for start, chunk in self._chunks])
            action[key] = rows[-1] if key in self.switches else weights @ rows / weights.sum()
        return action


class AsyncChunks:
    """Acts every step and asks every `every` steps in the background, so that the robot never waits for a chunk."""

    def __init__(self, ask: Callable[[Any], Chunk], *, every: int = 8, ensemble: Ensemble | None = None) -> None:
        """`ask` maps an observation to a chunk, for example through a `PolicyClient`."""
        if every < 1:
            raise ConfigError("every", got=every, want="at least 1 step", hint="8 is N1.6's own")
        self._ask, self._every, self._ensemble = ask, every, ensemble or Ensemble()
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._pending: tuple[int, Future[Chunk]] | None = None
        self._step = 0

    def act(self, observation: Any) -> dict[str, np.ndarray]:
        """The action of this step. The first call waits for its chunk; later ones use what has arrived."""
        if self._pending is None and self._step % self._every == 0:
            self._pending = (self._step, self._pool.submit(self._ask, observation))
        if self._pending is not None and (self._step == 0 or self._pending[1].done()):
            self._collect()
        try:
            action = self._ensemble.at(self._step)
        except ConfigError:
            if self._pending is None:
                raise
            self._collect()  # the last chunk has run out: now the robot has to wait
            action = self._ensemble.at(self._step)
        self._step += 1
        return action

    def close(self) -> None:
        """Let the request under way finish."""
        self._pool.shutdown()

    def _collect(self) -> None:
        assert self._pending is not None
        start, future = self._pending
        self._ensemble.add(start, future.result())
        self._pending = None
