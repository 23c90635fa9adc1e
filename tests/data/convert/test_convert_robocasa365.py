"""RoboCasa365's published names become those of the released checkpoint; the source stays as it was."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from lerobot_files import tree
from omron_dataset import CAMERAS, write_omron

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.robocasa365 import convert_robocasa365
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.embodiment import ROBOCASA_PANDA_OMRON
from svms_gr00t.data.processor.statistics import compute_statistics


def published(root: Path, **changes: object) -> Path:
    """A dataset as RoboCasa365 names it: its cameras, its annotation columns, a class name as an extra task."""
    write_omron(root, **changes)  # type: ignore[arg-type]
    info = json.loads((root / "meta/info.json").read_text())
    feature = info["features"]["task_index"]
    info["features"] |= {"annotation.human.task_description": feature, "annotation.human.task_name": feature}
    info["features"].pop("annotation.human.action.task_description")
    (root / "meta/info.json").write_text(json.dumps(info))
    modality = json.loads((root / "meta/modality.json").read_text())
    names = {"human.task_description": {}, "human.task_name": {}}
    (root / "meta/modality.json").write_text(json.dumps(modality | {"annotation": names}))
    with (root / "meta/tasks.jsonl").open("a") as file:
        file.write('{"task_index": 1, "task": "OpenDrawer"}\n')
    import pyarrow.parquet as pq

    for path in root.rglob("*.parquet"):
        table = pq.read_table(path)
        old = table["annotation.human.action.task_description"]
        table = table.drop_columns(["annotation.human.action.task_description"])
        table = table.append_column("annotation.human.task_description", old)
        pq.write_table(table.append_column("annotation.human.task_name", old), path)
    return root


def test_the_checkpoint_finds_every_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = published(tmp_path / "lerobot")
    before = tree(source)
    assert parse(["data", "convert", "robocasa365", str(source), str(tmp_path / "set")]).run() == 0
    assert "base-first" in capsys.readouterr().out
    dataset = LeRobotDataset.open(tmp_path / "set")
    robot = ROBOCASA_PANDA_OMRON
    assert set(robot.video.modality_keys) | set(CAMERAS) == set(dataset.views)
    assert set(robot.state.modality_keys) <= set(dataset.modality.state)
    assert set(robot.action.modality_keys) == set(dataset.modality.action)
    assert "human.task_name" in dataset.modality.annotation
    assert dataset.instruction(0, 0) == "open the left drawer and turn on the stove"
    frames = [dataset.frames(0, view, [5]) for view in ("res256_image_wrist_0", "robot0_eye_in_hand")]
    np.testing.assert_array_equal(*frames)
    compute_statistics(dataset, embodiment=robot)
    assert parse(["data", "doctor", str(tmp_path / "set")]).run() == 0
    dataset.root.joinpath("meta/info.json").write_text("edited")
    assert tree(source) == before


def test_an_eef_first_copy_gets_the_slices_of_its_numbers(tmp_path: Path) -> None:
    source = published(tmp_path / "lerobot", order="eef-first", said="base-first")
    right = LeRobotDataset.open(source).columns(0, ["action"])["action"]
    convert_robocasa365(source, tmp_path / "set")
    gripper = LeRobotDataset.open(tmp_path / "set").lowdim(0)["action.gripper_close"]
    np.testing.assert_array_equal(gripper[:, 0], right[:, 6])
    assert set(np.unique(gripper)) == {-1.0, 1.0}


def test_another_robot_is_refused(toy: Path) -> None:
    with pytest.raises(DataError, match=r"no video.res256_image_side_0, .* but need RoboCasa365 as published"):
        convert_robocasa365(toy, toy.with_name("set"))
    assert not list(toy.parent.glob(".set*"))


def test_copies_of_an_interrupted_run_are_compared_with_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is the source; a copy on another disk may be of a source that is no more."""
    source, target = published(tmp_path / "published"), tmp_path / "made"

    def no_links(*_paths: Path) -> None:
        raise OSError

    def stop(_root: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as patch:
        patch.setattr(LeRobotDataset, "open", stop)
        with pytest.raises(KeyboardInterrupt):
            convert_robocasa365(source, target)
    unfinished = tmp_path / ".made.partial" / "files"
    kept, other = sorted(path for path in unfinished.rglob("*.parquet"))[:2]
    before = kept.stat().st_ino
    other.write_bytes(other.read_bytes()[:-1] + b"?")
    convert_robocasa365(source, target)
    for path in (kept, other):
        name = path.relative_to(unfinished)
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (target / kept.relative_to(unfinished)).stat().st_ino == before, "copied again"
