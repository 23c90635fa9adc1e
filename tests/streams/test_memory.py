"""What memory owes: fresh it says nothing, hidden steps are nowhere, the present alone is read, ages add up to one."""

import copy

import pytest
import torch

from svms_gr00t.streams.memory import Memory, MemorySize, visible

B, T, K, D, Q = 3, 7, 4, 12, 3
SIZE = MemorySize(
    steps=K, streams=(1,), d_stream=D, moments=Q - 1, layers=2, dropout_p=0.5, state_dim=6, state_width=10, chunk=(4, 5)
)


def trained(size: MemorySize = SIZE) -> Memory:
    """Every weight away from its special start."""
    memory = Memory(size).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return memory.eval()


def streams() -> torch.Tensor:
    return torch.randn(B, T, 1, D, dtype=torch.float64)


def moments(steps: int | None = None) -> torch.Tensor:
    return torch.randn(*((B, Q, D) if steps is None else (B, steps, Q, D)), dtype=torch.float64)


def valid() -> torch.Tensor:
    """One episode just begun, one half remembered, one longer than the window."""
    return torch.arange(K) >= torch.tensor([[K], [K // 2], [0]])


# ---- fresh


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_memory_changes_no_bit_and_says_nothing(dtype):
    memory = Memory(SIZE).to(dtype).eval()
    x, now, past = (v.to(dtype) for v in (streams(), moments(), moments(K)))
    found = memory(x, now, past, valid())
    assert torch.equal(found.streams, x)
    assert not found.offset.any()
    torch.nn.init.normal_(memory.read_out.weight)
    assert not torch.equal(memory(x, now, past, valid()).streams, x), "the check must be able to fail"


# ---- causality and hiding


def test_hidden_steps_reach_nothing_not_even_as_nan():
    memory, x, now, past = trained(), streams(), moments(), moments(K)
    clean = memory(x, now, past, valid())
    for poison in (1e6, float("nan")):
        dirty = memory(x, now, torch.where(valid()[:, :, None, None], past, poison), valid())
        for name in ("present", "streams", "offset", "ages"):
            assert torch.equal(getattr(clean, name), getattr(dirty, name)), name


def test_each_step_that_is_seen_matters():
    memory, x, now, past = trained(), streams(), moments(), moments(K)
    everything = torch.ones(B, K, dtype=torch.bool)
    clean = memory(x, now, past, everything)
    for step in range(K):
        changed = past.clone()
        changed[:, step] = torch.randn_like(changed[:, step])
        other = memory(x, now, changed, everything)
        assert (other.present - clean.present).abs().amax((1, 2)).min() > 1e-6
        assert (other.offset - clean.offset).abs().amax(1).min() > 1e-6


def test_a_past_step_never_sees_a_later_one():
    memory, past = trained(), moments(K)
    rows = torch.cat([past, moments()[:, None]], 1).flatten(1, 2)
    sees = visible(torch.ones(B, K, dtype=torch.bool), Q)
    changed = rows.clone()
    changed[:, 3 * Q :] = torch.randn_like(changed[:, 3 * Q :])
    (before, _), (after, _) = memory.mixer[0](rows, sees), memory.mixer[0](changed, sees)
    assert torch.equal(before[:, : 3 * Q], after[:, : 3 * Q])
    assert not torch.equal(before[:, 3 * Q :], after[:, 3 * Q :])


def test_visibility_is_the_slow_definition():
    here = torch.cat([valid(), torch.ones(B, 1, dtype=torch.bool)], 1)
    found = visible(valid(), Q)
    for b in range(B):
        for i in range((K + 1) * Q):
            for j in range((K + 1) * Q):
                allowed = i // Q == j // Q or (j // Q < i // Q and bool(here[b, j // Q]))
                assert bool(found[b, i, j]) == allowed


def test_nothing_before_equals_everything_hidden():
    memory, x, now = trained(), streams(), moments()
    empty = memory(x, now, None, None)
    hidden = memory(x, now, moments(K), torch.zeros(B, K, dtype=torch.bool))
    assert torch.equal(empty.present, hidden.present)
    assert torch.equal(empty.ages, hidden.ages)


def test_attention_over_ages_sums_to_one_on_valid_steps_alone():
    found = trained()(streams(), moments(), moments(K), valid())
    torch.testing.assert_close(found.ages.sum(1), torch.ones(B, dtype=torch.float64))
    assert not found.ages[:, :K][~valid()].any()
    assert (found.ages[:, :K][valid()] > 0).all()


# ---- rows, dropout


def test_rows_of_a_batch_never_meet():
    memory, x, now, past = trained(), streams(), moments(), moments(K)
    whole = memory(x, now, past, valid())
    order = torch.tensor([2, 0, 1])
    shuffled = memory(x[order], now[order], past[order], valid()[order])
    for name in ("present", "streams", "offset", "ages"):
        torch.testing.assert_close(getattr(shuffled, name), getattr(whole, name)[order])


def test_dropout_hides_whole_steps_in_training_only():
    memory, x, now, past = trained().train(), streams(), moments(), moments(K)
    everything = torch.ones(B, K, dtype=torch.bool)
    hidden = torch.stack([memory(x, now, past, everything).ages[:, :K] == 0 for _ in range(200)]).double()
    assert 0.45 < hidden.mean() < 0.55  # p = 0.5; 2,400 draws have a deviation of 0.01
    assert not (memory.eval()(x, now, past, everything).ages == 0).any()
    assert torch.equal(memory(x, now, past, everything).offset, memory(x, now, past, everything).offset)


# ---- pooling


def test_pooling_reads_the_masked_tokens_alone_and_a_frame_without_any_keeps_its_state():
    memory, x = trained(), streams()
    state = torch.randn(B, 1, 6, dtype=torch.float64)
    mask = torch.rand(B, T) > 0.5
    mask[0], mask[1, 0] = False, True
    found = memory.pool(x, mask, state)
    poisoned = memory.pool(torch.where(mask[:, :, None, None], x, float("nan")), mask, state)
    assert torch.equal(found, poisoned)
    assert not found[0, :-1].any()
    assert found[0, -1].any()
    order = torch.randperm(T)
    torch.testing.assert_close(memory.pool(x[:, order], mask[:, order], state), found)  # a set, not a sequence


def test_pooling_is_the_slow_definition():
    memory, x, state = trained(), streams(), torch.randn(B, 1, 6, dtype=torch.float64)
    found = memory.pool(x, torch.ones(B, T, dtype=torch.bool), state)
    for b in range(B):
        keys, values = memory.keys(x[b, :, 0]), memory.values(x[b, :, 0])
        for q in range(Q - 1):
            weights = (keys @ memory.queries[0, q] / D**0.5).softmax(0)
            torch.testing.assert_close(found[b, q], weights @ values)


# ---- learning


def test_flow_and_recall_reach_every_weight_that_they_should():
    memory = copy.deepcopy(trained()).train()
    x, state = streams(), torch.randn(B, 1, 6, dtype=torch.float64)
    everything = torch.ones(B, K, dtype=torch.bool)

    def heard(read: str) -> set[str]:
        memory.zero_grad()
        seen = torch.ones(B, T, dtype=torch.bool)
        past = torch.stack([memory.pool(streams(), seen, state) for _ in range(K)], 1)
        found = memory(x, memory.pool(x, seen, state), past, everything)
        out = (
            memory.tells(found.present)
            if read == "recall"
            else found.streams.sum((2, 3)) + found.offset.sum(1)[:, None]
        )
        out.square().sum().backward()
        return {name for name, p in memory.named_parameters() if p.grad is not None and p.grad.any()}

    names = {name for name, _ in memory.named_parameters()}
    tell, reads = {n for n in names if n.startswith("recall.")}, ("ask.", "tell.", "read_out.", "state_out.")
    assert heard("flow") == names - tell
    assert heard("recall") == {n for n in names if not n.startswith(reads)}


def test_asking_for_the_last_rows_alone_gives_those_of_all():
    memory = trained().double()
    rows, sees = torch.randn(B, (K + 1) * Q, D, dtype=torch.double), visible(valid(), Q)
    layer = memory.mixer[0]
    (everything, weights), (last, own) = layer(rows, sees), layer(rows, sees, asking=Q)
    torch.testing.assert_close(last, everything[:, -Q:], rtol=0, atol=1e-12)
    torch.testing.assert_close(own, weights[:, -Q:], rtol=0, atol=1e-12)
