"""The RoboCasa adapter against a stand-in with RoboCasa's own spaces: names, order, splits, success, flips."""

import importlib
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.closed_loop.leaderboard import N1D6_24, N1D6_24_MEAN, leaderboard
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.robocasa_action import LAYOUT, assemble
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.recipes.benchmarks.closed_loop import switch_threshold
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.robocasa import ACTION, ALIASES, INSTRUCTION, STATE, RobocasaEnv, named, seed_generators

BACK = {new: old for old, new in ALIASES.items()}


class Simulator:
    """As robosuite's: it draws scenes from a generator of its own, made in the constructor; `samplers` hold it too."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng()
        self.samplers = [self.rng]

    def draw(self) -> tuple[float, ...]:
        return float(self.rng.random()), float(self.samplers[0].random())


class StandIn:
    """RoboCasa's gym wrapper, without its assets: the hand goes where the action says, and above 0.3 m is success.

    Like the real ones it never terminates, thresholds switches at 0.5 and draws top row first; that of N1.6's fork
    seeds numpy's global generator in `reset`, which fixes nothing.
    """

    def __init__(self, name: str, log: list[tuple[str, Any]], *, modern: bool, **options: Any) -> None:
        self.log, self.modern, self.env = log, modern, None if modern else Simulator()
        log.append(("make", (name, options)))

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        np.random.seed(seed)
        self.scene = np.random.default_rng(seed).random(2) if self.env is None else self.env.draw()
        self.height, self.closed = 0.001 * self.scene[0], False
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
        picture[0], picture[-1, :2, 0] = 255, np.rint(200 * np.asarray(self.scene))
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


def begin(env: RobocasaEnv, seed: int = 0, task: str = "OpenDrawer", **options: str) -> dict[str, Any]:
    return env.reset(seed=seed, options={"task": task, **options})[0]


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
    picture = begin(env)["video.res256_image_side_0"]
    assert picture[0].min() == 255 > picture[-1].max(), "the wrapper's pictures are upright already: no flip"
    still = env.step(np.zeros(12))
    assert still[0].keys() == env.observation_space.spaces.keys()
    assert still[1:] == (0.0, False, False, {"success": False})


@pytest.mark.parametrize("suite", ["n1d6", "robocasa365"])
def test_gymnasiums_own_checker_passes_once_the_simulator_has_said_what_it_draws(suite: str) -> None:
    env = RobocasaEnv(suite, maker([], modern=suite == "robocasa365"))
    assert env.observation_space["video.res256_image_side_0"].shape == (256, 256, 3)
    env.reset(seed=0)
    assert env.observation_space["video.res256_image_side_0"].shape == (8, 8, 3)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*(is not|out of bounds|expected|type).*")
        check_env(env, skip_render_check=True)


def test_equal_seeds_are_equal_scenes_although_the_fork_makes_its_own_generator() -> None:
    def scenes(env: Any, *seeds: int) -> list[list[int]]:
        resets = [env.reset(seed=seed) for seed in seeds]
        return [seen["video.res256_image_side_0"][-1, :2, 0].tolist() for seen, _ in resets]

    bare = [maker([], modern=False)("x") for _ in range(2)]
    assert scenes(bare[0], 3, 3) != scenes(bare[1], 3, 3), "the flaw itself"
    first, second = (RobocasaEnv("n1d6", maker([], modern=False)) for _ in range(2))
    a, b, again = scenes(first, 3, 4, 3)
    assert a == again != b
    assert scenes(second, 4, 9, 3) == [b, scenes(first, 9)[0], a], "whatever ran before, in another simulator too"
    wrapped = SimpleNamespace(unwrapped=SimpleNamespace(env=SimpleNamespace(env=Simulator())))
    assert seed_generators(wrapped, 3) == 1, "however deep it lies"


def test_a_fork_whose_scenes_no_seed_fixes_is_refused() -> None:
    with pytest.raises(ConfigError, match="no generator rng"):
        RobocasaEnv("n1d6", maker([], modern=True)).reset(seed=0)


def test_what_cannot_be_built_is_one_sentence_and_no_episode() -> None:
    def fail(name: str, **_: Any) -> Any:
        raise FileNotFoundError("kitchen_assets/fixtures.xml\nand more lines")

    config = RolloutConfig(tasks=("OpenDrawer",), episodes=1, horizon=20, split="train")
    said = r"^robocasa_panda_omron/OpenDrawer_PandaOmron_Env = 'FileNotFoundError: kitchen_assets/fixtures\.xml', but"
    with pytest.raises(ConfigError, match=said):
        rollout(Lifter(), RobocasaEnv("n1d6", fail), config)


FORK = """
import gymnasium
from gymnasium.envs.registration import register
from test_robocasa import StandIn

class OpenDrawer(StandIn, gymnasium.Env):
    def __init__(self, **options):
        super().__init__("OpenDrawer", [], modern=False)

register(id="robocasa_panda_omron/OpenDrawer_PandaOmron_Env", entry_point=OpenDrawer, disable_env_checker=True,
         order_enforce=False)
"""


@pytest.fixture
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """N1.6's fork as a package: importing `robocasa` registers nothing, `robocasa.utils.gym_utils` does."""
    gymnasium.registry.pop("robocasa_panda_omron/OpenDrawer_PandaOmron_Env", None)
    folder = tmp_path / "path" / "robocasa" / "utils" / "gym_utils"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent, folder.parents[1]):
        (place / "__init__.py").touch()
    (folder / "gymnasium_groot.py").write_text(FORK)
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    for name in [name for name in sys.modules if name.partition(".")[0] == "robocasa"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "robocasa"]:
        sys.modules.pop(name)
    gymnasium.registry.pop("robocasa_panda_omron/OpenDrawer_PandaOmron_Env", None)


@pytest.mark.usefixtures("fork")
def test_the_forks_ids_are_found_where_it_registers_them() -> None:
    importlib.import_module("robocasa")
    with pytest.raises(gymnasium.error.Error):
        gymnasium.make("robocasa_panda_omron/OpenDrawer_PandaOmron_Env")
    env = RobocasaEnv("n1d6")
    config = RolloutConfig(tasks=("OpenDrawer",), episodes=2, horizon=20, split="train", max_errors=0)
    assert [r.ending for r in rollout(Lifter(), env, config).rollouts] == ["success"] * 2
    with pytest.raises(ConfigError, match=r"robocasa_panda_omron/WashDishes_PandaOmron_Env = .NameNotFound: "):
        begin(env, task="WashDishes")
    with pytest.raises(ConfigError, match=r"robocasa/OpenDrawer = .NamespaceNotFound: "):
        RobocasaEnv("robocasa365").reset(seed=0)


@pytest.mark.usefixtures("fork")
def test_the_command_writes_no_rate_for_what_cannot_be_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = tmp_path / "board.json"
    words = ["evaluate", "rollout", "--checkpoint", str(shipped("tiny_base")), "--benchmark", "n1d6", "--workers", "1"]
    words += ["--episodes", "1", "--leaderboard", str(board), "--horizon", "2"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--tasks", "CloseDrawer"])
    assert stopped.value.code == 2
    assert "CloseDrawer_PandaOmron_Env" in capsys.readouterr().err
    assert not board.exists()
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--tasks", "OpenDrawer"])
    assert stopped.value.code == 0
    assert json.loads(board.read_text())["tasks"]["OpenDrawer"]["episodes"] == 1


def test_success_needs_every_name_in_its_place() -> None:
    class Swapped(RobocasaEnv):
        def step(self, action: np.ndarray) -> Any:
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
    begin(env)
    begin(env, task="CloseDrawer")
    assert env.reset(seed=1)[1]["task"] == "CloseDrawer", "the last task stays"
    env.close()
    assert [kind for kind, _ in log] == ["make", "close", "make", "close"]


def test_a_wrong_split_and_missing_keys_are_one_sentence() -> None:
    env = RobocasaEnv("robocasa365", maker([], modern=True))
    with pytest.raises(ConfigError, match="split = 'test', but need one of pretrain, target"):
        begin(env, split="test")
    broken = maker([], modern=True)

    def without_wrist(name: str, **options: Any) -> Any:
        made = broken(name, **options)
        look = made._look
        made._look = lambda: {k: v for k, v in look().items() if "hand" not in k}
        return made

    with pytest.raises(ConfigError, match="res256_image_wrist_0 too"):
        begin(RobocasaEnv("robocasa365", without_wrist))


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
