"""The auxiliary loss counts labelled tokens and labelled streams, weighs positives, and sees nothing else."""

import pytest
import torch
from torch.nn import functional as F

from svms_gr00t.core.errors import DataError
from svms_gr00t.streams.token_labels import TokenLabelHeads, label_loss


def test_equals_a_plain_loop():
    logits, labels = torch.randn(2, 5, 3), (torch.rand(2, 5, 3) > 0.6).float()
    mask, weight = torch.rand(2, 5) > 0.3, torch.tensor([1.0, 4.0, 19.0])
    costs = [
        -(weight[s] * labels[b, t, s] * F.logsigmoid(logits[b, t, s])
          + (1 - labels[b, t, s]) * F.logsigmoid(-logits[b, t, s]))
        for b in range(2) for t in range(5) for s in range(3) if mask[b, t]
    ]  # fmt: skip
    torch.testing.assert_close(label_loss(logits, labels, mask, weight), torch.stack(costs).mean())
    assert not torch.isclose(label_loss(logits, labels, mask), torch.stack(costs).mean())


def test_unlabelled_tokens_and_streams_get_no_gradient():
    logits = torch.randn(2, 5, 4)
    mask = torch.rand(2, 5) > 0.5
    logits[~mask] = float("nan")
    logits.requires_grad_()
    label_loss(logits, torch.ones(2, 5, 3), mask).backward()
    assert logits.grad[~mask].abs().max() == 0
    assert logits.grad[..., 3].abs().max() == 0
    assert (logits.grad[mask][:, :3] != 0).all()


def test_no_labelled_token_costs_nothing():
    assert label_loss(torch.randn(1, 2, 3), torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)) == 0


def test_more_labels_than_streams_is_an_error():
    with pytest.raises(DataError, match="4 columns"):
        label_loss(torch.randn(1, 2, 3), torch.ones(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))


def test_each_logit_reads_its_own_stream_only():
    heads, x = TokenLabelHeads(n_streams=3, d_stream=4), torch.randn(1, 2, 3, 4)
    other = x.clone()
    other[:, :, 1] += 1
    changed = heads(x) != heads(other)
    assert changed[..., 1].all()
    assert not changed[..., [0, 2]].any()
