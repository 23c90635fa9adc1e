"""Training for gpu.py: steps, a checkpoint and a resume of each phase, as `svms-gr00t train` does them."""

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import Loop, LoopConfig
from svms_gr00t.train.memory.planner import CONTEXT_GIB, Setup, plan
from svms_gr00t.train.optimizers.optimizer import OptimizerName
from svms_gr00t.train.phases import PHASES, Phase
from svms_gr00t.train.processes.cluster import Cluster

if TYPE_CHECKING:
    from gpu import Bench

GIB = 1 << 30
CARD_GIB = 31.34
"""What a card of 32 GB shows; its context takes a part of that."""
ROWS = {"specialise": 16, "couple": 12, "end to end": 8}
FOREVER = 10**6
"""Steps of a phase that never ends while it is measured."""


def phases(bench: "Bench") -> None:
    """Every phase with AdamW and three views under the cap of the card: steps, saving, resuming."""
    for name, phase in PHASES.items():
        rows, views = (2, 2) if bench.args.quick else (ROWS[name], 3)
        bench.part(f"training {name}", partial(training, bench, phase, rows, views=views, saves=True), 120)


def throughput(bench: "Bench") -> None:
    """One view, and cached features."""
    cases = [(1, False), *([(3, True)] if bench.released else [])]
    for views, cached in () if bench.args.quick else cases:
        for name, phase in PHASES.items():
            title = f"training {name}, {views} views{', cached' * cached}"
            bench.part(title, partial(training, bench, phase, ROWS[name], views=views, cached=cached), 40)


def optimizers(bench: "Bench") -> None:
    """Phase 3 with small moments, and with larger batches where those leave room."""
    cases: list[tuple[OptimizerName, int]] = [("adamw8bit", 8), ("adamw8bit", 16), ("adamw-sr", 8)]
    for optimizer, rows in () if bench.args.quick else cases:
        title = f"training end to end, {optimizer}, batch {rows}"
        bench.part(title, partial(training, bench, PHASES["end to end"], rows, views=3, optimizer=optimizer), 60)


@contextmanager
def capped(bench: "Bench") -> Iterator[None]:
    """No more memory than a card of 32 GB has beside its context."""
    if not bench.cuda:
        yield
        return
    total = torch.cuda.get_device_properties(bench.device).total_memory / GIB
    torch.cuda.set_per_process_memory_fraction(min(1.0, (CARD_GIB - CONTEXT_GIB) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def training(
    bench: "Bench",
    phase: Phase,
    rows: int,
    *,
    views: int,
    optimizer: OptimizerName = "adamw",
    cached: bool = False,
    saves: bool = False,
) -> None:
    """Peak memory and speed of real steps; with `saves` also of a checkpoint, and the step after a resume."""
    model = bench.model(svms=True)
    if cached:
        _drop_prefix(model)
    inputs = bench.inputs(model.config, rows, views, cached=cached)
    bf16 = bench.dtype == torch.bfloat16 or optimizer.endswith("-sr")
    config = LoopConfig(log_every=1, optimizer=optimizer, precision="bf16" if bf16 else "fp32", background=False)
    if bench.cuda:
        torch.cuda.reset_peak_memory_stats()
    values: dict[str, Any] = {}
    with capped(bench), tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder)).create()
        values |= _steps(bench, model, phase, inputs, run, config, saves)
        gc.collect()
        if saves:
            values |= _resumed(bench, model, phase, inputs, run, config, values["next_loss"])
    if bench.released:
        setup = Setup(batch_size=rows, views=views, optimizer=optimizer, cached=cached)
        planned = plan(model.config, phase, setup)
        values |= {"planned_gib": planned.peak_gib, "planned_saving_gib": planned.saving_gib}
    bench.add("training", phase=phase.name, rows=rows, views=views, optimizer=optimizer, cached=cached, **values)


def _loop(model: Gr00tN1d6, phase: Phase, inputs: ModelInputs, run: RunDir, config: LoopConfig, bench: "Bench") -> Loop:
    endless = replace(phase, steps=FOREVER, learning_rate=1e-6)
    return Loop(model, endless, lambda _: inputs, run, config, Cluster(bench.device))


def _steps(
    bench: "Bench",
    model: Gr00tN1d6,
    phase: Phase,
    inputs: ModelInputs,
    run: RunDir,
    config: LoopConfig,
    saves: bool,
) -> dict[str, Any]:
    """Steps by the clock, then a checkpoint while the next step waits, and that step's loss."""
    warm, timed = (1, 2) if bench.args.quick else (3, 10)
    loop = _loop(model, phase, inputs, run, config, bench)
    done = warm + timed
    for step in range(done):
        loop.step(step)
    rows = run.rows()[warm:]
    seconds = float(torch.tensor([row["seconds"] for row in rows]).median())
    found = {"step_ms": 1000 * seconds, "samples_per_s": len(inputs.state) / seconds}
    found |= {"mfu": float(torch.tensor([row["mfu"] for row in rows]).median()), **_memory(bench)}
    if saves:
        if bench.cuda:
            torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        loop.save(last=True)
        found |= {"save_s": time.monotonic() - began, "saving_gib": _memory(bench).get("allocated_gib")}
        loop.step(done)
        found["next_loss"] = run.rows()[-1]["loss"]
    return found


def _resumed(
    bench: "Bench",
    model: Gr00tN1d6,
    phase: Phase,
    inputs: ModelInputs,
    run: RunDir,
    config: LoopConfig,
    wanted: float,
) -> dict[str, Any]:
    """The same step from the checkpoint, in a new loop with an optimiser of its own."""
    began = time.monotonic()
    loop = _loop(model, phase, inputs, run, config, bench)
    step = loop.resume()
    took = time.monotonic() - began
    loop.step(step)
    return {"resume_s": took, "resumed_apart": abs(run.rows()[-1]["loss"] - wanted) / abs(wanted)}


def _memory(bench: "Bench") -> dict[str, float]:
    """Peaks of the allocator, and what the device holds beside it: the context with its libraries."""
    if not bench.cuda:
        return {}
    free, total = torch.cuda.mem_get_info(bench.device)
    beside = total - free - torch.cuda.memory_reserved(bench.device)
    peaks = {"allocated_gib": torch.cuda.max_memory_allocated(), "reserved_gib": torch.cuda.max_memory_reserved()}
    return {name: value / GIB for name, value in (peaks | {"context_gib": beside}).items()}


def _drop_prefix(model: Gr00tN1d6) -> None:
    """Everything that a feature cache replaces."""
    tower = model.backbone.model
    tower.vision_model, tower.mlp1 = torch.nn.Identity(), torch.nn.Identity()
    tower.language_model.model.embed_tokens = torch.nn.Identity()
    for i in range(12):
        tower.language_model.model.layers[i] = torch.nn.Identity()
