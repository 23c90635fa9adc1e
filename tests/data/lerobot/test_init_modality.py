"""Proposals name what real datasets hold, read RoboCasa's order from the numbers, and never write over a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omron_dataset import write_omron

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.init_modality import group_names, propose_for, propose_modality
from svms_gr00t.data.lerobot.metadata import Info
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS

SO100 = [f"main_{n}" for n in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")]
SO101 = [f"{name.removeprefix('main_')}.pos" for name in SO100]
_ALOHA = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ALOHA = [f"{side}_{name}" for side in ("left", "right") for name in _ALOHA]
NAMES = {
    "so100": (SO100, {"arm": (0, 5, None), "gripper": (5, 6, None)}),
    "so101": (SO101, {"arm": (0, 5, None), "gripper": (5, 6, None)}),
    "aloha": (
        ALOHA,
        {
            "left_arm": (0, 6, None),
            "left_gripper": (6, 7, None),
            "right_arm": (7, 13, None),
            "right_gripper": (13, 14, None),
        },
    ),
    "libero": (
        ["x", "y", "z", "rx", "ry", "rz", "rw", "gripper"],
        {"position": (0, 3, None), "rotation": (3, 7, "quaternion"), "gripper": (7, 8, None)},
    ),
    "euler": (
        ["x", "y", "z", "roll", "pitch", "yaw", "gripper"],
        {"position": (0, 3, None), "rotation": (3, 6, None), "gripper": (6, 7, None)},
    ),
    "motors": ([f"motor_{i}" for i in range(44)], {"arm": (0, 44, None)}),
    "none": ([], {"arm": (0, 9, None)}),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_become_keys(name: str) -> None:
    names, keys = NAMES[name]
    assert group_names(names, len(names) or 9) == keys


@given(st.lists(st.sampled_from(["x", "left_grip", "joint_1", "q", "base_2", "rx", "yaw", "a b"]), max_size=12))
def test_every_element_gets_exactly_one_key(names: list[str]) -> None:
    ends = sorted((start, end) for start, end, _ in group_names(names, len(names)).values())
    covered = [i for start, end in ends for i in range(start, end)]
    assert covered == list(range(len(names)))


def test_a_dataset_of_lerobot_itself() -> None:
    """An SO-101 in LeRobot's own layout: nested names, image features, further columns, no annotation."""
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [6], "names": {"motors": SO101}},
        "observation.effort": {"dtype": "float32", "shape": [6], "names": None},
        "action": {"dtype": "float32", "shape": [6], "names": {"motors": SO101}},
        "observation.images.front": {"dtype": "video", "shape": [480, 640, 3], "names": None},
        "observation.image": {"dtype": "image", "shape": [96, 96, 3], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    info = Info(codebase_version="v3.0", fps=30, features=features, data_path="d", video_path="v")  # type: ignore[arg-type]
    proposal = propose_modality(info)
    modality = proposal.modality
    assert list(modality.state) == ["arm", "gripper", "effort"]
    assert modality.column("state", "effort") == "observation.effort"
    assert list(modality.action) == ["arm", "gripper"]
    assert {key: modality.column("video", key) for key in modality.video} == {
        "front": "observation.images.front",
        "image": "observation.image",
    }
    assert modality.column("annotation", str(modality.instruction_key)) == "task_index"
    assert any("task_index" in reason for reason in proposal.reasons)


@pytest.mark.parametrize("order", ACTION_ORDERS)
def test_the_order_of_robocasa_comes_from_the_numbers(tmp_path: Path, order: Any) -> None:
    root = write_omron(tmp_path / "set", order=order)
    written = json.loads((root / "meta/modality.json").read_text())
    proposal = propose_for(root)
    assert proposal.modality.to_dict()["action"] == written["action"]
    assert any(order in reason for reason in proposal.reasons)
    views = list(proposal.modality.video)
    assert views[:3] == ["res256_image_side_0", "res256_image_side_1", "res256_image_wrist_0"]
    dataset = LeRobotDataset.open(root, modality=proposal.modality)
    assert dataset.frames(0, "res256_image_wrist_0", [0]).shape == (1, 48, 48, 3)


def test_a_real_dataset_without_its_modality(shared: Path) -> None:
    root = shared / "robot_sim.PickNPlace"
    proposal = propose_for(root)
    dataset = LeRobotDataset.open(root, modality=proposal.modality)
    assert {key: entry.width for key, entry in proposal.modality.state.items()} == {"arm": 44}
    assert dataset.instruction(3, 0) == "pick the salt from the counter and place it in the plate"


def test_the_command_writes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_omron(tmp_path / "set")
    path = root / "meta/modality.json"
    with pytest.raises(DataError, match="a modality"):
        parse(["data", "init-modality", str(root)]).run()
    path.unlink()
    assert parse(["data", "init-modality", str(root), "--dry-run"]).run() == 0
    assert not path.exists()
    assert parse(["data", "init-modality", str(root)]).run() == 0
    assert "base-first" in capsys.readouterr().out
    assert LeRobotDataset.open(root).modality.action["gripper_close"].start == 11
    assert parse(["data", "doctor", str(root)]).run() == 0
    assert (
        parse(["data", "statistics", str(root), "--relative", "base_motion=base_rotation", "--horizon", "4"]).run() == 0
    )
