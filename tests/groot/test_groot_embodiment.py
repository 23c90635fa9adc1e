"""Embodiment banks: one row for each robot, and slices that save as whole banks."""

from dataclasses import replace

import pytest
import torch
from groot_tiny import ragged_batch

from svms_gr00t.core.errors import DataError
from svms_gr00t.groot.embodiment import EmbodimentLinear, rows_of


def act(model, ids):
    batch = replace(ragged_batch(), embodiment_id=torch.tensor(ids))
    with torch.no_grad():
        features = model.backbone(batch.images, batch.input_ids, batch.attention_mask)
        noise = torch.ones(3, 4, 5, dtype=torch.float64)
        return model.action_head.sample(features, batch.state, batch.embodiment_id, noise=noise)


def test_each_sample_uses_its_own_row():
    bank, x = EmbodimentLinear(4, 3, 2).double(), torch.randn(3, 5, 3, dtype=torch.float64)
    torch.nn.init.normal_(bank.b)
    out = bank(x, rows_of(torch.tensor([3, 0, 3]), 4))
    for b, e in enumerate([3, 0, 3]):
        torch.testing.assert_close(out[b], x[b] @ bank.W[e] + bank.b[e])
        assert not torch.allclose(out[b], x[b] @ bank.W[1] + bank.b[1])


def test_an_unknown_embodiment_is_named():
    with pytest.raises(DataError, match=r"\[4\]"):
        rows_of(torch.tensor([4, 0]), 4)
    with pytest.raises(DataError, match="kept"):
        rows_of(torch.tensor([2]), 4, kept=(1, 3))


@pytest.mark.parametrize(("kept", "ids"), [((2,), (2, 2, 2)), ((2, 0), (0, 2, 0))])
def test_a_slice_acts_like_the_bank(build, kept, ids):
    model = build()
    whole, before = act(model, ids), {n: v.clone() for n, v in model.state_dict().items()}
    size = model.action_head.action_encoder.W2.W.numel()
    model.action_head.keep_embodiments(*kept)
    assert model.action_head.action_encoder.W2.W.numel() == size * len(kept) // 3
    torch.testing.assert_close(act(model, ids), whole, atol=1e-12, rtol=1e-12)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(DataError, match="kept"):
        act(model, (1, 1, 1))


def test_training_a_slice_changes_its_row_of_the_saved_bank_alone(build):
    model = build()
    model.action_head.keep_embodiments(1)
    bank = model.action_head.state_encoder.layer1
    before = model.state_dict()["action_head.state_encoder.layer1.W"]
    with torch.no_grad():
        bank.W.add_(1)
    after = model.state_dict()["action_head.state_encoder.layer1.W"]
    torch.testing.assert_close(after[1], before[1] + 1)
    assert torch.equal(after[[0, 2]], before[[0, 2]])


def test_a_slice_loads_a_whole_bank(build):
    source, model = build(), build()
    model.action_head.keep_embodiments(2, 1)
    model.load_state_dict(source.state_dict())
    torch.testing.assert_close(act(model, (1, 2, 1)), act(source, (1, 2, 1)), atol=1e-12, rtol=1e-12)
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in source.state_dict().items())


def test_ids_that_the_host_knows_stay_unread(monkeypatch):
    ids = torch.tensor([3, 1, 1])
    looked_up = rows_of(ids, 4, kept=(1, 3))
    monkeypatch.setattr(torch.Tensor, "tolist", None)
    assert torch.equal(rows_of(ids, 4, kept=(1, 3), known=(3, 1, 1)).ids, looked_up.ids)
    assert torch.equal(looked_up.ids, torch.tensor([1, 0, 0]))
    assert rows_of(ids[1:], 4, kept=(3, 1), known=(1, 1)).single == 1
    alone = rows_of(ids[1:], 4, kept=(3, 1), known=(1, 1), share=False)
    assert alone.single is None
    assert torch.equal(alone.ids, torch.tensor([1, 1]))
    with pytest.raises(DataError, match="embodiment_id"):
        rows_of(ids, 4, kept=(1, 2), known=(3, 1, 1))
