"""The memory suite: tasks in which the picture of the moment does not tell what to do next.

Fixtures, foods and colours stand where they always do. The robot is held at first, before a dark counter, for a time
that is drawn; the arm's start, rests and speeds are drawn as well. A light speaks while the robot is held, and goes out
16 steps or more before it may move: at the release a scene is the same whatever the light said, to the pixel, and no
hand can have kept it. What must be remembered lasts 8 steps or more and lies within 96 steps.

Chance: a policy of one frame acts alike wherever the frame is alike, so with q its chance to go on there,
    press n times, then leave     q^(n-1) (1 - q) at most, the first press given
    open, close, leave            q (1 - q) at most
    a light, an origin            1/2
    a time                        q^3 (1 - q^3) at most: it decides every 8 steps, 3 times before the window, 3 in it
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from svms_gr00t.sim.layout import TINTED, Layout, Wait
from svms_gr00t.sim.scene import DRAWERS, FIXTURES, FOOD_SLOTS, FOODS
from svms_gr00t.sim.tasks.progress import ORDER, HeldFor, InOrder, LitDrawer, OpenedThenClosed, Presses, Returned
from svms_gr00t.sim.tasks.task import KitchenState, Task
from svms_gr00t.sim.world import ARM_REST

BLUE, RED = (0.1, 0.2, 1.0), (1.0, 0.1, 0.1)
LIGHTS = (BLUE, RED)
"""What the counter shines in for the first and for the second target."""
LIT, QUIET = 8, 16
"""Steps that a light shines, and steps after it before the robot may move at the earliest."""
SLOTS = (FOOD_SLOTS[0], FOOD_SLOTS[2])
"""Where the apple may come from."""
STATION = (FOOD_SLOTS[1][0], (FOOD_SLOTS[0][1] + FOOD_SLOTS[2][1]) / 2)
"""Where it is shown: between both."""
HELD_STEPS, TOLERANCE = 40, 10
"""Two seconds at 20 Hz, give or take."""
LEVER_OFF = (-0.34, -0.28)
"""Radians: off, and a short push from being on. Levers creep by a hundredth in an episode: none starts alike."""
ABOVE = {
    "button": (-0.248, 0.543, -0.315, -1.543, 0.184, 2.03, 0.178),
    "drawer_left": (0.075, 0.549, 0.101, -1.501, -0.06, 2.017, 0.975),
    "first": (-0.058, -0.266, -0.247, -2.653, -0.095, 2.392, 0.559),
    "second": (0.045, -0.297, 0.139, -2.689, 0.060, 2.393, 0.920),
}
"""Arm joints of a hand above a fixture or above a slot of the apple, radians."""
_SIDES = ("first", "second")


Setup = Callable[[Layout, str, Generator], Layout]


def _usual(most: int, over: str | None = None, least: float = 0.0) -> Setup:
    """Everything in its place, off and shut, but for millimetres; held for 8 to `most` steps.

    The arm starts anywhere between its rest (0) and the place `over` which it will work (1), from `least` on, so that
    neither the elapsed time nor the arm's elbow tells how much was done.
    """

    def setup(layout: Layout, _target: str, rng: Generator) -> Layout:
        release = int(rng.integers(8, most + 1))
        start = np.array(layout.arm_noise)
        if over is not None:
            start = start + rng.uniform(least, 1.0) * (np.array(ABOVE[over]) - ARM_REST)
        joints = {"drawer_left": rng.uniform(0, 0.004), "drawer_right": rng.uniform(0, 0.004), "coffee": 0.0}
        joints |= {name: float(rng.uniform(*LEVER_OFF)) for name in ("stove", "faucet")}
        return replace(
            layout,
            fixtures=dict(FIXTURES),
            foods={name: _about(spot, rng) for name, spot in zip(FOODS, FOOD_SLOTS, strict=True)},
            joints=joints,
            arm_noise=tuple(start),
            colours=dict(TINTED),
            coffee_on=False,
            coffee_latches=False,
            base_bolted=True,
            wait=Wait(release=release),
        )

    return setup


def _about(spot: tuple[float, float], rng: Generator) -> tuple[float, float, float]:
    x, y = np.array(spot) + rng.uniform(-0.004, 0.004, 2)
    return float(x), float(y), float(rng.uniform(-0.1, 0.1))


def _lit(names: tuple[str, ...]) -> Setup:
    """A light that names one of two."""

    def setup(layout: Layout, target: str, rng: Generator) -> Layout:
        lit = int(rng.integers(4, 17))
        out = lit + LIT
        release = out + QUIET + int(rng.integers(0, 25))
        wait = Wait(rgb=LIGHTS[names.index(target)], lit=lit, out=out, release=release)
        return replace(_usual(8)(layout, target, rng), wait=wait)

    return setup


def _apple_at_slot(layout: Layout, target: str, rng: Generator) -> Layout:
    """The hand is held over the apple: whoever lifts it has felt where it lay, however little the pictures tell."""
    usual = _usual(32, over=target, least=0.5)(layout, target, rng)
    spots = {"apple": SLOTS[_SIDES.index(target)], "lemon": (0.85, 0.42), "cucumber": (0.85, -0.5)}
    return replace(usual, foods={name: _about(spot, rng) for name, spot in spots.items()})


def _done(state: KitchenState, _target: str) -> bool:
    return state.progress is not None and state.progress.done


MEMORY = (
    Task(
        name="PressTwice",
        phrasings=("press the coffee button twice", "push the coffee button two times"),
        held_out=("hit the button of the coffee machine two times", "two presses on the coffee button"),
        targets=("coffee",),
        setup=_usual(104, over="button"),
        success=_done,
        progress=lambda _target: Presses(2),
        horizon=300,
        chance=1 / 4,
        chance_because="the lamp goes out again: above the button it presses with q or leaves, q (1 - q) at q = 1/2",
    ),
    Task(
        name="PressThrice",
        phrasings=("press the coffee button three times", "push the coffee button thrice"),
        held_out=("hit the button of the coffee machine three times", "three presses on the coffee button"),
        targets=("coffee",),
        setup=_usual(104, over="button"),
        success=_done,
        progress=lambda _target: Presses(3),
        horizon=300,
        chance=4 / 27,
        chance_because="as PressTwice: q^2 (1 - q) at q = 2/3",
    ),
    Task(
        name="OpenThenCloseDrawer",
        phrasings=("open the {target} drawer, then close it", "pull the {target} drawer open and shut it again"),
        held_out=("slide the {target} drawer out and back in", "the {target} drawer should be opened, then closed"),
        targets=("left",),
        setup=_usual(136, over="drawer_left"),
        success=_done,
        progress=OpenedThenClosed,
        horizon=300,
        chance=1 / 4,
        chance_because="the hand at the shut drawer pulls with q or leaves, once each: q (1 - q) at q = 1/2",
    ),
    Task(
        name="OpenLitDrawer",
        phrasings=(
            "blue light: open the left drawer, red light: the right one",
            "open the drawer that the light meant",
        ),
        held_out=("pull out the drawer of the light", "left drawer if it was blue, right drawer if it was red"),
        targets=DRAWERS,
        setup=_lit(DRAWERS),
        success=_done,
        progress=LitDrawer,
        horizon=260,
        chance=1 / 2,
        chance_because="two sides; at the release both scenes are equal to the pixel",
    ),
    Task(
        name="OrderByLight",
        phrasings=(
            "blue light: coffee, then the left drawer, red light: the left drawer, then coffee",
            "press the coffee button and open the left drawer, as the light said",
        ),
        held_out=("coffee first if it was blue, the left drawer if it was red", "both in the order of the light"),
        targets=ORDER,
        setup=_lit(ORDER),
        success=_done,
        progress=InOrder,
        horizon=260,
        chance=1 / 2,
        chance_because="two orders; at the release both scenes are equal to the pixel",
    ),
    Task(
        name="PutBack",
        phrasings=("show the apple, then put it back", "lift the apple to the middle and put it back where it was"),
        held_out=("hold up the apple, then return it to its place", "take the apple up and lay it where it came from"),
        targets=_SIDES,
        setup=_apple_at_slot,
        success=_done,
        progress=lambda target: Returned("apple", SLOTS, STATION, _SIDES.index(target)),
        horizon=260,
        chance=1 / 2,
        chance_because="two origins, both empty while the apple is shown in the middle",
    ),
    Task(
        name="HoldTwoSeconds",
        phrasings=("hold the coffee button down for two seconds", "keep the coffee button pressed for two seconds"),
        held_out=(
            "two seconds on the coffee button, without letting go",
            "the coffee button: one press of two seconds",
        ),
        targets=("coffee",),
        setup=_usual(72, over="button"),
        success=_done,
        progress=lambda _target: HeldFor(HELD_STEPS, TOLERANCE),
        horizon=260,
        chance=1 / 4,
        chance_because="the hand on the button lets go with 1 - q every 8 steps: q^3 (1 - q^3) at q^3 = 1/2",
    ),
)
"""Every task has one plan in `experts.memory`."""
