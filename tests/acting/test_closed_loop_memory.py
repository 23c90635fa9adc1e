"""A rollout passes the environment's step, begins anew with every episode, and refuses a horizon that does not fit."""

from typing import Any

import numpy as np
import pytest
from evaluate_toys import KEYS
from remembering import OFFSETS, STRIDE, remembering, scene

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import EARLIER, STEP
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.policy import Policy


class Hand:
    """The policy's arm moves the hand of a robot that the rollout knows."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.asked = policy, list[tuple[int, int, int, dict]]()

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[dict], dict]:
        (chunk,), _ = self.policy.act(observations, seeds=seeds)
        self.asked.append((int(observations[0]["episode"]), observations[0][STEP], seeds[0], chunk))
        return [{key: np.zeros((6, width)) for key, width in KEYS.items()}], {}


class Film:
    """Shows the scenes of an episode, whatever is done."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self, *, seed: int, options: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        self.resets, self.step_now = self.resets + 1, 0
        return scene(self.resets, 0, episode=self.resets), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.step_now += 1
        return scene(self.resets, self.step_now, episode=self.resets), 0.0, False, False, {"success": False}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("executed", [4, pytest.param(2, marks=pytest.mark.whole)])
def test_a_rollout_remembers_what_training_would_have_seen(executed: int) -> None:
    hand = Hand(remembering())
    config = RolloutConfig(tasks=("any",), episodes=2, horizon=22, n_action_steps=executed)
    assert [r.error for r in rollout(hand, Film(), config).rollouts] == [None, None]
    assert len({episode for episode, *_ in hand.asked}) == 2
    moved = 0.0
    for episode, step, seed, chunk in hand.asked:
        past = tuple(scene(episode, step + o) if step + o >= 0 else None for o in OFFSETS)
        whole, empty = (
            hand.policy.act([scene(episode, step) | {EARLIER: seen}], seeds=[seed])[0][0]
            for seen in (past, (None,) * len(OFFSETS))
        )
        assert all(np.abs(chunk[key] - whole[key]).max() < 1e-5 for key in chunk), (episode, step)
        moved = max(moved, float(np.abs(chunk["arm"] - empty["arm"]).max()))
    assert moved > 1e-3, "memory matters here"


@pytest.mark.parametrize("executed", [3, 5, 6])
def test_an_execution_horizon_that_does_not_fit_is_refused_before_anything_runs(executed: int) -> None:
    env, config = Film(), RolloutConfig(tasks=("any",), episodes=1, n_action_steps=executed)
    with pytest.raises(ConfigError, match=f"rollout.n_action_steps = {executed}, but need a divisor .* {STRIDE} steps"):
        rollout(Hand(remembering()), env, config)
    assert env.resets == 0
