"""The ring of moments: bounded, by steps, and the controls that stand in its place."""

from typing import Any

import pytest
import torch

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.memories import Borrowed, Ring, Wiped

OFFSETS = (-6, -4, -2)


def moment(robot: int, step: int) -> torch.Tensor:
    """(1, Q, D) that says whose it is and when."""
    return torch.tensor([[[100.0 * robot + step, 1.0]]])


def walk(ring: Ring, client: str, row: int, steps: range) -> Any:
    """Ask and keep at each step; the last past."""
    past = None
    for step in steps:
        past = ring.past([(client, row)], [step])
        ring.keep([(client, row)], [step], moment(row, step))
    return past


def test_only_what_offsets_still_reach_is_kept() -> None:
    ring = Ring(OFFSETS)
    past = walk(ring, "a", 1, range(50))
    assert past.values[0, :, 0, 0].tolist() == [143, 145, 147]
    assert past.valid.all()
    assert sorted(ring._kept["a", 1]) == list(range(43, 50))


def test_before_the_start_is_hidden_and_only_there() -> None:
    ring = Ring(OFFSETS)
    assert ring.past([("", 0)], [0]) is None
    ring.keep([("", 0)], [0], moment(0, 0))
    ring.keep([("", 1)], [1], moment(1, 1))
    past = ring.past([("", 0), ("", 1)], [2, 1])
    assert past.valid.tolist() == [[False, False, True], [False, False, False]]
    assert past.values[0, 2, 0, 0] == 0
    assert past.values[0, 2, 0, 1] == 1


def test_a_server_cannot_grow_and_says_when_it_has_forgotten() -> None:
    ring = Ring(OFFSETS, robots=4)
    for client in range(100):
        walk(ring, str(client), 0, range(3))
        assert len(ring) <= 4
    for row in range(1000):
        ring.begin("resets", [row])
    assert len(ring) <= 4
    for name in map(str, range(1000)):
        ring.begin(name)
    assert len(ring._kept) <= 4
    with pytest.raises(DataError, match=r"step 4 of robot 0 of 50, of which nothing is remembered"):
        ring.past([("50", 0)], [4])
    with pytest.raises(ConfigError, match="at least 1"):
        Ring(OFFSETS, robots=0)


def test_a_client_in_use_outlives_the_others_and_a_forgotten_one_counts_no_further() -> None:
    ring = Ring(OFFSETS, every=2, robots=6)
    ring.begin("used")
    ring.begin("idle")
    for turn in range(20):
        assert ring.steps([("used", 0)], None) == [2 * turn]
        walk(ring, "used", 0, range(2 * turn, 2 * turn + 1))
        if turn == 0:
            walk(ring, "idle", 0, range(1))
        if turn > 2:
            ring.begin(f"other {turn}")
    for row in (0, 1):  # the second was never seen: only the reset of the whole client spoke for it
        with pytest.raises(DataError, match=f"robot {row} of idle, which was never reset"):
            ring.steps([("idle", row)], None)


def test_reset_clears_a_client_or_some_of_its_rows() -> None:
    ring = Ring(OFFSETS, every=2)
    for client in ("a", "b"):
        ring.begin(client)
        for row in (0, 1):
            walk(ring, client, row, range(0, 5, 2))
    ring.begin("a", [1])
    robots = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert ring.steps(robots, None) == [6, 0, 6, 6]
    ring.begin("a")
    assert ring.steps(robots, None) == [0, 0, 6, 6]
    assert ring.past(robots[2:], [6, 6]).valid.all()


def test_controls_replace_the_past_and_nothing_else() -> None:
    wiped = Wiped(OFFSETS)
    assert walk(wiped, "", 0, range(9)) is None
    with pytest.raises(DataError, match="never step 12"):
        wiped.past([("", 0)], [14])
    other = [{step: moment(9 + n, step)[0] for step in range(0, 5)} for n in range(5)]
    borrowed, own = Borrowed(OFFSETS, other), Ring(OFFSETS)
    chosen = set()
    for seed in range(30):
        borrowed.begin(seed=seed)
        own.begin(seed=seed)
        for step in range(10):
            a, b = borrowed.past([("", 0)], [step]), own.past([("", 0)], [step])
            assert (a is None) == (b is None)
            if a is not None:
                assert torch.equal(a.valid, b.valid)
                says = a.values[0, :, 0, 0][a.valid[0]]
                assert (says // 100).unique().numel() == 1, "one episode at a time"
                assert (says % 100).tolist() == [min(step + o, 4) for o in OFFSETS if step + o >= 0]
                chosen.add(float(says[0] // 100))
            for ring in (borrowed, own):
                ring.keep([("", 0)], [step], moment(0, step))
    assert chosen == {9, 10, 11, 12, 13}
    for bad in ([], [{1: moment(0, 1)[0]}]):
        with pytest.raises(ConfigError, match="from step 0 on"):
            Borrowed(OFFSETS, bad)
