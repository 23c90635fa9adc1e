"""Ensembling by its formula; and a robot that asks ahead never waits but for the first chunk."""

import threading
import time

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.serve.chunking import AsyncChunks, Ensemble


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


def test_the_robot_waits_for_the_first_chunk_alone() -> None:
    asked: list[int] = []
    release = threading.Event()

    def ask(step: int) -> dict[str, np.ndarray]:
        asked.append(step)
        if step:
            release.wait(5)
        return {"x": step + np.arange(16.0)[:, None]}

    robot = AsyncChunks(ask, every=4, ensemble=Ensemble(decay=0.0))
    began = time.monotonic()
    actions = [robot.act(step)["x"][0] for step in range(8)]
    assert time.monotonic() - began < 2.0, "the second chunk is still under way"
    assert actions == [float(t) for t in range(8)]
    release.set()
    time.sleep(0.1)
    assert robot.act(8)["x"][0] == 8.0
    robot.close()
    assert asked[:2] == [0, 4]
