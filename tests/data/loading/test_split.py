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


def test_the_seed_matters():
    every = episodes(*"a" * 40)
    assert split_episodes(every, seed=0) != split_episodes(every, seed=1)


def test_refusals_say_what_is_needed():
    with pytest.raises(DataError, match="at least two"):
        split_episodes(episodes("a"))
    with pytest.raises(ConfigError, match="0 < validation < 1"):
        split_episodes(episodes("a", "b"), validation=1.0)
