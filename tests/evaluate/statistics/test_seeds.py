"""Several training seeds: rates, variances and refusals against scipy and against arithmetic done by hand."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.statistics.seeds import _crossed, _of_pairs, _two_factors, compare_seeds, success_rate
from svms_gr00t.evaluate.statistics.stats import wilson


def outcomes(*won: int, of: int = 20) -> dict[int, dict[int, float]]:
    """Seed k wins its first won[k] of `of` episodes."""
    return {seed: {e: float(e < n) for e in range(of)} for seed, n in enumerate(won)}


def test_a_rate_over_seeds_is_the_t_interval_of_the_seeds_rates():
    """Rates .2, .5 and .9 lie so far apart that Wilson on 60 episodes is narrower."""
    found, rates = success_rate(outcomes(4, 10, 18)), [0.2, 0.5, 0.9]
    spread = scipy_stats.t.interval(0.95, df=2, loc=np.mean(rates), scale=scipy_stats.sem(rates))
    assert found.estimate == pytest.approx(np.mean(rates))
    assert (found.low, found.high) == (0.0, 1.0)  # a rate ends there, whatever t says
    assert spread[0] < 0 < 1 < spread[1]
    near, rates = success_rate(outcomes(30, 50, 40, of=100)), [0.3, 0.5, 0.4]
    low, high = scipy_stats.t.interval(0.95, df=2, loc=0.4, scale=scipy_stats.sem(rates))
    assert (near.low, near.high) == pytest.approx((low, high))
    assert success_rate(outcomes(30, 50, 40, of=100), level=0.5).high < near.high


def test_seeds_that_agree_are_no_surer_than_their_episodes():
    found, pooled = success_rate(outcomes(10, 10, 10)), wilson(30, 60)
    assert (found.low, found.high) == (pooled.low, pooled.high)
    assert success_rate(outcomes(7)) == wilson(7, 20)
    assert success_rate({}) is None


def test_two_seeds_count_alike_however_many_episodes_each_drove():
    runs = {0: {0: 1.0, 1: 0.0}, 1: {e: float(e < 9) for e in range(10)}}
    assert success_rate(runs).estimate == pytest.approx((0.5 + 0.9) / 2)


def test_differences_of_errors_may_leave_the_range_of_outcomes():
    reference = {k: {1: 5.0 + k, 2: 6.0} for k in range(3)}
    candidate = {k: {1: 1.0 - k, 2: 2.5} for k in range(3)}
    found = compare_seeds(reference, candidate)
    assert found.difference.estimate == pytest.approx(-(4 + 3.5 + 6 + 3.5 + 8 + 3.5) / 6)
    assert found.difference.low < -4.75 < found.difference.high


def test_the_variance_of_paired_outcomes_is_agresti_and_mins():
    """Three won, one lost, four equal: half an episode in each of four cells makes ten."""
    differences = np.array([1, 1, 1, -1, 0, 0, 0, 0], dtype=float)
    gain, loss = 3.5 / 10, 1.5 / 10
    variance, freedom = _of_pairs(differences)
    assert variance == pytest.approx((gain + loss - (gain - loss) ** 2) / 10)
    assert freedom == 7
    assert _of_pairs(np.array([1.0])) == (pytest.approx((2 / 3 - (1 / 3) ** 2) / 3), 1.0)


def test_the_variance_of_a_table_is_that_of_both_factors():
    table = np.array([[1.0, 2.0, 4.0], [2.0, 2.0, 7.0]])
    grand, rows, columns = table.mean(), table.mean(1), table.mean(0)
    of_seeds = 3 * np.square(rows - grand).sum() / 1
    of_episodes = 2 * np.square(columns - grand).sum() / 2
    rest = np.square(table - columns - rows[:, None] + grand).sum() / 2
    total = of_seeds + of_episodes - rest
    variance, freedom = _two_factors(table)
    assert variance == pytest.approx(total / 6)
    assert freedom == pytest.approx(total**2 / (of_seeds**2 / 1 + of_episodes**2 / 2 + rest**2 / 2))
    alike = np.array([[1.0, -1.0], [-1.0, 1.0]])  # nothing but interaction: its own mean square, with its own freedom
    assert _two_factors(alike) == (pytest.approx(4.0 / 4), 1.0)


def test_seeds_are_crossed_when_all_share_the_same_several_episodes():
    assert _crossed({0: {1: 0.0, 2: 0.0}, 1: {2: 1.0, 1: 1.0}})
    assert not _crossed({0: {1: 0.0}, 1: {1: 1.0}})
    assert not _crossed({0: {1: 0.0, 2: 0.0}, 1: {1: 0.0, 2: 0.0}, 2: {1: 0.0, 3: 0.0}})
    assert not _crossed({0: {1: 0.0, 2: 0.0}, 1: {3: 0.0, 4: 0.0}})


def test_what_cannot_be_paired_is_refused_with_what_is_odd():
    with pytest.raises(ConfigError, match=r"paired seeds = .*\[0\] and \[1\]"):
        compare_seeds({0: {1: 0.0}}, {1: {1: 0.0}})
    many = dict.fromkeys(range(9), 0.0)
    with pytest.raises(ConfigError, match=r"unpaired \[0, 1, 2, 3, 4\] in seed 7"):
        compare_seeds({7: many}, {7: {9: 0.0}})
    with pytest.raises(ConfigError, match="paired seeds"):
        compare_seeds({}, {})
