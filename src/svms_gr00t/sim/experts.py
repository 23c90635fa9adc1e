"""Scripted demonstrators: waypoints from privileged state, tracked in hand space, with small seeded action noise.

A waypoint is a hand position (metres, world), whether the fingers are closed, and how near is near enough. Positions
are functions of the state, so a moved drawer or food moves its waypoints too. The hand keeps pointing down.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.scene import COUNTER

Place = Callable[[KitchenEnv], ndarray]

DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""World axes of a hand that points straight down with its fingers opening along y."""
_GAIN = 12.0  # action per metre of error: 8 cm away or more means full speed
_TURN = 1.5  # action per radian of error
NOISE = 0.06
"""Standard deviation of the noise on position actions."""


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
    gain: float = _GAIN
    """Action per metre of error."""


class Expert:
    """Follows the plan of the environment's present task; ask `act()` once per step."""

    def __init__(self, env: KitchenEnv, seed: int) -> None:
        assert env.task is not None, "reset the environment first"
        self._env = env
        self._plan = _PLANS[env.task.name](env)
        self._rng = np.random.default_rng([seed, 7])
        self._leg = 0
        self._steps = 0

    def act(self) -> Float64[ndarray, "12"]:
        """The next action, in the environment's order."""
        leg = self._plan[self._leg]
        error = leg.place(self._env) - self._env.hand()
        done = (np.linalg.norm(error) < leg.near and self._steps >= leg.least) or self._steps >= leg.limit
        if done and self._leg + 1 < len(self._plan):
            self._leg, self._steps = self._leg + 1, 0
            leg = self._plan[self._leg]
            error = leg.place(self._env) - self._env.hand()
        self._steps += 1
        action = np.zeros(12)
        action[:3] = np.clip(error * leg.gain, -1, 1) + self._rng.normal(0, NOISE, 3)
        action[3:6] = np.clip(_turn(DOWN @ self._env.hand_axes().T) * _TURN, -0.5, 0.5)
        action[6] = 1.0 if leg.closed else -1.0
        action[11] = -1.0
        return np.clip(action, -1.0, 1.0)


def _turn(rotation: ndarray) -> Float64[ndarray, "3"]:
    """Small-angle axis-angle of a rotation matrix."""
    return 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )


def _beside(name: str, dx: float, dy: float, height: float) -> Place:
    """A spot beside a body, at a height above the counter."""
    return lambda env: np.array([*(env.position(name)[:2] + np.array([dx, dy])), COUNTER + height])


def _fixed(env: KitchenEnv, name: str, dx: float, dy: float, height: float) -> Place:
    """Like `_beside`, but where the body was when the plan was made."""
    spot = _beside(name, dx, dy, height)(env)
    return lambda _env: spot


def _handle(side: str, dx: float, height: float) -> Place:
    return _beside(f"drawer_{side}", -0.065 + dx, 0.0, height)


def _open_drawer(env: KitchenEnv) -> list[Waypoint]:
    side = env.target
    return [
        Waypoint(place=_handle(side, 0.031, 0.20), near=0.025),
        Waypoint(place=_handle(side, 0.031, 0.105), near=0.012, limit=25),
        Waypoint(place=_fixed(env, f"drawer_{side}", -0.25, 0.0, 0.105), limit=60),
    ]


def _close_drawer(env: KitchenEnv) -> list[Waypoint]:
    side = env.target
    inward = env.joint(f"drawer_{side}")
    outward = 0.03 if side == "left" else -0.03  # the hand is wider than a drawer: keep clear of the other one
    drawer = f"drawer_{side}"
    return [
        Waypoint(place=_fixed(env, drawer, -0.125, outward, 0.20), near=0.025),
        Waypoint(place=_fixed(env, drawer, -0.125, outward, 0.12), near=0.015, limit=25),
        Waypoint(place=_fixed(env, drawer, inward - 0.04, outward, 0.12), limit=60),
    ]


def _push_lever(name: str, axis: int, sign: int) -> Callable[[KitchenEnv], list[Waypoint]]:
    """Push a lever from one end of its swing to the other, along +-x (axis 0) or +-y (axis 1)."""

    def plan(env: KitchenEnv) -> list[Waypoint]:
        def at(along: float, height: float) -> Place:
            offset = (sign * along, 0.0) if axis == 0 else (0.0, sign * along)
            return _fixed(env, f"{name}_lever", *offset, height)

        return [
            Waypoint(place=at(-0.10, 0.19), near=0.025),
            Waypoint(place=at(-0.10, 0.065), near=0.015, limit=25),
            Waypoint(place=at(0.07, 0.065), limit=50),
        ]

    return plan


def _press_button(env: KitchenEnv) -> list[Waypoint]:
    return [
        Waypoint(place=_fixed(env, "button", 0.0, 0.0, 0.20), near=0.025),
        Waypoint(place=_fixed(env, "button", 0.0, 0.0, 0.05), limit=40),
    ]


def _grasp(env: KitchenEnv, lift: float) -> list[Waypoint]:
    food = env.target
    return [
        Waypoint(place=_fixed(env, food, 0.0, 0.0, 0.12), closed=False, near=0.015),
        Waypoint(place=_fixed(env, food, 0.0, 0.0, 0.022), closed=False, near=0.008, limit=30),
        Waypoint(place=_fixed(env, food, 0.0, 0.0, 0.022), near=1.0, least=6, limit=8),
        Waypoint(place=_fixed(env, food, 0.0, 0.0, lift), near=0.025),
    ]


def _pick_food(env: KitchenEnv) -> list[Waypoint]:
    return _grasp(env, 0.20)


def _place_in_bowl(env: KitchenEnv) -> list[Waypoint]:
    return [
        *_grasp(env, 0.15),
        Waypoint(place=_fixed(env, "bowl", 0.0, 0.0, 0.15), near=0.015),
        Waypoint(place=_fixed(env, "bowl", 0.0, 0.0, 0.085), near=0.015, limit=15),
        Waypoint(place=_fixed(env, "bowl", 0.0, 0.0, 0.085), closed=False, near=1.0, least=5, limit=6),
        Waypoint(place=_fixed(env, "bowl", 0.0, 0.0, 0.20), closed=False),
    ]


_PLANS: dict[str, Callable[[KitchenEnv], list[Waypoint]]] = {
    "OpenDrawer": _open_drawer,
    "CloseDrawer": _close_drawer,
    "TurnOnStove": _push_lever("stove", 1, 1),
    "TurnOffStove": _push_lever("stove", 1, -1),
    "StartCoffeeMachine": _press_button,
    "TurnOnSinkFaucet": _push_lever("faucet", 0, 1),
    "TurnOffSinkFaucet": _push_lever("faucet", 0, -1),
    "PickPlaceCounterToBowl": _place_in_bowl,
    "PickFood": _pick_food,
}
