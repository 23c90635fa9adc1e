"""One monitor of the shipped base, trained on part of the shipped demonstrations; the rest is for trials."""

from dataclasses import dataclass
from typing import Any

import pytest

from svms_gr00t.consistency.frames import Frames, gather
from svms_gr00t.consistency.monitor import Consistency
from svms_gr00t.consistency.stalk import find_body
from svms_gr00t.consistency.train import MonitorConfig, deal, train_monitor
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the tests share; nobody may change it."""

    policy: Policy
    dataset: LeRobotDataset
    monitor: Consistency
    tried: tuple[int, ...]
    """Episodes that the monitor has not seen."""
    frames: Frames
    """Of those, one lag apart and in between."""


@pytest.fixture(scope="session")
def trained() -> Trained:
    policy = Policy.from_pretrained(shipped("tiny_base"))
    dataset = LeRobotDataset.open(shipped("kitchen"))
    everyone = [one.index for one in dataset.episodes]
    tried = tuple(everyone[45:])
    parts = deal(everyone[:45], (), alpha=0.1)
    monitor = train_monitor(policy, dataset, parts, MonitorConfig(alpha=0.1, steps=500, max_frames=500))
    body, hand = find_body(dataset.modality, compute_statistics(dataset, parts.train))
    asked: dict[str, Any] = {"body": body, "hand": hand, "lag": 8, "every": 4}
    frames = gather(policy, dataset, tried, **asked)
    return Trained(policy=policy, dataset=dataset, monitor=monitor, tried=tried, frames=frames)
