"""The kitchen: what an episode depends on, what is seen, and that success means something."""

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.sim.camera import VIEWS
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import to_env_order
from svms_gr00t.sim.tasks.suites import TASKS
from svms_gr00t.sim.tasks.task import HOLD
from svms_gr00t.sim.world import ACTION_PARTS

STILL = np.array([0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1], dtype=np.float64)


def begin(env: KitchenEnv, task: str, seed: int) -> dict:
    return env.reset(seed=seed, options={"task": task})[0]


def done(env: KitchenEnv, action: np.ndarray) -> bool:
    return env.step(action)[4]["success"]


def run(env: KitchenEnv, task: str, seed: int, actions: np.ndarray) -> np.ndarray:
    begin(env, task, seed)
    for action in actions:
        env.step(action)
    return env.simulation_state()


def test_an_episode_depends_on_task_seed_and_actions_alone(kitchen: KitchenEnv) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 12))
    first = run(kitchen, "OpenDrawer", 3, actions)
    run(kitchen, "PickFood", 8, -actions)
    np.testing.assert_array_equal(run(kitchen, "OpenDrawer", 3, actions), first)
    assert not np.array_equal(run(kitchen, "OpenDrawer", 4, actions), first)
    actions[7, 0] *= -1
    assert not np.array_equal(run(kitchen, "OpenDrawer", 3, actions), first)


def test_a_new_environment_runs_the_same_episode(kitchen: KitchenEnv) -> None:
    actions = np.random.default_rng(1).uniform(-1, 1, (10, 12))
    np.testing.assert_array_equal(run(KitchenEnv(), "TurnOnStove", 5, actions), run(kitchen, "TurnOnStove", 5, actions))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.whole)])
def test_standing_still_and_moving_at_random_do_not_succeed(kitchen: KitchenEnv, task: str, seed: int) -> None:
    kitchen.drawing = False
    begin(kitchen, task, seed)
    assert not any(done(kitchen, STILL) for _ in range(2 * HOLD))
    begin(kitchen, task, seed)
    rng = np.random.default_rng(seed)
    assert not any(done(kitchen, rng.uniform(-1, 1, 12)) for _ in range(60))


def test_observations_have_the_documented_form(kitchen: KitchenEnv) -> None:
    seen, info = kitchen.reset(seed=2, options={"task": "PickPlaceCounterToBowl"})
    shapes = {key: value.shape for key, value in seen.items() if key != INSTRUCTION}
    assert shapes == dict.fromkeys(VIEWS, (96, 96, 3)) | {
        "state.base_position": (3,),
        "state.base_rotation": (4,),
        "state.end_effector_position_relative": (3,),
        "state.end_effector_rotation_relative": (4,),
        "state.gripper_qpos": (2,),
    }
    assert all(seen[view].dtype == np.uint8 and seen[view].std() > 20 for view in VIEWS)
    assert all(value.dtype == np.float32 for key, value in seen.items() if key.startswith("state."))
    for key in ("state.base_rotation", "state.end_effector_rotation_relative"):
        assert np.linalg.norm(seen[key]) == pytest.approx(1, abs=1e-6)
    assert seen["state.end_effector_rotation_relative"][0] >= 0
    told = {"success": False, "stage": "under way"}
    assert info == told | {"task": "PickPlaceCounterToBowl", "target": kitchen.target}
    assert kitchen.target in seen[INSTRUCTION]
    later, reward, terminated, truncated, info = kitchen.step(STILL)
    assert (reward, terminated, truncated, info) == (0.0, False, False, told)
    assert later.keys() == seen.keys()
    assert later[INSTRUCTION] == seen[INSTRUCTION]
    kitchen.drawing = False
    assert not any(key.startswith("video.") for key in kitchen.step(STILL)[0])


def test_pictures_are_upright_and_show_what_is_on(kitchen: KitchenEnv) -> None:
    off = begin(kitchen, "TurnOnStove", 0)[VIEWS[1]].astype(int)
    kitchen._data.joint("stove").qpos[0] = 0.45
    on = kitchen.draw()[VIEWS[1]].astype(int)
    redder = (on - off)[..., 0] > 80
    # The burner is the fixture nearest to the right camera, so it is in the lower half of an upright picture.
    assert redder[48:].sum() > 20 * max(1, redder[:40].sum())


def test_the_action_moves_the_hand_along_the_base_axes(kitchen: KitchenEnv) -> None:
    assert list(ACTION_PARTS) == ["right", "right_gripper", "base", "torso"]
    for axis in range(3):
        begin(kitchen, "PickFood", 0)
        before = kitchen.hand()
        action = STILL.copy()
        action[axis] = 0.5
        for _ in range(6):
            kitchen.step(action)
        moved = kitchen.hand() - before
        assert moved[axis] > 0.01
        assert np.abs(np.delete(moved, axis)).max() < 0.3 * moved[axis]


def test_the_base_stands_still_whatever_the_action_says(kitchen: KitchenEnv) -> None:
    before = begin(kitchen, "PickFood", 0)["state.base_position"]
    for _ in range(20):
        after, *_ = kitchen.step(np.array([0, 0, 0, 0, 0, 0, -1, 1, 1, 1, 1, 1]))
    assert np.abs(after["state.base_position"] - before).max() < 1e-4


def test_both_drawers_start_alike_and_only_the_named_one_counts(kitchen: KitchenEnv) -> None:
    begin(kitchen, "OpenDrawer", 0)
    task, other = TASKS["OpenDrawer"], {"left": "right", "right": "left"}[kitchen.target]
    kitchen._data.joint(f"drawer_{other}").qpos[0] = 0.13
    assert not task.success(kitchen, kitchen.target)
    assert task.success(kitchen, other)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_held_out_sentences_are_new_and_name_the_target(task) -> None:
    assert not set(task.phrasings) & set(task.held_out)
    assert len(task.held_out) >= 2
    if len(task.targets) > 1:
        assert all("{target}" in sentence for sentence in task.phrasings + task.held_out)


def test_file_order_puts_base_and_mode_first() -> None:
    named = np.array(["b0", "b1", "b2", "torso", "mode", "x", "y", "z", "r0", "r1", "r2", "grip"])
    want = ["x", "y", "z", "r0", "r1", "r2", "grip", "b0", "b1", "b2", "torso", "mode"]
    assert to_env_order(named).tolist() == want


def test_unknown_options_are_refused(kitchen: KitchenEnv) -> None:
    for options, message in (
        ({"task": "WashDishes"}, "one of OpenDrawer"),
        ({"task": "PickFood", "split": "test"}, "split"),
        ({"tsak": "PickFood"}, r"reset options = \['tsak'\], but need only task, split"),
    ):
        with pytest.raises(ConfigError, match=message):
            kitchen.reset(seed=0, options=options)
    with pytest.raises(ConfigError, match="one of OpenDrawer"):
        KitchenEnv(task="WashDishes")
