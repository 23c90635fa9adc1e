"""Named actions to the 7 numbers that a LIBERO environment executes, and which way round a policy's gripper is.

    x, y, z, roll, pitch, yaw, gripper        one number each: the OSC_POSE controller's deltas, then -1 open, +1 closed

Two codings of the gripper are in use. LIBERO's own demonstrations hold the controller's -1 and +1. The RLDS copies that
GR00T N1.6 is fine-tuned on hold 0 for closed and 1 for open, so N1.6's rollouts send 1 - 2 g, made -1 or +1 by its sign
(Isaac-GR00T, gr00t/eval/sim/LIBERO/libero_env.py, read in a public copy; copies of its N1.5 example agree).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.closed_loop.named_action import read_parts

LAYOUT: dict[str, int] = dict.fromkeys(("x", "y", "z", "roll", "pitch", "yaw", "gripper"), 1)
"""Action key -> width, in the environment's order."""


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """How a policy writes its gripper."""

    threshold: float = 0.5
    """The midpoint of the two values."""
    opens: bool = True
    """Whether the larger value is the open gripper."""

    @classmethod
    def trained_on(cls, statistics: Mapping[str, Any]) -> "Gripper":
        """From "min" and "max" of the training data: {0, 1} opens, {-1, 1} closes. Raises ConfigError for others."""
        low, high = (float(np.asarray(statistics[key]).item()) for key in ("min", "max"))
        if np.allclose((low, high), (0.0, 1.0), atol=1e-3):
            return cls()
        if np.allclose((low, high), (-1.0, 1.0), atol=1e-3):
            return cls(threshold=0.0, opens=False)
        want = "0 to 1 (1 is open) or -1 to 1 (1 is closed)"
        raise ConfigError("gripper in the training data", got=(low, high), want=want, hint="Write it as one of these")


def assemble(action: Mapping[str, ndarray], *, gripper: Gripper) -> Float64[ndarray, "7"]:
    """One step's named actions as the environment's vector; the gripper becomes -1 (open) or +1 (closed).

    Raises ConfigError for missing keys, unknown keys, wrong widths, NaN and infinity.
    """
    parts = read_parts(action, LAYOUT)
    above = parts["gripper"] > gripper.threshold
    parts["gripper"] = np.where(above != gripper.opens, 1.0, -1.0)
    return np.concatenate(list(parts.values()))
