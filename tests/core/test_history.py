"""What a robot keeps of an episode: the steps its policy looks back to, by the environment's own count."""

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.history import NOW, History


def seen(step: int) -> dict[str, object]:
    picture = np.full((4, 4, 3), step, np.uint8)
    return {"video.front": picture, "state.arm": np.array([step, -step], np.float64), "annotation.task": "open"}


def values(array: np.ndarray) -> list[int]:
    return [int(one.flat[0]) for one in array]


@pytest.mark.parametrize("last", [0, 3, 15, 16, 40])
def test_an_observation_holds_the_steps_that_the_definition_says(last: int) -> None:
    history = History(video=(-15, 0), state=(-4, -1, 0))
    for step in range(last + 1):
        history.see(step, seen(step))
    found = history.at(last)
    assert values(found["video.front"]) == [max(last - 15, 0), last]
    assert values(found["state.arm"]) == [max(last + offset, 0) for offset in (-4, -1, 0)]
    assert found["annotation.task"] == "open"
    assert len(history._seen) <= 15 + 2


def test_without_a_past_everything_is_handed_on_as_it_is() -> None:
    history, given = History(), seen(7)
    history.see(7, given)
    assert history.offsets == {"video": NOW, "state": NOW}
    assert all(history.at(7)[key] is value for key, value in given.items())
    asked = history.request(7)
    assert asked["video.front"].shape == (1, 1, 4, 4, 3)
    assert (asked["state.arm"].shape, asked["state.arm"].dtype) == ((1, 1, 2), np.float32)
    assert asked["annotation.task"] == ["open"]


def test_a_picture_drawn_into_the_same_memory_does_not_change_the_past() -> None:
    history, buffer = History(video=(-1, 0)), np.zeros((4, 4, 3), np.uint8)
    for step in range(3):
        buffer[:] = step
        history.see(step, {"video.front": buffer})
    assert values(history.at(2)["video.front"]) == [1, 2]


@pytest.mark.parametrize("every", [1, 4, 8])
@pytest.mark.parametrize("video", [(0,), (-15, 0), (-3, -2), (-8, 0)])
def test_pictures_are_drawn_where_they_are_looked_at_and_nowhere_else(every: int, video: tuple[int, ...]) -> None:
    history, needed = History(video=video), set()
    for step in range(0, 48, every):
        needed |= {max(step + offset, 0) for offset in video}
    horizon = 48 + min(video)  # what steps beyond the loop above would look at does not count
    assert {step for step in range(horizon) if history.needs_pictures(step, every)} == {
        s for s in needed if s < horizon
    }
    for step in range(48):
        one = seen(step) if history.needs_pictures(step, every) else {}
        history.see(step, {"video.front": one["video.front"]} if one else {"state.arm": np.zeros(2)})
        if step % every == 0 and 0 in video:
            assert len(history.at(step)["video.front"]) == len(video) or video == NOW


def test_a_robot_that_joins_late_repeats_the_first_it_saw() -> None:
    history = History(video=(-15, 0))
    for step in (100, 101):
        history.see(step, seen(step))
    assert values(history.at(101)["video.front"]) == [100, 101]
    history.reset()
    history.see(0, seen(0))
    assert values(history.at(0)["video.front"]) == [0, 0]


def test_a_step_that_was_not_seen_is_named_and_never_replaced() -> None:
    history = History(video=(-2, 0))
    for step in (0, 1, 4):
        history.see(step, seen(step))
    with pytest.raises(DataError, match=r"no video.front of step 2"):
        history.at(4)
    with pytest.raises(DataError, match=r"step 4 after step 4"):
        history.see(4, seen(4))
    with pytest.raises(ConfigError, match=r"video delta_indices = \(-2, 1\)"):
        History(video=(-2, 1))


def test_a_client_a_policy_and_what_wraps_it_are_asked_how_far_they_look() -> None:
    class Client:
        def get_modality_config(self) -> dict[str, dict[str, list[int]]]:
            return {"video": {"delta_indices": [-15, 0]}, "state": {"delta_indices": [0]}}

    class Wrapper:
        policy = Client()

    for one in (Client(), Wrapper()):
        assert History.of(one).offsets == {"video": (-15, 0), "state": (0,)}
    assert History.of(object()).offsets == {"video": (0,), "state": (0,)}
