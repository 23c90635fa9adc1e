"""Chunk errors against hand computation, and the properties that make them comparable."""

import numpy as np
import pytest
from evaluate_toys import ToyDataset, statistics
from scipy.spatial.transform import Rotation

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.rotations import matrix_to_rot6d
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.evaluate.open_loop.baselines import fit_baselines, split_lowdim
from svms_gr00t.evaluate.open_loop.metrics import (
    chunk_errors,
    cut_chunk,
    geodesic,
    key_specs,
    known_mean,
    number,
    pooled,
    valid_steps,
)

SPECS = key_specs(statistics()["action"])


def test_normalised_error_does_not_depend_on_the_unit():
    rng = np.random.default_rng(0)
    p, r, mask = rng.normal(size=(5, 4, 2)), rng.normal(size=(5, 4, 2)), np.ones((5, 4), bool)
    metres = key_specs({"arm": {"min": [-2.0, -1.0], "max": [2.0, 3.0]}})["arm"]
    millimetres = key_specs({"arm": {"min": [-2e3, -1e3], "max": [2e3, 3e3]}})["arm"]
    one, other = chunk_errors(p, r, mask, metres), chunk_errors(p * 1e3, r * 1e3, mask, millimetres)
    np.testing.assert_allclose(one.squared, other.squared)
    np.testing.assert_allclose(one.physical * 1e3, other.physical)
    np.testing.assert_allclose(one.squared, np.square((p - r) / 2).mean(-1))


def test_physical_errors_are_absolute_and_in_the_key_s_own_unit():
    """One element 2 too far and one 4 too short is 3 away, not -1; constants count here, and the sign nowhere."""
    spec = key_specs({"arm": {"min": [-1.0, 5.0], "max": [1.0, 5.0]}})["arm"]
    r = np.array([[[0.0, 5.0], [1.0, 5.0]]])
    p = r + np.array([[[2.0, -4.0], [-1.0, 0.0]]])
    mask = np.array([[True, False]])
    found = chunk_errors(p, r, mask, spec)
    assert found.physical[0, 0] == pytest.approx(3.0)
    assert np.isnan(found.physical[0, 1])
    assert found.absolute[0, 0] == pytest.approx(2.0), "normalised: the element that varies, alone"
    np.testing.assert_array_equal(chunk_errors(r, p, mask, spec).physical, found.physical)


def test_a_wrong_step_beyond_the_end_does_not_count_and_one_inside_does():
    spec, mask = SPECS["end_effector_position"], valid_steps(10, [0, 8], 4)
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
    p = np.zeros((2, 4, 3))
    p[1, 2:] = 1e6
    assert known_mean(chunk_errors(p, np.zeros_like(p), mask, spec).squared) == 0
    p[1, 1] = 1.0
    assert known_mean(chunk_errors(p, np.zeros_like(p), mask, spec).squared) == pytest.approx(1 / 6)


def test_the_tail_of_a_chunk_repeats_the_last_row():
    rows = np.arange(5.0)[:, None]
    assert cut_chunk(rows, 3, 4)[:, 0].tolist() == [3, 4, 4, 4]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0)], ids=["signed", "unsigned"])
def test_binary_keys_are_right_on_the_right_side_of_the_midpoint(low, high):
    spec = key_specs({"gripper_close": {"min": [low], "max": [high]}})["gripper_close"]
    assert spec.kind == "binary"
    truth = np.array([[[high], [low], [high], [low]]])
    guess = low + (high - low) * np.array([[[0.6], [0.4], [0.4], [0.9]]])
    assert chunk_errors(guess, truth, np.ones((1, 4), bool), spec).correct.tolist() == [[1, 1, 0, 0]]


def test_rotations_are_compared_on_the_sphere():
    """Axis-angle vectors near π on opposite sides are the same rotation, though far apart as vectors."""
    a, b = np.array([[3.14159265, 0, 0]]), np.array([[-3.14159265, 0, 0]])
    assert geodesic(a, b)[0] < 1e-6
    assert geodesic(np.array([[0, 0, 0.3]]), np.array([[0, 0, -0.2]]))[0] == pytest.approx(0.5)
    spec = key_specs({"rot": {"min": [-1.0] * 3, "max": [1.0] * 3}}, kinds={"rot": "rotation"}, radians=0.5)["rot"]
    angle = chunk_errors(np.array([[[1.0, 0, 0]]]), np.zeros((1, 1, 3)), np.ones((1, 1), bool), spec).angle
    assert angle[0, 0] == pytest.approx(0.5)


def test_pooling_over_keys_equals_pooling_over_elements():
    rng = np.random.default_rng(0)
    widths = {"a": 3, "b": 1, "constant": 2}
    specs = key_specs({k: {"min": [-(k != "constant")] * d, "max": [k != "constant"] * d} for k, d in widths.items()})
    p = {k: rng.normal(size=(4, 5, d)) for k, d in widths.items()}
    mask = np.ones((4, 5), bool)
    errors = {k: chunk_errors(p[k], np.zeros_like(p[k]), mask, specs[k]).squared for k in widths}
    assert np.isnan(errors["constant"]).all(), "a constant key has no normalised error"
    expected = np.square(np.concatenate([p["a"], p["b"]], -1)).mean(-1)
    np.testing.assert_allclose(pooled(errors, specs), expected)
    with pytest.raises(ConfigError, match="varies"):
        pooled({"constant": errors["constant"]}, specs)


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="griper"):
        key_specs(statistics()["action"], kinds={"griper": "binary"})


def test_baselines_say_what_they_promise():
    dataset = ToyDataset()
    fitted = fit_baselines(dataset, [0, 2], horizon=4, specs=SPECS)
    states, actions = split_lowdim(dataset.lowdim(2))
    hold = fitted.predict("hold", states, actions, [0, 5])
    assert hold["end_effector_position"][0].tolist() == [[0, 0, 0]] * 4, "the null action"
    assert hold["gripper_close"][0, 0, 0] == -1.0
    np.testing.assert_array_equal(
        hold["end_effector_position"][1], np.repeat(actions["end_effector_position"][4:5], 4, 0)
    )
    mean = fitted.predict("mean", states, actions, [0, 5])["gripper_close"]
    both = np.concatenate([split_lowdim(dataset.lowdim(i))[1]["gripper_close"] for i in (0, 2)])
    np.testing.assert_allclose(mean, both.mean(), atol=1e-6)
    nearest = fitted.predict("nearest", states, actions, [3, 28])["end_effector_position"]
    np.testing.assert_array_equal(
        nearest[0], actions["end_effector_position"][3:7], "on a training state: its own chunk"
    )
    np.testing.assert_array_equal(nearest[1, 2:], np.repeat(actions["end_effector_position"][-1:], 2, 0))
    with pytest.raises(DataError, match="no training episodes"):
        fit_baselines(dataset, [], horizon=4, specs=SPECS)


@pytest.mark.parametrize("form", ["axis_angle", "quaternion", "rotation_6d", "matrix", "euler_angles_rpy"])
def test_every_way_to_write_a_rotation_gives_the_same_angle(form):
    """Two random rotations, written five ways; the angle is that of scipy's own difference."""
    one, two = Rotation.random(7, random_state=1), Rotation.random(7, random_state=2)
    write = {
        "axis_angle": Rotation.as_rotvec,
        "quaternion": Rotation.as_quat,
        "rotation_6d": lambda turn: matrix_to_rot6d(turn.as_matrix()),
        "matrix": lambda turn: turn.as_matrix().reshape(-1, 9),
        "euler_angles_rpy": lambda turn: turn.as_euler("xyz"),
    }[form]
    np.testing.assert_allclose(geodesic(write(one), write(two), form), (one.inv() * two).magnitude(), atol=1e-6)
    with pytest.raises(ConfigError, match="elements"):
        geodesic(np.zeros((2, 5)), np.zeros((2, 5)), form)


def test_an_answer_that_says_no_rotation_is_scored_as_some_rotation():
    """Clipped to the corner of its range, both rows of a prediction are parallel."""
    meant = matrix_to_rot6d(Rotation.random(3, random_state=1).as_matrix())
    angles = geodesic(np.ones((3, 6)), meant, "rotation_6d")
    assert np.isfinite(angles).all()
    assert (angles > 0.1).all()


def test_what_the_dataset_calls_a_rotation_is_scored_as_one():
    limits = {"turn": {"min": [-1.0] * 4, "max": [1.0] * 4}, "gripper_close": {"min": [0.0], "max": [1.0]}}
    specs = key_specs(limits, rotations={"turn": "quaternion", "not_an_action": "matrix"})
    assert (specs["turn"].kind, specs["turn"].rotation, specs["gripper_close"].kind) == (
        "rotation",
        "quaternion",
        "binary",
    )
    answered = np.zeros((1, 1, 4))  # an untrained policy may answer zero; it counts as no turn
    truth = np.array([[[0.0, 0.0, np.sin(0.2), np.cos(0.2)]]])
    assert chunk_errors(answered, truth, np.ones((1, 1), bool), specs["turn"]).angle[0, 0] == pytest.approx(0.4)


class AbsoluteJoints:
    """Joint targets near the joint angles, far from zero; a hand command that no state resembles."""

    def lowdim(self, episode: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(episode)
        angle = -2.1 + 0.02 * np.cumsum(rng.normal(size=(30, 3)), axis=0)
        hand = np.where(np.arange(30)[:, None] > 12, 3.0, 1.5) * np.ones((1, 2))
        columns = {"state.arm": angle, "state.hand": np.zeros((30, 2)), "action.arm": angle + 0.01, "action.hand": hand}
        return {key: value.astype(np.float32) for key, value in columns.items()}


def test_hold_keeps_an_arm_with_absolute_targets_where_it_is():
    """Zero would send it across the room: a thousand times the error."""
    rows = np.concatenate([AbsoluteJoints().lowdim(i)["action.arm"] for i in range(3)])
    specs = key_specs({"arm": {"min": rows.min(0), "max": rows.max(0)}, "hand": {"min": [1.5, 1.5], "max": [3.0, 3.0]}})
    fitted = fit_baselines(AbsoluteJoints(), [0, 1, 2], horizon=4, specs=specs)
    assert fitted.start == {"arm": "state", "hand": "first"}
    states, actions = split_lowdim(AbsoluteJoints().lowdim(7))
    held = fitted.predict("hold", states, actions, [0, 9])
    np.testing.assert_allclose(held["arm"][0, 0], states["arm"][0], atol=1e-6)
    np.testing.assert_allclose(held["hand"][0], 1.5)
    mask = np.ones((2, 4), bool)
    recorded = {key: np.stack([cut_chunk(rows, t, 4) for t in (0, 9)]) for key, rows in actions.items()}
    error = chunk_errors(held["arm"], recorded["arm"], mask, specs["arm"]).squared
    zero = chunk_errors(np.zeros_like(held["arm"]), recorded["arm"], mask, specs["arm"]).squared
    assert error.mean() * 1000 < zero.mean()


def test_hold_on_the_real_demonstrations_is_a_sane_baseline(shared):
    """Five GR1 episodes with absolute joint targets: holding still beats the mean action."""
    dataset = LeRobotDataset.open(shared / "robot_sim.PickNPlace")
    specs = key_specs(compute_statistics(dataset, [0, 1, 2, 3])["action"])
    fitted = fit_baselines(dataset, [0, 1, 2, 3], horizon=16, specs=specs)
    states, actions = split_lowdim(dataset.lowdim(4))
    steps, length = range(0, 160, 8), len(actions["waist"])
    mask = valid_steps(length, steps, 16)
    error = {}
    for name in ("mean", "hold"):
        guess = fitted.predict(name, states, actions, steps)
        found = {
            key: chunk_errors(guess[key], np.stack([cut_chunk(actions[key], t, 16) for t in steps]), mask, spec)
            for key, spec in specs.items()
        }
        error[name] = float(known_mean(pooled({key: value.squared for key, value in found.items()}, specs)))
    assert error["hold"] < error["mean"] < 1


def test_what_is_measured_is_averaged_and_what_is_not_stays_unknown():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 5.0]])
    np.testing.assert_array_equal(known_mean(values, 0), [1.0, np.nan, 4.0])
    np.testing.assert_array_equal(known_mean(values, 1), [2.0, 5.0])
    assert known_mean(values) == 3.0
    assert [number(v) for v in (2.5, np.float32(0.5), np.nan, np.inf)] == [2.5, 0.5, None, None]


def test_an_element_that_moves_by_rounding_is_a_constant_and_costs_nothing():
    specs = key_specs({"arm": {"min": [0.0, 0.5, 0.0], "max": [4.0, 0.5 + 1e-9, 3e-8]}})
    assert specs["arm"].varying.tolist() == [True, False, True]
    still = key_specs({"arm": {"min": [0.0], "max": [2e-8]}})["arm"]
    assert not still.varying.any()
    p, r = np.array([[[1.0, 9.0, 0.0]]]), np.array([[[3.0, 0.5, 0.0]]])
    found = chunk_errors(p, r, np.ones((1, 1), bool), specs["arm"])
    assert found.squared == pytest.approx(0.5)  # (2 / 2)^2 and 0 over the two that vary
    mixed = pooled({"arm": np.array([2.0]), "leg": np.array([5.0])}, specs | {"leg": key_specs(LEG)["leg"]})
    assert mixed == pytest.approx((2 * 2.0 + 1 * 5.0) / 3)


LEG = {"leg": {"min": [0.0], "max": [1.0]}}


def test_a_middle_is_off_and_rotations_in_radians_are_taken_as_they_are():
    spec = key_specs({"grip": {"min": [-1.0], "max": [1.0]}}, kinds={"grip": "binary"})["grip"]
    middle, on = np.zeros((1, 1, 1)), np.ones((1, 1, 1))
    assert chunk_errors(middle, on, np.ones((1, 1), bool), spec).correct == 0.0
    assert chunk_errors(on, middle, np.ones((1, 1), bool), spec).correct == 0.0
    assert chunk_errors(middle, middle, np.ones((1, 1), bool), spec).correct == 1.0
    turn = key_specs({"turn": {"min": [-1.0] * 3, "max": [1.0] * 3}}, rotations={"turn": "axis_angle"})["turn"]
    about_x, about_y = np.array([[[0.3, 0.0, 0.0]]]), np.array([[[0.0, 0.4, 0.0]]])
    both = np.ones((1, 1), bool)
    expected = (Rotation.from_rotvec([0.3, 0, 0]).inv() * Rotation.from_rotvec([0, 0.4, 0])).magnitude()
    assert chunk_errors(about_x, about_y, both, turn).angle == pytest.approx(expected)
    half = key_specs({"turn": {"min": [-1.0] * 3, "max": [1.0] * 3}}, radians=0.5, rotations={"turn": "axis_angle"})
    expected = (Rotation.from_rotvec([0.15, 0, 0]).inv() * Rotation.from_rotvec([0, 0.2, 0])).magnitude()
    assert chunk_errors(about_x, about_y, both, half["turn"]).angle == pytest.approx(expected)


def test_a_quaternion_of_nothing_is_no_turn_and_its_neighbours_keep_theirs():
    quarter = [0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)]
    rows, still = np.array([[0.0, 0.0, 0.0, 0.0], quarter]), np.array([[0.0, 0.0, 0.0, 1.0]] * 2)
    np.testing.assert_allclose(geodesic(rows, still, "quaternion"), [0.0, np.pi / 2], atol=1e-9)
    with pytest.raises(ConfigError, match="quaternion of 3 elements"):
        geodesic(rows[:, :3], still[:, :3], "quaternion")
    grid = np.stack([np.eye(3).reshape(9)] * 2)[None]
    assert geodesic(grid, grid, "matrix").shape == (1, 2)
