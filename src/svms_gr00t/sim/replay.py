"""Run recorded actions again from the recorded start: the proof that a demonstration is what it says.

An episode is fixed by its task and seed (in `extras/episode_*/episode.json`) and its actions (T, 12) in file order.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import STATE, to_env_order


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
    env.reset(task, seed)
    error = 0.0
    for step, action in enumerate(to_env_order(actions)):
        if states is not None:
            seen = env.observe(render=False)
            now = np.concatenate([seen[f"state.{key}"] for key in STATE])
            error = max(error, float(np.abs(now - states[step]).max()))
        env.step(action)
    return Replay(success=env.success, state_error=error)
