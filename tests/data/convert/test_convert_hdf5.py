"""HDF5 -> LeRobot: actions bit by bit under their names, language from ep_meta, nothing half-written."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omron_dataset import CAMERAS, action_parts, in_order, state_parts
from toy_dataset import pictures

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.hdf5 import convert_hdf5
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS, STATE_SOURCES, ActionOrder

h5py = pytest.importorskip("h5py", reason="converting HDF5 needs the convert extra (h5py)")
NUMBERS = (1, 2, 10)  # the file lists demo_10 before demo_2
STEPS = 24


def write_hdf5(path: Path, *, order: ActionOrder = "eef-first", change: Any = None) -> Path:
    """A RoboCasa file as its image extraction writes it."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "OpenDrawer", "env_kwargs": {"robots": ["PandaOmron"]}})
        for number in NUMBERS:
            demo = data.create_group(f"demo_{number}")
            demo.attrs["ep_meta"] = json.dumps({"lang": f"open drawer {number} and turn on the stove", "layout_id": 3})
            demo["actions"] = in_order(action_parts(number, STEPS), ACTION_ORDERS[order])
            demo["states"] = np.zeros((STEPS, 9))
            demo["rewards"] = (np.arange(STEPS) == STEPS - 1).astype(float)
            obs = demo.create_group("obs")
            for key, column in STATE_SOURCES.items():
                obs[column] = state_parts(number, STEPS)[key]
            for i, camera in enumerate(CAMERAS):
                obs[f"{camera}_image"] = pictures(STEPS, seed=number + i)
        file.create_group("mask")["1_demos"] = np.array([b"demo_10"])
        if change is not None:
            change(file)
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("order", ACTION_ORDERS)
def test_actions_are_copied_under_their_names(tmp_path: Path, order: ActionOrder) -> None:
    done = convert_hdf5(write_hdf5(tmp_path / "demo.hdf5", order=order), tmp_path / "set")
    assert (done.episodes, done.resumed) == (3, 0)
    assert f"actions in {order} order" in done.notes[0]
    dataset = LeRobotDataset.open(done.root)
    for episode, number in zip(dataset.episodes, NUMBERS, strict=True):
        stored = dataset.columns(episode.index, ["action", "observation.state"])
        parts = action_parts(number, STEPS)
        for key, entry in dataset.modality.action.items():
            np.testing.assert_array_equal(stored["action"][:, entry.start : entry.end], parts[key])  # float64, no slack
        for key, entry in dataset.modality.state.items():
            column = stored["observation.state"][:, entry.start : entry.end]
            np.testing.assert_array_equal(column, state_parts(number, STEPS)[key])
        assert dataset.instruction(episode.index, 0) == f"open drawer {number} and turn on the stove"
        extras = json.loads((done.root / f"extras/episode_{episode.index:06d}/ep_meta.json").read_text())
        assert extras["layout_id"] == 3
    assert dataset.modality.action["base_motion"].start == 0
    wrist = dataset.frames(0, "res256_image_wrist_0", [0, STEPS - 1]).astype(float)
    assert np.mean((wrist - pictures(STEPS, seed=3)[[0, -1]]) ** 2) < 60
    assert [f for f in examine(done.root).findings if f.severity != "note"] == []
    shifted = in_order(action_parts(NUMBERS[0], STEPS), ACTION_ORDERS["eef-first"])  # mutant: sliced by position
    if order != "base-first":
        assert not np.array_equal(dataset.columns(0, ["action"])["action"], shifted)


class Stopper:
    """A progress bar that dies after some episodes, as a user who presses control-C."""

    def __init__(self, after: int) -> None:
        self.after = after

    @contextmanager
    def task(self, _title: str, total: int) -> Any:
        assert total == len(NUMBERS)
        yield self

    def advance(self, steps: int = 1) -> None:
        self.after -= steps
        if self.after < 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None: ...


@settings(max_examples=3, deadline=None)
@given(stops=st.lists(st.integers(0, 2), min_size=1, max_size=2), torn=st.booleans())
def test_an_interrupted_conversion_leaves_nothing_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], torn: bool
) -> None:
    folder = tmp_path_factory.mktemp("hdf5")
    source, target = write_hdf5(folder / "demo.hdf5"), folder / "set"
    for after in stops:
        with pytest.raises(KeyboardInterrupt):
            convert_hdf5(source, target, progress=Stopper(after))
        assert not target.exists()
    partial = folder / ".set.partial"
    if torn:  # the power failed in the middle of a write
        finished = len((partial / "journal.jsonl").read_text().splitlines())
        with (partial / "journal.jsonl").open("a") as file:
            file.write('{"episode_index": 2, "tas')
        if finished < len(NUMBERS):
            (partial / f"files/data/chunk-000/episode_{finished:06d}.parquet").write_bytes(b"PAR1")
    done = convert_hdf5(source, target)
    assert done.resumed == min(len(NUMBERS), max(stops) + 1)  # a stop counts what was there before, too
    assert not partial.exists()
    whole = convert_hdf5(source, folder / "whole").root
    assert contents(target) == contents(whole)


def test_another_job_may_not_go_on_in_its_place(tmp_path: Path) -> None:
    source = write_hdf5(tmp_path / "demo.hdf5")
    with pytest.raises(KeyboardInterrupt):
        convert_hdf5(source, tmp_path / "set", progress=Stopper(1))
    with pytest.raises(DataError, match="unfinished job with another fps"):
        convert_hdf5(source, tmp_path / "set", fps=10)
    assert not (tmp_path / "set").exists()


def test_a_filter_key_and_flipped_pictures(tmp_path: Path) -> None:
    source = write_hdf5(tmp_path / "demo.hdf5")
    done = convert_hdf5(source, tmp_path / "set", filter_key="1_demos", flip=True)
    assert done.episodes == 1
    dataset = LeRobotDataset.open(done.root)
    frame = dataset.frames(0, "robot0_eye_in_hand", [0])[0].astype(float)
    assert np.mean((frame - pictures(STEPS, seed=12)[0][::-1]) ** 2) < 60
    with pytest.raises(DataError, match="filter key '5_demos', but need one of 1_demos"):
        convert_hdf5(source, tmp_path / "other", filter_key="5_demos")


def test_a_robot_without_a_mobile_base(tmp_path: Path) -> None:
    def arm(file: Any) -> None:
        for demo in file["data"].values():
            actions = demo["actions"][:, :7]
            del demo["actions"], demo.attrs["ep_meta"]
            demo["actions"] = actions
            for column in STATE_SOURCES.values():
                if column != "robot0_gripper_qpos":
                    del demo["obs"][column]
            demo["obs"]["robot0_eef_pos"] = np.zeros((STEPS, 3))
            demo["obs"]["robot0_joint_pos"] = np.random.default_rng(0).normal(size=(STEPS, 7)) * 0.01

    source = write_hdf5(tmp_path / "lift.hdf5", change=arm)
    with pytest.raises(DataError, match=r"demo_1: found no instruction .*--instruction"):
        convert_hdf5(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    done = convert_hdf5(source, tmp_path / "arm", instruction="lift the cube")
    modality = LeRobotDataset.open(done.root).modality
    assert list(modality.state) == ["end_effector_position", "gripper_qpos", "joint_position"]
    assert list(modality.action) == ["end_effector_position", "end_effector_rotation", "gripper_close"]


def _drop(name: str) -> Any:
    def change(file: Any) -> None:
        for demo in file["data"].values():
            del demo[name]

    return change


def _short(file: Any) -> None:
    rows = file["data/demo_2/obs/robot0_base_pos"][:-1]
    del file["data/demo_2/obs/robot0_base_pos"]
    file["data/demo_2/obs/robot0_base_pos"] = rows


def _no_camera(file: Any) -> None:
    del file["data/demo_2/obs/robot0_eye_in_hand_image"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_drop("obs"), "demonstrations without observations, .*dataset_states_to_obs"),
        (_drop("actions"), "without observations"),
        (_short, "demo_2: found 23 rows of robot0_base_pos, but need 24"),
        (_no_camera, "robot0_eye_in_hand"),
        (lambda file: file["data/demo_2"].attrs.__setitem__("ep_meta", "{"), "demo_2, ep_meta: found broken JSON"),
        (lambda file: file.__delitem__("data"), "no group data"),
    ],
    ids=["raw", "no actions", "lengths", "camera", "ep_meta", "no data"],
)
def test_what_cannot_be_converted_is_one_sentence(tmp_path: Path, change: Any, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        convert_hdf5(write_hdf5(tmp_path / "demo.hdf5", change=change), tmp_path / "set")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "demo.hdf5").write_bytes(b"not a file of demonstrations")
    for name in ("demo.hdf5", "other.hdf5"):
        with pytest.raises(DataError, match="but need RoboCasa, robosuite, robomimic or LIBERO demonstrations"):
            convert_hdf5(tmp_path / name, tmp_path / "set")
    assert not list(tmp_path.glob(".set*"))
