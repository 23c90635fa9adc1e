"""Recorded episodes are judged with their past replayed: what training saw is what acting step by step remembers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from toy_dataset import LENGTHS, write_toy
from toy_samples import build, equal

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import EARLIER, History
from svms_gr00t.core.protocols import fixed_seed
from svms_gr00t.core.types import Earlier
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.evaluate.open_loop.recorded import Recorded, control, recorded, remembered
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.evaluate.open_loop.trajectories import trace
from svms_gr00t.evaluate.streams.looks import look, look_at_episodes
from svms_gr00t.memories import Ring
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.evidence import read_streams
from svms_gr00t.recipes.training.presets import preset

OFFSETS = (-4, -2)
CONFIG = OpenLoopConfig(horizon=4, executed=2, stride=2, batch_size=4, seed=3)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> SampleDataset:
    return build(write_toy(tmp_path_factory.mktemp("replay") / "toy"), memory=OFFSETS)[1]


@pytest.fixture
def policy(steps: SampleDataset) -> Policy:
    sizes = {"max_state_dim": 6, "max_action_dim": 6, "action_horizon": 4, "max_num_embodiments": 16}
    torch.manual_seed(0)
    model = Gr00tN1d6(preset("tiny").config(steps.processor.tokenizer, **sizes, memory_offsets=OFFSETS))
    with torch.no_grad():
        model.action_head.action_decoder.layer2.W.normal_()
        for parameter in model.svms.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return Policy(model, steps.processor)


def judge(policy: Policy, steps: SampleDataset, episodes: Sequence[int] = (0, 2), **changes: Any) -> OpenLoopResult:
    statistics = steps.processor.statistics["new_embodiment"]
    config = OpenLoopConfig(**(vars(CONFIG) | changes))
    return evaluate_open_loop(policy, steps.dataset, list(episodes), statistics=statistics, config=config)


def act(policy: Policy, steps: SampleDataset, episode: int) -> np.ndarray:
    """(steps looked at, H, D): step by step, as a robot would be asked."""
    policy.reset(7)
    seen = recorded(steps.dataset, episode)
    chunks = []
    for step in range(0, LENGTHS[episode], CONFIG.stride):
        (chunk,), _ = policy.act(seen.at([step]), seeds=[fixed_seed(CONFIG.seed, episode, step)])
        chunks.append(chunk["arm"])
    return np.stack(chunks)


def replay(policy: Policy, steps: SampleDataset, episode: int, **changes: Any) -> np.ndarray:
    states = recorded(steps.dataset, episode).states
    texts = steps.dataset.instructions(episode)
    seen = Recorded(steps.dataset, episode, states, texts, History.of(policy), **changes)
    wanted = list(range(0, LENGTHS[episode], CONFIG.stride))
    chunks, _ = policy.act(seen.at(wanted), seeds=[fixed_seed(CONFIG.seed, episode, step) for step in wanted])
    return np.stack([chunk["arm"] for chunk in chunks])


def test_open_loop_is_acting_step_by_step(policy: Policy, steps: SampleDataset) -> None:
    statistics = steps.processor.statistics["new_embodiment"]
    acted = act(policy, steps, 0)
    np.testing.assert_allclose(replay(policy, steps, 0), acted, atol=1e-4)
    drawn = trace(policy, steps.dataset, 0, statistics=statistics, config=CONFIG).predicted["arm"]
    np.testing.assert_allclose(drawn, acted[:, : CONFIG.executed].reshape(-1, 3)[: LENGTHS[0]], atol=1e-4)
    wiped = replay(policy, steps, 0, wiped=True)
    np.testing.assert_allclose(wiped[0], acted[0], atol=1e-4)
    assert np.abs(wiped[2:] - acted[2:]).max() > 1e-2, "the check must be able to fail"


def test_what_is_replayed_is_what_training_saw(policy: Policy, steps: SampleDataset) -> None:
    seen = Recorded(
        steps.dataset, 0, recorded(steps.dataset, 0).states, steps.dataset.instructions(0), History.of(policy)
    )
    wanted = [0, 1, 3, 6, 11]
    _, inputs = policy.prepare(seen.at(wanted))
    trained = steps.batch(wanted)
    assert isinstance(inputs.past, Earlier)
    assert torch.equal(inputs.past.valid, trained.past.valid)
    for row in range(len(wanted)):
        for offset in range(len(OFFSETS)):
            if inputs.past.valid[row, offset]:
                a, b = (one.steps.state[one.place[row, offset]] for one in (inputs.past, trained.past))
                assert torch.equal(a, b)
                a, b = (one.steps.images[int(one.place[row, offset])] for one in (inputs.past, trained.past))
                assert torch.equal(a, b)
    once = {int(step) for row in wanted for step in (row - 4, row - 2) if step >= 0}
    assert len(inputs.past.steps.state) == len(once), "a step that several look back to is encoded once"


def test_a_wiped_or_swapped_past_is_another_result_and_the_own_one_the_default(
    policy: Policy, steps: SampleDataset
) -> None:
    found = {memory: judge(policy, steps, memory=memory) for memory in ("own", "wiped", "swapped")}
    assert found["own"].scores.mse == judge(policy, steps).scores.mse
    assert len({one.scores.mse for one in found.values()}) == 3
    assert len({one.scores.flow_loss for one in found.values()}) == 3
    with pytest.raises(DataError, match=r"episode 1 alone.*another one with the instruction 'open the door'"):
        judge(policy, steps, [0, 1, 2], memory="swapped")


def test_a_borrowed_memory_acts_as_the_swapped_replay(policy: Policy, steps: SampleDataset) -> None:
    own = act(policy, steps, 0)
    control(policy, "swapped", steps.dataset, [2])
    borrowed = act(policy, steps, 0)
    lent = replay(policy, steps, 0, lender=recorded(steps.dataset, 2))
    reach = LENGTHS[2] // CONFIG.stride  # after its end the lender stands still: there the two stand differently
    np.testing.assert_allclose(borrowed[:reach], lent[:reach], atol=1e-4)
    assert np.abs(borrowed - own).max() > 1e-2
    control(policy, "wiped")
    np.testing.assert_allclose(act(policy, steps, 0), replay(policy, steps, 0, wiped=True), atol=1e-4)
    policy.memories = Ring(OFFSETS)
    np.testing.assert_array_equal(act(policy, steps, 0), own)
    assert [sorted(one) for one in remembered(policy, steps.dataset, [0, 1])] == [[*range(0, 12, 2)], [*range(0, 7, 2)]]


def test_nothing_reads_the_streams_with_an_empty_memory(policy: Policy, steps: SampleDataset) -> None:
    looks = look_at_episodes(policy, steps.dataset, [0], stride=4)
    whole = recorded(steps.dataset, 0, History.of(policy))
    forgotten = [seen | {EARLIER: (None,) * len(OFFSETS)} for seen in whole.at([4])]
    assert looks[0].rho != float(look(policy, forgotten)[0]["edges"].mean())
    report, _ = read_streams(policy.model, steps)
    bare = build(steps.dataset.root)[1]
    assert equal(bare.batch([5]), steps.batch([5])), "the same samples"
    with pytest.raises(DataError, match="samples without a past"):
        read_streams(policy.model, bare)
    assert np.isfinite([one.mean for one in report.rho.values()]).all()
