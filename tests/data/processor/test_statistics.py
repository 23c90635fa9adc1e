import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_oracle import check

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.summary import RunningSummary
from svms_gr00t.data.processor.statistics import compute_statistics


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_streaming_equals_numpy_on_everything_at_once(lengths, seed):
    rng = np.random.default_rng(seed)
    scale = np.array([1e-3, 1.0, 1e3])
    episodes = [(scale * rng.normal(5, 1, (n, 3))).astype(np.float32) for n in lengths]
    running = RunningSummary()
    for rows in episodes:
        running.update(rows)
    check(running.result(), np.concatenate(episodes))


def test_a_mean_of_episode_means_would_be_wrong():
    short, long = np.zeros((1, 1), np.float32), np.ones((9, 1), np.float32)
    running = RunningSummary()
    running.update(short)
    running.update(long)
    assert running.result()["mean"] == pytest.approx([0.9])
    assert running.result()["mean"] != pytest.approx([0.5])


def test_a_large_offset_does_not_swallow_the_variance():
    rows = (1e6 + np.arange(1000) % 2).astype(np.float32)[:, None]
    running = RunningSummary()
    for part in np.split(rows, 10):
        running.update(part)
    assert running.result()["std"] == pytest.approx([0.5], rel=1e-9)
    naive = np.mean(rows**2) - np.mean(rows) ** 2  # mutant: E[x^2] - E[x]^2 in float32
    assert abs(naive - 0.25) > 0.1


def test_every_key_of_a_real_dataset(shared):
    dataset = LeRobotDataset.open(shared / "robot_sim.PickNPlace")
    statistics = compute_statistics(dataset)
    assert list(statistics["state"]) == list(dataset.modality.state)
    for kind in ("state", "action"):
        for key in ("left_arm", "right_hand"):
            rows = np.concatenate([dataset.lowdim(e.index)[f"{kind}.{key}"] for e in dataset.episodes])
            check(statistics[kind][key], rows)


def test_chosen_episodes_only(toy):
    dataset = LeRobotDataset.open(toy)
    some = compute_statistics(dataset, [0, 2])
    check(some["action"]["arm"], np.concatenate([dataset.lowdim(i)["action.arm"] for i in (0, 2)]))
    assert some != compute_statistics(dataset)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_has_no_statistics_is_refused(bad):
    running = RunningSummary()
    with pytest.raises(DataError, match="NaN or infinity"):
        running.update(np.array([[1.0, bad]]))
    with pytest.raises(DataError, match="no rows"):
        running.result()
    running.update(np.zeros((2, 3)))
    with pytest.raises(DataError, match="rows of 4 numbers"):
        running.update(np.zeros((2, 4)))
