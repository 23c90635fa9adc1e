"""Verdicts of the gates: what passes, what fails, and what was not measured is neither."""

import pytest

from svms_gr00t.train.gates import couple_gate, end_gate, specialise_gate

EDGE = "visual-temporal"


def couple(rho=0.1, rank=(8.0, 8.0), start=(10.0, 10.0), told=0.5):
    return couple_gate({EDGE: rho}, {EDGE: rank}, {EDGE: start}, told)


def test_a_stream_passes_above_the_line_and_not_on_it():
    found = specialise_gate({"visual": 0.71, "temporal": 0.70, "state": 0.4})
    assert [one.passed for one in found] == [True, False, False]
    assert [one.measured for one in found] == ["0.710", "0.700", "0.400"]
    assert found[2].criterion.startswith("state: ")


def test_what_a_table_of_words_reaches_stands_beside_the_stream_and_changes_no_verdict():
    found = specialise_gate({"visual": 0.8, "state": 0.6, "temporal": None}, {"visual": 0.9, "state": 0.5})
    assert [one.measured for one in found] == [
        "0.800, a table of the training words 0.900",
        "0.600, a table of the training words 0.500",
        None,
    ]
    assert [one.passed for one in found] == [True, False, None]


def test_what_was_not_measured_neither_passes_nor_fails():
    (stream,) = specialise_gate({"state": None})
    *_, routes = couple(told=None)
    for one in (stream, routes):
        assert one.passed is None
        assert one.measured is None
        assert one.advice
    assert specialise_gate({}) == []


@pytest.mark.parametrize(
    ("given", "passed", "says"),
    [
        ({}, True, "rho 0.100, rank kept 80%"),
        ({"rho": 0.149}, True, "rho 0.149, rank kept 80%"),
        ({"rho": 0.15}, False, "rho 0.150, rank kept 80%"),
        ({"rank": (5.0, 9.0)}, True, "rho 0.100, rank kept 50%"),
        ({"rank": (9.0, 4.9)}, False, "rho 0.100, rank kept 49%"),
        ({"rank": (4.9, 9.0)}, False, "rho 0.100, rank kept 49%"),
        ({"rank": (4.0, 4.0), "start": (5.0, 5.0)}, True, "rho 0.100, rank kept 80%"),
        ({"rho": 0.9, "rank": (20.0, 20.0)}, False, "rho 0.900, rank kept 200%"),
    ],
    ids=["both", "just below", "at the line", "half kept", "head lost", "tail lost", "few but kept", "rank only"],
)
def test_agreement_counts_only_while_both_ends_keep_half_their_rank(given, passed, says):
    first, _ = couple(**given)
    assert (first.passed, first.measured) == (passed, says)


def test_every_edge_and_the_routes_are_judged():
    ranks = {"a": (1.0, 1.0), "b": (1.0, 1.0)}
    found = couple_gate({"a": 0.1, "b": 0.5}, ranks, ranks, 0.02)
    assert [one.passed for one in found] == [True, False, True]
    assert [one.passed for one in couple_gate({}, {}, {}, 0.01)] == [False], "a hundredth is not above a hundredth"
    assert found[2].measured == "0.020 of its class"


def test_a_rank_that_began_at_nothing_is_no_error():
    first, _ = couple(start=(0.0, 0.0), rank=(1.0, 1.0))
    assert first.passed is True


def test_every_end_of_an_edge_has_a_start():
    with pytest.raises(ValueError, match="zip"):
        couple(start=(10.0,), rank=(8.0, 8.0))


def test_the_end_is_below_plain_or_it_fails():
    assert [end_gate(svms, 0.02)[0].passed for svms in (0.019, 0.02, 0.021)] == [True, False, False]
    assert end_gate(0.019, 0.02)[0].measured == "0.0190 against 0.0200"
