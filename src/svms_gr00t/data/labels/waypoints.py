"""Grounded targets: where the hand goes next, when it gets there, how it is now, from the recorded motion alone.

Axes: T steps of an episode, N waypoints.

    W     = corners of the hand's path and changes of the gripper's sign, at least 4 steps apart; the last step is one
    k(t)  = the first waypoint after t, and the last one at the end
    where = [p(W_k), p(W_k+1)]                                         metres
    when  = [log(1 + W_k - t) / log 40, t / (T - 1), (N - k) / 8]      k counts from 0: N - k waypoints are left
    how   = [p_t, width_t, p_(t+8)]                                    metres

Past the end the last waypoint and the last step are repeated. Corners: Ramer (1972), Douglas and Peucker (1973).
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from svms_gr00t.core.errors import DataError

TOLERANCE = 0.02
"""Metres that a path may leave the straight line between two waypoints."""
APART = 4
"""Steps between two waypoints."""
AHEAD = 8
"""Steps to where `how` says the hand will be."""
_SLOW, _MANY = 40.0, 8.0


def corners(path: Float[np.ndarray, "T D"], tolerance: float = TOLERANCE) -> Int[np.ndarray, " N"]:
    """Steps whose polygon passes within `tolerance` of every other step; the first and the last are among them."""
    kept, open_parts = {0, len(path) - 1}, [(0, len(path) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        away = _distances(path[first + 1 : last], path[first], path[last])
        furthest = int(away.argmax())
        if away[furthest] > tolerance:
            middle = first + 1 + furthest
            kept.add(middle)
            open_parts += [(first, middle), (middle, last)]
    return np.array(sorted(kept))


def _distances(
    points: Float[np.ndarray, "n D"], start: Float[np.ndarray, " D"], end: Float[np.ndarray, " D"]
) -> Float[np.ndarray, " n"]:
    """To the segment, not to the line through it: a hand that goes there and back turns at the far point."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length > 0 else np.zeros(len(points))
    return np.linalg.norm(points - start - share[:, None] * along, axis=1)


def changes(gripper: Shaped[np.ndarray, " T"]) -> Int[np.ndarray, " n"]:
    """Steps whose sign is not that of the step before; 0 counts as negative."""
    return np.flatnonzero(np.diff(gripper > 0)) + 1


def waypoints(
    path: Float[np.ndarray, "T D"],
    gripper: Shaped[np.ndarray, " T"],
    *,
    tolerance: float = TOLERANCE,
    apart: int = APART,
) -> Int[np.ndarray, " N"]:
    """Steps that the motion goes through, ascending; the last step of the episode is always the last of them.

    `gripper` is signed: above 0 it closes (or opens, it does not matter). Where two are closer than `apart`, the end
    stays before a change of the gripper, a change before a corner, and an earlier one before a later one. Raises
    DataError for no steps, and for NaN or infinity.
    """
    if len(path) == 0 or not (np.isfinite(path).all() and np.isfinite(gripper).all()):
        got = "NaN or infinity" if len(path) else "no steps"
        raise DataError("waypoints", got=got, want="finite positions of a hand", hint="Run data doctor on the dataset")
    end = len(path) - 1
    kept = [end]
    for step in [*changes(gripper).tolist(), *corners(path, tolerance).tolist()]:
        if step > 0 and all(abs(step - other) >= apart for other in kept):
            kept.append(step)
    return np.array(sorted(kept))


def grounded_targets(
    path: Float[np.ndarray, "T 3"], width: Float[np.ndarray, " T"], points: Int[np.ndarray, " N"]
) -> dict[str, Float[np.ndarray, "T _n"]]:
    """`where` (T, 6), `when` (T, 3) and `how` (T, 7) of every step, in physical units; `points` as from `waypoints`."""
    steps, last = np.arange(len(path)), len(path) - 1
    k = np.minimum(np.searchsorted(points, steps, side="right"), len(points) - 1)
    following = np.minimum(k + 1, len(points) - 1)
    until = np.log1p(points[k] - steps) / np.log(_SLOW)
    return {
        "where": np.concatenate([path[points[k]], path[points[following]]], axis=1),
        "when": np.stack([until, steps / max(last, 1), (len(points) - k) / _MANY], axis=1),
        "how": np.concatenate([path, width[:, None], path[np.minimum(steps + AHEAD, last)]], axis=1),
    }
