"""Small PandaOmron demonstrations in memory, and as a dataset in any of the known action orders."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from toy_dataset import pictures

from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS, STATE_SLICES, ActionOrder
from svms_gr00t.data.lerobot.writer import LeRobotWriter

CAMERAS = ("robot0_agentview_left", "robot0_agentview_right", "robot0_eye_in_hand")
STEPS = 30


def state_parts(seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """State keys of a robot that moves smoothly."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, steps)[:, None]
    turn = np.concatenate([t * 0.1, t * 0.2, 1.0 + t * 0.5], axis=1)
    quaternions = Rotation.from_rotvec(turn).as_quat()
    return {
        "base_position": np.array([1.0, 2.0, 0.7]) + 0.1 * t * rng.normal(size=3),
        "base_rotation": np.tile([0.0, 0.0, 0.6, 0.8], (steps, 1)),
        "end_effector_position_relative": np.array([0.4, 0.0, 1.1]) + 0.2 * t * rng.normal(size=3),
        "end_effector_rotation_relative": quaternions,
        "gripper_qpos": np.concatenate([0.04 - 0.03 * t, -0.04 + 0.03 * t], axis=1),
    }


def action_parts(seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Action keys with a closing gripper and a mode that switches."""
    rng = np.random.default_rng(seed + 100)
    half = (np.arange(steps) >= steps // 2)[:, None]
    return {
        "end_effector_position": rng.uniform(-1, 1, (steps, 3)),
        "end_effector_rotation": rng.uniform(-0.5, 0.5, (steps, 3)),
        "gripper_close": np.where(half, 1.0, -1.0),
        "base_motion": rng.uniform(-1, 1, (steps, 4)),
        "control_mode": np.where(np.arange(steps)[:, None] % 10 < 3, 1.0, -1.0),
    }


def in_order(parts: dict[str, np.ndarray], slices: dict[str, Any]) -> np.ndarray:
    """The parts as one column in the order of `slices`; robosuite's own order splits the base."""
    parts = dict(parts)
    if "torso" in slices:
        parts |= {"torso": parts["base_motion"][:, 3:], "base_motion": parts["base_motion"][:, :3]}
    width = max(entry["end"] for entry in slices.values())
    out = np.full((len(parts["gripper_close"] if "gripper_close" in parts else parts["base_position"]), width), np.nan)
    for key, entry in slices.items():
        out[:, entry["start"] : entry["end"]] = parts[key]
    return out


def write_omron(
    root: Path,
    *,
    order: ActionOrder = "base-first",
    said: ActionOrder | None = None,
    episodes: int = 2,
    change: Any = None,
) -> Path:
    """A dataset whose numbers are in `order` while modality.json says `said`; `change` edits columns before writing."""
    modality = {
        "state": STATE_SLICES,
        "action": ACTION_ORDERS[said or order],
        "video": {name: {} for name in CAMERAS},
        "annotation": {"human.action.task_description": {}},
    }
    writer = LeRobotWriter(
        root,
        fps=20.0,
        robot_type="PandaOmron",
        modality=Modality.from_dict(modality),
        lowdim={"observation.state": [f"s{i}" for i in range(16)], "action": [f"a{i}" for i in range(12)]},
        videos={f"observation.images.{name}": (48, 48) for name in CAMERAS},
        provenance={"made_by": "the tests"},
    )
    with writer:
        for index in range(episodes):
            columns = {
                "observation.state": in_order(state_parts(index), STATE_SLICES),
                "action": in_order(action_parts(index), ACTION_ORDERS[order]),
            }
            videos = {f"observation.images.{name}": pictures(STEPS, seed=i) for i, name in enumerate(CAMERAS)}
            if change is not None:
                change(index, columns, videos)
            writer.add_episode(columns, videos, "open the left drawer and turn on the stove")
    return root
