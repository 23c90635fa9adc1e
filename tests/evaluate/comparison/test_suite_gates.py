"""Verdicts on a suite: each gate on both sides of its line, and nothing passes that was not measured."""

from dataclasses import replace

import pytest

from svms_gr00t.evaluate.comparison.suite_gates import Measured, Scripted, SuiteGate, Wins, fit_to_compare, suite_gates


def wins(successes: int, episodes: int = 100) -> Wins:
    return Wins(successes=successes, episodes=episodes)


GOOD = Measured(
    suite="memory",
    tasks={"PressTwice": Scripted(chance=0.25, expert=wins(50, 50), blind=wins(12, 50))},
    plain=wins(40),
    oracle=wins(75),
    error=0.10,
    swapped_error=0.16,
    oracle_error=0.09,
    few_error=0.13,
    many_error=0.10,
)


def gate(known: Measured, name: str) -> SuiteGate:
    return next(one for one in suite_gates(known) if one.name == name)


def test_a_good_suite_passes_and_an_empty_one_has_no_verdict() -> None:
    assert fit_to_compare(suite_gates(GOOD))
    empty = suite_gates(Measured(suite="memory"))
    assert [(one.measured, one.passed) for one in empty] == [(None, None)] * 5
    assert not fit_to_compare(empty)


@pytest.mark.parametrize("missing", ["tasks", "plain", "few_error"])
def test_what_was_not_measured_has_not_passed(missing: str) -> None:
    known = replace(GOOD, **{missing: {} if missing == "tasks" else None})
    assert None in [one.passed for one in suite_gates(known)]
    assert not fit_to_compare(suite_gates(known))


def test_a_few_episodes_are_no_measurement() -> None:
    few = {"PressTwice": Scripted(chance=0.25, expert=wins(19, 19), blind=wins(4, 50))}
    known = replace(GOOD, plain=wins(8, 19), tasks=few)
    assert [gate(known, name).passed for name in ("plain's range", "experts and chance", "oracle")] == [
        None,
        None,
        False,
    ]
    assert gate(replace(known, plain=wins(8, 20)), "plain's range").passed


@pytest.mark.parametrize(
    ("name", "change", "passed"),
    [
        ("plain's range", {"plain": wins(29)}, False),
        ("plain's range", {"plain": wins(30)}, True),
        ("plain's range", {"plain": wins(70)}, True),
        ("plain's range", {"plain": wins(71)}, False),
        ("picture swap", {"swapped_error": 0.149}, False),
        ("picture swap", {"swapped_error": 0.151}, True),
        ("picture swap", {"swapped_error": 0.11, "swapped": wins(26)}, True),
        ("picture swap", {"swapped_error": 0.11, "swapped": wins(60)}, False),
        ("picture swap", {"swapped_error": None}, None),
        ("oracle", {"oracle": wins(59)}, False),
        ("oracle", {"oracle": wins(61)}, True),
        ("oracle", {"oracle": None}, False),
        ("oracle", {"oracle": None, "oracle_error": 0.079}, True),
        ("oracle", {"oracle": None, "oracle_error": None}, None),
        ("demonstrations", {"many_error": 0.1106}, False),
        ("demonstrations", {"many_error": 0.1104}, True),
        ("demonstrations", {"many_error": 0.2}, False),
    ],
)
def test_each_gate_on_both_sides_of_its_line(name: str, change: dict, passed: bool | None) -> None:
    assert gate(replace(GOOD, **change), name).passed is passed


@pytest.mark.parametrize(
    ("expert", "blind", "passed"), [(50, 12, True), (47, 12, False), (48, 12, True), (50, 20, False), (50, 0, True)]
)
def test_experts_succeed_and_the_blind_have_no_more_than_chance(expert: int, blind: int, passed: bool) -> None:
    """20 of 50 is [28, 54] %: more than 25. An expert of 94 % is not one."""
    other = {"Other": Scripted(chance=0.25, expert=wins(expert, 50), blind=wins(blind, 50))}
    found = gate(replace(GOOD, tasks=GOOD.tasks | other), "experts and chance")
    assert found.passed is passed
    assert found.measured is not None
    assert ("Other" in found.measured) is not passed


def test_it_says_the_numbers_it_judged_by() -> None:
    said = {one.name: one.measured for one in suite_gates(GOOD)}
    assert said == {
        "experts and chance": "1 tasks: experts 100% to 100%, blind within chance",
        "plain's range": "40/100 (40%)",
        "picture swap": "error x1.60",
        "oracle": "error -10%; success 40/100 (40%) to 75/100 (75%), +35 points",
        "demonstrations": "error -23%",
    }


def test_it_survives_a_file() -> None:
    assert Measured.from_json(GOOD.to_json()) == GOOD
