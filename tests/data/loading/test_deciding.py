"""Steps where the past decides: changes of intent are found, noise is not, and batches hold their share of them."""

from collections import Counter

import numpy as np
import pytest
from toy_samples import build

from svms_gr00t.data.loading.deciding import DecidingSampler, deciding_steps
from svms_gr00t.data.loading.sampler import Draw
from svms_gr00t.data.loading.samples import At

RNG = np.random.default_rng(0)
LENGTH, TURN, STOP, START, GRIP = 100, 20, 40, 60, 80


@pytest.fixture
def actions() -> dict[str, np.ndarray]:
    """Along x until TURN, back until STOP, a rest, on from START; the hand closes at GRIP; the rotation trembles."""
    x = np.concatenate([np.full(20, 1.0), np.full(20, -1.0), np.zeros(20), np.full(40, 1.0)])
    velocity = np.stack([x, 0.2 * x, np.zeros(LENGTH)], axis=1) + RNG.normal(0, 0.06, (LENGTH, 3))
    grip = np.where(np.arange(LENGTH) < GRIP, -1.0, 1.0)[:, None]
    return {"position": velocity, "rotation": RNG.normal(0, 0.02, (LENGTH, 3)), "gripper": grip}


def runs(steps: np.ndarray) -> list[tuple[int, int]]:
    """First and last step of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], steps, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def test_changes_of_intent_are_found_and_nothing_else(actions):
    found = runs(deciding_steps(actions, ["gripper"], ahead=8))
    assert len(found) == 4
    for (first, last), change in zip(found, (TURN, STOP, START, GRIP), strict=True):
        assert change - 8 - 3 <= first <= change - 7
        assert change <= last <= change + 3


def test_an_absolute_command_is_read_by_its_change(actions):
    target = {"position": np.cumsum(actions["position"], axis=0)}
    found = runs(deciding_steps(target, ["position"], ahead=4))
    assert [min(abs(change - (a + b) / 2) for a, b in found) < 6 for change in (TURN, STOP, START)] == [True] * 3
    assert len(runs(deciding_steps(target, [], ahead=4))) != 3, "mutant: a target is not a motion"


def test_an_episode_without_intent_decides_nothing():
    still = {"position": RNG.normal(0, 0.06, (LENGTH, 3)), "gripper": np.zeros((LENGTH, 1))}
    assert not deciding_steps(still, ["gripper"], ahead=8).any()
    steady = {"position": np.ones((LENGTH, 3)) + RNG.normal(0, 0.01, (LENGTH, 3))}
    assert not deciding_steps(steady, [], ahead=8).any()


def test_batches_hold_the_share_and_each_instruction_alike():
    deciding = {"often": list(range(50)), "seldom": [99]}
    sampler = DecidingSampler(100, deciding, 32, 5, share=0.5)
    drawn = Counter(int(one) for _ in range(200) for one in next(sampler))
    total = 200 * 32
    assert abs(drawn[99] / total - 0.25 - 0.005) < 0.01
    assert abs(sum(drawn[k] for k in range(50)) / total - 0.5) < 0.02
    assert abs(drawn[70] / total - 0.005) < 0.002
    assert sum(DecidingSampler(10, {}, 4, share=0.5)._mixed.sizes) == 10, "nothing decides: all steps alike"


def test_a_resume_gives_the_very_next_batch():
    sampler = DecidingSampler(40, {"a": [1, 2]}, 8, 3, share=0.5)
    stream = [next(sampler) for _ in range(6)]
    again = DecidingSampler(40, {"a": [1, 2]}, 8, 3, share=0.5)
    again.batch = 4
    assert [next(again) for _ in range(2)] == stream[4:]
    assert all(isinstance(one, Draw) for one in stream[0])


def test_samples_know_their_deciding_steps(toy):
    steps = build(toy, deciding=0.5, memory=(-2,))[1]
    found = steps.deciding_samples()
    table = {
        at
        for episode in steps.episodes
        for at in (
            At(episode=episode, step=int(step))
            for step in np.flatnonzero(
                deciding_steps(
                    steps._table.rows(episode, np.arange(steps.length(episode)), "action"),
                    [key for key, columns in steps.dataset.modality.action.items() if columns.absolute],
                    ahead=2,
                )
            )
        )
    }
    assert {steps.places[number] for numbers in found.values() for number in numbers} == table
    assert all(steps.instruction(steps.places[number]) == text for text, numbers in found.items() for number in numbers)
    assert isinstance(steps.sampler(4, 0), DecidingSampler)
