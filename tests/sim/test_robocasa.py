"""The RoboCasa adapter against a stand-in with RoboCasa's own spaces: names, order, splits, success, flips."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.closed_loop.leaderboard import N1D6_24, N1D6_24_MEAN, leaderboard
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.robocasa_action import LAYOUT, assemble
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.recipes.benchmarks.closed_loop import switch_threshold
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.robocasa import ACTION, ALIASES, INSTRUCTION, STATE, RobocasaEnv, named

BACK = {new: old for old, new in ALIASES.items()}


class StandIn:
    """RoboCasa's gym wrapper, without its assets: the hand goes where the action says, and above 0.3 m is success.

    Like the real one it never terminates, thresholds switches at 0.5 and draws top row first.
    """

    def __init__(self, name: str, log: list[tuple[str, Any]], *, modern: bool, **options: Any) -> None:
        self.log, self.modern = log, modern
        log.append(("make", (name, options)))

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.height, self.closed = 0.001 * np.random.default_rng(seed).random(), False
        return self._look(), {}

    def step(self, action: dict[str, np.ndarray]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert {key: value.shape for key, value in action.items()} == {f"action.{k}": (n,) for k, n in ACTION.items()}
        self.height += 0.05 * action["action.end_effector_position"][2]
        self.closed = bool(action["action.gripper_close"][0] > 0.5)
        return self._look(), 0.0, False, False, {"success": self.height > 0.3 and self.closed}

    def close(self) -> None:
        self.log.append(("close", None))

    def _look(self) -> dict[str, Any]:
        flat: dict[str, Any] = {f"state.{key}": np.zeros(width) for key, width in STATE.items()}
        flat["state.end_effector_position_relative"] = np.array([0, 0, self.height])
        picture = np.zeros((8, 8, 3), dtype=np.uint8)
        picture[0] = 255
        flat |= {key: picture for key in ALIASES.values() if key.startswith("video.")}
        flat[INSTRUCTION] = "lift it"
        return {BACK[key] if self.modern and key in BACK else key: value for key, value in flat.items()}


class Lifter:
    """Moves up with closed fingers: success only if position and gripper arrive under their own names."""

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Any], dict[str, Any]]:
        chunk = {key: np.zeros((8, width)) for key, width in ACTION.items()}
        chunk["end_effector_position"][:, 2] = 1.0
        chunk["gripper_close"][:] = 1.0
        return [chunk for _ in observations], {}

    def reset(self, seed: int) -> None:
        pass


def maker(log: list[tuple[str, Any]], *, modern: bool) -> Callable[..., StandIn]:
    return lambda name, **options: StandIn(name, log, modern=modern, **options)


@pytest.mark.parametrize(
    ("suite", "split", "made"),
    [
        ("robocasa365", "target", ("robocasa/OpenDrawer", {"split": "target"})),
        ("n1d6", "train", ("robocasa_panda_omron/OpenDrawer_PandaOmron_Env", {})),
    ],
)
def test_a_policy_succeeds_through_either_suite(suite: str, split: str, made: tuple[str, dict[str, str]]) -> None:
    log: list[tuple[str, Any]] = []
    env = RobocasaEnv(suite, maker(log, modern=suite == "robocasa365"))
    config = RolloutConfig(tasks=("OpenDrawer",), episodes=3, horizon=20, split=split, max_errors=0)
    result = rollout(Lifter(), env, config)
    assert [r.ending for r in result.rollouts] == ["success"] * 3
    assert {r.instruction for r in result.rollouts} == {"lift it"}
    assert log == [("make", made)], "one simulator serves all episodes of a task"
    picture = env.observe()["video.res256_image_side_0"]
    assert picture[0].min() == 255 > picture[-1].max(), "the wrapper's pictures are upright already: no flip"
    assert not any(key.startswith("video.") for key in env.observe(render=False))


def test_success_needs_every_name_in_its_place() -> None:
    class Swapped(RobocasaEnv):
        def step(self, action: np.ndarray) -> bool:
            return super().step(np.roll(action, 1))

    env = Swapped("robocasa365", maker([], modern=True))
    config = RolloutConfig(tasks=("OpenDrawer",), episodes=1, horizon=20, split="target")
    assert rollout(Lifter(), env, config).overall.successes == 0


def test_the_order_is_the_one_that_actions_are_assembled_in() -> None:
    assert list(ACTION.items()) == list(LAYOUT.items())
    values = {key: np.arange(width) + 10.0 * i for i, (key, width) in enumerate(ACTION.items())}
    back = named(assemble(values))
    for key in ("end_effector_position", "end_effector_rotation", "base_motion"):
        np.testing.assert_array_equal(back[f"action.{key}"], values[key])


def test_another_task_closes_the_simulator_of_the_last() -> None:
    log: list[tuple[str, Any]] = []
    env = RobocasaEnv("n1d6", maker(log, modern=False))
    env.reset("OpenDrawer", 0, "train")
    env.reset("CloseDrawer", 0, "train")
    env.close()
    assert [kind for kind, _ in log] == ["make", "close", "make", "close"]


def test_a_wrong_split_and_missing_keys_are_one_sentence() -> None:
    env = RobocasaEnv("robocasa365", maker([], modern=True))
    with pytest.raises(ConfigError, match="split = 'test', but need one of pretrain, target"):
        env.reset("OpenDrawer", 0, "test")
    broken = maker([], modern=True)

    def without_wrist(name: str, **options: Any) -> Any:
        made = broken(name, **options)
        look = made._look
        made._look = lambda: {k: v for k, v in look().items() if "hand" not in k}
        return made

    with pytest.raises(ConfigError, match="res256_image_wrist_0 too"):
        RobocasaEnv("robocasa365", without_wrist).reset("OpenDrawer", 0, "target")


def test_published_numbers_average_to_the_published_mean() -> None:
    assert len(N1D6_24) == 24
    assert round(sum(N1D6_24.values()) / 24, 1) == N1D6_24_MEAN


def test_the_leaderboard_object_weighs_tasks_equally_and_names_the_protocol() -> None:
    env = RobocasaEnv("n1d6", maker([], modern=False))
    config = RolloutConfig(
        tasks=("OpenDrawer", "CloseDrawer"), episodes=2, split="train", horizons={"OpenDrawer": 20, "CloseDrawer": 2}
    )
    found = leaderboard(rollout(Lifter(), env, config), benchmark="n1d6")
    assert found["mean_success_rate"] == 50.0
    assert found["tasks"]["OpenDrawer"]["success_rate"] == 100.0
    low, high = found["tasks"]["OpenDrawer"]["interval_95"]
    assert low < 40 < high == 100
    assert found["protocol"]["max_episode_steps"] == {"OpenDrawer": 20, "CloseDrawer": 2}
    assert found["published"] == {"OpenDrawer": 81.1, "CloseDrawer": 100.0}


def test_the_gripper_threshold_is_the_middle_of_what_was_trained_on(tmp_path: Path) -> None:
    base = shipped("tiny_base")
    assert switch_threshold(base) == 0.0
    shutil.copytree(base, tmp_path / "base")
    file = tmp_path / "base" / "statistics.json"
    text = json.loads(file.read_text())
    (tag,) = text
    text[tag]["action"]["gripper_close"] |= {"min": [0.0], "max": [1.0]}
    file.write_text(json.dumps(text))
    assert switch_threshold(tmp_path / "base") == 0.5


def test_without_robocasa_one_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("robocasa") is not None:
        pytest.skip("RoboCasa is installed here")
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "rollout", "--checkpoint", str(shipped("tiny_base")), "--benchmark", "n1d6"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: RoboCasa")
    assert "assets" in error
