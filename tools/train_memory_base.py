"""Make the base of the memory demo: the tiny base that can do two memory tasks by hand, but sees one frame.

    svms-gr00t sim record --output-dir memory --suite memory --episodes 196 --seed 0 --workers 2
    python tools/train_memory_base.py memory src/svms_gr00t/assets/memory_base --steps 1600 --seed 0

The backbone stays frozen, so that it is the tiny base's to the bit; the action head trains. The demonstrations are not
those that ship. The folder's `origin.json` records both commands, the data's fingerprint and the commit.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from svms_gr00t.cli.console import Bars
from svms_gr00t.core.provenance import commit
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.memory_study.arms import ARMS, PLAIN
from svms_gr00t.recipes.memory_study.build import experiment_of, samples_of
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.shipped import MEMORY_TASKS, shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase


def main() -> None:
    """Train, save, and say how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = StudyConfig(steps_before=args.steps, rate_before=args.learning_rate, checkpoint_every=args.steps)
    with tempfile.TemporaryDirectory() as room:
        train(config, args.dataset, args.output, Path(room), args.seed)
    text = json.dumps(origin(args.dataset, config, args.seed), indent=2)
    (args.output / "origin.json").write_text(text + "\n", encoding="utf-8")


def train(config: StudyConfig, dataset: Path, output: Path, room: Path, seed: int) -> None:
    """The study's first stage on the demo's tasks; features and checkpoints go to `room`."""
    base = shipped("tiny_base")
    experiment = only(MEMORY_TASKS, experiment_of(config, ARMS[PLAIN], dataset, base, seed))
    model = experiment.model(use_sheaf_streams=False, base=base)
    samples, _ = samples_of(config, experiment, model, room / "features")
    batches = Batches(samples, config.batch_size, seed)
    loop = LoopConfig(seed=seed, checkpoint_every=config.checkpoint_every)
    phase = replace(config.before(), everything=False)  # the tiny base's backbone stays to the bit
    train_phase(model, phase, batches, RunDir(room / "run"), config=loop, progress=Bars(), title="base")
    Policy(model.to(torch.bfloat16), experiment.processor).save_pretrained(output)


def only(tasks: tuple[str, ...], experiment: Experiment) -> Experiment:
    """The experiment with all episodes of these tasks, and no others, to train on."""
    (source,) = experiment.sources
    recorded = json.loads((source.dataset.root / "meta" / "provenance.json").read_text(encoding="utf-8"))["tasks"]
    chosen = tuple(e.index for e in source.dataset.episodes if recorded[e.index % len(recorded)] in tasks)
    return replace(experiment, sources=(replace(source, split=replace(source.split, train=chosen)),))


def origin(dataset_path: Path, config: StudyConfig, seed: int) -> dict[str, str | None]:
    """How the folder came to be, as commands."""
    dataset = LeRobotDataset.open(dataset_path)
    recorded = json.loads((dataset_path / "meta" / "provenance.json").read_text(encoding="utf-8"))
    asked = f"--suite memory --episodes {len(dataset.episodes)} --seed {recorded['seed']}"
    numbers = f"--steps {config.steps_before} --learning-rate {config.rate_before} --seed {seed}"
    return {
        "record": f"svms-gr00t sim record --output-dir DATA {asked}",
        "fingerprint": dataset.fingerprint(),
        "train": f"python tools/train_memory_base.py DATA OUTPUT {numbers}",
        "commit": commit(),
        "licence": "Apache-2.0; trained from the tiny base on demonstrations made by this package",
    }


if __name__ == "__main__":
    main()
