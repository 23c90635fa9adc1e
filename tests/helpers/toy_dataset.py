"""A small dataset made by our own writer, rebuilt for each test so that it may be broken."""

from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.writer import LeRobotWriter

MODALITY = {
    "state": {"arm": {"start": 0, "end": 3}, "gripper": {"start": 3, "end": 4}},
    "action": {"arm": {"start": 1, "end": 4}, "gripper": {"start": 0, "end": 1}},
    "video": {"front": {}},
    "annotation": {"human.action.task_description": {}},
}
LENGTHS = (12, 7, 9)


def pictures(length: int, *, seed: int = 0, size: int = 48) -> np.ndarray:
    """Smooth moving colours: as friendly to h264 as real clips, and each frame differs from every other."""
    y, x = np.mgrid[:size, :size] / size
    t = np.arange(length)[:, None, None] / 6 + seed
    channels = [np.sin(5 * x + t), np.sin(4 * y - 2 * t), np.sin(3 * (x + y) + t)]
    return ((np.stack(np.broadcast_arrays(*channels), axis=-1) + 1) * 127).astype(np.uint8)


def episode(length: int, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns and videos of one episode."""
    rng = np.random.default_rng(seed)
    columns = {"observation.state": rng.normal(size=(length, 4)), "action": rng.normal(size=(length, 4))}
    columns = {name: rows.astype(np.float32) for name, rows in columns.items()}
    return columns, {"observation.images.front": pictures(length, seed=seed)}


def open_writer(root: Path, **changes: Any) -> LeRobotWriter:
    arguments: dict[str, Any] = {
        "fps": 20.0,
        "robot_type": "toy",
        "modality": Modality.from_dict(MODALITY),
        "lowdim": {"observation.state": list("xyzg"), "action": list("gxyz")},
        "videos": {"observation.images.front": (48, 48)},
        "provenance": {"made_by": "the tests"},
    }
    return LeRobotWriter(root, **(arguments | changes))


def write_toy(root: Path) -> Path:
    with open_writer(root) as writer:
        for index, length in enumerate(LENGTHS):
            columns, videos = episode(length, seed=index)
            writer.add_episode(columns, videos, f"open the {('drawer', 'door')[index % 2]}", {"scene": {"seed": index}})
    return root
