"""One run of an ablation: one variant, one seed, from demonstrations to results.

    data, base -> variant's model -> three phases -> open_loop.json, streams.json, closed_loop.json, facts.json

`facts.json` is written last: a folder that has it is finished, and its checkpoints are gone. An interrupted run goes on
inside its phase.
"""

import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from svms_gr00t.core.device import device_of, dtype_of
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.evaluate.comparison.run_facts import FACTS, RunFacts
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.ablation.controls import AdapterModel, ImagesAreVisual, PlainModel, ShuffledLabels
from svms_gr00t.recipes.ablation.variants import ALL, Variant
from svms_gr00t.recipes.shipped import SHIPPED, demonstrations, starting_point
from svms_gr00t.recipes.training.budget import Budget
from svms_gr00t.recipes.training.evidence import read_streams
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.phases_in_turn import train_in_turn
from svms_gr00t.train.loop.step import arithmetic
from svms_gr00t.train.loop.trainer import LoopConfig
from svms_gr00t.train.processes.cluster import Cluster

KEPT = ("plain", "full")
"""Variants whose policies stay on disk, for closed loop and for `evaluate streams`."""


@dataclass(frozen=True, kw_only=True)
class AblationConfig(JsonRecord):
    """Everything that decides the numbers of every run; which variants and seeds are run does not."""

    dataset_path: str = SHIPPED
    """Demonstrations: a folder, or "shipped"."""
    base: str = SHIPPED
    """Checkpoint that all variants start from: a folder, "shipped", or "none" for fresh weights."""
    preset: str = "tiny"
    """Model size where there is no base."""
    steps: tuple[int, int, int] = (60, 60, 120)
    """Optimiser steps of the three phases."""
    learning_rates: tuple[float, float, float] = (1e-3, 1e-3, 2e-4)
    svms_rate: float = 1.0
    """SVMS, or the adapter in its place, learns at so many times these rates."""
    batch_size: int = 16
    stride: int = 6
    """Every so many steps of a held-out episode is scored."""
    rollouts: int = 0
    """Closed-loop episodes for each task; 0 does without the simulator."""
    tasks: tuple[str, ...] = ()
    """Kitchen tasks to drive; empty drives all."""
    device: str = "cpu"
    dtype: str | None = None
    """Type in which weights are loaded; by default the preset's. What trains is float32 all the same."""

    def budget(self) -> Budget:
        """Steps, rates and batches of every run."""
        return Budget(
            steps=self.steps,
            learning_rates=self.learning_rates,
            batch_sizes=(self.batch_size,) * 3,
            svms_rate=self.svms_rate,
        )


def run_variant(config: AblationConfig, name: str, seed: int, folder: Path) -> Path:
    """Train and judge one variant, or go on where `folder` stopped; returns the folder. Raises SvmsError."""
    torch.set_num_threads(1)
    with only_one(folder):
        if not (folder / FACTS).is_file():
            _run_variant(config, name, seed, folder)
    return folder


def _run_variant(config: AblationConfig, name: str, seed: int, folder: Path) -> None:
    """All of it, in a folder that is ours."""
    variant, base = ALL[name], starting_point(config.base)
    experiment = _experiment(config, seed)
    changed = Gr00tN1d6Config.from_dict(experiment.config.to_dict() | variant.changes)
    experiment = replace(experiment, config=changed)
    train, held_out = _samples(config, seed)
    model = build(experiment, variant, base)
    if changed.grounded_targets:
        train = train.aimed(experiment.hand)
    _train(model, variant, _labelled(train, variant, model, seed), folder, config, seed)
    policy = Policy(model, experiment.processor, device=config.device)
    with arithmetic(torch.device(config.device), experiment.precision):
        _judge(policy, experiment, config, name, folder)
        if variant.kind == "svms":
            read_streams(model, held_out)[0].save(folder / "streams.json")
    if name in KEPT:
        policy.save_pretrained(folder / "policy")
    _facts(experiment, model, config, name, seed).save(folder / FACTS)
    for checkpoint in folder.glob("phase_*/checkpoints"):
        shutil.rmtree(checkpoint)  # weights and moments of a finished run: forty of them would fill a disk


def build(experiment: Experiment, variant: Variant, base: Path | None) -> Gr00tN1d6:
    """The variant's model: the same starting weights wherever two variants share a tensor."""
    if variant.kind == "svms" or (variant.kind == "plain" and not experiment.config.grounded_targets):
        return experiment.model(use_sheaf_streams=variant.kind == "svms", base=base)
    kind = AdapterModel if variant.kind == "adapter" else PlainModel
    config = Gr00tN1d6Config.from_dict(experiment.config.to_dict() | {"use_sheaf_streams": False})
    torch.manual_seed(experiment.seed)
    if base is not None:
        return experiment.scaled(kind.from_pretrained(base, config=config, dtype=experiment.dtype))
    plain = experiment.model(use_sheaf_streams=False)
    model = kind(config).to(experiment.dtype)
    model.load_state_dict(plain.state_dict(), strict=False)
    return experiment.scaled(model)


@lru_cache(maxsize=1)
def _experiment(config: AblationConfig, seed: int) -> Experiment:
    """Kept for the next variant of the same seed in this process."""
    base = starting_point(config.base)
    found = Experiment.prepare(
        demonstrations(config.dataset_path),
        preset_name=config.preset if base is None else None,
        base=base,
        seed=seed,
        svms=config.budget().short_schedules(),
    )
    return replace(found, dtype=dtype_of(config.dtype) or found.dtype)


@lru_cache(maxsize=1)
def _samples(config: AblationConfig, seed: int) -> tuple[SampleDataset, SampleDataset]:
    """(training, held-out) samples, decoded once for all variants of a seed in this process."""
    experiment = _experiment(config, seed)
    return experiment.first_samples(train=True), experiment.first_samples(train=False, stride=4)


def _labelled(train: SampleDataset, variant: Variant, model: Gr00tN1d6, seed: int) -> Samples:
    """The training samples with the labels that the variant learns from."""
    if variant.shuffle_labels:
        assert train.labels is not None, "the recipe labels its data"
        return train.relabeled(ShuffledLabels(train.labels.labeler, seed))
    return ImagesAreVisual(train, model.config) if variant.label_images else train


def _train(model: Gr00tN1d6, variant: Variant, train: Samples, folder: Path, config: AblationConfig, seed: int) -> None:
    loop = LoopConfig(seed=seed, precision=_experiment(config, seed).precision)
    phases, here = variant.phases(config.budget()), Cluster(device_of(config.device))
    train_in_turn(model, train, folder, phases=phases, loop=loop, cluster=here)


def _judge(policy: Policy, experiment: Experiment, config: AblationConfig, name: str, folder: Path) -> None:
    tag = experiment.processor.config.embodiment_tag
    evaluate_open_loop(
        policy,
        experiment.dataset,
        experiment.split.validation,
        statistics=experiment.processor.statistics[tag],
        train_episodes=experiment.split.train,
        config=OpenLoopConfig.within(
            policy.processor.codec.horizon, seed=experiment.seed, batch_size=32, stride=config.stride
        ),
        name=name,
    ).save(folder / "open_loop.json")
    if config.rollouts:
        from svms_gr00t.recipes.benchmarks.closed_loop import build_kitchen  # the simulator is an extra
        from svms_gr00t.sim.tasks.suites import TASKS, task_named

        tasks = config.tasks or tuple(TASKS)
        rules = RolloutConfig(
            tasks=tasks,
            episodes=config.rollouts,
            seed=experiment.seed + 77,
            horizons={task: task_named(task).horizon for task in tasks},
        )
        rollout(policy, build_kitchen(), rules, name=name).save(folder / "closed_loop.json")


def _facts(experiment: Experiment, model: Gr00tN1d6, config: AblationConfig, name: str, seed: int) -> RunFacts:
    acting = () if model.svms is None else model.svms.named_parameters()
    added = sum(p.numel() for part, p in acting if not part.startswith("targets."))
    return RunFacts(
        name=name,
        seed=seed,
        data=experiment.dataset.fingerprint(),
        held_out=experiment.split.validation,
        base=config.base,
        budget={
            "steps": " + ".join(map(str, config.steps)),
            "learning rates": ", ".join(map(str, config.learning_rates)),
            "batch size": str(config.batch_size),
        },
        parameters=sum(p.numel() for p in model.parameters()),
        added=added,
    )
