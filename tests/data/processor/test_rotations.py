"""Poses: conventions against scipy, and the group laws that a wrong convention would break."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.rotations import (
    absolute_pose,
    matrix_to_rot6d,
    matrix_to_rotvec,
    relative_pose,
    rot6d_to_matrix,
    rotvec_to_matrix,
    some_rotation,
)

seeds = st.integers(0, 2**31)
FORMATS = ("xyz+rot6d", "xyz+rotvec")


def poses(form: str, seed: int, n: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrices = Rotation.random(n, random_state=rng.integers(2**31)).as_matrix()
    turn = matrix_to_rot6d(matrices) if form == "xyz+rot6d" else matrix_to_rotvec(matrices)
    return np.concatenate([rng.normal(size=(n, 3)), turn], axis=-1)


@given(seeds)
def test_matrices_survive_both_forms(seed):
    matrix = Rotation.random(4, random_state=seed).as_matrix()
    np.testing.assert_allclose(rot6d_to_matrix(matrix_to_rot6d(matrix)), matrix, atol=1e-12)
    np.testing.assert_allclose(rotvec_to_matrix(matrix_to_rotvec(matrix)), matrix, atol=1e-9)


def test_rot6d_is_the_first_two_rows_and_columns_would_differ():
    matrix = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    np.testing.assert_allclose(matrix_to_rot6d(matrix), [0, -1, 0, 1, 0, 0], atol=1e-12)
    assert not np.allclose(matrix_to_rot6d(matrix), matrix[:, :2].T.ravel())


@given(seeds)
def test_any_two_independent_rows_become_a_rotation(seed):
    matrix = rot6d_to_matrix(np.random.default_rng(seed).normal(size=(3, 6)))
    np.testing.assert_allclose(matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-9)


@pytest.mark.parametrize("form", FORMATS)
@given(seed=seeds)
def test_relative_then_absolute_is_the_pose(form, seed):
    pose, reference = poses(form, seed), poses(form, seed + 1)
    back = absolute_pose(relative_pose(pose, reference, form), reference, form)
    np.testing.assert_allclose(back[:, :3], pose[:, :3], atol=1e-9)
    to_matrix = rot6d_to_matrix if form == "xyz+rot6d" else rotvec_to_matrix
    np.testing.assert_allclose(to_matrix(back[:, 3:]), to_matrix(pose[:, 3:]), atol=1e-7)


@pytest.mark.parametrize("form", FORMATS)
@given(seed=seeds)
def test_moving_the_world_changes_no_relative_pose(form, seed):
    pose, reference, world = poses(form, seed), poses(form, seed + 1), poses(form, seed + 2, 1).repeat(5, axis=0)
    moved = relative_pose(absolute_pose(pose, world, form), absolute_pose(reference, world, form), form)
    np.testing.assert_allclose(moved[:, :3], relative_pose(pose, reference, form)[:, :3], atol=1e-9)
    # A plain difference is not invariant, so the law has teeth.
    assert not np.allclose((absolute_pose(pose, world, form) - absolute_pose(reference, world, form)), pose - reference)


@pytest.mark.parametrize("bad", [[0.0] * 6, [1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [1, 2, 3, -2, -4, -6]])
@pytest.mark.parametrize("at", [0, 3, 6])
def test_one_degenerate_row_among_good_ones_is_refused(bad: list[float], at: int):
    rows = matrix_to_rot6d(Rotation.random(7, random_state=0).as_matrix())
    rot6d_to_matrix(rows)
    rows[at] = bad
    with pytest.raises(DataError, match="zero or parallel"):
        rot6d_to_matrix(rows)
    with pytest.raises(DataError, match="zero or parallel"):
        rot6d_to_matrix(rows.reshape(1, 7, 6))


@pytest.mark.parametrize("form", FORMATS)
def test_single_precision_poses_are_computed_in_double(form: str):
    """Far from the origin a difference in float32 loses millimetres; the rotation would be none by 1e-7."""
    pose, reference = (poses(form, seed).astype(np.float32) for seed in (0, 1))
    pose[:, :3] += 1000
    reference[:, :3] += 1000
    found = relative_pose(pose, reference, form)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, relative_pose(pose.astype(float), reference.astype(float), form))
    if form == "xyz+rot6d":
        rows = found[:, 3:].reshape(-1, 2, 3)
        np.testing.assert_allclose(rows @ rows.swapaxes(1, 2), np.eye(2)[None].repeat(5, 0), atol=1e-13)


def test_degenerate_rows_and_wrong_widths_are_refused():
    with pytest.raises(DataError, match="zero or parallel"):
        rot6d_to_matrix(np.array([1.0, 0, 0, 2.0, 0, 0]))
    with pytest.raises(DataError, match="found 7 numbers, but need 9"):
        relative_pose(np.zeros((2, 7)), np.zeros((2, 7)), "xyz+rot6d")


LOST = [[0.0] * 6, [1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [1, 2, 3, -2, -4, -6], [1.0] * 6, [0, 1, 0, 0, 1, 0]]


@pytest.mark.parametrize("rows", LOST)
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e9])
def test_a_prediction_that_says_no_rotation_becomes_some_rotation(rows: list[float], size: float):
    """Clipping to the range of the statistics puts both rows into one corner."""
    turned = some_rotation(np.array(rows) * size)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turned), 1.0, atol=1e-12)
    given = np.array(rows[:3], float)
    if given.any():
        np.testing.assert_allclose(turned[0], given / np.linalg.norm(given), atol=1e-12)


def test_no_rows_at_all_are_no_turn():
    np.testing.assert_array_equal(some_rotation(np.zeros((2, 6))), np.broadcast_to(np.eye(3), (2, 3, 3)))


@given(seeds)
def test_rows_that_say_a_rotation_give_the_same_bits_as_ever_beside_lost_ones(seed):
    rows = np.random.default_rng(seed).normal(size=(6, 6))
    first = rows[:, :3] / np.linalg.norm(rows[:, :3], axis=-1, keepdims=True)
    second = rows[:, 3:] - (first * rows[:, 3:]).sum(axis=-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    plain = np.stack([first, second, np.cross(first, second)], axis=-2)
    np.testing.assert_array_equal(rot6d_to_matrix(rows), plain)
    np.testing.assert_array_equal(some_rotation(np.concatenate([LOST, rows]))[len(LOST) :], plain)


@pytest.mark.parametrize("rows", LOST)
def test_only_predictions_are_forgiven(rows: list[float]):
    """A saturated chunk is acted on; recorded actions and measured states of that kind are refused."""
    bad, good = np.concatenate([np.ones((1, 3)), [rows]], axis=-1), poses("xyz+rot6d", 0, 1)
    moved = absolute_pose(bad, good, "xyz+rot6d")[0, 3:].reshape(2, 3)
    np.testing.assert_allclose(moved @ moved.T, np.eye(2), atol=1e-9)
    with pytest.raises(DataError, match="zero or parallel"):
        relative_pose(bad, good, "xyz+rot6d")
    with pytest.raises(DataError, match="zero or parallel"):
        absolute_pose(good, bad, "xyz+rot6d")
