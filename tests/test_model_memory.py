"""The model with memory: fresh it is plain to the bit, acting step by step reads what training reads, off is off."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config

from svms_gr00t.core.errors import ConfigError, TrainingError
from svms_gr00t.core.types import ModelInputs, Moments, Past
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import train_phase
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.phases import COUPLE, END_TO_END, SPECIALISE, loss_weights
from svms_gr00t.train.trainable import prepare

K = 3
SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}
MEMORY = SVMS | {"memory_offsets": (-12, -8, -4), "memory_moments": 2, "memory_layers": 1}
ALONE = MEMORY | {"memory_only": True}
both = pytest.mark.parametrize("config", [MEMORY, ALONE], ids=["svms", "alone"])


def build(config: dict[str, object], dtype: torch.dtype = torch.float32, *, trained: bool = False) -> Gr00tN1d6:
    """The plain weights of seed 0, with whatever the configuration adds; `trained` moves what starts at zero."""
    torch.manual_seed(0)
    plain = Gr00tN1d6(tiny_config())
    model = Gr00tN1d6(tiny_config(**config))
    model.load_state_dict(plain.state_dict(), strict=False)
    if trained:
        with torch.no_grad():
            for parameter in model.svms.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def step(number: int, dtype: torch.dtype = torch.float32) -> ModelInputs:
    """The observation of three robots at a step: other pictures and states, the same words."""
    batch, source = ragged_batch(dtype), torch.Generator().manual_seed(number)
    images = tuple((i + 0.3 * torch.randn(i.shape, generator=source).to(dtype)).clamp(-1, 1) for i in batch.images)
    state = batch.state + 0.3 * torch.randn(batch.state.shape, generator=source).to(dtype)
    return replace(batch, images=images, state=state)


def past(model: Gr00tN1d6, steps: list[ModelInputs], valid: torch.Tensor) -> Past:
    """Earlier steps, oldest first, as training carries them."""
    looks = [model.glance(one) for one in steps]
    return Past(
        tokens=torch.stack([tokens for tokens, _ in looks], 1),
        mask=torch.stack([mask for _, mask in looks], 1),
        state=torch.stack([one.state for one in steps], 1),
        valid=valid,
    )


VALID = torch.tensor([[False, False, False], [False, True, True], [True, True, True]])


def act(model: Gr00tN1d6, inputs: ModelInputs) -> torch.Tensor:
    return model.sample(inputs, noise=torch.ones(3, 4, 5, dtype=inputs.state.dtype)).action


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "config", [MEMORY, MEMORY | {"memory_streams": ("state", "visual")}, ALONE], ids=["one", "two", "alone"]
)
def test_a_fresh_memory_acts_like_the_plain_model_to_the_bit(dtype, config):
    model = build(config, dtype)
    now = step(9, dtype)
    expected = act(build({}, dtype), now)
    remembering = replace(now, past=past(model, [step(k, dtype) for k in range(K)], VALID))
    assert torch.equal(act(model, remembering), expected)
    assert torch.equal(act(model, now), expected)
    torch.nn.init.normal_(model.svms.memory.state_out.weight)
    assert not torch.equal(act(model, remembering), expected), "the check must be able to fail"


def test_off_leaves_no_trace():
    model = build(SVMS)
    assert not [name for name in model.state_dict() if "memory" in name]
    assert not [name for name in model.config.to_dict() if "memory" in name or "recall" in name]
    assert "recall" not in model(step(0)).terms
    assert "memory_offsets" in build(MEMORY).config.to_dict()
    assert not build(ALONE).config.has_streams
    assert Gr00tN1d6Config.from_dict(build(ALONE).config.to_dict()) == build(ALONE).config
    assert build(MEMORY | {"use_sheaf_streams": False}).svms is None, "one flag gives the plain model back"
    with pytest.raises(ConfigError, match="memory_only"):
        tiny_config(**SVMS, memory_only=True)


@both
def test_acting_step_by_step_is_reading_the_whole_past(config):
    model = build(config, torch.float64, trained=True)
    steps = [step(k, torch.float64) for k in range(K + 2)]
    ring = [model.sample(one).features.recalled.moments for one in steps]  # moments depend on their own step alone
    for now in range(K, K + 2):
        before, everything = steps[now - K : now], torch.ones(3, K, dtype=torch.bool)
        whole = act(model, replace(steps[now], past=past(model, before, everything)))
        kept = Moments(values=torch.stack(ring[now - K : now], 1), valid=everything)
        torch.testing.assert_close(act(model, replace(steps[now], past=kept)), whole, rtol=0, atol=1e-12)
        assert (act(model, replace(steps[now], past=past(model, before[::-1], everything))) - whole).abs().max() > 1e-6


@both
def test_rows_without_a_past_act_as_at_the_start_and_others_do_not(config):
    model = build(config, trained=True)
    now = step(9)
    alone, remembering = act(model, now), act(model, replace(now, past=past(model, [step(k) for k in range(K)], VALID)))
    assert torch.equal(alone[0], remembering[0])
    assert not torch.equal(alone[1], remembering[1])
    assert not torch.equal(alone[2], remembering[2])


@both
def test_recall_is_the_error_of_what_memory_alone_expects(config):
    model = build(config, trained=True)
    batch = replace(step(9), past=past(model, [step(k) for k in range(K)], VALID))
    output = model(batch, noise=torch.zeros(3, 4, 5), time=torch.zeros(3))
    told = model.svms.memory.tells(model.encode(batch)[0].recalled.present)
    expected = (told - batch.action)[batch.action_mask.bool()].square().mean()
    torch.testing.assert_close(output.terms["recall"], expected)
    for phase in (SPECIALISE, COUPLE, END_TO_END):
        weights = loss_weights(phase, model.config, 0, 0.1, labels=False)
        assert weights["recall"] == model.config.lambda_recall
        assert total_loss(output.terms, weights).isfinite()


@both
@pytest.mark.parametrize("phase", [SPECIALISE, COUPLE, END_TO_END], ids=lambda p: p.name)
def test_gradients_reach_memory_and_nothing_frozen(phase, config):
    model = build(config, trained=True)
    parameters = prepare(model, phase)
    batch = replace(step(9), past=past(model, [step(k) for k in range(K)], torch.ones(3, K, dtype=torch.bool)))
    output = model(batch, noise=torch.zeros(3, 4, 5), time=torch.full((3,), 0.5))
    (output.terms["flow"] + output.terms["recall"]).backward()
    heard = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    wanted = "svms." if config is ALONE else "svms.memory."
    assert {name for name, _ in model.named_parameters() if name.startswith(wanted)} <= heard
    assert heard <= parameters.keys()


def test_nothing_trains_on_an_empty_memory(tmp_path: Path):
    """It would learn that nothing ever came before, and nobody would be told."""
    model = build(MEMORY)
    with pytest.raises(TrainingError, match="a batch without a past"):
        train_phase(model, replace(COUPLE, steps=1), lambda number: step(number), RunDir(tmp_path))
    remembering = replace(step(9), past=past(model, [step(k) for k in range(K)], VALID))
    assert train_phase(model, replace(COUPLE, steps=1), lambda number: remembering, RunDir(tmp_path))


def test_memory_starts_fresh_on_checkpoints_without_it_and_comes_back(tmp_path: Path):
    now = step(9)
    for name, config, new in (("plain", {}, MEMORY), ("svms", SVMS, MEMORY), ("alone", {}, ALONE)):
        old = build(config, trained=name == "svms")
        old.save_pretrained(tmp_path / name)
        model = Gr00tN1d6.from_pretrained(tmp_path / name, config=tiny_config(**new))
        remembering = replace(now, past=past(model, [step(k) for k in range(K)], VALID))
        assert torch.equal(act(model, remembering), act(old, now)), name
    model = build(MEMORY, trained=True)
    again = Gr00tN1d6.from_pretrained(model.save_pretrained(tmp_path / "memory"))
    assert again.config == model.config
    assert all(torch.equal(again.state_dict()[n], v) for n, v in model.state_dict().items())


def test_losses_of_each_sample_make_up_the_batch_s_and_hear_no_other_sample() -> None:
    model = build(MEMORY, trained=True)
    now = step(9)
    mask = torch.ones_like(now.state.new_zeros(3, 4, 5))
    mask[1, 2:] = 0
    action = torch.randn(3, 4, 5)
    inputs = replace(now, past=past(model, [step(n) for n in range(K)], VALID), action=action, action_mask=mask)
    drawn = {"noise": torch.randn(3, 4, 5), "time": torch.tensor([0.2, 0.5, 0.8])}
    output = model(inputs, **drawn)
    share = mask.sum((1, 2)) / mask.sum()
    assert set(output.by_sample) == {"flow", "recall"}
    for name, own in output.by_sample.items():
        torch.testing.assert_close((own * share).sum(), output.terms[name], rtol=1e-5, atol=1e-6)
    moved = action.clone()
    moved[2] += 1
    other = model(replace(inputs, action=moved), **drawn).by_sample
    for name, own in output.by_sample.items():
        assert (own - other[name]).abs().gt(1e-4).tolist() == [False, False, True], name
