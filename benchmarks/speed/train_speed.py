"""Optimiser steps a second of each phase at tiny size, plain and SVMS, on the shipped kitchen.

python benchmarks/speed/train_speed.py --steps 40 --out benchmarks        writes train_speed_<date>.md
"""

import argparse
import datetime
import os
import platform
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.budget import TINY
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import Phase, plain_counterpart


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    experiment = Experiment.prepare(shipped("kitchen"), base=shipped("tiny_base"))
    batches = Batches(experiment.first_samples(train=True), 32, 0)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    lines = [
        "# Training speed at tiny size",
        "",
        f"`python benchmarks/speed/train_speed.py --steps {args.steps}`, commit {commit()}.",
        ", ".join(f"{name} {number}" for name, number in versions().items()) + f"; {machine}.",
        "Batch 32, three views of 84 pixels.",
        "",
        "| phase | plain, steps/s | SVMS, steps/s | plain / SVMS | time in data, SVMS |",
        "|---|---:|---:|---:|---:|",
    ]
    for phase in TINY.phases():
        plain, _ = speed(experiment, batches, plain_counterpart(phase), args.steps, svms=False)
        svms, wait = speed(experiment, batches, phase, args.steps, svms=True)
        lines.append(f"| {phase.name} | {plain:.1f} | {svms:.1f} | {plain / svms:.2f} | {wait:.0%} |")
    page = args.out / f"train_speed_{datetime.date.today().isoformat()}.md"
    page.write_text("\n".join(lines) + "\n\nMedians over steps.\n", encoding="utf-8")


def speed(experiment: Experiment, batches: Batches, phase: Phase, steps: int, *, svms: bool) -> tuple[float, float]:
    """Steps a second, and the share of a step that waits for data."""
    model = experiment.model(use_sheaf_streams=svms, base=shipped("tiny_base"))
    with tempfile.TemporaryDirectory() as folder:
        config = LoopConfig(log_every=1)
        rows = train_phase(model, replace(phase, steps=steps), batches, RunDir(Path(folder) / "run"), config=config)
    kept = rows[5:-1]  # the first steps warm up, the last one saves
    return 1 / statistics.median(row["seconds"] for row in kept), statistics.median(row["data_wait"] for row in kept)


if __name__ == "__main__":
    main()
