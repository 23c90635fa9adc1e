"""Every interval and test keeps its promise in 1,000 simulated experiments: 93 to 97 % covered, few false alarms."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.statistics import stats
from svms_gr00t.evaluate.statistics.seeds import compare_seeds
from svms_gr00t.evaluate.statistics.stats import (
    compare_paired,
    episodes_for_width,
    expanded,
    mcnemar,
    paired_difference,
    relative_effect,
    sign_flip,
    wilson,
)

TRIALS = 1000


@pytest.fixture
def few_resamples(monkeypatch):
    """1,000 instead of 5,000 resamples: the promise is the method's, and 1,000 experiments should not take a minute."""
    scipy_bootstrap = scipy_stats.bootstrap
    monkeypatch.setattr(
        stats.stats, "bootstrap", lambda *a, **k: scipy_bootstrap(*a, **(k | {"n_resamples": 500})), raising=True
    )


def covered(truth: float, experiment) -> float:
    found = [experiment(np.random.default_rng(trial)) for trial in range(TRIALS)]
    return float(np.mean([f.low <= truth <= f.high for f in found]))


@pytest.mark.parametrize("episodes", [8, 30])
def test_a_paired_interval_covers_the_true_difference(few_resamples, episodes):
    """Episodes differ much in difficulty; the two policies differ little."""

    def experiment(rng):
        difficulty = rng.gamma(2, 1, episodes)
        a = difficulty + rng.normal(0, 0.1, episodes)
        return paired_difference(a, difficulty - 0.2 + rng.normal(0, 0.1, episodes), seed=0)

    assert 0.93 <= covered(-0.2, experiment) <= 0.97


def test_without_the_wider_level_eight_episodes_do_not_cover(few_resamples, monkeypatch):
    """Mutant: the textbook BCa interval."""
    monkeypatch.setattr(stats, "expanded", lambda level, count: level)
    assert covered(0.0, lambda rng: paired_difference(np.zeros(8), rng.normal(size=8), seed=0)) < 0.92
    assert expanded(0.95, 8) > 0.97
    assert expanded(0.95, 10_000) == pytest.approx(0.95, abs=1e-4)


def test_the_relative_effect_covers(few_resamples):
    def experiment(rng):
        a = rng.gamma(4, 0.25, 20)
        return relative_effect(a, 0.9 * a + rng.normal(0, 0.05, 20), seed=0)

    assert 0.93 <= covered(-10.0, experiment) <= 0.97


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.5, 0.8])
def test_wilson_covers_on_average_over_sample_sizes(rate):
    """One size alone covers 90 to 98 %, as any interval for counts; over sizes it is right."""
    rng, hits = np.random.default_rng(3), []
    for trials in rng.integers(20, 120, TRIALS):
        found = wilson(int(rng.binomial(trials, rate)), int(trials))
        hits.append(found.low <= rate <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.97


def test_null_comparisons_are_rarely_significant(few_resamples):
    """Two equal policies on eight episodes, two equal success rates on thirty scenes."""
    rng = np.random.default_rng(4)
    flips = [sign_flip(rng.standard_t(3, size=8)) for _ in range(TRIALS)]
    assert np.mean(np.array(flips) <= 0.05) <= 0.06
    wins = [mcnemar(rng.random(30) < 0.5, rng.random(30) < 0.5).p for _ in range(TRIALS)]
    assert np.mean(np.array(wins) <= 0.05) <= 0.06
    found = [paired_difference(rng.normal(size=20), rng.normal(size=20)) for _ in range(TRIALS)]
    assert np.mean([f.excludes(0.0) for f in found]) <= 0.06


def trained(rng, seeds: int, episodes: int, *, effect: float, crossed: bool):
    """Errors of reference and candidate: a seed, an episode and their interaction each move the difference."""
    by_seed = {k: rng.normal(0, 0.3) for k in range(seeds)}
    by_episode: dict[int, float] = {}
    reference, candidate = {}, {}
    for k in range(seeds):
        numbers = range(episodes) if crossed else range(100 * k, 100 * k + episodes)
        for n in numbers:
            by_episode.setdefault(n, rng.normal(0, 0.3))
        reference[k] = {n: 5 + rng.normal(0, 0.1) for n in numbers}
        candidate[k] = {n: reference[k][n] + effect + by_seed[k] + by_episode[n] + rng.normal(0, 0.2) for n in numbers}
    return reference, candidate


@pytest.mark.parametrize("crossed", [True, False])
def test_five_seeds_cover_the_difference_of_a_new_seed(crossed):
    def experiment(rng):
        return compare_seeds(*trained(rng, 5, 8, effect=-0.5, crossed=crossed)).difference

    assert 0.93 <= covered(-0.5, experiment) <= 0.97


def test_treating_seed_and_episode_pairs_as_independent_claims_too_much():
    """Mutant: forty pairs of five seeds as if they were forty seeds."""

    def experiment(rng):
        reference, candidate = trained(rng, 5, 8, effect=0.0, crossed=True)
        d = np.array([candidate[k][n] - reference[k][n] for k in reference for n in reference[k]])
        reach = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
        return stats.Interval(estimate=d.mean(), low=d.mean() - reach, high=d.mean() + reach)

    assert covered(0.0, experiment) < 0.85


def test_null_comparisons_of_five_seeds_are_rarely_significant():
    rng = np.random.default_rng(6)
    found = [compare_seeds(*trained(rng, 5, 8, effect=0.0, crossed=k % 2 == 0)) for k in range(2 * TRIALS)]
    assert np.mean([f.p <= 0.05 for f in found]) <= 0.06
    assert min(f.p_permutation for f in found) >= 2 / 2**5 - 1e-9, "five signs cannot say more"


def test_a_single_seed_is_the_comparison_of_its_episodes():
    reference, candidate = trained(np.random.default_rng(7), 1, 9, effect=-1.0, crossed=True)
    found, one = compare_seeds(reference, candidate), compare_paired(reference[0], candidate[0])
    assert (found.difference, found.relative, found.p) == (one.difference, one.relative, one.p)
    with pytest.raises(ConfigError, match="seeds"):
        compare_seeds(reference, candidate | {1: candidate[0]})


def test_episodes_for_a_width_give_that_width():
    rng = np.random.default_rng(8)
    pilot = rng.normal(0, 1, 400)
    count = episodes_for_width(pilot, 0.4)
    assert count == pytest.approx((2 * 1.96 * pilot.std(ddof=1) / 0.4) ** 2, rel=0.05)
    widths = [
        np.ptp(scipy_stats.t.interval(0.95, count - 1, 0, rng.normal(0, 1, count).std(ddof=1) / count**0.5))
        for _ in range(50)
    ]
    assert np.mean(widths) == pytest.approx(0.4, rel=0.06)
    assert episodes_for_width(pilot, 0.2) == pytest.approx(4 * count, rel=0.06)
    with pytest.raises(ConfigError, match="width"):
        episodes_for_width([1.0], 0.1)
