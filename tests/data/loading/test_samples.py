"""Steps of a dataset as samples: the right rows, masked tails, and draws that nothing but their numbers decide."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_dataset import LENGTHS
from toy_samples import HORIZON, build

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.loading.batches import Batches


def test_each_step_is_a_sample_with_the_recorded_actions_and_a_masked_tail(toy: Path) -> None:
    dataset, steps = build(toy)
    assert len(steps) == sum(LENGTHS)
    for index in (0, LENGTHS[0] - 2, LENGTHS[0]):
        at, sample = steps.places[index], steps[index]
        recorded = dataset.lowdim(at.episode)
        real = min(HORIZON, LENGTHS[at.episode] - at.step)
        assert sample.action_mask is not None
        assert sample.action_mask[:, :4].sum(0).tolist() == [real] * 4
        decoded = steps.processor.decode(sample.action[None])
        for key in ("arm", "gripper"):
            expected = recorded[f"action.{key}"][at.step : at.step + real]
            np.testing.assert_allclose(decoded[key][0, :real], expected, atol=1e-5)


def test_a_batch_depends_on_its_number_alone(toy: Path) -> None:
    _, steps = build(toy, augment=True)
    first, second = Batches(steps, 5, seed=1), Batches(steps, 5, seed=1)
    for _ in range(3):
        first(0)
    for a, b in zip(first(7).images, second(7).images, strict=True):
        assert torch.equal(a, b)
    assert first.indices(7) != Batches(steps, 5, seed=2).indices(7)


def test_augmentation_differs_between_epochs_and_is_off_for_validation(toy: Path) -> None:
    _, steps = build(toy, augment=True)
    batches = Batches(steps, len(steps), seed=0)
    (early,) = [d for d in batches.indices(0) if d == 3]
    (late,) = [d for d in batches.indices(1) if d == 3]
    assert not torch.equal(steps[early].images[0], steps[late].images[0])
    _, plain = build(toy)
    assert torch.equal(plain[early].images[0], plain[late].images[0])


def test_label_weights_are_negatives_over_positives_of_the_training_words(toy: Path) -> None:
    _, steps = build(toy)
    counts = torch.zeros(2)
    for index in range(len(steps)):
        sample = steps[index]
        chosen = sample.labels[sample.label_mask][:, 0]
        counts += torch.tensor([chosen.sum(), (1 - chosen).sum()])
    assert steps.label_weight()[0] == pytest.approx(float(counts[1] / counts[0]))


def test_no_episodes_is_an_error(toy: Path) -> None:
    with pytest.raises(DataError, match="no episodes"):
        build(toy, episodes=[])
