"""A few bytes may not buy gigabytes, and who only holds the line loses its place; robots and people are let through."""

import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.serve.limits import Limits, check_exposure, check_size
from svms_gr00t.serve.places import LOBBY, RESERVE, Place, Places


def frames(height: int, width: int, robots: int = 1) -> dict[str, Any]:
    return {"video": {"left": np.broadcast_to(np.uint8(0), (robots, 1, height, width, 3))}}


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ({"language": {"task": [["go"]] * 100_000}}, "100000 robots"),
        ({"task": ["go"] * 65}, "65 robots"),
        ({"state.joints": np.zeros((65, 1, 7), np.float32)}, "65 robots"),
        ({"language": {"task": [["x" * 5000]]}}, "5000 letters"),
        ({"task": "x" * 5000}, "5000 letters"),
        ({"language": {"task": np.array([["x" * 5000]])}}, "5000 letters"),
        (frames(1, 80_000_000), "1 x 80000000"),
        ({"video.left": np.broadcast_to(np.uint8(0), (1, 1, 3, 8192, 8192))}, "8192 x 8192"),
        (frames(3000, 300), "3000 x 300"),
        (frames(8192, 8192), "8192 x 8192"),
    ],
    ids=[
        "robots",
        "flat robots",
        "states",
        "long text",
        "long flat text",
        "array",
        "one row",
        "first",
        "narrow",
        "huge",
    ],
)
def test_what_asks_too_much_is_refused(observation: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_size(observation, Limits())


def test_what_robots_send_is_let_through(observation: dict[str, Any]) -> None:
    check_size(observation, Limits())
    check_size(frames(1080, 1920, robots=64) | {"task": ["open the left drawer"] * 64}, Limits())
    check_size({"video.left": np.zeros((1, 1, 3, 96, 128)), "task": np.array(["open the left drawer"])}, Limits())
    check_size({"odd": {"very": {"deep": [[[[["text"]]]]]}}}, Limits())


def test_limits_and_hosts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_robots"):
        Limits(max_robots=0)
    for host in ("127.0.0.1", "localhost", "::1"):
        check_exposure(host, None)
    for host in ("0.0.0.0", "*", "192.168.0.7", ""):
        with pytest.raises(ConfigError, match="loopback interface, or a token"):
            check_exposure(host, None)
        check_exposure(host, "secret")


LIMITS = Limits(max_clients=2, silent_s=0.05, idle_s=60.0, max_bytes=1000)


class Gone(list[str]):
    """Names of those that lost their place, in order."""

    def enter(self, places: Places, name: str) -> Place | None:
        return places.enter(lambda: self.append(name))

    def client(self, places: Places, name: str) -> Place:
        place = self.enter(places, name)
        assert place is not None
        assert places.admit(place)
        return place


def test_a_newcomer_takes_the_place_of_the_one_that_was_silent_longest() -> None:
    places, gone = Places(LIMITS, descriptors=100), Gone()
    gone.client(places, "first")
    time.sleep(0.06)
    gone.client(places, "second")
    newcomer = gone.enter(places, "third")
    assert newcomer is not None
    assert places.admit(newcomer)
    assert gone == ["first"]
    assert places.clients == 2
    late = gone.enter(places, "fourth")
    assert late is not None
    assert not places.admit(late), "nobody has been silent for long"
    assert gone == ["first"]


def test_who_was_answered_or_waits_for_it_stays() -> None:
    places, gone = Places(LIMITS, descriptors=100), Gone()
    robot, asking = gone.client(places, "robot"), gone.client(places, "asking")
    robot.answered(0, well=True)
    asking.waiting += 10
    time.sleep(0.06)
    late = gone.enter(places, "late")
    assert late is not None
    assert not places.admit(late)
    robot.since -= 61
    assert places.admit(late), "a robot that asked nothing for a minute is idle too"
    assert gone == ["robot"]


def test_who_was_only_told_of_errors_is_silent() -> None:
    places, gone = Places(LIMITS, descriptors=100), Gone()
    for name in ("wrong", "again"):
        place = gone.client(places, name)
        place.waiting += 1
        place.answered(1, well=False)
    time.sleep(0.06)
    gone.client(places, "good")
    assert gone == ["wrong"]


def test_places_end_before_the_descriptors() -> None:
    places, gone = Places(LIMITS, descriptors=1), Gone()
    gone.enter(places, "first")
    assert gone.enter(places, "second") is None, "nobody has been silent for long"
    time.sleep(0.06)
    assert gone.enter(places, "third") is not None
    assert gone == ["first"]
    assert (places.lost, places.refused) == (1, 1)


def test_a_process_with_few_descriptors_has_few_places() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = psutil.Process().num_fds()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + RESERVE + 20, hard))
        assert 15 <= Places(Limits()).most <= 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Places(Limits()).most <= Limits().max_clients + LOBBY


def test_the_lobby_is_bounded_too() -> None:
    places, gone = Places(replace(LIMITS, silent_s=60.0), descriptors=10_000), Gone()
    room = LOBBY + LIMITS.max_clients
    assert [gone.enter(places, str(i)) for i in range(room + 1)].count(None) == 1
    place = gone.enter(Places(replace(LIMITS, max_clients=9), descriptors=10_000), "elsewhere")
    assert place is not None


def test_bytes_of_all_together_are_bounded_and_the_greediest_goes() -> None:
    places, gone = Places(LIMITS, descriptors=100), Gone()
    robot, attacker = gone.client(places, "robot"), gone.client(places, "attacker")
    robot.waiting = 5000  # bounded where it is queued
    robot.hold(700)
    attacker.hold(1300)
    places.weigh()
    assert gone == []
    robot.reading = 1
    places.weigh()
    assert gone == ["attacker"]


def test_a_large_message_that_comes_in_outlasts_half_messages_that_stay() -> None:
    places, gone = Places(LIMITS, descriptors=100), Gone()
    robot, attacker = gone.client(places, "robot"), gone.client(places, "attacker")
    attacker.hold(700)
    attacker.holds_since -= 1.0
    robot.hold(1400)
    places.weigh()
    assert gone == ["attacker"]
    robot.hold(0)
    robot.holds_since -= 9.0
    robot.hold(10)
    assert time.monotonic() - robot.holds_since < 1, "what it holds now is new"


def test_who_was_not_listened_to_is_not_called_silent() -> None:
    """A loop that is a second late has had no time to read what came in meanwhile."""
    places, gone = Places(LIMITS, descriptors=1), Gone()
    gone.enter(places, "first")
    places.lags(1.0)
    time.sleep(0.06)
    assert gone.enter(places, "second") is None
    assert gone == []
    for _ in range(100):
        places.lags(0.0)  # it is in time again
    assert gone.enter(places, "third") is not None
    assert gone == ["first"]


def test_silence_counts_from_the_end_of_the_handshake() -> None:
    places, gone = Places(LIMITS, descriptors=1), Gone()
    first = gone.enter(places, "first")
    assert first is not None
    time.sleep(0.06)
    first.progressed()
    assert gone.enter(places, "second") is None
