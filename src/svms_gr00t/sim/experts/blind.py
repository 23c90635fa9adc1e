"""The memory suite without a memory: what a policy of one frame can do, which is to toss a coin where frames are alike.

The coin has the bias that wins most often; `Task.chance` is what it wins at best.
"""

from numpy.random import Generator

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.memory import hold, in_order, open_drawer, open_then_close, presses, put_back
from svms_gr00t.sim.experts.plan import Plan, Waypoint
from svms_gr00t.sim.scene import DRAWERS
from svms_gr00t.sim.tasks.memory import SLOTS
from svms_gr00t.sim.tasks.progress import ORDER

ASKED = 8
"""Steps between two decisions."""
WAITS = 0.5 ** (1 / 3)
"""The best chance to wait on: a button held from the start is let go in time after 3 decisions to wait, in one of 3."""


def _tosses(rng: Generator, going_on: float) -> int:
    """How often a coin says to go on before it says to stop."""
    return int(rng.geometric(1 - going_on)) - 1


def _hold(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    def due(env: KitchenEnv) -> bool:
        return env.steps % ASKED == 0 and rng.random() > WAITS

    return hold(env, rng, due)


def _put_back(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    return put_back(env, rng, SLOTS[int(rng.integers(len(SLOTS)))])


BLIND: dict[str, Plan] = {
    "PressTwice": lambda env, rng: presses(env, rng, 1 + _tosses(rng, 1 / 2)),
    "PressThrice": lambda env, rng: presses(env, rng, 1 + _tosses(rng, 2 / 3)),
    "OpenThenCloseDrawer": lambda env, rng: open_then_close(env, rng, _tosses(rng, 1 / 2)),
    "OpenLitDrawer": lambda env, rng: open_drawer(env, rng, str(rng.choice(DRAWERS))),
    "OrderByLight": lambda env, rng: in_order(env, rng, str(rng.choice(ORDER))),
    "PutBack": _put_back,
    "HoldTwoSeconds": _hold,
}
