"""Waypoints and grounded targets: facts about paths, formulas against a slow reading of them, and whose hand it is."""

from itertools import pairwise

import numpy as np
import pytest

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.labels.hand import find_hand
from svms_gr00t.data.labels.waypoints import APART, changes, corners, grounded_targets, waypoints
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.recipes.shipped import demonstrations


def bent(legs: list[tuple[float, float, float]], steps: int = 10) -> np.ndarray:
    """A path from the origin through `legs`, straight and evenly timed between them."""
    points = np.array([(0.0, 0.0, 0.0), *legs])
    parts = [a + (b - a) * np.linspace(0, 1, steps, endpoint=False)[:, None] for a, b in pairwise(points)]
    return np.concatenate([*parts, points[-1:]])


def wandering(seed: int, steps: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random path, and a gripper that changes now and then."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(np.cumsum(rng.normal(size=(steps, 3)), axis=0), axis=0) * 1e-3
    return path, np.where(np.cumsum(rng.random(steps) < 0.06) % 2, 1.0, -1.0)


def off_the_polygon(path: np.ndarray, kept: np.ndarray) -> float:
    """Largest distance of a step from the segment between its two kept neighbours, by trying many points of it."""
    worst = 0.0
    for a, b in pairwise(kept):
        segment = path[a] + (path[b] - path[a]) * np.linspace(0, 1, 2001)[:, None]
        worst = max(worst, *(float(np.linalg.norm(segment - path[t], axis=1).min()) for t in range(a, b + 1)))
    return worst


def test_corners_are_where_the_path_bends():
    path = bent([(0.2, 0, 0), (0.2, 0.2, 0), (0.2, 0.2, 0.1)])
    assert corners(path).tolist() == [0, 10, 20, 30]
    assert corners(bent([(0.1, 0, 0), (0.3, 0, 0)])).tolist() == [0, 20]  # faster, but straight on
    assert corners(path, tolerance=0.12).tolist() == [0, 10, 30]


def test_a_hand_that_goes_there_and_back_turns_at_the_far_point():
    # A distance to the infinite line would be 0 everywhere here, and the turn would be lost.
    assert corners(bent([(0.3, 0, 0), (0, 0, 0)])).tolist() == [0, 10, 20]
    assert corners(bent([(0.3, 0, 0), (0.1, 0, 0)])).tolist() == [0, 10, 20]


@pytest.mark.parametrize("seed", range(8))
def test_no_step_leaves_the_polygon_of_corners(seed):
    path, _ = wandering(seed)
    kept = corners(path)
    assert off_the_polygon(path, kept) <= 0.02 + 1e-9
    assert len(kept) > 2
    assert off_the_polygon(path, kept[[0, -1]]) > 0.02  # the check can fail


def test_the_gripper_makes_waypoints_and_close_ones_merge():
    straight = bent([(0.3, 0, 0)], steps=30)
    gripper = np.full(31, -1.0)
    gripper[12:] = 1
    assert waypoints(straight, gripper).tolist() == [12, 30]
    gripper[14:] = -1  # two steps later: the earlier stays
    assert waypoints(straight, gripper).tolist() == [12, 30]
    gripper[28:] = 1  # too close to the end, which stays
    assert waypoints(straight, gripper).tolist() == [12, 30]
    gripper[:] = np.where((np.arange(31) >= 12) & (np.arange(31) < 12 + APART), 1, -1)
    assert waypoints(straight, gripper).tolist() == [12, 12 + APART, 30]  # exactly so far is far enough
    bend = bent([(0.2, 0, 0), (0.2, 0.2, 0)])  # corner at 10
    gripper = np.where(np.arange(21) < 12, 0.0, 1.0)
    assert waypoints(bend, gripper).tolist() == [12, 20]  # the change stays before the corner
    assert changes(np.array([0, 0.5, 0.2, -3, 0])).tolist() == [1, 3]


@pytest.mark.parametrize("seed", range(8))
def test_waypoints_are_apart_and_end_where_the_episode_does(seed):
    path, gripper = wandering(seed)
    found = waypoints(path, gripper)
    assert found[-1] == len(path) - 1
    assert (np.diff(found) >= APART).all()
    assert found[0] > 0
    assert np.array_equal(found, waypoints(path + 5.0, 7 * gripper))  # neither origin nor scale of the command matters


def slowly(path: np.ndarray, width: np.ndarray, points: list[int], t: int) -> dict[str, list[float]]:
    """The formulas, read word for word."""
    end, ahead = len(path) - 1, [k for k, w in enumerate(points) if w > t]
    k = ahead[0] if ahead else len(points) - 1
    after = points[k + 1] if k + 1 < len(points) else points[k]
    when = [np.log(1 + points[k] - t) / np.log(40), t / end, (len(points) - k) / 8]
    how = [*path[t], width[t], *path[min(t + 8, end)]]
    return {"where": [*path[points[k]], *path[after]], "when": when, "how": how}


@pytest.mark.parametrize("seed", range(3))
def test_targets_are_the_formulas(seed):
    path, gripper = wandering(seed)
    width, points = np.random.default_rng(seed).random(len(path)), waypoints(path, gripper)
    found = grounded_targets(path, width, points)
    for t in range(len(path)):
        for name, want in slowly(path, width, points.tolist(), t).items():
            np.testing.assert_allclose(found[name][t], want, rtol=0, atol=1e-12)
    shifted = grounded_targets(path, width, np.append(points[:-1] - 1, points[-1]))
    assert not np.allclose(shifted["where"], found["where"])  # the comparison can fail


def test_the_last_step_and_a_single_step_have_targets():
    path, gripper = wandering(0)
    found = grounded_targets(path, np.ones(len(path)), waypoints(path, gripper))
    assert found["when"][-1].tolist() == [0.0, 1.0, 1 / 8]
    np.testing.assert_array_equal(found["where"][-1], [*path[-1], *path[-1]])
    one = grounded_targets(path[:1], np.ones(1), waypoints(path[:1], gripper[:1]))
    assert one["when"].tolist() == [[0.0, 0.0, 1 / 8]]


def test_what_is_no_motion_is_refused():
    path, gripper = wandering(1)
    with pytest.raises(DataError, match="finite"):
        waypoints(path[:0], gripper[:0])
    path[3, 1] = np.nan
    with pytest.raises(DataError, match="finite"):
        waypoints(path, gripper)


def modality(state: dict[str, int], action: dict[str, int] | None = None) -> Modality:
    """Keys of these widths, one after the other."""

    def slices(widths: dict[str, int]) -> dict[str, dict[str, int]]:
        ends = np.cumsum(list(widths.values())).tolist()
        return {key: {"start": end - width, "end": end} for (key, width), end in zip(widths.items(), ends, strict=True)}

    return Modality.from_dict({"state": slices(state), "action": slices(action or {})})


def ranges(**values: tuple[list[float], list[float]]) -> dict[str, dict[str, dict[str, list[float]]]]:
    found: dict[str, dict[str, dict[str, list[float]]]] = {"state": {}, "action": {}}
    for name, (low, high) in values.items():
        kind, key = name.split("_", 1)
        found[kind][key] = {"min": low, "max": high}
    return found


def test_hands_are_found_by_name():
    libero = modality({"x": 1, "y": 1, "z": 1, "roll": 1, "gripper": 2}, {"x": 1, "gripper": 1})
    hand = find_hand(libero, ranges(action_gripper=([0.0], [1.0])))
    assert (hand.position, hand.width, hand.gripper, hand.middle) == (("x", "y", "z"), "gripper", "gripper", 0.5)
    droid = modality({"eef_9d": 9, "gripper_position": 1, "joint_position": 7})
    hand = find_hand(droid, ranges(state_gripper_position=([0.0], [0.08])))
    assert (hand.position, hand.gripper, hand.middle) == (("eef_9d",), None, 0.04)
    two = modality({"end_effector_position_absolute": 3, "end_effector_position_relative": 3, "gripper_qpos": 2})
    assert find_hand(two, ranges(state_gripper_qpos=([0, -0.04], [0.04, 0]))).position == (
        "end_effector_position_relative",
    )


def test_a_motion_is_metres_width_and_a_signed_command():
    rows = {
        "state.eef_9d": np.arange(18.0).reshape(2, 9),
        "state.gripper_qpos": np.array([[0.04, -0.04], [0.01, -0.01]]),
        "action.gripper": np.array([[0.0], [1.0]]),
    }
    names = modality({"eef_9d": 9, "gripper_qpos": 2}, {"gripper": 1})
    motion = find_hand(names, ranges(action_gripper=([0.0], [1.0]))).motion(rows)
    assert motion.path.tolist() == [[0, 1, 2], [9, 10, 11]]
    assert motion.width.tolist() == [0.08, 0.02]
    assert motion.gripper.tolist() == [-0.5, 0.5]
    bare = modality({"eef_9d": 9, "gripper_qpos": 2})
    told = find_hand(bare, ranges(state_gripper_qpos=([0.0, -0.04], [0.04, 0.0]))).motion(rows)
    np.testing.assert_allclose(told.gripper, [0.04, -0.02])  # by the width alone, open above its middle
    xyz = modality({"x": 1, "y": 1, "z": 1, "gripper": 1}, {"gripper": 1})
    parts = {f"state.{axis}": np.full((2, 1), float(i)) for i, axis in enumerate("xyz")}
    single = find_hand(xyz, ranges(action_gripper=([-1.0], [1.0])))
    found = single.motion(rows | parts | {"state.gripper": np.ones((2, 1))})
    assert found.path.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"left_arm": 7, "right_arm": 7, "right_hand": 6}, "no end-effector position"),
        ({"left_eef_pos": 3, "right_eef_pos": 3, "gripper": 1}, "left_eef_pos, right_eef_pos"),
        ({"eef_pos": 3}, "no gripper"),
    ],
    ids=["joints alone", "two hands", "no gripper"],
)
def test_a_dataset_without_one_hand_gets_a_sentence(state, says):
    with pytest.raises(DataError, match=says) as caught:
        find_hand(modality(state), {})
    assert "--hand-position" in str(caught.value)


def test_the_user_names_the_hand():
    arms = modality(
        {"left_eef_pos": 3, "right_eef_pos": 3, "left_gripper": 1, "right_gripper": 1}, {"right_gripper": 1}
    )
    statistics = ranges(action_right_gripper=([-1], [1]), state_left_gripper=([0], [0.1]))
    right = find_hand(arms, statistics, position=["right_eef_pos"], gripper="right_gripper")
    assert (right.position, right.width, right.gripper, right.middle) == (
        *(("right_eef_pos",), "right_gripper", "right_gripper", 0.0),
    )
    with pytest.raises(DataError, match="no state wrong"):
        find_hand(arms, statistics, position=["wrong"], gripper="right_gripper")
    with pytest.raises(DataError, match="three: x, y and z"):
        find_hand(arms, statistics, position=["left_gripper"], gripper="left_gripper")


def test_the_shipped_kitchen_has_waypoints():
    dataset = LeRobotDataset.open(demonstrations("shipped"))
    hand = find_hand(dataset.modality, compute_statistics(dataset))
    assert (hand.gripper, hand.middle) == ("gripper_close", 0.0)
    for episode in [e.index for e in dataset.episodes][::20]:
        motion = hand.motion(dataset.lowdim(episode))
        points = waypoints(motion.path, motion.gripper)
        assert 1 < len(points) < len(motion.path) / APART
        reached = motion.targets()["where"][:, :3]
        away = np.linalg.norm(reached - motion.path, axis=1)
        assert away[points - 1].max() < 0.05  # a step before a waypoint the hand is nearly there,
        assert away.max() > 0.05  # and at most other times it is not
