"""What the stand-in claims about LIBERO, checked where LIBERO is installed."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.sim.libero import LiberoEnv

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("libero") is None, reason="LIBERO is not installed here"),
]
TASK = "KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet"
STILL, UP = np.array([0.0, 0, 0, 0, 0, 0, -1]), np.array([0.0, 0, 1, 0, 0, 0, 1])


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    env = LiberoEnv(starts={7: 0, 8: 1}, image_size=64)
    yield env
    env.close()


def begin(env: LiberoEnv, seed: int = 7) -> dict[str, Any]:
    return env.reset(seed=seed, options={"task": TASK})[0]


def test_there_are_46_kitchen_tasks(env: LiberoEnv) -> None:
    assert len(env.tasks) == 46
    assert TASK in env.tasks


def test_equal_seeds_are_equal_scenes_and_a_kept_simulator_moves_the_cabinet(env: LiberoEnv) -> None:
    def seen(seed: int) -> np.ndarray:
        first = begin(env, seed)
        assert first[INSTRUCTION] == "close the top drawer of the cabinet"
        return first["video.image"].astype(int)

    first, other, again = seen(7), seen(8), seen(7)
    assert np.abs(first - again).max() == 0
    assert np.abs(first - other).max() > 50
    domain = env._env.env
    body = domain.sim.model.body_name2id(domain.fixtures_dict["wooden_cabinet_1"].root_body)
    before = domain.sim.model.body_pos[body].copy()
    env._env.seed(7)
    env._env.reset()
    assert np.abs(env._env.env.sim.model.body_pos[body] - before).max() > 1e-4


def test_a_positive_gripper_closes_z_is_up_and_the_hand_points_down(env: LiberoEnv) -> None:
    before = begin(env)
    for _ in range(10):
        after, *_ = env.step(UP)
    assert after["state.z"] > before["state.z"] + 0.05
    assert np.abs(before["state.gripper"]).min() > 0.03 > 0.01 > np.abs(after["state.gripper"]).max()
    assert abs(before["state.roll"].item() - np.pi) < 0.1


def test_the_picture_is_upright_and_mirrored(env: LiberoEnv) -> None:
    """The camera looks at the robot, to which the cabinet stands on the right (y < 0): seen truly it is on the left."""
    seen = begin(env)
    domain = env._env.env
    body = domain.sim.model.body_name2id(domain.fixtures_dict["wooden_cabinet_1"].root_body)
    assert domain.sim.model.body_pos[body][1] < -0.2
    assert domain.sim.data.get_camera_xpos("agentview")[0] > 0
    table = seen["video.image"][32:, :].mean(axis=(0, 2))
    assert table[-16:].mean() < table[:16].mean() - 30, "the dark cabinet is on the right of the picture"


def test_success_is_the_goal_holding(env: LiberoEnv) -> None:
    begin(env)
    assert not env.step(STILL)[4]["success"]
    domain = env._env.env
    for joint in domain.object_sites_dict["wooden_cabinet_1_top_region"].joints:
        domain.sim.data.set_joint_qpos(joint, 0.004)
    domain.sim.forward()
    assert env.step(STILL)[1:] == (1.0, True, False, {"success": True})
