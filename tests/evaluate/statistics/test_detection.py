"""Paired differences of AUROCs cover what new episodes would say, and pairing is what makes them narrow."""

import numpy as np
import pytest

from svms_gr00t.evaluate.statistics.detection import separation, separation_interval, separation_lead


def scored(rng: np.random.Generator, episodes: int, effect: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Calm and loud scores of two detectors, (2, detector, episodes, 5): one signal, the second with more noise."""
    level, size = rng.normal(0, 1, episodes), effect + rng.normal(0, 0.5, episodes)
    base = rng.normal(size=(2, episodes, 5)) + level[:, None]
    base[1] += size[:, None]
    other = base + noise * rng.normal(size=base.shape)
    return np.stack([base[0], other[0]]), np.stack([base[1], other[1]])


def sides(calm: np.ndarray, loud: np.ndarray, detector: int) -> tuple[np.ndarray, np.ndarray]:
    return calm[detector].ravel(), loud[detector].ravel()


@pytest.mark.whole
def test_the_lead_of_one_detector_over_another_is_covered():
    calm, loud = scored(np.random.default_rng(0), 1000, 1.5, 1.5)
    truth = separation(*sides(calm, loud, 0)) - separation(*sides(calm, loud, 1))
    assert truth > 0.05
    groups, inside, wider = np.repeat(np.arange(12), 5), [], []
    for trial in range(80):
        calm, loud = scored(np.random.default_rng(1 + trial), 12, 1.5, 1.5)
        ours, other = sides(calm, loud, 0), sides(calm, loud, 1)
        found = separation_lead(ours, other, (groups, groups))
        inside.append(found.low <= truth <= found.high)
        one, two = (separation_interval(*side, (groups, groups)) for side in (ours, other))
        wider.append((one.high - one.low) + (two.high - two.low) > found.high - found.low)
    assert np.mean(inside) >= 0.88
    assert np.mean(wider) > 0.9


def test_the_same_detector_leads_by_nothing():
    calm, loud = scored(np.random.default_rng(2), 6, 1.0, 0.0)
    groups = np.repeat(np.arange(6), 5)
    found = separation_lead(sides(calm, loud, 0), sides(calm, loud, 1), (groups, groups))
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_two_episodes_without_a_mistake_prove_little():
    """Ours tells everything apart, the other nothing: +0.5, but not for certain, and never beyond 1."""
    groups, ours, other = np.repeat([0, 1], 3), (np.zeros(6), np.ones(6)), (np.zeros(6), np.zeros(6))
    found = separation_lead(ours, other, (groups, groups))
    assert (found.estimate, found.high) == (0.5, 1.0)
    assert found.low < 0
    many = np.arange(60)
    sure = separation_lead((np.zeros(60), np.ones(60)), (np.zeros(60), np.zeros(60)), (many, many))
    assert 0.4 < sure.low < 0.5


def test_episodes_may_stand_on_one_side_alone():
    """Failures and successes are different episodes; one that decides alone allows no interval."""
    calm, loud = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.5, 2.5, 4.0])
    found = separation_interval(calm, loud, (np.arange(4), np.arange(4, 7)))
    assert found.estimate == pytest.approx(separation(calm, loud))
    assert found.low < found.estimate < found.high
    assert separation_interval(calm, loud[:1], (np.arange(4), np.array([9]))) is None
