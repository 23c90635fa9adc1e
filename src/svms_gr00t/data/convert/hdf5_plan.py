"""Where each column of a converted file comes from, decided once for all demonstrations and before anything is written.

    RoboCasa's kitchens    12 actions in its published order, 16 states (robosuite's PandaOmron)
    LIBERO                 agentview_rgb, ee_pos, ...: the names that N1.6 has for `libero_panda`
    robosuite, robomimic   robot0_eef_pos, ...: one arm, two robots (robot0_, robot1_), or two arms (robot0_right_, ...)

Axes: T steps, H and W pixels.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.hdf5_actions import Arm, Controller, arm_actions
from svms_gr00t.data.convert.hdf5_file import REPLAY, WANT, Film, check_declared
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.robocasa import (
    ACTION_ORDERS,
    ALIASES,
    STATE_SLICES,
    STATE_SOURCES,
    ActionOrder,
    action_order,
)
from svms_gr00t.data.pictures import as_they_are

_PEEK = 8
_ARM_STATES = {  # robosuite's observation of an arm -> (state key, rotation type)
    "eef_pos": ("end_effector_position", None),
    "eef_quat": ("end_effector_rotation", "quaternion"),
    "gripper_qpos": ("gripper_qpos", None),
    "joint_pos": ("joint_position", None),
}
_LIBERO_STATES = {"ee_pos": ("x", "y", "z"), "ee_ori": ("roll", "pitch", "yaw"), "gripper_states": ("gripper",)}
_LIBERO_CAMERAS = {"agentview_rgb": "image", "eye_in_hand_rgb": "wrist_image"}
_LIBERO_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where each output column comes from; the same for every demonstration."""

    robot: str
    states: tuple[str, ...]
    """Observations that make up observation.state, in order."""
    state_slices: dict[str, Any]
    action_from: dict[str, Any]
    """Slices of the file's action numbers."""
    action_slices: dict[str, Any]
    """Slices of the numbers that are written."""
    cameras: dict[str, tuple[str, tuple[int, int]]]
    """New camera name -> (observation, (H, W))."""
    notes: tuple[str, ...]
    """Decisions that the owner should check."""
    turned: bool = False
    """Whether pictures are turned by 180 degrees."""

    @property
    def modality(self) -> Modality:
        """modality.json of the new dataset."""
        video = {name: {"original_key": f"observation.images.{name}"} for name in self.cameras}
        if set(ALIASES.values()) <= video.keys():
            video = {alias: video[name] for alias, name in ALIASES.items()} | video
        annotation: dict[str, Any] = {"human.action.task_description": {}}
        value = {"state": self.state_slices, "action": self.action_slices, "video": video, "annotation": annotation}
        return Modality.from_dict(value)


def plan_of(source: Path, data: Any, names: Sequence[str], env_args: Mapping[str, Any]) -> Plan:
    """Decide from the first demonstrations. Raises DataError for what cannot be converted."""
    first = data[names[0]]
    obs = columns_of(first.get("obs"))
    if not obs or not hasattr(first.get("actions"), "shape"):
        raise DataError(source, got="demonstrations without observations", want="obs and actions", hint=REPLAY)
    shape = first["actions"].shape
    if len(shape) != 2 or 0 in shape:
        where = f"{source}, {names[0]}, actions"
        raise DataError(where, got=f"shape {shape}", want="(steps, numbers)", hint="Make the file again")
    libero = {"agentview_rgb", "ee_pos", "ee_ori", "gripper_states"} <= set(obs)
    cameras = _cameras(f"{source}, {names[0]}", obs, _LIBERO_CAMERAS if libero else {})
    if libero:
        plan = _libero(source, cameras, env_args, shape[1])
    elif shape[1] == 12 and all(column in obs for column in STATE_SOURCES.values()):
        plan = _kitchen(data, names, cameras, env_args)
    else:
        plan = _arms(source, obs, cameras, env_args, shape[1])
    return _with_rest(plan, obs)


def columns_of(group: Any) -> dict[str, Any]:
    """The datasets of a group that can be read, by name; none for what is no group."""
    items = {name: group.get(name) for name in group} if hasattr(group, "keys") else {}
    return {name: item for name, item in items.items() if hasattr(item, "shape") and item.ndim}


def _cameras(where: str, obs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, tuple[str, tuple[int, int]]]:
    cameras: dict[str, tuple[str, tuple[int, int]]] = {}
    for column in sorted(obs):
        if not column.endswith(("_image", "_rgb")):
            continue
        name = names.get(column, column.removesuffix("_image").removesuffix("_rgb"))
        if name in cameras:
            got, want = f"{cameras[name][0]} and {column}", "one of them"
            raise DataError(where, got=got, want=want, hint="Both would be called " + name)
        film = Film(f"{where}, {column}", obs[column], as_they_are)
        cameras[name] = (column, (film.shape[1], film.shape[2]))
    if not cameras:
        raise DataError(where, got="no pictures in obs", want="<camera>_image or <camera>_rgb", hint=REPLAY)
    return cameras


def _robots(env_args: Mapping[str, Any]) -> list[str]:
    """The robots that the environment was made with."""
    kwargs = env_args.get("env_kwargs")
    robots = kwargs.get("robots") if isinstance(kwargs, dict) else None
    return [str(robot) for robot in robots] if isinstance(robots, list) else [str(robots)] if robots else []


def _kitchen(data: Any, names: Sequence[str], cameras: Any, env_args: Mapping[str, Any]) -> Plan:
    actions = [data[name]["actions"] for name in names[:_PEEK]]
    check_declared(f"{data.file.filename}, actions", *actions)
    found = action_order(np.concatenate([np.asarray(one) for one in actions]))
    order: ActionOrder = found or "eef-first"
    note = f"actions in {order} order" + ("" if found else ", taken from RoboCasa's kitchens: check the gripper")
    arm = Controller.of(env_args, Arm(robot=0, side=None, name=""))
    notes = [f"{note}; written base-first"]
    slices = ACTION_ORDERS["base-first"]
    if not arm.delta:
        slices = {key: {k: v for k, v in entry.items() if k != "absolute"} for key, entry in slices.items()}
        notes.append(f"the hand's commands are absolute ({arm.words} in env_args)")
    return Plan(
        robot="PandaOmron",
        states=tuple(STATE_SOURCES.values()),
        state_slices=STATE_SLICES,
        action_from=ACTION_ORDERS[order],
        action_slices=slices,
        cameras=cameras,
        notes=tuple(notes),
    )


def _libero(source: Path, cameras: Any, env_args: Mapping[str, Any], width: int) -> Plan:
    controller = Controller.of(env_args, Arm(robot=0, side=None, name=""))
    if width != 7 or controller.kind not in (None, "OSC_POSE"):
        got = f"{width} action numbers of {controller.kind or 'an unknown controller'}"
        hint = "LIBERO's demonstrations hold these; another controller's have no names here"
        raise DataError(source, got=got, want="the 7 numbers of OSC_POSE with a gripper", hint=hint)
    moves = {"absolute": False} if controller.delta else {}
    action = {key: {"start": i, "end": i + 1, **moves} for i, key in enumerate(_LIBERO_ACTIONS[:6])}
    action["gripper"] = {"start": 6, "end": 7}
    state = {key: {"start": i, "end": i + 1} for i, key in enumerate(_LIBERO_ACTIONS[:6])}
    state["gripper"] = {"start": 6, "end": 8}
    notes = ("LIBERO under the names that N1.6 has for libero_panda", f"actions named as {controller.words}")
    turned = (
        "pictures turned by 180 degrees, as N1.6 and `--benchmark libero` show them (--flip: upright, not mirrored)"
    )
    return Plan(
        robot="+".join(_robots(env_args)) or "unknown",
        states=tuple(_LIBERO_STATES),
        state_slices=state,
        action_from=action,
        action_slices=action,
        cameras=cameras,
        notes=(*notes, turned),
        turned=True,
    )


def _arms(source: Path, obs: Mapping[str, Any], cameras: Any, env_args: Mapping[str, Any], width: int) -> Plan:
    arms = _arms_of(obs)
    states: list[str] = []
    slices: dict[str, Any] = {}
    start = 0
    for column, key, kind in _arm_columns(obs, arms):
        end = start + int(np.prod(obs[column].shape[1:]))
        states.append(column)
        slices[key] = {"start": start, "end": end} | ({"rotation_type": kind} if kind else {})
        start = end
    if not states:
        got = f"observations {', '.join(sorted(obs))}"
        raise DataError(source, got=got, want=f"robot0_eef_pos, ... of {WANT}", hint=REPLAY)
    seen, robots = len({arm.robot for arm in arms}), _robots(env_args)
    if seen < len(robots):
        got, want = f"observations of {seen} of the {len(robots)} robots ({', '.join(robots)})", "those of all"
        raise DataError(source, got=got, want=want, hint=REPLAY)
    action, note = arm_actions(source, arms, env_args, width)
    both = (f"{len(arms)} arms: {', '.join(arm.name for arm in arms)}",) if len(arms) > 1 else ()
    return Plan(
        robot="+".join(_robots(env_args)) or "unknown",
        states=tuple(states),
        state_slices=slices,
        action_from=action,
        action_slices=action,
        cameras=cameras,
        notes=(*both, f"{note}; check meta/modality.json"),
    )


def _arms_of(obs: Mapping[str, Any]) -> list[Arm]:
    """Every arm that the observations speak of, in the order of the action: robot by robot, right before left."""
    sided = [re.fullmatch(r"robot(\d+)_(?:(right|left)_)?(?:eef_pos|eef_quat|gripper_qpos)", name) for name in obs]
    found: set[tuple[str, str | None]] = {(m[1], m[2]) for m in sided if m}
    jointed = {m[1] for m in (re.fullmatch(r"robot(\d+)_joint_pos", name) for name in obs) if m}
    found |= {(number, None) for number in jointed - {number for number, _ in found}}
    places = sorted(found, key=lambda place: (int(place[0]), place[1] == "left"))
    robots = {number for number, _ in places}
    arms = []
    for number, side in places:
        parts = [f"robot{number}"] if len(robots) > 1 else []
        name = "_".join([*parts, *([side] if side else [])]) if len(places) > 1 else ""
        joints = f"robot{number}_joint_pos"
        share = sum(other == number for other, _ in places)
        count = int(np.prod(obs[joints].shape[1:])) // share if joints in obs else None
        arms.append(Arm(robot=int(number), side=side, name=name, joints=count))
    return arms


def _arm_columns(obs: Mapping[str, Any], arms: Sequence[Arm]) -> list[tuple[str, str, str | None]]:
    """(observation, state key, rotation type) of all arms; joints stand once for each robot."""
    columns, done = [], set()
    for arm in arms:
        for suffix, (key, kind) in _ARM_STATES.items():
            sided = f"robot{arm.robot}_{arm.side}_{suffix}" if arm.side else f"robot{arm.robot}_{suffix}"
            whole = suffix == "joint_pos" and arm.side is not None
            column = f"robot{arm.robot}_{suffix}" if whole else sided
            if column in obs and column not in done:
                done.add(column)
                columns.append((column, key if whole else arm.key(key), kind))
    return columns


def _with_rest(plan: Plan, obs: Mapping[str, Any]) -> Plan:
    """The plan with a note on the observations that it leaves out."""
    used = {*plan.states, *(column for column, _ in plan.cameras.values())}
    left = sorted(set(obs) - used)
    if not left:
        return plan
    more = f" and {len(left) - 6} more" if len(left) > 6 else ""
    return replace(plan, notes=(*plan.notes, f"observations left out: {', '.join(left[:6])}{more}"))
