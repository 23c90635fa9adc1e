"""The RoboMME adapter against a stand-in in a process of its own: frames, order, memory, actions, success, errors."""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from robomme.env_record_wrapper import DEMONSTRATION, LIT, WON
from robomme_stand_in import OFFSETS, python, robomme_checkpoint

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import EARLIER, STEP
from svms_gr00t.core.protocols import INSTRUCTION, WATCHED, Chunk
from svms_gr00t.evaluate.closed_loop.faults import Faulty
from svms_gr00t.evaluate.closed_loop.leaderboard import ROBOMME
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.robomme_action import assemble
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.benchmarks.robomme import HORIZON, build_robomme, drive_robomme
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.robomme import POSITION, RobommeEnv, SimulatorError

VIDEO, COUNT = "VideoUnmask", "PickXtimes"
SHOWN = DEMONSTRATION[VIDEO]
RED = "video.image"


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python(tmp_path_factory.mktemp("robomme"))


@pytest.fixture(scope="module")
def env(interpreter: Path) -> Iterator[RobommeEnv]:
    env = RobommeEnv(interpreter, render_mode="rgb_array")
    yield env
    env.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return robomme_checkpoint(tmp_path_factory.mktemp("policy") / "policy")


def begin(env: RobommeEnv, task: str = VIDEO, seed: int = 0, **options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return env.reset(seed=seed, options={"task": task, **options})


def number(seen: dict[str, Any]) -> int:
    """Of the frame, as the stand-in writes it."""
    return int(seen[RED][0, 0, 0])


def test_every_frame_of_a_demonstration_is_handed_over_oldest_first_and_the_last_is_the_present(
    env: RobommeEnv,
) -> None:
    seen, info = begin(env)
    assert [number(one) for one in info[WATCHED]] == list(range(SHOWN))
    assert number(seen) == SHOWN
    assert [float(one["state.joints"][0]) for one in info[WATCHED]] == pytest.approx([0.01 * i for i in range(SHOWN)])
    assert [i for i, one in enumerate(info[WATCHED]) if one[RED][1, 1].any()] == [LIT], "told by that frame alone"
    seen, info = begin(env, COUNT)
    assert info[WATCHED] == ()
    assert number(seen) == 0


def test_the_observation_has_names_widths_and_words(env: RobommeEnv) -> None:
    seen, _ = begin(env, COUNT, seed=2)
    widths = {"state.joints": 7, "state.gripper": 1, POSITION: 3}
    assert {key: len(value) for key, value in seen.items() if key.startswith("state.")} == widths
    assert seen["state.gripper"] == pytest.approx([0.03]), "one finger, as LeRobot's copy of the data has it"
    assert seen[INSTRUCTION] == f"{COUNT} 2", "the first of the goals"
    np.testing.assert_array_equal(seen["video.wrist_image"], seen[RED][:, ::-1])
    assert env.render().shape == (256, 512, 3)
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space")  # these are radians
        check_env(env, skip_render_check=True)


def test_scenes_are_the_benchmarks_own_and_success_is_its_status_at_the_end(env: RobommeEnv) -> None:
    assert [begin(env, seed=seed)[1]["episode"] for seed in (0, 3, 5)] == [0, 3, 1], "four episodes in its test split"
    assert begin(env, seed=5, split="val")[1]["episode"] == 2
    begin(env)
    ends = [env.step(np.eye(8)[0])[1:] for _ in range(WON)]
    assert ends[-1] == (1.0, True, False, {"success": True, "status": "success"})
    assert not any(reward or terminated for reward, terminated, *_ in ends[:-1])
    begin(env)
    assert env.step(-np.eye(8)[0])[1:] == (0.0, True, False, {"success": False, "status": "fail"})


def test_what_cannot_be_executed_and_a_simulator_that_dies_are_said(interpreter: Path) -> None:
    env = RobommeEnv(interpreter)
    begin(env)
    with pytest.raises(SimulatorError, match="joint 2 out of reach"):
        env.step(99 * np.eye(8)[1])
    begin(env)
    with pytest.raises(SimulatorError, match=r"process ended \(exit code 3"):
        env.step(99 * np.eye(8)[2])
    env.close()
    env.close()


class Asked:
    """Stands still and keeps what the policy inside was asked and said."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.asked = policy, list[tuple[dict[str, Any], int, dict[str, np.ndarray]]]()

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Any], dict[str, Any]]:
        (chunk,), info = self.policy.act(observations, seeds=seeds)
        self.asked.append((observations[0], seeds[0], chunk))
        return [{"joints": np.zeros((8, 7)), "gripper": np.ones((8, 1))}], info


def test_a_chunk_after_watching_is_the_one_computed_from_those_frames_as_the_past(
    env: RobommeEnv, checkpoint: Path
) -> None:
    hand = Asked(Policy.from_pretrained(checkpoint))
    config = RolloutConfig(tasks=(VIDEO,), episodes=2, split="test", horizon=9, n_action_steps=4, robot="robomme")
    result = rollout(hand, env, config)
    assert [r.error for r in result.rollouts] == [None, None]
    assert [seen[STEP] for seen, *_ in hand.asked] == [SHOWN, SHOWN + 4, SHOWN + 8] * 2
    for driven, asked in zip(result.rollouts, (hand.asked[:3], hand.asked[3:]), strict=True):
        frames = dict(enumerate(begin(env, seed=driven.seed)[1][WATCHED])) | {seen[STEP]: seen for seen, *_ in asked}
        for seen, seed, chunk in asked:
            past = tuple(frames.get(seen[STEP] + offset) for offset in OFFSETS)
            assert sum(one is not None for one in past) >= 2
            assert apart(chunk, hand.policy, seen, past, seed) < 1e-5, seen[STEP]
    assert apart(chunk, hand.policy, seen, (None,) * 3, seed) > 1e-3, "what was watched matters here"
    assert apart(chunk, hand.policy, seen, past[::-1], seed) > 1e-4, "in another order it is another past"


def apart(chunk: Chunk, policy: Policy, seen: dict[str, Any], past: tuple[Any, ...], seed: int) -> float:
    """From the chunk that the policy says with this past."""
    other = policy.act([seen | {EARLIER: past}], seeds=[seed])[0][0]
    return float(max(np.abs(chunk[key] - other[key]).max() for key in chunk))


def test_no_action_is_asked_for_or_sent_while_watching(
    env: RobommeEnv, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, watched = list[np.ndarray](), list[int]()
    hand, step, keep = Asked(Policy.from_pretrained(checkpoint)), env.step, Policy.watch
    monkeypatch.setattr(env, "step", lambda action: (sent.append(action), step(action))[1])
    monkeypatch.setattr(Policy, "watch", lambda self, seen: (watched.append(seen[0][STEP]), keep(self, seen))[1])
    config = RolloutConfig(tasks=(VIDEO,), episodes=1, split="test", horizon=9, n_action_steps=8, robot="robomme")
    rollout(hand, env, config)
    assert watched == [SHOWN - 16, SHOWN - 8], "at the memory's stride back from the first step, oldest first"
    assert len(hand.asked) == 2
    assert len(sent) == 9


def test_a_fault_of_a_camera_spoils_what_is_watched(env: RobommeEnv) -> None:
    _, info = Faulty(env, "cameras black").reset(seed=0, options={"task": VIDEO})
    assert len(info[WATCHED]) == SHOWN
    assert not any(one[RED].any() for one in info[WATCHED])


def test_actions_are_taken_by_name() -> None:
    joints, gripper = np.arange(7.0), np.array([-1.0])
    assert assemble({"gripper": gripper, "joints": joints}).tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    for broken in ({"x": joints}, {"joints": joints[:6]}, {"gripper": np.array([np.nan])}):
        with pytest.raises(ConfigError, match="action"):
            assemble({"joints": joints, "gripper": gripper} | broken)


class Left:
    """Turns left whatever was shown."""

    def reset(self, seed: int) -> None:
        pass

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Any], dict[str, Any]]:
        return [{"joints": np.eye(7)[:1].repeat(8, 0), "gripper": np.ones((8, 1))}], {}


def test_successes_are_counted_in_the_benchmarks_episodes(interpreter: Path) -> None:
    env = build_robomme(str(interpreter), (COUNT, VIDEO), 4, 0, horizon=12)
    config = RolloutConfig(tasks=(COUNT, VIDEO), episodes=4, split="test", horizon=12, robot="robomme", max_errors=0)
    result: RolloutResult = rollout(Left(), env, config)
    env.close()
    for task in (COUNT, VIDEO):
        driven = [r for r in result.rollouts if r.task == task]
        assert [r.instruction for r in driven] == [f"{task} {i}" for i in range(4)], "episode i is the benchmark's i"
        assert [(r.ending, r.steps) for r in driven] == [("success", WON), ("failed", 1)] * 2


def command(checkpoint: Path, *more: str) -> int:
    words = ["evaluate", "rollout", "--benchmark", "robomme", "--checkpoint", str(checkpoint), "--workers", "1"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, *more])
    return int(stopped.value.code or 0)


def test_the_command_drives_a_policy_beside_what_others_report(
    interpreter: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = tmp_path / "board.json"
    more = ["--simulator", str(interpreter), "--tasks", VIDEO, "--episodes", "1", "--horizon", "3"]
    assert command(checkpoint, *more, "--n-action-steps", "8", "--leaderboard", str(board)) == 0
    said, found = capsys.readouterr().out, json.loads(board.read_text())
    assert "Reported elsewhere" in said
    assert all(name in said for name in ROBOMME)
    assert found["published"] == ROBOMME
    assert found["tasks"][VIDEO]["broken"] == 0
    assert HORIZON == 1300


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "--simulator = None, but need the Python of RoboMME's own environment."),
        (("--simulator", "/nowhere/python"), "RoboMME = '/nowhere/python, No such file or directory', but need"),
        (("--simulator", "PLAIN"), "RoboMME = \"ModuleNotFoundError: No module named 'robomme'\", but need a Python"),
        (("--simulator", "HERE", "--tasks", "PickTwice"), "--tasks = 'PickTwice', but need names among RoboMME's 2"),
        (("--simulator", "HERE", "--split", "pretrain"), "--split = 'pretrain', but need one of train, val, test."),
        (("--simulator", "HERE", "--episodes", "5"), "--episodes = 5, but need at most 4, as many as split test has."),
    ],
)
def test_what_is_missing_is_one_sentence_with_the_next_step(
    more: tuple[str, ...], said: str, interpreter: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"HERE": str(interpreter), "PLAIN": sys.executable}
    assert command(checkpoint, *(places.get(word, word) for word in more)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    if "RoboMME =" in said or "--simulator =" in said:
        assert "scripts/set_up_robomme.sh" in error


def test_a_policy_of_another_robot_is_refused(interpreter: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint for robocasa_panda_omron"):
        drive_robomme(shipped("tiny_base"), name="other", simulator=interpreter, episodes=1, seed=0)
