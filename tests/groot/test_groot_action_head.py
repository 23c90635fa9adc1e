"""The action head: its shortcuts are exact, padding and missing images do no harm, the flow matches its formulas."""

from dataclasses import fields, replace

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config
from scipy.stats import beta, kstest

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Features, places
from svms_gr00t.groot.action_head import PLAIN, ActionHead, Shortcuts, on_path
from svms_gr00t.groot.attention import choose
from svms_gr00t.groot.dit import block_reads

EXACT = {"atol": 1e-12, "rtol": 1e-11}
OFF = {f.name: replace(Shortcuts(), **{f.name: False}) for f in fields(Shortcuts)} | {"all": PLAIN}
DITS = {"alternate": {}, "plain": {"use_alternate_vl_dit": False}}


def features_of(batch) -> Features:
    gen = torch.Generator().manual_seed(2)
    tokens = torch.randn(*batch.input_ids.shape, 16, generator=gen, dtype=torch.float64)
    return Features(tokens=tokens, mask=batch.attention_mask, image_mask=(batch.input_ids == 90) & batch.attention_mask)


def outcome(head: ActionHead, batch, features: Features | None = None) -> list[torch.Tensor]:
    """Loss, sampled chunk, and the gradient of the loss with respect to features and to two weights."""
    features = features_of(batch) if features is None else features
    tokens = features.tokens.clone().requires_grad_()
    noise = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    time = torch.tensor([0.1, 0.55, 0.99], dtype=torch.float64)
    flow = head.loss(replace(features, tokens=tokens), batch, noise=noise, time=time)
    watched = [tokens, head.action_encoder.W2.W, head.model.transformer_blocks[0].norm1.linear.weight]
    gradients = torch.autograd.grad(flow.loss, watched)
    chunk = head.sample(features, batch.state, batch.embodiment_id, noise=noise)
    return [flow.loss, flow.velocity, chunk, *gradients]


@pytest.fixture(params=DITS)
def head(request, build) -> ActionHead:
    return build(**DITS[request.param]).action_head


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("embodiments", [(2, 0, 2), (1, 1, 1)], ids=["mixed", "one"])
def test_shortcuts_change_nothing(head, off, embodiments):
    batch = replace(ragged_batch(), embodiment_id=torch.tensor(embodiments))
    lean = outcome(head, batch)
    head.shortcuts = OFF[off]
    for ours, plain in zip(lean, outcome(head, batch), strict=True):
        torch.testing.assert_close(ours, plain, **EXACT)


def test_the_shortcut_test_can_fail(build):
    head, batch = build().action_head, ragged_batch()
    lean = outcome(head, batch)
    head.shortcuts = PLAIN
    for block in head.model.transformer_blocks:
        block.reads = {"text": "image", "image": "text"}.get(block.reads, block.reads)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(outcome(head, batch)[2], lean[2], **EXACT)


def test_reused_schedule_gives_the_same_chunk(head, batch):
    features, noise = features_of(batch), torch.randn(3, 4, 5, dtype=torch.float64)
    one = replace(batch, embodiment_id=torch.tensor([1, 1, 1]))
    with torch.no_grad():
        schedule = head.schedule(head.observe(features, one.state, one.embodiment_id).rows)
    fresh = head.sample(features, one.state, one.embodiment_id, noise=noise)
    assert torch.equal(head.sample(features, one.state, one.embodiment_id, noise=noise, schedule=schedule), fresh)


def test_aremembered_schedule_follows_the_weights(build, batch):
    """Training may go on between two calls: every weight that the schedule reads makes it anew."""
    head, features = build().action_head, features_of(batch)
    one, noise = torch.tensor([1, 1, 1]), torch.randn(3, 4, 5, dtype=torch.float64)

    def act(embodiment_id: torch.Tensor = one) -> torch.Tensor:
        return head.sample(features, batch.state, embodiment_id, noise=noise)

    first = act()
    made = head.remembered
    assert torch.equal(act(), first)
    assert head.remembered is made
    for weight in (head.model.proj_out_1.bias, head.model.blocks[3].norm1.linear.weight, head.action_encoder.W2.b):
        with torch.no_grad():
            weight.add_(0.1)
        again = act()
        assert not torch.equal(again, first)
        head.remembered = None
        assert torch.equal(act(), again)
        first = again
    assert not torch.equal(act(torch.tensor([2, 2, 2])), first)


@pytest.mark.parametrize("gather", [True, False])
def test_padding_cannot_leak_even_as_nan(head, batch, gather):
    head.shortcuts = replace(Shortcuts(), gather=gather)
    features = features_of(batch)
    clean = outcome(head, batch, features)
    poisoned = features.tokens.masked_fill(~features.mask[..., None], float("nan"))
    dirty = outcome(head, batch, replace(features, tokens=poisoned))
    for before, after in zip(clean[:3] + clean[4:], dirty[:3] + dirty[4:], strict=True):
        torch.testing.assert_close(after, before, **EXACT)


def test_the_reference_plain_dit_reads_padding_and_ours_can(build, batch):
    features = features_of(batch)
    moved = replace(features, tokens=features.tokens + torch.randn(3, 8, 16) * ~features.mask[..., None])
    for hides in (True, False):
        head = build(use_alternate_vl_dit=False, mask_padding=hides).action_head
        same = torch.allclose(outcome(head, batch)[2], outcome(head, batch, moved)[2])
        assert same is hides


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("nothing", ["images in one row", "images at all", "text", "tokens"])
def test_a_row_with_nothing_to_read_gets_zero_attention(build, batch, gather, nothing):
    head, features = build().action_head, features_of(batch)
    head.shortcuts = replace(Shortcuts(), gather=gather)
    off, mask = torch.zeros_like(features.mask), features.mask
    if nothing == "images at all":
        features = replace(features, image_mask=off)
    elif nothing == "text":
        features = replace(features, image_mask=mask)
    elif nothing == "tokens":
        features = replace(features, mask=off, image_mask=off)
    for value in outcome(head, batch, features):
        assert torch.isfinite(value).all()
    observation = head.observe(features, batch.state, batch.embodiment_id)
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    image_block = head.model.transformer_blocks[2]
    if nothing != "text":
        out = image_block.attn1(x, observation.context[2])
        torch.testing.assert_close(out[2], image_block.attn1.to_out[0].bias.expand(5, 16))


def test_choosing_keeps_order_and_drops_the_rest():
    values = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 1, 0]]).bool()
    chosen = choose(values, mask, places(mask))
    assert chosen.values[..., 0].tolist() == [[1, 3, 4], [6, 10, 0]]
    assert chosen.mask[:, 0, 0].tolist() == [[True] * 3, [True, True, False]]
    even = mask.roll(1, 1) & mask.roll(1, 1)[[1, 0]]
    assert choose(values, even, places(even)).mask is None
    roomy = choose(values, mask, places(mask, width=5))  # as a captured graph keeps room
    assert roomy.values[..., 0].tolist() == [[1, 3, 4, 0, 0], [6, 10, 0, 0, 0]]
    assert roomy.mask[:, 0, 0].tolist() == [[True] * 3 + [False] * 2, [True] * 2 + [False] * 3]


def test_blocks_read_by_their_number_even_when_all_widths_are_equal(build):
    assert block_reads(tiny_config(dit={"num_layers": 8})) == ("text", "self", "image", "self") * 2
    every = tiny_config(dit={"num_layers": 6}, attend_text_every_n_blocks=3)
    assert block_reads(every) == ("text", "self", "image", "self", "image", "self")
    plain = tiny_config(use_alternate_vl_dit=False, dit={"interleave_self_attention": False, "num_layers": 2})
    assert block_reads(plain) == ("all", "all")
    head, batch = build().action_head, ragged_batch()
    assert outcome(head, batch)[3].abs().sum() > 0  # the flow loss reaches the features


def test_loss_is_the_masked_mean_of_the_flow_error(head, batch):
    noise, time = torch.randn(3, 4, 5, dtype=torch.float64), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    with torch.no_grad():
        flow = head.loss(features_of(batch), batch, noise=noise, time=time)
    error = 0.0
    for b in range(3):
        for h in range(3):  # the fourth step is masked
            error += sum((flow.velocity[b, h, d] - (batch.action - noise)[b, h, d]) ** 2 for d in range(5)).item()
    assert flow.loss.item() == pytest.approx(error / (3 * 3 * 5 + 1e-6))
    assert flow.per_element[:, 3].abs().sum() == 0


def test_the_target_is_the_velocity_of_the_path_that_noises():
    """d x_tau / d tau by automatic differentiation; the path begins in the noise and ends in the action."""
    noise, action = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    time = torch.tensor([0.0, 0.25, 0.999], dtype=torch.float64)
    point, velocity = on_path(noise, action, time)
    _, derivative = torch.func.jvp(lambda t: on_path(noise, action, t)[0], (time,), (torch.ones_like(time),))
    torch.testing.assert_close(velocity, derivative)
    assert torch.equal(point[0], noise[0])
    torch.testing.assert_close(point[1], 0.75 * noise[1] + 0.25 * action[1])
    assert torch.equal(on_path(noise, action, torch.ones(3, dtype=torch.float64))[0], action)


def test_actions_are_needed_for_a_loss(head, batch):
    with pytest.raises(DataError, match="action"):
        head.loss(features_of(batch), replace(batch, action=None))


def test_sampler_is_four_euler_steps(build, batch):
    head, features = build().action_head, features_of(batch)
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    x = noise
    with torch.no_grad():
        for bucket in (0, 250, 500, 750):
            observation = head.observe(features, batch.state, batch.embodiment_id)
            x = x + head.velocity(observation, x, head.timing(torch.full((3,), bucket), observation.rows)) / 4
    torch.testing.assert_close(head.sample(features, batch.state, batch.embodiment_id, noise=noise), x, **EXACT)


def test_the_generator_decides_everything(build, batch):
    head, features = build().action_head, features_of(batch)
    draws = [
        (
            head.sample(features, batch.state, batch.embodiment_id, generator=torch.Generator().manual_seed(seed)),
            head.loss(features, batch, generator=torch.Generator().manual_seed(seed)).loss,
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0][0], draws[1][0])
    assert draws[0][1] == draws[1][1]
    assert not torch.equal(draws[0][0], draws[2][0])
    assert draws[0][1] != draws[2][1]


@pytest.mark.parametrize("shape", [(1.5, 1.0), (1.5, 2.5)])
def test_flow_times_follow_the_beta_law(build, shape):
    head = build(noise_beta_alpha=shape[0], noise_beta_beta=shape[1]).action_head
    tau = head.draw_time(20_000, generator=torch.Generator().manual_seed(0))
    assert tau.min() >= 0
    assert tau.max() <= 0.999
    assert kstest(1 - tau.double().numpy() / 0.999, beta(*shape).cdf).pvalue > 0.01
    assert kstest(1 - tau.double().numpy() / 0.999, beta(shape[0] * 1.1, shape[1]).cdf).pvalue < 0.01


def test_state_dropout_hides_the_state_in_training_only(build, batch):
    head, features = build(state_dropout_prob=1.0, dit={"dropout": 0.0}).action_head, features_of(batch)
    moved = replace(batch, state=batch.state + 1)
    noise, time = torch.randn(3, 4, 5, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)

    def loss(inputs) -> torch.Tensor:
        return head.loss(features, inputs, noise=noise, time=time).loss

    assert loss(batch) != loss(moved)
    head.train()
    assert loss(batch) == loss(moved)
    assert build().action_head.mask_token is None


def test_dropout_acts_in_training_only(build, batch):
    head, features = build(dit={"dropout": 0.3}).action_head, features_of(batch)
    noise, time = torch.randn(3, 4, 5, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    quiet = [head.loss(features, batch, noise=noise, time=time).loss for _ in range(2)]
    head.train()
    noisy = [head.loss(features, batch, noise=noise, time=time).loss for _ in range(2)]
    assert quiet[0] == quiet[1]
    assert noisy[0] != noisy[1]
    # Two dropouts in a row keep (1 - p)^2 of the values, scaled by its inverse.
    assert head.model.transformer_blocks[0].dropout.p == pytest.approx(1 - 0.7**2)
