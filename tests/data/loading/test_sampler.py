import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.loading.sampler import Draw, ResumableSampler

streams = st.builds(ResumableSampler, st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(sampler=streams, taken=st.integers(0, 20))
def test_a_resume_gives_the_very_next_batch(sampler, taken):
    for _ in range(taken):
        next(sampler)
    expected = [next(sampler) for _ in range(5)]
    resumed = ResumableSampler(sampler.length, sampler.batch_size, sampler.seed)
    resumed.batch = taken
    assert [next(resumed) for _ in range(5)] == expected
    if sampler.length > 8:  # mutant: one batch late is another stream
        resumed.batch = taken + 1
        assert [next(resumed) for _ in range(5)] != expected


@settings(max_examples=60, deadline=None)
@given(sampler=streams)
def test_each_epoch_holds_every_index_once(sampler):
    drawn: list[Draw] = []
    while len(drawn) < 3 * sampler.length:
        drawn += next(sampler)
    for epoch in range(3):
        part = drawn[epoch * sampler.length : (epoch + 1) * sampler.length]
        assert sorted(part) == list(range(sampler.length))
        assert {draw.epoch for draw in part} == {epoch}


def test_epochs_and_seeds_shuffle_differently():
    first, second = (next(ResumableSampler(50, 100, seed)) for seed in (0, 1))
    assert first[:50] != first[50:]
    assert first[:50] != second[:50]
    assert first[:50] != list(range(50))


def test_seed_and_epoch_begin_at_zero():
    assert next(ResumableSampler(50, 50)) == next(ResumableSampler(50, 50, 0))
    assert Draw(3).epoch == 0


def test_iterating_is_the_same_stream():
    by_next, by_iter = ResumableSampler(10, 4, 3), ResumableSampler(10, 4, 3)
    assert [next(by_next) for _ in range(6)] == [batch for batch, _ in zip(by_iter, range(6), strict=False)]


@pytest.mark.parametrize("arguments", [(0, 4), (4, 0)])
def test_an_empty_stream_is_refused(arguments):
    with pytest.raises(ConfigError, match="at least 1"):
        ResumableSampler(*arguments)


def test_a_draw_is_an_index_that_survives_processes():
    draw = pickle.loads(pickle.dumps(Draw(3, 7)))
    assert ("abcde"[draw], draw.epoch, draw == 3) == ("d", 7, True)
    assert copy.deepcopy(draw).epoch == 7
