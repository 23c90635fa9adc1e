"""Memory, speed and latency of the released size on one GPU, in under ten minutes, written as one dated page.

    python benchmarks/gpu/gpu.py --out benchmarks                    gpu_<date>.md and gpu_<date>.jsonl
    python benchmarks/gpu/gpu.py --preset tiny --device cpu --quick  the same code in seconds, for the test suite

Weights are random: neither time nor memory depends on their values. Training runs under a cap of 29 GiB, what a 32 GB
card leaves. A part that fails is written down with its error, and the rest goes on.
"""

import argparse
import datetime
import gc
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_timing import actor, captured, ceilings, compile_blocks, interval, milliseconds, quantiles, ratios
from torch.utils.flop_counter import FlopCounterMode

from svms_gr00t.core.errors import MissingExtra
from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.groot.action_head import PLAIN, Shortcuts
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.loop.step import Stepper
from svms_gr00t.train.memory.planner import Setup, plan
from svms_gr00t.train.memory.synthetic import synthetic_inputs
from svms_gr00t.train.optimizers.optimizer import OptimizerName, make_optimizer
from svms_gr00t.train.phases import PHASES, Phase, loss_weights
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.trainable import prepare

CAP_GIB = 29.0
TARGETS = {
    ("specialise", "adamw"): 8.0,
    ("couple", "adamw"): 11.5,
    ("end to end", "adamw"): 26.5,
    ("end to end", "adamw8bit"): 19.0,
}
"""Peak GiB of each phase at three views."""
LATENCY = {1: 12.0, 3: 14.0}
"""Milliseconds at batch 1 for one and three views, compiled and captured."""


@dataclass
class Bench:
    """One run: what to measure on, how long it may take, and what was found so far."""

    args: argparse.Namespace
    device: torch.device
    dtype: torch.dtype
    began: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def released(self) -> bool:
        """Whether this is the real size."""
        return bool(self.args.preset == "n1d6")

    def add(self, part: str, **values: Any) -> dict[str, Any]:
        """One line of results, written at once."""
        row = {"part": part, "at_s": round(time.monotonic() - self.began, 1), **values}
        self.rows.append(row)
        with self.args.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        return row

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that may fail or come too late without taking the others with it."""
        try:
            if time.monotonic() - self.began > self.args.budget:
                raise RuntimeError("no time left")
            yield
        except (RuntimeError, MissingExtra) as error:
            self.add(name, failed=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def model(self, *, svms: bool) -> Gr00tN1d6:
        """Random weights made on the device, one embodiment."""
        config = preset(self.args.preset).config(load_tokenizer("tiny"), use_sheaf_streams=svms)
        with torch.device("meta"):
            model = Gr00tN1d6(config).to(self.dtype)
        model.to_empty(device=self.device)
        torch.manual_seed(0)
        for part in (model.backbone, model.action_head, model.svms):
            if part is not None:
                part.reset_parameters()
        if model.svms is not None:
            torch.nn.init.normal_(model.svms.merge.weight, std=0.02)
        model.action_head.keep_embodiments(0)
        return model.eval()

    def inputs(self, config: Gr00tN1d6Config, rows: int, views: int, *, cached: bool = False) -> ModelInputs:
        """A random batch on the device in the type of the weights."""
        side = 252 if self.released else 84
        layer = 12 if cached else None
        found = synthetic_inputs(config, rows, views=views, side=side, text=28 + 7 * views, cached_layer=layer)
        return found.to(self.device)


def correctness(bench: Bench) -> None:
    """The shortcuts of the action head against NVIDIA's plain computation, and finite numbers, before any timing."""
    model = bench.model(svms=True)
    inputs = bench.inputs(model.config, 2, 1)
    noise = torch.randn_like(inputs.action).to(bench.dtype)  # type: ignore[arg-type]
    fast = model.sample(inputs, noise=noise).action.float()
    model.action_head.shortcuts = PLAIN
    plain = model.sample(inputs, noise=noise).action.float()
    model.action_head.shortcuts = Shortcuts()
    error = float((fast - plain).norm() / plain.norm())
    limit = 2e-2 if bench.dtype == torch.bfloat16 else 1e-4
    bench.add("correctness", relative_error=error, limit=limit, finite=bool(fast.isfinite().all()), ok=error < limit)


def latency(bench: Bench, views: int) -> None:
    """Batch 1: eager, blocks compiled, and captured as one CUDA graph; then plain against SVMS and against itself."""
    repeats, rounds = (5, 4) if bench.args.quick else (200, 60)
    runs: dict[str, Callable[[], object]] = {}
    for name in ("plain", "svms"):
        model = bench.model(svms=name == "svms")
        inputs = bench.inputs(model.config, 1, views)
        act = actor(model, inputs)
        bench.add("latency", views=views, model=name, mode="eager", **quantiles(act, bench.device, repeats))
        runs[name] = act
        if bench.device.type != "cuda":
            continue
        with bench.part(f"graph {name} {views}"):
            runs[name], _ = captured(act)
            found = quantiles(runs[name], bench.device, repeats)
            bench.add("latency", views=views, model=name, mode="graph", **found)
        with bench.part(f"compiled {name} {views}"):
            began = time.monotonic()
            compile_blocks(model)
            replay, _ = captured(act)
            took = round(time.monotonic() - began, 1)
            found = quantiles(replay, bench.device, repeats)
            bench.add("latency", views=views, model=name, mode="compiled + graph", compile_s=took, **found)
            runs[name] = replay
    for name, other in (("A/A noise", "plain"), ("svms / plain", "svms")):
        median, low, high = interval(ratios(runs["plain"], runs[other], bench.device, rounds))
        bench.add("ratio", views=views, what=name, median=median, low=low, high=high)


def training(bench: Bench, phase: Phase, rows: int, *, optimizer: OptimizerName, views: int, cached: bool) -> None:
    """Peak memory and speed of real training steps, with the prediction beside them."""
    model = bench.model(svms=True)
    if cached:
        _drop_prefix(model)
    parameters = prepare(model, phase, optimizer)
    updates = make_optimizer(parameters, learning_rate=1e-6, name=optimizer)
    precision = "bf16" if bench.dtype == torch.bfloat16 or optimizer.endswith("-sr") else "fp32"
    stepper = Stepper(model, Cluster(bench.device), seed=0, precision=precision)
    inputs = bench.inputs(model.config, rows, views, cached=cached)
    weights = loss_weights(phase, model.config, 10**9, 0.1, labels=True)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        updates.zero_grad(set_to_none=True)
        stepper.backward(0, (inputs,), weights)
        stepper.clip(parameters, 0)
        updates.step()

    with FlopCounterMode(display=False) as flops:
        stepper.backward(0, (inputs,), weights)
    warm, timed = (1, 2) if bench.args.quick else (3, 10)
    for _ in range(warm):
        step()
    times = torch.tensor([milliseconds(step, bench.device) for _ in range(timed)])
    seconds = float(times.median()) / 1000
    update = milliseconds(updates.step, bench.device)
    values: dict[str, Any] = {"samples_per_s": rows / seconds, "step_ms": 1000 * seconds, "optimizer_ms": update}
    values["tflops"] = flops.get_total_flops() / seconds / 1e12
    if bench.device.type == "cuda":
        values["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        values["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    if bench.released:
        setup = Setup(batch_size=rows, views=views, optimizer=optimizer, cached=cached)
        values["planned_gib"] = plan(model.config, phase, setup).peak_gib
    bench.add("training", phase=phase.name, rows=rows, views=views, optimizer=optimizer, cached=cached, **values)


def _drop_prefix(model: Gr00tN1d6) -> None:
    """Everything that a feature cache replaces."""
    tower = model.backbone.model
    tower.vision_model, tower.mlp1 = torch.nn.Identity(), torch.nn.Identity()
    tower.language_model.model.embed_tokens = torch.nn.Identity()
    for i in range(12):
        tower.language_model.model.layers[i] = torch.nn.Identity()


def cases(bench: Bench) -> list[tuple[Phase, int, OptimizerName, int, bool]]:
    """What to train: all phases with AdamW and 8-bit moments, then one view, cached features, and larger batches."""
    sizes = {"specialise": 16, "couple": 12, "end to end": 8}
    if bench.args.quick:
        return [(phase, 2, "adamw", 2, False) for phase in PHASES.values()]
    found: list[tuple[Phase, int, OptimizerName, int, bool]] = []
    for optimizer in ("adamw", "adamw8bit", "adamw-sr"):
        found += [(phase, sizes[name], optimizer, 3, False) for name, phase in PHASES.items()]
    found += [(phase, sizes[name], "adamw", 1, False) for name, phase in PHASES.items()]
    if bench.released:
        found += [(phase, sizes[name], "adamw", 3, True) for name, phase in PHASES.items()]
    return found + [(PHASES["end to end"], rows, "adamw8bit", 3, False) for rows in (16, 32)]


def measure(bench: Bench) -> None:
    """Everything, in the order of what matters most."""
    cuda = bench.device.type == "cuda"
    with bench.part("ceilings"):
        bench.add("ceilings", **ceilings(bench.device, 8192 if cuda else 256, bench.dtype))
    with bench.part("correctness"):
        correctness(bench)
    if cuda:
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_GIB / total))
    for phase, rows, optimizer, views, cached in cases(bench):
        with bench.part(f"training {phase.name} {optimizer}"):
            training(bench, phase, rows, optimizer=optimizer, views=views, cached=cached)
    if cuda:
        torch.cuda.set_per_process_memory_fraction(1.0)
    for views in (1,) if bench.args.quick else (1, 3):
        with bench.part(f"latency {views}"):
            latency(bench, views)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure and write the page; returns it."""
    from gpu_page import page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="n1d6", choices=("n1d6", "tiny"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few repeats, few cases")
    parser.add_argument("--budget", type=float, default=500.0, help="seconds after which no new part starts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"gpu_{datetime.date.today().isoformat()}"
    args.lines = stem.with_suffix(".jsonl")
    args.lines.write_text("", encoding="utf-8")
    device = torch.device(args.device)
    bench = Bench(args=args, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU ({platform.machine()})"
    bench.add("setup", device=where, preset=args.preset, commit=commit(), **versions())
    measure(bench)
    found = stem.with_suffix(".md")
    found.write_text(page(bench.rows, TARGETS, LATENCY, CAP_GIB), encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
