"""A policy with memory acts on what training saw: by environment steps, for each robot alone."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from remembering import ALONE, MEMORY, OFFSETS, STRIDE, batched, remembering, scene

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.history import EARLIER
from svms_gr00t.core.types import Past
from svms_gr00t.policy import Policy

STEPS = tuple(range(0, 25, STRIDE))
both = pytest.mark.parametrize("config", [MEMORY, ALONE], ids=["svms", "alone"])


@pytest.fixture(scope="module")
def policy() -> Policy:
    return remembering()


def gap(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(a[key] - b[key]).max()) for key in a)


def drive(policy: Policy, episodes: tuple[int, ...], steps: tuple[int, ...] = STEPS) -> list[list[dict]]:
    """Chunks by step and robot, from the start of an episode."""
    policy.reset(0)
    return [policy.act([scene(e, t, step=t) for e in episodes], seeds=[e + 1 for e in episodes])[0] for t in steps]


def replayed(policy: Policy, episode: int, step: int, shift: int = 0) -> dict[str, np.ndarray]:
    """The chunk from the whole past, read `shift` steps beside where it was."""
    past = tuple(scene(episode, step + o + shift) if step + o >= 0 else None for o in OFFSETS)
    return policy.act([scene(episode, step) | {EARLIER: past}], seeds=[episode + 1])[0][0]


def by_glances(policy: Policy, episode: int, step: int) -> torch.Tensor:
    """The normalised chunk from a past made without `Earlier` and without a ring."""
    model = policy.model
    earlier = [policy.prepare([scene(episode, max(step + o, 0))])[1] for o in OFFSETS]
    looks = [model.glance(one) for one in earlier]
    past = Past(
        tokens=torch.stack([tokens for tokens, _ in looks], 1),
        mask=torch.stack([mask for _, mask in looks], 1),
        state=torch.stack([one.state for one in earlier], 1),
        valid=torch.tensor([[step + o >= 0 for o in OFFSETS]]),
    )
    _, inputs = policy.prepare([scene(episode, step)])
    return model.sample(replace(inputs, past=past), noise=policy._noise(inputs, [episode + 1])).action


# In bfloat16 a batch of two and one of one round differently, 8 bits a number; chunks are of size 1.
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)], ids=["fp32", "bf16"])
@both
def test_step_by_step_is_the_whole_past(config: dict[str, Any], dtype: torch.dtype, near: float) -> None:
    policy = remembering(config, dtype)
    acted = drive(policy, (0, 1))
    wrong = []
    for step, chunks in zip(STEPS, acted, strict=True):
        for episode, chunk in enumerate(chunks):
            assert gap(chunk, replayed(policy, episode, step)) < near, step
            decoded = policy.processor.decode(by_glances(policy, episode, step))
            assert gap(chunk, {key: rows[0] for key, rows in decoded.items()}) < near
            wrong.append(gap(chunk, replayed(policy, episode, step, shift=1)))
    assert max(wrong[2:]) > near, "the check above must be able to fail: one step beside is another past"
    assert max(wrong[:2]) < near, "nothing comes before the first step"


@both
def test_robots_and_clients_share_nothing_and_their_order_does_not_matter(config: dict[str, Any]) -> None:
    policy = remembering(config)
    alone = [[chunks[0] for chunks in drive(policy, (e,))] for e in (0, 1)]
    together, turned = drive(policy, (0, 1)), drive(policy, (1, 0))
    for i in range(len(STEPS)):
        for episode in (0, 1):
            assert gap(together[i][episode], alone[episode][i]) < 1e-5
            assert gap(turned[i][1 - episode], alone[episode][i]) < 1e-5
    for order in ((0, 1), (1, 0)):
        for episode in order:
            policy.reset({"client": str(episode)})
        for i, step in enumerate(STEPS):
            for episode in order:
                options = {"client": str(episode), "seed": 0, "seeds": [episode + 1]}
                chunk, _ = policy.get_action(batched([scene(episode, step, step=step)]), options)
                assert gap({key: rows[0] for key, rows in chunk.items()}, alone[episode][i]) < 1e-5
    swapped = drive(policy, (1,))[-2:]  # mutant: what one robot saw would show
    assert gap(replayed(policy, 0, STEPS[-1]), swapped[-1][0]) > 1e-3


def test_a_batch_of_environments_resets_row_by_row(policy: Policy) -> None:
    whole = [chunks[0] for chunks in drive(policy, (0,))]
    begins = 8  # the second environment begins again there
    policy.reset(0)
    for i, step in enumerate(STEPS):
        if step == begins:
            policy.reset({"rows": [1]})
        episode, at = (1, step) if step < begins else (2, step - begins)
        seen = batched([scene(0, step, step=step), scene(episode, at, step=at)])
        chunk, _ = policy.get_action(seen, {"seeds": [1, episode + 1]})
        rows = [{key: values[row] for key, values in chunk.items()} for row in (0, 1)]
        assert gap(rows[0], whole[i]) < 1e-5, "the first goes on as if nothing had happened"
        assert gap(rows[1], replayed(policy, episode, at)) < 1e-5
    policy.reset(0)
    policy.get_action(batched([scene(0, 0, step=0), scene(1, 0, step=0)]))
    only, _ = policy.get_action(batched([scene(1, 4, step=4)]), {"rows": [1], "seeds": [2]})
    assert gap({key: rows[0] for key, rows in only.items()}, replayed(policy, 1, 4)) < 1e-5
    for options in ({"rows": [0, 0]}, {"rows": [0]}, {"rows": [0, -2]}):
        with pytest.raises(DataError, match=r"options.rows: .* different numbers"):
            policy.get_action(batched([scene(0, 0, step=0), scene(1, 0, step=0)]), options)


def test_a_step_that_does_not_follow_is_refused_and_harms_nothing(policy: Policy) -> None:
    def ask(step: Any) -> dict[str, np.ndarray]:
        return policy.act([scene(0, abs(step) if isinstance(step, int) else 0, step=step)], seeds=[1])[0][0]

    policy.reset(0)
    with pytest.raises(DataError, match=r"step 40 of robot 0, of which nothing is remembered.*restarted"):
        ask(40)
    first = [ask(step) for step in (0, 4, 8)]
    with pytest.raises(DataError, match=r"step 4 of robot 0 after step 8.*Reset"):
        ask(4)
    with pytest.raises(DataError, match=r"step 16 of robot 0, but never step 12"):
        ask(16)
    with pytest.raises(DataError, match=r"step 13 of robot 0, but never step 9"):
        ask(13)
    for wrong in (-4, 1.5, True, "4", [4, 8]):
        with pytest.raises(DataError, match=r"step"):
            ask(wrong)
    assert gap(ask(8), first[2]) == 0, "a lost answer can be asked for again"
    assert gap(ask(12), replayed(policy, 0, 12)) < 1e-5
    with pytest.raises(DataError, match=r"1 of 2 observations with a step"):
        policy.act([scene(0, 16, step=16), scene(1, 16)], seeds=[1, 2])
    policy.reset(0)
    assert gap(ask(0), first[0]) == 0
    # An episode may begin late: what would lie before it is hidden as in training.
    policy.reset(0)
    assert gap(ask(3), replayed(policy, 0, 3)) < 1e-5
    assert gap(ask(7), replayed(policy, 0, 7)) < 1e-5


def test_who_cannot_say_the_step_declares_how_many_are_executed(policy: Policy) -> None:
    with pytest.raises(DataError, match=r'found an observation without its step.*"step".*execution_horizon'):
        policy.act([scene(0, 0)], seeds=[1])
    counted = remembering(execution_horizon=STRIDE)
    with pytest.raises(DataError, match=r"robot 0, which was never reset"):
        counted.act([scene(0, 0)], seeds=[1])
    expected = drive(policy, (0, 1))
    counted.reset(0)
    for i, step in enumerate(STEPS):
        if i == 3:  # a request that fails does not count
            with pytest.raises(DataError):
                counted.act([{}, {}], seeds=[1, 2])
        chunks, _ = counted.act([scene(e, step) for e in (0, 1)], seeds=[1, 2])
        assert max(gap(a, b) for a, b in zip(chunks, expected[i], strict=True)) == 0
    for every in (3, 8, 0):
        with pytest.raises(ConfigError, match=r"execution_horizon = \d, but need a divisor of the memory's stride, 4"):
            remembering(execution_horizon=every)


def test_what_is_replayed_is_whole_and_touches_no_ring(policy: Policy) -> None:
    policy.reset(0)
    policy.act([scene(0, 0, step=0)], seeds=[1])
    for past, got in (((None, None), "2 earlier"), ((), "0 earlier")):
        with pytest.raises(DataError, match=got):
            policy.act([scene(0, 4) | {EARLIER: past}], seeds=[1])
    with pytest.raises(DataError, match=r"1 of 2 observations"):
        policy.act([scene(0, 4) | {EARLIER: (None,) * 3}, scene(0, 4)], seeds=[1, 2])
    replayed(policy, 5, 20)
    assert gap(policy.act([scene(0, 4, step=4)], seeds=[1])[0][0], replayed(policy, 0, 4)) < 1e-5


def test_flow_loss_reads_the_past_and_refuses_an_empty_one(policy: Policy) -> None:
    chunk = {"arm": np.zeros((4, 3)), "gripper": np.zeros((4, 1))}

    def loss(past: tuple) -> float:
        return float(policy.flow_loss([scene(0, 12) | {EARLIER: past}], [chunk], seeds=[3])[0])

    own = tuple(scene(0, 12 + offset) for offset in OFFSETS)
    assert loss(own) == loss(own)
    assert loss(own) != loss((None,) * 3)
    assert loss(own) != loss(own[::-1])
    with pytest.raises(DataError, match="no earlier steps"):
        policy.flow_loss([scene(0, 12)], [chunk], seeds=[3])


def test_a_policy_without_memory_ignores_steps() -> None:
    plain = remembering({})
    chunks = [plain.act([scene(0, 0, step=step)], seeds=[1])[0][0] for step in (40, 8, 0)]
    assert all(gap(a, b) == 0 for a, b in pairwise(chunks))
    assert plain.read([scene(0, 0, step=40)])[0].step == (40,)
    assert plain.read([scene(0, 0)])[0].step is None
