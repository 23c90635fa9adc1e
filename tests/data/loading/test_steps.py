"""Steps of a dataset as samples: the right rows, masked tails, and draws that nothing but their numbers decide."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_dataset import LENGTHS

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.embodiment import from_modality
from svms_gr00t.data.images import ColorJitter, ImagePipeline
from svms_gr00t.data.lerobot import LeRobotDataset
from svms_gr00t.data.processor import Processor
from svms_gr00t.data.processor_config import ProcessorConfig
from svms_gr00t.data.statistics import compute_statistics
from svms_gr00t.data.steps import Batches, StepDataset
from svms_gr00t.data.tokenizer import load_tokenizer

HORIZON = 4


def labeler(text: str) -> list[tuple[int, int, tuple[float, float, float]]]:
    """Every word that starts with "d" is visual."""
    return [
        (text.index(word), text.index(word) + len(word), (float(word[0] == "d"), 0.0, 0.0)) for word in text.split()
    ]


def build(root: Path, **changes) -> tuple[LeRobotDataset, StepDataset]:
    dataset = LeRobotDataset.open(root)
    config = ProcessorConfig(
        embodiment_tag="new_embodiment",
        embodiments={"new_embodiment": from_modality(dataset.modality, horizon=HORIZON)},
        images=ImagePipeline.cheap(28, jitter=ColorJitter(brightness=0.3)),
        max_state_dim=6,
        max_action_dim=6,
        max_action_horizon=HORIZON,
    )
    processor = Processor(config, load_tokenizer("tiny"), compute_statistics(dataset))
    return dataset, StepDataset(dataset, processor, **({"episodes": [0, 1, 2], "labeler": labeler} | changes))


def test_each_step_is_a_sample_with_the_recorded_actions_and_a_masked_tail(toy: Path) -> None:
    dataset, steps = build(toy)
    assert len(steps) == sum(LENGTHS)
    for index in (0, LENGTHS[0] - 2, LENGTHS[0]):
        at, sample = steps.steps[index], steps[index]
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
