"""What the numbers of an action mean, from the controller that executed them (`env_args` of the file).

    OSC_POSE         position 3, rotation 3 (axis-angle)      JOINT_POSITION     as many as joints
    IK_POSE          the same                                 JOINT_VELOCITY     as many as joints
    OSC_POSITION     position 3                               JOINT_TORQUE       as many as joints

then the gripper; two arms one after the other, each with its gripper. Poses and joint positions are differences from
the current state unless the file says `control_delta: false` (robosuite up to 1.4) or `input_type: absolute` (1.5).
Sources: robosuite 1.4.1 and 1.5.2, controllers and their configuration files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import DataError

_POSES = {"OSC_POSE": 6, "IK_POSE": 6, "OSC_POSITION": 3}
_JOINTS = {"JOINT_POSITION": "joint_position", "JOINT_VELOCITY": "joint_velocity", "JOINT_TORQUE": "joint_torque"}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of a file."""

    robot: int
    """Its robot's number."""
    side: str | None
    """"right" or "left" where its robot has two, None where it has one."""
    name: str
    """What its keys begin with, "" when the file has one arm."""
    joints: int | None = None
    """Joints that it has, None when unknown."""

    def key(self, name: str) -> str:
        """A modality key of this arm."""
        return f"{self.name}_{name}" if self.name else name


@dataclass(frozen=True, kw_only=True)
class Controller:
    """How an arm's numbers were executed."""

    kind: str | None = None
    """robosuite's name, None when the file does not say."""
    delta: bool = True
    """Whether they are differences from the current state."""
    plain: bool = True
    """False when stiffness and damping stand before the command."""

    @classmethod
    def of(cls, env_args: Mapping[str, Any], arm: Arm) -> "Controller":
        """From `env_args`, in robosuite's form of up to 1.4 or from 1.5 on."""
        kwargs = env_args.get("env_kwargs")
        found: Any = kwargs.get("controller_configs") if isinstance(kwargs, dict) else None
        if isinstance(found, list):
            found = found[arm.robot] if arm.robot < len(found) else None
        if isinstance(found, dict) and isinstance(found.get("body_parts"), dict):
            parts = found["body_parts"]
            arms = parts["arms"] if isinstance(parts.get("arms"), dict) else parts
            found = arms.get(arm.side or "right", arms.get("left"))
        if not isinstance(found, dict) or not isinstance(found.get("type"), str):
            return cls()
        given, form = found.get("control_delta"), found.get("input_type")
        delta = bool(given) if given is not None else form != "absolute"
        return cls(kind=found["type"], delta=delta, plain=found.get("impedance_mode", "fixed") == "fixed")

    @property
    def words(self) -> str:
        """For a note."""
        if self.kind is None:
            return "OSC_POSE deltas, which the file does not say"
        moved = self.kind in _POSES or self.kind == "JOINT_POSITION"
        return f"{self.kind}{' deltas' if moved and self.delta else ' targets' if moved else ''}"


def arm_actions(
    where: Path, arms: Sequence[Arm], env_args: Mapping[str, Any], width: int
) -> tuple[dict[str, Any], str]:
    """Slices of the action numbers in modality.json's form, and a note on how they were named.

    One arm whose numbers do not fit its controller gets one key for all of them; two arms are refused then, because
    nothing says whose the numbers are. Raises DataError.
    """
    controllers = [Controller.of(env_args, arm) for arm in arms]
    each, rest = divmod(width, len(arms))
    slices: dict[str, Any] = {}
    for place, (arm, controller) in enumerate(zip(arms, controllers, strict=True)):
        parts = None if rest else _parts(arm, controller, each)
        if parts is None:
            break
        slices |= _placed(arm, parts, place * each)
    else:
        said = " and ".join(dict.fromkeys(controller.words for controller in controllers))
        return slices, f"actions named as {said}"
    if len(arms) == 1:
        said = controllers[0].kind or "an unknown controller"
        return {"command": {"start": 0, "end": width}}, f"one action key for the {width} numbers of {said}"
    got = f"{width} action numbers for {len(arms)} arms ({', '.join(c.kind or 'unknown' for c in controllers)})"
    hint = "For each arm in turn its command and its gripper; convert such a file with robosuite's own names at hand"
    raise DataError(where, got=got, want="as many for each arm as its controller takes", hint=hint)


def _parts(arm: Arm, controller: Controller, width: int) -> list[tuple[str, int, dict[str, Any]]] | None:
    """(key, numbers, fields) of one arm, or None when they do not add up to `width`."""
    kind = controller.kind or ("OSC_POSE" if width == 7 else "")
    moves = {"absolute": False} if controller.delta else {}
    parts: list[tuple[str, int, dict[str, Any]]]
    if not controller.plain:
        return None
    if kind in _POSES:
        parts = [("end_effector_position", 3, moves)]
        if _POSES[kind] == 6:
            parts += [("end_effector_rotation", 3, {"rotation_type": "axis_angle", **moves})]
    elif kind in _JOINTS:
        count = arm.joints if arm.joints is not None else width - 1
        parts = [(_JOINTS[kind], count, moves if kind == "JOINT_POSITION" else {})]
    else:
        return None
    left = width - sum(part[1] for part in parts)
    return {0: parts, 1: [*parts, ("gripper_close", 1, {})]}.get(left)  # more may be a base or a hand: not guessed


def _placed(arm: Arm, parts: Sequence[tuple[str, int, dict[str, Any]]], start: int) -> dict[str, Any]:
    slices = {}
    for key, width, fields in parts:
        slices[arm.key(key)] = {"start": start, "end": start + width, **fields}
        start += width
    return slices
