"""Intervals and tests against published answers, against brute force, and against their own promise (coverage)."""

from itertools import product

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.statistics.stats import (
    compare_paired,
    episodes_needed,
    mcnemar,
    mean_interval,
    paired_difference,
    relative_effect,
    sign_flip,
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
    for trial in range(60):
        difficulty = rng.gamma(2, 1, 30)
        a, b = difficulty + rng.normal(0, 0.1, 30), difficulty - 0.2 + rng.normal(0, 0.1, 30)
        found = paired_difference(a, b, seed=trial)
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


def test_episodes_needed_grows_with_the_square_of_the_gap():
    """Textbook: 0.5 against 0.6 at 80 % power needs 385 or so in each arm (unpooled variance)."""
    assert episodes_needed(0.5, 0.6) == pytest.approx(385, abs=3)
    assert episodes_needed(0.5, 0.55) > 3.9 * episodes_needed(0.5, 0.6)
    with pytest.raises(ConfigError):
        episodes_needed(0.5, 0.5)
