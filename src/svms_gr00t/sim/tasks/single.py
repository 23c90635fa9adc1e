"""The nine tasks that one frame and a sentence decide: words, start, and what counts as done.

A task draws a target from its own start (a side, a food), so that language decides among scenes that look alike.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from svms_gr00t.sim.layout import Layout, draw_drawer, draw_lever
from svms_gr00t.sim.scene import COUNTER, DRAWERS, FOODS
from svms_gr00t.sim.tasks.task import KitchenState, Task


def _drawer(open_: bool) -> Callable[[Layout, str, Generator], Layout]:
    def setup(layout: Layout, side: str, rng: Generator) -> Layout:
        # Both drawers start alike: only the sentence says which one is meant.
        for name in DRAWERS:
            layout = layout.with_joint(f"drawer_{name}", draw_drawer(rng, open_=open_))
        return layout

    return setup


def _lever(name: str, on: bool) -> Callable[[Layout, str, Generator], Layout]:
    return lambda layout, _target, rng: layout.with_joint(name, draw_lever(rng, on=on))


def _opened(state: KitchenState, side: str) -> bool:
    other = DRAWERS[1 - DRAWERS.index(side)]
    return state.joint(f"drawer_{side}") > 0.09 and state.joint(f"drawer_{other}") < 0.05


def _closed(state: KitchenState, side: str) -> bool:
    other = DRAWERS[1 - DRAWERS.index(side)]
    return state.joint(f"drawer_{side}") < 0.015 and state.joint(f"drawer_{other}") > 0.07


def _switched(name: str, on: bool) -> Callable[[KitchenState, str], bool]:
    return lambda state, _target: (state.joint(name) > 0.2) if on else (state.joint(name) < -0.2)


def _in_bowl(state: KitchenState, food: str) -> bool:
    offset = state.position(food) - state.position("bowl")
    let_go = float(np.linalg.norm(state.hand() - state.position(food))) > 0.06
    return bool(np.hypot(offset[0], offset[1]) < 0.06 and offset[2] < 0.07 and let_go)


def _lifted(state: KitchenState, food: str) -> bool:
    return bool(state.position(food)[2] > COUNTER + 0.10) and all(
        state.position(other)[2] < COUNTER + 0.08 for other in FOODS if other != food
    )


def _as_drawn(layout: Layout, _target: str, _rng: Generator) -> Layout:
    return layout


SINGLE = (
    Task(
        name="OpenDrawer",
        phrasings=("open the {target} drawer", "pull the {target} drawer open", "pull out the {target} drawer"),
        held_out=("slide the drawer on the {target} out", "the {target} drawer should be open"),
        targets=DRAWERS,
        setup=_drawer(open_=False),
        success=_opened,
        horizon=120,
    ),
    Task(
        name="CloseDrawer",
        phrasings=("close the {target} drawer", "push the {target} drawer shut", "shut the {target} drawer"),
        held_out=("slide the drawer on the {target} back in", "the {target} drawer should be closed"),
        targets=DRAWERS,
        setup=_drawer(open_=True),
        success=_closed,
        horizon=120,
    ),
    Task(
        name="TurnOnStove",
        phrasings=("turn on the stove", "switch the stove on", "turn the burner on"),
        held_out=("light the stove", "start heating the burner"),
        targets=("stove",),
        setup=_lever("stove", on=False),
        success=_switched("stove", on=True),
        horizon=120,
    ),
    Task(
        name="TurnOffStove",
        phrasings=("turn off the stove", "switch the stove off", "turn the burner off"),
        held_out=("stop the stove", "make the burner cold"),
        targets=("stove",),
        setup=_lever("stove", on=True),
        success=_switched("stove", on=False),
        horizon=120,
    ),
    Task(
        name="StartCoffeeMachine",
        phrasings=("start the coffee machine", "press the coffee machine button", "make coffee"),
        held_out=("get the coffee going", "push the button to brew coffee"),
        targets=("coffee",),
        setup=lambda layout, _target, _rng: replace(layout, coffee_on=False),
        success=lambda state, _target: state.coffee_on,
        horizon=120,
    ),
    Task(
        name="TurnOnSinkFaucet",
        phrasings=("turn on the sink faucet", "turn on the water", "switch the faucet on"),
        held_out=("let the water run", "open the tap"),
        targets=("faucet",),
        setup=_lever("faucet", on=False),
        success=_switched("faucet", on=True),
        horizon=120,
    ),
    Task(
        name="TurnOffSinkFaucet",
        phrasings=("turn off the sink faucet", "turn off the water", "switch the faucet off"),
        held_out=("stop the water", "close the tap"),
        targets=("faucet",),
        setup=_lever("faucet", on=True),
        success=_switched("faucet", on=False),
        horizon=120,
    ),
    Task(
        name="PickPlaceCounterToBowl",
        phrasings=("put the {target} in the bowl", "place the {target} in the bowl", "move the {target} to the bowl"),
        held_out=("drop the {target} into the bowl", "the {target} belongs in the bowl"),
        targets=FOODS,
        setup=_as_drawn,
        success=_in_bowl,
        horizon=200,
    ),
    Task(
        name="PickFood",
        phrasings=("pick up the {target}", "lift the {target}", "grab the {target}"),
        held_out=("take the {target} off the counter", "hold the {target} in the air"),
        targets=FOODS,
        setup=_as_drawn,
        success=_lifted,
        horizon=120,
    ),
)
