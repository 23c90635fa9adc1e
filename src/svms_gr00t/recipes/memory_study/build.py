"""The parts of one side: its data, its processor, its model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from svms_gr00t.core.device import dtype_of
from svms_gr00t.data.loading.feature_cache import image_fingerprint
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.memory_study.arms import ARMS, FULL, Arm
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.training.experiment import Experiment

CLOCK = 256
"""Steps at which the clock input reads 1."""


def experiment_of(config: StudyConfig, arm: Arm, dataset: Path, base: Path, seed: int) -> Experiment:
    """Data and configuration of a side; every seed has the same held-out episodes."""
    memory = {"memory_offsets": config.offsets if arm.remembers else ()}
    svms = config.schedules() | memory | arm.changes
    found = Experiment.prepare(dataset, base=base, seed=0, validation=config.held_out, svms=svms)
    if arm.as_large:
        found = replace(found, config=as_large(found.config, _full(config, found.config)))
    kind = dtype_of(config.dtype) or found.dtype
    return replace(found, seed=seed, processor=looking(found.processor, config, arm), dtype=kind)


def _full(config: StudyConfig, given: Gr00tN1d6Config) -> Gr00tN1d6Config:
    values = given.to_dict() | {"use_sheaf_streams": True, "memory_only": False, "memory_offsets": config.offsets}
    return Gr00tN1d6Config.from_dict(values | ARMS[FULL].changes)


def as_large(config: Gr00tN1d6Config, wanted: Gr00tN1d6Config) -> Gr00tN1d6Config:
    """The configuration with the stream width that gives it as many parameters as `wanted` has, or nearly."""
    goal, low, high = added(wanted), 1, 64 * 64
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if added(replace(config, d_stream=middle)) <= goal else (low, middle)
    return replace(config, d_stream=low)


def added(config: Gr00tN1d6Config) -> int:
    """Parameters between backbone and action head."""
    with torch.device("meta"):
        model = Gr00tN1d6(config)
    return 0 if model.svms is None else sum(p.numel() for p in model.svms.parameters())


def looking(processor: Processor, config: StudyConfig, arm: Arm) -> Processor:
    """The processor with the side's earlier pictures and its clock."""
    tag, robot = processor.config.embodiment_tag, processor.config.embodiment
    offsets = (*(config.stride * k for k in arm.frames), 0)
    seen = replace(robot, video=replace(robot.video, delta_indices=offsets))
    robots = processor.config.embodiments | {tag: seen}
    changed = replace(processor.config, embodiments=robots, clock_steps=CLOCK if arm.clock else 0)
    return Processor(changed, processor.tokenizer, processor.statistics)


def samples_of(
    config: StudyConfig, experiment: Experiment, model: Gr00tN1d6, caches: Path
) -> tuple[SampleDataset, SampleDataset]:
    """(training, held-out) samples whose pictures pass the frozen backbone once for all sides that see alike."""
    folder, layer = caches / image_fingerprint(experiment.processor.config), model.config.select_layer
    kind = str(experiment.dtype).removeprefix("torch.")
    cache = experiment.growing(model, experiment.sources[0], folder, layer=layer, dtype=kind)
    rest: dict[str, Any] = {"features": cache, "memory": model.config.remembered}
    train = experiment.first_samples(train=True, deciding=config.deciding_share, **rest)
    return train, experiment.first_samples(train=False, **rest)
