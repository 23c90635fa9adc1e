"""Plans for the memory suite: with rests of random length before and between sub-goals, and random speeds.

Rests are drawn alike whatever has happened before, and a place is left and reached in one pose, so that neither the
elapsed time nor the hand tells what comes next.
"""

from collections.abc import Callable
from typing import Any

from numpy.random import Generator

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.plan import Place, Plan, Waypoint, fixed, grasp
from svms_gr00t.sim.scene import PRESSED
from svms_gr00t.sim.tasks.memory import ON_STEPS, STATION
from svms_gr00t.sim.tasks.progress import OFF, ON, OnFor

START, PAUSE = 24, 12
"""Most steps of rest before an episode's first move, and between sub-goals."""
SHOWN = 8
"""Steps that what must be remembered lasts at least."""


class _Pace:
    """Draws how fast this episode's expert is, and how long it rests."""

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._speed = float(rng.uniform(0.7, 1.0))

    def go(self, place: Place, **more: Any) -> Waypoint:
        """A leg at about the episode's speed."""
        return Waypoint(place=place, most=self._speed * float(self._rng.uniform(0.85, 1.0)), **more)

    def rest(self, place: Place, most: int = PAUSE, least: int = 2, **more: Any) -> Waypoint:
        """Stay for a random number of steps."""
        steps = int(self._rng.integers(least, most + 1))
        return stay(place, steps, **more)


def stay(place: Place, steps: int, **more: Any) -> Waypoint:
    """Stay for so many steps."""
    return Waypoint(place=place, near=1.0, least=steps, limit=steps, **more)


def _home(env: KitchenEnv) -> Place:
    spot = env.hand()
    return lambda _env: spot


def _presses(times: int) -> Plan:
    def plan(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
        pace, home = _Pace(rng), _home(env)
        return [
            pace.rest(home, START),
            pace.go(fixed(env, "button", 0.0, 0.0, 0.20), near=0.025),
            pace.rest(fixed(env, "button", 0.0, 0.0, 0.20)),
            *(leg for _ in range(times) for leg in _press(env, pace)),
            pace.go(home),
        ]

    return plan


def _press(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    """Down, up and a rest, from the hover above the button to the hover."""
    hover, down = (fixed(env, "button", 0.0, 0.0, height) for height in (0.20, 0.06))
    return [
        pace.go(down, near=1.0, until=lambda env: env.joint("coffee") > PRESSED),
        stay(down, SHOWN),
        pace.go(hover, near=0.02),
        pace.rest(hover),
    ]


def _open_then_close(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    pace, home, drawer = _Pace(rng), _home(env), f"drawer_{env.target}"
    above, hooked = (fixed(env, drawer, -0.034, 0.0, height) for height in (0.20, 0.105))
    pulled, pushed = (fixed(env, drawer, dx, 0.0, 0.105) for dx in (-0.25, 0.02))
    return [
        pace.rest(home, START),
        pace.go(above, near=0.025),
        pace.rest(above),
        pace.go(hooked, near=0.012, limit=25),
        pace.rest(hooked),
        pace.go(pulled, near=1.0, until=lambda env: env.joint(drawer) > 0.115, limit=60),
        pace.rest(fixed(env, drawer, -0.034 - 0.12, 0.0, 0.105), least=SHOWN),
        pace.go(pushed, near=1.0, until=lambda env: env.joint(drawer) < 0.004, limit=60),
        pace.go(hooked, near=0.012, limit=15),
        pace.rest(hooked),
        pace.go(above, near=0.025),
        pace.go(home),
    ]


def _open_lit(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    pace, drawer = _Pace(rng), f"drawer_{env.target}"
    above, hooked = (fixed(env, drawer, -0.034, 0.0, height) for height in (0.20, 0.105))
    return [
        pace.go(above, near=0.025),
        pace.rest(above, 8, 0),
        pace.go(hooked, near=0.012, limit=25),
        pace.go(fixed(env, drawer, -0.25, 0.0, 0.105), limit=60),
    ]


def _coffee(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    hover = fixed(env, "button", 0.0, 0.0, 0.20)
    return [pace.go(hover, near=0.025), pace.rest(hover, 8, 0), *_press(env, pace)]


def _stove(env: KitchenEnv, pace: _Pace) -> list[Waypoint]:
    before, low, after, up = (
        fixed(env, "stove_lever", 0.0, dy, height)
        for dy, height in ((-0.1, 0.19), (-0.1, 0.065), (0.07, 0.065), (0.07, 0.19))
    )
    return [
        pace.go(before, near=0.025),
        pace.rest(before, 8, 0),
        pace.go(low, near=0.015, limit=25),
        pace.go(after, near=1.0, until=lambda env: env.joint("stove") > ON + 0.02, limit=50),
        pace.go(up, near=0.03),
        pace.rest(up, 8, 0),
    ]


def _in_order(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    pace = _Pace(rng)
    parts: dict[str, Callable[[KitchenEnv, _Pace], list[Waypoint]]] = {"coffee": _coffee, "stove": _stove}
    first = env.target
    second = next(name for name in parts if name != first)
    return parts[first](env, pace) + parts[second](env, pace)


def _put_back(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    pace, home = _Pace(rng), _home(env)
    high, low = (fixed(env, "apple", 0.0, 0.0, height) for height in (0.15, 0.026))
    station = fixed(env, "apple", STATION[0] - env.position("apple")[0], STATION[1] - env.position("apple")[1], 0.17)
    return [
        pace.rest(home, START, least=SHOWN, closed=False),
        *grasp(env, "apple", 0.15),
        pace.go(station, near=0.015),
        pace.rest(station, least=SHOWN, most=SHOWN + PAUSE),
        pace.go(high, near=0.012),
        pace.go(low, near=0.01, limit=25),
        stay(low, 5, closed=False),
        pace.go(fixed(env, "apple", 0.0, 0.0, 0.20), closed=False),
    ]


def _two_seconds(env: KitchenEnv, rng: Generator) -> list[Waypoint]:
    """Open fingers on both sides of the lever, so that one pose turns it on, waits, and turns it off."""
    pace, home = _Pace(rng), _home(env)
    low = 0.095
    above, around, on, wait, off = (
        fixed(env, "stove_lever", 0.0, dy, height)
        for dy, height in ((-0.028, 0.20), (-0.028, low), (0.10, low), (0.013, low), (-0.10, low))
    )

    def due(env: KitchenEnv) -> bool:
        return isinstance(env.progress, OnFor) and env.progress.on >= ON_STEPS - LEAD

    return [
        pace.rest(home, START, closed=False),
        pace.go(above, closed=False, near=0.025),
        pace.rest(above, closed=False),
        pace.go(around, closed=False, near=0.012, limit=25),
        pace.rest(around, closed=False),
        pace.go(on, closed=False, near=1.0, until=lambda env: env.joint("stove") > ON + 0.02),
        Waypoint(place=wait, closed=False, near=1.0, until=due, limit=60),
        pace.go(off, closed=False, near=1.0, until=lambda env: env.joint("stove") < OFF),
        pace.go(around, closed=False),
    ]


LEAD = 5
"""Steps from the decision to turn a lever off until it is."""
MEMORY: dict[str, Plan] = {
    "PressTwice": _presses(2),
    "PressThrice": _presses(3),
    "OpenThenCloseDrawer": _open_then_close,
    "OpenLitDrawer": _open_lit,
    "OrderByLight": _in_order,
    "PutBack": _put_back,
    "StoveTwoSeconds": _two_seconds,
}
