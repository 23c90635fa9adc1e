"""The memory suite: tasks in which the picture of the moment does not tell what to do next.

Fixtures, foods and colours stand where they always do; the arm starts anywhere near its rest, and lights, rests and
speeds are drawn. Where a light speaks, the robot is held until 16 steps or more after it went out: at the release a
scene is the same whatever the light said, to the pixel, and no hand can have kept it. What must be remembered lasts 8
steps or more and lies within 96 steps.

Chance: a policy of one frame acts alike wherever the frame is alike, so with q its chance to go on there,
    press n times, then leave     q^(n-1) (1 - q) at most, the first press given
    open, close, leave            q (1 - q) at most
    a light, an origin            1/2
    a time                        q^2 (1 - q^3) at most: it decides every 8 steps, 3 decisions fall into the window
"""

from collections.abc import Callable
from dataclasses import replace

from numpy.random import Generator

from svms_gr00t.sim.layout import TINTED, Cue, Layout
from svms_gr00t.sim.scene import DRAWERS, FIXTURES, FOOD_SLOTS, FOODS
from svms_gr00t.sim.tasks.progress import ORDER, InOrder, LitDrawer, OnFor, OpenedThenClosed, Presses, Returned
from svms_gr00t.sim.tasks.task import KitchenState, Task

BLUE, RED = (0.1, 0.2, 1.0), (1.0, 0.1, 0.1)
LIGHTS = (BLUE, RED)
"""What the counter shines in for the first and for the second target."""
LIT, QUIET = 8, 16
"""Steps that a light shines, and steps after it before the robot may move at the earliest."""
SLOTS = (FOOD_SLOTS[0], FOOD_SLOTS[2])
"""Where the apple may come from."""
STATION = (FOOD_SLOTS[1][0], (FOOD_SLOTS[0][1] + FOOD_SLOTS[2][1]) / 2)
"""Where it is shown: between both."""
ON_STEPS, TOLERANCE = 40, 8
"""Two seconds at 20 Hz, give or take."""
LEVER_OFF = -0.3
"""Radians: off, and a short push from being on."""
_SIDES = ("first", "second")


def _usual(layout: Layout, _target: str, _rng: Generator) -> Layout:
    """Everything in its place, off and shut; of what was drawn the arm stays."""
    foods = {name: (x, y, 0.0) for name, (x, y) in zip(FOODS, FOOD_SLOTS, strict=True)}
    joints = {"drawer_left": 0.0, "drawer_right": 0.0, "stove": LEVER_OFF, "faucet": LEVER_OFF, "coffee": 0.0}
    return replace(
        layout,
        fixtures=dict(FIXTURES),
        foods=foods,
        joints=joints,
        colours=dict(TINTED),
        coffee_on=False,
        coffee_latches=False,
    )


def _lit(names: tuple[str, ...]) -> Callable[[Layout, str, Generator], Layout]:
    """A light that names one of two."""

    def setup(layout: Layout, target: str, rng: Generator) -> Layout:
        lit = int(rng.integers(0, 13))
        out = lit + LIT
        cue = Cue(rgb=LIGHTS[names.index(target)], lit=lit, out=out, release=out + QUIET + int(rng.integers(0, 17)))
        return replace(_usual(layout, target, rng), cue=cue)

    return setup


def _ajar(layout: Layout, target: str, rng: Generator) -> Layout:
    """The drawer is shut as a push leaves it: to a few millimetres."""
    usual = _usual(layout, target, rng)
    return usual.with_joint(f"drawer_{target}", float(rng.uniform(0.0, 0.004)))


def _apple_at_slot(layout: Layout, target: str, rng: Generator) -> Layout:
    usual = _usual(layout, target, rng)
    apple = (*SLOTS[_SIDES.index(target)], 0.0)
    return replace(usual, foods={"apple": apple, "lemon": (0.85, 0.42, 0.0), "cucumber": (0.85, -0.5, 0.0)})


def _done(state: KitchenState, _target: str) -> bool:
    return state.progress is not None and state.progress.done


MEMORY = (
    Task(
        name="PressTwice",
        phrasings=("press the coffee button twice", "push the coffee button two times"),
        held_out=("hit the button of the coffee machine two times", "two presses on the coffee button"),
        targets=("coffee",),
        setup=_usual,
        success=_done,
        progress=lambda _target: Presses(2),
        horizon=200,
        chance=1 / 4,
        chance_because="the lamp goes out again: above the button it presses with q or leaves, q (1 - q) at q = 1/2",
    ),
    Task(
        name="PressThrice",
        phrasings=("press the coffee button three times", "push the coffee button thrice"),
        held_out=("hit the button of the coffee machine three times", "three presses on the coffee button"),
        targets=("coffee",),
        setup=_usual,
        success=_done,
        progress=lambda _target: Presses(3),
        horizon=240,
        chance=4 / 27,
        chance_because="as PressTwice: q^2 (1 - q) at q = 2/3",
    ),
    Task(
        name="OpenThenCloseDrawer",
        phrasings=("open the {target} drawer, then close it", "pull the {target} drawer open and shut it again"),
        held_out=("slide the {target} drawer out and back in", "the {target} drawer should be opened, then closed"),
        targets=("left",),
        setup=_ajar,
        success=_done,
        progress=OpenedThenClosed,
        horizon=200,
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
        horizon=200,
        chance=1 / 2,
        chance_because="two sides; at the release both scenes are equal to the pixel",
    ),
    Task(
        name="OrderByLight",
        phrasings=(
            "blue light: coffee, then the stove, red light: the stove, then coffee",
            "press the coffee button and turn on the stove, as the light said",
        ),
        held_out=("coffee first if it was blue, the stove first if it was red", "both in the order of the light"),
        targets=ORDER,
        setup=_lit(ORDER),
        success=_done,
        progress=InOrder,
        horizon=240,
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
        horizon=240,
        chance=1 / 2,
        chance_because="two origins, both empty while the apple is shown in the middle",
    ),
    Task(
        name="StoveTwoSeconds",
        phrasings=("turn the stove on for two seconds", "switch the stove on and off again after two seconds"),
        held_out=("heat the burner for two seconds", "the stove should be on for two seconds"),
        targets=("stove",),
        setup=_usual,
        success=_done,
        progress=lambda _target: OnFor("stove", ON_STEPS, TOLERANCE),
        horizon=200,
        chance=0.326,
        chance_because="the hand waits at the lever and turns it off with 1 - q: q^2 (1 - q^3) at q^3 = 2/5",
    ),
)
"""Every task has one plan in `experts.memory`."""
