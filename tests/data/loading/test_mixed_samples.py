"""A mixture trains as one dataset does: the same samples, resumable batches, class weights of what is drawn."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_dataset import episode, open_writer, write_toy
from toy_samples import build, equal

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.mixed_samples import MixedSamples
from svms_gr00t.data.loading.samples import SampleDataset


@pytest.fixture
def parts(tmp_path: Path) -> tuple[SampleDataset, SampleDataset]:
    """28 steps about drawers and doors, 30 steps about lamps."""
    with open_writer(tmp_path / "lamps") as writer:
        for index in range(3):
            writer.add_episode(*episode(10, seed=index + 9), "turn the lamp on")
    return build(write_toy(tmp_path / "toy"), augment=True)[1], build(tmp_path / "lamps", augment=True)[1]


def test_samples_are_those_of_the_datasets(parts: tuple[SampleDataset, SampleDataset]) -> None:
    mixed = MixedSamples(parts, (0.25, 0.75))
    assert len(mixed) == 58
    for index, (part, own) in {0: (0, 0), 27: (0, 27), 28: (1, 0), 57: (1, 29)}.items():
        assert torch.equal(mixed[index].action, parts[part][own].action)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_keep_the_shares_and_resume(parts: tuple[SampleDataset, SampleDataset], workers: int) -> None:
    mixed = MixedSamples(parts, (0.25, 0.75))
    batches, later = (Batches(mixed, 6, seed=3, workers=workers) for _ in range(2))
    whole = [batches(number) for number in range(3)]
    assert equal(later(2), whole[2])
    assert not equal(later(0), whole[2])
    for one in (batches, later):
        one.close()
    drawn = np.concatenate([batches.indices(number) for number in range(200)])
    assert np.mean(drawn >= 28) == pytest.approx(0.75, abs=0.01)


def test_class_weights_count_what_is_drawn(parts: tuple[SampleDataset, SampleDataset]) -> None:
    """The label is on words with d, which only one dataset has: the more it is drawn, the lighter they weigh."""
    weights = (0.2, 0.8)
    mixed = MixedSamples(parts, weights)
    sampler = mixed.sampler(58, seed=0)
    seen = [mixed[draw] for batch in islice(sampler, 8) for draw in batch]
    labels = torch.cat([sample.labels[sample.label_mask] for sample in seen])  # type: ignore[index]
    expected = (len(labels) - labels.sum(0)) / labels.sum(0).clamp(min=1)
    found = mixed.label_weight()
    assert found is not None
    assert found[0].item() == pytest.approx(expected[0].item(), rel=0.1)
    alone = parts[0].label_weight()
    assert alone is not None
    assert found[0] > 3 * alone[0]
    assert found[1] == 1  # no positives anywhere


def test_weights_must_fit(parts: tuple[SampleDataset, SampleDataset]) -> None:
    for weights in ((1.0,), (1.0, 0.0)):
        with pytest.raises(ConfigError, match="2 positive numbers"):
            MixedSamples(parts, weights)
