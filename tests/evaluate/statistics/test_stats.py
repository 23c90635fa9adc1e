"""Intervals and tests against published answers, against brute force, and against their own promise (coverage)."""

from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.statistics.stats import (
    Interval,
    compare_paired,
    effect_text,
    episodes_needed,
    mcnemar,
    mean_interval,
    p_value,
    paired_difference,
    paired_rates,
    points,
    relative_effect,
    scaled,
    sign_flip,
    signed,
    t_test,
    wilson,
)


def test_wilson_gives_the_textbook_numbers():
    """Newcombe (1998), table I: 81 of 263 and 0 of 20."""
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    found = wilson(0, 20)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0, 0.1611)
    assert wilson(0, 0) is None


def test_wilson_covers_where_the_textbook_interval_does_not():
    """At p = 0.05 and n = 20 the normal interval covers far less than the 95 % it promises; Wilson keeps it."""
    p, n = 0.05, 20
    counts = np.random.default_rng(0).binomial(n, p, 4000)
    intervals = {k: wilson(int(k), n) for k in np.unique(counts)}
    covered = np.mean([intervals[k].low <= p <= intervals[k].high for k in counts])
    rate = counts / n
    normal = np.mean(np.abs(rate - p) <= 1.96 * np.sqrt(rate * (1 - rate) / n))
    assert covered > 0.90
    assert normal < 0.75


def test_paired_interval_covers_the_true_difference_and_beats_the_unpaired_one():
    rng, hits, narrower = np.random.default_rng(1), 0, 0
    for _ in range(60):
        difficulty = rng.gamma(2, 1, 30)
        a, b = difficulty + rng.normal(0, 0.1, 30), difficulty - 0.2 + rng.normal(0, 0.1, 30)
        found = paired_difference(a, b)
        hits += found.low <= -0.2 <= found.high
        unpaired = 2 * 1.96 * np.sqrt(a.var() / 30 + b.var() / 30)
        narrower += (found.high - found.low) < unpaired / 4
    assert hits >= 51  # binomial(60, .95) falls below 51 with probability 0.001
    assert narrower == 60


def test_intervals_know_what_they_do_not_know():
    assert mean_interval([]) is None
    assert mean_interval([3.0]) is None, "one episode says nothing about spread"
    constant = mean_interval([2.0, 2.0, 2.0])
    assert (constant.low, constant.estimate, constant.high) == (2.0, 2.0, 2.0)
    assert relative_effect([0.0, 0.0], [1.0, 1.0]) is None


def test_relative_effect_reads_in_percent_of_the_reference():
    found = relative_effect([2.0, 4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0])
    assert found.estimate == pytest.approx(-50.0)
    assert found.low == pytest.approx(-50.0)
    assert found.high == pytest.approx(-50.0)
    rng = np.random.default_rng(0)
    reference = rng.uniform(1, 2, 40)
    found = relative_effect(reference, reference * 0.9 + rng.normal(0, 0.02, 40))
    assert found.excludes(0.0)
    assert not found.excludes(-10.0)


def test_mcnemar_counts_disagreements_only():
    """10 against 2 disagreements: p = 2 P(X <= 2 | 12, 1/2) = 158 / 4096."""
    a = np.array([True] * 50 + [True] * 10 + [False] * 2 + [False] * 7)
    b = np.array([True] * 50 + [False] * 10 + [True] * 2 + [False] * 7)
    found = mcnemar(a, b)
    assert (found.only_reference, found.only_candidate) == (10, 2)
    assert found.p == pytest.approx(158 / 4096)
    assert mcnemar(a, a).p == 1.0


def test_sign_flip_equals_the_enumeration():
    differences = np.array([0.3, -0.1, 0.4, 0.25, -0.05, 0.6])
    means = [np.mean(differences * signs) for signs in product([-1, 1], repeat=6)]
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert sign_flip(differences) == pytest.approx(expected)
    assert sign_flip(np.zeros(5)) == 1.0


def test_sign_flip_rejects_at_its_level_under_no_effect():
    rng = np.random.default_rng(2)
    rejected = np.mean([sign_flip(rng.normal(size=8)) <= 0.05 for _ in range(300)])
    assert rejected < 0.09


def test_comparison_is_symmetric_and_refuses_other_episodes():
    a, b = {3: 1.0, 5: 2.0, 9: 4.0}, {9: 3.0, 3: 0.5, 5: 2.5}
    there, back = compare_paired(a, b), compare_paired(b, a)
    assert there.difference.estimate == pytest.approx(-back.difference.estimate)
    assert there.difference.estimate == pytest.approx(-1 / 3)
    with pytest.raises(ConfigError, match="unpaired"):
        compare_paired(a, {3: 1.0})


def outcomes(both: int, only_reference: int, only_candidate: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    reference = [True] * (both + only_reference) + [False] * (only_candidate + neither)
    candidate = [True] * both + [False] * only_reference + [True] * only_candidate + [False] * neither
    return np.array(reference, dtype=bool), np.array(candidate, dtype=bool)


def slow_tango(n: int, lost: int, won: int, z: float) -> tuple[float, float]:
    """Ends of a fine grid of differences that the score test does not reject; the free rate by brute force."""
    inside = []
    for delta in np.arange(-0.995, 0.9951, 0.005):
        rates = np.linspace(max(0.0, -delta), (1 - delta) / 2, 4001)[1:-1]  # of "only the reference won"
        with np.errstate(divide="ignore"):
            likelihood = won * np.log(rates + delta) + lost * np.log(rates)
            likelihood += (n - won - lost) * np.log(1 - 2 * rates - delta)
        rate = rates[np.argmax(likelihood)]
        if abs(won - lost - n * delta) <= z * np.sqrt(n * (2 * rate + delta - delta**2)):
            inside.append(delta)
    return min(inside), max(inside)


@pytest.mark.parametrize(("n", "lost", "won"), [(18, 0, 0), (20, 2, 9), (50, 3, 15), (10, 0, 3)])
def test_the_interval_of_paired_rates_is_the_score_tests(n, lost, won):
    found = paired_rates(*outcomes(n - lost - won, lost, won, 0))
    low, high = slow_tango(n, lost, won, 1.95996)
    assert found.estimate == pytest.approx((won - lost) / n)
    assert found.high == pytest.approx(high, abs=0.006)
    reached = mcnemar(*outcomes(0, lost, won, 0)).p < 0.05
    assert found.low == pytest.approx(low if reached else min(low, 0.0), abs=0.006)


def test_equal_outcomes_are_not_certainty():
    """18 of 18 alike: z^2 / (n + z^2) either way, what Wilson says of 0 of 18."""
    for both in (0, 7, 18):
        found = paired_rates(*outcomes(both, 0, 0, 18 - both))
        assert (found.low, found.high) == pytest.approx((-0.1759, 0.1759), abs=1e-4)
        assert effect_text(points(found)) == ("+0.0", "-17.6 to +17.6")
    assert paired_rates(*outcomes(0, 0, 0, 0)) is None
    alike = compare_paired(dict.fromkeys(range(18), 1.0), dict.fromkeys(range(18), 1.0), outcomes=True)
    assert alike.p == 1.0
    assert alike.difference.high == pytest.approx(0.1759, abs=1e-4)


def test_all_against_nothing_stays_within_the_possible():
    assert paired_rates(*outcomes(0, 0, 30, 0)).high == 1.0
    assert paired_rates(*outcomes(0, 30, 0, 0)).low == -1.0
    assert paired_rates(*outcomes(0, 30, 0, 0)).excludes(0.0)


def test_an_interval_and_its_p_agree_on_every_table():
    """Score interval and exact test would part: 5 of 5 disagreements are p = 0.06, and the score alone excludes 0."""
    asked = 0
    for n in (1, 4, 5, 6, 18, 30):
        for lost in range(n + 1):
            for won in range(n - lost + 1):
                a, b = outcomes(n - lost - won, lost, won, 0)
                found, p = paired_rates(a, b), mcnemar(a, b).p
                assert found.excludes(0.0) == (p < 0.05), (n, lost, won)
                assert -1 <= found.low <= found.estimate <= found.high <= 1
                asked += 1
    assert asked > 700


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_difference_effect_and_p_agree_on_any_errors(level):
    rng, excluded = np.random.default_rng(5), []
    for count in np.tile([2, 3, 4, 6, 8, 15, 30], 60):
        a = rng.gamma(2, 1, count)
        b = a * rng.uniform(0.5, 1.5) + rng.normal(0, 0.3, count)
        found = compare_paired(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())), level=level)
        verdicts = {found.difference.excludes(0.0), found.relative.excludes(0.0), found.p < 1 - level}
        assert len(verdicts) == 1, (count, found)
        assert np.sign(found.difference.estimate) == np.sign(found.relative.estimate)
        excluded += verdicts
    assert 0.2 < np.mean(excluded) < 0.9, "both kinds occur"


def test_t_test_is_scipys_and_says_nothing_of_zeros():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 9))
    assert t_test(b - a) == pytest.approx(scipy_stats.ttest_rel(b, a).pvalue)
    assert (t_test(np.zeros(5)), t_test([0.3])) == (1.0, 1.0)


def test_scaling_by_a_negative_reference_keeps_the_ends_in_order():
    found = scaled(Interval(estimate=1.0, low=-1.0, high=2.0), -4.0)
    assert (found.estimate, found.low, found.high) == (-25.0, -50.0, 25.0)
    assert scaled(found, 0.0) is None
    assert scaled(None, 1.0) is None


PRINTED = {
    0.0: "< 0.001", 0.00049: "< 0.001", 0.0005: "0.001", 0.04: "0.040", 0.0499: "0.0499", 0.04996: "0.04996",
    0.05: "0.050", 0.0501: "0.050", 0.05001: "0.050", 0.45: "0.450", 1.0: "1.000",
}  # fmt: skip


@pytest.mark.parametrize(("p", "text"), PRINTED.items())
def test_a_printed_p_is_on_the_side_of_its_number(p, text):
    assert p_value(p) == text
    if text[0] != "<":
        assert (float(text) < 0.05) == (p < 0.05)


def test_a_printed_effect_reads_as_zero_only_where_it_is():
    assert [signed(v) for v in (4.21, -0.31, 0.04, -0.004, 0.0, -0.0)] == [
        "+4.2", "-0.3", "+0.04", "-0.004", "+0.0", "+0.0",
    ]  # fmt: skip
    assert signed(-1e-12) == "-1e-12"
    assert effect_text(Interval(estimate=2.0, low=0.02, high=3.96), " %") == ("+2.0 %", "+0.02 to +4.0")
    assert effect_text(None) == ("", "")


def test_episodes_needed_grows_with_the_square_of_the_gap():
    """Textbook: 0.5 against 0.6 at 80 % power needs 385 or so in each arm (unpooled variance)."""
    assert episodes_needed(0.5, 0.6) == pytest.approx(385, abs=3)
    assert episodes_needed(0.5, 0.55) > 3.9 * episodes_needed(0.5, 0.6)
    with pytest.raises(ConfigError):
        episodes_needed(0.5, 0.5)


def test_the_interval_of_a_mean_is_scipys_and_on_the_logarithm_only_where_all_are_positive():
    with_zero = [0.0, 1.0, 2.0, 5.0]
    low, high = scipy_stats.t.interval(0.95, df=3, loc=2.0, scale=scipy_stats.sem(with_zero))
    plain = mean_interval(with_zero)
    assert (plain.low, plain.high) == pytest.approx((low, high))
    positive = [0.5, 1.0, 2.0, 4.5]
    reach = scipy_stats.t.ppf(0.975, 3) * scipy_stats.sem(positive)
    logged = mean_interval(positive)
    assert (logged.low, logged.high) == pytest.approx((2 / np.exp(reach / 2), 2 * np.exp(reach / 2)))
    assert mean_interval([3.0]) is None


def test_an_effect_on_success_is_in_percent_of_the_references_rate():
    reference, candidate = {e: float(e < 4) for e in range(10)}, {e: float(e < 7) for e in range(10)}
    found = compare_paired(reference, candidate, outcomes=True)
    assert found.difference.estimate == pytest.approx(0.3)
    assert found.relative.estimate == pytest.approx(75.0)


@pytest.mark.parametrize("rates", [(0.5, 0.5), (1.2, 0.5), (0.5, -0.1)])
def test_rates_that_cannot_be_are_refused_one_by_one(rates):
    with pytest.raises(ConfigError, match="two different rates"):
        episodes_needed(*rates)
