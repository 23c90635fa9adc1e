"""What memory costs: a training step and an action, with it and without, in turns in one process.

    python benchmarks/speed/memory_step.py --frames 12 --rounds 12 --out benchmarks/memory_step.md

Tiny preset, shipped demonstrations and base, batch 32, one thread. CPU time of this process, so that what else runs
counts little; the ratio is the median of ratios within a round. Training steps: from pictures, the way SVMS trains by
default; from a cache of the frozen layers, the way a model with memory does; and with the past frames through the
backbone at every step.
"""

import argparse
import datetime
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from svms_gr00t.core.provenance import commit
from svms_gr00t.core.types import Moments
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.recipes.shipped import demonstrations, starting_point
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.cache_features import cache_key, cache_layer, growing_cache
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import Loop, LoopConfig
from svms_gr00t.train.phases import COUPLE, END_TO_END, Phase
from svms_gr00t.train.processes.cluster import Cluster

STRIDE, BATCH = 8, 32


class Side:
    """One way of training, ready to step."""

    def __init__(self, phase: Phase, frames: int, *, cached: bool, folder: Path) -> None:
        base = starting_point("shipped")
        offsets = tuple(-STRIDE * k for k in range(frames, 0, -1))
        experiment = Experiment.prepare(demonstrations("shipped"), base=base, svms={"memory_offsets": offsets})
        self.model = experiment.model(use_sheaf_streams=True, base=base)
        features: FeatureCache | None = None
        if cached:
            layer = cache_layer(self.model.config, (phase,))
            key = cache_key(self.model, experiment.dataset, experiment.processor, dtype="float32", layer=layer)
            source = experiment.sources[0]
            features = growing_cache(self.model, key, lambda: experiment.pictures(source), folder / f"layer_{layer}")
        samples = experiment.first_samples(train=True, features=features, memory=self.model.config.remembered)
        samples.augment = not cached
        used = replace(phase, steps=10_000, batch_size=BATCH)
        self.batches = Batches(samples, BATCH, 0)
        run = RunDir(Path(tempfile.mkdtemp(dir=folder)))
        loop = LoopConfig(checkpoint_every=10**6, precision=experiment.precision)
        self.loop = Loop(self.model, used, self.batches, run.create(), loop, Cluster())
        self.loop.resume()
        self.steps = 0

    def __call__(self) -> None:
        self.loop.step(self.steps)
        self.steps += 1


def fill(side: Side, rounds: int) -> None:
    """Let a cache grow over the batches that are timed, so that the steps are those of every later epoch."""
    for number in range(rounds + 2):
        side.batches(number)


def in_turn(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each side in each round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 2):
        for name, side in sides.items():
            began = time.process_time()
            side()
            found[name].append(time.process_time() - began)
    return {name: seconds[2:] for name, seconds in found.items()}


def lines(title: str, seconds: dict[str, list[float]], reference: str) -> list[str]:
    """A table: median milliseconds, and the median ratio to the reference."""
    rows = [f"| {title} | median ms | ratio |", "|---|---:|---:|"]
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[reference], strict=True))
        rows.append(f"| {name} | {1000 * statistics.median(values):.1f} | {ratio:.2f} |")
    return [*rows, ""]


def acting(plain: Side, memory: Side) -> dict[str, Callable[[], object]]:
    """One action of one robot, with a full past and without memory."""
    inputs = plain.batches.samples.batch([40])
    bare = replace(inputs, past=None)
    size = memory.model.svms.memory.size  # type: ignore[union-attr]
    past = torch.randn(1, size.steps, size.block, size.d_stream)
    full = replace(bare, past=Moments(values=past, valid=torch.ones(1, size.steps, dtype=torch.bool)))
    plain.model.eval()
    memory.model.eval()
    return {"SVMS": lambda: plain.model.sample(bare), "with memory": lambda: memory.model.sample(full)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = [
        "# What memory costs",
        "",
        f"torch {torch.__version__}, {platform.machine()}, 1 thread, {datetime.date.today()}, commit {commit()}. "
        f"Command: `python benchmarks/speed/memory_step.py --frames {args.frames} --rounds {args.rounds}`. Tiny "
        f"preset, batch {BATCH}, {args.frames} past steps, {STRIDE} apart. CPU time; sides take turns, ratios are "
        "medians of rounds.",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for phase in (COUPLE, END_TO_END):
            sides = {
                "SVMS, from pictures": Side(phase, 0, cached=False, folder=folder),
                "SVMS, cached": Side(phase, 0, cached=True, folder=folder),
                "with memory, cached (default)": Side(phase, args.frames, cached=True, folder=folder),
                "with memory, from pictures": Side(phase, args.frames, cached=False, folder=folder),
            }
            for side in sides.values():
                fill(side, args.rounds)
            text += lines(f"step of phase {phase.name}", in_turn(dict(sides), args.rounds), "SVMS, from pictures")
        plain, memory = sides["SVMS, from pictures"], sides["with memory, cached (default)"]
        text += lines("action of one robot", in_turn(acting(plain, memory), 10 * args.rounds), "SVMS")
    page = "\n".join(text)
    if args.out is not None:
        args.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
