"""The page of a comparison: each number of its record in its own column, and how many more episodes would do."""

from dataclasses import replace

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.comparison import compare as module
from svms_gr00t.evaluate.comparison.compare import CompareReport, MetricComparison, Pair, compare, render_markdown
from svms_gr00t.evaluate.comparison.contenders import Contender, Run
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.statistics.seeds import SeedComparison
from svms_gr00t.evaluate.statistics.stats import Interval, McNemar, episodes_for_width

FOUND = SeedComparison(
    seeds=2,
    episodes=30,
    reference=0.25,
    candidate=0.2,
    difference=Interval(estimate=-0.05, low=-0.08, high=-0.02),
    relative=Interval(estimate=-20.0, low=-32.0, high=-8.0),
    p=0.004,
    p_permutation=0.5,
)
MSE = MetricComparison(metric="mse", better="lower", found=FOUND, episodes_needed=1234)
WON = McNemar(only_reference=1, only_candidate=7, p=0.07)


def cells(*metrics: MetricComparison) -> list[list[str]]:
    pair = Pair(candidate="svms", differences=("rate: 1 against 2",), unknown=("who knows",), metrics=metrics)
    text = render_markdown(CompareReport(reference="plain", width=0.2, pairs=(pair,)))
    assert "# Against plain" in text
    assert "## svms" in text
    assert "**Not equal:** rate: 1 against 2" in text
    assert "*Unknown:* who knows" in text
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_an_error_and_a_success_stand_in_their_columns():
    gain = replace(
        FOUND, reference=0.5, candidate=0.7, difference=Interval(estimate=0.2, low=0.1, high=0.3), relative=None
    )
    success = MetricComparison(metric=module.SUCCESS, better="higher", found=gain, tests={3: WON})
    head, rule, error, won = cells(MSE, success)
    assert head == [
        "metric",
        "plain",
        "svms",
        "difference (95 %)",
        "effect",
        "p",
        "p, permutation",
        "episodes for ±10 %",
        "verdict",
    ]
    assert rule == ["---"] * 9
    assert error[:4] == ["mse", "0.25", "0.2", "-0.05 (-0.08 to -0.02)"]
    assert "-20" in error[4]
    assert "%" in error[4]
    assert error[5:] == ["0.004", "0.500", "1,234", "better"]
    assert won[3] == "+0.2 (+0.1 to +0.3)"
    assert "+20" in won[4]
    assert "points" in won[4]
    assert won[7:] == ["", "better"]


def test_what_is_not_known_is_an_empty_cell():
    unknown = replace(MSE, found=replace(FOUND, difference=None, relative=None), episodes_needed=None)
    _, _, row = cells(unknown)
    assert row[3:5] == ["", ""]
    assert row[7:] == ["", "unclear"]


def test_a_verdict_follows_the_sign_and_what_is_better():
    worse = replace(FOUND, difference=Interval(estimate=0.05, low=0.02, high=0.08))
    assert [replace(MSE, found=f, better=b).verdict for f in (FOUND, worse) for b in ("lower", "higher")] == [
        "better",
        "worse",
        "worse",
        "better",
    ]


def test_episodes_needed_are_those_of_the_pairs_within_seeds():
    a = {0: {1: 1.0, 2: 2.0, 3: 4.0}, 1: {1: 1.5, 2: 2.5, 3: 3.0}}
    b = {0: {1: 1.2, 2: 2.9, 3: 4.1}, 1: {1: 1.0, 2: 2.6, 3: 3.3}}
    pairs = np.array([0.2, 0.9, 0.1, -0.5, 0.1, 0.3])
    assert module._needed(a, b, 0.3) == episodes_for_width(pairs, 0.3)
    assert module._needed(a, b, 0.0) is None
    assert module._needed({0: {1: 1.0}}, {0: {1: 2.0}}, 0.3) is None
    assert module._needed({0: {1: 1.0, 2: 3.0}}, {0: {1: 2.0, 2: 4.5}}, 0.3) is not None
    assert module._needed({0: {1: 1.0, 2: 3.0}}, {0: {1: 2.0, 2: 4.0}}, 0.3) is None  # one difference, no spread


def test_runs_with_nothing_in_common_are_refused_and_a_tenth_is_the_usual_width():
    facts = RunFacts(name="a", seed=0, data="d", held_out=(1,), base="b", budget={})
    empty = [Contender(name=n, runs={0: Run(open_loop=None, closed_loop=None, facts=facts)}) for n in ("a", "b")]
    with pytest.raises(ConfigError, match="nothing in common"):
        compare(empty)
    assert module.WIDTH == 0.1
