"""The LIBERO adapter against a stand-in with LIBERO's own conventions: pictures, names, gripper, scenes, success."""

import builtins
import json
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from libero_stand_in import KEYS, KITCHENS, STATES, Log, StandIn, Suite, install, libero_checkpoint
from scipy.spatial.transform import Rotation

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.data.processor.embodiment import EMBODIMENT_IDS
from svms_gr00t.evaluate.closed_loop.libero_action import LAYOUT, Gripper, assemble
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.benchmarks.libero import LIBERO_HORIZON, build_libero, drive_libero, gripper_of
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim import libero as adapter
from svms_gr00t.sim.libero import POSITION, SETTLE, LiberoEnv, axis_angle


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Log:
    return install(monkeypatch, tmp_path)


class Lifter:
    """Moves up and closes its fingers, 0 in the coding that N1.6 is trained on; keys in no particular order."""

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Any], dict[str, Any]]:
        chunk = {key: np.full((8, 1), float(key == "z")) for key in reversed(KEYS)}
        return [chunk for _ in observations], {}

    def reset(self, seed: int) -> None:
        pass


def rules(**changes: Any) -> RolloutConfig:
    values: dict[str, Any] = {
        "tasks": KITCHENS,
        "episodes": 3,
        "split": "libero_90",
        "robot": "libero",
        "max_errors": 0,
    }
    values |= {"threshold": 0.5, "gripper_opens": True, "position_key": POSITION, "horizon": 20}
    return RolloutConfig(**values | changes)


def drive(env: LiberoEnv | None = None, **changes: Any) -> RolloutResult:
    c = rules(**changes)
    return rollout(Lifter(), env or build_libero(c.tasks, c.episodes, c.seed), c)


def test_a_policy_lifts_through_names_gripper_and_instruction(log: Log) -> None:
    result = drive()
    assert [r.ending for r in result.rollouts] == ["success"] * 6
    assert {r.instruction for r in result.rollouts} == {"lift it up", "lift it again"}
    assert {r.steps for r in result.rollouts} == {6, 7}, "done in the step in which the goal holds, not at the horizon"


def test_success_needs_the_gripper_the_right_way_round_and_every_number_in_its_place(log: Log) -> None:
    class Swapped(LiberoEnv):
        def step(self, action: np.ndarray) -> Any:
            return super().step(np.roll(action, 1))

    assert drive(gripper_opens=False).overall.successes == 0
    assert drive(Swapped()).overall.successes == 0


def test_actions_are_taken_by_name() -> None:
    action = {key: np.array([float(i)]) for i, key in enumerate(KEYS)}
    shuffled = {key: action[key] for key in sorted(action)}
    assert list(shuffled) != list(action)
    assert assemble(shuffled, gripper=Gripper()).tolist() == [0, 1, 2, 3, 4, 5, -1]
    assert list(LAYOUT) == list(KEYS)
    for broken in ({"gripper_close": np.zeros(1)}, {"x": np.zeros(2)}, {"x": np.array([np.nan])}):
        with pytest.raises(ConfigError, match="action"):
            assemble({**action, **broken}, gripper=Gripper())
    with pytest.raises(ConfigError, match="gripper"):
        assemble({key: action[key] for key in KEYS[:-1]}, gripper=Gripper())


@pytest.mark.parametrize(
    ("trained", "value", "sent"),
    [
        ((0.0, 1.0), 1.0, -1.0),
        ((0.0, 1.0), 0.6, -1.0),
        ((0.0, 1.0), 0.4, 1.0),
        ((0.0, 1.0), 0.0, 1.0),
        ((-1.0, 1.0), 1.0, 1.0),
        ((-1.0, 1.0), 0.3, 1.0),
        ((-1.0, 1.0), -0.3, -1.0),
    ],
)
def test_the_gripper_follows_the_coding_that_was_trained_on(
    trained: tuple[float, float], value: float, sent: float, tmp_path: Path
) -> None:
    gripper = gripper_of(libero_checkpoint(tmp_path / "policy", trained))
    action = dict.fromkeys(KEYS[:-1], np.zeros(1)) | {"gripper": np.array([value])}
    assert assemble(action, gripper=gripper)[-1] == sent
    if trained == (0.0, 1.0):
        assert sent == np.sign(1 - 2 * value), "what N1.6's own rollouts send"


def test_an_unknown_gripper_coding_and_another_robot_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gripper in the training data = \(0.0, 0.08\)"):
        gripper_of(libero_checkpoint(tmp_path / "metres", (0.0, 0.08)))
    with pytest.raises(ConfigError, match="checkpoint for robocasa_panda_omron"):
        gripper_of(shipped("tiny_base"))


def begin(env: LiberoEnv, seed: int = 0, task: str = KITCHENS[0]) -> dict[str, Any]:
    return env.reset(seed=seed, options={"task": task})[0]


def red_corner(env: LiberoEnv) -> list[tuple[int, int]]:
    seen = begin(env)
    return [tuple(map(int, np.argwhere(seen[f"video.{v}"][..., 0])[0])) for v in ("image", "wrist_image")]


def test_pictures_are_turned_by_180_degrees(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    env = LiberoEnv(image_size=8)
    assert red_corner(env) == [(0, 7)] * 2, "red is top left in the kitchen: upright and mirrored, as in training"
    assert begin(env)["video.image"].flags.c_contiguous
    monkeypatch.setattr(adapter, "turned", lambda picture: picture[::-1].copy())
    assert red_corner(env) == [(0, 0)] * 2, "a flip alone is told apart"


def test_a_blank_picture_is_not_evaluated(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "blank", True)
    with pytest.raises(ConfigError, match="one colour everywhere"):
        begin(LiberoEnv())


def test_roll_pitch_yaw_is_axis_times_angle_and_does_not_jump_where_the_hand_points_down() -> None:
    rng = np.random.default_rng(0)
    for quaternion in rng.normal(size=(20, 4)):
        quaternion /= np.linalg.norm(quaternion)
        there = Rotation.from_rotvec(axis_angle(quaternion))
        assert (there * Rotation.from_quat(quaternion).inv()).magnitude() < 1e-6
    np.testing.assert_array_equal(axis_angle(np.array([0.0, 0.0, 0.0, 1.0])), 0)
    np.testing.assert_allclose(axis_angle(np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])), [0, 0, np.pi / 2])
    either = [np.array([np.sqrt(1 - w * w), 0.0, 0.0, w]) for w in (0.01, -0.01)]
    assert np.abs(axis_angle(either[0]) - axis_angle(either[1])).max() < 0.05
    usual = [Rotation.from_quat(q).as_rotvec() for q in either]
    assert np.abs(usual[0] - usual[1]).max() > 6, "the usual convention does jump: this is what the check is for"


def test_the_observation_has_the_names_and_widths_of_libero_panda(log: Log) -> None:
    env = LiberoEnv()
    seen = begin(env)
    widths = dict.fromkeys((f"state.{key}" for key in KEYS[:-1]), 1) | {"state.gripper": 2, POSITION: 3}
    assert {key: len(value) for key, value in seen.items() if key.startswith("state.")} == widths
    assert seen["video.image"].shape == seen["video.wrist_image"].shape == (256, 256, 3)
    np.testing.assert_allclose([seen["state.roll"], seen["state.yaw"]], [[np.pi], [0]], rtol=1e-6)
    assert EMBODIMENT_IDS["libero_panda"] == 2


def test_episode_i_begins_at_initial_state_i_whatever_ran_before(log: Log) -> None:
    drive(episodes=STATES + 1)
    first = list(log.begun)
    for task in KITCHENS:
        assert [start for name, start, _ in first if name == task] == [0, 1, 2, 3, 0], "from the first again at the end"
    log.begun.clear()
    drive(episodes=STATES + 1, tasks=KITCHENS[::-1])
    assert sorted(log.begun) == sorted(first), "two policies, in any order, meet equal scenes, cabinet included"
    assert len({cabinet for *_, cabinet in first}) == len(first)
    log.begun.clear()
    drive(episodes=STATES + 1, seed=1)
    assert not {cabinet for *_, cabinet in log.begun} & {cabinet for *_, cabinet in first}


def test_a_kept_simulator_would_move_the_cabinet(log: Log) -> None:
    class Kept(LiberoEnv):
        def _build(self, number: int) -> Any:
            self.kept = getattr(self, "kept", None) or super()._build(number)
            return self.kept

    def cabinets(env: LiberoEnv) -> int:
        log.begun.clear()
        for _ in range(3):
            begin(env, seed=5)
        return len({cabinet for *_, cabinet in log.begun})

    assert cabinets(LiberoEnv()) == 1
    assert cabinets(Kept()) == 3


def test_gymnasiums_own_checker_passes_and_the_last_task_stays(log: Log) -> None:
    env = LiberoEnv(image_size=32, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)  # that part asks for environments made by name
    assert env.reset(seed=0)[1]["task"] == KITCHENS[0]
    env.reset(seed=0, options={"task": KITCHENS[1]})
    assert env.reset(seed=1)[0][INSTRUCTION] == "lift it again"
    assert env.render().shape == (32, 64, 3)


def test_every_simulator_is_closed(log: Log) -> None:
    env = LiberoEnv()
    drive(env)
    env.close()
    assert len(log.made) == log.closed == 6


def test_objects_settle_with_an_open_gripper_before_the_policy_counts(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = LiberoEnv()
    _, info = env.reset(seed=0, options={"task": KITCHENS[0]})
    assert [a.tolist() for a in log.actions] == [[0, 0, 0, 0, 0, 0, -1]] * SETTLE
    assert env._env.bowl == 0
    assert info == {"success": False, "task": KITCHENS[0]}
    monkeypatch.setattr(adapter, "SETTLE", 2)
    begin(env)
    assert env._env.bowl > 0, "without them it still falls"
    log.actions.clear()
    (one,) = drive(tasks=KITCHENS[:1], episodes=1, horizon=4).rollouts
    assert (one.ending, one.steps, len(log.actions)) == ("horizon", 4, 2 + 4), "settling is not on the policy's time"


def test_success_stays_and_a_horizon_that_robosuite_would_cut_is_refused(log: Log, tmp_path: Path) -> None:
    env = LiberoEnv()
    begin(env)
    up, open_up = np.array([0, 0, 1.0, 0, 0, 0, 1.0]), np.array([0, 0, 1.0, 0, 0, 0, -1.0])
    ends = [env.step(a)[1:] for a in [open_up] * 7 + [up, open_up]]
    assert ends == [(0.0, False, False, {"success": False})] * 7 + [(1.0, True, False, {"success": True})] * 2
    begin(env)
    assert not env.step(open_up)[4]["success"]
    begin(env)
    assert LIBERO_HORIZON == 720
    shared: dict[str, Any] = {"name": "x", "episodes": 1, "seed": 0}
    with pytest.raises(ConfigError, match="horizon = 991"):
        drive_libero(libero_checkpoint(tmp_path / "policy"), horizon=991, **shared)
    assert [env.step(open_up)[3] for _ in range(990)] == [False] * 989 + [True], "before robosuite refuses to go on"
    with pytest.raises(ValueError, match="terminated"):
        env.step(open_up)


def test_tasks_are_the_kitchens_that_the_package_lists(log: Log, tmp_path: Path) -> None:
    env = LiberoEnv()
    assert env.tasks == KITCHENS
    with pytest.raises(ConfigError, match="one of LIBERO-90's 2 kitchen tasks"):
        begin(env, task="STUDY_SCENE1_lift_it")
    with pytest.raises(ConfigError, match="split = 'target', but need libero_90"):
        env.reset(seed=0, options={"task": KITCHENS[0], "split": "target"})
    with pytest.raises(ConfigError, match="--tasks"):
        drive_libero(libero_checkpoint(tmp_path / "policy"), name="x", tasks=("Lift",), episodes=1, seed=0)


def test_initial_states_load_as_arrays_and_nothing_else_does(log: Log) -> None:
    with pytest.raises(pickle.UnpicklingError):
        Suite().get_task_init_states(1)  # what torch does since 2.6 without leave
    begin(LiberoEnv())

    class Command:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(Suite.folder / "ran"),)

    torch.save(Command(), Suite.folder / f"{KITCHENS[0]}.pruned_init")
    with pytest.raises(pickle.UnpicklingError):
        begin(LiberoEnv())
    assert not (Suite.folder / "ran").exists()


def test_the_command_drives_a_policy_and_hands_in_its_rate(log: Log, tmp_path: Path) -> None:
    policy, board = libero_checkpoint(tmp_path / "policy"), tmp_path / "board.json"
    assert set(Policy.from_pretrained(policy).get_modality_config()["action"].modality_keys) == set(KEYS)
    words = ["evaluate", "rollout", "--benchmark", "libero", "--checkpoint", str(policy), "--episodes", "1"]
    words += ["--tasks", KITCHENS[1], "--workers", "1", "--n-action-steps", "16", "--leaderboard", str(board)]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    found = json.loads(board.read_text())
    assert list(found["tasks"]) == [KITCHENS[1]]
    assert found["tasks"][KITCHENS[1]]["broken"] == 0
    assert found["protocol"]["max_episode_steps"] == {KITCHENS[1]: 720}
    assert found["published"] == {}, "no published rate is of these tasks, this model and this protocol"
    assert log.begun[0][:2] == (KITCHENS[1], 0.0)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ModuleNotFoundError("No module named 'libero'", name="libero"), "no module libero"),
        (ModuleNotFoundError("no", name="robosuite.environments.manipulation.single_arm_env"), "single_arm_env"),
        (EOFError("EOF when reading a line"), "LIBERO_CONFIG_PATH"),
    ],
)
def test_without_a_working_libero_one_sentence_says_so(
    failure: Exception, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "libero":
            raise failure
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "libero", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "evaluate",
                "rollout",
                "--benchmark",
                "libero",
                "--checkpoint",
                str(libero_checkpoint(tmp_path / "policy")),
            ]
        )
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: LIBERO")
    assert said in error
    assert error.strip().count("\n") == 0
