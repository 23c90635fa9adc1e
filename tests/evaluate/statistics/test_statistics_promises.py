"""Every interval and test keeps its promise in 1,000 simulated experiments: 93 to 97 % covered, few false alarms."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.statistics import stats
from svms_gr00t.evaluate.statistics.seeds import compare_seeds, success_rate
from svms_gr00t.evaluate.statistics.stats import (
    Interval,
    compare_paired,
    episodes_for_width,
    mcnemar,
    mean_interval,
    paired_difference,
    paired_rates,
    relative_effect,
    scaled,
    sign_flip,
    t_test,
    wilson,
)

TRIALS = 1000
pytestmark = pytest.mark.whole


def covered(truth: float, experiment) -> float:
    found = [experiment(np.random.default_rng(trial)) for trial in range(TRIALS)]
    return float(np.mean([f.low <= truth <= f.high for f in found]))


@pytest.mark.parametrize("episodes", [2, 4, 8, 30])
def test_a_paired_interval_covers_the_true_difference(episodes):
    """Episodes differ much in difficulty; the two policies differ little."""

    def experiment(rng):
        difficulty = rng.gamma(2, 1, episodes)
        a = difficulty + rng.normal(0, 0.1, episodes)
        return paired_difference(a, difficulty - 0.2 + rng.normal(0, 0.1, episodes))

    assert 0.93 <= covered(-0.2, experiment) <= 0.97


@pytest.mark.parametrize("episodes", [2, 4, 8, 30])
def test_the_interval_of_an_error_covers_its_mean(episodes):
    """Errors are positive and skewed."""
    assert 0.93 <= covered(2.0, lambda rng: mean_interval(rng.gamma(2, 1, episodes))) <= 0.97


def bootstrap(statistic, count: int, rng, level: float = 0.95) -> Interval:
    """The textbook percentile interval; `statistic` reads the numbers of the drawn episodes."""
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(200)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=statistic(np.arange(count)), low=float(low), high=float(high))


@pytest.mark.parametrize("level", [0.95, 0.9999])
def test_a_bootstrap_of_four_episodes_does_not_cover_at_any_level(level):
    """Mutant: no resampled mean is outside the range of the data."""

    def experiment(rng):
        x = rng.gamma(2, 1, 4)
        return bootstrap(lambda drawn: x[drawn].mean(), 4, rng, level)

    assert covered(2.0, experiment) < 0.9


@pytest.mark.parametrize("episodes", [4, 20])
def test_the_relative_effect_covers(episodes):
    def experiment(rng):
        a = rng.gamma(4, 0.25, episodes)
        return relative_effect(a, 0.9 * a + rng.normal(0, 0.05, episodes))

    assert 0.93 <= covered(-10.0, experiment) <= 0.97


def test_a_difference_over_a_reference_that_is_taken_as_known_does_not_cover():
    """Mutant of the relative effect: every episode 0.2 better, but how much is 0.2 of the mean?"""

    def pair(rng):
        a = rng.gamma(4, 0.5, 8)
        return a, a - 0.2 + rng.normal(0, 0.002, 8)

    def known(rng):
        a, b = pair(rng)
        return scaled(paired_difference(a, b), a.mean())

    assert 0.92 <= covered(-10.0, lambda rng: relative_effect(*pair(rng))) <= 0.97
    assert covered(-10.0, known) < 0.3


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.5, 0.8])
def test_wilson_covers_on_average_over_sample_sizes(rate):
    """One size alone covers 90 to 98 %, as any interval for counts; over sizes it is right."""
    rng, hits = np.random.default_rng(3), []
    for trials in rng.integers(20, 120, TRIALS):
        found = wilson(int(rng.binomial(trials, rate)), int(trials))
        hits.append(found.low <= rate <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.97


def test_null_comparisons_are_rarely_significant():
    """Two equal policies on eight episodes, two equal success rates on thirty scenes."""
    rng = np.random.default_rng(4)
    flips = [sign_flip(rng.standard_t(3, size=8)) for _ in range(TRIALS)]
    assert np.mean(np.array(flips) <= 0.05) <= 0.06
    wins = [mcnemar(rng.random(30) < 0.5, rng.random(30) < 0.5).p for _ in range(TRIALS)]
    assert np.mean(np.array(wins) <= 0.05) <= 0.06
    for size in (4, 20):
        found = [t_test(rng.standard_t(3, size=size)) for _ in range(TRIALS)]
        assert np.mean(np.array(found) <= 0.05) <= 0.06


@pytest.mark.parametrize(("scenes", "alike"), [(18, 0.9), (18, 0.4), (60, 0.7)])
def test_the_difference_of_paired_rates_covers(scenes, alike):
    """Counts come in steps, so it may be sure of more than it says, never of less."""

    def experiment(rng):
        easy, luck = rng.random(scenes) < alike, rng.random((2, scenes))
        return paired_rates(easy | (luck[0] < 0.3), easy | (luck[1] < 0.5))

    assert covered(0.2 * (1 - alike), experiment) >= 0.93


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


def driven(rng, seeds: int, scenes: int, *, effect: float, spread: float):
    """Outcomes of two policies by seed and scene: each seed's training luck moves each policy's chances."""
    reference, candidate = {}, {}
    for k in range(seeds):
        ease = rng.normal(0, 1.5, scenes)
        for side, shift in ((reference, 0.0), (candidate, effect)):
            won = rng.normal(0, 1, scenes) < ease + shift + rng.normal(0, spread)
            side[k] = dict(enumerate(won.astype(float).tolist()))
    return reference, candidate


def test_outcomes_pooled_over_seeds_are_wrong_and_outcomes_by_seed_are_not():
    """Mutant: one McNemar test, and one Wilson interval, over the scenes of all seeds."""
    rng, pooled, ours, wilsons, rates = np.random.default_rng(9), [], [], [], []
    truth = float(scipy_stats.norm.cdf(0.0))
    for _ in range(TRIALS // 2):
        sides = driven(rng, 5, 45, effect=0.0, spread=0.35)
        flat = [np.array([won > 0.5 for runs in side.values() for won in runs.values()]) for side in sides]
        pooled.append(mcnemar(*flat).p)
        ours.append(compare_seeds(*sides, outcomes=True).p)
        wilsons.append(wilson(int(flat[0].sum()), len(flat[0])))
        rates.append(success_rate(sides[0]))
    assert np.mean(np.array(pooled) <= 0.05) > 0.15
    assert np.mean(np.array(ours) <= 0.05) <= 0.06
    assert np.mean([i.low <= truth <= i.high for i in wilsons]) < 0.9
    assert np.mean([i.low <= truth <= i.high for i in rates]) >= 0.93


def test_a_few_seeds_that_agree_by_luck_are_not_certain():
    """Three seeds, five scenes each, the same step up everywhere: no spread, and still no certainty."""
    reference = {k: {n: float(n < 2) for n in range(5)} for k in range(3)}
    candidate = {k: {n + 10 * k: float(n < 3) for n in range(5)} for k in range(3)}
    apart = {k: {n + 10 * k: won for n, won in runs.items()} for k, runs in reference.items()}
    found = compare_seeds(apart, candidate, outcomes=True)
    assert found.difference.estimate == pytest.approx(0.2)
    assert not found.difference.excludes(0.0)
    assert found.p > 0.05
    equal = compare_seeds(reference, reference, outcomes=True)
    assert equal.p == 1.0
    assert equal.difference.high == pytest.approx(scipy_stats.t.ppf(0.975, 14) / 17), "Agresti and Min: 1 of 15 + 2"
    assert equal.difference.low == -equal.difference.high
    rng, alarms = np.random.default_rng(10), []
    for _ in range(TRIALS // 2):
        one = compare_seeds(*driven(rng, 3, 5, effect=0.0, spread=0.0), outcomes=True)
        assert one.difference.excludes(0.0) == (one.p < 0.05)
        assert -1 <= one.difference.low <= one.difference.high <= 1
        alarms.append(one.p <= 0.05)
    assert np.mean(alarms) <= 0.06


def test_interval_and_p_of_several_seeds_agree():
    rng = np.random.default_rng(11)
    found = [compare_seeds(*trained(rng, 4, 5, effect=0.4, crossed=k % 2 == 0)) for k in range(200)]
    assert all(f.difference.excludes(0.0) == f.relative.excludes(0.0) == (f.p < 0.05) for f in found)
    assert 0.1 < np.mean([f.p < 0.05 for f in found]) < 0.9


def test_means_are_over_seeds_of_means_over_episodes():
    """Seeds of unequal length count once each: numbers by hand."""
    reference, candidate = {0: {1: 1.0}, 1: {2: 2.0, 3: 4.0}}, {0: {1: 2.0}, 1: {2: 2.0, 3: 3.0}}
    found = compare_seeds(reference, candidate)
    assert (found.reference, found.candidate, found.seeds, found.episodes) == (2.0, 2.25, 2, 3)
    assert found.difference.estimate == pytest.approx(0.25)
    spread = np.std([1.0, -0.5], ddof=1) / 2**0.5
    assert found.difference.high == pytest.approx(0.25 + scipy_stats.t.ppf(0.975, 1) * spread)
    assert found.relative.high == pytest.approx(100 * found.difference.high / 2.0)
    assert success_rate({0: {1: 1.0}, 1: {2: 0.0, 3: 1.0}}).estimate == pytest.approx(0.75)
    assert success_rate({}) is None
    assert success_rate({4: {1: 1.0, 2: 0.0}}) == wilson(1, 2)


def test_two_random_factors_are_satterthwaites():
    """Mean squares of a 3 x 4 table by hand, and the degrees of freedom of their sum."""
    table = np.array([[1.0, 2.0, 4.0, 3.0], [2.0, 2.5, 6.0, 3.5], [0.0, 1.5, 2.0, 1.0]])
    k, n = table.shape
    rows, columns, all_ = table.mean(1), table.mean(0), table.mean()
    seed = n * ((rows - all_) ** 2).sum() / (k - 1)
    episode = k * ((columns - all_) ** 2).sum() / (n - 1)
    rest = sum((table[i, j] - rows[i] - columns[j] + all_) ** 2 for i in range(k) for j in range(n))
    rest /= (k - 1) * (n - 1)
    total = seed + episode - rest
    freedom = total**2 / (seed**2 / (k - 1) + episode**2 / (n - 1) + rest**2 / ((k - 1) * (n - 1)))
    zeros = {i: dict.fromkeys(range(n), 0.0) for i in range(k)}
    found = compare_seeds(zeros, {i: dict(enumerate(table[i].tolist())) for i in range(k)})
    error = np.sqrt(total / (k * n))
    assert found.difference.high == pytest.approx(all_ + scipy_stats.t.ppf(0.975, freedom) * error)
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(all_ / error, freedom))
    assert found.relative is None, "nothing is a percentage of 0"


def test_where_neither_seed_nor_episode_matters_the_rest_does():
    """Rows and columns of equal means: the interaction's mean square, with all its degrees of freedom."""
    table = np.array([[3.0, 1.0], [1.0, 3.0]])
    zeros = {i: dict.fromkeys(range(2), 0.0) for i in range(2)}
    found = compare_seeds(zeros, {i: dict(enumerate(table[i].tolist())) for i in range(2)})
    rest = 4.0 / 1  # sum of squared residuals over (2 - 1)(2 - 1)
    assert found.difference.high == pytest.approx(2.0 + scipy_stats.t.ppf(0.975, 1) * np.sqrt(rest / 4))


def test_one_shared_episode_is_no_second_factor():
    reference = {k: {7: 1.0} for k in range(3)}
    found = compare_seeds(reference, {k: {7: 1.0 + k} for k in range(3)})
    error = np.std([0, 1, 2], ddof=1) / 3**0.5
    assert found.difference.high == pytest.approx(1 + scipy_stats.t.ppf(0.975, 2) * error)


ONE, OTHER = {0: {1: 1.0}}, {0: {2: 1.0}}


@pytest.mark.parametrize(("reference", "candidate"), [({}, {}), ({0: {}}, {0: {}}), (ONE, OTHER)])
def test_nothing_to_pair_is_refused(reference, candidate):
    with pytest.raises(ConfigError, match="paired"):
        compare_seeds(reference, candidate)


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
