"""Stalks have units, edges measure distances in them, and a change is undone by its inverse."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from svms_gr00t.consistency.edges import Phases, edges_of
from svms_gr00t.consistency.monitor import change_of, moved, switched
from svms_gr00t.consistency.stalk import Body, as_rot6d, find_body
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality

PANDA = Body(position=("p",), rotation=("q",), rotation_type="quaternion", gripper="g")


def stalks(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turns = Rotation.random(count, random_state=seed).as_quat()
    return PANDA.read({"p": rng.normal(size=(count, 3)), "q": turns, "g": rng.normal(size=(count, 2))})


def test_a_stalk_holds_metres_a_rotation_and_the_opening_of_the_fingers():
    state = {"p": np.array([[0.1, 0.2, 0.3]]), "q": np.array([[0.0, 0, 0, 2.0]]), "g": np.array([[0.04, -0.04]])}
    np.testing.assert_allclose(PANDA.read(state), [[0.1, 0.2, 0.3, 1, 0, 0, 0, 1, 0, 0.08]])
    assert [(one.name, one.unit) for one in PANDA.quantities] == [
        ("hand", "cm"),
        ("rotation", "rad"),
        ("gripper", "cm"),
    ]
    with pytest.raises(DataError, match="no state q"):
        PANDA.read({"p": state["p"], "g": state["g"]})


def test_residuals_are_centimetres_and_radians_and_zero_for_a_perfect_head():
    truth = stalks(5)
    wrong = truth.copy()
    wrong[:, 0] += 0.03
    turn = Rotation.from_rotvec([0, 0.2, 0]).as_matrix()
    rows = wrong[:, 3:9].reshape(-1, 2, 3)
    full = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], axis=1)
    wrong[:, 3:9] = (turn @ full)[:, :2].reshape(-1, 6)
    wrong[:, 9] += 0.005
    wide = {"state": np.pad(truth, ((0, 0), (0, 1))), "temporal": np.pad(truth, ((0, 0), (0, 1)))}
    edges = edges_of(PANDA, waypoints=True)
    found = {edge.name: edge.residual(wide | {"visual": np.pad(wrong, ((0, 0), (0, 1)))}) for edge in edges}
    np.testing.assert_allclose(found["visual-state hand"], 3.0)
    np.testing.assert_allclose(found["visual-state rotation"], 0.2)
    np.testing.assert_allclose(found["visual-state gripper"], 0.5)
    for name in ("hand", "rotation", "gripper"):
        np.testing.assert_allclose(found[f"temporal-state {name}"], 0.0, atol=1e-7)
    far = wide["temporal"].copy()
    far[:, 10] = 0.07
    way = edges[-1].residual({"visual": wide["state"], "temporal": far})
    np.testing.assert_allclose(way, 7.0)


def test_a_change_leads_from_one_stalk_to_the_other():
    one, other = stalks(20, 1), stalks(20, 2)
    np.testing.assert_allclose(moved(PANDA, one, change_of(PANDA, one, other)), other, atol=1e-9)
    assert np.abs(moved(PANDA, one, change_of(PANDA, other, one)) - other).max() > 0.1, "the way matters"


def test_every_way_to_write_a_rotation_is_the_same_rotation():
    turns = Rotation.random(6, random_state=3)
    matrix = turns.as_matrix()
    forms = {
        "quaternion": turns.as_quat(),
        "axis_angle": turns.as_rotvec(),
        "matrix": matrix.reshape(-1, 9),
        "rotation_6d": matrix[:, :2].reshape(-1, 6),
        "euler_angles_rpy": turns.as_euler("xyz"),
        "euler_angles_ypr": turns.as_euler("zyx"),
    }
    for form, values in forms.items():
        np.testing.assert_allclose(as_rot6d(values, form), matrix[:, :2].reshape(-1, 6), atol=1e-9)
    assert np.isnan(as_rot6d(np.zeros((1, 4)), "quaternion")).all(), "no rotation"
    np.testing.assert_allclose(as_rot6d(np.zeros((1, 3)), "axis_angle"), [[1, 0, 0, 0, 1, 0]])
    two = np.array([[1.0] * 6, [1, 0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(np.isnan(as_rot6d(two, "rotation_6d")).all(axis=1), [True, False], "parallel rows")


def test_phases_are_thirds_by_speed_and_the_gripper():
    rng = np.random.default_rng(0)
    before = np.zeros((300, 10))
    before[:, 3], before[:, 7] = 1, 1
    now = before.copy()
    now[:, 0], now[:, 9] = rng.uniform(0, 0.3, 300), rng.choice([0.0, 0.08], 300)
    phases = Phases.split(PANDA, now, before)
    number = phases.of(now, before)
    assert phases.names[0] == "still, open"
    assert np.bincount(number // 2, minlength=3) == pytest.approx([100, 100, 100], abs=2)
    assert ((number % 2 == 1) == (now[:, 9] == 0)).all()
    assert (phases.of(now, np.full_like(before, np.nan)) < 2).all(), "nothing moved before the first look"


def test_switches_take_one_of_their_two_values_and_other_numbers_stay():
    done = np.array([[[0.3, 0.3], [-0.2, -0.2]]])
    found = switched(done, np.array([[-1.0, np.nan], [1.0, np.nan]]))
    np.testing.assert_array_equal(found, [[[1.0, 0.3], [-1.0, -0.2]]])


def test_the_body_is_found_by_names(small_kitchen):
    dataset = LeRobotDataset.open(small_kitchen)
    body, hand = find_body(dataset.modality, {"action": {"gripper_close": {"min": [-1.0], "max": [1.0]}}})
    assert body.position == ("end_effector_position_relative",), "the base is no hand"
    assert body.rotation == ("end_effector_rotation_relative",)
    assert (body.rotation_type, body.gripper) == ("quaternion", "gripper_qpos")
    assert hand is not None


def test_libero_writes_axis_times_angle_and_a_humanoid_has_joints():
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    state = {name: {"start": i, "end": i + 1} for i, name in enumerate(names)}
    action = {"gripper": {"start": 0, "end": 1}}
    ranges = {"action": {"gripper": {"min": [0.0], "max": [1.0]}}}
    body, _ = find_body(Modality.from_dict({"state": state, "action": action}), ranges)
    assert (body.position, body.rotation, body.rotation_type) == (names[:3], names[3:6], "axis_angle")
    joints = {"left_arm": {"start": 0, "end": 7}, "right_arm": {"start": 7, "end": 14}}
    body, hand = find_body(Modality.from_dict({"state": joints}), {})
    assert (body.keys, body.width, hand) == (("left_arm", "right_arm"), 14, None)
    assert [edge.name for edge in edges_of(body, waypoints=False)] == ["visual-state joints", "temporal-state joints"]
