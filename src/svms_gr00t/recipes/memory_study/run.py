"""One side, one seed, one rate: training on the shared base, and what is measured of it.

    base + side -> features of the frozen backbone, once -> "after" phase -> scores.json, policy/, closed_loop.json

A folder with scores.json is finished; an interrupted run goes on inside its phase.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from svms_gr00t.core.device import device_of
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.memory_study.arms import ARMS, PLAIN
from svms_gr00t.recipes.memory_study.build import added, experiment_of, samples_of
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.score import DecidingScore, score
from svms_gr00t.recipes.shipped import starting_point
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.step import arithmetic
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.processes.cluster import Cluster

SCORES, POLICY = "scores.json", "policy"
BASE_SEED = 0
"""Of the one training that all seeds share."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study keeps its parts."""

    root: Path
    dataset: Path

    @property
    def caches(self) -> Path:
        """Features of the frozen backbone."""
        return self.root / "features"

    @property
    def frames(self) -> Path:
        """Small pictures of all demonstrations."""
        return self.root / "frames"

    @property
    def base(self) -> Path:
        """The plain model that has learned the suite, from which all sides start."""
        return self.root / "base"

    def run(self, arm: str, rate: float, seed: int) -> Path:
        """A run of a side."""
        return self.root / arm / f"rate_{rate:g}" / f"seed_{seed}"


@dataclass(frozen=True, kw_only=True)
class Scores(JsonRecord):
    """What a run says without the simulator."""

    arm: str
    seed: int
    rate: float
    added: int
    """Parameters between backbone and action head."""
    own: DecidingScore
    stray: DecidingScore | None
    """With the memory of another episode; None without memory."""


def train_base(config: StudyConfig, place: Place) -> Path:
    """The plain model whose backbone all sides and seeds share, or where it already is."""
    with only_one(place.base):
        if not (place.base / POLICY).is_dir():
            start = starting_point(config.base)
            assert start is not None, "the study needs a plain checkpoint"
            experiment = experiment_of(config, ARMS[PLAIN], place.dataset, start, BASE_SEED)
            model = experiment.model(use_sheaf_streams=False, base=start)
            train = experiment.first_samples(train=True, deciding=config.deciding_share, frames=place.frames)
            _train(config, config.before(), experiment, model, train, place.base, workers=1)
            _keep(Policy(model, experiment.processor), place.base)
    return place.base / POLICY


def _keep(policy: Policy, folder: Path) -> None:
    """Save what was trained, and drop what only an interrupted training needs."""
    policy.save_pretrained(folder / POLICY)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def run_arm(config: StudyConfig, place: Place, name: str, seed: int, rate: float) -> Path:
    """Train and score one side, or go on where its folder stopped; its policy is kept if it is driven or reported."""
    torch.set_num_threads(1)
    folder = place.run(name, rate, seed)
    with only_one(folder):
        if not (folder / SCORES).is_file() or (config.rollouts and not (folder / POLICY).is_dir()):
            _run(config, place, name, seed, rate, folder)
    return folder


def _run(config: StudyConfig, place: Place, name: str, seed: int, rate: float, folder: Path) -> None:
    """All of it, in a folder that is ours."""
    arm, base = ARMS[name], place.base / POLICY
    experiment = experiment_of(config, arm, place.dataset, base, seed)
    model = experiment.model(use_sheaf_streams=arm.between, base=base)
    train, held_out = samples_of(config, experiment, model, place.caches)
    _train(config, config.after(rate), experiment, model, train, folder)
    rules: dict[str, Any] = {"executed": config.stride, "every": config.score_every}
    with arithmetic(torch.device(config.device), experiment.precision):
        own = score(model, held_out, **rules)
        stray = score(model, held_out, stray=True, **rules) if model.config.remembered else None
    if config.rollouts or seed not in config.rate_seeds:
        Policy(model, experiment.processor).save_pretrained(folder / POLICY)
    found = Scores(arm=name, seed=seed, rate=rate, added=added(model.config), own=own, stray=stray)
    found.save(folder / SCORES)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _train(
    config: StudyConfig,
    phase: Phase,
    experiment: Experiment,
    model: Gr00tN1d6,
    train: SampleDataset,
    folder: Path,
    workers: int = 0,
) -> None:
    seed, here = experiment.seed, Cluster(device_of(config.device))
    loop = LoopConfig(seed=seed, checkpoint_every=config.checkpoint_every, precision=experiment.precision)
    batches = Batches(train, phase.batch_size, seed, workers=workers)
    try:
        train_phase(model, phase, batches, RunDir(folder), config=loop, cluster=here)
    finally:
        batches.close()
