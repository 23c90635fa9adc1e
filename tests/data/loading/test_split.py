from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.metadata import Episode
from svms_gr00t.data.loading.split import split_episodes


def episodes(*tasks: str) -> list[Episode]:
    return [Episode(index=3 * i, length=5, tasks=(task,)) for i, task in enumerate(tasks)]


cases = st.lists(st.sampled_from("abcd"), min_size=2, max_size=40)


@settings(max_examples=100, deadline=None)
@given(tasks=cases, share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_a_split_is_a_partition_with_both_parts_inhabited(tasks, share, seed):
    every = episodes(*tasks)
    split = split_episodes(every, validation=share, seed=seed)
    assert split.train
    assert split.validation
    assert sorted(split.train + split.validation) == [e.index for e in every]
    assert abs(len(split.validation) - share * len(every)) <= 1
    assert split == split_episodes(every[::-1], validation=share, seed=seed)  # file order does not matter


def test_every_task_gives_its_share_and_keeps_training_episodes():
    every = episodes(*("a" * 20 + "b" * 10 + "c" * 10 + "d"))
    split = split_episodes(every, validation=0.2)
    held = Counter(e.tasks[0] for e in every if e.index in split.validation)
    assert held == {"a": 4, "b": 2, "c": 2}
    by_chance = Counter(e.tasks[0] for e in every[:8])  # mutant: the first eight are all of one task
    assert by_chance != held


@settings(max_examples=100, deadline=None)
@given(tasks=cases, share=st.floats(0.05, 0.5), seed=st.integers(0, 9), data=st.data())
def test_mending_an_episode_moves_no_other(tasks, share, seed, data):
    """The mended one joins a side; each of the others stays where it was, unless its side would be empty."""
    every = episodes(*tasks)
    whole = split_episodes(every, validation=share, seed=seed)
    few = max(1, len(every) // 4)
    broken = set(data.draw(st.lists(st.sampled_from([e.index for e in every]), max_size=few)))
    if len(every) - len(broken) < 2:
        return
    split = split_episodes(every, validation=share, seed=seed, broken=broken)
    assert split.train
    assert split.validation
    assert sorted((*split.train, *split.validation)) == [e.index for e in every if e.index not in broken]
    if set(whole.train) - broken and set(whole.validation) - broken:
        assert set(split.train) == set(whole.train) - broken
        assert set(split.validation) == set(whole.validation) - broken


def test_dealing_the_sound_episodes_alone_would_move_them():
    """Mutant: leaving the broken one out before the shuffle deals the others anew."""
    every = episodes(*"a" * 20)
    whole = set(split_episodes(every, validation=0.3).validation)
    moved = [set(split_episodes(every[:k] + every[k + 1 :], validation=0.3).validation) for k in range(20)]
    assert any(one - whole for one in moved)


def test_a_task_gives_up_its_last_episode_only_when_there_is_nothing_else():
    """Five tasks of one episode and one of five: the five give what they have but one, then singles must."""
    every = episodes(*"abcde", *"f" * 5)
    of = {e.index: e.tasks[0] for e in every}
    for seed in range(20):
        for count in range(1, 10):
            split = split_episodes(every, validation=count / 10, seed=seed)
            given = Counter(of[i] for i in split.validation)
            assert sum(given.values()) == count
            assert given["f"] == min(count, 4) or (count > 4 and given["f"] == 5)
            if count <= 4:
                assert set(given) == {"f"}


def test_every_task_gives_an_equal_share_whatever_its_size():
    """Ranks (k + 1/2) / s: of tasks with 30, 20 and 10 episodes a tenth gives 3, 2 and 1; ranks k / s or (k + 1) / s
    would let small tasks give first or last."""
    every = episodes(*("a" * 30 + "b" * 20 + "c" * 10))
    of = {e.index: e.tasks[0] for e in every}
    for seed in range(5):
        for share, expected in ((0.1, (3, 2, 1)), (0.5, (15, 10, 5)), (0.05, (2, 1, 0))):
            held = Counter(of[i] for i in split_episodes(every, validation=share, seed=seed).validation)
            assert tuple(held[task] for task in "abc") == pytest.approx(expected, abs=0 if share > 0.05 else 1)
    few = episodes(*("a" * 30 + "b" * 3))
    held = Counter("a" if i < 90 else "b" for i in split_episodes(few, validation=0.1).validation)
    assert held == {"a": 3}, "1/60, 3/60 and 5/60 come before 1/6"
    held = Counter("a" if i < 90 else "b" for i in split_episodes(few, validation=7 / 33).validation)
    assert held == {"a": 6, "b": 1}, "and 1/6 before 11/60"


def test_the_seed_matters():
    every = episodes(*"a" * 40)
    assert split_episodes(every, seed=0) != split_episodes(every, seed=1)
    assert split_episodes(every) == split_episodes(every, validation=0.1, seed=0), "a tenth, unless asked otherwise"


def test_refusals_say_what_is_needed():
    with pytest.raises(DataError, match="at least two"):
        split_episodes(episodes("a"))
    with pytest.raises(ConfigError, match="0 < validation < 1"):
        split_episodes(episodes("a", "b"), validation=1.0)
