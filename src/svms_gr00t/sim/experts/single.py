"""Plans for the nine tasks that one frame decides."""

from numpy.random import Generator

from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.plan import Place, Plan, Waypoint, fixed, grasp, handle


def _open_drawer(env: KitchenEnv, _rng: Generator) -> list[Waypoint]:
    side = env.target
    return [
        Waypoint(place=handle(side, 0.031, 0.20), near=0.025),
        Waypoint(place=handle(side, 0.031, 0.105), near=0.012, limit=25),
        Waypoint(place=fixed(env, f"drawer_{side}", -0.25, 0.0, 0.105), limit=60),
    ]


def _close_drawer(env: KitchenEnv, _rng: Generator) -> list[Waypoint]:
    side = env.target
    inward = env.joint(f"drawer_{side}")
    outward = 0.03 if side == "left" else -0.03  # the hand is wider than a drawer: keep clear of the other one
    drawer = f"drawer_{side}"
    return [
        Waypoint(place=fixed(env, drawer, -0.125, outward, 0.20), near=0.025),
        Waypoint(place=fixed(env, drawer, -0.125, outward, 0.12), near=0.015, limit=25),
        Waypoint(place=fixed(env, drawer, inward - 0.04, outward, 0.12), limit=60),
    ]


def push_lever(name: str, axis: int, sign: int) -> Plan:
    """Push a lever from one end of its swing to the other, along +-x (axis 0) or +-y (axis 1)."""

    def plan(env: KitchenEnv, _rng: Generator) -> list[Waypoint]:
        def at(along: float, height: float) -> Place:
            offset = (sign * along, 0.0) if axis == 0 else (0.0, sign * along)
            return fixed(env, f"{name}_lever", *offset, height)

        return [
            Waypoint(place=at(-0.10, 0.19), near=0.025),
            Waypoint(place=at(-0.10, 0.065), near=0.015, limit=25),
            Waypoint(place=at(0.07, 0.065), limit=50),
        ]

    return plan


def _press_button(env: KitchenEnv, _rng: Generator) -> list[Waypoint]:
    return [
        Waypoint(place=fixed(env, "button", 0.0, 0.0, 0.20), near=0.025),
        Waypoint(place=fixed(env, "button", 0.0, 0.0, 0.05), limit=40),
    ]


def _pick_food(env: KitchenEnv, _rng: Generator) -> list[Waypoint]:
    return grasp(env, env.target, 0.20)


def _place_in_bowl(env: KitchenEnv, _rng: Generator) -> list[Waypoint]:
    return [
        *grasp(env, env.target, 0.15),
        Waypoint(place=fixed(env, "bowl", 0.0, 0.0, 0.15), near=0.015),
        Waypoint(place=fixed(env, "bowl", 0.0, 0.0, 0.085), near=0.015, limit=15),
        Waypoint(place=fixed(env, "bowl", 0.0, 0.0, 0.085), closed=False, near=1.0, least=5, limit=6),
        Waypoint(place=fixed(env, "bowl", 0.0, 0.0, 0.20), closed=False),
    ]


SINGLE: dict[str, Plan] = {
    "OpenDrawer": _open_drawer,
    "CloseDrawer": _close_drawer,
    "TurnOnStove": push_lever("stove", 1, 1),
    "TurnOffStove": push_lever("stove", 1, -1),
    "StartCoffeeMachine": _press_button,
    "TurnOnSinkFaucet": push_lever("faucet", 0, 1),
    "TurnOffSinkFaucet": push_lever("faucet", 0, -1),
    "PickPlaceCounterToBowl": _place_in_bowl,
    "PickFood": _pick_food,
}
