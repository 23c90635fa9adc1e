"""Detectors foresee what was planted, a probe is tried on episodes that it has not seen, rollouts are looked at."""

import numpy as np
import pytest

from svms_gr00t.consistency.checked import Checked
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.protocols import ActionPolicy
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.open_loop.baselines import split_lowdim
from svms_gr00t.evaluate.open_loop.recorded import Recorded
from svms_gr00t.evaluate.streams.foresight import PROBE, Looking, foresee, probe_scores
from svms_gr00t.evaluate.streams.looks import Look
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped


def looks(rng: np.random.Generator, episodes, *, gap=1.0, feature=0.0, late=0.0, count=8) -> list[Look]:
    """`late` is added to the gap from the fifth look on."""
    return [
        Look(
            episode=e,
            step=8 * k,
            progress=0.0,
            instruction="open it",
            edges=np.zeros(0),
            routes=np.zeros(0),
            feature=np.r_[feature, np.zeros(3)] + rng.normal(size=4),
            norm=1.0 + 0.1 * rng.normal(),
            variance=0.1 * np.exp(rng.normal()),
            state=rng.normal(size=3),
            gap=gap + 0.3 * rng.normal() + (late if k >= 4 else 0),
        )
        for e in episodes
        for k in range(count)
    ]


def ends(count: int) -> dict[int, bool]:
    return {number: number >= count // 2 for number in range(count)}


def test_what_was_planted_is_foreseen_by_its_own_detector():
    rng = np.random.default_rng(0)
    clean = looks(rng, range(10))
    found = foresee(looks(rng, range(40)) + looks(rng, range(40, 80), gap=2.0), ends(80), clean)
    assert (found.episodes, found.failed) == (80, 40)
    assert found.detectors["consistency"].auroc > 0.99
    assert found.detectors["consistency"].behind is None
    assert found.detectors["mahalanobis"].behind.low > 0
    assert "rho" not in found.detectors, "a plain policy has none"
    features = foresee(looks(rng, range(10)) + looks(rng, range(10, 20), feature=2.0), ends(20), clean)
    assert features.detectors[PROBE].auroc > 0.9
    assert features.detectors["consistency"].auroc < 0.8


def test_only_the_first_looks_count():
    rng = np.random.default_rng(1)
    clean = looks(rng, range(10))
    rollouts = looks(rng, range(10)) + looks(rng, range(10, 20), late=5.0)
    assert foresee(rollouts, ends(20), clean, first=4).detectors["consistency"].auroc < 0.8
    assert foresee(rollouts, ends(20), clean, first=8).detectors["consistency"].auroc > 0.99


def test_a_probe_on_noise_foresees_nothing():
    """Mutant: scored on its own episodes it would seem to know."""
    rng, failed = np.random.default_rng(2), np.repeat([False, True], 15)
    features = [rng.normal(size=(6, 40)) + rng.normal(size=40) for _ in failed]
    scores = probe_scores(features, failed)
    assert abs(np.mean([a < b for a in scores[:15] for b in scores[15:]]) - 0.5) < 0.25
    assert probe_scores(features, np.r_[np.zeros(28, bool), np.ones(2, bool)]) is None


def test_one_ending_is_refused():
    rng = np.random.default_rng(3)
    with pytest.raises(DataError, match="0 failures of 4"):
        foresee(looks(rng, range(4)), dict.fromkeys(range(4), False), looks(rng, range(6)))


def test_a_driven_policy_is_looked_at_and_acts_alike(small_kitchen):
    dataset, policy = LeRobotDataset.open(small_kitchen), Policy.from_pretrained(shipped("tiny_base"))
    states, _ = split_lowdim(dataset.lowdim(2))
    observations = Recorded(dataset, 2, states, list(dataset.instructions(2))).at([0, 8])
    looking = Looking(policy, draws=2)
    assert isinstance(looking, ActionPolicy)
    plain = [policy.act([one], seeds=[5])[0][0] for one in observations]
    for number in range(2):
        looking.reset(number)
        for one, chunk in zip(observations, plain, strict=True):
            (found,), _ = looking.act([one], seeds=[5])
            for key in chunk:
                np.testing.assert_array_equal(found[key], chunk[key])
    assert [(n.episode, n.step) for n in looking.looks] == [(0, 0), (0, 8), (1, 0), (1, 8)]
    assert not isinstance(looking._acting, Checked)
    np.testing.assert_allclose(looking.looks[1].feature, looking.looks[3].feature)
