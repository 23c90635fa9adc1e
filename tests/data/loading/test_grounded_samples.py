"""Samples carry the grounded targets of their own step, from pictures and from a cache, for one hand of the robot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.labels.hand import Hand, find_hand
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.mixed_samples import MixedSamples
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.cache_features import build_cache

EPISODES = (0, 2)


@pytest.fixture(scope="module")
def experiment(small_kitchen) -> Experiment:
    return Experiment.prepare(small_kitchen, base=shipped("tiny_base"), seed=0)


@pytest.fixture(scope="module")
def hand(experiment) -> Hand:
    statistics = experiment.processor.statistics[experiment.processor.config.embodiment_tag]
    return find_hand(experiment.dataset.modality, statistics)


def steps(experiment: Experiment, hand: Hand | None, **changes) -> SampleDataset:
    return SampleDataset(experiment.dataset, experiment.processor, episodes=EPISODES, hand=hand, stride=7, **changes)


def wanted(dataset: LeRobotDataset, hand: Hand, samples: SampleDataset) -> torch.Tensor:
    by_episode = {episode: hand.targets(dataset.lowdim(episode)) for episode in EPISODES}
    return torch.from_numpy(np.stack([by_episode[at.episode][at.step] for at in samples.places]))


def test_a_sample_has_the_targets_of_its_step(experiment, hand):
    samples = steps(experiment, hand)
    expected = wanted(experiment.dataset, hand, samples)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    batch = samples.batch(order)
    assert torch.equal(batch.targets, expected[order])
    assert not torch.equal(batch.targets, expected), "the order matters"
    plain = steps(experiment, None)
    assert plain.batch(order).targets is None
    assert torch.equal(plain.aimed(hand).batch(order).targets, batch.targets)
    assert plain.hand is None, "the other steps stay as they were"
    moved = batch.to("cpu")
    assert torch.equal(moved.targets, batch.targets)


def test_cached_samples_mixtures_and_memory_have_them_too(experiment, hand, tmp_path):
    model = experiment.model(use_sheaf_streams=True, base=shipped("tiny_base"))
    bare = SampleDataset(experiment.dataset, experiment.processor, episodes=EPISODES)
    cache: FeatureCache = build_cache(model, bare, tmp_path)
    samples, cached = steps(experiment, hand), steps(experiment, hand, features=cache, memory=(-8, -4))
    assert torch.equal(cached.batch(range(6)).targets, samples.batch(range(6)).targets)
    mixed = MixedSamples([samples, samples], [1.0, 1.0])
    assert torch.equal(mixed.batch([2, len(samples) + 2]).targets, samples.batch([2, 2]).targets)


def test_a_batch_of_some_with_and_some_without_is_refused(experiment, hand):
    sample = steps(experiment, hand)[0]
    with pytest.raises(DataError, match="1 of 2 samples with targets"):
        collate([sample, replace(sample, targets=None)])


def test_the_scale_is_that_of_training_episodes_alone(experiment, hand):
    aiming = replace(experiment, config=replace(experiment.config, grounded_targets=("where", "how")))
    model = aiming.model(use_sheaf_streams=True, base=shipped("tiny_base"))
    rows = np.concatenate([hand.targets(aiming.dataset.lowdim(e)) for e in aiming.split.train]).astype(np.float64)
    torch.testing.assert_close(model.svms.targets.mean.double(), torch.from_numpy(rows.mean(0)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.svms.targets.std.double(), torch.from_numpy(rows.std(0)), rtol=1e-5, atol=1e-6)
    everyone = [*aiming.split.train, *aiming.split.validation]
    total = np.concatenate([hand.targets(aiming.dataset.lowdim(e)) for e in everyone])
    assert not np.allclose(total.mean(0), rows.mean(0), rtol=1e-5), "the held-out episodes would have been noticed"
    assert aiming.first_samples(train=False)[0].targets is not None
    assert aiming.model(use_sheaf_streams=False, base=shipped("tiny_base")).target_heads is None


def test_a_scale_that_came_with_the_base_stays(experiment, tmp_path):
    aiming = replace(experiment, config=replace(experiment.config, grounded_targets=("when",)))
    model = aiming.model(use_sheaf_streams=True, base=shipped("tiny_base"))
    model.svms.targets.scale(model.svms.targets.mean + 1, model.svms.targets.std)
    aiming.policy(model).save_pretrained(tmp_path / "base")
    again = aiming.model(use_sheaf_streams=True, base=tmp_path / "base")
    assert torch.equal(again.svms.targets.mean, model.svms.targets.mean)
