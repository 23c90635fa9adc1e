"""RoboCasa and robosuite HDF5 files with observations -> LeRobot v2.1 with a modality.json.

    /data                  attrs env_args (JSON: env_name, env_kwargs)
    /data/demo_<k>         attrs ep_meta (JSON: lang, ...)        actions (T, A)
    /data/demo_<k>/obs     <camera>_image (T, H, W, 3) uint8, robot0_* (T, ...)
    /mask/<name>           demo names of a filter key

Axes: T steps, A action numbers, H and W pixels.

Actions are copied, float64 and bit by bit: they are what the controller was told, and the achieved poses lag behind.
RoboCasa's twelve are reordered by name to its published order. A raw file holds no observations: replaying its states
needs the simulator, so it is refused. Source: RoboCasa 1.0.1, robomimic's dataset layout.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError, MissingExtra
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.robocasa import (
    ACTION_ORDERS,
    ALIASES,
    STATE_SLICES,
    STATE_SOURCES,
    ActionOrder,
    action_order,
)
from svms_gr00t.data.lerobot.writer import LeRobotWriter

_WANT = "RoboCasa or robosuite demonstrations (HDF5)"
_REPLAY = "Make observations with robomimic's dataset_states_to_obs.py, or use RoboCasa365's LeRobot files"
_PEEK = 8
_ARM_STATES = {  # robosuite's observation -> (state key, rotation type), for robots without RoboCasa's mobile base
    "robot0_eef_pos": ("end_effector_position", None),
    "robot0_eef_quat": ("end_effector_rotation", "quaternion"),
    "robot0_gripper_qpos": ("gripper_qpos", None),
    "robot0_joint_pos": ("joint_position", None),
}
_ARM_ACTION = {  # robosuite's OSC_POSE with one gripper
    "end_effector_position": {"start": 0, "end": 3, "absolute": False},
    "end_effector_rotation": {"start": 3, "end": 6, "rotation_type": "axis_angle", "absolute": False},
    "gripper_close": {"start": 6, "end": 7},
}


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion made."""

    root: Path
    """The new dataset."""
    episodes: int
    """Episodes in it."""
    resumed: int
    """Of these, finished by an interrupted run before."""
    notes: tuple[str, ...]
    """Decisions that the owner should check."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Where each output column comes from; the same for every demonstration."""

    robot: str
    states: dict[str, str]
    state_slices: dict[str, Any]
    action_from: dict[str, Any]
    action_slices: dict[str, Any]
    cameras: dict[str, tuple[int, int]]
    notes: tuple[str, ...]

    @property
    def modality(self) -> Modality:
        """modality.json of the new dataset."""
        video = {name: {"original_key": f"observation.images.{name}"} for name in self.cameras}
        if set(ALIASES.values()) <= video.keys():
            video = {alias: video[name] for alias, name in ALIASES.items()} | video
        annotation: dict[str, Any] = {"human.action.task_description": {}}
        value = {"state": self.state_slices, "action": self.action_slices, "video": video, "annotation": annotation}
        return Modality.from_dict(value)


def convert_hdf5(
    source: Path,
    target: Path,
    *,
    fps: float | int = 20.0,
    instruction: str | None = None,
    filter_key: str | None = None,
    flip: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert `source` to a new dataset at `target`; the same call goes on with an interrupted one.

    `instruction` stands in where a demonstration has none, `filter_key` names a mask of the file, `flip` turns pictures
    of the bare simulator upright. Raises DataError for what cannot be converted, MissingExtra without h5py.
    """
    with _open(source) as file:
        names = _demos(source, file, filter_key)
        plan = _plan(source, file, names)
        key: dict[str, Any] = {"converter": "hdf5", "source": source.name, "bytes": source.stat().st_size}
        key |= {"demos": names, "fps": fps, "flip": flip}
        key |= {"instruction": instruction, "robot": plan.robot, "actions": plan.action_from}
        provenance = {**key, "notes": list(plan.notes)}
        writer = LeRobotWriter(
            target,
            fps=fps,
            robot_type=plan.robot,
            modality=plan.modality,
            lowdim={"observation.state": _elements(plan.state_slices), "action": _elements(plan.action_slices)},
            videos={f"observation.images.{name}": hw for name, hw in plan.cameras.items()},
            provenance=provenance,
            float_type="float64",
            resume=key,
        )
        resumed = writer.done
        with writer, (progress or Silent()).task("converting demonstrations", len(names)) as task:
            task.advance(resumed)
            for name in names[resumed:]:
                where = f"{source}, {name}"
                try:
                    _convert(writer, plan, where, file["data"][name], instruction, flip, name)
                except (OSError, KeyError) as error:
                    raise DataError(
                        where, got=f"unreadable data ({error})", want=_WANT, hint="Fetch it again"
                    ) from error
                task.advance()
    return Converted(root=target, episodes=len(names), resumed=resumed, notes=plan.notes)


def _convert(
    writer: LeRobotWriter, plan: _Plan, where: str, demo: Any, instruction: str | None, flip: bool, name: str
) -> None:
    """One demonstration."""
    obs, actions = demo["obs"], np.asarray(demo["actions"], dtype=np.float64)
    state = np.concatenate([_rows(where, obs, column, len(actions)) for column in plan.states.values()], axis=1)
    action = np.empty((len(actions), max(entry["end"] for entry in plan.action_slices.values())))
    for key, entry in plan.action_slices.items():
        action[:, entry["start"] : entry["end"]] = _part(actions, plan.action_from, key)
    videos = {}
    for camera in plan.cameras:
        frames = np.asarray(obs[f"{camera}_image"]) if f"{camera}_image" in obs else np.zeros((0, 2, 2, 3), np.uint8)
        videos[f"observation.images.{camera}"] = np.ascontiguousarray(frames[:, ::-1] if flip else frames)
    meta = _json(demo.attrs.get("ep_meta"), f"{where}, ep_meta")
    text = str(meta.get("lang") or instruction or "").strip()
    if not text:
        hint = "Pass --instruction with the sentence for all of them"
        raise DataError(where, got="no instruction (ep_meta has no lang)", want="one", hint=hint)
    rewards = np.asarray(demo["rewards"]) if "rewards" in demo else np.ones(1)
    extras = {"ep_meta": meta, "source": {"demo": name}}
    columns = {"observation.state": state, "action": action}
    writer.add_episode(columns, videos, text, extras, success=bool(rewards.max(initial=0.0) > 0))


def _part(actions: np.ndarray, source: Mapping[str, Any], key: str) -> np.ndarray:
    """The columns of an action key; robosuite's own order keeps the torso apart from the base."""
    if key == "base_motion" and "torso" in source:
        parts = [actions[:, source[name]["start"] : source[name]["end"]] for name in ("base_motion", "torso")]
        return np.concatenate(parts, axis=1)
    return actions[:, source[key]["start"] : source[key]["end"]]


def _plan(source: Path, file: Any, names: list[str]) -> _Plan:
    """Decide from the first demonstrations, so that every decision is made before anything is written."""
    data = file["data"]
    first = data[names[0]]
    if "obs" not in first or "actions" not in first:
        raise DataError(source, got="demonstrations without observations", want="obs and actions", hint=_REPLAY)
    obs = first["obs"]
    cameras = {n.removesuffix("_image"): tuple(obs[n].shape[1:3]) for n in sorted(obs) if n.endswith("_image")}
    if not cameras:
        raise DataError(source, got="no pictures in obs", want="<camera>_image", hint=_REPLAY)
    width = first["actions"].shape[1]
    env = _json(data.attrs.get("env_args"), f"{source}, env_args")
    robots = env.get("env_kwargs", {}).get("robots", "unknown")
    robot = str(robots[0] if isinstance(robots, list) and robots else robots)
    if width == 12 and all(column in obs for column in STATE_SOURCES.values()):
        rows = np.concatenate([np.asarray(data[name]["actions"]) for name in names[:_PEEK]])
        found = action_order(rows)
        order: ActionOrder = found or "eef-first"
        note = f"actions in {order} order" + ("" if found else ", taken from RoboCasa's kitchens: check the gripper")
        return _Plan(
            robot="PandaOmron",
            states=STATE_SOURCES,
            state_slices=STATE_SLICES,
            action_from=ACTION_ORDERS[order],
            action_slices=ACTION_ORDERS["base-first"],
            cameras=cameras,
            notes=(f"{note}; written base-first",),
        )
    states, slices, start = {}, {}, 0
    for column, (key, kind) in _ARM_STATES.items():
        if column in obs:
            end = start + int(np.prod(obs[column].shape[1:]))
            states[key] = column
            slices[key] = {"start": start, "end": end} | ({"rotation_type": kind} if kind else {})
            start = end
    if not states:
        raise DataError(source, got=f"observations {', '.join(sorted(obs))}", want="robot0_eef_pos, ...", hint=_REPLAY)
    action = _ARM_ACTION if width == 7 else {"command": {"start": 0, "end": width}}
    note = "actions named as OSC_POSE with a gripper" if width == 7 else f"one action key of {width} numbers"
    return _Plan(
        robot=robot,
        states=states,
        state_slices=slices,
        action_from=action,
        action_slices=action,
        cameras=cameras,
        notes=(f"{note}; check meta/modality.json",),
    )


def _demos(source: Path, file: Any, filter_key: str | None) -> list[str]:
    """Names of the demonstrations in the order of their numbers (the file lists demo_10 before demo_2)."""
    if "data" not in file:
        raise DataError(source, got="no group data", want=_WANT, hint=_REPLAY)
    names = [name for name in file["data"] if re.fullmatch(r"demo_\d+", name)]
    if filter_key is not None:
        masks = list(file["mask"]) if "mask" in file else []
        if filter_key not in masks:
            want = f"one of {', '.join(masks) or 'none in this file'}"
            raise DataError(source, got=f"filter key {filter_key!r}", want=want, hint="Leave it out to take all")
        chosen = {n.decode() if isinstance(n, bytes) else str(n) for n in file["mask"][filter_key][:]}
        names = [name for name in names if name in chosen]
    if not names:
        raise DataError(source, got="no demonstrations", want=_WANT, hint="Choose another file or filter key")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _rows(where: str, obs: Any, column: str, length: int) -> np.ndarray:
    if column not in obs:
        raise DataError(where, got=f"no {column} in obs", want="the observations of the first one", hint=_REPLAY)
    rows = np.asarray(obs[column], dtype=np.float64)
    if len(rows) != length:
        got, want = f"{len(rows)} rows of {column}", f"{length}, as many as actions"
        raise DataError(where, got=got, want=want, hint=_REPLAY)
    return rows.reshape(length, -1)


def _elements(slices: Mapping[str, Any]) -> list[str]:
    ordered = sorted(slices.items(), key=lambda item: item[1]["start"])
    return [f"{key}_{i}" for key, entry in ordered for i in range(entry["end"] - entry["start"])]


def _json(value: Any, where: str) -> dict[str, Any]:
    """An attribute that holds a JSON object; absent is empty."""
    if value is None:
        return {}
    try:
        found = json.loads(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            where, got=f"broken JSON ({error})", want="a JSON object", hint="Make the file again"
        ) from error
    return found if isinstance(found, dict) else {}


@contextmanager
def _open(source: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("converting HDF5 demonstrations", package="h5py", extra="convert") from error
    if not source.is_file():
        raise DataError(source, got="no such file", want=_WANT, hint="Pass the .hdf5 file")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise DataError(source, got=f"an unreadable file ({error})", want=_WANT, hint="Fetch it again") from error
    with file:
        yield file
