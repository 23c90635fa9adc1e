"""Columns by other names are proposed, or left out with the reason; what cannot be trained on is never all clear."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from lerobot_files import change_feature, each_table, rename_columns
from omron_dataset import write_omron
from toy_dataset import write_toy

from svms_gr00t.cli.main import parse
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.init_modality import propose_for, propose_modality
from svms_gr00t.data.lerobot.metadata import Info
from svms_gr00t.data.processor.embodiment import from_modality


def unnamed(root: Path, names: dict[str, str]) -> Path:
    """The toy without its modality.json, its columns called otherwise."""
    rename_columns(root, names)
    (root / "meta" / "modality.json").unlink()
    return root


NAMES = {
    "openpi": ({"observation.state": "state", "action": "actions"}, {"position", "arm"}),
    "one of several": ({"action": "actions.joint.position"}, {"position", "arm"}),
    "dotted state": ({"observation.state": "state.joints"}, {"position", "arm"}),
    "neither": ({"observation.state": "joint_position"}, {"position", "arm"}),
    "proprioception": ({"observation.state": "proprio", "action": "action_joints"}, {"position", "arm"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_under_other_names(toy: Path, name: str) -> None:
    names, keys = NAMES[name]
    before = LeRobotDataset.open(toy)
    rows = {
        kind: before.columns(1, [column])[column]
        for kind, column in (("state", "observation.state"), ("action", "action"))
    }
    assert parse(["data", "init-modality", str(unnamed(toy, names))]).run() == 0
    dataset = LeRobotDataset.open(toy)
    from_modality(dataset.modality)
    assert set(dataset.modality.state) == set(dataset.modality.action) == keys
    for kind, expected in rows.items():
        order = np.concatenate([dataset.lowdim(1)[f"{kind}.{key}"] for key in getattr(dataset.modality, kind)], axis=1)
        np.testing.assert_array_equal(order, expected)


def test_robocasas_order_is_read_from_actions_of_another_name(tmp_path: Path) -> None:
    root = write_omron(tmp_path / "set", order="eef-first")
    proposal = propose_for(unnamed(root, {"observation.state": "state", "action": "actions"}))
    assert proposal.modality.action["gripper_close"].start == 6
    assert proposal.modality.column("action", "gripper_close") == "actions"
    assert proposal.modality.column("state", "gripper_qpos") == "state"


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
def test_whole_number_actions_are_proposed_with_a_word(toy: Path, dtype: str) -> None:
    def whole(table: pa.Table) -> pa.Table:
        values = (np.stack(table["action"].to_numpy()) > 0).astype(dtype)
        return table.set_column(table.column_names.index("action"), "action", pa.array(list(values)))

    each_table(toy, whole)
    change_feature(toy, "action", dtype=dtype)
    (toy / "meta" / "modality.json").unlink()
    proposal = propose_for(toy)
    assert any(f"action: whole numbers ({dtype})" in reason for reason in proposal.reasons)
    dataset = LeRobotDataset.open(toy, modality=proposal.modality)
    assert set(
        np.unique(np.concatenate([dataset.lowdim(0)[f"action.{k}"] for k in dataset.modality.action], axis=1))
    ) <= {0, 1}


def features(**extra: Any) -> Info:
    numbers = {"dtype": "float32", "shape": [3], "names": None}
    camera = {"dtype": "video", "shape": [8, 8, 3], "names": None}
    value = {"observation.state": numbers, "action": numbers, "front": camera, **extra}
    return Info(codebase_version="v2.1", fps=10, features=value, data_path="d", video_path="v")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (
            {"language_instruction": {"dtype": "string", "shape": [1]}},
            "language_instruction: left out, for it is string",
        ),
        (
            {"action.chunk": {"dtype": "float32", "shape": [16, 7]}},
            "action.chunk: left out, for it is of shape (16, 7)",
        ),
        ({"torque": {"dtype": "float32", "shape": [7]}}, "torque: left out, for it is called neither state nor action"),
        (
            {"depth": {"dtype": "video", "shape": [8, 8, 1], "info": {"video.is_depth_map": True}}},
            "depth: left out, for it is a depth map",
        ),
        (
            {"deep": {"dtype": "image", "shape": [8, 8, 1], "video_info": {"is_depth_map": True}}},
            "deep: left out, for it is a depth map",
        ),
    ],
)
def test_what_is_left_out_has_a_reason(extra: dict[str, Any], reason: str) -> None:
    proposal = propose_modality(features(**extra))
    assert any(one.startswith(reason) for one in proposal.reasons)
    assert not proposal.missing
    assert set(proposal.modality.video) == {"front"}


@pytest.mark.parametrize(
    "column", ["next.reward", "next.done", "reward", "discount", "is_last", "subtask_index", "success"]
)
def test_bookkeeping_is_no_state(column: str) -> None:
    info = features(**{column: {"dtype": "float32", "shape": [1]}})
    assert propose_modality(info).modality == propose_modality(features()).modality


@pytest.mark.parametrize("kind", ["state", "action", "camera"])
def test_what_training_needs_and_nothing_is_called_so(toy: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    gone = {"state": "observation.state", "action": "action", "camera": "observation.images.front"}[kind]
    if kind == "camera":
        info = json.loads((toy / "meta/info.json").read_text())
        del info["features"][gone]
        (toy / "meta/info.json").write_text(json.dumps(info))
    else:  # a name that says nothing, beside one that does
        rename_columns(toy, {gone: "reward"})
    (toy / "meta" / "modality.json").unlink()
    report = examine(toy)
    named = [f.found for f in report.findings if f.severity == "error" and f.found.startswith(f"no {kind}")]
    assert named
    assert not report.healthy
    assert parse(["data", "init-modality", str(toy)]).run() == 1
    assert f"no {kind}" in capsys.readouterr().out
    assert not examine(toy).healthy  # nor with the file that was written
    assert parse(["data", "doctor", str(toy)]).run() == 1


def test_a_dataset_that_training_refuses_is_never_all_clear(tmp_path: Path) -> None:
    whole = write_toy(tmp_path / "whole")
    assert examine(whole).healthy
    one = write_toy(tmp_path / "one")
    lines = (one / "meta/episodes.jsonl").read_text().splitlines(keepends=True)
    (one / "meta/episodes.jsonl").write_text(lines[0])
    assert [f.found for f in examine(one).of("training")] == ["1 episode, and training holds at least one out"]
    wide = write_toy(tmp_path / "wide")

    def widen(table: pa.Table) -> pa.Table:
        rows = np.repeat(np.stack(table["action"].to_numpy()), 40, axis=1)
        return table.set_column(table.column_names.index("action"), "action", pa.array(list(rows)))

    each_table(wide, widen)
    change_feature(wide, "action", shape=[160], names=None)
    modality = json.loads((wide / "meta/modality.json").read_text())
    modality["action"] = {"arm": {"start": 0, "end": 160}}
    (wide / "meta/modality.json").write_text(json.dumps(modality))
    assert "160, but need at most 128" in examine(wide).of("training")[0].found
