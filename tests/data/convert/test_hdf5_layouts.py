"""HDF5 of any robosuite robot: the controller decides names, both arms or none, pictures of any form, LIBERO."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_dataset import pictures

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.hdf5 import convert_hdf5
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset

h5py = pytest.importorskip("h5py", reason="converting HDF5 needs the convert extra (h5py)")
STEPS = 12
ARM = {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2}
OSC = {"type": "OSC_POSE", "impedance_mode": "fixed"}


def numbers(width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(STEPS, width)) * 0.1


def robosuite(
    path: Path, prefixes: list[str], width: int, *, robots: Any = None, controllers: Any = None, **more: int
) -> Path:
    """A file of robosuite's observations; `more` are further ones and their widths."""
    kwargs: dict[str, Any] = {"robots": robots or ["Panda"]}
    kwargs |= {} if controllers is None else {"controller_configs": controllers}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})
        demo = data.create_group("demo_0")
        demo.attrs["ep_meta"] = json.dumps({"lang": "lift the pot"})
        demo["actions"] = numbers(width, 0)
        obs = demo.create_group("obs")
        columns = {f"{prefix}_{name}": n for prefix in prefixes for name, n in ARM.items()} | more
        for seed, (name, n) in enumerate(columns.items(), start=1):
            obs[name] = numbers(n, seed)
        obs["agentview_image"] = pictures(STEPS)
    return path


def source_rows(path: Path, columns: list[str]) -> np.ndarray:
    with h5py.File(path) as file:
        return np.concatenate([np.asarray(file[f"data/demo_0/obs/{name}"]) for name in columns], axis=1)


@pytest.mark.parametrize(
    ("prefixes", "names", "robots"),
    [
        (["robot0", "robot1"], ["robot0", "robot1"], ["Panda", "Panda"]),
        (["robot0_right", "robot0_left"], ["right", "left"], ["Baxter"]),
        (["robot0_right", "robot0_left", "robot1"], ["robot0_right", "robot0_left", "robot1"], ["Baxter", "Panda"]),
    ],
    ids=["two robots", "one robot", "three arms"],
)
def test_every_arm_is_there(tmp_path: Path, prefixes: list[str], names: list[str], robots: list[str]) -> None:
    source = robosuite(tmp_path / "demo.hdf5", prefixes, 7 * len(prefixes), robots=robots, controllers=OSC)
    done = convert_hdf5(source, tmp_path / "set")
    dataset = LeRobotDataset.open(done.root)
    stored = dataset.columns(0, ["observation.state", "action"])
    assert stored["observation.state"].shape == (STEPS, 9 * len(prefixes))  # 18 numbers for two arms
    wanted = source_rows(source, [f"{prefix}_{name}" for prefix in prefixes for name in ARM])
    np.testing.assert_array_equal(stored["observation.state"], wanted)
    np.testing.assert_array_equal(stored["action"], numbers(7 * len(prefixes), 0))
    for place, name in enumerate(names):
        assert dataset.modality.state[f"{name}_end_effector_position"].start == 9 * place
        rotation = dataset.modality.action[f"{name}_end_effector_rotation"]
        assert (rotation.start, rotation.end, rotation.absolute) == (7 * place + 3, 7 * place + 6, False)
        assert dataset.modality.action[f"{name}_gripper_close"].start == 7 * place + 6
    assert dataset.robot_type == "+".join(robots)
    assert done.notes[0] == f"{len(names)} arms: {', '.join(names)}"


def test_joints_of_a_robot_with_two_arms_stand_once(tmp_path: Path) -> None:
    prefixes = ["robot0_right", "robot0_left"]
    controllers = {"type": "JOINT_POSITION", "input_type": "absolute"}
    source = robosuite(tmp_path / "d.hdf5", prefixes, 16, controllers=controllers, robot0_joint_pos=14)
    modality = LeRobotDataset.open(convert_hdf5(source, tmp_path / "set").root).modality
    assert (modality.state["joint_position"].start, modality.state["joint_position"].end) == (9, 23)
    assert list(modality.action) == [f"{s}_{k}" for s in ("right", "left") for k in ("joint_position", "gripper_close")]
    assert modality.action["left_joint_position"].absolute


@pytest.mark.parametrize(
    ("prefixes", "width", "robots", "text"),
    [
        (["robot0", "robot1"], 7, ["Panda", "Panda"], "7 action numbers for 2 arms"),
        (["robot0", "robot1"], 15, ["Panda", "Panda"], "15 action numbers for 2 arms"),
        (["robot0", "robot1"], 24, ["Panda", "Panda"], "24 action numbers for 2 arms"),
        (["robot0"], 14, ["Panda", "Panda"], "observations of 1 of the 2 robots"),
    ],
)
def test_two_arms_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, prefixes: list[str], width: int, robots: list[str], text: str
) -> None:
    source = robosuite(tmp_path / "demo.hdf5", prefixes, width, robots=robots)
    with pytest.raises(DataError, match=text) as caught:
        convert_hdf5(source, tmp_path / "set")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def composite(**part: Any) -> dict[str, Any]:
    """robosuite's form from 1.5 on."""
    return {"type": "BASIC", "body_parts": {"arms": {"right": {**part, "gripper": {"type": "GRIP"}}}}}


EEF, ROTATION, GRIPPER = "end_effector_position", "end_effector_rotation", "gripper_close"


@pytest.mark.parametrize(
    ("controllers", "width", "keys", "absolute"),
    [
        (OSC, 7, [EEF, ROTATION, GRIPPER], False),
        (OSC | {"control_delta": True}, 7, [EEF, ROTATION, GRIPPER], False),
        (OSC | {"control_delta": False}, 7, [EEF, ROTATION, GRIPPER], True),
        ([OSC | {"control_delta": False}], 7, [EEF, ROTATION, GRIPPER], True),
        (composite(type="OSC_POSE", input_type="delta"), 7, [EEF, ROTATION, GRIPPER], False),
        (composite(type="OSC_POSE", input_type="absolute"), 7, [EEF, ROTATION, GRIPPER], True),
        (composite(type="IK_POSE", control_delta=False), 7, [EEF, ROTATION, GRIPPER], True),
        ({"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSITION"}}}, 4, [EEF, GRIPPER], False),
        ({"type": "OSC_POSE"}, 6, [EEF, ROTATION], False),
        ({"type": "JOINT_POSITION"}, 8, ["joint_position", GRIPPER], False),
        (composite(type="JOINT_POSITION", input_type="absolute"), 8, ["joint_position", GRIPPER], True),
        ({"type": "JOINT_VELOCITY"}, 8, ["joint_velocity", GRIPPER], True),
        ({"type": "JOINT_TORQUE"}, 7, ["joint_torque"], True),
        (OSC | {"impedance_mode": "variable"}, 19, ["command"], True),
        (OSC, 12, ["command"], True),  # a base, or a hand of six
        ({"type": "SOMETHING_NEW"}, 7, ["command"], True),
        (None, 7, [EEF, ROTATION, GRIPPER], False),
        (None, 8, ["command"], True),
    ],
)
def test_the_controller_decides_names_and_absolute(
    tmp_path: Path, controllers: Any, width: int, keys: list[str], absolute: bool
) -> None:
    source = robosuite(tmp_path / "demo.hdf5", ["robot0"], width, controllers=controllers, robot0_joint_pos=7)
    done = convert_hdf5(source, tmp_path / "set")
    action = LeRobotDataset.open(done.root).modality.action
    assert list(action) == keys
    assert action[keys[0]].absolute is absolute
    assert max(entry.end for entry in action.values()) == width
    assert action[keys[-1]].absolute or keys[-1] not in (GRIPPER,)  # a gripper's command is no difference
    if ROTATION in keys:
        assert action[ROTATION].rotation_type == "axis_angle"
    assert "which the file does not say" in str(done.notes) or controllers is not None or width != 7


@pytest.mark.parametrize(
    ("controllers", "width", "note"),
    [
        (OSC, 7, "actions named as OSC_POSE deltas"),
        (OSC | {"control_delta": False}, 7, "actions named as OSC_POSE targets"),
        ({"type": "JOINT_POSITION"}, 8, "actions named as JOINT_POSITION deltas"),
        ({"type": "JOINT_TORQUE"}, 8, "actions named as JOINT_TORQUE"),
        ({"type": "NEW"}, 7, "one action key for the 7 numbers of NEW"),
        ({"type": "OSC_POSITION"}, 5, "one action key for the 5 numbers of OSC_POSITION"),
        ([], 7, "actions named as OSC_POSE deltas, which the file does not say"),
        (None, 9, "one action key for the 9 numbers of an unknown controller"),
    ],
)
def test_the_note_says_how_actions_were_read(tmp_path: Path, controllers: Any, width: int, note: str) -> None:
    source = robosuite(tmp_path / "demo.hdf5", ["robot0"], width, controllers=controllers, robot0_joint_pos=7)
    assert convert_hdf5(source, tmp_path / "set").notes == (f"{note}; check meta/modality.json",)


def in_form(form: str, frames: np.ndarray) -> np.ndarray:
    return {
        "bytes": frames,
        "fractions": frames / np.float32(255),
        "channels first": frames.transpose(0, 3, 1, 2),
        "fractions, channels first": (frames / 255.0).transpose(0, 3, 1, 2),
    }[form]


@pytest.mark.parametrize("form", ["bytes", "fractions", "channels first", "fractions, channels first"])
def test_pictures_of_any_clear_form_are_the_same(tmp_path: Path, form: str) -> None:
    source = robosuite(tmp_path / "demo.hdf5", ["robot0"], 7)
    plain = convert_hdf5(source, tmp_path / "plain").root
    with h5py.File(source, "a") as file:
        obs = file["data/demo_0/obs"]
        del obs["agentview_image"]
        obs["agentview_image"] = in_form(form, pictures(STEPS))
    dataset = LeRobotDataset.open(convert_hdf5(source, tmp_path / "set").root)
    assert dataset.info.features["observation.images.agentview"].shape == [48, 48, 3]
    expected = LeRobotDataset.open(plain).frames(0, "agentview", range(STEPS))
    np.testing.assert_array_equal(dataset.frames(0, "agentview", range(STEPS)), expected)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (pictures(STEPS).astype(np.float32), "agentview_image: found float32 .* from 0 to 25[34]"),
        (pictures(STEPS).astype(np.uint16) * 256, "no depth and no 16 bits"),
        (pictures(STEPS)[..., :1], "Grey"),
        (np.zeros(STEPS), "agentview_image"),
    ],
    ids=["floats to 255", "16 bits", "grey", "no picture"],
)
def test_pictures_of_two_meanings_are_named(tmp_path: Path, frames: np.ndarray, text: str) -> None:
    source = robosuite(tmp_path / "demo.hdf5", ["robot0"], 7)
    with h5py.File(source, "a") as file:
        del file["data/demo_0/obs/agentview_image"]
        file["data/demo_0/obs/agentview_image"] = frames
    with pytest.raises(DataError, match=text):
        convert_hdf5(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def libero(path: Path, *, language: Any = "pick up the bowl", controllers: Any = OSC, width: int = 7) -> Path:
    """As LIBERO's create_dataset.py writes it: pictures bottom row first, the sentence beside all demonstrations."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        kwargs = {"robots": ["Panda"], "controller_configs": controllers}
        data.attrs["env_args"] = json.dumps({"problem_name": "libero_kitchen", "env_kwargs": kwargs})
        data.attrs["problem_info"] = json.dumps({"domain_name": "robosuite", "language_instruction": language})
        for number in (0, 1):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = numbers(width, number)
            demo["rewards"] = (np.arange(STEPS) == STEPS - 1).astype(np.uint8)
            obs = demo.create_group("obs")
            for seed, (name, n) in enumerate(
                {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2, "joint_states": 7}.items()
            ):
                obs[name] = numbers(n, 10 * number + seed)
            obs["ee_states"] = np.concatenate([obs["ee_pos"], obs["ee_ori"]], axis=1)
            obs["agentview_rgb"] = pictures(STEPS, seed=number)
            obs["eye_in_hand_rgb"] = pictures(STEPS, seed=number + 2)
    return path


@pytest.mark.parametrize(
    "language", ["pick up the bowl", '"pick up the bowl"', ["pick", "up", "the", "bowl"], list("pick up the bowl")]
)
def test_libero_has_the_names_of_libero_panda(tmp_path: Path, language: Any) -> None:
    source = libero(tmp_path / "demo.hdf5", language=language)
    done = convert_hdf5(source, tmp_path / "set")
    dataset = LeRobotDataset.open(done.root)
    names = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
    assert list(dataset.modality.state) == list(dataset.modality.action) == names
    assert list(dataset.views) == ["image", "wrist_image"]
    assert dataset.instruction(1, 0) == "pick up the bowl"
    stored = dataset.columns(1, ["observation.state", "action"])
    np.testing.assert_array_equal(stored["action"], numbers(7, 1))
    wanted = np.concatenate([numbers(3, 10), numbers(3, 11), numbers(2, 12)], axis=1)
    np.testing.assert_array_equal(stored["observation.state"], wanted)
    assert [dataset.modality.action[name].absolute for name in names] == [False] * 6 + [True]
    shown = dataset.frames(0, "image", [0])[0].astype(float)
    assert np.mean((shown - pictures(STEPS)[0, ::-1, ::-1]) ** 2) < 60
    assert np.mean((shown - pictures(STEPS)[0]) ** 2) > 200
    assert "joint_states" in done.notes[-1]
    assert [f for f in examine(done.root).findings if f.severity == "error"] == []


def test_libero_otherwise(tmp_path: Path) -> None:
    """Upright instead of turned; absolute targets; another controller is refused; a sentence of one's own wins."""
    source = libero(tmp_path / "demo.hdf5", controllers=OSC | {"control_delta": False})
    dataset = LeRobotDataset.open(convert_hdf5(source, tmp_path / "set", flip=True, instruction="take it").root)
    shown = dataset.frames(0, "image", [0])[0].astype(float)
    assert np.mean((shown - pictures(STEPS)[0, ::-1]) ** 2) < 60
    assert dataset.modality.action["x"].absolute
    assert dataset.instruction(0, 0) == "take it"
    with pytest.raises(DataError, match="8 action numbers of JOINT_POSITION, but need the 7 numbers of OSC_POSE"):
        convert_hdf5(libero(tmp_path / "j.hdf5", controllers={"type": "JOINT_POSITION"}, width=8), tmp_path / "other")
    with h5py.File(source, "a") as file:
        file["data"].attrs["problem_info"] = "{"
    with pytest.raises(DataError, match="problem_info: found broken JSON"):
        convert_hdf5(source, tmp_path / "other")


def _outside(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["secret"] = numbers(7, 3)
        file.create_group("obs")
    path.with_suffix(".raw").write_bytes(numbers(7, 3).tobytes())
    return path


def _link(file: Any, other: Path) -> None:
    file["data/demo_0/actions"] = h5py.ExternalLink(str(other), "secret")


def _group_link(file: Any, other: Path) -> None:
    file["data/demo_1"] = h5py.ExternalLink(str(other), "/")


def _raw(file: Any, other: Path) -> None:
    raw = [(str(other.with_suffix(".raw")), 0, STEPS * 56)]
    file["data/demo_0"].create_dataset("actions", (STEPS, 7), "f8", external=raw)


def _virtual(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((STEPS, 7), "f8")
    layout[:] = h5py.VirtualSource(str(other), "secret", (STEPS, 7))
    file["data/demo_0"].create_virtual_dataset("actions", layout)


@pytest.mark.parametrize(
    ("plant", "text"),
    [
        (_link, "demo_0/actions: found a link to another file, .*other.hdf5"),
        (_group_link, "data/demo_1: found a link to another file"),
        (_raw, "demo_0/actions: found bytes in another file, .*other.raw"),
        (_virtual, "demo_0/actions: found a view of another file, .*other.hdf5"),
    ],
    ids=["link", "group", "raw", "virtual"],
)
def test_a_file_may_not_read_another(tmp_path: Path, plant: Any, text: str) -> None:
    other, source = _outside(tmp_path / "other.hdf5"), robosuite(tmp_path / "demo.hdf5", ["robot0"], 7)
    with h5py.File(source, "a") as file:
        if plant is not _group_link:
            del file["data/demo_0/actions"]
        plant(file, other)
    with h5py.File(source) as file:
        planted = file["data/demo_1/secret" if plant is _group_link else "data/demo_0/actions"]
        np.testing.assert_array_equal(planted, numbers(7, 3))  # h5py itself follows it
    with pytest.raises(DataError, match=text):
        convert_hdf5(source, tmp_path / "set")
    assert not list(tmp_path.glob("*set*"))


def test_links_inside_the_file_and_circles_are_followed(tmp_path: Path) -> None:
    source = robosuite(tmp_path / "demo.hdf5", ["robot0"], 7)
    with h5py.File(source, "a") as file:
        file["elsewhere"] = file["data/demo_0/actions"]
        del file["data/demo_0/actions"]
        file["data/demo_0/actions"] = h5py.SoftLink("/elsewhere")
        file["data/demo_0/obs/self"] = file["data"]
        file["data/demo_0/obs/gone"] = h5py.SoftLink("/nowhere")
    dataset = LeRobotDataset.open(convert_hdf5(source, tmp_path / "set").root)
    np.testing.assert_array_equal(dataset.columns(0, ["action"])["action"], numbers(7, 0))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    source = robosuite(tmp_path / "demo.hdf5", ["robot0"], 7, object=10, agentview_depth=5, robot0_joint_vel=7)
    note = convert_hdf5(source, tmp_path / "set").notes[-1]
    assert note == "observations left out: agentview_depth, object, robot0_joint_vel"
