"""Policies that anyone could write in five minutes; a model that does not beat them has learned nothing useful.

Axes: N training steps, H horizon, D elements of a key.

    mean      the average training action, always
    hold      the last executed action again; at the first step whatever keeps the robot still (`Start`)
    nearest   the chunk that followed the most similar training state (1-NN, each state element in units of its std)

Zero keeps a robot still only where actions are differences. An absolute joint target that is zero sends the arm across
the room, so the training episodes decide for each key between zero and the state of the same name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.spatial import cKDTree

from svms_gr00t.core.errors import DataError
from svms_gr00t.evaluate.open_loop.metrics import KeySpec, cut_chunk

Rows = dict[str, np.ndarray]
"""Action or state key -> (T, D)."""
Start = Literal["null", "state", "first"]
"""First action of `hold`: null (zero, binary keys off), the state of the same name, or the mean first action."""


def split_lowdim(lowdim: Mapping[str, np.ndarray]) -> tuple[Rows, Rows]:
    """(states, actions) of one episode, keys without their prefix."""
    parts: dict[str, Rows] = {"state": {}, "action": {}}
    for name, rows in lowdim.items():
        kind, _, key = name.partition(".")
        parts[kind][key] = rows
    return parts["state"], parts["action"]


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Fitted on training episodes only."""

    horizon: int
    mean: Rows
    """Mean action, (D,)."""
    start: dict[str, Start]
    """How `hold` begins, by action key."""
    still: Rows
    """(D,): the null action, or the mean first action where `start` says so."""
    chunks: dict[str, np.ndarray]
    """What followed each training step, (N, H, D)."""
    _state_mean: np.ndarray
    _state_scale: np.ndarray
    _tree: cKDTree

    def predict(self, name: str, states: Rows, actions: Rows, steps: Sequence[int]) -> dict[str, np.ndarray]:
        """Chunks (n, H, D) that baseline `name` gives at `steps` of an episode with these states and actions."""
        if name == "nearest":
            _, found = self._tree.query((_stacked(states)[list(steps)] - self._state_mean) / self._state_scale)
            return {key: chunk[found] for key, chunk in self.chunks.items()}
        rows = {key: self._constant(name, key, states, actions[key], steps) for key in self.mean}
        return {key: np.repeat(row[:, None], self.horizon, axis=1) for key, row in rows.items()}

    def _constant(self, name: str, key: str, states: Rows, actions: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        if name == "mean":
            return np.repeat(self.mean[key][None], len(steps), axis=0)
        first = states[key][0] if self.start[key] == "state" else self.still[key]
        return np.stack([actions[step - 1] if step > 0 else first for step in steps])


BASELINES = ("mean", "hold", "nearest")


def fit_baselines(dataset: Any, episodes: Sequence[int], *, horizon: int, specs: Mapping[str, KeySpec]) -> Baselines:
    """Read the low-dimensional columns of the training `episodes` (no pictures). Raises DataError without episodes."""
    if not len(episodes):
        raise DataError("baselines", got="no training episodes", want="at least one", hint="Pass train_episodes")
    parts = [split_lowdim(dataset.lowdim(index)) for index in episodes]
    states = np.concatenate([_stacked(state) for state, _ in parts])
    chunks = {
        key: np.concatenate(
            [[cut_chunk(action[key], t, horizon) for t in range(len(action[key]))] for _, action in parts]
        )
        for key in specs
    }
    starts = {key: _start(key, spec, parts) for key, spec in specs.items()}
    mean, scale = states.mean(0), states.std(0)
    scale = np.where(scale > 1e-8, scale, 1.0)  # a constant element cannot separate states
    return Baselines(
        horizon=horizon,
        mean={key: np.concatenate([action[key] for _, action in parts]).mean(0) for key in specs},
        start={key: start for key, (start, _) in starts.items()},
        still={key: value for key, (_, value) in starts.items()},
        chunks=chunks,
        _state_mean=mean,
        _state_scale=scale,
        _tree=cKDTree((states - mean) / scale),
    )


def _start(key: str, spec: KeySpec, parts: Sequence[tuple[Rows, Rows]]) -> tuple[Start, np.ndarray]:
    """What keeps the robot still, by its error on the training episodes; the mean first action where zero is absurd."""
    null, half = np.zeros(len(spec.midpoint)), np.array(spec.half_range)
    if spec.kind == "binary":
        return "null", np.subtract(spec.midpoint, half)
    scale = np.where(spec.varying, half, 1.0)
    actions = np.concatenate([action[key] for _, action in parts])
    guesses: dict[Start, np.ndarray] = {"null": np.broadcast_to(null, actions.shape)}
    if all(key in state and state[key].shape == action[key].shape for state, action in parts):
        guesses["state"] = np.concatenate([state[key] for state, _ in parts])
    first = np.mean([action[key][0] for _, action in parts], axis=0)
    if (np.abs(spec.midpoint) > half + 1e-6).any():  # zero was never recorded, so it does not mean "still"
        guesses["first"] = np.broadcast_to(first, actions.shape)
    error = {name: float(np.square((guess - actions) / scale).mean()) for name, guess in guesses.items()}
    best = min(error, key=error.__getitem__)
    return best, first if best == "first" else null


def _stacked(states: Rows) -> np.ndarray:
    return np.concatenate([states[key] for key in sorted(states)], axis=1).astype(np.float64)
