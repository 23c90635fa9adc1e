"""The stalk with units: which numbers of a state are a hand's position, rotation and gripper, and distances of them.

Axes: N looks, D numbers of a stalk, k numbers of one quantity.

    hand       3  metres, printed in centimetres
    rotation   6  first two rows of the matrix; distances are angles in radians, and so are changes (3)
    gripper    1  how far its fingers are from 0 together, printed in centimetres
    joints     k  every state of a robot without a hand's position, in its own unit (radians in N1.6)
    waypoint   1  distance to the next waypoint, metres, printed in centimetres; no robot measures it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.data.labels.hand import Hand, find_hand
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.processor.rotations import independent_rows, matrix_to_rot6d, rot6d_to_matrix

_EULER = {
    f"euler_angles_{o}": o.translate(str.maketrans("rpy", "xyz")) for o in ("rpy", "ryp", "pry", "pyr", "yrp", "ypr")
}
_TURNED = (("position", "rotation"), ("position", "orientation"), ("pos", "rot"), ("pos", "quat"), ("pos", "ori"))
_ANGLES = ("roll", "pitch", "yaw")
"""LIBERO's names; what they hold is axis times angle."""


@dataclass(frozen=True, kw_only=True)
class Quantity(JsonRecord):
    """A part of the stalk, and how two values of it are compared."""

    name: str
    unit: str
    """As printed."""
    scale: float = 1.0
    """Printed units in one stored unit: 100 for metres shown in centimetres."""
    kind: Literal["vector", "rotation"] = "vector"
    start: int
    end: int
    """Its columns of the stalk."""

    @property
    def freedom(self) -> int:
        """Numbers of a change: 3 for a rotation, which is stored as 6."""
        return 3 if self.kind == "rotation" else self.end - self.start

    def change(self, before: Float[ndarray, "N D"], after: Float[ndarray, "N D"]) -> Float[ndarray, "N _k"]:
        """From one stalk to another: a difference, or the rotation vector between them."""
        a, b = (stalk[:, self.start : self.end] for stalk in (before, after))
        if self.kind == "vector":
            return b - a
        known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
        found = np.full((len(a), 3), np.nan)
        if known.any():
            turn = rot6d_to_matrix(b[known]) @ np.swapaxes(rot6d_to_matrix(a[known]), -1, -2)
            found[known] = Rotation.from_matrix(turn).as_rotvec()
        return found

    def moved(self, before: Float[ndarray, "N D"], change: Float[ndarray, "N _k"]) -> Float[ndarray, "N _d"]:
        """This quantity after a change: the inverse of `change`."""
        a = before[:, self.start : self.end]
        if self.kind == "vector":
            return a + change
        known = np.isfinite(a).all(1) & np.isfinite(change).all(1)
        found = np.full(a.shape, np.nan)
        if known.any():
            found[known] = matrix_to_rot6d(Rotation.from_rotvec(change[known]).as_matrix() @ rot6d_to_matrix(a[known]))
        return found

    def distance(self, one: Float[ndarray, "N D"], other: Float[ndarray, "N D"]) -> Float[ndarray, " N"]:
        """In printed units; NaN where either is unknown."""
        return self.scale * np.linalg.norm(self.change(one, other), axis=1)


@dataclass(frozen=True, kw_only=True)
class Body(JsonRecord):
    """Which state keys are what; all of them in physical units."""

    position: tuple[str, ...] = ()
    """One key of at least three numbers, or three of one; none for a robot that only has joints."""
    rotation: tuple[str, ...] = ()
    """One key, or three of one number."""
    rotation_type: str = ""
    """As modality.json writes it."""
    gripper: str | None = None
    joints: tuple[tuple[str, int], ...] = ()
    """Keys and widths, for a robot without a hand's position."""

    @property
    def keys(self) -> tuple[str, ...]:
        """All state keys that are read."""
        grip = (self.gripper,) if self.gripper else ()
        return (*self.position, *self.rotation, *grip, *(key for key, _ in self.joints))

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The parts of the stalk, in its order; the waypoint is no part of it but follows it."""
        found, at = [], 0
        if self.position:
            found.append(Quantity(name="hand", unit="cm", scale=100.0, start=0, end=3))
        if self.rotation:
            found.append(Quantity(name="rotation", unit="rad", kind="rotation", start=3, end=9))
        at = found[-1].end if found else 0
        if self.gripper:
            found.append(Quantity(name="gripper", unit="cm", scale=100.0, start=at, end=at + 1))
        if self.joints:
            width = sum(number for _, number in self.joints)
            found.append(Quantity(name="joints", unit="rad", start=0, end=width))
        return tuple(found)

    @property
    def width(self) -> int:
        """D, numbers of a stalk."""
        return self.quantities[-1].end

    def read(self, states: Mapping[str, Any]) -> Float[ndarray, "N D"]:
        """Stalks of states (N, d) by key; NaN where a row is no rotation. Raises DataError without a key."""
        if missing := [key for key in self.keys if key not in states]:
            got, want = f"no state {', '.join(missing)}", "the state that the monitor was trained on"
            raise DataError("monitor", got=got, want=want, hint=f"It has {', '.join(states) or 'none'}")
        parts = [self._joined(states, self.position)[:, :3]] if self.position else []
        if self.rotation:
            parts.append(as_rot6d(self._joined(states, self.rotation), self.rotation_type))
        if self.gripper:
            parts.append(np.abs(self._joined(states, (self.gripper,))).sum(axis=1, keepdims=True))
        if self.joints:
            parts.append(self._joined(states, tuple(key for key, _ in self.joints)))
        return np.concatenate(parts, axis=1)

    @staticmethod
    def _joined(states: Mapping[str, Any], keys: Sequence[str]) -> Float[ndarray, "N _d"]:
        return np.concatenate([np.asarray(states[key], np.float64) for key in keys], axis=1)


def as_rot6d(values: Float[ndarray, "N _d"], form: str) -> Float[ndarray, "N 6"]:
    """Rotations in any form of modality.json; NaN where a row is none (zeros, parallel, or not finite)."""
    none = -1.0 if form in ("axis_angle", *_EULER) else 1e-6  # no turn is a rotation in these two
    known = np.isfinite(values).all(1) & (np.linalg.norm(values, axis=1) > none)
    if form == "rotation_6d":
        known[known] = independent_rows(values[known])
    rows, found = values[known], np.full((len(values), 6), np.nan)
    if not known.any():
        return found
    if form == "rotation_6d":
        found[known] = matrix_to_rot6d(rot6d_to_matrix(rows))
    elif form == "matrix":
        found[known] = rows.reshape(-1, 9)[:, :6]
    elif form == "quaternion":
        found[known] = matrix_to_rot6d(Rotation.from_quat(rows).as_matrix())
    elif form == "axis_angle":
        found[known] = matrix_to_rot6d(Rotation.from_rotvec(rows).as_matrix())
    else:
        found[known] = matrix_to_rot6d(Rotation.from_euler(_EULER[form], rows).as_matrix())
    return found


def find_body(modality: Modality, statistics: Mapping[str, Any]) -> tuple[Body, Hand | None]:
    """What a dataset measures of its robot, and the hand whose waypoints it has; joints where no hand is found.

    Raises DataError for a dataset with several hands, or without states.
    """
    try:
        hand = find_hand(modality, statistics)
    except DataError:
        if not modality.state:
            raise
        return Body(joints=tuple((key, entry.width) for key, entry in modality.state.items())), None
    rotation, form = _rotation(modality, hand.position)
    return Body(position=hand.position, rotation=rotation, rotation_type=form, gripper=hand.width), hand


def _rotation(modality: Modality, position: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The rotation of the same hand: the key of the same name but for one word, or roll, pitch and yaw."""
    if len(position) == 3:
        thin = all(key in modality.state and modality.state[key].width == 1 for key in _ANGLES)
        return (_ANGLES, "axis_angle") if thin else ((), "")
    for old, new in _TURNED:
        entry = modality.state.get(position[0].replace(old, new))
        if entry is not None and entry.rotation_type and old in position[0]:
            return (position[0].replace(old, new),), entry.rotation_type
    return (), ""
