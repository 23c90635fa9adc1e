"""A scripted demonstrator: the waypoints of a plan, tracked in hand space, with small seeded action noise."""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.blind import BLIND
from svms_gr00t.sim.experts.memory import MEMORY
from svms_gr00t.sim.experts.plan import Waypoint
from svms_gr00t.sim.experts.single import SINGLE
from svms_gr00t.sim.world import REST

PLANS = SINGLE | MEMORY
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""World axes of a hand that points straight down with its fingers opening along y."""
NOISE = 0.06
"""Standard deviation of the noise on position actions."""


class Expert:
    """Follows the plan of the environment's present task; ask `act()` once per step."""

    def __init__(self, env: KitchenEnv, seed: int, *, blind: bool = False) -> None:
        """With `blind` one that remembers nothing, which the memory suite alone has."""
        assert env.task is not None, "reset the environment first"
        plans = BLIND if blind else PLANS
        self._env = env
        self._plan = plans[env.task.name](env, np.random.default_rng([seed, 8]))
        self._rng = np.random.default_rng([seed, 7])
        self._leg = 0
        self._steps = 0

    def act(self) -> Float64[ndarray, "12"]:
        """The next action, in the environment's order."""
        if self._env.held:
            return REST.copy()
        leg = self._plan[self._leg]
        error = leg.place(self._env) - self._env.hand()
        if self._is_done(leg, error) and self._leg + 1 < len(self._plan):
            self._leg, self._steps = self._leg + 1, 0
            leg = self._plan[self._leg]
            error = leg.place(self._env) - self._env.hand()
        self._steps += 1
        action = np.zeros(12)
        action[:3] = np.clip(error * leg.gain, -leg.most, leg.most) + self._rng.normal(0, NOISE, 3)
        action[3:6] = np.clip((_turn(DOWN @ self._env.hand_axes().T) + leg.tilt) * leg.turn, -0.5, 0.5)
        action[6] = 1.0 if leg.closed else -1.0
        action[11] = -1.0
        return np.clip(action, -1.0, 1.0)

    def _is_done(self, leg: Waypoint, error: Float64[ndarray, "3"]) -> bool:
        reached = np.linalg.norm(error) < leg.near and (leg.until is None or leg.until(self._env))
        return bool(reached and self._steps >= leg.least) or self._steps >= leg.limit


def _turn(rotation: ndarray) -> Float64[ndarray, "3"]:
    """Small-angle axis-angle of a rotation matrix."""
    return 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
