"""Where everything stands and in what state at the start of an episode, drawn from one generator.

Metres and radians as in `scene`. Fixtures move by up to 2 cm, foods lie anywhere in 10 x 6 cm zones whose order is
shuffled, arm joints get 0.02 rad of noise, and colours of counter, cabinet and floor vary.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from svms_gr00t.sim.scene import DRAWER_TRAVEL, DRAWERS, FIXTURES, FOOD_SLOTS, FOODS, LEVER_ANGLE

TINTED = {
    "counter": (0.50, 0.48, 0.46),
    "ground": (0.45, 0.42, 0.38),
    "wall": (0.60, 0.60, 0.55),
    "front_left": (0.55, 0.35, 0.20),
    "front_right": (0.55, 0.35, 0.20),
}
"""Geoms whose colour varies, with their usual RGB."""


DARK = (0.10, 0.10, 0.12)
"""RGB of a counter beside which nobody moves."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The robot is held at the start, and the counter is dark until it may move. A light may speak meanwhile."""

    release: int
    """First step at which actions count; before it the environment acts `world.REST` instead."""
    rgb: tuple[float, float, float] | None = None
    """What the counter shines in when it speaks."""
    lit: int = 0
    """First step at which it does."""
    out: int = 0
    """First step at which it does no more."""

    def colour(self, step: int) -> tuple[float, float, float] | None:
        """Of the counter at a step; None: as usual."""
        if self.rgb is not None and self.lit <= step < self.out:
            return self.rgb
        return DARK if step < self.release else None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One start of an episode."""

    fixtures: dict[str, tuple[float, float]]
    """(x, y) of each fixture, metres."""
    foods: dict[str, tuple[float, float, float]]
    """(x, y, yaw) of each food."""
    joints: dict[str, float]
    """Drawers (metres open), levers (radians, positive is on) and the coffee button."""
    arm_noise: tuple[float, ...]
    """Added to the seven arm joints, radians."""
    colours: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """RGB of the tinted geoms."""
    coffee_on: bool = False
    """Whether the coffee machine runs already."""
    coffee_latches: bool = True
    """Whether it goes on running when its button is let go."""
    base_bolted: bool = False
    """Whether the base is put back after every step. Else it sinks by a millimetre an episode, which tells the time."""
    wait: Wait | None = None
    """How the episode begins, where the robot is held at first."""

    def with_joint(self, name: str, value: float) -> "Layout":
        """The same layout with one joint elsewhere."""
        return replace(self, joints=self.joints | {name: value})


def _tint(rng: Generator, rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = np.clip(np.array(rgb) * rng.uniform(0.85, 1.1) + rng.uniform(-0.04, 0.04, 3), 0, 1)
    return float(red), float(green), float(blue)


def draw_layout(rng: Generator) -> Layout:
    """A layout in which every fixture is in a random state."""
    fixtures = {name: (x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02)) for name, (x, y) in FIXTURES.items()}
    joints = {f"drawer_{side}": draw_drawer(rng, open_=rng.random() < 0.4) for side in DRAWERS}
    joints |= {name: draw_lever(rng, on=rng.random() < 0.5) for name in ("stove", "faucet")}
    colours = {name: _tint(rng, rgb) for name, rgb in TINTED.items()}
    colours["front_right"] = colours["front_left"]
    return Layout(
        fixtures=fixtures,
        foods=_draw_foods(rng),
        joints=joints | {"coffee": 0.0},
        arm_noise=tuple(rng.uniform(-0.02, 0.02, 7)),
        colours=colours,
        coffee_on=bool(rng.random() < 0.5),
    )


def draw_drawer(rng: Generator, *, open_: bool) -> float:
    """How far a drawer stands open, metres."""
    return float(rng.uniform(0.11, DRAWER_TRAVEL - 0.005)) if open_ else 0.0


def draw_lever(rng: Generator, *, on: bool) -> float:
    """The angle of a lever that is clearly on or clearly off, radians."""
    return float((1 if on else -1) * rng.uniform(0.85, 1.0) * LEVER_ANGLE)


def _draw_foods(rng: Generator) -> dict[str, tuple[float, float, float]]:
    """Foods in shuffled zones, with room for a finger between neighbours."""
    while True:
        slots = rng.permutation(len(FOOD_SLOTS))
        foods = {}
        for name, slot in zip(FOODS, slots, strict=True):
            x, y = FOOD_SLOTS[slot]
            foods[name] = (x + rng.uniform(-0.05, 0.05), y + rng.uniform(-0.03, 0.03), rng.uniform(-0.3, 0.3))
        spots = sorted(foods.values(), key=lambda spot: spot[1])
        if all(b[1] - a[1] > 0.095 for a, b in pairwise(spots)):
            return foods
