"""A failing sensor changes what is seen, at the right time and nothing else; the world goes on as it was."""

import numpy as np
import pytest
from evaluate_toys import LineEnv, Listener

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import Environment
from svms_gr00t.evaluate.closed_loop.faults import Faulty
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.rollout import rollout

X, SIDE = "state.end_effector_position_relative", "video.side"
GO = np.array([1.0] + [0.0] * 5 + [1.0] + [0.0] * 4 + [1.0])


def seen(fault: str, steps: int = 5, *, seed: int = 3) -> tuple[list[dict], list[dict]]:
    """(spoiled, as it is) of one episode."""
    true, env = LineEnv(), Faulty(LineEnv(), fault)
    told = {"seed": seed, "options": {"task": "right"}}
    spoiled, real = [env.reset(**told)[0]], [true.reset(**told)[0]]
    for _ in range(steps):
        spoiled.append(env.step(GO)[0])
        real.append(true.step(GO)[0])
    return spoiled, real


def same(one: dict, other: dict, key: str) -> bool:
    return bool(np.array_equal(one[key], other[key]))


def test_a_stale_state_is_that_of_so_many_steps_before_and_pictures_are_of_now() -> None:
    spoiled, real = seen("state 2 steps stale")
    assert [same(s, real[max(i - 2, 0)], X) for i, s in enumerate(spoiled)] == [True] * 6
    assert not any(same(s, r, X) for s, r in list(zip(spoiled, real, strict=True))[1:])
    assert all(same(s, r, SIDE) for s, r in zip(spoiled, real, strict=True))


@pytest.mark.parametrize("what", ["cameras", "side"])
def test_a_black_or_stale_camera_leaves_the_state(what: str) -> None:
    spoiled, real = seen(f"{what} black")
    assert not any(s[SIDE].any() for s in spoiled)
    assert all(same(s, r, X) for s, r in zip(spoiled, real, strict=True))
    spoiled, real = seen(f"{what} 1 step stale")
    assert [same(s, real[max(i - 1, 0)], SIDE) for i, s in enumerate(spoiled)] == [True] * 6


def test_nothing_of_the_last_episode_is_shown_in_the_next() -> None:
    env = Faulty(LineEnv(), "state 4 steps stale")
    env.reset(seed=1, options={"task": "right"})
    env.step(GO)
    first, _ = env.reset(seed=2, options={"task": "right"})
    assert first[X][0] == LineEnv().reset(seed=2, options={"task": "right"})[0][X][0]


def test_old_pictures_are_drawn_though_nobody_looks_now() -> None:
    for fault, drawn in (("cameras 3 steps stale", True), ("state 3 steps stale", False), ("cameras black", False)):
        env = Faulty(LineEnv(), fault)
        env.drawing = False
        assert env.drawing is drawn, fault


class Looker(Listener):
    """Moves as long as it sees something."""

    def act(self, observations: list[dict], *, seeds: list[int]) -> tuple[list[dict], dict]:
        chunks, evidence = super().act(observations, seeds=seeds)
        dark = [not one[SIDE].any() for one in observations]
        return [{k: v * (1 - d) for k, v in one.items()} for one, d in zip(chunks, dark, strict=True)], evidence


def test_the_policy_fails_by_what_it_sees_and_the_world_judges_as_before() -> None:
    config = {"tasks": ("right", "left"), "episodes": 3, "horizon": 24, "stuck_steps": 8}
    rules = [RolloutConfig(**config, fault=fault) for fault in ("", "side black")]
    fine, blind = (rollout(Looker(), LineEnv(), rule) for rule in rules)
    assert (fine.overall.successes, blind.overall.successes) == (6, 0)
    assert [r.seed for r in fine.rollouts] == [r.seed for r in blind.rollouts], "the same scenes"
    deaf = [rollout(Listener(), LineEnv(), rule) for rule in rules]
    assert deaf[0].rollouts == deaf[1].rollouts, "who does not look loses nothing"
    assert RolloutConfig.from_json(rules[1].to_json()) == rules[1] != rules[0]


def test_unknown_faults_are_refused_before_anything_runs() -> None:
    assert isinstance(Faulty(LineEnv(), "side black"), Environment)
    for fault in ("state black", "side", "side 0 steps stale", "black side", "cameras -1 steps stale"):
        with pytest.raises(ConfigError, match=r'rollout\.fault.*For example "state 20 steps stale"'):
            RolloutConfig(tasks=("right",), fault=fault)
    with pytest.raises(ConfigError, match=r"wrist.*one of side"):
        Faulty(LineEnv(), "wrist black").reset(seed=0, options={"task": "right"})
