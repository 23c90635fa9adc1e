"""Batches: padding on the left, order of images, all or none."""

import json
from dataclasses import replace

import pytest
import torch
from small_robot import chunk, observation, processor

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.labels.tokens import TokenLabels
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.processor.tokenizer import load_tokenizer

TEXTS = ("open it", "pick up the red cube and place it in the top drawer")


@pytest.fixture
def samples() -> list:
    p = processor()

    def labeler(text: str) -> list:
        return [(0, len(text.split()[0]), (0.0, 1.0, 0.0))]

    return [p.encode(observation(text=t, seed=i), chunk(i), labels=TokenLabels(labeler)) for i, t in enumerate(TEXTS)]


def test_padding_is_left_and_masked(samples):
    batch = collate(samples)
    short, long = (len(sample.input_ids) for sample in samples)
    free = long - short
    assert free > 0
    assert batch.input_ids.shape == (2, long)
    assert (batch.input_ids[0, :free] == load_tokenizer("tiny").pad_id).all()
    assert torch.equal(batch.input_ids[0, free:], samples[0].input_ids)
    assert not batch.attention_mask[0, :free].any()
    assert batch.attention_mask[0, free:].all()
    assert batch.attention_mask[1].all()


def test_labels_move_with_their_tokens(samples):
    batch = collate(samples, label_weight=torch.tensor([1.0, 2.0, 3.0]))
    for row, sample in enumerate(samples):
        free = batch.input_ids.shape[1] - len(sample.input_ids)
        assert torch.equal(batch.labels[row, free:], sample.labels)
        assert torch.equal(batch.label_mask[row, free:], sample.label_mask)
        assert not batch.labels[row, :free].any()
        assert not batch.label_mask[row, :free].any()
    assert batch.labels.sum() == 2
    assert batch.label_weight.tolist() == [1.0, 2.0, 3.0]


def test_images_follow_the_image_tokens(samples):
    batch = collate(samples)
    assert len(batch.images) == 4
    assert torch.equal(batch.images[2], samples[1].images[0])
    n_tokens = int((batch.input_ids == load_tokenizer("tiny").image_token_id).sum())
    assert n_tokens == sum(image.shape[1] * image.shape[2] // 784 for image in batch.images)


def test_matches_the_reference_batch(shared):
    golden = json.loads((shared / "golden" / "tokens" / "tokens.json").read_text(encoding="utf-8"))
    template = processor().encode(observation())
    rows = [torch.tensor(golden["cases"][i]["input_ids"]) for i in golden["batch"]["of"]]
    encoded = [
        replace(template, input_ids=row, instruction_mask=torch.zeros(len(row), dtype=torch.bool), pad_id=151_643)
        for row in rows
    ]
    batch = collate(encoded)
    assert batch.input_ids.tolist() == golden["batch"]["input_ids"]
    assert batch.attention_mask.long().tolist() == golden["batch"]["attention_mask"]


def test_mixed_batches_are_refused(samples):
    bare = replace(samples[0], action=None, action_mask=None)
    with pytest.raises(DataError, match="1 of 2 samples with action"):
        collate([bare, samples[1]])
    with pytest.raises(DataError, match="no samples"):
        collate([])
    assert collate([bare]).action is None
