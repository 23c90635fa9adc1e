"""The whole model: SVMS fresh is the plain model to the bit; checkpoints come back; every part hears the flow loss."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6

SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}


def pair() -> tuple[Gr00tN1d6, Gr00tN1d6]:
    """A plain model, and the same weights with a fresh SVMS."""
    torch.manual_seed(0)
    plain = Gr00tN1d6(tiny_config())
    svms = Gr00tN1d6(tiny_config(**SVMS))
    svms.load_state_dict(plain.state_dict(), strict=False)
    return plain.eval(), svms.eval()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_fresh_svms_acts_like_the_plain_model_to_the_bit(dtype: torch.dtype) -> None:
    plain, svms = (model.to(dtype) for model in pair())
    batch = ragged_batch(dtype)
    expected = plain.sample(batch, generator=seeded()).action
    assert torch.equal(svms.sample(batch, generator=seeded()).action, expected)
    with torch.no_grad():
        svms.svms.merge.weight.fill_(0.05)
    assert not torch.equal(svms.sample(batch, generator=seeded()).action, expected)


def test_svms_off_leaves_no_trace() -> None:
    plain = Gr00tN1d6(Gr00tN1d6Config.from_dict(tiny_config(**SVMS).to_dict() | {"use_sheaf_streams": False}))
    assert plain.svms is None
    assert not [name for name in plain.state_dict() if "svms" in name]
    assert set(plain(ragged_batch(torch.float32)).terms) == {"flow"}


def test_every_svms_weight_but_the_label_heads_hears_the_flow_loss_after_one_step() -> None:
    _, model = pair()
    batch = ragged_batch(torch.float32)
    optimiser = torch.optim.SGD(model.svms.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        model(batch, generator=seeded()).terms["flow"].backward()
        optimiser.step()
    silent = [n for n, p in model.svms.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent
    assert all(name.startswith("labels.") for name in silent), silent


def test_padding_changes_no_action() -> None:
    _, model = pair()
    with torch.no_grad():
        model.svms.merge.weight.normal_(std=0.1)
    batch = ragged_batch(torch.float32)
    expected = model.sample(batch, noise=torch.ones(3, 4, 5)).action
    ids = torch.cat([torch.full((3, 5), 3), batch.input_ids], dim=1)
    mask = torch.cat([torch.zeros(3, 5, dtype=torch.bool), batch.attention_mask], dim=1)
    wider = replace(batch, input_ids=ids, attention_mask=mask)
    # Positions count from the left edge in N1.6, so only the relative (rotary) part is the same: equal up to rounding.
    torch.testing.assert_close(model.sample(wider, noise=torch.ones(3, 4, 5)).action, expected, atol=1e-5, rtol=1e-4)


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    _, model = pair()
    with torch.no_grad():
        model.svms.merge.weight.normal_(std=0.1)
    again = Gr00tN1d6.from_pretrained(model.save_pretrained(tmp_path / "saved"))
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_checkpoint_of_two_types_becomes_one_that_runs(tmp_path: Path) -> None:
    plain, _ = pair()
    plain.bfloat16().action_head.vlln.float()  # as N1.6 saves a fine-tuning: what trained in float32
    folder = plain.save_pretrained(tmp_path / "saved")
    again = Gr00tN1d6.from_pretrained(folder)
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert again.sample(ragged_batch(torch.bfloat16), generator=seeded()).action.isfinite().all()
    assert {p.dtype for p in Gr00tN1d6.from_pretrained(folder, dtype=torch.float32).parameters()} == {torch.float32}


def test_a_plain_checkpoint_comes_back_plain(tmp_path: Path) -> None:
    plain, _ = pair()
    again = Gr00tN1d6.from_pretrained(plain.save_pretrained(tmp_path / "saved"))
    assert again.svms is None
    assert again.state_dict().keys() == plain.state_dict().keys()


def test_svms_starts_fresh_on_a_plain_checkpoint(tmp_path: Path) -> None:
    plain, _ = pair()
    folder = plain.save_pretrained(tmp_path / "plain")
    model = Gr00tN1d6.from_pretrained(folder, config=tiny_config(**SVMS))
    assert not model.svms.merge.weight.any()
    batch = ragged_batch(torch.float32)
    expected = plain.sample(batch, generator=seeded()).action
    assert torch.equal(model.sample(batch, generator=seeded()).action, expected)


def test_svms_starts_in_the_type_of_the_checkpoint(tmp_path: Path) -> None:
    plain, _ = pair()
    folder = plain.bfloat16().save_pretrained(tmp_path / "plain")
    for dtype in (None, torch.bfloat16, torch.float32):
        model = Gr00tN1d6.from_pretrained(folder, config=tiny_config(**SVMS), dtype=dtype)
        assert {p.dtype for p in model.parameters()} == {dtype or torch.bfloat16}
        batch = ragged_batch(dtype or torch.bfloat16)
        expected = plain.to(dtype or torch.bfloat16).sample(batch, generator=seeded()).action
        assert torch.equal(model.sample(batch, generator=seeded()).action, expected)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = pair()[0].save_pretrained(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="shapes of this configuration"):
        Gr00tN1d6.from_pretrained(folder, config=tiny_config(max_action_dim=7))


def test_the_snippet_of_the_seed_works() -> None:
    from svms_gr00t import Gr00tN1d6Config as Config

    config = Config(use_sheaf_streams=True, d_stream=768, lambda_sheaf_max=0.1, lambda_aux=0.3)
    assert (config.d_stream, config.lambda_aux) == (768, 0.3)
    with torch.device("meta"):
        full = Gr00tN1d6(config)
    assert sum(p.numel() for p in full.svms.parameters()) == 17_718_535
