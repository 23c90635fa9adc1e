"""Plans for the memory suite: with rests of random length before and between sub-goals, and random speeds.

Rests are drawn alike whatever has happened before, and a place is left and reached in one pose, so that neither the
elapsed time nor the hand tells what comes next. A way there and back is gone in two poses, so that what must be
remembered is all that a single frame lacks: else a hand half-way down does not know whether it rises.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.plan import Place, Plan, Waypoint, fixed
from svms_gr00t.sim.scene import COUNTER, PRESSED
from svms_gr00t.sim.tasks.memory import HELD_STEPS, STATION
from svms_gr00t.sim.tasks.progress import HeldFor

START, PAUSE = 3, 4
"""Most steps of rest before an episode's first move, and between sub-goals."""
CLOSES = 4
"""Steps in which open fingers close."""
SHOWN = 8
"""Steps that what must be remembered lasts at least."""
TURN = 2.5
"""Action per radian: a hand that contact has tilted stands straight again at the end of a rest."""
SHIFT, TILT = 0.003, 0.02
"""Standard deviations of how far off the expert aims, drawn for every leg: metres and radians."""


class _Pace:
    """Draws how fast this episode's expert is, how long it rests, and how well it aims."""

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._speed = float(rng.uniform(0.85, 1.0))

    def go(self, place: Place, **more: Any) -> Waypoint:
        """A leg at about the episode's speed."""
        off, tilt = self._rng.normal(0, SHIFT, 3), self._rng.normal(0, TILT, 3)
        most = self._speed * float(self._rng.uniform(0.85, 1.0))
        usual: dict[str, Any] = {"turn": TURN, "most": most, "tilt": tuple(tilt)}
        return Waypoint(place=lambda env: place(env) + off, **(usual | more))

    def rest(self, place: Place, most: int = PAUSE, least: int = 2, **more: Any) -> Waypoint:
        """Stay for a random number of steps."""
        return self.stay(place, int(self._rng.integers(least, most + 1)), **more)

    def stay(self, place: Place, steps: int, **more: Any) -> Waypoint:
        """Stay for so many steps."""
        return self.go(place, near=1.0, least=steps, limit=steps, **more)


def _home(env: KitchenEnv) -> Place:
    spot = env.hand()
    return lambda _env: spot


def _away(_env: KitchenEnv) -> ndarray:
    """Over the near edge, beside no fixture."""
    return np.array([0.40, 0.0, 1.23])


def presses(env: KitchenEnv, rng: Generator, times: int) -> list[Waypoint]:
    """Press the button so often, then leave."""
    pace = _Pace(rng)
    return [
        *_to_button(env, pace),
        *(leg for _ in range(times) for leg in _press(env, pace)),
        pace.go(_away),
    ]


def _to_button(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    return [pace.rest(_home(env), START, 0), *_over_button(env, pace)]


def _over_button(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    hover = fixed(env, "button", 0.0, 0.0, 0.20)
    return [pace.go(hover, near=0.025), pace.rest(hover)]


def _press(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    """Down, up with open fingers, and a rest: from the hover above the button to the hover."""
    hover, down = (fixed(env, "button", 0.0, 0.0, height) for height in (0.20, 0.06))
    return [
        pace.go(down, near=1.0, until=lambda env: env.joint("coffee") > PRESSED),
        pace.stay(down, SHOWN),
        pace.go(hover, near=0.02, closed=False),
        pace.rest(hover, least=CLOSES, most=CLOSES + PAUSE),
    ]


def open_then_close(env: KitchenEnv, rng: Generator, times: int = 1) -> list[Waypoint]:
    """Open the drawer and close it so often, then leave."""
    pace, home, drawer = _Pace(rng), _home(env), f"drawer_{env.target}"
    above, hooked = (fixed(env, drawer, -0.034, 0.0, height) for height in (0.20, 0.105))
    return [
        pace.rest(home, START, 0),
        *_to_handle(env, pace, drawer),
        pace.rest(hooked, least=SHOWN, most=SHOWN + PAUSE),
        *(leg for _ in range(times) for leg in _pull_and_push(env, pace, drawer)),
        pace.go(above, near=0.025),
        pace.go(_away),
    ]


def _to_handle(env: KitchenEnv, pace: _Pace, drawer: str) -> list[Waypoint]:
    above, hooked = (fixed(env, drawer, -0.034, 0.0, height) for height in (0.20, 0.105))
    return [pace.go(above, near=0.025), pace.rest(above), pace.go(hooked, near=0.012, limit=25)]


def _pull_and_push(env: KitchenEnv, pace: _Pace, drawer: str) -> list[Waypoint]:
    """From the handle of the shut drawer to the same place. The end is slow: a hand that is stopped short tilts."""
    hooked, pulled, pushed = (
        fixed(env, drawer, dx, 0.0, height) for dx, height in ((-0.034, 0.105), (-0.25, 0.105), (0.0, 0.095))
    )
    return [
        pace.go(pulled, near=1.0, until=lambda env: env.joint(drawer) > 0.115, limit=60),
        pace.stay(fixed(env, drawer, -0.034 - 0.12, 0.0, 0.105), SHOWN),
        pace.go(pushed, near=1.0, until=lambda env: env.joint(drawer) < 0.04, limit=60, turn=1.5),
        pace.go(pushed, near=1.0, until=lambda env: env.joint(drawer) < 0.006, limit=60, turn=1.5, most=0.4),
        pace.go(hooked, near=0.01, least=10, limit=25, turn=1.5),
        pace.rest(hooked, least=SHOWN, most=SHOWN + PAUSE),
    ]


def open_drawer(env: KitchenEnv, rng: Generator, side: str) -> list[Waypoint]:
    """Open the drawer of this side."""
    pace, drawer = _Pace(rng), f"drawer_{side}"
    return [*_to_handle(env, pace, drawer), pace.go(fixed(env, drawer, -0.25, 0.0, 0.105), limit=60)]


def _coffee(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    return [*_over_button(env, pace), *_press(env, pace)]


def _drawer(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    pulled, over = (fixed(env, "drawer_left", dx, 0.0, height) for dx, height in ((-0.25, 0.105), (-0.154, 0.20)))
    return [
        *_to_handle(env, pace, "drawer_left"),
        pace.go(pulled, near=1.0, until=lambda env: env.joint("drawer_left") > 0.115, limit=60),
        pace.go(over, near=0.03),
    ]


def in_order(env: KitchenEnv, rng: Generator, first: str) -> list[Waypoint]:
    """Press the button and open the left drawer, beginning with `first`."""
    pace = _Pace(rng)
    parts: dict[str, Callable[[KitchenEnv, _Pace], list[Waypoint]]] = {"coffee": _coffee, "drawer": _drawer}
    second = next(name for name in parts if name != first)
    return parts[first](env, pace) + parts[second](env, pace)


def put_back(env: KitchenEnv, rng: Generator, to: tuple[float, float]) -> list[Waypoint]:
    """Take the apple, show it in the middle, and lay it down at `to`: there high above the counter, back low."""
    pace, home, food = _Pace(rng), _home(env), fixed(env, "apple", 0.0, 0.0, 0.022)
    lifted, high, station = fixed(env, "apple", -0.06, 0.0, 0.26), _spot(STATION, 0.26), _spot(STATION, 0.15)
    above, low, over = (_spot(to, height) for height in (0.15, 0.04, 0.20))
    return [
        pace.rest(home, START, least=0, closed=False),
        pace.go(fixed(env, "apple", 0.0, 0.0, 0.12), closed=False, near=0.015),
        Waypoint(place=food, closed=False, near=0.008, least=12, limit=30),
        Waypoint(place=food, near=1.0, least=8, limit=10),
        pace.go(lifted, near=0.025),
        pace.go(high, near=0.02),
        pace.go(station, near=0.015),
        pace.rest(_wandering(station, rng, 0.012), least=2 * SHOWN, most=3 * SHOWN),
        pace.go(above, near=0.012),
        pace.go(low, near=0.01, limit=25),
        pace.stay(low, 5, closed=False),
        pace.go(over, closed=False),
    ]


def _spot(xy: tuple[float, float], height: float) -> Place:
    place = np.array([*xy, COUNTER + height])
    return lambda _env: place


def hold(env: KitchenEnv, rng: Generator, due: Callable[[KitchenEnv], bool]) -> list[Waypoint]:
    """Hold the button down until it is due to let go of it; up with open fingers, as after a press."""
    pace = _Pace(rng)
    hover, down, lightly = (fixed(env, "button", 0.0, 0.0, height) for height in (0.20, 0.06, 0.092))
    return [
        *_to_button(env, pace),
        pace.go(down, near=1.0, until=lambda env: env.joint("coffee") > PRESSED),
        pace.go(_wandering(lightly, rng, 2 * SHIFT), near=1.0, until=due, limit=80),
        pace.go(hover, near=0.02, closed=False),
    ]


def _wandering(place: Place, rng: Generator, far: float) -> Place:
    """The place, but for other millimetres every 8 steps: a still hand tells whence it came, or since when."""
    off = rng.normal(0, far, (64, 3)) * (1, 1, 0)
    return lambda env: place(env) + off[env.steps // 8 % len(off)]


def _due(env: KitchenEnv) -> bool:
    return isinstance(env.progress, HeldFor) and env.progress.steps >= HELD_STEPS - LEAD


LEAD = 4
"""Steps from the decision to let go of the button until it is up."""
MEMORY: dict[str, Plan] = {
    "PressTwice": lambda env, rng: presses(env, rng, 2),
    "PressThrice": lambda env, rng: presses(env, rng, 3),
    "OpenThenCloseDrawer": open_then_close,
    "OpenLitDrawer": lambda env, rng: open_drawer(env, rng, env.target),
    "OrderByLight": lambda env, rng: in_order(env, rng, env.target),
    "PutBack": lambda env, rng: put_back(env, rng, tuple(env.position("apple")[:2])),
    "HoldTwoSeconds": lambda env, rng: hold(env, rng, _due),
}
