"""Which numbers of a dataset are the hand: its position and its gripper, found by their names or named by the user.

Axes: T steps of an episode, D numbers of a key, G numbers of all targets.

    position   a state such as end_effector_position_relative (the first three numbers), or three of one number: x, y, z
    width      a state with "gripper" in its name: the sum of how far its fingers are from 0
    gripper    an action with "gripper" in its name, minus the middle of its range; without one, the width minus its own

Joint angles alone (GR1) say nothing of where a hand is: such a dataset has no hand here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.data.labels.waypoints import grounded_targets, waypoints
from svms_gr00t.data.lerobot.modality import Modality

_HANDS = ("end_effector", "endeffector", "eef", "ee_", "tcp", "hand", "wrist")
_AXES = ("x", "y", "z")
_RELATIVE = "relative"
"""Of two positions of one hand the one seen from the robot's base: that is what its cameras see too."""
_HINT = 'Name them: --hand-position KEY --hand-gripper KEY; three keys of one number each are "x y z"'


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One hand through an episode."""

    path: Float[np.ndarray, "T 3"]
    """Position, metres."""
    width: Float[np.ndarray, " T"]
    """How far open the gripper is, in the dataset's unit (metres in RoboCasa)."""
    gripper: Float[np.ndarray, " T"]
    """Its command about the middle of its range: waypoints are where the sign changes."""

    def targets(self) -> dict[str, Float[np.ndarray, "T _n"]]:
        """`where`, `when` and `how` of every step, physical units. Raises DataError for NaN or infinity."""
        return grounded_targets(self.path, self.width, waypoints(self.path, self.gripper))


@dataclass(frozen=True, kw_only=True)
class Hand:
    """The keys of one hand, and where its gripper turns from open to closed."""

    position: tuple[str, ...]
    """State keys: one of at least three numbers, or three of one."""
    width: str
    """State key."""
    gripper: str | None
    """Action key; None: the width tells."""
    middle: float
    """Middle of the range of `gripper`, or of the width."""

    def motion(self, rows: Mapping[str, Float[np.ndarray, "T _d"]]) -> Motion:
        """From an episode's "state.<key>" and "action.<key>" rows, as `LeRobotDataset.lowdim` gives them."""
        parts = [np.asarray(rows[f"state.{key}"], np.float64) for key in self.position]
        width = _opening(rows[f"state.{self.width}"])
        signal = width if self.gripper is None else np.asarray(rows[f"action.{self.gripper}"], np.float64).sum(axis=1)
        return Motion(path=np.concatenate(parts, axis=1)[:, :3], width=width, gripper=signal - self.middle)

    def targets(self, rows: Mapping[str, Float[np.ndarray, "T _d"]]) -> Float32[np.ndarray, "T G"]:
        """Every grounded target of every step side by side, in the order of `GROUNDED`, physical units."""
        found = self.motion(rows).targets()
        return np.concatenate([found[name] for name in GROUNDED], axis=1).astype(np.float32)


def find_hand(
    modality: Modality, statistics: Mapping[str, Any], *, position: Sequence[str] = (), gripper: str | None = None
) -> Hand:
    """The hand of a dataset; `position` and `gripper` name state keys where the names do not tell.

    `statistics` are {"state": {key: {...}}, "action": {...}}, for the range of the gripper. Raises DataError with one
    sentence for a dataset without a hand, with several, or without the named keys.
    """
    chosen = _named(modality, position) if position else _position(modality)
    if (numbers := sum(modality.state[key].width for key in chosen)) < 3:
        got = f"{numbers} numbers in {', '.join(chosen)}"
        raise DataError("hand position", got=got, want="three: x, y and z", hint=_HINT)
    width = _named(modality, [gripper])[0] if gripper else _only("gripper", _grippers(modality.state))
    command = _like(width, modality)
    if command is None:
        middle = np.abs(_extremes(statistics, "state", width)).max(axis=0).sum() / 2
    else:
        middle = _extremes(statistics, "action", command).sum(axis=1).mean()
    return Hand(position=chosen, width=width, gripper=command, middle=float(middle))


def _opening(fingers: np.ndarray) -> Float[np.ndarray, " T"]:
    return np.abs(np.asarray(fingers, np.float64)).sum(axis=1)


def _extremes(statistics: Mapping[str, Any], kind: str, key: str) -> Float[np.ndarray, "2 D"]:
    found = statistics.get(kind, {}).get(key)
    if found is None:
        hint = "Compute them over the dataset that you train on"
        raise DataError("statistics", got=f"none of {kind}.{key}", want="its range", hint=hint)
    return np.array([found["min"], found["max"]], dtype=np.float64)


def _position(modality: Modality) -> tuple[str, ...]:
    if all(axis in modality.state and modality.state[axis].width == 1 for axis in _AXES):
        return _AXES
    wide = [key for key, entry in modality.state.items() if entry.width >= 3 and _is_position(key)]
    return (_only("end-effector position", [key for key in wide if _RELATIVE in key] or wide),)


def _is_position(key: str) -> bool:
    name = key.lower()
    return any(word in name for word in _HANDS) and ("pos" in name or name.endswith("eef_9d"))


def _grippers(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if "gripper" in key.lower() and "vel" not in key.lower()]


def _like(gripper: str, modality: Modality) -> str | None:
    """The command of a gripper: the action of the same name, or the only one there is."""
    commands = _grippers(modality.action)
    return gripper if gripper in modality.action else commands[0] if len(commands) == 1 else None


def _only(what: str, found: Sequence[str]) -> str:
    if len(found) != 1:
        got = f"{what}s {', '.join(found)}" if found else f"no {what} among its states"
        want = "one hand's position and gripper for grounded targets"
        raise DataError("modality.json", got=got, want=want, hint=_HINT)
    return found[0]


def _named(modality: Modality, keys: Sequence[str]) -> tuple[str, ...]:
    for key in keys:
        if key not in modality.state:
            want = f"states among {', '.join(modality.state) or 'none'}"
            raise DataError("modality.json", got=f"no state {key}", want=want, hint=_HINT)
    return tuple(keys)
