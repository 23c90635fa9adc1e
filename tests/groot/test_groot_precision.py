"""Lower precision and fresh weights: bf16 stays close to float32, and a model from nothing is filled and calm."""

from dataclasses import replace

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config

from svms_gr00t.groot.checkpoint.golden import PlainGr00t


def flow(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    features = model.backbone(batch.images, batch.input_ids, batch.attention_mask)
    noise, time = torch.ones(3, 4, 5), torch.tensor([0.2, 0.5, 0.9])
    result = model.action_head.loss(features, batch, noise=noise, time=time)
    return result.loss, result.velocity


@pytest.mark.parametrize("ids", [(2, 0, 2), (1, 1, 1)])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bf16_stays_close_to_float32(build, how, ids):
    model, batch = build(dtype=torch.float32), replace(ragged_batch(torch.float32), embodiment_id=torch.tensor(ids))
    loss, velocity = flow(model, batch)
    if how == "weights":
        model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        low_loss, low_velocity = flow(model, batch)
    low_loss.backward()
    assert low_loss.dtype == torch.float32
    assert low_loss.item() == pytest.approx(loss.item(), rel=0.05)
    torch.testing.assert_close(low_velocity.float(), velocity, atol=0.1, rtol=0.1)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_meta_model_can_be_filled_from_nothing():
    config = tiny_config(state_dropout_prob=0.5)
    with torch.device("meta"):
        model = PlainGr00t(config)
    model.to_empty(device="cpu")
    for part in (model.backbone, model.action_head):
        for p in part.parameters():
            torch.nn.init.constant_(p, float("nan"))
        part.reset_parameters()
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_fresh_weights_keep_the_scale_and_begin_near_zero_velocity():
    model = PlainGr00t(tiny_config()).eval()
    batch = ragged_batch(torch.float32)
    with torch.no_grad():
        features = model.backbone(batch.images, batch.input_ids, batch.attention_mask)
        velocity = flow(model, batch)[1]
    assert 0.5 < features.tokens[features.mask].std() < 2
    assert velocity.std() < 0.3
