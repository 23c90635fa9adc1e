"""Closed loop: the world decides success, seeds decide everything else, and breakage stays in its episode."""

import io
import pickle

import numpy as np
import pytest
from evaluate_toys import LineEnv, Listener
from PIL import Image

from svms_gr00t.core.errors import ConfigError, DataError, MissingExtra, SvmsError, TrainingError
from svms_gr00t.core.protocols import ActionPolicy, Environment, Factory
from svms_gr00t.evaluate.closed_loop.episode import StuckDetector, episode_seed
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.robocasa_action import assemble
from svms_gr00t.evaluate.closed_loop.rollout import rollout

CONFIG = RolloutConfig(tasks=("right", "left"), episodes=4, horizon=24, stuck_steps=8)


def test_the_toys_satisfy_the_protocols():
    assert isinstance(Listener(), ActionPolicy)
    assert isinstance(LineEnv(), Environment)


def test_a_policy_that_listens_succeeds_and_one_that_does_not_move_is_stuck():
    good = rollout(Listener(), LineEnv(), CONFIG)
    assert good.overall.successes == 8
    assert good.overall.rate.high == pytest.approx(1.0)
    assert good.overall.rate.low < 0.7, "eight of eight is not certainty"
    assert good.tasks["left"].mean_steps < 9
    still = rollout(Listener(skill=0.0), LineEnv(), CONFIG)
    assert still.overall.successes == 0
    assert [r.ending for r in still.rollouts] == ["horizon"] * 8
    assert {r.stuck_at for r in still.rollouts} == {8}
    assert {r.steps for r in still.rollouts} == {24}


def test_same_seeds_same_results_and_other_seeds_others():
    policy = Listener(skill=0.5)
    first, again = (rollout(policy, LineEnv(), CONFIG) for _ in range(2))
    assert first == again
    other = rollout(policy, LineEnv(), RolloutConfig(tasks=CONFIG.tasks, episodes=4, horizon=24, stuck_steps=8, seed=1))
    assert {r.seed for r in first.rollouts}.isdisjoint(r.seed for r in other.rollouts)


def test_an_episode_does_not_depend_on_the_others():
    """Task order and the number of episodes change nothing in the episodes that are shared."""
    config = RolloutConfig(tasks=("left", "right"), episodes=2, horizon=24, stuck_steps=8)
    policy = Listener(skill=0.5)
    small = {(r.task, r.index): r for r in rollout(policy, LineEnv(), config).rollouts}
    large = {(r.task, r.index): r for r in rollout(policy, LineEnv(), CONFIG).rollouts}
    assert all(large[job] == found for job, found in small.items())


@pytest.mark.whole
def test_results_do_not_depend_on_the_number_of_workers():
    policy, env = (Factory(path=f"evaluate_toys:{name}") for name in ("Listener", "LineEnv"))
    policy = Factory(path=policy.path, kwargs={"skill": 0.5})
    assert rollout(policy, env, CONFIG, workers=2) == rollout(policy, env, CONFIG)
    with pytest.raises(ConfigError, match="Factory"):
        rollout(Listener(), LineEnv(), CONFIG, workers=2)
    with pytest.raises(ConfigError, match="module:callable"):
        rollout(Factory(path="evaluate_toys:Nobody"), env, CONFIG, workers=2)


def test_a_broken_episode_is_reported_and_the_rest_goes_on():
    config = RolloutConfig(tasks=("right",), episodes=6, horizon=24, max_errors=6)
    result = rollout(Listener(), Factory(path="evaluate_toys:LineEnv", kwargs={"fragile": True}), config)
    expected = [episode_seed(config, "right", i) % 3 == 0 for i in range(6)]
    assert [r.ending == "error" for r in result.rollouts] == expected
    assert any(expected)
    assert not all(expected)
    assert result.overall.broken == sum(expected)
    assert "could not be built" in next(r.error for r in result.rollouts if r.error)
    with pytest.raises(SvmsError, match="broken episodes"):
        rollout(Listener(), LineEnv(fragile=True), RolloutConfig(tasks=("right",), episodes=9, max_errors=0))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_built_is_no_episode(workers: int):
    """Not even a broken one: 0 of 1 would stand beside a published rate."""
    config = RolloutConfig(tasks=("right",), episodes=1, horizon=24)
    policy, env = (Factory(path=f"evaluate_toys:{name}") for name in ("Listener", "LineEnv"))
    broken_env = Factory(path=env.path, kwargs={"unbuildable": True})
    with pytest.raises(SvmsError, match=r"the environment cannot be built \(RuntimeError: no assets\)"):
        rollout(policy, broken_env, config, workers=workers)
    with pytest.raises(SvmsError, match="the policy cannot be built"):
        rollout(Factory(path=policy.path, kwargs={"unknown": 1}), env, config, workers=workers)


def test_a_result_needs_one_driven_episode():
    def attempt(episodes: int) -> RolloutResult:
        config = RolloutConfig(tasks=("right",), episodes=episodes, horizon=24, seed=2)
        assert [episode_seed(config, "right", i) % 3 == 0 for i in range(2)] == [True, False]
        return rollout(Listener(), LineEnv(fragile=True), config)

    with pytest.raises(SvmsError, match="not one episode could be driven, the last right: RuntimeError: the scene"):
        attempt(1)
    assert attempt(2).overall.broken == 1


def test_pictures_are_drawn_where_somebody_looks_and_always_for_a_film():
    config = RolloutConfig(tasks=("right",), episodes=1, horizon=24)
    env = LineEnv()
    rollout(Listener(skill=0.0), env, config)
    assert env.drawn == 1 + 3, "the first, and one before each of the later replans (and one after the last step)"
    assert env.drawing, "as it was found"
    filmed = LineEnv()
    rollout(Listener(skill=0.0), filmed, RolloutConfig(tasks=("right",), episodes=1, horizon=24, videos=1))
    assert filmed.drawn == 25


def test_an_environment_that_does_not_say_success_is_refused():
    class Mute(LineEnv):
        def step(self, action):
            return (*super().step(action)[:4], {"is_success": True})

    with pytest.raises(ConfigError, match=r"environment info = \['is_success'\], but need success"):
        rollout(Listener(), Mute(), CONFIG)


@pytest.mark.parametrize(("terminated", "ending"), [(False, "horizon"), (True, "failed")])
def test_an_environment_may_end_an_episode_without_success(terminated: bool, ending: str):
    class Short(LineEnv):
        def step(self, action):
            seen, reward, *_, info = super().step(action)
            return seen, reward, terminated, not terminated, info

    assert {(r.ending, r.steps) for r in rollout(Listener(), Short(), CONFIG).rollouts} == {(ending, 1)}


@pytest.mark.whole
def test_a_worker_that_dies_takes_no_other_episode_along():
    config = RolloutConfig(tasks=("right",), episodes=5, horizon=24, max_errors=8)
    deadly = [i for i in range(5) if episode_seed(config, "right", i) % 5 == 0]
    assert len(deadly) == 2
    env = Factory(path="evaluate_toys:LineEnv", kwargs={"deadly": True})
    result = rollout(Factory(path="evaluate_toys:Listener"), env, config, workers=2)
    assert [r.index for r in result.rollouts] == list(range(5)), "every episode is reported, in order"
    assert [r.index for r in result.rollouts if r.ending == "error"] == deadly
    assert result.overall.successes == 3


def test_pairing_sees_what_separate_intervals_cannot():
    good, bad = (rollout(Listener(skill=s), LineEnv(), CONFIG, name=str(s)) for s in (1.0, 0.0))
    found = good.against(bad)
    assert found.overall.difference.estimate == 1.0
    assert found.overall.test.only_candidate == 8
    assert found.overall.test.p == pytest.approx(2 / 2**8)
    assert found.tasks["left"].episodes == 4
    assert good.against(good).overall.test.p == 1.0
    with pytest.raises(ConfigError, match="different rules"):
        good.against(rollout(Listener(), LineEnv(), RolloutConfig(tasks=("right", "left"), episodes=4, horizon=25)))


def test_streams_are_recorded_at_every_replan_without_padding():
    result = rollout(Listener(skill=0.0), LineEnv(), CONFIG)
    replans = result.rollouts[0].replans
    assert [r.step for r in replans] == [0, 8, 16]
    assert all(sum(r.routes) == pytest.approx(1) for r in replans), "padding would pull the sum below 1"
    assert all(0 < mean <= top <= 1 for r in replans for mean, top in zip(r.rho, r.rho_max, strict=True))
    assert rollout(Listener(evidence=False), LineEnv(), CONFIG).rollouts[0].replans == ()


def test_videos_are_small_gifs_and_survive_json():
    config = RolloutConfig(tasks=("right",), episodes=2, horizon=24, videos=1, video_stride=2)
    result = rollout(Listener(skill=0.0), LineEnv(), config)
    assert result.rollouts[1].video is None
    film = Image.open(io.BytesIO(result.rollouts[0].video))
    assert film.n_frames >= 1
    assert film.size == (32, 32)
    back = RolloutResult.from_json(result.to_json())
    assert back == result
    assert back.rollouts[0].video == result.rollouts[0].video
    with pytest.raises(ConfigError, match=r"video\.side"):
        rollout(Listener(), LineEnv(), RolloutConfig(tasks=("right",), videos=1, video_view="wrist"))


def test_actions_are_assembled_in_the_environments_order():
    action = {
        "control_mode": np.array([-0.2]),
        "base_motion": np.array([7.0, 8.0, 9.0, 10.0]),
        "gripper_close": np.array([0.3]),
        "end_effector_rotation": np.array([4.0, 5.0, 6.0]),
        "end_effector_position": np.array([1.0, 2.0, 3.0]),
    }
    assert assemble(action).tolist() == [1, 2, 3, 4, 5, 6, 1, 7, 8, 9, 10, -1]
    assert assemble(action, threshold=0.5)[6] == -1
    arm = {key: value for key, value in action.items() if key not in ("base_motion", "control_mode")}
    assert assemble(arm)[7:].tolist() == [0, 0, 0, 0, -1]
    with pytest.raises(ConfigError, match="gripper_close"):
        assemble({key: value for key, value in arm.items() if key != "gripper_close"})
    with pytest.raises(ConfigError, match="finite"):
        assemble({**arm, "end_effector_position": np.array([1.0, np.nan, 0.0])})
    with pytest.raises(ConfigError, match="left_arm"):
        assemble({**arm, "left_arm": np.zeros(3)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_chunk_that_is_not_finite_is_one_sentence_even_where_it_is_not_executed(value: float):
    class Spoiled(Listener):
        def act(self, observations, *, seeds):
            chunks, info = super().act(observations, seeds=seeds)
            chunks[0]["end_effector_position"][-1, 2] = value  # n_action_steps is 8 of 16
            return chunks, info

    message = r"actions of right 0 at step 0: found NaN or infinity in end_effector_position, but need finite"
    with pytest.raises(DataError, match=message):
        rollout(Spoiled(), LineEnv(), CONFIG)


def test_stuck_means_hardly_moving_for_long_enough():
    slow, still = StuckDetector(steps=5, distance=0.01), StuckDetector(steps=5, distance=0.01)
    assert not any(slow.see([0.004 * t, 0, 0], t) for t in range(50)), "slow but steady is not stuck"
    assert [still.see([0.001 * (t % 2), 0, 0], t) for t in range(7)] == [False] * 5 + [True] * 2
    assert still.stuck_at == 5
    assert not StuckDetector(steps=1, distance=1.0).see(None, 9)


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="task names"):
        RolloutConfig(tasks=())
    with pytest.raises(ConfigError, match="horizons"):
        RolloutConfig(tasks=("right",), horizons={"lift": 9})


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a.b", got=1, want="2", hint="3"),
        DataError("file", got="x", want="y", hint="z"),
        MissingExtra("the sim", package="robosuite", extra="sim"),
        TrainingError("phase 1", got="NaN", want="numbers", hint="lower lr"),
    ],
)
def test_errors_come_back_whole_from_another_process(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
