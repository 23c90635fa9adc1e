"""Run recorded actions again from the recorded start: the proof that a demonstration is what it says.

An episode is fixed by its task and seed (in `extras/episode_*/episode.json`) and its actions (T, 12) in file order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from pydantic import BaseModel

from svms_gr00t.core.files.documents import read_json
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import ACTION, STATE, to_env_order


class Start(BaseModel):
    """`extras/episode_*/episode.json`: what an episode began from."""

    task: str
    """Name in `tasks.suites.EVERY`."""
    seed: int
    """What `KitchenEnv.reset` was given."""
    target: str
    """The side or food that the instruction speaks of."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One demonstration run again."""

    success: bool
    """Whether the goal was reached and held."""
    state_error: float
    """Largest difference to a recorded state element (metres or quaternion elements)."""


def replay(
    env: KitchenEnv,
    task: str,
    seed: int,
    actions: Float[ndarray, "T 12"],
    states: Float[ndarray, "T 16"] | None = None,
) -> Replay:
    """Reset to (task, seed), run `actions` (file order) and compare with `states`. Raises ConfigError."""
    env.drawing = False
    seen, _ = env.reset(seed=seed, options={"task": task})
    error = 0.0
    for step, action in enumerate(to_env_order(actions)):
        if states is not None:
            now = np.concatenate([seen[f"state.{key}"] for key in STATE])
            error = max(error, float(np.abs(now - states[step]).max()))
        seen, *_ = env.step(action)
    env.drawing = True
    return Replay(success=env.success, state_error=error)


def replay_recorded(env: KitchenEnv, root: Path | str, index: int) -> Replay:
    """Replay episode `index` of a dataset made by `record`. Raises DataError when it lacks its start."""
    dataset = LeRobotDataset.open(root)
    hint = "Only datasets made by this package's recorder can be replayed"
    path = Path(root) / "extras" / f"episode_{index:06d}" / "episode.json"
    start = read_json(Start, path, want="the start of a recorded episode", hint=hint)
    columns = dataset.lowdim(index)
    states = np.concatenate([columns[f"state.{key}"] for key in STATE], axis=1)
    actions = np.concatenate([columns[f"action.{key}"] for key in ACTION], axis=1)
    return replay(env, start.task, start.seed, actions, states)
