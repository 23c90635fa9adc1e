"""Named actions to the 8 numbers that a RoboMME environment executes (its action space `joint_angle`).

    joints (7), radians, absolute; gripper (1), -1 closed, +1 open        as its training data have them

Source: RoboMME/robomme_benchmark, doc/env_format.md and doc/h5_data_format.md. The two tasks with a stick in place of
the gripper leave the last number out themselves.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from svms_gr00t.evaluate.closed_loop.named_action import read_parts

LAYOUT = {"joints": 7, "gripper": 1}
"""Action key -> width, in the environment's order."""


def assemble(action: Mapping[str, ndarray]) -> Float64[ndarray, "8"]:
    """One step's named actions as the environment's vector, the gripper as it is.

    Raises ConfigError for missing keys, unknown keys, wrong widths, NaN and infinity.
    """
    return np.concatenate(list(read_parts(action, LAYOUT).values()))
