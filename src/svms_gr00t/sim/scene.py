"""The kitchen counter as MJCF, built from boxes and cylinders only.

Metres; x points from the robot to the counter, y to its left, z up; the origin is under the robot's arm. `COUNTER` is
the height of the counter. All geoms are in group 0, the only one robosuite counts for mass; `KitchenEnv` moves them to
group 2.
"""

import math

COUNTER = 0.95
FOODS = ("apple", "lemon", "cucumber")
DRAWERS = ("left", "right")
FIXTURES: dict[str, tuple[float, float]] = {
    "cabinet": (0.76, 0.02),
    "stove": (0.40, -0.435),
    "coffee": (0.60, -0.33),
    "sink": (0.44, 0.42),
    "bowl": (0.39, 0.265),
}
"""Nominal (x, y) of each fixture."""
FOOD_SLOTS = ((0.39, -0.12), (0.39, -0.025), (0.39, 0.07))
"""Centres of the three zones where foods lie."""
DRAWER_TRAVEL = 0.14
LEVER_ANGLE = 0.5
BUTTON_TRAVEL = 0.02
PRESSED = 0.6 * BUTTON_TRAVEL
"""How deep the button of the coffee machine is when it counts as pressed."""

_SOLID = 'group="0" solref="0.01 1"'
_SEEN = 'group="0" contype="0" conaffinity="0"'
_LOOK = {"apple": "0.85 0.08 0.08 1", "lemon": "1 0.85 0.1 1", "cucumber": "0.1 0.6 0.15 1"}
_SHAPE = {
    "apple": 'type="cylinder" size="0.024 0.026"',
    "lemon": 'type="box" size="0.024 0.022 0.024"',
    "cucumber": 'type="box" size="0.045 0.02 0.022"',
}


def _drawer(side: str, y: float) -> str:
    return f"""
    <body name="drawer_{side}" pos="-0.04 {y} 0.09">
      <joint name="drawer_{side}" type="slide" axis="-1 0 0" range="0 {DRAWER_TRAVEL}" limited="true" damping="8"
             frictionloss="1.5" armature="0.1"/>
      <geom name="front_{side}" {_SOLID} type="box" size="0.01 0.08 0.06" mass="0.4" rgba="0.55 0.35 0.2 1"/>
      <geom {_SEEN} type="box" size="0.075 0.07 0.045" pos="0.08 0 -0.01" mass="0.1" rgba="0.8 0.7 0.55 1"/>
      <geom name="handle_{side}" {_SOLID} type="box" size="0.007 0.055 0.012" pos="-0.065 0 0.025" mass="0.1"
            rgba="0.9 0.9 0.92 1"/>
      <geom {_SOLID} type="box" size="0.03 0.005 0.01" pos="-0.035 0.055 0.025" mass="0.02" rgba="0.9 0.9 0.92 1"/>
      <geom {_SOLID} type="box" size="0.03 0.005 0.01" pos="-0.035 -0.055 0.025" mass="0.02" rgba="0.9 0.9 0.92 1"/>
    </body>"""


def _lever(name: str, place: str, axis: str, rgba: str) -> str:
    return f"""
    <body name="{name}_lever" pos="{place}">
      <joint name="{name}" type="hinge" axis="{axis}" range="-{LEVER_ANGLE} {LEVER_ANGLE}" limited="true" damping="0.05"
             frictionloss="0.06" armature="0.002"/>
      <geom name="{name}_stick" {_SOLID} type="capsule" fromto="0 0 0 0 0 0.095" size="0.011" mass="0.05"
            rgba="{rgba}"/>
      <geom {_SOLID} type="sphere" pos="0 0 0.095" size="0.016" mass="0.02" rgba="{rgba}"/>
    </body>"""


def _bowl() -> str:
    walls = []
    for k in range(10):
        angle = 2 * math.pi * k / 10
        x, y = 0.068 * math.cos(angle), 0.068 * math.sin(angle)
        walls.append(
            f'<geom {_SOLID} type="box" size="0.004 0.023 0.02" pos="{x:.4f} {y:.4f} 0.024" euler="0 0 {angle:.4f}" '
            'rgba="0.2 0.45 0.85 1"/>'
        )
    base = f'<geom {_SOLID} type="cylinder" size="0.068 0.004" pos="0 0 0.004" rgba="0.3 0.55 0.95 1"/>'
    return base + "".join(walls)


def _food(name: str) -> str:
    return f"""
    <body name="{name}" pos="0.39 0 {COUNTER + 0.05}">
      <freejoint name="{name}"/>
      <geom name="{name}" group="0" {_SHAPE[name]} mass="0.05" friction="2 0.02 0.002" condim="4" rgba="{_LOOK[name]}"
            solref="0.01 1"/>
    </body>"""


def kitchen_xml() -> str:
    """The bodies, as one `<mujoco>` document whose `<worldbody>` is added to an empty arena."""
    place = {name: f"{x} {y} {COUNTER}" for name, (x, y) in FIXTURES.items()}
    foods = "".join(_food(name) for name in FOODS)
    return f"""<mujoco><worldbody>
  <light pos="0.2 0.6 2.5" dir="0.1 -0.3 -1" directional="true" diffuse="0.15 0.15 0.15" castshadow="false"/>
  <geom name="ground" {_SEEN} type="plane" size="4 4 0.1" rgba="0.62 0.58 0.53 1"/>
  <geom name="wall" {_SEEN} type="box" size="0.02 2 1" pos="1.05 0 1" rgba="0.86 0.84 0.78 1"/>
  <geom name="counter" {_SOLID} type="box" size="0.36 0.62 0.03" pos="0.60 0 {COUNTER - 0.03}" rgba="0.5 0.48 0.46 1"/>
  <geom {_SEEN} type="box" size="0.34 0.6 0.445" pos="0.61 0 0.445" rgba="0.9 0.9 0.88 1"/>
  <body name="cabinet" pos="{place["cabinet"]}">
    <geom {_SEEN} type="box" size="0.08 0.18 0.012" pos="0.05 0 0.165" rgba="0.45 0.28 0.16 1"/>
    <geom {_SEEN} type="box" size="0.08 0.006 0.075" pos="0.05 0.175 0.08" rgba="0.45 0.28 0.16 1"/>
    <geom {_SEEN} type="box" size="0.08 0.006 0.075" pos="0.05 -0.175 0.08" rgba="0.45 0.28 0.16 1"/>
    {_drawer("left", 0.086)}{_drawer("right", -0.086)}
  </body>
  <body name="stove" pos="{place["stove"]}">
    <geom {_SOLID} type="box" size="0.09 0.08 0.01" pos="0 0 0.01" rgba="0.2 0.2 0.22 1"/>
    <geom name="burner" {_SEEN} type="cylinder" size="0.06 0.004" pos="0 0 0.022" rgba="0.1 0.1 0.1 1"/>
    {_lever("stove", "0 0.115 0.005", "-1 0 0", "0.9 0.45 0.1 1")}
  </body>
  <body name="coffee" pos="{place["coffee"]}">
    <geom {_SOLID} type="box" size="0.06 0.06 0.05" pos="0 0 0.05" rgba="0.3 0.3 0.34 1"/>
    <geom {_SEEN} type="box" size="0.02 0.06 0.10" pos="0.075 0 0.10" rgba="0.22 0.22 0.26 1"/>
    <geom name="lamp" {_SEEN} type="box" size="0.004 0.05 0.02" pos="-0.062 0 0.06" rgba="0.3 0.05 0.05 1"/>
    <body name="button" pos="0 0 0.12">
      <joint name="coffee" type="slide" axis="0 0 -1" range="0 {BUTTON_TRAVEL}" limited="true" stiffness="90"
             springref="-0.01" damping="3" armature="0.02"/>
      <geom {_SOLID} type="cylinder" size="0.03 0.012" mass="0.05" rgba="0.9 0.1 0.6 1"/>
    </body>
  </body>
  <body name="sink" pos="{place["sink"]}">
    <geom {_SOLID} type="box" size="0.10 0.09 0.005" pos="0 0 0.005" rgba="0.55 0.6 0.65 1"/>
    <geom {_SEEN} type="box" size="0.085 0.075 0.002" pos="0 0 0.011" rgba="0.3 0.33 0.38 1"/>
    <geom {_SOLID} type="cylinder" size="0.012 0.08" pos="0.12 0.05 0.08" rgba="0.85 0.87 0.9 1"/>
    <geom {_SOLID} type="box" size="0.06 0.012 0.01" pos="0.07 0.05 0.165" rgba="0.85 0.87 0.9 1"/>
    <geom name="water" {_SEEN} type="cylinder" size="0.012 0.07" pos="0.02 0.05 0.085" rgba="0.1 0.5 1 1"/>
    {_lever("faucet", "0.10 -0.11 0.005", "0 1 0", "0.1 0.75 0.75 1")}
  </body>
  <body name="bowl" pos="{place["bowl"]}">{_bowl()}</body>
  {foods}
</worldbody></mujoco>"""
