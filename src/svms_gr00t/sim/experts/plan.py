"""What a plan is made of: waypoints from privileged state, as positions of the hand.

A waypoint is a hand position (metres, world), whether the fingers are closed, and how near is near enough. Positions
are functions of the state, so a moved drawer or food moves its waypoints too. The hand keeps pointing down.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.scene import COUNTER

Place = Callable[[KitchenEnv], ndarray]
GAIN = 12.0
"""Action per metre of error: 8 cm away or more means full speed."""


@dataclass(frozen=True, kw_only=True)
class Waypoint:
    """One leg of a plan."""

    place: Place
    """Where the hand goes, metres."""
    closed: bool = True
    """Whether the fingers close."""
    near: float = 0.02
    """Distance at which the leg is done, metres."""
    limit: int = 40
    """Steps after which the leg is left anyway."""
    least: int = 0
    """Steps that the leg takes at least."""
    gain: float = GAIN
    """Action per metre of error."""
    most: float = 1.0
    """Largest action: the speed of a long way."""
    turn: float = 1.5
    """Action per radian of error."""
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Axis-angle by which the hand is held off straight down, radians."""
    until: Callable[[KitchenEnv], bool] | None = None
    """What must also hold before the leg is done."""


Plan = Callable[[KitchenEnv, Generator], list[Waypoint]]
"""A plan for the episode that has just begun; the generator draws its rests and speeds."""


def beside(name: str, dx: float, dy: float, height: float) -> Place:
    """A spot beside a body, at a height above the counter."""
    return lambda env: np.array([*(env.position(name)[:2] + np.array([dx, dy])), COUNTER + height])


def fixed(env: KitchenEnv, name: str, dx: float, dy: float, height: float) -> Place:
    """Like `beside`, but where the body was when the plan was made."""
    spot = beside(name, dx, dy, height)(env)
    return lambda _env: spot


def handle(side: str, dx: float, height: float) -> Place:
    """A spot beside the handle of a drawer."""
    return beside(f"drawer_{side}", -0.065 + dx, 0.0, height)


def grasp(env: KitchenEnv, food: str, lift: float) -> list[Waypoint]:
    """Take a food and lift it to this height above the counter."""
    return [
        Waypoint(place=fixed(env, food, 0.0, 0.0, 0.12), closed=False, near=0.015),
        Waypoint(place=fixed(env, food, 0.0, 0.0, 0.022), closed=False, near=0.008, limit=30),
        Waypoint(place=fixed(env, food, 0.0, 0.0, 0.022), near=1.0, least=6, limit=8),
        Waypoint(place=fixed(env, food, 0.0, 0.0, lift), near=0.025),
    ]
