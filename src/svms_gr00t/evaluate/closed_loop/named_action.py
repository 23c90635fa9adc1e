"""One step's named actions, checked against what an environment executes."""

from collections.abc import Mapping

import numpy as np
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError


def read_parts(action: Mapping[str, ndarray], layout: Mapping[str, int]) -> dict[str, ndarray]:
    """The actions of all keys of `layout` (key -> width), in its order, as float64.

    Raises ConfigError for missing keys, unknown keys, wrong widths, NaN and infinity.
    """
    if action.keys() != layout.keys():
        want, hint = f"the keys {', '.join(layout)}", "Evaluate on the robot that the policy was trained for"
        raise ConfigError("action keys", got=sorted(action), want=want, hint=hint)
    return {key: read_part(key, action[key], width) for key, width in layout.items()}


def read_part(key: str, value: ndarray, width: int) -> ndarray:
    """The numbers of one key. Raises ConfigError for another width, NaN and infinity."""
    found = np.asarray(value, dtype=np.float64)
    if found.shape != (width,) or not np.isfinite(found).all():
        want = "one finite number" if width == 1 else f"{width} finite numbers"
        hint = "Look at the policy's output and statistics"
        raise ConfigError(f"action {key}", got=found.tolist(), want=want, hint=hint)
    return found
