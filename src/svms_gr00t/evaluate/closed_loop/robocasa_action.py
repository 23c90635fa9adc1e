"""Named actions to the 12 numbers that a RoboCasa environment executes.

    end_effector_position 3, end_effector_rotation 3, gripper_close 1, base_motion 4 (3 base, 1 torso), control_mode 1

This is the environment's (HDF5) order; LeRobot files store base and mode first. Gripper and mode become -1 or +1.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.closed_loop.named_action import read_part

LAYOUT: dict[str, int] = {
    "end_effector_position": 3,
    "end_effector_rotation": 3,
    "gripper_close": 1,
    "base_motion": 4,
    "control_mode": 1,
}
"""Action key -> width, in the environment's order."""
REST = {"base_motion": 0.0, "control_mode": -1.0}
"""What a fixed-base policy may leave out: the base stands still and the arm is in control."""
SWITCHES = ("gripper_close", "control_mode")


def assemble(action: Mapping[str, ndarray], *, threshold: float = 0.0) -> Float64[ndarray, "12"]:
    """One step's named actions as the environment's vector; a switch above `threshold` is +1, else -1.

    `threshold` is the midpoint of the switches in the training data: 0 for {-1, +1}, 0.5 for {0, 1}. Raises ConfigError
    for missing keys, unknown keys, wrong widths, NaN and infinity.
    """
    if unknown := sorted(action.keys() - LAYOUT.keys()):
        hint = "Evaluate on the robot that the policy was trained for"
        raise ConfigError("action keys", got=unknown, want=f"keys among {list(LAYOUT)}", hint=hint)
    parts = [_part(action, key, width, threshold) for key, width in LAYOUT.items()]
    return np.concatenate(parts)


def _part(action: Mapping[str, ndarray], key: str, width: int, threshold: float) -> ndarray:
    if key not in action:
        if key in REST:
            return np.full(width, REST[key])
        hint = "Evaluate on the robot that the policy was trained for"
        raise ConfigError("action keys", got=sorted(action), want=f"key {key!r} too", hint=hint)
    value = read_part(key, action[key], width)
    return np.where(value > threshold, 1.0, -1.0) if key in SWITCHES else value
