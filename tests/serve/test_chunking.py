"""Ensembling by its formula; and a robot that asks ahead waits for nothing but its first chunk."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.serve.chunking import AsyncChunks, Ensemble
from svms_gr00t.serve.client import PolicyClient, ServerError


def test_an_action_is_the_weighted_mean_of_the_chunks_that_reach_it() -> None:
    ensemble = Ensemble(decay=0.5)
    chunks = {0: np.arange(8.0)[:, None], 3: 10 + np.arange(8.0)[:, None], 5: 20 + np.arange(8.0)[:, None]}
    for start, rows in chunks.items():
        ensemble.add(start, {"x": rows, "gripper_close": np.sign(rows - 15)})
    weights = np.exp([0.0, -0.5, -1.0])
    expected = weights @ [6.0, 13.0, 21.0] / weights.sum()
    found = ensemble.at(6)
    assert found["x"][0] == pytest.approx(expected)
    assert found["gripper_close"][0] == 1.0, "the newest decides a switch"
    weights = weights[:2]
    assert ensemble.at(9)["x"][0] == pytest.approx(weights @ [16.0, 24.0] / weights.sum()), "the first has run out"
    with pytest.raises(ConfigError, match="horizon"):
        ensemble.at(13)


def test_one_chunk_is_followed_as_it_is() -> None:
    rows = np.random.default_rng(0).normal(size=(16, 3))
    ensemble = Ensemble()
    ensemble.add(0, {"x": rows})
    np.testing.assert_array_equal(np.stack([ensemble.at(t)["x"] for t in range(16)]), rows)


class Asked:
    """Answers step t with t, t + 1, ...; each request after the first waits until it is let go, or fails."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.go, self.fail = threading.Event(), False

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        self.steps.append(step)
        if len(self.steps) > 1:
            self.go.wait(10)
        if self.fail:
            raise ServerError("no answer")
        return {"x": step + np.arange(16.0)[:, None]}


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    yield made
    made.go.set()


def settle(robot: AsyncChunks) -> None:
    """Wait until the request under way has ended."""
    assert robot._pending is not None
    robot._pending[1].exception(5)


def test_the_robot_waits_for_the_first_chunk_alone(asked: Asked) -> None:
    robot = AsyncChunks(asked, every=4, ensemble=Ensemble(decay=0.0))
    began = time.monotonic()
    actions = [robot.act(step)["x"][0] for step in range(8)]
    assert time.monotonic() - began < 2.0, "the second chunk is still under way"
    assert actions == [float(t) for t in range(8)]
    asked.go.set()
    settle(robot)
    assert robot.act(8)["x"][0] == 8.0
    settle(robot)
    assert asked.steps == [0, 4, 8], "the late answer did not cost a turn"
    robot.close()


def test_a_failed_request_is_asked_again_while_the_older_chunk_lasts(asked: Asked) -> None:
    robot = AsyncChunks(asked, every=4)
    asked.go.set()
    robot.act(0)
    asked.fail = True
    for step in range(1, 16):
        assert robot.act(step)["x"][0] == pytest.approx(step)
        if robot._pending is not None:
            settle(robot)
    assert robot.failures > 3
    with pytest.raises(ServerError, match="no answer"):
        robot.act(16)
    asked.fail = False
    assert robot.act(17)["x"][0] == 17.0, "and it goes on when the server does"
    robot.close()


def test_a_new_episode_follows_nothing_of_the_last(asked: Asked) -> None:
    robot = AsyncChunks(lambda seen: {"x": seen + np.arange(16.0)[:, None]}, every=4)
    for step in range(6):
        robot.act(step)
    robot.reset()
    assert robot.act(100)["x"][0] == 100.0
    with pytest.raises(ConfigError, match="every"):
        AsyncChunks(asked, every=0)
    robot.close()


def test_a_robot_acts_every_step_through_the_server(start: Any, observation: dict[str, Any]) -> None:
    with PolicyClient(port=start().port) as client:
        robot = AsyncChunks(client.chunk, every=8)
        actions = [robot.act(observation) for _ in range(24)]
        robot.close()
    assert all(action["end_effector_position"].shape == (3,) for action in actions)
