"""A policy that acts from captured graphs gives the chunks of the eager one, whatever it is shown.

No card here: `tape.py` records and repeats the kernels. What CUDA adds, one launch for all of them, is not tested.
"""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from launches import Launches
from remembering import ALONE, MEMORY, SVMS, remembering, scene
from tape import Tapes

from svms_gr00t.cli.serve import Serve
from svms_gr00t.core.history import EARLIER
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.fast.acting import BUCKET, Captured
from svms_gr00t.fast.joined import join, joined
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped

KINDS = {"plain": {"use_sheaf_streams": False}, "SVMS": SVMS, "SVMS with memory": MEMORY, "memory alone": ALONE}
NEAR = 1e-5
"""Of chunks of size 1; angles, pixels and noise are float32 whatever the weights are."""
WORDS = ("Pick up the red cube.", "Open the left drawer and put the mug into it, then close it.", "Stop.")


def fast(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Policy, Policy, Tapes]:
    """An eager policy, the same from graphs, and what its graphs were asked."""
    eager, other, tapes = remembering(KINDS[kind], dtype), remembering(KINDS[kind], dtype), Tapes()
    other.sampler = Captured(other.sampler, tapes)
    return eager, other, tapes


def apart(a: Any, b: Any) -> float:
    return max(float(np.abs(np.asarray(a[key]) - np.asarray(b[key])).max()) for key in a)


def same(a: tuple[list[dict], dict], b: tuple[list[dict], dict], near: float = NEAR) -> bool:
    """Chunks and evidence; of equal shapes, as numpy would broadcast others."""
    numbers = [key for key in a[1] if key != "tokens"]
    shapes = all(a[1][key].shape == b[1][key].shape for key in numbers)
    return (
        shapes
        and a[1].get("tokens") == b[1].get("tokens")
        and max(apart(x, y) for x, y in zip(a[0], b[0], strict=True)) < near
        and all(apart({key: a[1][key]}, {key: b[1][key]}) < near for key in numbers)
    )


@pytest.mark.parametrize(
    ("kind", "dtype", "near"),
    [*((kind, torch.float64, NEAR) for kind in KINDS), ("SVMS with memory", torch.float32, 1e-4)],
)
def test_an_episode_is_the_eager_one_from_one_graph(kind: str, dtype: torch.dtype, near: float) -> None:
    eager, captured, tapes = fast(kind, dtype)
    seen = []
    for policy in (eager, captured):
        policy.reset(0)
        seen.append([policy.act([scene(0, t, step=t), scene(1, t, step=t)], seeds=[t, 7]) for t in range(0, 25, 4)])
    assert all(same(a, b, near) for a, b in zip(*seen, strict=True))
    assert (tapes.captures, tapes.replays) == (1, 7), "the first step, before which nothing came, shares it"
    assert apart(seen[1][0][0][0], seen[1][1][0][0]) > 3 * near, "else the check could not fail"


def test_in_bfloat16_a_graph_is_as_close_to_the_truth_as_the_eager_policy() -> None:
    exact, (eager, captured, _) = remembering(SVMS, torch.float64), fast("SVMS", torch.bfloat16)
    errors: list[list[float]] = [[], []]
    for t in range(8):
        truth, *others = (p.act([scene(t, t)], seeds=[t])[0][0] for p in (exact, eager, captured))
        for one, found in zip(errors, others, strict=True):
            one.append(apart(truth, found))
    assert np.mean(errors[1]) < 1.5 * np.mean(errors[0])


def test_prompts_of_one_bucket_share_a_graph_and_others_get_their_own() -> None:
    eager, captured, tapes = fast("SVMS")
    length = {words: len(eager.prepare([scene(0, 0, **{INSTRUCTION: words})])[1].input_ids[0]) for words in WORDS}
    for turn in range(2):
        for words in WORDS:
            for rows in (1, 3):
                shown = [scene(turn, row) | {INSTRUCTION: words} for row in range(rows)]
                assert same(eager.act(shown, seeds=range(rows)), captured.act(shown, seeds=range(rows))), words
    buckets = {-(-tokens // BUCKET) for tokens in length.values()}
    full = {tokens % BUCKET == 0 for tokens in length.values()}
    assert len(set(length.values())) == 3 > len(buckets) >= 2, length
    assert full == {False}
    assert (tapes.captures, tapes.replays) == (2 * len(buckets), 12)


def test_rows_of_unequal_prompts_and_one_that_fills_its_bucket() -> None:
    eager, captured, tapes = fast("SVMS with memory")
    for turn in range(2):
        shown = [scene(turn, row, step=0) | {INSTRUCTION: words} for row, words in enumerate(WORDS)]
        for policy in (eager, captured):
            policy.reset(0)
        assert same(eager.act(shown, seeds=[1, 2, 3]), captured.act(shown, seeds=[1, 2, 3]))
    assert tapes.captures == 1
    exact = len(eager.prepare([scene(0, 0)])[1].input_ids[0])
    captured.sampler.bucket = exact
    for policy in (eager, captured):
        policy.reset(0)
    assert same(eager.act([scene(0, 0, step=0)], seeds=[1]), captured.act([scene(0, 0, step=0)], seeds=[1]))


def test_padding_that_counted_would_show() -> None:
    eager, captured, _ = fast("SVMS")
    shown = [scene(0, 0)]
    captured.act(shown, seeds=[1])
    (graph,) = captured.sampler.graphs.values()
    masks = [one for one in graph.buffers if one.dtype == torch.bool and one.shape[-1] % BUCKET == 0]
    assert masks
    captured.sampler.capture = None  # nothing may be captured anew
    original = torch.Tensor.copy_

    def forgets(self: torch.Tensor, value: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        return self.fill_(True) if any(self is one for one in masks) else original(self, value, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", forgets)
        wrong = captured.act(shown, seeds=[1])
    assert not same(eager.act(shown, seeds=[1]), wrong)


def test_what_cannot_be_captured_acts_eagerly_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    eager, captured, tapes = fast("SVMS")
    forward = type(captured.model.svms).forward

    def waits(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = forward(self, *args, **kwargs)
        assert said.rho.sum().item() >= 0  # the host asks for a value
        return said

    captured.model.svms.forward = waits.__get__(captured.model.svms)
    for turn in range(3):
        assert same(eager.act([scene(0, turn)], seeds=[1]), captured.act([scene(0, turn)], seeds=[1]))
    assert (tapes.captures, tapes.replays) == (1, 0)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("svms_gr00t.fast")]
    assert len(lines) == 1
    assert "cannot be captured (operation not permitted" in lines[0]
    assert "act eagerly" in lines[0]


def test_recorded_pasts_are_no_robot_and_act_eagerly() -> None:
    eager, captured, tapes = fast("SVMS with memory")
    shown = [scene(0, 8) | {EARLIER: (None, scene(0, 0), scene(0, 4))}]
    assert same(eager.act(shown, seeds=[1]), captured.act(shown, seeds=[1]))
    assert tapes.captures == 0


def test_self_attention_takes_one_product_in_a_graph_and_three_outside() -> None:
    model = remembering(SVMS, torch.float64).model
    (attend, *_) = (block.attn1 for block in model.action_head.model.blocks if block.reads == "self")
    x = torch.randn(2, 5, attend.to_q.in_features, dtype=torch.float64)
    names, weights = list(model.state_dict()), join(model)
    with torch.no_grad(), Launches("cpu") as apart_log:
        expected = attend(x)
    with torch.no_grad(), joined(model, weights), Launches("cpu") as joined_log:
        torch.testing.assert_close(attend(x), expected, rtol=1e-12, atol=1e-12)
        assert list(model.state_dict()) == names
    assert apart_log.kernels["addmm"] - joined_log.kernels["addmm"] == 2
    with pytest.raises(KeyError), joined(model, weights):
        raise KeyError
    assert attend.joined is None


@pytest.mark.parametrize("change", ["in place", "moved"])
@pytest.mark.parametrize("part", ["time", "joined"])
def test_changed_weights_are_noticed(part: str, change: str) -> None:
    eager, captured, tapes = fast("SVMS")
    first = captured.act([scene(0, 0)], seeds=[1])
    for policy in (eager, captured):
        dit = policy.model.action_head.model
        weight = dit.timestep_encoder.timestep_embedder.linear_1.weight
        weight = weight if part == "time" else dit.blocks[1].attn1.to_v.weight
        with torch.no_grad():
            weight.mul_(3) if change == "in place" else setattr(weight, "data", weight.data * 3)
    now = captured.act([scene(0, 0)], seeds=[1])
    assert same(eager.act([scene(0, 0)], seeds=[1]), now)
    assert not same(first, now)
    assert same(now, captured.act([scene(0, 0)], seeds=[1]))
    assert tapes.captures == 2


def test_a_hook_inside_the_model_is_heard() -> None:
    eager, captured, tapes = fast("SVMS")
    shown = [scene(0, 0)]
    usual = captured.act(shown, seeds=[1])
    handles = [
        policy.model.svms.merge.register_forward_hook(lambda _m, _i, said: torch.zeros_like(said))
        for policy in (eager, captured)
    ]
    without = captured.act(shown, seeds=[1])
    assert same(eager.act(shown, seeds=[1]), without)
    assert not same(usual, without)
    for handle in handles:
        handle.remove()
    assert same(usual, captured.act(shown, seeds=[1]))
    assert tapes.captures == 1


def test_what_the_backbone_said_is_told_as_by_the_eager_policy() -> None:
    eager, captured, _ = fast("SVMS")
    for turn in range(2):
        for policy in (eager, captured):
            policy.act([scene(turn, 0)], seeds=[1])
        assert torch.equal(eager.seen.image_mask, captured.seen.image_mask)
        torch.testing.assert_close(eager.seen.tokens, captured.seen.tokens, rtol=NEAR, atol=NEAR)


def test_blocks_that_do_not_compile_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def refuses(graph: Any, inputs: Any) -> Any:
        asked.append(1)
        raise OSError("no compiler here")

    usual = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: usual(self, backend=refuses, **how))
    policy = remembering(SVMS, compiled=True)
    plain = remembering(SVMS).act([scene(0, 0)], seeds=[1])
    for _ in range(2):
        assert same(plain, policy.act([scene(0, 0)], seeds=[1]), 1e-12)
    assert asked == [1]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("svms_gr00t.fast")]
    assert len(lines) == 1
    assert "no compiler here" in lines[0]


@pytest.mark.slow
def test_compiled_blocks_give_the_same_chunks() -> None:
    policy, plain = remembering(MEMORY, compiled=True), remembering(MEMORY)
    calls = [one.act([scene(0, 0, step=0)], seeds=[1]) for one in (plain, policy)]
    assert same(*calls, 1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_the_server_passes_both_on(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr("svms_gr00t.fast.acting.compile_blocks", compiled.append)
    served = Serve(model_path=str(shipped("tiny_base")), device="cpu", fast=True, compile=True)._service().policy
    assert compiled == [served.model]
    assert "acting eagerly, the same chunks" in caplog.text


def test_without_a_card_fast_is_eager_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        policy = remembering(SVMS, fast=True)
    assert [r.getMessage() for r in caplog.records] == [
        "fast: only CUDA captures graphs and this policy is on cpu: acting eagerly, the same chunks"
    ]
    chunks = [one.act([scene(0, 0)], seeds=[1])[0][0] for one in (policy, remembering(SVMS))]
    assert apart(*chunks) == 0
