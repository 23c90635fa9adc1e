"""Propose a `meta/modality.json` for a dataset that has none, from its features and from what its numbers look like.

Slices come from, best first: a known robot (RoboCasa's PandaOmron, whose action order is read from the numbers, because
two orders share the name), the element names in info.json, or one key for the whole column. Nothing is guessed twice:
every decision comes with a sentence that the owner can check.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import dump_json
from svms_gr00t.core.files.whole import whole_file
from svms_gr00t.data.lerobot.metadata import Feature, Info, read_info, read_metadata
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS, ALIASES, STATE_SLICES, ActionOrder, action_order
from svms_gr00t.data.lerobot.table import read_columns

_IMAGE_PREFIXES = ("observation.images.", "observation.image.", "observation.")
_NUMBERS = re.compile(r"(float|int|uint)\d+|bool")
_BOOKKEEPING = re.compile(
    r"timestamp|(.*_)?index|annotation\..*|next\..*|.*(reward|success|discount|return|done|terminat|truncat).*|is_(first|last)"
)
_ACTION = re.compile(r"actions?([._].*)?")
_STATE = re.compile(r"observations?([._].*)?|states?([._].*)?|proprio.*|qpos.*")
_GRIPPER = re.compile(r"grip|finger|jaw|claw")
_ARM = "arm"
_PEEK = 8  # episodes whose actions are looked at


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A modality and why it looks like that."""

    modality: Modality
    """What would be written."""
    reasons: tuple[str, ...]
    """One sentence for each decision."""
    missing: tuple[str, ...] = ()
    """What training needs and no column was found for, each with what there is instead."""


def propose_modality(info: Info, *, order: ActionOrder | None = None) -> Proposal:
    """A modality for the features of `info`; `order` is what the numbers of a 12-D action look like."""
    reasons: list[str] = []
    states, actions = _numeric(info, reasons)
    main = {"state": _main(states, "observation.state"), "action": _main(actions, "action")}
    if _is_panda_omron(info, states.get(main["state"]), actions.get(main["action"])):
        state, action = _panda_omron(order, main, reasons)
    else:
        state = _slices("state", states, main["state"], reasons)
        action = _slices("action", actions, main["action"], reasons)
    video = _cameras(info, reasons)
    annotation = _annotations(info, reasons)
    value = {"state": state, "action": action, "video": video, "annotation": annotation}
    others = ", ".join(name for name in info.features if not _BOOKKEEPING.fullmatch(name)) or "none"
    needed = (
        ("state", state, "column of numbers"),
        ("action", action, "column of numbers"),
        ("camera", video, "video"),
    )
    missing = tuple(
        f"no {kind}: the columns are {others}, and none is a {kind}'s {what}"
        for kind, found, what in needed
        if not found
    )
    return Proposal(modality=Modality.from_dict(value), reasons=tuple(reasons), missing=missing)


def _numeric(info: Info, reasons: list[str]) -> tuple[dict[str, Feature], dict[str, Feature]]:
    """Columns of states and of actions; what is neither is a state where nothing else is, else left out with a word."""
    states: dict[str, Feature] = {}
    actions: dict[str, Feature] = {}
    others: dict[str, Feature] = {}
    for name, feature in info.features.items():
        if _BOOKKEEPING.fullmatch(name) or feature.dtype in ("video", "depth") or feature.tabled:
            continue
        kind = actions if _ACTION.fullmatch(name) else states if _STATE.fullmatch(name) else others
        if not _NUMBERS.fullmatch(feature.dtype) or not _width(feature):
            what = feature.dtype if not _NUMBERS.fullmatch(feature.dtype) else f"of shape {tuple(feature.shape)}"
            reasons.append(f"{name}: left out, for it is {what} and no row of numbers")
            continue
        kind[name] = feature
        if kind is actions and not feature.dtype.startswith("float"):
            reasons.append(f"{name}: whole numbers ({feature.dtype}), learned as any others; round what comes back")
    if others and not states:
        reasons.append(f"state: {', '.join(others)}, for no column is called state; check that the robot measures them")
        return others, actions
    reasons += [f"{name}: left out, for it is called neither state nor action" for name in others]
    return states, actions


def _main(features: Mapping[str, Feature], usual: str) -> str:
    """The column whose keys need no prefix: LeRobot's own name, "state" or "actions", or the only one."""
    short = [name for name in features if re.fullmatch(r"states?|actions?|observation", name)]
    return usual if usual in features else next(iter(short or (features if len(features) == 1 else ())), usual)


def _is_panda_omron(info: Info, state: Feature | None, action: Feature | None) -> bool:
    widths = [_width(feature) if feature else 0 for feature in (state, action)]
    return info.robot_type == "PandaOmron" and widths == [16, 12]


def _panda_omron(
    order: ActionOrder | None, main: Mapping[str, str], reasons: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    if order is None:
        reasons.append("action: base-first, RoboCasa365's published order; the numbers do not tell it from EEF-first")
    else:
        reasons.append(f"action: {order}, as the two-valued columns show")
    slices = {"state": STATE_SLICES, "action": ACTION_ORDERS[order or "base-first"]}
    state, action = ({k: e | _source(kind, main[kind]) for k, e in slices[kind].items()} for kind in slices)
    return state, action


def _source(kind: str, column: str) -> dict[str, str]:
    """The field that names the column, where it is not the default one."""
    return {} if column == {"state": "observation.state", "action": "action"}[kind] else {"original_key": column}


def _slices(kind: str, features: Mapping[str, Feature], main: str, reasons: list[str]) -> dict[str, Any]:
    """Keys of every numeric feature; the main column's keys need no prefix."""
    result: dict[str, Any] = {}
    for column, feature in features.items():
        stem = re.sub(r"^observations?\.(states?\.)?|^(actions?|states?)\.", "", column).replace(".", "_")
        stem = "" if column == main else stem
        parts = group_names(_names(feature), _width(feature))
        named = "names in info.json" if len(parts) > 1 or _names(feature) else "no element names, so one key"
        reasons.append(f"{column}: {', '.join(parts)} ({named})")
        for key, (start, end, rotation) in parts.items():
            entry: dict[str, Any] = {"start": start, "end": end, **_source(kind, column)}
            entry |= {"rotation_type": rotation} if rotation else {}
            key = stem if stem and len(parts) == 1 else "_".join(filter(None, (stem, key)))
            result[key if key not in result else column] = entry
    return result


def group_names(names: Sequence[str], width: int) -> dict[str, tuple[int, int, str | None]]:
    """Runs of related element names as {key: (start, end, rotation_type)}; one key when there are no names."""
    if len(names) != width:
        return {_ARM: (0, width, None)} if width else {}
    stems = [_stem(name.lower()) for name in names]
    groups: dict[str, tuple[int, int, str | None]] = {}
    start = 0
    for end in range(1, width + 1):
        if end == width or stems[end] != stems[start]:
            key = stems[start]
            unique = key if key not in groups else f"{key}_{start}"
            groups[unique] = (start, end, _rotation(key, end - start))
            start = end
    return groups


def _stem(name: str) -> str:
    """The group that an element belongs to: "left_gripper.pos" -> left_gripper, "x" -> position, "j3" -> arm."""
    name = re.sub(r"(\.(pos|q|position|angle)|_joint)$", "", name.replace("/", "_"))
    side = re.search(r"(^|_)(left|right|main)(?=_|$)", name)
    prefix = f"{side[2]}_" if side and side[2] != "main" else ""
    if _GRIPPER.search(name):
        return f"{prefix}gripper"
    base = re.sub(r"^(left|right|main)_", "", name)
    if re.fullmatch(r"((delta|eef|ee|pos|position)_?)*[xyz]|(eef|ee)_pos_?\d", base):
        return f"{prefix}position"
    if re.fullmatch(r"((delta|eef|ee|rot)_?)*(roll|pitch|yaw|r[xyzw]|q[xyzw]|axis_angle\d|quat_?[wxyz\d])", base):
        return f"{prefix}rotation"
    indexed = re.fullmatch(r"(.+?)_\d+", base)
    if indexed and not re.fullmatch(r"(motor|joint|j|dim|state|action)", indexed[1]):
        return prefix + indexed[1]
    return f"{prefix}{_ARM}"


def _rotation(key: str, width: int) -> str | None:
    if not key.endswith("rotation"):
        return None
    return {4: "quaternion", 6: "rotation_6d"}.get(width)


def _cameras(info: Info, reasons: list[str]) -> dict[str, Any]:
    video = {}
    for column, feature in info.features.items():
        if feature.depth:
            reasons.append(f"{column}: left out, for it is a depth map, which a model of colours cannot read")
        elif feature.dtype == "video" or feature.tabled:
            prefix = next((p for p in _IMAGE_PREFIXES if column.startswith(p)), "")
            video[column.removeprefix(prefix).replace(".", "_")] = {"original_key": column}
    if {"robot0_agentview_left", "robot0_agentview_right", "robot0_eye_in_hand"} <= video.keys():
        video = {alias: video[name] for alias, name in ALIASES.items()} | video
        reasons.append("cameras: RoboCasa's three, first under the names of the released N1.6 checkpoint")
    else:
        reasons.append(f"cameras: {', '.join(video) or 'none'}")
    return video


def _annotations(info: Info, reasons: list[str]) -> dict[str, Any]:
    columns = [name for name in info.features if name.startswith("annotation.")]
    annotation: dict[str, Any] = {name.removeprefix("annotation."): {} for name in columns}
    key = "human.action.task_description"
    if key not in annotation:
        best = "annotation.human.task_description"
        source = best if best in columns else "task_index"
        annotation = {key: {"original_key": source}} | annotation
        reasons.append(f"instruction: from the column {source}")
    return annotation


def _names(feature: Feature) -> list[str]:
    """Element names as a flat list: LeRobot writes a list, or a list under "motors" or "axes"."""
    names = feature.names
    if isinstance(names, Mapping):
        names = next(iter(names.values()), None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _width(feature: Feature) -> int:
    """Numbers of a row: LeRobot writes [D], or [1] for one number, other tools []. 0 for tables and pictures."""
    return 1 if not feature.shape else feature.shape[0] if len(feature.shape) == 1 else 0


def propose_for(root: Path) -> Proposal:
    """A modality for the dataset at `root`; a 12-D action's order is read from its first episodes.

    Raises DataError when the folder is no dataset.
    """
    info = read_info(root)
    first = propose_modality(info)
    order = None
    actions = _numeric(info, [])[1]
    column = _main(actions, "action")
    if column in actions and _width(actions[column]) == 12:
        metadata = read_metadata(root, info)
        rows = []
        for episode in metadata.episodes[:_PEEK]:
            only = episode.index if metadata.shared else None
            path = metadata.data[episode.index]
            rows.append(read_columns(path, [column], length=episode.length, only_episode=only)[column])
        order = action_order(np.concatenate(rows)) if rows else None
    return propose_modality(info, order=order) if order else first


def write_modality(root: Path, modality: Modality, *, replace: bool = False) -> Path:
    """Write `meta/modality.json`, all or nothing. Raises DataError when there is one, unless told to `replace` it."""
    path = root / "meta" / "modality.json"
    if path.exists() and not replace:
        hint = "Keep it, or pass --replace"
        raise DataError(path, got="a modality.json already", want="none", hint=hint)
    with whole_file(path) as partial:
        dump_json(partial, modality.to_dict())
    return path
