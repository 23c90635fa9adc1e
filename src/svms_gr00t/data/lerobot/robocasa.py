"""RoboCasa's names: the two action orders that share its name, its cameras, its subsets of demonstrations and soups.

    base-first   RoboCasa365 as published (LeRobot): base 0:4, mode 4, position 5:8, rotation 8:11, gripper 11
    eef-first    raw HDF5 files, and copies made from them: position 0:3, rotation 3:6, gripper 6, base 7:11, mode 11
    robosuite    an environment without RoboCasa's controller: position 0:3, rotation 3:6, torso 6, base 7:10,
                 gripper 10, mode 11

Gripper and mode take two values (-1 and 1, or 0 and 1; the gripper also 0 before its first command), all others are
continuous: which columns are two-valued tells the orders apart. Source: RoboCasa 1.0.1, robosuite 1.5.2.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from svms_gr00t.core.errors import ConfigError, DataError

ActionOrder = Literal["base-first", "eef-first", "robosuite"]

STATE_SLICES: dict[str, Any] = {
    "base_position": {"start": 0, "end": 3},
    "base_rotation": {"start": 3, "end": 7, "rotation_type": "quaternion"},
    "end_effector_position_relative": {"start": 7, "end": 10},
    "end_effector_rotation_relative": {"start": 10, "end": 14, "rotation_type": "quaternion"},
    "gripper_qpos": {"start": 14, "end": 16},
}
"""The 16 state numbers of RoboCasa365."""

STATE_SOURCES = {
    "base_position": "robot0_base_pos",
    "base_rotation": "robot0_base_quat",
    "end_effector_position_relative": "robot0_base_to_eef_pos",
    "end_effector_rotation_relative": "robot0_base_to_eef_quat",
    "gripper_qpos": "robot0_gripper_qpos",
}
"""robosuite's observation behind each state key."""


def _action(*parts: tuple[str, int]) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "end_effector_position": {"absolute": False},
        "end_effector_rotation": {"absolute": False, "rotation_type": "axis_angle"},
    }
    slices: dict[str, Any] = {}
    start = 0
    for key, width in parts:
        slices[key] = {"start": start, "end": start + width, **kinds.get(key, {})}
        start += width
    return slices


_POSITION, _ROTATION = ("end_effector_position", 3), ("end_effector_rotation", 3)
_GRIPPER, _BASE, _MODE = ("gripper_close", 1), ("base_motion", 4), ("control_mode", 1)

ACTION_ORDERS: dict[ActionOrder, dict[str, Any]] = {
    "base-first": _action(_BASE, _MODE, _POSITION, _ROTATION, _GRIPPER),
    "eef-first": _action(_POSITION, _ROTATION, _GRIPPER, _BASE, _MODE),
    "robosuite": _action(_POSITION, _ROTATION, ("torso", 1), ("base_motion", 3), _GRIPPER, _MODE),
}
"""Slices of the 12 action numbers, by order."""

ALIASES = {
    "res256_image_side_0": "robot0_agentview_left",
    "res256_image_side_1": "robot0_agentview_right",
    "res256_image_wrist_0": "robot0_eye_in_hand",
}
"""Camera names of the released N1.6 checkpoint -> RoboCasa's."""


def two_valued(actions: Shaped[np.ndarray, "T D"]) -> tuple[int, ...]:
    """Columns whose values all are -1, 0 or 1, and not all 0."""
    coded = np.isin(actions, (-1.0, 0.0, 1.0)).all(axis=0) & (actions != 0).any(axis=0)
    return tuple(int(i) for i in np.flatnonzero(coded))


def action_order(actions: Shaped[np.ndarray, "T D"]) -> ActionOrder | None:
    """The order that 12-D actions are in, or None when the numbers do not tell."""
    if actions.shape[1] != 12 or not len(actions):
        return None
    coded = set(two_valued(actions))
    fits = {
        "base-first": {4, 11} <= coded and not coded & {6, 8, 9, 10},
        "eef-first": {6, 11} <= coded and not coded & {3, 4, 5},
        "robosuite": {10, 11} <= coded and not coded & {3, 4, 5, 6},
    }
    found = [name for name, fit in fits.items() if fit]
    return found[0] if len(found) == 1 else None  # type: ignore[return-value]


def filter_episodes(episodes: list[int], filter_key: str, *, seed: int = 0) -> list[int]:
    """Episodes of RoboCasa's subset "N_demos", as its own loader draws them: shuffled with `seed`, the first N.

    Raises ConfigError for another form of the key. As there, a key that asks for more gives all.
    """
    import random

    number, _, rest = filter_key.partition("_")
    if not number.isdigit() or rest != "demos" or int(number) < 1:
        raise ConfigError("filter_key", got=filter_key, want='"N_demos" with N > 0', hint='Such as "100_demos"')
    if int(number) >= len(episodes):
        return list(episodes)
    shuffled = list(episodes)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled[: int(number)])


_ATOMIC_SEEN = (
    *("CloseBlenderLid", "CloseFridge", "CloseToasterOvenDoor", "CoffeeSetupMug", "NavigateKitchen", "OpenCabinet"),
    *("OpenDrawer", "OpenStandMixerHead", "PickPlaceCounterToCabinet", "PickPlaceCounterToStove"),
    *("PickPlaceDrawerToCounter", "PickPlaceSinkToCounter", "PickPlaceToasterToCounter", "SlideDishwasherRack"),
    *("TurnOffStove", "TurnOnElectricKettle", "TurnOnMicrowave", "TurnOnSinkFaucet"),
)
_COMPOSITE_SEEN = (
    *("DeliverStraw", "GetToastedBread", "KettleBoiling", "LoadDishwasher", "PackIdenticalLunches", "PreSoakPan"),
    *("PrepareCoffee", "RinseSinkBasin", "ScrubCuttingBoard", "SearingMeat", "SetUpCuttingStation"),
    *("StackBowlsCabinet", "SteamInMicrowave", "StirVegetables", "StoreLeftoversInBowl", "WashLettuce"),
)
_COMPOSITE_UNSEEN = (
    *("ArrangeBreadBasket", "ArrangeTea", "BreadSelection", "CategorizeCondiments", "CuttingToolSelection"),
    *("GarnishPancake", "GatherTableware", "HeatKebabSandwich", "MakeIceLemonade", "PanTransfer", "PortionHotDogs"),
    *("RecycleBottlesByType", "SeparateFreezerRack", "WaffleReheat", "WashFruitColander", "WeighIngredients"),
)
TASK_SETS: dict[str, tuple[str, ...]] = {
    "atomic_seen": _ATOMIC_SEEN,
    "composite_seen": _COMPOSITE_SEEN,
    "composite_unseen": _COMPOSITE_UNSEEN,
    "target50": _ATOMIC_SEEN + _COMPOSITE_SEEN + _COMPOSITE_UNSEEN,
}
"""RoboCasa365's target tasks."""

SOUPS: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "target50": ("target", "target50", ("human",)),
    "target_atomic_seen": ("target", "atomic_seen", ("human",)),
    "target_composite_seen": ("target", "composite_seen", ("human",)),
    "target_composite_unseen": ("target", "composite_unseen", ("human",)),
    "pretrain_atomic_seen": ("pretrain", "atomic_seen", ("mg",)),
    "pretrain_human300": ("pretrain", None, ("human",)),
    "pretrain_human300_mg60": ("pretrain", None, ("human", "mg")),
}
"""Soup -> split, task set (None: every task of the split) and sources; "_10p" and "_30p" take a part of the demos."""

_DEMOS = {"target": 500, "pretrain": 100}
_PLACES = {"human": "*/lerobot", "mg": "**/mg/demo/*/lerobot"}


def soup_folders(root: Path, name: str) -> tuple[tuple[Path, ...], str | None]:
    """Datasets of a soup under `root` (ROOT/v1.0/SPLIT/atomic|composite/TASK/DATE/lerobot) and its filter key.

    Of several dates of a task the newest is taken. Raises ConfigError for an unknown name, and DataError when a task
    of the soup is not there, naming those that are missing.
    """
    stem, _, percent = name.rpartition("_") if name.endswith(("_10p", "_30p")) else (name, "", "")
    if stem not in SOUPS:
        want, hint = f"one of {', '.join(SOUPS)}, or with _10p or _30p", "Or name the datasets one by one"
        raise ConfigError("soup", got=name, want=want, hint=hint)
    split, task_set, sources = SOUPS[stem]
    groups = [folder for kind in ("atomic", "composite") for folder in sorted(root.glob(f"v*/{split}/{kind}/*"))]
    tasks = TASK_SETS[task_set] if task_set else tuple(dict.fromkeys(folder.name for folder in groups))
    found: list[Path] = []
    missing: list[str] = []
    for task in tasks:
        here = [_newest(groups, task, source) for source in sources]
        found += [folder for folder in here if folder is not None]
        # MimicGen made data for some tasks only; human demonstrations are there for all.
        missing += [task] if here[0] is None else []
    if missing or not found:
        got = f"{len(found)} datasets, none for {', '.join(missing[:5]) or 'any task'}"
        raise DataError(root, got=got, want=f"the datasets of {name}", hint="Download them, or name what is there")
    filter_key = f"{_DEMOS[split] * int(percent[:-1]) // 100}_demos" if percent else None
    return tuple(found), filter_key


def _newest(groups: list[Path], task: str, source: str) -> Path | None:
    folders = [path for group in groups if group.name == task for path in group.glob(_PLACES[source])]
    return max(folders, key=lambda path: path.as_posix(), default=None)
